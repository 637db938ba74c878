"""What happened to a person lately, read from what the market keeps anyway: a notification costs trading nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from django.db.models import Q

from market.disputes.models import Step
from market.disputes.operations import ANSWERED
from market.exchange import queries as exchange
from market.exchange.figures import figures as cache
from market.exchange.models import TRANSFERS_AN_ENTRY, Adjustment, OrderChange, Recall, SettlementLine, Transfer
from market.grid.models import Decision
from market.households import queries as households
from market.households.models import User
from market.notices import kinds, words
from market.notices.kinds import Notice
from market.notices.models import ReadMark
from market.settlement.statement_queries import numbers_of

MAX_LIST: Final = 50  # notifications; older ones are in the statement
MAX_ROWS: Final = 200  # of one source: several trades make one notification
UNREAD_KEPT_S: Final = 10  # how old the number at the bell may be on a page


class Told(NamedTuple):
    """The newest notices of a person, newest first, and how many of them are new."""

    notices: list[Notice]
    unread: int
    read: tuple[int, int]

    def is_read(self, notice: Notice) -> bool:
        """Whether the person has seen it."""
        return notice.place <= self.read


def told(user: User, limit: int = MAX_LIST) -> Told:
    """Return the newest notices of a person; none for people without an account."""
    mark = ReadMark.objects.filter(user=user).values_list("at_ms", "seq").first() or (-1, -1)
    account = households.account_of(user)
    if account is None:
        return Told([], 0, mark)
    found: list[Notice] = []
    for index in numbers_of(user, account.index):
        for source in (_trades, _recalls, _settled, _funds, _orders, _adjusted, _answers):
            found += source(index)
    found += _connection(account.index, account.area)
    newest = kinds.together(found, _day)[:MAX_LIST]
    return Told(newest[:limit], sum(notice.place > mark for notice in newest), mark)


def unread(user: User) -> int:
    """Return how many notices are new, as of the last seconds: for the bell of every page."""
    return int(cache.get_or_set(unread_key(user.pk), lambda: told(user).unread, UNREAD_KEPT_S) or 0)


def unread_key(user_id: int) -> str:
    """Return the name under which a person's number is kept for a moment."""
    return f"notices.unread.{user_id}"


def _day(contract: str) -> str:
    return words.start_of(contract).date().isoformat()


# --- sources: each newest first and bounded ------------------------------------------------------------------------------
def _trades(account: int) -> Iterator[Notice]:
    for row in exchange.trades(account=account, limit=MAX_ROWS, newest_first=True):
        if row.recalled_seq:
            continue
        if row.seller == account:
            amount_e7 = row.sell_e4 * row.energy_wh
            yield Notice(kinds.SOLD, "", row.at_ms, row.seq, row.contract, row.energy_wh, amount_e7)
        if row.buyer == account:
            amount_e7 = row.buy_e4 * row.energy_wh
            yield Notice(kinds.BOUGHT, "", row.at_ms, row.seq, row.contract, row.energy_wh, amount_e7)


def _recalls(account: int) -> Iterator[Notice]:
    for row in Recall.objects.filter(Q(buyer=account) | Q(seller=account)).order_by("-seq")[:MAX_LIST]:
        yield Notice(kinds.CORRECTION, "recall", row.at_ms, row.seq, row.contract, row.energy_wh)


def _settled(account: int) -> Iterator[Notice]:
    rows = list(SettlementLine.objects.filter(account=account).order_by("-seq")[:MAX_ROWS])
    # A day that may have more lines than were read would show too small a sum.
    cut = _day(min(row.contract for row in rows)) if len(rows) == MAX_ROWS else ""
    for row in rows:
        if _day(row.contract) == cut:
            continue
        amount_e7 = row.payout_e7 + row.spill_e7  # what was not delivered is already taken off the payout
        if amount_e7 > 0:
            sold_wh = max(0, -row.position_wh)
            yield Notice(kinds.MONEY, "settled", row.at_ms, row.seq, row.contract, sold_wh, amount_e7)


def _funds(account: int) -> Iterator[Notice]:
    moved = households.renewal_entries(account)
    for side, what in (("credit", "deposit"), ("debit", "payout")):
        rows = Transfer.objects.filter(**{side: account}, kind="fund").order_by("-id")[:MAX_LIST]
        for row in rows:
            if (seq := row.id // TRANSFERS_AN_ENTRY) not in moved:
                yield Notice(kinds.MONEY, what, row.at_ms, seq, "", 0, row.amount)


def _orders(account: int) -> Iterator[Notice]:
    rows = OrderChange.objects.filter(account=account, kind="cancel").exclude(reason__in=kinds.OWN_REASONS)
    for row in rows.order_by("-seq")[:MAX_ROWS]:
        yield Notice(kinds.ORDER, kinds.cancelled(row.reason), row.at_ms, row.seq, row.contract, row.remaining_wh)


def _adjusted(account: int) -> Iterator[Notice]:
    for row in Adjustment.objects.filter(account=account).order_by("-seq")[:MAX_LIST]:
        amount_e7 = (row.spill_e7 - row.short_e7 - row.topup_e7) - (
            row.was_spill_e7 - row.was_short_e7 - row.was_topup_e7
        )
        yield Notice(kinds.CORRECTION, "settled", row.at_ms, row.seq, row.contract, 0, amount_e7)


def _answers(account: int) -> Iterator[Notice]:
    rows = Step.objects.filter(dispute__account__index=account, after__in=ANSWERED).select_related("dispute")
    for row in rows.order_by("-at")[:MAX_LIST]:
        yield Notice(kinds.OBJECTION, "answered", round(row.at.timestamp() * 1000), 0, row.dispute.contract)


def _connection(account: int, area: str) -> Iterator[Notice]:
    for row in Decision.objects.filter(kind="connection", target=str(account)).order_by("-seq")[:MAX_LIST]:
        yield Notice(kinds.CONNECTION, "limits", row.at_ms, row.seq)
    for row in Decision.objects.filter(kind="halt", target__in=["", area, str(account)]).order_by("-seq")[:MAX_LIST]:
        scope = row.values.get("scope")
        if (scope, row.target) in (("market", ""), ("area", area), ("account", str(account))):
            yield Notice(kinds.CONNECTION, "halted" if row.values.get("on") else "resumed", row.at_ms, row.seq)
