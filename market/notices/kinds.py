"""What people are told about. A notice is plain numbers; ``words`` says it in a language. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

SOLD: Final = "sold"
BOUGHT: Final = "bought"
MONEY: Final = "money"
ORDER: Final = "order"
CORRECTION: Final = "correction"
OBJECTION: Final = "objection"
CONNECTION: Final = "connection"
KINDS: Final = (SOLD, BOUGHT, MONEY, ORDER, CORRECTION, OBJECTION, CONNECTION)

OWN_REASONS: Final = frozenset({"owner", "ioc"})  # of a cancellation: the person's own will, no news
RAN_OUT: Final = frozenset({"gate", "expired"})

LINKS: Final = {
    SOLD: "/home", BOUGHT: "/home", MONEY: "/statement", ORDER: "/trade", CORRECTION: "/statement",
    OBJECTION: "/disputes", CONNECTION: "/account",
}  # fmt: skip


class Notice(NamedTuple):
    """Something that happened to one account, or several alike things of one interval.

    ``what`` tells variants of a kind apart, see ``words``. ``seq`` is the newest ledger entry, 0 where there is none.
    """

    kind: str
    what: str
    at_ms: int
    seq: int
    contract: str = ""
    energy_wh: int = 0
    amount_e7: int = 0
    count: int = 1

    @property
    def id(self) -> str:
        """A name that stays as long as nothing is added to it."""
        return f"{self.kind}-{self.what}-{self.at_ms}-{self.seq}"

    @property
    def mark(self) -> str:
        """The place in the list."""
        return f"{self.at_ms}.{self.seq}"

    @property
    def place(self) -> tuple[int, int]:
        """Order by it."""
        return self.at_ms, self.seq


def cancelled(reason: str) -> str:
    """Return what became of an order that was cancelled for a reason; "" when that is no news."""
    if reason in OWN_REASONS:
        return ""
    return "expired" if reason in RAN_OUT else "self_trade" if reason == "self_trade" else "taken_back"


def utc_day(contract: str) -> str:
    """Return the day in which an interval starts."""
    return contract[:10]


def together(notices: list[Notice], day: Callable[[str], str] = utc_day) -> list[Notice]:
    """Return the notices, newest first, with those of one kind and interval added up; what was settled, of one day.

    Money arrives every quarter of an hour: a list of that would have nothing else in it.
    """
    found: dict[tuple[str, str, str], Notice] = {}
    rest = []
    for notice in notices:
        if not notice.contract:
            rest.append(notice)
            continue
        key = notice.kind, notice.what, day(notice.contract) if notice.kind == MONEY else notice.contract
        before = found.get(key)
        if before is None:
            found[key] = notice
            continue
        newest = max(before, notice, key=lambda one: one.place)
        found[key] = newest._replace(
            energy_wh=before.energy_wh + notice.energy_wh,
            amount_e7=before.amount_e7 + notice.amount_e7,
            count=before.count + notice.count,
        )
    return sorted([*found.values(), *rest], key=lambda one: one.place, reverse=True)


def mark_of(text: str) -> tuple[int, int]:
    """Return the place a ``mark`` names; raise ``ValueError``."""
    at, dot, seq = text.partition(".")
    if not (dot and at.isascii() and at.isdigit() and seq.isascii() and seq.isdigit()) or len(text) > 40:
        raise ValueError("expected a mark of a notification")
    place = int(at), int(seq)
    if max(place) >= 2**53:
        raise ValueError("expected a mark of a notification")
    return place
