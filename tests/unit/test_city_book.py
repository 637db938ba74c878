"""The city's book on a small city: what it reads, what it reports, and what its judge does not let pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from market.engine.book import Book
from market.engine.contracts import contract_start_ms
from market.engine.events import Traded
from market.simulator.neighbourhood import load_city
from tests.load import city_book
from tests.load.city_book import capacities_w, energies_wh, main, run, sample
from tests.load.city_market import STEP_MS, AccountingError, CityMarket, Interval, Judge, Needs, Tree, edges_at

WEEK = "2026-06-01"
STEPS = 96
SCENARIOS = ["isolated", "one_book", "one_book_with_capacity", "one_book_with_quarter_capacity"]
TREE = Tree(["MV", "LV1", "LV2"], [-1, 0, 0], ["MV", "LV", "LV"], [0, 1, 1], [0, 8_000, 1_600])
ALICE, BOB, CHARLIE = range(3)  # alice sells in LV1, bob buys in LV2, charlie buys beside alice
START_MS = contract_start_ms("2026-06-06T12:00Z")


def write_city(folder: Path) -> Path:
    """Write a city of five areas: solar in LV1, none in LV2 and LV3, thin wires between; sun in the second half-day."""
    (folder / "areas.csv").write_text(
        "area_id,parent_id,level,capacity_kw\nEHV,,EHV,0\nMV,EHV,MV,40\nLV1,MV,LV,16\nLV2,MV,LV,4\nLV3,EHV,LV,8\n"
    )
    homes = ["home_id,area_id,load_profiles,pv_profile,pv_kw,battery_kwh,battery_kw"]
    homes += [f"sun{n},LV1,use*1,sun,{4 + n},0.0,0.0" for n in range(4)]
    homes += [
        f"dark{area}.{n},{area},use*{2 + n}+use*0.5,,0.0,5.0,2.0" for area in ("LV1", "LV2", "LV3") for n in (0, 1)
    ]
    (folder / "homes.csv").write_text("\n".join(homes) + "\n")
    rows = ["time,use,sun"]
    rows += [
        f"{WEEK} {step // 4:02}:{step % 4 * 15:02}:00,{0.5 + step % 7 / 10:.1f},{0.9 if step >= STEPS // 2 else 0.0}"
        for step in range(STEPS)
    ]
    (folder / f"profiles-{WEEK}.csv").write_text("\n".join(rows) + "\n")
    return folder


def measure(folder: Path, *more: str) -> dict[str, Any]:
    """Run the script and return what it writes."""
    output = folder / "figures.json"
    common = ["--city", str(folder), "--week", WEEK, "--json", str(output), "--processes", "1"]
    assert main([*common, *more]) == 0
    found: dict[str, Any] = json.loads(output.read_text())
    return found


# --- the whole script --------------------------------------------------------------------------------------------------


def test_the_script_reports_four_scenarios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(write_city(tmp_path))
    assert list(found) == SCENARIOS
    for figures in found.values():
        required = {"energy_wh", "welfare_share", "self_sufficiency", "edges_exceeded", "edges_full"}
        assert required <= figures.keys()
        assert figures["intervals"] == STEPS
        assert 0 < figures["welfare_share"] <= 1
        assert figures["welfare_e7"] <= figures["optimum_e7"]
        assert 0 < figures["self_sufficiency_without_market"] < figures["self_sufficiency"] < 1
    isolated, one_book, capacity, quarter = found.values()
    assert isolated["energy_wh"] < quarter["energy_wh"] < capacity["energy_wh"] < one_book["energy_wh"]
    assert isolated["optimum_e7"] == one_book["optimum_e7"] > capacity["optimum_e7"] > quarter["optimum_e7"]
    assert (isolated["fees_e7"], isolated["edges_exceeded"], isolated["edges_full"]) == (0, 0, 0)
    assert one_book["edges_exceeded"] > 0
    assert (capacity["edges_exceeded"], quarter["edges_exceeded"]) == (0, 0)
    assert quarter["edges_full"] > 0
    assert quarter["fees_e7"] > 0
    text = capsys.readouterr().out
    assert "one book, a quarter of them" in text
    assert f"{STEPS} of {STEPS} intervals" in text


def test_the_same_seed_gives_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    city = load_city(write_city(tmp_path), week=WEEK)
    steps = sample(STEPS, 12, 7)
    alone = run(city, steps, 7, 100, 1)
    monkeypatch.setattr(city_book, "INTERVALS_A_MARKET", 2)
    assert run(city, steps, 7, 100, 2) == alone
    assert run(city, steps, 8, 100, 1) != alone


def test_no_fee_no_fees(tmp_path: Path) -> None:
    free, dear = (measure(write_city(tmp_path), "--intervals", "10", "--fee", fee)["one_book"] for fee in ("0", "2.5"))
    assert free["fees_e7"] == 0
    assert dear["fees_e7"] > 0
    assert dear["optimum_e7"] < free["optimum_e7"]


def test_the_table_in_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(write_city(tmp_path), "--markdown", "--intervals", "4")
    lines = capsys.readouterr().out.strip().split("\n")
    assert len(lines) == 2 + len(SCENARIOS) + 1
    assert {line.count("|") for line in lines} == {11}


def test_a_sample_is_spread_over_the_week() -> None:
    assert sample(672, 0, 1) == sample(672, 672, 1) == list(range(672))
    drawn = sample(672, 7, 1)
    assert [step // 96 for step in drawn] == list(range(7))
    assert len({step % 96 for step in drawn}) > 3
    assert drawn != sample(672, 7, 2)


def test_a_wire_that_carries_too_much_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that looks at the residual only when it is used up exceeds edges, and the script says so."""
    monkeypatch.setattr(Book, "residual_wh", lambda self, path: 10**9)
    monkeypatch.setattr(city_book, "optimum_e7", lambda *given: 10**15)
    found = measure(write_city(tmp_path), "--intervals", "20")
    assert found["one_book_with_quarter_capacity"]["edges_exceeded"] > 0


def test_welfare_beyond_the_optimum_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(city_book, "optimum_e7", lambda *given: 1)
    arguments = ["--city", str(write_city(tmp_path)), "--week", WEEK, "--processes", "1"]
    assert main(arguments) == 1


def test_a_trade_that_gets_lost_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trade = CityMarket.trade
    monkeypatch.setattr(CityMarket, "trade", lambda self, interval: trade(self, interval)[1:])
    arguments = ["--city", str(write_city(tmp_path)), "--week", WEEK, "--processes", "1"]
    assert main(arguments) == 1
    assert "the market counts" in capsys.readouterr().err


def without(column: str) -> Callable[[Path], object]:
    """Return what takes a column's name out of areas.csv."""
    return lambda folder: (folder / "areas.csv").write_text(
        (folder / "areas.csv").read_text().replace(column, "something")
    )


def replaced(name: str, old: str, new: str) -> Callable[[Path], object]:
    """Return what replaces a text in a file of the city."""
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "homes.csv").unlink(), "homes.csv: No such file"),
        (lambda folder: (folder / f"profiles-{WEEK}.csv").rename(folder / "profiles-2025-01-01.csv"), "2025-01-01)"),
        (without("capacity_kw"), "capacity_kw missing"),
        (replaced("homes.csv", "dark", "dark,"), "as many values as columns"),
        (replaced("homes.csv", "LV3", "LV4"), "2 homes lie elsewhere"),
        (replaced("homes.csv", "use*2", "use*x"), "expected a number"),
        (replaced("areas.csv", "MV,EHV,MV", "MV,EHV,LOW"), "the market refuses"),
        (replaced("areas.csv", "LV3,EHV", "LV3,"), "the market refuses"),
        (replaced(f"profiles-{WEEK}.csv", "time", "when"), "time missing"),
        (lambda folder: (folder / "areas.csv").write_bytes(b"\xff\xfe\x00"), "areas.csv"),
    ],
)
def test_bad_input_gets_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(write_city(tmp_path))
    assert main(["--city", str(tmp_path), "--week", WEEK, "--processes", "1"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "nowhere" / "figures.json"
    assert main(["--city", str(write_city(tmp_path)), "--week", WEEK, "--json", str(output)]) == 2
    assert "nowhere: expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize("fee", ["-1", "x", "0.001", "31", "NaN"])
def test_a_fee_is_cents(tmp_path: Path, fee: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--city", str(tmp_path), "--week", WEEK, f"--fee={fee}"])
    assert left.value.code == 2
    assert "ct/kWh" in capsys.readouterr().err


# --- orders ------------------------------------------------------------------------------------------------------------


def test_orders_are_net_energy_within_the_limits(tmp_path: Path) -> None:
    city = load_city(write_city(tmp_path), week=WEEK)
    needs = Needs(city, Tree.of(city))
    interval = needs.interval(50, 3)  # 50 % 7 = 1: use 0.6, sun 0.9
    # sun0: 4 kW * 0.9 * 250 - 1 kW * 0.6 * 250; dark0: (2 + 0.5) kW * 0.6 * 250.
    assert interval.net_wh[:2] == [900 - 150, 1_125 - 150]
    assert interval.net_wh[4] == -375
    assert interval.used_wh == 4 * 150 + 3 * (375 + 525)
    assert interval.own_wh == 4 * 150
    assert interval.name == "2026-06-01T12:30Z"
    assert sorted(interval.arrivals) == list(range(10)) != interval.arrivals
    assert interval.offers()[interval.arrivals.index(4)] == (2, True, interval.prices_e4[4], 375)
    assert needs.interval(50, 3) == interval != needs.interval(50, 4)
    prices = {price for step in range(STEPS) for price in needs.interval(step, 1).prices_e4}
    assert 800 <= min(prices) < 900 < 2_900 < max(prices) <= 3_000


# --- the judge ---------------------------------------------------------------------------------------------------------


def noon(market: CityMarket | None = None) -> tuple[CityMarket, Interval, Judge, list[Traded]]:
    """Return a market in which alice has sold to charlie beside her and, over two edges, to bob."""
    interval = Interval(START_MS, [1, 2, 1], [800, -600, -250], [1_000, 2_000, 1_500], [ALICE, CHARLIE, BOB], 0, 0)
    market = CityMarket(TREE, interval.areas, TREE.capacity_w, 100, START_MS - STEP_MS)
    market.fund([3_000 * abs(net_wh) for net_wh in interval.net_wh])
    return market, interval, Judge(TREE, 100, market.accounts), market.trade(interval)


def test_the_judge_adds_up_what_was_traded() -> None:
    market, interval, judge, trades = noon()
    outcome = judge.judge(interval, trades)
    # bob's wire carries 1,600 W for a quarter of an hour.
    assert [trade.energy_wh for trade in trades] == [250, 400]
    assert outcome.energy_wh == 650
    assert outcome.welfare_e7 == (1_500 - 1_000) * 250 + (2_000 - 1_000 - 200) * 400
    assert outcome.fees_e7 == 200 * 400
    assert outcome.flows_wh == [0, 400, -400]
    assert outcome.clearing_e7 == 250 * (1_000 + 2_000) + 400 * (1_200 + 2_000)
    market.check(interval, outcome)
    assert edges_at(outcome.flows_wh, energies_wh(TREE.capacity_w)) == (0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"energy_wh": 650},  # more than bob needs
        {"energy_wh": 0},
        {"sell_e4": 999, "buy_e4": 1_199},  # below alice's limit
        {"sell_e4": 1_801, "buy_e4": 2_001},  # above bob's limit
        {"buy_e4": 1_100},  # one edge's fee is missing
        {"sell_e4": 1_100},
        {"contract": "2026-06-06T12:15Z"},
    ],
)
def test_the_judge_refuses_trades_that_orders_do_not_allow(change: dict[str, Any]) -> None:
    _, interval, judge, trades = noon()
    with pytest.raises(AccountingError, match="does not follow from the orders"):
        judge.judge(interval, [trades[1]._replace(**change)])


def test_nobody_sells_more_than_it_has() -> None:
    _, interval, judge, trades = noon()
    judge.judge(interval, [trades[0], trades[1]._replace(energy_wh=550)])
    with pytest.raises(AccountingError):
        judge.judge(interval, [trades[0], trades[1]._replace(energy_wh=551)])


def test_buyer_and_seller_cannot_change_places() -> None:
    _, interval, judge, trades = noon()
    buyer, seller = trades[1].buyer, trades[1].seller
    with pytest.raises(AccountingError):
        judge.judge(interval, [trades[1]._replace(buyer=seller, seller=buyer)])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda market, contract, outcome: setattr(contract, "volume_wh", 651), "counts 651 Wh"),
        (lambda market, contract, outcome: contract.book.asks.flow_wh.__setitem__(1, 399), "net flow of 400"),
        (lambda market, contract, outcome: setattr(market.engine.accounts[0], "cash_e7", 0), "no money too much"),
        (lambda market, contract, outcome: setattr(market.engine.accounts[5], "held_e7", 1), "none held"),
        (lambda market, contract, outcome: outcome.update(clearing_e7=1), "expected 1 e7 in clearing"),
        (lambda market, contract, outcome: outcome.update(energy_wh=1), "was 1"),
        (lambda market, contract, outcome: market.engine.orders.update({9: None}), "no open order"),
    ],
)
def test_the_markets_own_books_must_agree(spoil: Callable[..., object], says: str) -> None:
    market, interval, judge, trades = noon()
    outcome = judge.judge(interval, trades)
    changed: dict[str, Any] = {}
    spoil(market, market.engine.contracts[interval.name], changed)
    with pytest.raises(AccountingError, match=says):
        market.check(interval, outcome._replace(**changed))


def test_nobody_may_be_below_zero() -> None:
    market, interval, judge, trades = noon()
    outcome = judge.judge(interval, trades)
    accounts = [market.engine.accounts[account] for account in market.accounts[:2]]
    moved_e7 = accounts[0].cash_e7 + 1
    accounts[0].cash_e7 -= moved_e7
    accounts[1].cash_e7 += moved_e7
    with pytest.raises(AccountingError, match="nobody below zero"):
        market.check(interval, outcome)


def test_edges_are_exceeded_above_and_full_at_their_capacity() -> None:
    assert edges_at([0, 99, -99], [0, 100, 100]) == (0, 0)
    assert edges_at([0, 100, -100], [0, 100, 100]) == (0, 2)
    assert edges_at([0, 101, -101], [0, 100, 100]) == (2, 2)
    assert edges_at([0, 0, 5], [0, 0, 100]) == (0, 0)


def test_parts_of_a_capacity() -> None:
    assert capacities_w(TREE, (1, 4)) == [0, 2_000, 400]
    assert capacities_w(TREE, (0, 1)) == [0, 0, 0]
    assert min(capacities_w(TREE, None)) == 10**12
    assert energies_wh([2_000, 3]) == [500, 0]


def test_edges_between() -> None:
    tree = Tree(list("rabcd"), [-1, 0, 1, 1, 0], [""] * 5, [0, 1, 2, 2, 1], [0] * 5)
    assert [tree.edges_between(2, other) for other in range(5)] == [2, 1, 0, 2, 3]
