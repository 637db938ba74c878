"""What a decision would do, said before it is made and held against what it does; the map, the hours ahead, alerts, health."""

from __future__ import annotations

import re
import time
from collections import deque

import pytest

from ledger import queries as ledger
from market.disputes.models import Kind, State
from market.disputes.queries import DisputeView, StepView
from market.engine.commands import CancelAll, PlaceBlock
from market.engine.contracts import contract_start_ms
from market.engine.events import Traded
from market.exchange import operations
from market.exchange.models import Contract
from market.grid import outlook, preview
from market.grid import queries as grid
from market.metering import balances
from market.pages import health
from market.pages.gridmap import HOURS
from market.pages.outlook import cells_of, full_ones, hours_of, strips
from market.pages.templatetags.market import clock, day
from tests.integration.pages.conftest import NOW, Town

FREE = 100_000


@pytest.fixture(autouse=True)
def restored(town: Town) -> None:
    """Every edge carries its usual energy before a test, and no order rests."""
    for visitor in (town.alice, town.bob, town.charlie):
        town.exchange.call(CancelAll(visitor.account, "", "owner"))
    for area, watts in (("LV1.1", FREE), ("LV2.1", FREE)):
        operations.set_capacity(town.exchange, area=area, import_w=watts, export_w=watts, reason="restored")


def cut(town: Town, once: str, *, into: str = "0", out: str = "0", **more: str) -> str:
    """Ask for another capacity of LV1.1 and return the page that answers."""
    path = "/operator/areas/LV1.1"
    form = {
        "capacity-once": once, "capacity-import_kw": into, "capacity-export_kw": out, "capacity-reason": "fault", **more,
    }  # fmt: skip
    return town.olga.post(f"{path}/capacity", page=path, **form).content.decode()


def confirm(town: Town, html: str) -> None:
    """Press the button of a page that says what would be done."""
    fields = dict(re.findall(r'<input type="hidden" name="([\w-]+)" value="([^"]*)">', html))
    fields.pop("csrfmiddlewaretoken")
    path = "/operator/areas/LV1.1"
    response = town.olga.post(f"{path}/capacity", page=path, **fields)
    assert response.status_code == 302


def depth_wh(town: Town, contract: str) -> tuple[int, int]:
    """Return what LV1.1 can sell and buy."""
    bids, asks = town.exchange.read(lambda engine: engine.depth("LV1.1", contract, 100))
    return sum(level.energy_wh for level in bids), sum(level.energy_wh for level in asks)


def test_a_cut_is_foreseen_and_does_just_that(town: Town) -> None:
    contract, later = town.market.contract(2), town.market.contract(3)
    town.market.place(town.charlie.account, "sell", "0.1000", 3_000, contract=contract)
    assert town.market.buys(town.alice.account, "0.5000", 1_000, contract=contract).refused is None
    town.market.place(town.charlie.account, "buy", "0.0400", 700, contract=later)
    town.market.place(town.bob.account, "sell", "0.3000", 500, contract=contract)
    before = town.state()
    html = cut(town, "c1", **{"capacity-text": "Cable 7 is burning"})
    assert town.state() == before, "nothing is done before it is confirmed"
    effect = preview.capacity(town.exchange, area="LV1.1", import_w=0, export_w=0)
    assert contract in effect.import_blocked and later in effect.export_blocked
    assert effect.import_over == [contract] and effect.export_over == []
    assert (effect.offers_lost, effect.bids_lost) == (preview.Reach(1, 2_000), preview.Reach(1, 700))
    assert (effect.buys.orders, effect.sells.orders) == (0, 1)
    assert "In 1 interval more is allocated into the area than could flow" in html
    assert "1 offer to sell goes out of the area's reach: 2.00 kWh less to buy there." in html
    assert "1 offer to buy goes out of the area's reach: 700 Wh less can be sold there." in html
    assert "Cable 7 is burning" in html
    foreseen = {info.name: found for info, found in effect.lines}
    confirm(town, html)
    for name in (contract, later):
        flow = town.exchange.read(lambda engine, name=name: engine.flows(name)["LV1.1"])
        assert foreseen[name].after == flow
        found = foreseen[name]
        assert (found.bids_after.energy_wh, found.offers_after.energy_wh) == depth_wh(town, name)
    decision = grid.decisions(kinds=("capacity",), target="LV1.1")[0]
    assert decision.reason == "fault" and decision.said is not None
    assert (decision.said.text, decision.said.state) == ("Cable 7 is burning", "matches")
    assert "Cable" not in str(ledger.entry(decision.seq)), "free text never enters the ledger"


def test_an_opening_is_foreseen_with_the_trades_it_makes(town: Town) -> None:
    contract = town.market.contract(4)
    operations.set_capacity(town.exchange, area="LV1.1", import_w=0, export_w=0, reason="fault")
    town.market.place(town.charlie.account, "sell", "0.1000", 2_000, contract=contract)
    town.market.place(town.alice.account, "buy", "0.5000", 1_500, contract=contract)
    effect = preview.capacity(town.exchange, area="LV1.1", import_w=FREE, export_w=FREE)
    assert (effect.offers_lost.orders, effect.bids_lost.orders) == (0, 0), "what is traded is not out of reach"
    html = cut(town, "c2", into="100", out="100")
    assert "of the area's reach" not in html
    assert "What is traded at once counts as within reach." in html
    assert "1 trade is made at once between orders that wait: 1.50 kWh." in html
    seq = town.exchange.read(lambda engine: engine.seq)
    confirm(town, html)
    trades = [event for event in operations_since(town, seq) if event["type"] == "trade"]
    assert [trade["energy_wh"] for trade in trades] == [1_500]


def operations_since(town: Town, seq: int) -> list[dict[str, object]]:
    """Return the entries from a sequence on."""
    return list(ledger.entries(seq, 100))


def test_errors_name_the_field_keep_the_values_and_ask_again(town: Town) -> None:
    html = cut(town, "c3", into="-1", out="42", **{"capacity-sure": "on", "capacity-text": "keep me"})
    assert 'id="id_capacity-import_kw_error"' in html
    assert 'value="-1"' in html and 'value="42"' in html and "keep me" in html
    assert not re.search(r'name="capacity-sure" value="(on|True)"', html), (
        "corrected values are shown before they are set"
    )
    html = cut(town, "c4", into="5", **{"capacity-text": "x" * 201})
    assert 'id="id_capacity-text_error"' in html


def test_a_fee_says_from_which_interval_on_it_holds(town: Town) -> None:
    path = "/operator/areas/LV1.2"
    form = {"fee-once": "e1", "fee-fee": "0.0300", "fee-reason": "tariff"}
    html = town.olga.post(f"{path}/fee", page=path, **form).content.decode()
    effect = preview.fee(town.exchange, area="LV1.2")
    assert "the next one to open" in html and f"{effect.kept} intervals that are open" in html
    info = grid.area(town.exchange, "LV1.2")
    assert info is not None and info.fee_e4 == effect.before_e4
    town.olga.post(f"{path}/fee", page=path, **{**form, "fee-sure": "on"})
    kept, fresh = town.exchange.read(
        lambda engine: (
            engine.contracts[effect.last_kept].book.topology.fees_e4[engine.areas.index["LV1.2"]],
            effect.first in engine.contracts,
        )
    )
    assert (kept, fresh) == (effect.before_e4, False)
    town.market.clock.at_ms += 15 * 60_000
    deadline = time.monotonic() + 10
    while not town.exchange.read(lambda engine: effect.first in engine.contracts):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    new = town.exchange.read(
        lambda engine: engine.contracts[effect.first].book.topology.fees_e4[engine.areas.index["LV1.2"]]
    )
    assert new == 300
    decision = grid.decisions(kinds=("fee",), target="LV1.2")[0]
    assert decision.reason == "tariff"


def test_every_stop_says_what_rests_there_first(town: Town) -> None:
    contract = town.market.contract(4)
    town.market.place(town.charlie.account, "buy", "0.0400", 700, contract=contract)
    town.market.place(town.bob.account, "buy", "0.0400", 300, contract=contract)
    form = {"scope": "contract", "target": contract, "reason": "fault", "once": "s1"}
    html = town.olga.post("/operator/halts", **form).content.decode()
    assert "2 open orders rest there." in html
    assert "<dt>Accounts</dt><dd>2</dd>" in html and "<dt>Energy</dt><dd>1.00 kWh</dd>" in html
    assert not grid.halts(town.exchange)
    town.olga.post("/operator/halts", **form, sure="on")
    assert grid.halts(town.exchange).contracts == [contract]
    operations.set_halt(town.exchange, scope="contract", target=contract, on=False, reason="resumed")


# --- the map -----------------------------------------------------------------------------------------------------------
def test_the_map_shows_the_load_in_words_and_can_be_asked(town: Town) -> None:
    contract = town.market.contract(5)
    town.market.place(town.charlie.account, "sell", "0.0800", 24_500, contract=contract)
    town.market.buys(town.alice.account, "0.5000", 24_500, contract=contract)
    outlook.recent(town.exchange, 0)  # the map's hours may be some seconds old
    part = town.olga.html("/operator/map", contract=contract)
    row = re.search(r'<a href="/operator/areas/LV1\.1".*?</a>', part, re.DOTALL)
    assert row
    assert "98 %" in row[0] and 'm-word full">full' in row[0] and "in 98.0 kW of 100.0 kW" in row[0]
    assert 'stroke-width="11"' in row[0]
    assert 'aria-label="LV1.1 98 % full in 98.0 kW of 100.0 kW"' in row[0]
    hours = row[0][row[0].index('class="m-hours"') :]
    assert 1 <= hours.count("<rect") <= HOURS and re.search(r'class="ahead-cell full"[^>]*><text[^>]*>98<', hours)
    assert part.index("areas/LV1.1") < part.index("areas/LV1.2"), "the hottest branch comes first"
    opened = town.olga.html("/operator", contract=contract, node="MV2")
    drawing = opened[opened.index('id="grid-map"') : opened.index('aria-labelledby="flows"')]
    assert "/operator/areas/LV2.1" in drawing and "/operator/areas/LV1.1" not in drawing
    assert "more areas" in drawing
    assert 'aria-current="true"' in town.olga.html("/operator", find="lv2.1")
    assert "No area has that in its name." in town.olga.html("/operator", find="nowhere")
    assert "Found:" in town.olga.html("/operator", find="LV")
    assert town.alice.get("/operator/map").status_code == 403


def test_the_hours_ahead_name_what_is_full_and_what_may_be(town: Town) -> None:
    contract, later = town.market.contract(6), town.market.contract(7)
    town.market.place(town.charlie.account, "sell", "0.0800", 25_000, contract=contract)
    town.market.buys(town.alice.account, "0.5000", 25_000, contract=contract)
    town.market.place(town.charlie.account, "sell", "0.9000", 26_000, contract=later)
    found = outlook.outlook(town.exchange)
    edges = {(info.name, edge.area): edge for info, lines in found for edge in lines}
    full, may = edges[contract, "LV1.1"], edges[later, "LV2.1"]
    assert (full.import_permille, full.full, full.may_fill) == (1_000, True, False)
    assert (may.export_permille, may.export_rest_permille, may.full, may.may_fill) == (0, 1_040, False, True)
    named = [(line.contract, line.edge.area, line.inward) for line in full_ones(found)]
    assert (contract, "LV1.1", True) in named and (later, "LV2.1", False) in named
    assert named.index((contract, "LV1.1", True)) < named.index((later, "LV2.1", False))
    assert strips(found)[0].percent == 100
    assert sum(hour.full for hour in hours_of(found)) >= 1
    beside = cells_of(found, ["LV1.1", "LV2.1", "nowhere"], 2)
    assert beside["nowhere"] == [] and len(beside["LV2.1"]) == 2
    cell = next(cell for cell in beside["LV1.1"] if cell.contract == contract)
    assert (cell.percent, cell.state) == (100, "full"), "an hour is as full as its fullest quarter"
    outlook.recent(town.exchange, 0)  # not what somebody looked at a moment ago
    html = town.olga.html("/operator/ahead")
    assert f"/operator?contract={contract.replace(':', '%3A')}&amp;node=LV1.1#map" in html
    assert "104 %" in html


# --- alerts ------------------------------------------------------------------------------------------------------------
def alarm(town: Town, ahead: int) -> int:
    """Cut an edge below what is allocated and return the alert."""
    contract = town.market.contract(ahead)
    operations.set_capacity(town.exchange, area="LV1.1", import_w=FREE, export_w=FREE, reason="restored")
    town.market.place(town.charlie.account, "sell", "0.1000", 1_000, contract=contract)
    outcome = town.market.buys(town.alice.account, "0.5000", 1_000, contract=contract)
    assert any(isinstance(event, Traded) for event in outcome.events)
    operations.set_capacity(town.exchange, area="LV1.1", import_w=0, export_w=0, reason="fault")
    return grid.alerts(limit=1)[0].seq


def test_an_acknowledgement_has_a_note_leaves_the_count_and_deletes_nothing(town: Town) -> None:
    seq, before = alarm(town, 1), grid.open_alerts()
    html = town.olga.html("/operator/alerts")
    assert f'value="{seq}"' in html
    assert re.search(rf'data-live="nav-alerts"> <span class="tag bad">{before}<', html)
    asked = {"seq": str(seq), "state": "open"}
    town.olga.post("/operator/alerts", **asked, note="Crew is on its way")
    seen = grid.alert(seq)
    assert seen is not None
    assert (seen.acknowledged_by, seen.note) == ("olga", "Crew is on its way")
    town.sam.post("/operator/alerts", **asked, note="Me too")
    again = grid.alert(seq)
    assert again == seen, "the first one stays"
    assert "olga has seen this alert before you." in town.sam.html("/operator/alerts")
    assert grid.open_alerts() == before - 1
    assert f'value="{seq}"' not in town.olga.html("/operator/alerts")
    assert "Crew is on its way" in town.olga.html("/operator/alerts", state="acknowledged")
    assert seq in [row.seq for row in grid.alerts(state="acknowledged")]
    assert seq not in [row.seq for row in grid.alerts(state="open")]
    assert seq in [row.seq for row in grid.alerts()]
    town.olga.post("/operator/alerts", seq=str(alarm(town, 3)), state="open", note="y" * 201)
    assert "Write at most 200 characters." in town.olga.html("/operator/alerts")


def test_the_history_of_alerts_is_paged(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = alarm(town, 2)
    monkeypatch.setattr("market.pages.alerts.SHOWN", 1)
    html = town.olga.html("/operator/alerts", state="all")
    assert f"entry {newest}<" in html
    assert html.count('<li class="alert') == 1
    assert f"before={newest}" in html
    older = town.olga.html("/operator/alerts", state="all", before=str(newest))
    assert f"entry {newest}<" not in older and older.count('<li class="alert') == 1


# --- health ------------------------------------------------------------------------------------------------------------
def test_health_names_every_figure_and_what_is_wrong_comes_first(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    html = town.olga.html("/operator/health")
    for name in ("Commands waiting", "Time of a commit", "Last seal", "Witnesses", "Live streams", "Database", "Disk"):
        assert f'<th scope="row">{name}</th>' in html
    assert town.exchange.commit_times()
    monkeypatch.setattr(town.exchange._writer, "commits_s", deque([0.001] * 50 + [0.5] * 50))
    html = town.olga.html("/operator/health")
    assert "500.0 ms, 99 % below 500.0 ms" in html
    first = html[html.index("<tbody>") : html.index("</tr>", html.index("<tbody>"))]
    assert "Time of a commit" in first and "look" in first
    assert town.alice.get("/operator/health").status_code == 403


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(50, 51.0), (99, 100.0), (0, 1.0)],
)
def test_percentiles(percent: int, expected: float) -> None:
    assert health.percentile([float(n) for n in range(100, 0, -1)], percent) == expected
    assert health.percentile([], percent) == 0.0


# --- objections --------------------------------------------------------------------------------------------------------
def test_an_objection_offers_what_the_household_claims(monkeypatch: pytest.MonkeyPatch, town: Town) -> None:
    def step(who: str, taken: int | None, given: int | None) -> StepView:
        return StepView(State.OPEN, NOW, who, "wrong_value", "", "", taken, given)

    dispute = DisputeView(
        7, 12, "LV1.1", Kind.READING, town.market.contract(1), 3, 1_500, 200, State.OPEN, True, NOW, None,
        [step("", 1_100, None), step("olga", 1_400, 300), step("", None, 250)],
    )  # fmt: skip
    assert dispute.claimed == (1_100, 250), "of what was said the household's own, the newest"
    monkeypatch.setattr("market.pages.disputes.queries.waiting", lambda: [dispute])
    html = town.olga.html("/operator/disputes")
    assert re.search(r'was 1\.5\d*</small></span><input name="import_wh" value="1\.1', html)
    assert re.search(r'was 0\.2\d*</small></span><input name="export_wh" value="0\.25', html)


def test_a_block_that_waits_is_played_along(town: Town) -> None:
    first, last = town.market.contract(5), town.market.contract(6)
    for area in [
        info.area for info in grid.areas(town.exchange) if info.parent
    ]:  # whatever other tests have left closed
        power_w = 0 if area == "LV1.1" else 1_000_000
        operations.set_capacity(town.exchange, area=area, import_w=power_w, export_w=power_w, reason="works")
    for contract in (first, last):
        town.market.place(town.charlie.account, "sell", "0.1000", 2_000, contract=contract)
    assert town.alice.account is not None
    block = PlaceBlock(town.alice.account, first, last, "buy", 5_000, 1_000, "gtg", 0)
    assert town.exchange.call(block, key=None).refused is None
    html = cut(town, "c2b", into="400", out="400")
    effect = preview.capacity(town.exchange, area="LV1.1", import_w=400_000, export_w=400_000)
    assert (effect.block_trades, effect.block_legs) == (1, 2)
    assert f"{effect.trades} trades are made at once between orders that wait" in html
    assert "Among them 1 waiting block trades whole, with 2 legs." in html
    assert "More would happen" not in html
    seq = town.exchange.read(lambda engine: engine.seq)
    confirm(town, html)
    trades = [event for event in operations_since(town, seq) if event["type"] == "trade"]
    assert (effect.trades, effect.traded_wh) == (len(trades), sum(int(str(trade["energy_wh"])) for trade in trades))
    assert {trade["contract"] for trade in trades} >= {first, last}


def test_the_balance_begins_with_the_market_and_says_when_in_the_days_words(town: Town) -> None:
    start_ms, end_ms, length_ms = balances.window_of(town.exchange)
    first = Contract.objects.order_by("name").values_list("name", flat=True)[0]
    assert start_ms < contract_start_ms(first), "the window alone reaches back to before the market"
    page = town.olga.html("/operator/balance")
    if contract_start_ms(first) >= end_ms:
        assert "No interval of this market is over and read yet." in page
    assert balances.since_opening(start_ms, end_ms) == min(end_ms, contract_start_ms(first))
    later_ms = contract_start_ms(first) + 2 * length_ms
    assert balances.since_opening(start_ms, later_ms) == contract_start_ms(first)
    assert balances.since_opening(later_ms, later_ms + length_ms) == later_ms
    town.market.clock.at_ms = contract_start_ms(first) + 5 * length_ms
    page = town.olga.html("/operator/balance")
    assert re.search(r"From Sat, 6 Jun \d\d:\d\d to Sat, 6 Jun \d\d:\d\d: what flowed", page)
    assert f"From {day(contract_start_ms(first))} {clock(contract_start_ms(first))} to" in page
