"""The kinds of channels and what the hub keeps of each. A new channel is one more line in ``KINDS``.

A state channel is a mapping that changes; what it keeps is its present state and, by key, the seq of the last change,
so that any reader it once served can be brought up to date by one merged delta. A log channel is a run of items; what
it keeps is a ring of the latest ones.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from market.engine import events
from market.exchange.outcomes import Committed
from market.streaming import access, items, protocol, views

if TYPE_CHECKING:
    from market.streaming.sockets import Sub

RING_ITEMS = 1_024  # what a log channel can resume from: a reconnect's worth, not a history
OWN_RING_ITEMS = 256  # one account's
SNAPSHOT_ITEMS = 50  # what a log channel opens with
ITEMS_A_MESSAGE = 250  # at some 150 bytes an item, a message stays below 40 kB
MAX_TOMBSTONES = 512  # keys that are gone, remembered for readers who still have them
NEVER = -1  # seq of a channel nothing has happened in: the ledger's first entry has 0

AREA = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
CONTRACT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}Z"

Args = tuple[str, ...]

# After these any view may look different; after an event with a contract only the views of that contract.
SWEEPING = (events.CapacitySet, events.FeeSet, events.HaltSet, events.ParamsSet, events.AreaSet, events.TariffSet)
TOUCHING = frozenset(
    {
        events.OrderPlaced,
        events.ComplexOrderPlaced,
        events.OrderAmended,
        events.OrderHibernated,
        events.OrderReactivated,
        events.OrderCancelled,
        events.Traded,
        events.TradeRecalled,
        events.ContractOpened,
        events.ContractClosed,
        events.ContractDelivered,
        events.Settled,
        events.Adjusted,
    }
)


@dataclass(frozen=True)
class StateKind:
    """A channel of absolute values. ``contract`` names the contract it depends on; ``None``: on all of them.

    ``own``: there is one such channel for each account, and what it says comes from its meter (``gauges.py``): of the
    engine nothing is asked.
    """

    pattern: re.Pattern[str]
    view: Callable[[Any, Args, Iterable[str] | None], views.View]
    data: Callable[[Args, Mapping[Any, Any]], Any]
    refusal: Callable[[Any, Args], str | None]
    contract: Callable[[Args], str | None]
    own: bool = False


@dataclass(frozen=True)
class LogKind:
    """A channel of items. ``collect`` yields (owner, seq, raw) of a batch; ``item`` makes JSON of a raw item.

    ``own``: there is one such channel for each account; the owner is the account's index. Else the owner is ``None``.
    ``roles``: who may read it; ``None``: everybody.
    """

    pattern: re.Pattern[str]
    collect: Callable[[Committed, Container[Any]], Iterator[tuple[Any, int, Any]]]
    item: Callable[[Any], items.Item]
    own: bool
    ring: int
    roles: frozenset[str] | None = None


def _trades(committed: Committed, owners: Container[Any]) -> Iterator[tuple[Any, int, Any]]:
    for event in committed.events:
        if type(event) is events.Traded or type(event) is events.TradeRecalled:
            yield None, event.seq, event


def _alerts(committed: Committed, owners: Container[Any]) -> Iterator[tuple[Any, int, Any]]:
    for alert in committed.alerts:
        yield None, alert.seq, alert


def _blocks(committed: Committed, owners: Container[Any]) -> Iterator[tuple[Any, int, Any]]:
    if committed.sealed is not None:
        item = items.block_item(committed.sealed)
        yield None, item["seq"], item


def _me(committed: Committed, owners: Container[Any]) -> Iterator[tuple[Any, int, Any]]:
    for event in committed.events:
        for account, item in items.own_items(event, owners):
            yield account, item["seq"], item


def _as_it_is(raw: Any) -> items.Item:
    return raw  # type: ignore[no-any-return]


def _kind_pattern(*parts: str) -> re.Pattern[str]:
    return re.compile(":".join(f"({part})" if index else part for index, part in enumerate(parts)), re.ASCII)


KINDS: dict[str, StateKind | LogKind] = {
    "book": StateKind(
        pattern=_kind_pattern("book", AREA, CONTRACT),
        view=views.book_view,
        data=views.book_data,
        refusal=views.book_refusal,
        contract=lambda args: args[1],
    ),
    "ticker": StateKind(
        pattern=_kind_pattern("ticker", AREA),
        view=views.ticker_view,
        data=views.ticker_data,
        refusal=views.ticker_refusal,
        contract=lambda args: None,
    ),
    "flow": StateKind(
        pattern=_kind_pattern("flow", "me"),
        view=lambda engine, args, touched: ({}, ()),
        data=views.flow_data,
        refusal=lambda engine, args: None,
        contract=lambda args: None,
        own=True,
    ),
    "trades": LogKind(_kind_pattern("trades"), _trades, items.trade_item, own=False, ring=RING_ITEMS),
    "blocks": LogKind(_kind_pattern("blocks"), _blocks, _as_it_is, own=False, ring=RING_ITEMS),
    "alerts": LogKind(
        _kind_pattern("alerts"), _alerts, items.alert_item, own=False, ring=RING_ITEMS, roles=access.OFFICIAL_ROLES
    ),
    "me": LogKind(_kind_pattern("me"), _me, _as_it_is, own=True, ring=OWN_RING_ITEMS),
}


def touched(committed: Committed) -> set[str] | None:
    """Return the contracts whose views the batch may have changed; ``None``: any view's."""
    if any(isinstance(event, SWEEPING) for event in committed.events):
        return None
    return {getattr(event, "contract") for event in committed.events if type(event) in TOUCHING}  # noqa: B009


def find(name: str) -> tuple[StateKind | LogKind, Args]:
    """Return the kind and arguments of a channel's name; raise ``BadMessage`` when there is no such channel."""
    kind = KINDS.get(name.partition(":")[0])
    match = kind.pattern.fullmatch(name) if kind else None
    if kind is None or match is None:
        raise protocol.BadMessage("unknown_channel", name)
    return kind, match.groups()


class StateChannel:
    """The present state of a channel, and when each key last changed."""

    __slots__ = (
        "_cached", "args", "audience", "awaiting", "changed", "floor", "kind", "name", "ready", "seq", "state", "subs",
    )  # fmt: skip

    def __init__(self, kind: StateKind, name: str, args: Args):
        self.kind = kind
        self.name = name
        self.args = args
        self.subs: dict[Sub, None] = {}
        self.awaiting: list[Sub] = []  # those of the subs who have not had their first message
        self.ready = False  # the state is that of ``seq``, and what changes is followed
        self.audience: frozenset[str] | None = None  # areas whose members may read it; None: everybody
        self.seq = NEVER  # of the last change
        self.floor = NEVER  # readers older than this need a snapshot
        self.state: dict[Any, Any] = {}
        self.changed: dict[Any, int] = {}
        self._cached: tuple[int, bytes] | None = None

    def update(self, view: views.View, seq: int) -> dict[Any, Any]:
        """Take the view of ``seq`` and return what it changes; without a change the channel keeps its seq."""
        values, scope = view
        if self.seq == NEVER:
            self.seq = self.floor = seq
            self.state = dict(values)
            return {}
        changes = protocol.diff(self.state, values, scope)
        if changes:
            assert seq > self.seq, "one seq is one state"
            protocol.apply(self.state, changes)
            for key in changes:
                self.changed.pop(key, None)
                self.changed[key] = seq  # moved to the end: the mapping is in the order of seq
            self.seq = seq
            self._forget()
        return changes

    def _forget(self) -> None:
        """Keep a bounded number of keys that are gone; readers from before the forgotten ones get a snapshot."""
        surplus = len(self.changed) - len(self.state) - MAX_TOMBSTONES
        if surplus <= 0:
            return
        gone = [key for key in self.changed if key not in self.state]
        for key in gone[: len(gone) // 2 + 1]:
            self.floor = max(self.floor, self.changed.pop(key))

    def since(self, seq: int) -> dict[Any, Any] | None:
        """Return what changed after ``seq``, merged; ``None`` when that is not known any more."""
        if not self.floor <= seq <= self.seq:
            return None
        changes = {}
        for key in reversed(self.changed):
            if self.changed[key] <= seq:
                break
            changes[key] = self.state.get(key)
        return changes

    def snapshot(self) -> bytes:
        """Return the snapshot message; made once for all who come before the next change."""
        if self._cached is None or self._cached[0] != self.seq:
            data = self.kind.data(self.args, self.state)
            self._cached = self.seq, protocol.snapshot(self.name, self.seq, data)
        return self._cached[1]

    def delta(self, prev: int, changes: dict[Any, Any]) -> bytes:
        """Return the message that leads from ``prev`` to now."""
        return protocol.delta(self.name, prev, self.seq, self.kind.data(self.args, changes))

    def first_message(self, resume: int | None, same_epoch: bool) -> bytes:
        """Return what a new reader gets: what it missed if that is known, else everything."""
        changes = self.since(resume) if same_epoch and resume is not None else None
        if changes is None or resume is None:
            return self.snapshot()
        start = protocol.resumed(self.name, resume)
        return start + self.delta(resume, changes) if changes else start

    def catch_up(self, seq: int) -> bytes:
        """Return what leads a slow reader from ``seq`` to now."""
        changes = self.since(seq)
        return self.snapshot() if changes is None else self.delta(seq, changes)


class LogChannel:
    """The latest items of a channel."""

    __slots__ = ("_cached", "floor", "kind", "name", "owner", "pending", "ring", "seq", "subs")

    def __init__(self, kind: LogKind, name: str, owner: int | None, seq: int):
        self.kind = kind
        self.name = name
        self.owner = owner
        self.subs: dict[Sub, None] = {}
        self.seq = seq  # of the newest item that was sent, or of the ledger when the channel began
        self.floor = seq  # the ring holds every item after this
        self.ring: deque[tuple[int, Any]] = deque()
        self.pending: list[tuple[int, Any]] = []
        self._cached: tuple[int, bytes] | None = None

    def add(self, seq: int, raw: Any) -> bool:
        """Take an item for the next flush and return True; one from before the channel began is not news."""
        news = seq > (self.pending[-1][0] if self.pending else self.seq)
        if news:
            self.pending.append((seq, raw))
        return news

    def has(self, raw: Any) -> bool:
        """Return whether an equal item is among the latest or waits for the next flush."""
        return any(raw == known for _, known in (*self.ring, *self.pending))

    def begin_with(self, newest: list[tuple[int, Any]]) -> None:
        """Open with the newest items of before, oldest first; what is newer than the channel will still be announced."""
        assert not self.ring, "a channel begins once"
        known = [entry for entry in newest if entry[0] <= self.seq][-self.kind.ring :]
        self.ring.extend(known)
        if known:
            self.floor = known[0][0] - 1

    def flush(self) -> bytes:
        """Move what waits into the ring and return it as messages."""
        news, self.pending = self.pending, []
        prev = self.seq
        self.ring.extend(news)
        self.seq = news[-1][0]
        while len(self.ring) > self.kind.ring:
            self.floor = self.ring.popleft()[0]
        return self._messages(prev, news) if self.subs else b""

    def _messages(self, prev: int, news: list[tuple[int, Any]]) -> bytes:
        messages = []
        for start in range(0, len(news), ITEMS_A_MESSAGE):
            part = news[start : start + ITEMS_A_MESSAGE]
            data = {"items": [self.kind.item(raw) for _, raw in part]}
            messages.append(protocol.delta(self.name, prev, part[-1][0], data))
            prev = part[-1][0]
        return b"".join(messages)

    def lose(self, seq: int) -> None:
        """Forget everything up to ``seq``: items are missing."""
        self.pending.clear()
        self.ring.clear()
        self.seq = self.floor = max(seq, self.seq)

    def snapshot(self) -> bytes:
        """Return the latest items; made once for all who come before the next one."""
        if self._cached is None or self._cached[0] != self.seq:
            latest = list(self.ring)[-SNAPSHOT_ITEMS:]
            data = {"items": [self.kind.item(raw) for _, raw in latest]}
            self._cached = self.seq, protocol.snapshot(self.name, self.seq, data)
        return self._cached[1]

    def first_message(self, resume: int | None, same_epoch: bool) -> bytes:
        """Return what a new reader gets: the latest items, or what it missed, or that it must ask REST for that."""
        if resume is None:
            return self.snapshot()
        if not same_epoch:
            return protocol.resync(self.name, self.seq, "epoch")
        if not self.floor <= resume <= self.seq:
            return protocol.resync(self.name, self.seq, "gone")
        missed = [entry for entry in self.ring if entry[0] > resume]
        return protocol.resumed(self.name, resume) + self._messages(resume, missed)


Channel = StateChannel | LogChannel
