"""Every movement of money or energy as a transfer between two accounts of one asset."""

from __future__ import annotations

from market.engine.events import Adjusted, Funded, Settled, Shared, TradeRecalled
from market.exchange.models import TRANSFERS_AN_ENTRY
from market.exchange.views import TransferView

MONEY = "e7"
BANK, OPERATOR, SUPPLIER, BILLING = 0, 1, 2, 3  # the system accounts, in the order ``Found`` opens them

# id, at_ms, kind, debit, credit, amount: the columns of ``models.Transfer``
Row = tuple[int, int, str, int, int, int]


def of_trade(
    *, seq: int, at_ms: int, contract: str, energy_wh: int, buyer: int, seller: int, cost_e7: int, margin_e7: int,
    clearing: int,
) -> list[TransferView]:  # fmt: skip
    """Return what a trade moves: money into its contract's clearing account, energy from seller to buyer."""
    moves = [
        TransferView(seq, 0, at_ms, "trade", MONEY, buyer, clearing, cost_e7),
        TransferView(seq, 1, at_ms, "energy", f"wh:{contract}", seller, buyer, energy_wh),
    ]
    if margin_e7:
        moves.append(TransferView(seq, 2, at_ms, "margin", MONEY, seller, clearing, margin_e7))
    return moves


def of_recall(event: TradeRecalled, clearing: int) -> list[Row]:
    """Return what money goes back when a trade is taken back; ``energy_of_recall`` is the energy."""
    first = event.seq * TRANSFERS_AN_ENTRY
    moves = [(first, event.at_ms, "recall", clearing, event.buyer, event.cost_e7)]
    if event.margin_e7:
        moves.append((first + 2, event.at_ms, "recall", clearing, event.seller, event.margin_e7))
    return moves


def energy_of_recall(
    *, seq: int, at_ms: int, contract: str, energy_wh: int, buyer: int, seller: int
) -> TransferView:  # fmt: skip
    """Return the energy that goes back from a buyer to a seller."""
    return TransferView(seq, 1, at_ms, "recall", f"wh:{contract}", buyer, seller, energy_wh)


def of_fund(event: Funded) -> list[Row]:
    """Return what a deposit or a withdrawal moves."""
    debit, credit = (BANK, event.account) if event.amount_e7 > 0 else (event.account, BANK)
    return [(event.seq * TRANSFERS_AN_ENTRY, event.at_ms, "fund", debit, credit, abs(event.amount_e7))]


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
    return [(id_, event.at_ms, *move) for id_, move in enumerate(moves, first)]


def of_adjustment(event: Adjusted) -> list[Row]:
    """Return what a correction moves: the differences, in the direction they have.

    What an account cannot pay it owes: a transfer changes what an account has less what it owes (``Account.net_e7``).
    """
    moves = [
        (kind, debit, credit, amount) if amount > 0 else (kind, credit, debit, -amount)
        for row, was in event.rows
        for kind, debit, credit, amount in (
            ("short", row.account, SUPPLIER, row.short_e7 - was.short_e7),
            ("topup", BILLING, SUPPLIER, row.topup_e7 - was.topup_e7),
            ("spill", SUPPLIER, row.account, row.spill_e7 - was.spill_e7),
        )
        if amount
    ]
    first = event.seq * TRANSFERS_AN_ENTRY
    return [(id_, event.at_ms, *move) for id_, move in enumerate(moves, first)]


def of_sharing(event: Shared) -> list[Row]:
    """Return what agreements move: the supplier's part is undone, and the receivers' supply bills pay givers and grid.

    One of a kind for each account, however many agreements it has: statements count on few lines an entry.
    """
    sums: dict[tuple[str, int, int], int] = {}
    for row, (giver, _, price_e4, fee_e4) in zip(event.rows, event.parties, strict=True):
        more_wh = row.energy_wh - row.was_wh
        for move, price in (
            (("spill", giver, SUPPLIER), event.spill_e4),
            (("topup", SUPPLIER, BILLING), event.topup_e4),
            (("shared", BILLING, giver), price_e4),
            (("fee", BILLING, OPERATOR), fee_e4),
        ):
            sums[move] = sums.get(move, 0) + price * more_wh
    moves = [
        (kind, debit, credit, amount) if amount > 0 else (kind, credit, debit, -amount)
        for (kind, debit, credit), amount in sums.items()
        if amount
    ]
    first = event.seq * TRANSFERS_AN_ENTRY
    return [(id_, event.at_ms, *move) for id_, move in enumerate(moves, first)]
