"""Every movement of money or energy as a transfer between two accounts of one asset."""

from __future__ import annotations

from collections.abc import Mapping

from market.engine.events import Event, Funded, Settled, Traded
from market.exchange.models import TRANSFERS_AN_ENTRY

MONEY = "e7"
TRANSFERS_A_TRADE = 3  # at most: cost, energy, margin
BANK, OPERATOR, SUPPLIER, BILLING = 0, 1, 2, 3  # the system accounts, in the order ``Found`` opens them

# id, at_ms, kind, asset, debit, credit, amount, routine: the columns of ``models.Transfer``
Row = tuple[int, int, str, str, int, int, int, int]


def energy_asset(contract: str) -> str:
    """Return the asset of a contract's energy, in Wh."""
    return f"wh:{contract}"


def transfers(event: Event, clearing: Mapping[str, int]) -> list[Row]:
    """Return what an event moves. ``clearing`` is the clearing account by contract."""
    kind = type(event)
    if kind is Traded:
        return of_trade(event, clearing[event.contract])  # type: ignore[arg-type, union-attr]
    if kind is Funded:
        return _of_fund(event)  # type: ignore[arg-type]
    if kind is Settled:
        return _of_settlement(event, clearing[event.contract])  # type: ignore[arg-type, union-attr]
    return []


def of_trade(trade: Traded, pool: int) -> list[Row]:
    """Return the transfers of a trade: money into the clearing account ``pool``, energy from seller to buyer."""
    at_ms, buyer, seller = trade.at_ms, trade.buyer, trade.seller
    first = trade.seq * TRANSFERS_AN_ENTRY
    rows: list[Row] = [
        (first, at_ms, "trade", MONEY, buyer, pool, trade.cost_e7, 1),
        (first + 1, at_ms, "energy", "wh:" + trade.contract, seller, buyer, trade.energy_wh, 1),
    ]
    if trade.margin_e7:
        rows.append((first + 2, at_ms, "margin", MONEY, seller, pool, trade.margin_e7, 1))
    return rows


def _of_fund(event: Funded) -> list[Row]:
    debit, credit = (BANK, event.account) if event.amount_e7 > 0 else (event.account, BANK)
    return [(event.seq * TRANSFERS_AN_ENTRY, event.at_ms, "fund", MONEY, debit, credit, abs(event.amount_e7), 0)]


def _of_settlement(event: Settled, pool: int) -> list[Row]:
    moves = [
        (kind, debit, credit, amount)
        for row in event.rows
        for kind, debit, credit, amount in (
            ("payout", pool, row.account, row.payout_e7),
            ("fee", pool, OPERATOR, row.fee_e7),
            ("short", pool, SUPPLIER, row.short_e7),
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
