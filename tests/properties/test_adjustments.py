"""Whatever is corrected, in whatever order, and however little money there is: the end is what the last readings say."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from market.engine import commands as c
from market.engine.accounts import MEMBER
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.events import Refused
from market.settlement import rules
from tests.unit.engine_cast import LATER, NOON, SPILL_E4, TOPUP_E4, Market

ROOT = "a" * 64
TARIFF = rules.Tariff(TOPUP_E4, SPILL_E4)
AREAS = ("LV1", "LV2")
HOMES = st.integers(0, 3)
ENERGY = st.integers(0, 1_500)
QUALITIES = st.sampled_from(("measured", "estimated"))
TRADES = st.lists(st.tuples(HOMES, HOMES, st.integers(1, 600), st.integers(1, 3_500)), max_size=8)
# An account's reading, that an account puts money in or takes it out, or asks for a little energy.
READING = st.tuples(st.just("reading"), HOMES, ENERGY, ENERGY, QUALITIES)
MONEY = st.tuples(st.just("fund"), HOMES, st.integers(-2_000_000, 2_000_000))
SPEND = st.tuples(st.just("spend"), HOMES)
BUY = st.tuples(st.just("buy"), HOMES, st.integers(1, 100))
STEPS = st.lists(st.one_of(READING, READING, MONEY, SPEND, BUY), max_size=20)


class Home(Market):
    """Four homes that trade as they are told, settled without any reading."""

    def __init__(self, trades: list[tuple[int, int, int, int]], first: dict[int, rules.Metered]) -> None:
        super().__init__()
        self.do(c.SetParams(40_000, 1, 1_000_000, 50, 180, 0, 1_000, final_after_min=60))
        self.homes = [self.alice, self.bob, self.charlie, self.dora]
        for seller, buyer, energy_wh, price_e4 in trades:
            self.apply(c.PlaceOrder(self.homes[seller], NOON, "sell", price_e4, energy_wh, "gtg", 0))
            self.apply(c.PlaceOrder(self.homes[buyer], NOON, "buy", price_e4 + 200, energy_wh, "ioc", 0))
        self.tick(contract_start_ms(LATER))
        self.newest: dict[str, int] = {}
        self.rows_of: dict[str, dict[int, Any]] = {}
        tallies = self.engine.contracts[NOON].tallies
        for area in AREAS:
            mine = {i: tally for i, tally in tallies.items() if self.engine.accounts[i].area == area}
            metered = {self.homes[i]: found for i, found in first.items() if self.area(self.homes[i]) == area}
            rows = rules.settle_area(mine, metered, TARIFF)
            self.newest[area] = self.do(c.Settle(NOON, area, rows, ROOT))[0].seq
            self.rows_of[area] = {row.account: row for row in rows}
        assert NOON not in self.engine.contracts

    def area(self, account: int) -> str:
        return self.engine.accounts[account].area

    def correct(self, account: int, metered: rules.Metered) -> None:
        area = self.area(account)
        rows = rules.changes(self.rows_of[area], {account: metered}, TARIFF)
        if rows:
            self.newest[area] = self.do(c.Adjust(NOON, area, self.newest[area], rows, ROOT))[0].seq
            self.rows_of[area] |= {row.row.account: row.row for row in rows}


def money_holds(engine: Engine) -> None:
    assert sum(account.cash_e7 - account.arrears_e7 for account in engine.accounts) == 0
    for account in engine.accounts:
        assert account.arrears_e7 >= 0
        if account.kind == MEMBER:
            assert 0 <= account.held_e7 <= account.cash_e7
        else:
            assert account.arrears_e7 == 0


@settings(deadline=None, max_examples=150)
@given(TRADES, STEPS)
def test_corrections_conserve_money_and_end_where_the_last_readings_say(trades, steps) -> None:
    market = Home(trades, {})
    last: dict[int, rules.Metered] = {}
    paid_in: dict[int, int] = {}
    for kind, home, *values in steps:
        account = market.homes[home]
        before = market.engine.accounts[account]
        owed_e7, cash_e7, held_e7 = before.arrears_e7, before.cash_e7, before.held_e7
        if kind == "reading":
            last[home] = rules.Metered(*values)
            market.correct(account, last[home])
            if before.arrears_e7 > owed_e7:
                assert before.cash_e7 == held_e7, "nothing is owed while money is free"
            if before.arrears_e7 < owed_e7 and before.arrears_e7:
                assert before.cash_e7 == cash_e7, "nothing is paid out while something is owed"
        elif kind == "buy":
            events = market.apply(c.PlaceOrder(account, "2026-06-06T12:45Z", "buy", 100, values[0], "gtg", 0))
            assert not owed_e7 or (isinstance(events[0], Refused) and events[0].code == "in_arrears")
        else:
            amount_e7 = values[0] if values else -before.free_e7
            events = market.apply(c.Fund(account, amount_e7, "test", ""))
            if isinstance(events[0], Refused):
                assert amount_e7 <= 0, events
                assert not amount_e7 or (events[0].code == "in_arrears") == bool(owed_e7), events
            else:
                paid_in[account] = paid_in.get(account, 0) + amount_e7
        assert before.held_e7 == held_e7 or kind == "buy"
        money_holds(market.engine)
    market.assert_replays()
    assert Engine.load(market.engine.dump()).state_hash() == market.engine.state_hash()

    at_once = Home(trades, last)
    assert at_once.rows_of == market.rows_of
    for index in range(4, len(market.engine.accounts)):
        net_e7 = market.engine.accounts[index].net_e7 - paid_in.get(index, 0)
        assert net_e7 == at_once.engine.accounts[index].net_e7, index


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 500), max_size=8), st.integers(0, 4_000), st.randoms())
def test_what_is_short_is_shared_out_whole_and_the_oldest_sales_are_served_first(energies, short_wh, draw) -> None:
    sales = list(enumerate(energies, 100))
    short_wh = min(short_wh, sum(energies))
    shuffled = list(sales)
    draw.shuffle(shuffled)
    found = rules.short_of_sales(shuffled, short_wh)
    assert sum(found.values()) == short_wh
    assert found == rules.short_of_sales(sales, short_wh)
    assert all(0 < found[trade] <= dict(sales)[trade] for trade in found)
    for trade, energy_wh in sales:
        if found.get(trade, 0) < energy_wh:  # served in part: every older one is served whole
            assert not any(older in found for older, _ in sales if older < trade)
