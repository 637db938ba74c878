"""Kill switch, halts with an end, alerts, trades taken back, limits of connections: who may, what it does, what it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time

import pytest

from ledger import queries as ledger
from market.engine.commands import HibernateOrder, PlaceBlock, PlaceIceberg
from market.engine.events import Traded
from market.exchange import operations
from market.grid import preview
from market.grid import queries as grid
from market.pages import halts, recall, statement
from market.pages.connection import limits_of
from market.pages.operator import row_of
from tests.integration.pages.conftest import Town

HALT = {"scope": "account", "reason": "integrity"}


def trade_of(town: Town, ahead: int, seller: int | None = None) -> Traded:
    """Let Alice sell a kilowatt-hour to Bob."""
    contract = town.market.contract(ahead)
    town.market.place(seller or town.alice.account, "sell", "0.1000", 1_000, contract=contract)
    outcome = town.market.buys(town.bob.account, "0.5000", 1_000, contract=contract)
    return next(event for event in outcome.events if isinstance(event, Traded))


def open_orders(town: Town, scope: str, target: str) -> int | None:
    """Return what the kill switch would take back."""
    found = preview.halt(town.exchange, scope=scope, target=target)
    return None if found is None else found.orders


# --- halts -----------------------------------------------------------------------------------------------------------
def test_the_kill_switch_does_nothing_before_it_is_confirmed(town: Town) -> None:
    contract = town.market.contract(2)
    for price in ("0.0500", "0.0501"):
        town.market.place(town.charlie.account, "buy", price, contract=contract)
    before = town.state()
    form = {**HALT, "target": str(town.charlie.account), "cancel": "on", "once": "k1"}
    asked = town.olga.post("/operator/halts", **form)
    html = asked.content.decode()
    assert "2 open orders are taken back" in html
    assert town.state() == before
    again = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)">', html))
    del again["csrfmiddlewaretoken"]
    assert again == {**form, "sure": "on"}
    assert town.olga.post("/operator/halts", **again)["Location"] == "/operator/halts"
    assert open_orders(town, "account", str(town.charlie.account)) == 0
    decision = grid.decisions(kinds=("halt",))[0]
    assert (decision.by, decision.values) == (town.olga.user, {"scope": "account", "on": 1, "cancel": 1})
    html = town.olga.html("/operator/halts")
    assert "kill switch" in html
    token = re.search(r'name="once" value="(\w+)"[^>]*><input type="hidden" name="scope"', html)
    assert token
    resume = {"scope": "account", "target": str(town.charlie.account), "once": token[1]}
    assert town.olga.post("/operator/halts/resume", page="/operator/halts", **resume).status_code == 302
    assert not grid.halts(town.exchange)


def test_the_kill_switch_of_an_area_asks_as_well(town: Town) -> None:
    town.market.place(town.charlie.account, "buy", "0.0500", contract=town.market.contract(2))
    path = "/operator/areas/MV2"
    form = {"halt-once": "k2", "halt-reason": "fault", "halt-cancel": "on", "decision": "stop"}
    html = town.olga.post(f"{path}/halt", page=path, **form).content.decode()
    assert "1 open order is taken back" in html
    assert f'href="{path}"' in html
    assert not grid.halts(town.exchange)
    town.olga.post(f"{path}/halt", page=path, **form, **{"halt-sure": "on"})
    assert grid.halts(town.exchange).areas == ["MV2"]
    assert open_orders(town, "area", "MV2") == 0
    town.olga.post(f"{path}/halt", page=path, **{"halt-once": "k3", "decision": "resume"})


def test_every_scope_counts_what_sleeps_and_waits_too(town: Town) -> None:
    first, second = town.market.contract(3), town.market.contract(4)
    bob = town.bob.account
    assert bob is not None
    before = {scope: open_orders(town, scope, target) or 0 for scope, target in (("market", ""), ("area", "MV1"))}
    seq = town.market.buys(bob, "0.0500", contract=first).events[0].seq
    town.exchange.call(HibernateOrder(bob, seq))
    town.exchange.call(PlaceBlock(bob, first, second, "buy", 500, 100, "gtg", 0))
    town.exchange.call(PlaceIceberg(bob, second, "buy", 500, 100, "gtg", 0, 10))
    assert open_orders(town, "contract", first) == 2
    assert open_orders(town, "contract", second) == 2
    assert open_orders(town, "account", str(bob)) == 4
    assert open_orders(town, "market", "") == before["market"] + 4
    assert open_orders(town, "area", "MV1") == before["area"] + 4
    assert open_orders(town, "area", "LV2.1") == 0
    for scope, target in (("contract", "2031-01-01T00:00Z"), ("area", "LV9.9"), ("account", "999999")):
        assert open_orders(town, scope, target) is None


@pytest.mark.parametrize(
    ("now", "at", "expected"),
    [  # the market's clock is Berlin's: two hours ahead of UTC in June
        ("2026-06-06T10:00", time(12, 30), "2026-06-06T10:30"),
        ("2026-06-06T10:00", time(12, 0), "2026-06-07T10:00"),
        ("2026-06-06T10:00", time(9, 0), "2026-06-07T07:00"),
        ("2026-10-24T20:00", time(12, 0), "2026-10-25T11:00"),  # an hour later by UTC: clocks went back
    ],
)
def test_the_end_of_a_halt_is_the_next_such_time(now: str, at: time, expected: str) -> None:
    def ms(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000

    assert halts.next_instant(at, ms(now)) == ms(expected)


def test_a_halt_of_a_contract_has_its_end_on_the_ledger(town: Town) -> None:
    contract = town.market.contract(5)
    form = {"scope": "contract", "target": contract, "reason": "fault", "until": "23:30", "once": "u1", "sure": "on"}
    for _ in range(2):  # a double click is one halt: the same end, the same entry
        assert town.olga.post("/operator/halts", **form).status_code == 302
    decisions = [d for d in grid.decisions(kinds=("halt",)) if d.target == contract]
    assert len(decisions) == 1
    entry = ledger.entry(decisions[0].seq)
    assert (entry["on"], entry["until"]) == (1, "2026-06-06T21:30:00.000Z")
    assert "until 23:30" in town.olga.html("/operator/halts")
    html = town.rita.html(f"/regulator/entries/{decisions[0].seq}")
    assert "Sat, 6 Jun 23:30:00" in html
    response = town.olga.post("/operator/halts", **{**form, "scope": "area", "target": "MV1", "once": "u2"})
    assert 'id="id_until_error"' in response.content.decode()
    assert grid.halts(town.exchange).areas == []


@pytest.mark.parametrize("who", ["alice", "rita", "nobody"])
def test_halts_are_for_operators(town: Town, who: str) -> None:
    assert getattr(town, who).get("/operator/halts").status_code in (302, 403)


# --- alerts ----------------------------------------------------------------------------------------------------------
def test_an_alert_is_seen_once_by_the_first(town: Town) -> None:
    trade = trade_of(town, 6, town.charlie.account)
    path = "/operator/areas/LV1.1"
    form = {
        "capacity-import_kw": "1", "capacity-export_kw": "100", "capacity-reason": "overload", "capacity-sure": "on",
    }  # fmt: skip
    town.olga.post(f"{path}/capacity", page=path, **{"capacity-once": "a1", **form})
    [load] = [load for load in grid.loads(town.exchange, trade.contract) or [] if load.area == "LV1.1"]
    row = row_of(load, 15)
    assert (row.into.state, row.into.residual_w, row.out.state, row.state) == ("blocked", -3_000, "", "blocked")
    html = town.olga.html("/operator", contract=trade.contract)
    assert "The edge of LV1.1 may carry less than is allocated" in html
    alert = grid.alerts()[0]
    assert f'value="{alert.seq}"' in html
    for who in (town.sam, town.olga):
        assert who.post("/operator/alerts", page="/operator", seq=str(alert.seq))["Location"] == "/operator"
    seen = grid.alert(alert.seq)
    assert seen is not None
    assert seen.acknowledged_by == "sam"
    assert "seen by sam at" in town.olga.html("/operator/alerts", state="acknowledged")
    assert f'value="{alert.seq}"' not in town.olga.html("/operator")
    for text in ("999999", "", "-1", "1" * 40, "one"):
        town.olga.post("/operator/alerts", page="/operator", seq=text)
        assert "There is no such alert." in town.olga.html("/operator")
    form |= {"capacity-import_kw": "100", "capacity-reason": "restored"}
    town.olga.post(f"{path}/capacity", page=path, **{"capacity-once": "a2", **form})


def test_an_alert_of_several_edges_names_them(town: Town) -> None:
    back = trade_of(town, 8, town.charlie.account)
    town.market.place(town.alice.account, "sell", "0.1000", 1_000, contract=back.contract)
    town.market.buys(town.charlie.account, "0.5000", 1_000, contract=back.contract)
    for area in ("LV1.1", "LV2.1"):  # what one trade carries the other gives back: nothing is over
        operations.set_capacity(town.exchange, area=area, import_w=0, export_w=0, reason="planning")
    town.sam.post(f"/staff/trades/{back.seq}/recall", once="e1", reason="error")
    html = town.olga.html("/operator")
    (item,) = [one for one in html.split('<li class="alert') if f'value="{grid.alerts()[0].seq}"' in one]
    item = item.partition("</li>")[0]
    assert "Several edges may carry less than is allocated" in item
    assert "A trade was taken back that went the other way" in item
    assert "<b>LV1.1 14:00–14:15</b> out" in item and "<b>LV2.1 14:00–14:15</b> in" in item
    chinese = town.olga.client.get("/operator", headers={"accept-language": "zh-hans"}).content.decode()
    assert "多条联络线" in chinese and "反方向" in chinese
    for area in ("LV1.1", "LV2.1"):
        operations.set_capacity(town.exchange, area=area, import_w=100_000, export_w=100_000, reason="restored")


# --- recalls ---------------------------------------------------------------------------------------------------------
def test_a_trade_is_taken_back_once_and_marked_everywhere(town: Town) -> None:
    trade = trade_of(town, 7)
    path = f"/staff/trades/{trade.seq}/recall"
    assert path in town.sam.html(f"/regulator/entries/{trade.seq}")
    assert path not in town.rita.html(f"/regulator/entries/{trade.seq}")
    response = town.sam.post(path, once="r1", reason="error")
    entry = ledger.entry(int(response["Location"].rpartition("/")[2]))
    assert (entry["type"], entry["trade"], entry["reason"]) == ("recall", trade.seq, "error")
    assert town.sam.post(path, page="/staff/halts", once="r1", reason="error")["Location"] == response["Location"]
    second = town.sam.post(path, page="/staff/halts", once="r2", reason="error")
    assert second.status_code == 422
    assert "has been taken back already" in second.content.decode()
    for page in (f"contracts/{trade.contract}", f"accounts/{trade.buyer}", f"orders/{trade.buy_order}"):
        assert f'<a href="/regulator/entries/{entry["seq"]}" class="tag warn">' in town.rita.html(f"/regulator/{page}")
    assert "This trade has been taken back." in town.rita.html(f"/regulator/entries/{trade.seq}")
    assert f'href="/regulator/entries/{trade.seq}"' in town.rita.html(f"/regulator/entries/{entry['seq']}")
    assert town.bob.account is not None and town.alice.account is not None
    bought, sold = (statement.lines(index, None)[0][0] for index in (town.bob.account, town.alice.account))
    assert (bought.kind, bought.energy_wh, bought.amount_e7) == ("recalled", 1_000, trade.cost_e7)
    assert (sold.kind, sold.amount_e7) == ("recalled", trade.margin_e7)
    assert "trade taken back" in town.bob.html("/statement/movements")
    assert "taken back" in town.bob.html(f"/trade/{trade.contract}")


@pytest.mark.parametrize("who", ["alice", "olga", "rita"])
def test_only_staff_may_take_a_trade_back(town: Town, who: str) -> None:
    trade = trade_of(town, 7)
    visitor = getattr(town, who)
    assert visitor.get(f"/staff/trades/{trade.seq}/recall").status_code == 403
    form = {"once": "r3", "reason": "error"}
    page = "/account"
    assert visitor.post(f"/staff/trades/{trade.seq}/recall", page=page, **form).status_code == 403
    found = recall.find(trade.seq)
    assert found is not None
    assert not found.recalled_seq


@pytest.mark.parametrize("seq", [0, 10**9, 10**17])
def test_what_is_no_trade_cannot_be_taken_back(town: Town, seq: int) -> None:
    assert town.sam.get(f"/staff/trades/{seq}/recall").status_code == 404


def test_an_unknown_reason_takes_nothing_back(town: Town) -> None:
    trade = trade_of(town, 7)
    response = town.sam.post(f"/staff/trades/{trade.seq}/recall", once="r4", reason="because")
    assert response.status_code == 422
    assert 'id="id_reason_error"' in response.content.decode()


# --- connections -----------------------------------------------------------------------------------------------------
def test_a_connection_s_limits_are_set_shown_and_felt(town: Town) -> None:
    bob = town.bob.account
    assert bob is not None
    path = f"/staff/accounts/{bob}/connection"
    assert path in town.sam.html(f"/regulator/accounts/{bob}")
    assert path not in town.rita.html(f"/regulator/accounts/{bob}")
    response = town.sam.post(path, once="c1", import_w="2", export_w="1.5", reason="request", text="Bob asked")
    assert response["Location"] == f"/regulator/accounts/{bob}"
    entry = ledger.entry(grid.decisions(kinds=("connection",))[0].seq)
    assert entry["reason"] == "request" and len(str(entry["commitment"])) == 64
    found = limits_of(bob)
    assert found is not None
    assert (found.own_import_w, found.own_export_w, found.import_w) == (2_000, 1_500, 2_000)
    html = town.rita.html(f"/regulator/accounts/{bob}")
    assert "2.00 kW" in html
    assert "1.50 kW" in html
    refused = town.market.buys(bob, "0.0500", 600, contract=town.market.contract(4)).refused
    assert refused is not None
    assert refused.code == "position_limit"
    assert f"Connection of account {bob}: 2.00 kW in, 1.50 kW out" in town.sam.html("/staff")
    town.sam.post(path, once="c2", import_w="0", export_w="0", reason="planning")


@pytest.mark.parametrize("value", ["-1", "1000001", "1.0005", ""])
def test_an_impossible_limit_is_refused_at_its_field(town: Town, value: str) -> None:
    path = f"/staff/accounts/{town.bob.account}/connection"
    response = town.sam.post(path, once="c3", import_w=value, export_w="1", reason="planning")
    assert response.status_code == 422
    assert 'id="id_import_w_error"' in response.content.decode()


@pytest.mark.parametrize("index", [0, 999_999])
def test_who_is_no_member_has_no_connection(town: Town, index: int) -> None:
    assert town.sam.get(f"/staff/accounts/{index}/connection").status_code == 404


@pytest.mark.parametrize("who", ["alice", "olga", "rita"])
def test_only_staff_may_limit_a_connection(town: Town, who: str) -> None:
    assert getattr(town, who).get(f"/staff/accounts/{town.bob.account}/connection").status_code == 403


def test_while_the_market_is_closed_nothing_is_done_and_pages_say_so(closed: Town) -> None:
    trade = "The market is not running at the moment."
    assert trade in closed.olga.html("/operator/halts")
    assert closed.sam.get(f"/staff/accounts/{closed.bob.account}/connection").status_code == 404
    response = closed.olga.post("/operator/alerts", page="/account", seq="1")
    assert response.status_code == 302
