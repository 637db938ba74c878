"""Every movement of money or energy as a transfer between two accounts of one asset."""

from __future__ import annotations

from market.engine.events import Funded, Settled, Traded
from market.exchange.models import TRANSFERS_AN_ENTRY

MONEY = "e7"
TRANSFERS_A_TRADE = 3  # at most: cost, energy, margin
BANK, OPERATOR, SUPPLIER, BILLING = 0, 1, 2, 3  # the system accounts, in the order ``Found`` opens them

# id, at_ms, kind, asset, debit, credit, amount, routine: the columns of ``models.Transfer``
Row = tuple[int, int, str, str, int, int, int, int]


# The transfers of trades are made by the database, from the trade rows of the same transaction: three rows for each
# trade need not be written out and read in again. ``of_trade`` says the same of one trade.
FROM_TRADES = """
INSERT INTO exchange_transfer (id, at_ms, kind, asset, debit, credit, amount, routine)
SELECT id * 1048576, at_ms, 'trade', 'e7', buyer, clearing, cost_e7, 1 FROM exchange_trade WHERE id >= %s
UNION ALL
SELECT id * 1048576 + 1, at_ms, 'energy', 'wh:' || contract, seller, buyer, energy_wh, 1
FROM exchange_trade WHERE id >= %s
UNION ALL
SELECT id * 1048576 + 2, at_ms, 'margin', 'e7', seller, clearing, margin_e7, 1
FROM exchange_trade WHERE id >= %s AND margin_e7 > 0
ORDER BY 1
"""
assert str(TRANSFERS_AN_ENTRY) in FROM_TRADES


def of_trade(trade: Traded, clearing: int) -> list[Row]:
    """Return what a trade moves: money into its contract's clearing account, energy from seller to buyer."""
    at_ms, buyer, seller = trade.at_ms, trade.buyer, trade.seller
    first = trade.seq * TRANSFERS_AN_ENTRY
    rows: list[Row] = [
        (first, at_ms, "trade", MONEY, buyer, clearing, trade.cost_e7, 1),
        (first + 1, at_ms, "energy", f"wh:{trade.contract}", seller, buyer, trade.energy_wh, 1),
    ]
    if trade.margin_e7:
        rows.append((first + 2, at_ms, "margin", MONEY, seller, clearing, trade.margin_e7, 1))
    return rows


def of_fund(event: Funded) -> list[Row]:
    """Return what a deposit or a withdrawal moves."""
    debit, credit = (BANK, event.account) if event.amount_e7 > 0 else (event.account, BANK)
    return [(event.seq * TRANSFERS_AN_ENTRY, event.at_ms, "fund", MONEY, debit, credit, abs(event.amount_e7), 0)]


def of_settlement(event: Settled, clearing: int) -> list[Row]:
    """Return what the settlement of an area moves."""
    moves = [
        (kind, debit, credit, amount)
        for row in event.rows
        for kind, debit, credit, amount in (
            ("payout", clearing, row.account, row.payout_e7),
            ("fee", clearing, OPERATOR, row.fee_e7),
            ("short", clearing, SUPPLIER, row.short_e7),
            ("topup", BILLING, SUPPLIER, row.topup_e7),
            ("spill", SUPPLIER, row.account, row.spill_e7),
        )
        if amount
    ]
    first = event.seq * TRANSFERS_AN_ENTRY
    return [
        (id_, event.at_ms, kind, MONEY, debit, credit, amount, 0)
        for id_, (kind, debit, credit, amount) in enumerate(moves, first)
    ]
