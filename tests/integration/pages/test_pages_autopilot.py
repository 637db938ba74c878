"""The autopilot's page: limits in words, in force at once; and the words of help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.http import HttpResponse

from market.agents import members, operations, queries
from market.agents.strategies.limits import Limits
from market.exchange import operations as exchange_operations
from market.exchange.outcomes import Overloaded
from market.households import signing
from market.households.models import Account, Home
from market.metering.models import Reading
from market.pages.glossary import CHAPTERS, TERMS
from tests.integration.pages.conftest import Town, Visitor
from tests.integration.test_autopilot_agents import QUARTER_MS, meter

TEMPLATES = Path(__file__).resolve().parents[3] / "templates"


@pytest.fixture
def dora(town: Town) -> Iterator[Visitor]:
    """A household of each test's own, with a battery."""
    visitor = town.person(f"dora-{Account.objects.count()}", area="LV1.1")
    home = Home.objects.create(code=f"home-{visitor.account}", area="LV1.1", battery_wh=10_000, battery_w=3_000)
    Account.objects.filter(index=visitor.account).update(home=home)
    yield visitor
    operations.change(town.exchange, account=visitor.account, on=False)


def placed(visitor: Visitor, side: str, price: str, ahead: int) -> int:
    """Place an order as the autopilot does, and return its id."""
    market = visitor.town.market
    event = market.place(visitor.account, side, price, 500, contract=market.contract(ahead)).events[0]
    operations.note([operations.Placed(event.seq, visitor.account, event.contract, event.at_ms)])
    return event.seq


def save(visitor: Visitor, **fields: str) -> int:
    return visitor.post("/autopilot/limits", page="/autopilot", **fields).status_code


def switch(visitor: Visitor, on: str, *, page: str = "", accept: str = "text/html") -> HttpResponse:
    html = visitor.html("/home")
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', html)
    assert found
    fields = {"csrfmiddlewaretoken": found[1], "automatic": on, "page": page}
    return visitor.client.post("/home/automatic", fields, headers={"Accept": accept})


def waiting(visitor: Visitor) -> set[int]:
    return visitor.town.exchange.read(lambda engine: set(engine.accounts[visitor.account].open_ids))


def test_it_says_in_words_what_it_will_do(dora: Visitor) -> None:
    html = dora.html("/autopilot")
    assert "What it would do" in html
    assert "It sells what your home leaves over, never for less than the grid pays." in html
    assert "of your battery" not in html
    assert save(dora, sell_from="0.12", buy_to="0.25", reserve_percent="30") == 302
    html = dora.html("/autopilot")
    assert "It sells what your home leaves over at €0.12 or more." in html
    assert "It buys what your home lacks at €0.25 or less." in html
    assert "It keeps 30 % of your battery." in html
    assert 'value="0.1200"' in html and 'value="30"' in html
    assert "at €0.12 or more" in dora.html("/home")
    assert queries.settings_of(dora.account).limits == Limits(1_200, 2_500, 30)
    assert save(dora, sell_from="", buy_to="", reserve_percent="") == 302
    assert queries.settings_of(dora.account).limits == Limits()


def test_limits_and_the_switch_take_orders_back_and_say_so(dora: Visitor) -> None:
    assert switch(dora, "on")["Location"] == "/home"
    cheap, dear = placed(dora, "sell", "0.3500", 2), placed(dora, "sell", "0.3700", 3)
    own = (
        dora.town.market.place(dora.account, "sell", "0.3400", 100, contract=dora.town.market.contract(4)).events[0].seq
    )
    assert "Switching it off takes back the 2 orders it has waiting" in dora.html("/autopilot")
    save(dora, sell_from="0.36", reserve_percent="0")
    assert waiting(dora) == {dear, own}
    html = dora.html("/autopilot")
    assert "Your limits are in force. 1 order was taken back." in html
    assert cheap not in waiting(dora)
    assert switch(dora, "off", page="autopilot")["Location"] == "/autopilot"
    assert waiting(dora) == {own}
    assert "Autopilot is off. 1 order was taken back." in dora.html("/autopilot")


def test_a_page_that_was_overtaken_changes_nothing_and_keeps_what_was_typed(dora: Visitor) -> None:
    shown = re.search(r'name="revision" value="(\d+)"', dora.html("/autopilot"))
    assert shown
    operations.change(dora.town.exchange, account=dora.account, limits=Limits(2_000, None, 0))  # from another device
    fields = {"sell_from": "0.13", "buy_to": "0.24", "reserve_percent": "20"}
    response = dora.post("/autopilot/limits", page="/autopilot", revision=shown[1], **fields)
    html = response.content.decode()
    assert response.status_code == 409
    assert "This was changed elsewhere in the meantime." in html
    assert "It sells what your home leaves over at €0.20 or more." in html, "what holds now"
    assert 'value="0.13"' in html, "what was typed"
    assert queries.settings_of(dora.account).limits == Limits(2_000, None, 0)
    again = re.search(r'name="revision" value="(\d+)"', html)
    assert again and save(dora, revision=again[1], **fields) == 302, "saved again it is meant"
    assert queries.settings_of(dora.account).limits == Limits(1_300, 2_400, 20)


def test_it_says_why_it_waits(dora: Visitor) -> None:
    market = dora.town.market
    assert "96 readings are missing" in dora.html("/autopilot")
    meter(market, dora.account, import_wh=0, export_wh=500, days=1)
    assert "missing" not in dora.html("/autopilot")
    Reading.objects.filter(account=dora.account).delete()
    meter(market, dora.account, import_wh=0, export_wh=500, days=4)
    silent_from_ms = market.clock.at_ms - members.SILENT_MS - QUARTER_MS
    Reading.objects.filter(account=dora.account, start_ms__gte=silent_from_ms).delete()
    html = dora.html("/autopilot")
    assert "Your meter has not reported for two days" in html and 'href="/account/devices"' in html
    halt = {"scope": "account", "target": str(dora.account), "reason": "surveillance"}
    exchange_operations.set_halt(dora.town.exchange, on=True, **halt)
    assert "Trading is halted here." in dora.html("/autopilot")
    exchange_operations.set_halt(dora.town.exchange, on=False, **halt)
    Reading.objects.filter(account=dora.account).delete()


def test_who_runs_the_market_sees_whether_all_had_their_turn(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Autopilots" not in town.olga.html("/operator/health"), "none run here"
    for missed in (0, 12):
        monkeypatch.setattr(members, "_reports", [members.Report(32_511, missed, 240.0, 0.4)])
        html = town.olga.html("/operator/health")
        assert "Autopilots" in html and "32,511" in html and "240.0 s" in html
        assert ("12 had no turn in the last interval" in html) is bool(missed)


def test_a_script_s_switch_is_told_in_a_sentence(dora: Visitor) -> None:
    for on, said in (("on", "Autopilot is on."), ("", "Autopilot is off. 1 order was taken back.")):
        assert switch(dora, on, accept="application/json").content.decode() == said
        if on:
            placed(dora, "sell", "0.3500", 2)


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("sell_from", "a lot", "Enter a number."),
        ("sell_from", "0", "Expected a price from 0.0001 to 1.0000 per kWh."),
        ("sell_from", "0.45", "Nobody pays more than the grid charges, 0.4000 per kWh"),
        ("buy_to", "0.05", "Nobody sells for less than the grid pays, 0.0800 per kWh"),
        ("buy_to", "0.12345", "no more than 4 decimal places"),
        ("reserve_percent", "101", "less than or equal to 100"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_stays_typed(dora: Visitor, field: str, typed: str, said: str) -> None:
    fields = {"sell_from": "0.13", "buy_to": "0.24", "reserve_percent": "20", field: typed}
    response = dora.post("/autopilot/limits", page="/autopilot", **fields)
    html = response.content.decode()
    assert response.status_code == 422
    assert said in html
    (box,) = re.findall(rf'<input[^>]*name="{field}"[^>]*>', html)
    assert 'aria-invalid="true"' in box
    for name, value in fields.items():
        assert re.search(rf'<input[^>]*name="{name}"[^>]*value="{value}"|value="{value}"[^>]*name="{name}"', html), name
    assert queries.settings_of(dora.account).limits == Limits()


def test_without_a_battery_there_is_no_reserve(town: Town) -> None:
    assert 'name="reserve_percent"' not in town.alice.html("/autopilot")
    assert save(town.alice, sell_from="0.2", buy_to="", reserve_percent="50") == 302
    assert queries.settings_of(town.alice.account).limits == Limits(2_000, None, 0)


def test_the_day_in_money(dora: Visitor, town: Town) -> None:
    assert "Nothing yet today." in dora.html("/autopilot")
    placed(dora, "sell", "0.2000", 6)
    town.market.buys(town.charlie.account, "0.3000", 500, contract=town.market.contract(6))
    html = dora.html("/autopilot")
    assert re.search(r"<dt>Sold</dt><dd>€0.10<small>500 Wh</small>", html)
    assert re.search(r"<dt>Orders placed</dt><dd>1<small>0 wait</small>", html)


def test_whom_the_market_keeps_refusing_is_told(dora: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "The market has refused its orders several times in a row"
    switch(dora, "on")
    assert told not in dora.html("/autopilot")
    monkeypatch.setattr(members, "waits_for", lambda *about: members.Waits("refused"))
    assert told in dora.html("/autopilot")


def test_signed_orders_have_no_autopilot(dora: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "is_signed", lambda exchange, account: True)
    html = dora.html("/autopilot")
    assert "Your orders are signed in a browser; the autopilot has no key." in html
    assert 'name="automatic"' not in html
    assert dora.post("/home/automatic", page="/home", automatic="on").status_code == 302
    assert not queries.settings_of(dora.account).on


def test_limits_may_be_set_while_nothing_runs_and_hold_when_it_does(
    dora: Visitor, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations.change(town.exchange, account=dora.account, on=True)
    cheap = placed(dora, "sell", "0.3500", 2)
    with monkeypatch.context() as patch:
        patch.setattr("market.exchange.gateway._current", None)
        assert save(dora, sell_from="0.36", reserve_percent="10") == 302
        assert "at €0.36 or more" in dora.html("/autopilot")
    assert cheap in waiting(dora)
    assert operations.obey(town.exchange) == 1
    assert cheap not in waiting(dora)


def test_what_is_set_is_never_said_not_to_be(dora: Visitor, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The market is too busy to take orders back: the switch is off all the same, and says so."""
    switch(dora, "on")
    order = placed(dora, "sell", "0.3000", 3)

    def busy(commands: object) -> None:
        raise Overloaded(1)

    with monkeypatch.context() as patch:
        patch.setattr(town.exchange, "submit_many", busy)
        response = switch(dora, "off", accept="application/json")
        assert response.status_code == 200
        assert response.content.decode().startswith("Autopilot is off. The market is busy: its orders are taken back")
        assert save(dora, sell_from="0.35") == 302
    html = dora.html("/autopilot")
    assert "Your limits are saved. The market is busy" in html and "Nothing was done" not in html
    assert not queries.settings_of(dora.account).on and order in waiting(dora)


def test_who_may_not(town: Town) -> None:
    assert town.rita.get("/autopilot").status_code == 403
    assert town.nobody.get("/autopilot").status_code == 302
    newcomer = town.person("newcomer")
    assert newcomer.get("/autopilot")["Location"] == "/home"


# --- help ------------------------------------------------------------------------------------------------------------
def test_every_word_has_its_anchor_for_anybody(town: Town) -> None:
    html = town.nobody.html("/help")
    for chapter in CHAPTERS:
        assert f'id="{chapter.key}"' in html
    assert len(TERMS) == sum(len(chapter.terms) for chapter in CHAPTERS)
    anchors = re.findall(r'\bid="([\w-]+)"', html)
    assert len(anchors) == len(set(anchors))
    for key, term in TERMS.items():
        assert f'<div id="{key}"><dt>{term.word}</dt>' in html


def test_words_are_explained_where_they_stand(town: Town) -> None:
    used = {
        key for path in TEMPLATES.rglob("*.html") for key in re.findall(r'{% explain "([^"]+)" %}', path.read_text())
    }
    assert used <= set(TERMS)
    assert len(used) >= 6
    for visitor, path in (
        (town.alice, "/home"), (town.alice, "/trade"), (town.alice, "/history"), (town.olga, "/operator"),
        (town.olga, "/operator/settlement"), (town.rita, "/regulator"),
    ):  # fmt: skip
        html = visitor.html(path)
        found = re.findall(r'<details class="explain"><summary>What is “(.+?)”\?</summary>.*?/help#([\w-]+)"', html)
        assert found, path
        assert all(str(TERMS[key].word) == word for word, key in found)
