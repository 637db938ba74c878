"""Which rows an event becomes: what the journal writes, and what a check of the books expects to be there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from market.engine import events as ev
from market.engine.commands import SignedOrder
from market.engine.entries import signed_fields
from market.engine.events import Event, OrderCancelled, OrderPlaced, Traded
from market.exchange.transfers import of_adjustment, of_fund, of_recall, of_settlement, of_sharing

ORDER_COLUMNS = len(OrderPlaced._fields)  # a complex order's first fields are a plain one's
SETTLED = "settled"
_ANSWERS = {ev.AgreementAccepted: "accepted", ev.AgreementRevoked: "revoked"}


class Writes(Protocol):
    """Makes leaves of events; ``leaves.Leaves`` for the ledger."""

    def order(self, event: OrderPlaced) -> bytes:
        """Return the leaf of a plain order."""

    def trade(self, event: Traded) -> bytes:
        """Return the leaf of a trade."""

    def cancel(self, event: OrderCancelled) -> bytes:
        """Return the leaf of a cancellation."""

    def leaf(self, event: Any, extra: dict[str, Any] | None = None) -> bytes:
        """Return the leaf of any event; ``extra`` holds fields beside the event's."""


class Recorder:
    """Collects rows of events; the columns are those of ``models``, in their order."""

    def __init__(self, append: Callable[[bytes], None], leaves: Writes, clearing: dict[str, int]):
        self._append = append
        self._leaves = leaves
        self.clearing = clearing  # clearing accounts of contracts that are not settled
        self.netting = 0  # in permille, after what was recorded so far; whoever wants its alarms says where it begins
        self.clear_rows()

    def clear_rows(self) -> None:
        """Begin with nothing again."""
        self.orders: list[Any] = []
        self.signed: dict[int, dict[str, str]] = {}  # by the sequence of a signed order's entry
        self.details: list[Any] = []
        self.recalls: list[Any] = []
        self.alarming: list[Event] = []
        self.trades: list[Any] = []
        self.changes: list[Any] = []
        self.transfers: list[Any] = []
        self.opened: list[int] = []
        self.new_contracts: list[Any] = []
        self.contract_states: dict[str, tuple[str, int]] = {}
        self.lines: list[Any] = []
        self.adjustments: list[Any] = []
        self.finals: list[Any] = []
        self.agreements: list[Any] = []
        self.shared: list[Any] = []

    def forget_settled(self) -> None:
        """Forget the clearing accounts of contracts that are settled by now."""
        for name, (state, _) in self.contract_states.items():
            if state == SETTLED:
                self.clearing.pop(name, None)

    def record(self, events: Iterable[Event]) -> None:
        """Turn events into leaves and rows."""
        append, leaves, clearing = self._append, self._leaves, self.clearing
        order_leaf, trade_leaf, signed = leaves.order, leaves.trade, self.signed
        if signed:
            order_leaf = self._order_leaf
        for event in events:
            kind = type(event)
            if kind is OrderPlaced:
                append(order_leaf(event))
                self.orders.append(event)
            elif kind is Traded:
                append(trade_leaf(event))
                self.trades.append((*event, clearing[event[2]]))
            elif kind is OrderCancelled:
                append(leaves.cancel(event))
                seq, at_ms, order, account, contract, remaining_wh, reason = event
                self.changes.append((seq, at_ms, "cancel", order, account, contract, 0, 0, remaining_wh, 0, reason))
            else:
                append(leaves.leaf(event, signed.get(event.seq)))
                self._record_rare(event)

    def _order_leaf(self, event: OrderPlaced) -> bytes:
        extra = self.signed.get(event.seq)
        return self._leaves.order(event) if extra is None else self._leaves.leaf(event, extra)

    def keep_signature(self, seq: int, command: SignedOrder) -> None:
        """Have the order's entry ``seq``, which is recorded next, carry its owner's signature."""
        self.signed[seq] = signed_fields(command)

    def _record_rare(self, event: Any) -> None:
        kind = type(event)
        if kind is ev.OrderAmended:
            seq, at_ms, order, account, contract, price_e4, energy_wh, requeued = event
            self.changes.append((seq, at_ms, "amend", order, account, contract, price_e4, energy_wh, 0, requeued, ""))
        elif kind is ev.ComplexOrderPlaced:
            self.orders.append(event[:ORDER_COLUMNS])
            self.details.append((event.seq, *event[ORDER_COLUMNS:]))
        elif kind is ev.OrderHibernated or kind is ev.OrderReactivated:
            seq, at_ms, order, account, contract, remaining_wh = event
            name = "sleep" if kind is ev.OrderHibernated else "wake"
            self.changes.append((seq, at_ms, name, order, account, contract, 0, 0, remaining_wh, 0, ""))
        elif kind is ev.TradeRecalled:
            self.recalls.append((event.trade, event.seq, event.at_ms, *event[3:-1]))  # words: the entry's)
            self.transfers += of_recall(event, self.clearing[event.contract])
            self.alarming.append(event)
        elif kind is ev.CapacitySet or kind is ev.HaltSet:
            self.alarming.append(event)
        elif kind is ev.ParamsSet:
            if event.netting_permille < self.netting:
                self.alarming.append(event)
            self.netting = event.netting_permille
        elif kind is ev.AccountOpened:
            self.opened.append(event.account)
        elif kind is ev.ContractOpened:
            self.clearing[event.contract] = event.account
            seq = event.seq
            self.opened.append(event.account)
            self.new_contracts.append(
                (event.contract, "open", event.account, event.topup_e4, event.spill_e4, seq, event.at_ms, seq)
            )
        elif kind is ev.ContractClosed:
            self.contract_states[event.contract] = ("closed", event.seq)
        elif kind is ev.ContractDelivered:
            self.contract_states[event.contract] = ("delivered", event.seq)
        elif kind is ev.Settled:
            self.transfers += of_settlement(event, self.clearing[event.contract])
            self.lines += [
                (event.seq, row.account, event.at_ms, event.contract, event.area, *row[1:]) for row in event.rows
            ]
            if event.complete:
                self.contract_states[event.contract] = ("settled", event.seq)
        elif kind is ev.Adjusted:
            self.transfers += of_adjustment(event)
            seq, at_ms, contract, area, corrects = event[:5]
            self.adjustments += [
                (seq, row.account, n, at_ms, contract, area, corrects, *row[1:], *was[1:])
                for n, (row, was) in enumerate(event.rows)
            ]
        elif kind is ev.Finalized:
            self.finals.append(event)
        elif kind is ev.Shared:
            self.transfers += of_sharing(event)
            self.shared += [
                (event.seq, row.agreement, n, event.at_ms, event.contract, *parties, *row[1:])
                for n, (row, parties) in enumerate(zip(event.rows, event.parties, strict=True))
            ]
        elif kind is ev.AgreementProposed:
            self.agreements.append((event.seq, event.at_ms, event.seq, "proposed", *event[2:]))
        elif kind in _ANSWERS:
            seq, at_ms, agreement, *parties = event
            self.agreements.append((seq, at_ms, agreement, _ANSWERS[kind], *parties, 0, 0, ""))
        elif kind is ev.Funded:
            self.transfers += of_fund(event)
