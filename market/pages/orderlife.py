"""The life of an order, step by step, each with the ledger entry that tells of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger import queries as ledger
from market.exchange import queries
from market.exchange.queries import OrderView, TradeView

CHANGES = {"sleep": "hibernated", "wake": "reactivated"}  # of an order, as the steps of its life are called
EXPIRED = "expired"
MAX_LINES = 20  # settlements of one account in one contract: one, and its corrections


class Step(NamedTuple):
    """A step in an order's life. ``price_e4`` is what this order pays or gets."""

    seq: int
    at_ms: int
    kind: str  # placed, traded, clip, amended, hibernated, reactivated, cancelled, ran_out, recall, settled
    energy_wh: int
    price_e4: int
    remaining_wh: int
    contract: str = ""
    other: int = 0  # the other order of a trade, else 0
    account: int = -1  # whose order that is
    reason: str = ""
    recalled_seq: int = 0  # of a trade: the entry that took it back


def life_of(found: OrderView) -> list[Step]:
    """Return all that happened to an order, oldest first: placed, changed, traded, gone, taken back, settled."""
    placed = ledger.entry(found.id)
    total, price_e4 = int(placed["energy_wh"]), int(placed["price_e4"])
    steps = [Step(found.id, found.at_ms, "placed", total, price_e4, total, found.contract)]
    happened: list[tuple[int, Any]] = [
        *((trade.seq, trade) for trade in queries.trades_of_order(found)),
        *((change.seq, change) for change in queries.changes_of_order(found)),
    ]
    filled, recalls, traded_in = 0, [], {found.contract}
    clip = _Clips(found)
    for seq, step in sorted(happened, key=lambda pair: pair[0]):
        left = total - filled
        if isinstance(step, TradeView):
            filled += step.energy_wh
            trade = _traded(found, step, total - filled)
            steps.append(trade)
            traded_in.add(step.contract)
            shown_wh = clip.after(step, total - filled)
            if shown_wh:
                steps.append(trade._replace(kind="clip", energy_wh=shown_wh, other=0, account=-1, recalled_seq=0))
            if step.recalled_seq:
                at_ms = queries.recalled_at(step.seq) or step.at_ms
                recalls.append(trade._replace(seq=step.recalled_seq, at_ms=at_ms, kind="recall", recalled_seq=0))
        elif step.kind == "amend":
            total, price_e4 = step.energy_wh, step.price_e4
            steps.append(Step(seq, step.at_ms, "amended", total, price_e4, total - filled, found.contract))
            clip.amended(seq, total - filled, bool(step.requeued))
        elif step.kind in CHANGES:
            kind = CHANGES[step.kind]
            steps.append(Step(seq, step.at_ms, kind, step.remaining_wh, price_e4, left, found.contract))
            clip.amended(seq, left, True)
        else:
            kind = "ran_out" if step.reason == EXPIRED else "cancelled"
            gone = Step(seq, step.at_ms, kind, step.remaining_wh, price_e4, 0, found.contract, reason=step.reason)
            steps.append(gone)
    return sorted([*steps, *recalls, *_settled(found, traded_in, price_e4, filled)], key=lambda step: step.seq)


def _traded(found: OrderView, trade: TradeView, left_wh: int) -> Step:
    if found.side == "buy":
        price_e4, other, account = trade.buy_e4, trade.sell_order, trade.seller
    else:
        price_e4, other, account = trade.sell_e4, trade.buy_order, trade.buyer
    return Step(
        trade.seq, trade.at_ms, "traded", trade.energy_wh, price_e4, left_wh, trade.contract, other, account,
        recalled_seq=trade.recalled_seq,
    )  # fmt: skip


class _Clips:
    """Follows what an iceberg shows: a clip that is used up while it rests is followed by the next (docs/market-rules.md, 4.9).

    It rests when it is a trade's maker, and as a taker where an edge opened or a halt ended (5.7, 6.2). A taker that has
    just arrived trades all it has, and what is left rests behind its first clip.
    """

    def __init__(self, found: OrderView):
        self._display_wh = found.display_wh
        self._id = found.id
        # The last entry of its arrival: its own, or that of the change that queued it anew. None once it rests.
        self._arriving_at: int | None = found.id
        self._shown_wh = 0  # 0: it has not traded since it came to rest

    def after(self, trade: TradeView, left_wh: int) -> int:
        """Return what it shows anew after a trade, 0 when nothing new."""
        if not self._display_wh or (trade.taker == self._id and self._arrives(trade.seq)):
            return 0
        self._arriving_at = None
        if not self._shown_wh:
            self._shown_wh = min(self._display_wh, left_wh + trade.energy_wh)
        self._shown_wh -= trade.energy_wh
        if self._shown_wh > 0 or left_wh <= 0:
            return 0
        self._shown_wh = min(self._display_wh, left_wh)
        return self._shown_wh

    def _arrives(self, seq: int) -> bool:
        """Whether its trade as a taker is part of its arrival.

        Then nothing lies between but its own trades and orders of its group that stood in its way (5.6). Another trade there
        means that it had come to rest: it can reach nothing more until somebody else's trade opens an edge.
        """
        if self._arriving_at is None or not queries.only_self_trades(self._arriving_at + 1, seq):
            return False
        self._arriving_at = seq
        return True

    def amended(self, seq: int, left_wh: int, requeued: bool) -> None:
        """Follow a change: one that costs its place makes it arrive anew, another takes from what is hidden first."""
        if requeued:
            self._arriving_at, self._shown_wh = seq, 0
        elif self._shown_wh:
            self._shown_wh = min(self._shown_wh, max(0, left_wh))


def _settled(found: OrderView, contracts: set[str], price_e4: int, filled: int) -> list[Step]:
    """Return when what was traded with this order was settled; nothing when nothing was."""
    if not filled:
        return []
    lines = [
        line
        for name in sorted(contracts)
        for line in queries.settlement_lines(account=found.account, contract=name, limit=MAX_LINES)
    ]
    return [Step(line.seq, line.at_ms, "settled", filled, price_e4, 0, line.contract) for line in lines]
