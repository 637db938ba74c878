"""What the grid operator sees and changes."""

from __future__ import annotations

import re

import pytest

from ledger import queries as ledger
from ledger import witnessing
from market.engine.commands import Expire
from market.grid import queries as grid
from market.pages.operator import row_of
from tests.integration.pages.conftest import Town

CAPACITY = {
    "capacity-import_kw": "50", "capacity-export_kw": "0.5", "capacity-reason": "overload", "capacity-sure": "on",
}  # fmt: skip


def area_of(town: Town, name: str) -> grid.AreaInfo:
    """Return an area as it is now."""
    found = grid.area(town.exchange, name)
    assert found is not None
    return found


def rows_of(html: str) -> list[str]:
    """Return the areas of the flow table in their order."""
    part = html[html.index('data-live="flows"') : html.index('data-live="board"')]
    return re.findall(r'href="/operator/areas/([^"]+)"', part)


def test_a_trade_across_the_city_loads_every_edge_on_its_way(town: Town) -> None:
    contract = town.market.contract(3)
    # Charlie in LV2.1 sells 10 kWh to Alice in LV1.1: 40 kW for a quarter of an hour, of 100 and 400 kW.
    town.market.place(town.charlie.account, "sell", "0.0800", 10_000, contract=contract)
    outcome = town.market.buys(town.alice.account, "0.5000", 10_000, contract=contract)
    assert len(outcome.events) == 2
    loads = {load.area: load for load in grid.loads(town.exchange, contract) or []}
    assert loads["LV1.1"].import_used_wh == 10_000
    assert loads["LV2.1"].export_used_wh == 10_000
    assert (loads["LV1.1"].import_permille, loads["MV1"].import_permille) == (400, 100)
    assert (loads["LV1.1"].export_permille, loads["LV1.2"].load_permille) == (0, 0)
    html = town.olga.html("/operator", contract=contract)
    assert rows_of(html) == ["LV1.1", "LV2.1", "MV1", "MV2", "LV1.2"]
    row = re.search(r'areas/LV1\.1".*?</tr>', html[html.index('data-live="flows"') :], re.DOTALL)
    assert row
    assert re.search(r'<rect class="fill" width="40" height="8"/></svg>\s*<span class="number">40\.0 kW', row[0])
    assert "40 %" in row[0]
    assert rows_of(town.olga.html("/operator", contract=contract, order="tree")) == [
        "MV1", "LV1.1", "LV1.2", "MV2", "LV2.1",
    ]  # fmt: skip


def test_what_flows_back_frees_capacity(town: Town) -> None:
    contract = town.market.contract(4)
    town.market.place(town.charlie.account, "sell", "0.0800", 10_000, contract=contract)
    town.market.buys(town.alice.account, "0.5000", 10_000, contract=contract)
    town.market.place(town.alice.account, "sell", "0.0800", 4_000, contract=contract)
    town.market.buys(town.charlie.account, "0.5000", 4_000, contract=contract)
    load = next(load for load in grid.loads(town.exchange, contract) or [] if load.area == "LV1.1")
    assert (load.import_wh, load.export_wh) == (10_000, 4_000)
    assert (load.import_used_wh, load.export_used_wh) == (6_000, 0)
    row = row_of(load, 15)
    assert (row.into.flow_w, row.into.allocated_w, row.into.residual_w) == (40_000, 24_000, 76_000)
    assert (row.percent, row.state) == (24, "")


def test_an_edge_that_gets_full_is_called_full(town: Town) -> None:
    contract = town.market.contract(5)
    town.market.place(town.charlie.account, "sell", "0.0800", 24_500, contract=contract)
    town.market.buys(town.alice.account, "0.5000", 24_500, contract=contract)
    html = town.olga.html("/operator", contract=contract)
    row = re.search(r'areas/LV1\.1".*?</tr>', html[html.index('data-live="flows"') :], re.DOTALL)
    assert row
    assert "98 %" in row[0]
    assert '<span class="tag bad">full</span>' in row[0]


def test_an_unknown_interval_shows_the_next_one(town: Town) -> None:
    html = town.olga.html("/operator", contract="2031-01-01T00:00Z")
    assert f'<option value="{town.market.contract(1)}" selected>' in html


def test_a_new_capacity_is_in_force_on_the_ledger_and_in_the_list(town: Town) -> None:
    path = "/operator/areas/LV1.2"
    response = town.olga.post(f"{path}/capacity", page=path, **{"capacity-once": "k1", **CAPACITY})
    assert response["Location"] == path
    info = area_of(town, "LV1.2")
    assert (info.import_w, info.export_w) == (50_000, 500)
    html = town.olga.html(path)
    found = re.search(r'notice success">.*?/regulator/entries/(\d+)"', html, re.DOTALL)
    assert found
    entry = ledger.entry(int(found[1]))
    assert (entry["type"], entry["area"], entry["import_w"], entry["export_w"]) == ("capacity", "LV1.2", 50_000, 500)
    assert entry["reason"] == "overload"
    decision = grid.decisions(kinds=("capacity",), target="LV1.2")[0]
    assert (decision.by, decision.seq) == (town.olga.user, int(found[1]))
    assert "LV1.2: 50.0 kW in, 500 W out" in html


def test_a_double_click_makes_one_entry(town: Town) -> None:
    path = "/operator/areas/MV2"
    before = len(grid.decisions(kinds=("capacity",), target="MV2"))
    for _ in range(2):
        town.olga.post(f"{path}/capacity", page=path, **{"capacity-once": "k2", **CAPACITY})
    decisions = grid.decisions(kinds=("capacity",), target="MV2")
    assert len(decisions) == before + 1
    again = [e for e in ledger.entries(decisions[0].seq, 100) if e["type"] == "capacity" and e["area"] == "MV2"]
    assert len(again) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("import_kw", ""), ("import_kw", "-1"), ("import_kw", "1.0005"), ("import_kw", "much"),
        ("export_kw", "10000001"), ("export_kw", "1e400"), ("reason", ""), ("reason", "because I say so"),
    ],
)  # fmt: skip
def test_an_impossible_capacity_is_refused_at_its_field(town: Town, name: str, value: str) -> None:
    before = town.state()
    form = {"capacity-once": "k3", **CAPACITY, f"capacity-{name}": value}
    response = town.olga.post("/operator/areas/LV1.1/capacity", page="/operator/areas/LV1.1", **form)
    assert response.status_code == 422
    assert f'id="id_capacity-{name}_error"' in response.content.decode()
    assert town.state() == before


def test_a_fee_holds_for_contracts_that_open_later(town: Town) -> None:
    path = "/operator/areas/MV1"
    sure = {"fee-reason": "tariff", "fee-sure": "on"}
    town.olga.post(f"{path}/fee", page=path, **{"fee-once": "f1", "fee-fee": "0.0125", **sure})
    assert area_of(town, "MV1").fee_e4 == 125
    response = town.olga.post(f"{path}/fee", page=path, **{"fee-once": "f2", "fee-fee": "0.00001", **sure})
    assert response.status_code == 422
    assert area_of(town, "MV1").fee_e4 == 125


def test_an_area_is_stopped_with_all_below_it_and_goes_on(town: Town) -> None:
    path = "/operator/areas/MV2"
    form = {"halt-once": "h1", "halt-reason": "fault", "halt-sure": "on", "decision": "stop"}
    town.olga.post(f"{path}/halt", page=path, **form)
    html = town.olga.html(path)
    assert "Trading is stopped here and in all areas below." in html
    refused = town.market.place(town.charlie.account, "sell", contract=town.market.contract(6)).refused
    assert refused is not None
    assert refused.code == "area_halted"
    notice = re.search(r'data-live="halts".*?</div></div>', town.olga.html("/operator"), re.DOTALL)
    assert notice
    assert 'href="/operator/areas/MV2"' in notice[0]
    town.olga.post(f"{path}/halt", page=path, **{"halt-once": "h2", "decision": "resume"})
    assert town.market.place(town.charlie.account, "sell", contract=town.market.contract(6)).refused is None


@pytest.mark.parametrize("path", ["/operator/areas/LV9.9", "/operator/areas/%3Cscript%3E"])
def test_an_area_that_is_not_there_is_not_found(town: Town, path: str) -> None:
    assert town.olga.get(path).status_code == 404


def test_nothing_can_be_set_on_an_area_that_is_not_there(town: Town) -> None:
    before = town.seq()
    form = {"capacity-once": "k4", **CAPACITY}
    response = town.olga.post("/operator/areas/LV9.9/capacity", page="/operator/areas/LV1.1", **form)
    assert response.status_code == 404
    assert town.seq() == before


def test_the_board_shows_who_is_missing(town: Town) -> None:
    contract = town.market.contract(1)
    # The last test of the file that needs the clock where it was.
    town.market.clock.advance(minutes=31)
    for _ in range(200):
        if town.exchange.read(lambda engine: engine.contracts[contract].state) == "delivered":
            break
        town.exchange.call(Expire())  # anything that makes the writer look at the clock
    html = town.olga.html("/operator")
    part = html[html.index('data-live="board"') :]
    row = re.search(rf'/regulator/contracts/{contract}".*?</tr>', part, re.DOTALL)
    assert row
    assert "delivered" in row[0]
    assert "0 of 2" in row[0]
    assert "LV1.1, LV2.1" in row[0]
    assert re.search(r'data-label="Meters missing">3</td>', row[0])


def test_the_pages_are_there_while_the_market_is_closed(closed: Town) -> None:
    for path in ("/operator", "/operator/areas/LV1.1"):
        assert "The market is not running at the moment." in closed.olga.html(path)
    form = {"capacity-once": "k5", **CAPACITY}
    response = closed.olga.post("/operator/areas/LV1.1/capacity", page="/account", **form)
    assert response.status_code == 503


@pytest.mark.parametrize(
    ("state", "says", "panel"),
    [
        ("none", "", ""),
        ("ok", "", "<dt>Witnesses</dt><dd>sign"),
        ("behind", "The oldest checkpoint without their quorum is 75 s old.", "behind</span>"),
        ("refused", "A witness refuses to sign the ledger.", "refuse to sign</span>"),
    ],
)
def test_how_the_witnesses_do(town: Town, monkeypatch: pytest.MonkeyPatch, state: str, says: str, panel: str) -> None:
    one = witnessing.WitnessState("the-regulators", 12, state == "refused", "" if state == "ok" else "no answer")
    shown = witnessing.Status(state, None if state == "none" else 12, 75.2, () if state == "none" else (one,))
    monkeypatch.setattr(witnessing, "status", lambda: shown)
    html = town.olga.html("/operator")
    notices = ("The oldest checkpoint without their quorum is 75 s old.", "A witness refuses to sign the ledger.")
    assert [notice for notice in notices if notice in html] == ([says] if says else [])
    assert panel in html
    assert ("<dt>Witnesses</dt>" in html) == (state != "none")
    checking = town.rita.html("/regulator/checking")
    assert ("the-regulators" in checking) == (state != "none")
    assert ("No witness is set up" in checking) == (state == "none")
    assert ("refuses: not the same history" in checking) == (state == "refused")


class _Stub:
    def __init__(self, size: int | None):
        self._size = size

    def witnessed_size(self) -> int | None:
        """Return what the test says."""
        return self._size


def test_a_block_says_whether_it_was_witnessed(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    first = town.market.place(town.bob.account, "buy", "0.0100").events[0].seq
    town.sealed(first)
    block = ledger.block_of(first)
    for size, word in ((None, "sealed, signed"), (block.size - 1, "sealed, signed"), (block.size, "witnessed")):
        monkeypatch.setattr("market.pages.regulator.cosigning", _Stub(size))
        assert f'<span class="tag good">{word}</span>' in town.rita.html(f"/regulator/blocks/{block.height}")
        html = town.rita.html(f"/regulator/entries/{first}")
        assert f'<span class="tag good">{word}</span>' in html
        assert ("A quorum of independent witnesses" in html) == (size == block.size)
