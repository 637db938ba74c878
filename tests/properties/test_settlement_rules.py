"""Whatever is traded and metered: settlement moves money and energy, it neither makes nor loses any."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from market.settlement import rules


@dataclass
class Tally:
    bought_wh: int = 0
    sold_wh: int = 0
    cost_e7: int = 0
    proceeds_e7: int = 0
    margin_e7: int = 0
    fee_e7: int = 0


ACCOUNTS = st.integers(0, 5)
TRADES = st.lists(
    # buyer, seller, Wh, price of the seller, fee of the path
    st.tuples(ACCOUNTS, ACCOUNTS, st.integers(1, 10_000), st.integers(1, 100_000), st.integers(0, 1_000)),
    max_size=30,
)
ENERGY = st.one_of(st.just(0), st.integers(0, 20_000))
READINGS = st.dictionaries(ACCOUNTS, st.tuples(ENERGY, ENERGY))
TARIFFS = st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)).map(
    lambda prices: rules.Tariff(topup_e4=max(prices), spill_e4=min(prices))
)


def trade(trades: list[tuple[int, int, int, int, int]], tariff: rules.Tariff) -> tuple[dict[int, Tally], int]:
    """Return the tallies and what clearing holds after the trades (DESIGN section 6)."""
    tallies: dict[int, Tally] = {}
    clearing = 0
    for buyer, seller, wh, sell_e4, fee_e4 in trades:
        if buyer == seller:
            continue
        buys, sells = tallies.setdefault(buyer, Tally()), tallies.setdefault(seller, Tally())
        cost, margin = (sell_e4 + fee_e4) * wh, max(0, tariff.topup_e4 - sell_e4) * wh
        buys.bought_wh += wh
        buys.cost_e7 += cost
        buys.fee_e7 += fee_e4 * wh
        sells.sold_wh += wh
        sells.proceeds_e7 += sell_e4 * wh
        sells.margin_e7 += margin
        clearing += cost + margin
    return tallies, clearing


@given(TRADES, READINGS, TARIFFS)
def test_clearing_ends_at_zero_and_nobody_pays_more_than_the_margin(trades, readings, tariff) -> None:
    tallies, clearing = trade(trades, tariff)
    metered = {account: rules.Metered(*values, "measured") for account, values in readings.items()}
    rows = rules.settle_area(tallies, metered, tariff)
    totals = rules.totals(rows)

    assert clearing == totals.payout_e7 + totals.short_e7 + totals.fee_e7
    for row in rows:
        tally = tallies.get(row.account, Tally())
        assert row.payout_e7 >= 0, "the margin covers what can be short"
        assert row.payout_e7 + row.short_e7 == tally.proceeds_e7 + tally.margin_e7
        assert row.fee_e7 == tally.fee_e7
        assert min(row.short_wh, row.topup_wh, row.spill_wh) >= 0
        assert row.short_wh <= max(0, -row.position_wh)


@given(TRADES, READINGS, TARIFFS)
def test_energy_balances_with_the_supplier(trades, readings, tariff) -> None:
    """What the meters saw is what was traded plus what the supplier gave minus what it took."""
    tallies, _ = trade(trades, tariff)
    metered = {account: rules.Metered(*values, "measured") for account, values in readings.items()}
    rows = rules.settle_area(tallies, metered, tariff)

    assert {row.account for row in rows} == tallies.keys() | readings.keys()
    assert sum(row.position_wh for row in rows) == 0, "all of them traded with each other"
    for row in rows:
        net = row.import_wh - row.export_wh
        assert net == row.position_wh + row.short_wh + row.topup_wh - row.spill_wh
        assert row.spill_wh == 0 or row.short_wh == row.topup_wh == 0
        if row.account not in readings:
            assert (row.quality, row.short_wh, row.topup_wh, row.spill_wh) == ("estimated", 0, 0, 0)


@given(TRADES, READINGS, TARIFFS)
def test_supplier_and_homes_settle_to_zero(trades, readings, tariff) -> None:
    """Double entry over the life of a contract: wallets, operator, supplier and supply bills sum to zero."""
    tallies, clearing = trade(trades, tariff)
    wallets = -clearing  # cost and margin left the wallets
    metered = {account: rules.Metered(*values, "measured") for account, values in readings.items()}
    totals = rules.totals(rules.settle_area(tallies, metered, tariff))
    wallets += totals.payout_e7 + totals.spill_e7
    supplier = totals.short_e7 + totals.topup_e7 - totals.spill_e7
    assert wallets + supplier + totals.fee_e7 - totals.topup_e7 == 0
