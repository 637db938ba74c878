"""How a household's trades go on: agreed, delivered, paid. The end of the story is money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from market.exchange.views import LineView, TradeView

AGREED, RUNNING, DELIVERED, PAID = "agreed", "running", "delivered", "paid"
SHOWN = 8  # intervals in the list
SOONEST = 4  # of those still to be delivered: who has sold half a day sees what comes next and what was paid


class Sale(NamedTuple):
    """One interval in which a home sold or bought."""

    contract: str
    start_ms: int
    sold: bool
    energy_wh: int
    amount_e7: int
    state: str
    seq: int  # the ledger entry to show: of the settlement when it is paid, else of the latest trade
    short_wh: int = 0  # sold and not delivered
    short_e7: int = 0

    @property
    def paid_e7(self) -> int:
        """What came of it in the end."""
        return self.amount_e7 - self.short_e7 if self.sold else self.amount_e7


def story(
    trades: Iterable[TradeView],
    settled: Mapping[str, LineView],
    *,
    account: int,
    start_of: Mapping[str, int],
    interval_ms: int,
    now_ms: int,
) -> list[Sale]:
    """Return the intervals of an account's trades, the latest delivery first; trades taken back are left out.

    ``start_of`` knows the start (ms) of each contract among the trades.
    """
    found: dict[tuple[str, bool], list[TradeView]] = {}
    for trade in trades:
        if not trade.recalled_seq:
            found.setdefault((trade.contract, trade.seller == account), []).append(trade)
    sales = []
    for (contract, sold), own in found.items():
        start_ms, line = start_of[contract], settled.get(contract)
        if line is not None:
            state = PAID
        elif now_ms >= start_ms + interval_ms:
            state = DELIVERED
        else:
            state = RUNNING if now_ms >= start_ms else AGREED
        sales.append(
            Sale(
                contract=contract,
                start_ms=start_ms,
                sold=sold,
                energy_wh=sum(trade.energy_wh for trade in own),
                amount_e7=sum(trade.energy_wh * (trade.sell_e4 if sold else trade.buy_e4) for trade in own),
                state=state,
                seq=max(trade.seq for trade in own) if line is None else line.seq,
                short_wh=line.short_wh if line is not None and sold else 0,
                short_e7=line.short_e7 if line is not None and sold else 0,
            )
        )
    return sorted(sales, key=lambda sale: (sale.start_ms, sale.sold), reverse=True)


def shown(sales: Sequence[Sale]) -> list[Sale]:
    """Return those of a ``story`` that are worth a line: what is delivered next, then what was delivered latest."""
    agreed = [sale for sale in sales if sale.state == AGREED]
    rest = [sale for sale in sales if sale.state != AGREED]
    room = max(SOONEST, SHOWN - len(rest))
    coming = agreed[-room:]
    return [*coming, *rest[: SHOWN - len(coming)]]


def newest_paid(sales: Iterable[Sale]) -> Sale | None:
    """Return the latest sale whose money has arrived, or the latest purchase when nothing was sold."""
    paid = [sale for sale in sales if sale.state == PAID]
    return next((sale for sale in paid if sale.sold), paid[0] if paid else None)
