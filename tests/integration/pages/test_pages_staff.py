"""The market operator's day: each change is made once, is on the ledger, and says so."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from ledger import queries as ledger
from market.exchange.operations import rulebook_sha256
from market.grid import queries as grid
from market.households import operations as households
from market.households import queries
from market.households.models import AccountRequest
from market.payments import operations as payments
from tests.integration.pages.conftest import NOW, Town

PARAMS = {
    "params-reason": "integrity",
    "params-text": "After the flash of Tuesday",
    "params-max_price": "2.5",
    "params-tick": "0.0010",
    "params-max_order_wh": "50000",
    "params-max_open_orders": "200",
    "params-horizon_min": "120",
    "params-lead_min": "0",
    "params-netting_permille": "900",
    "params-collar": "0.12",
    "params-collar_period_s": "60",
    "params-collar_halt_s": "30",
    "params-throttle_per_min": "600",
    "params-throttle_burst": "100",
    "params-throttle_credit": "2",
    "params-connection_import_w": "30",
    "params-connection_export_w": "20.5",
    "params-final_after_min": "20160",
    "params-sharing_scope": "2",
}


def request_of(name: str, area: str = "LV1.1") -> AccountRequest:
    """Let a household sign up."""
    households.sign_up(
        username=name, password="a kettle and a lamp", area=area, address="2 Sun Street", meter_number=f"M-{name}"
    )
    return AccountRequest.objects.get(user__username=name)


def entry_told(html: str) -> int:
    """Return the ledger entry that the page's message names."""
    found = re.search(r'<li class="notice success">.*?href="/regulator/entries/(\d+)">', html, re.DOTALL)
    assert found, html
    return int(found[1])


# --- accounts --------------------------------------------------------------------------------------------------------
def test_an_account_is_opened_in_the_area_staff_chose_and_the_page_names_its_entry(town: Town) -> None:
    waiting = request_of("wanda")
    html = town.sam.html("/staff")
    assert "wanda" in html
    assert "M-wanda" in html
    form = {"decision": "accept", f"request-{waiting.pk}-area": "LV2.1"}
    assert town.sam.post(f"/staff/requests/{waiting.pk}", page="/staff", **form)["Location"] == "/staff"
    account = queries.account_of(waiting.user)
    assert account is not None
    assert account.area == "LV2.1"
    html = town.sam.html("/staff")
    entry = ledger.entry(entry_told(html))
    assert (entry["type"], entry["action"], entry["account"]) == ("account", "opened", account.index)
    assert "M-wanda" not in html
    decision = grid.decision(int(entry["seq"]))
    assert decision is not None
    assert (decision.by, decision.kind, decision.target) == (town.sam.user, "account", str(account.index))


def test_two_clicks_open_one_account(town: Town) -> None:
    waiting = request_of("walter")
    form = {"decision": "accept", f"request-{waiting.pk}-area": "LV1.1"}
    for _ in range(2):
        town.sam.post(f"/staff/requests/{waiting.pk}", page="/staff/halts", **form)
    assert waiting.user.accounts.count() == 1
    assert "decided already" in town.sam.html("/staff")


def test_a_request_is_turned_down_and_the_household_learns_it(town: Town) -> None:
    waiting = request_of("willy")
    before = town.seq()
    town.sam.post(f"/staff/requests/{waiting.pk}", page="/staff", decision="decline")
    waiting.refresh_from_db()
    assert waiting.accepted is False
    assert town.seq() == before
    visitor = town.person("reader")
    visitor.client.force_login(waiting.user)
    assert "turned down" in visitor.html("/account")


def test_an_area_that_is_not_there_opens_nothing(town: Town) -> None:
    waiting = request_of("wendy")
    form = {"decision": "accept", f"request-{waiting.pk}-area": "LV9.9"}
    response = town.sam.post(f"/staff/requests/{waiting.pk}", page="/staff", **form)
    assert response.status_code == 422
    assert f'id="id_request-{waiting.pk}-area_error"' in response.content.decode()
    waiting.refresh_from_db()
    assert waiting.decided_at is None
    households.decline_request(request_id=waiting.pk, now=NOW)


# --- halts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scope", ["market", "contract", "area", "account"])
def test_trading_is_stopped_and_goes_on(town: Town, scope: str) -> None:
    contract = town.market.contract(2)
    target = {"market": "", "contract": contract, "area": "MV1", "account": str(town.alice.account)}[scope]
    running = town.state()
    form = {"once": f"stop-{scope}", "scope": scope, "target": target, "reason": "integrity", "sure": "on"}
    assert town.sam.post("/staff/halts", **form)["Location"] == "/staff/halts"
    html = town.sam.html("/staff/halts")
    entry = ledger.entry(entry_told(html))
    assert (entry["type"], entry["scope"], entry["on"], entry["reason"]) == ("halt", scope, 1, "integrity")
    refused = town.market.place(town.alice.account, "sell", contract=contract).refused
    assert refused is not None
    assert refused.code == f"{scope}_halted"
    again = {"once": f"go-{scope}", "scope": scope, "target": target}
    town.sam.post("/staff/halts/resume", page="/staff/halts", **again)
    assert ledger.entry(entry_told(town.sam.html("/staff/halts")))["on"] == 0
    assert town.state() == running
    assert town.market.place(town.alice.account, "sell", "0.9000", contract=contract).refused is None


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"scope": "area", "target": ""}, "target"),
        ({"scope": "area", "target": "LV9.9"}, "target"),
        ({"scope": "contract", "target": "tomorrow"}, "target"),
        ({"scope": "account", "target": "alice"}, "target"),
        ({"scope": "account", "target": "99999"}, "target"),
        ({"scope": "city", "target": ""}, "scope"),
        ({"scope": "market", "target": "", "reason": "because"}, "reason"),
        ({"scope": "market", "target": "", "reason": "resumed"}, "reason"),
    ],
)
def test_a_halt_of_nothing_is_refused_at_its_field(town: Town, form: dict[str, str], field: str) -> None:
    before = town.state()
    response = town.sam.post("/staff/halts", **{"once": f"bad{sorted(form.items())}"[:64], "reason": "fault", **form})
    assert response.status_code == 422
    assert f'id="id_{field}_error"' in response.content.decode()
    assert town.state() == before


def test_only_reasons_to_stop_are_offered_for_stopping(town: Town) -> None:
    for visitor, path in (
        (town.sam, "/staff/halts"),
        (town.olga, "/operator/halts"),
        (town.olga, "/operator/areas/LV1.1"),
    ):
        html = visitor.html(path)
        assert '<option value="integrity"' in html and '<option value="resumed"' not in html, path


def test_a_form_that_is_sent_again_does_nothing_twice(town: Town) -> None:
    form = {"once": "one-token", "scope": "area", "target": "LV1.2", "reason": "fault", "sure": "on"}
    for _ in range(2):
        town.sam.post("/staff/halts", **form)
    halts = [decision for decision in grid.decisions(kinds=("halt",)) if decision.target == "LV1.2"]
    assert len(halts) == 1
    # The same token with other content is not the same decision: nothing happens, and the page says why.
    response = town.sam.post("/staff/halts", **{**form, "target": "LV1.1"})
    assert response.status_code == 422
    assert "sent before with other values" in response.content.decode()
    fresh = re.search(r'name="once" value="(\w+)"', response.content.decode())
    assert fresh and fresh[1] != "one-token"
    town.sam.post("/staff/halts/resume", page="/staff/halts", once="r", scope="area", target="LV1.2")


# --- rules -----------------------------------------------------------------------------------------------------------
def test_new_limits_are_published_whole(town: Town) -> None:
    html = town.sam.html("/staff/rules")
    assert 'name="params-max_price" value="1.0000"' in html
    town.sam.post("/staff/rules/params", page="/staff/rules", **{"params-once": "p1", **PARAMS})
    entry = ledger.entry(entry_told(town.sam.html("/staff/rules")))
    assert (entry["type"], entry["reason"], len(str(entry["commitment"]))) == ("params", "integrity", 64)
    assert "Tuesday" not in str(entry) and "After the flash of Tuesday” <span" in town.sam.html("/staff/rules")
    assert (entry["max_price_e4"], entry["tick_e4"], entry["netting_permille"]) == (25_000, 10, 900)
    assert (entry["collar_e4"], entry["throttle_burst"], entry["connection_export_w"]) == (1_200, 100, 20_500)
    assert town.state()[-1][-1]["max_order_wh"] == 50_000
    html = town.sam.html("/staff/rules")
    assert 'name="params-connection_export_w" value="20.500"' in html


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_price", "0"), ("max_price", "0.00001"), ("max_price", "-1"), ("tick", "9"), ("max_order_wh", "1.5"),
        ("max_open_orders", "0"), ("horizon_min", "1"), ("lead_min", "-1"), ("netting_permille", "1001"),
        ("netting_permille", ""), ("collar", "-0.1"), ("collar_period_s", "0"), ("collar_halt_s", "0"),
        ("collar_halt_s", "86401"), ("throttle_burst", "0"), ("throttle_per_min", ""), ("connection_import_w", "0.0001"),
        ("connection_export_w", "1000001"),
    ],
)  # fmt: skip
def test_impossible_limits_are_refused_at_their_field(town: Town, name: str, value: str) -> None:
    before = town.state()
    form = {"params-once": "p2", **PARAMS, f"params-{name}": value}
    response = town.sam.post("/staff/rules/params", page="/staff/rules", **form)
    assert response.status_code == 422
    assert f'id="id_params-{name}_error"' in response.content.decode()
    assert town.state() == before


def test_the_tariff_holds_for_contracts_that_open_later(town: Town) -> None:
    form = {"tariff-once": "t1", "tariff-topup": "0.3500", "tariff-spill": "0.0700", "tariff-reason": "market"}
    town.sam.post("/staff/rules/tariff", page="/staff/rules", **form)
    entry = ledger.entry(entry_told(town.sam.html("/staff/rules")))
    assert (entry["type"], entry["topup_e4"], entry["spill_e4"]) == ("tariff", 3_500, 700)
    assert entry["reason"] == "market" and "commitment" not in entry, "nothing was said in words"
    response = town.sam.post("/staff/rules/tariff", page="/staff/rules", **{**form, "tariff-spill": "0.3501"})
    assert 'id="id_tariff-spill_error"' in response.content.decode()
    assert town.state()[-1][1:3] == (3_500, 700)


def test_a_rulebook_is_in_force_under_the_hash_of_its_text(town: Town) -> None:
    text = "# Market rules\n\nVersion 2.\n"
    form = {
        "rulebook-once": "b1",
        "rulebook-version": "2",
        "rulebook-text": text.replace("\n", "\r\n"),
        "rulebook-reason": "law",
        "rulebook-words": "As ordered",
    }
    town.sam.post("/staff/rules/rulebook", page="/staff/rules", **form)
    html = town.sam.html("/staff/rules")
    entry = ledger.entry(entry_told(html))
    assert entry["reason"] == "law" and "commitment" in entry
    assert entry["sha256"] == hashlib.sha256(text.encode()).hexdigest() == rulebook_sha256(text)
    assert ledger.rulebook(str(entry["sha256"])) == text
    assert "Version 2 is in force." in html
    response = town.sam.post("/staff/rules/rulebook", page="/staff/rules", **{**form, "rulebook-text": "  "})
    assert response.status_code == 422


# --- a market that is closed -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/staff", "/staff/halts", "/staff/rules"])
def test_pages_are_there_while_the_market_is_closed(closed: Town, path: str) -> None:
    assert "The market is not running at the moment." in closed.sam.html(path)


def test_nothing_is_done_while_the_market_is_closed(town: Town, monkeypatch: Any) -> None:
    assert town.alice.account is not None
    deposit = payments.request_deposit(account_index=town.alice.account, amount_e7=10**8, now=NOW)
    before = (town.seq(), town.state())
    with monkeypatch.context() as patch:
        patch.setattr("market.exchange.gateway._current", None)
        response = town.sam.post("/staff/halts", once="c1", scope="market", target="", reason="fault")
        assert response.status_code == 422
        assert "Nothing was done." in response.content.decode()
        town.sam.post(f"/staff/money/payments/{deposit.pk}", page="/staff/money", decision="confirm")
        assert "Nothing was done." in town.sam.html("/staff/money")
    deposit.refresh_from_db()
    assert deposit.decided_at is None
    assert (town.seq(), town.state()) == before
