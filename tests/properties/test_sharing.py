"""Whatever is agreed, metered and corrected: nobody gives what it has not, and the end does not depend on the way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from market.engine import commands as c
from market.settlement import rules
from tests.properties.test_adjustments import Home, money_holds
from tests.unit.engine_cast import NOON, OPENING_MS, SPILL_E4, TOPUP_E4

ROOT = "a" * 64
TARIFF = rules.Tariff(TOPUP_E4, SPILL_E4)
HOMES = st.integers(0, 3)
AGREEMENTS = st.lists(st.tuples(HOMES, HOMES, st.sampled_from((0, 500, 2_500))), max_size=6)
TRADES = st.lists(st.tuples(HOMES, HOMES, st.integers(1, 600), st.integers(1, 3_500)), max_size=4)
ENERGY = st.integers(0, 1_500)
READINGS = st.lists(st.tuples(HOMES, ENERGY, ENERGY, st.booleans()), max_size=10)


class Neighbours(Home):
    """Four homes with agreements, which trade and are settled without any reading, or by these."""

    def __init__(self, agreements, trades, first) -> None:  # type: ignore[no-untyped-def]
        self.wanted = agreements
        self.moved: dict[int, int] = {}
        super().__init__(trades, first)

    def order_agreements(self) -> None:
        limits = c.SetParams(40_000, 1, 1_000_000, 50, 180, 0, 1_000, final_after_min=60, sharing_scope=3)
        self.do(limits)
        homes = [self.alice, self.bob, self.charlie, self.dora]
        for giver, receiver, price_e4 in self.wanted:
            if giver != receiver:
                seq = self.do(c.Propose(homes[giver], homes[giver], homes[receiver], price_e4, NOON))[0].seq
                self.do(c.Agree(homes[receiver], seq))

    def tick(self, now_ms: int) -> None:
        if now_ms > OPENING_MS and not self.engine.agreements:
            self.order_agreements()
        super().tick(now_ms)

    def share(self) -> None:
        """Share out what is left over, if that is due."""
        if not self.engine.share_is_due(NOON):
            return
        rows = {account: row for found in self.rows_of.values() for account, row in found.items()}
        shares = rules.shared(self.engine.agreements_of(NOON), rows, self.moved)
        self.do(c.Share(NOON, self.engine.provisional[NOON].shared, shares, ROOT))
        self.moved = {row.agreement: row.energy_wh for row in shares}
        given: dict[int, int] = {}
        taken: dict[int, int] = {}
        for row in shares:
            one = self.engine.agreements[row.agreement]
            assert row.energy_wh >= 0
            given[one.giver] = given.get(one.giver, 0) + row.energy_wh
            taken[one.receiver] = taken.get(one.receiver, 0) + row.energy_wh
            left_wh = row.left_wh - given[one.giver]
            missing_wh = row.missing_wh - taken[one.receiver]
            assert min(left_wh, missing_wh) == 0, "all that can go goes, and no more"


@settings(deadline=None, max_examples=120)
@given(AGREEMENTS, TRADES, READINGS)
def test_sharing_conserves_money_and_does_not_depend_on_the_way(agreements, trades, readings) -> None:
    market = Neighbours(agreements, trades, {})
    market.share()
    last: dict[int, rules.Metered] = {}
    for home, import_wh, export_wh, between in readings:
        last[home] = rules.Metered(import_wh, export_wh, "measured")
        market.correct(market.homes[home], last[home])
        if between:
            market.share()
        money_holds(market.engine)
    market.share()
    money_holds(market.engine)
    market.assert_replays()
    at_once = Neighbours(agreements, trades, last)
    at_once.share()
    assert [a.net_e7 for a in market.engine.accounts] == [a.net_e7 for a in at_once.engine.accounts]
    market.now_ms += 3 * 3_600_000
    market.do(c.Final(NOON))
