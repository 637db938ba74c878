"""Tells devices what happened, in a thread of its own beside the exchange: trading hands a batch over and never waits.

What several trades of a few seconds have in common is one message. Everything here is bounded and may be lost: the list in
the page is read from the ledger's tables and has it all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import close_old_connections, connection
from django.db.models import Max
from django.utils import translation

from market.disputes.models import Step
from market.disputes.operations import ANSWERED
from market.engine.events import (
    Adjusted,
    ConnectionSet,
    Event,
    Funded,
    HaltSet,
    OrderCancelled,
    Settled,
    Traded,
    TradeRecalled,
)
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Committed, NotRunning
from market.grid.models import Decision
from market.households import renewal
from market.households.models import Account
from market.notices import addresses, kinds, operations, webpush, words
from market.notices.kinds import Notice
from market.notices.models import PushDevice

log = logging.getLogger(__name__)

GATHER_S: Final = 5.0  # real time in which alike things become one message
RELOAD_S: Final = 5.0  # how soon a device that was added elsewhere is known
MAX_BATCHES: Final = 1_024  # committed batches that wait; older ones give way
MAX_TOLD: Final = 20_000  # accounts whose devices are told
MAX_MESSAGES: Final = 1_000  # of one round
MAX_RETRIES: Final = 256  # messages that wait for a second try
RETRIES_S: Final = (30.0, 120.0)
MAX_FAILURES: Final = 5  # in a row, then a device is forgotten: its address is broken
SENDERS: Final = 4
STOP_TIMEOUT_S: Final = 20.0
FAILED: Final = -1  # instead of a push service's status: the message did not get that far


class Member(NamedTuple):
    """An account whose owner has devices; closed ones too: an earlier number's energy is still settled and corrected."""

    account: int
    area: str
    user: int
    language: str
    closed_at: datetime | None = None


class Message(NamedTuple):
    """What goes to one device."""

    device: int
    address: webpush.Address
    content: dict[str, str]
    topic: str
    tries: int = 0


# --- from events to notices; pure ----------------------------------------------------------------------------------------
def notices_of(event: Event, members: dict[int, Member]) -> Iterator[tuple[int, Notice]]:
    """Yield (account, notice) for those of the members that an event concerns."""
    kind = type(event)
    if kind is Traded:
        yield from _traded(event, members)  # type: ignore[arg-type]
    elif kind is Settled:
        yield from _settled(event, members)  # type: ignore[arg-type]
    elif kind is OrderCancelled:
        what = kinds.cancelled(event.reason) if event.account in members else ""  # type: ignore[union-attr]
        if what:
            yield event.account, _notice(kinds.ORDER, what, event, event.remaining_wh)  # type: ignore[union-attr]
    elif kind is Funded:
        # From a person's one number to the next no money comes or goes.
        if event.account in members and event.reason != renewal.REASON:  # type: ignore[union-attr]
            amount_e7: int = event.amount_e7  # type: ignore[union-attr]
            what = "deposit" if amount_e7 > 0 else "payout"
            yield event.account, Notice(kinds.MONEY, what, event.at_ms, event.seq, "", 0, abs(amount_e7))  # type: ignore[union-attr]
    elif kind is Adjusted:
        for row, was in event.rows:  # type: ignore[union-attr]
            if row.account in members:
                changed = row.spill_e7 - row.short_e7 - row.topup_e7 - was.spill_e7 + was.short_e7 + was.topup_e7
                yield row.account, _notice(kinds.CORRECTION, "settled", event, 0, changed)
    elif kind is TradeRecalled:
        for account in (event.buyer, event.seller):  # type: ignore[union-attr]
            if account in members:
                yield account, _notice(kinds.CORRECTION, "recall", event, event.energy_wh)  # type: ignore[union-attr]
    elif kind is ConnectionSet:
        if event.account in members:  # type: ignore[union-attr]
            yield event.account, Notice(kinds.CONNECTION, "limits", event.at_ms, event.seq)  # type: ignore[union-attr]
    elif kind is HaltSet:
        yield from _halted(event, members)  # type: ignore[arg-type]


def _notice(kind: str, what: str, event: Any, energy_wh: int = 0, amount_e7: int = 0) -> Notice:
    return Notice(kind, what, event.at_ms, event.seq, event.contract, energy_wh, amount_e7)


def _traded(event: Traded, members: dict[int, Member]) -> Iterator[tuple[int, Notice]]:
    for account, kind, price_e4 in (
        (event.seller, kinds.SOLD, event.sell_e4),
        (event.buyer, kinds.BOUGHT, event.buy_e4),
    ):
        if account in members:
            yield account, _notice(kind, "", event, event.energy_wh, price_e4 * event.energy_wh)


def _settled(event: Settled, members: dict[int, Member]) -> Iterator[tuple[int, Notice]]:
    for row in event.rows:
        amount_e7 = row.payout_e7 + row.spill_e7  # what was not delivered is already taken off the payout
        if row.account in members and amount_e7 > 0:
            yield row.account, _notice(kinds.MONEY, "settled", event, max(0, -row.position_wh), amount_e7)


def _halted(event: HaltSet, members: dict[int, Member]) -> Iterator[tuple[int, Notice]]:
    notice = Notice(kinds.CONNECTION, "halted" if event.on else "resumed", event.at_ms, event.seq)
    for member in members.values():
        if member.closed_at is not None:
            continue
        mine = {"market": "", "area": member.area, "account": str(member.account)}
        if mine.get(event.scope) == event.target:
            yield member.account, notice


# --- the service ---------------------------------------------------------------------------------------------------------
class PushService:
    """A service of the runtime: see the module's docstring. ``connect`` opens connections to push services."""

    def __init__(
        self,
        *,
        gather_s: float = GATHER_S,
        connect: webpush.Connect = addresses.connect,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self._gather_s = gather_s
        self._connect = connect
        self._now = now
        self._stopping = threading.Event()
        self._members: dict[int, Member] = {}
        self._loaded_s = -RELOAD_S
        self._incoming: deque[Committed] = deque(maxlen=MAX_BATCHES)
        self._retries: deque[tuple[float, Message]] = deque(maxlen=MAX_RETRIES)
        self._answered = 0  # steps of objections up to here have been looked at
        self._exchange: Exchange | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen, and to tell in a thread of its own."""
        exchange = gateway.current()
        self._answered = Step.objects.aggregate(newest=Max("pk"))["newest"] or 0
        self._reload()
        exchange.listen(self._heard)
        self._exchange = exchange
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell nobody any more."""
        if self._exchange is not None:
            self._exchange.unlisten(self._heard)
            self._exchange = None
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None

    def _heard(self, committed: Committed) -> None:
        """Take a committed batch, in the writer's thread: one comparison where nobody has a device."""
        if self._members and committed.events:
            self._incoming.append(committed)

    def _run(self) -> None:
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="push-sender") as senders:
            try:
                while not self._stopping.wait(self._gather_s):
                    try:
                        self.round(senders)
                    except NotRunning:
                        return
                    except Exception:
                        log.exception("a round of push messages failed; the next one goes on")
                        close_old_connections()
            finally:
                connection.close()

    def round(self, senders: ThreadPoolExecutor) -> int:
        """Tell what happened since the last round; return how many messages went out."""
        self._reload()
        told = [(account, notice) for account, notice in self._happened() if account in self._members]
        messages = self._messages(_decided(told))[:MAX_MESSAGES]
        messages += self._due({(message.device, message.topic) for message in messages})
        statuses = list(senders.map(self._send, messages))
        for message, status in zip(messages, statuses, strict=True):
            self._note(message, status)
        return len(messages)

    # --- who and what --------------------------------------------------------------------------------------------------
    def _reload(self) -> None:
        if time.monotonic() - self._loaded_s < min(RELOAD_S, self._gather_s):
            return
        self._loaded_s = time.monotonic()
        people = PushDevice.objects.order_by().values("user").distinct()
        rows = Account.objects.filter(user__in=people, user__is_active=True).order_by("-index")
        found = rows.values_list("index", "area", "user", "user__language", "closed_at")[:MAX_TOLD]
        self._members = {row[0]: Member(*row) for row in found}

    def _happened(self) -> Iterator[tuple[int, Notice]]:
        members = self._members
        for _ in range(MAX_BATCHES):
            try:
                committed = self._incoming.popleft()
            except IndexError:
                break
            for event in committed.events:
                yield from notices_of(event, members)
        yield from self._answers()

    def _answers(self) -> Iterator[tuple[int, Notice]]:
        """Yield answers to objections: they are no events of the exchange.

        Those to people without devices are passed over, so that a device is not told of what was before it.
        """
        rows = Step.objects.filter(pk__gt=self._answered).select_related("dispute__account").order_by("pk")
        for step in rows[:MAX_MESSAGES]:
            self._answered = step.pk
            account = step.dispute.account.index
            if step.after in ANSWERED and account in self._members:
                at_ms = round(step.at.timestamp() * 1000)
                yield account, Notice(kinds.OBJECTION, "answered", at_ms, 0, step.dispute.contract)

    def _messages(self, told: list[tuple[int, Notice]]) -> list[Message]:
        by_user: dict[int, list[Notice]] = {}
        languages: dict[int, str] = {}
        for account, notice in told:
            member = self._members[account]
            by_user.setdefault(member.user, []).append(notice)
            languages[member.user] = member.language
        hour = self._now().astimezone(ZoneInfo(settings.MARKET_TIME_ZONE)).hour
        messages: list[Message] = []
        for user, notices in by_user.items():
            wish = operations.wanted(user)
            wanted = one_a_kind([notice for notice in notices if notice.kind in wish.kinds])
            if not wanted or wish.quiet_at(hour):
                continue
            devices = list(PushDevice.objects.filter(user=user).select_related("user"))
            with translation.override(languages[user] or settings.LANGUAGE_CODE):
                contents = [(notice.kind, content_of(notice, amounts=wish.amounts)) for notice in wanted]
            for device in devices:
                address = webpush.Address(device.endpoint, device.p256dh, device.auth)
                messages += [Message(device.pk, address, content, topic) for topic, content in contents]
        return messages

    # --- sending -------------------------------------------------------------------------------------------------------
    def _send(self, message: Message) -> int:
        if self._stopping.is_set():
            return webpush.UNREACHED
        try:
            return self._sent(message)
        except Exception:  # one device's address and keys must not keep the others from being told
            log.exception("a push message could not be made or sent")
            return FAILED

    def _sent(self, message: Message) -> int:
        return webpush.send(message.content, message.address, topic=message.topic, connect=self._connect)

    def _due(self, newer: Collection[tuple[int, str]]) -> list[Message]:
        """Take the messages whose second try is due; those that a newer one replaces are dropped."""
        now_s = time.monotonic()
        kept = [entry for entry in self._retries if (entry[1].device, entry[1].topic) not in newer]
        due = [message for at_s, message in kept if at_s <= now_s]
        waiting = [entry for entry in kept if entry[0] > now_s]
        self._retries.clear()
        self._retries.extend(waiting)
        # A device may have been removed, or may tell somebody else by now.
        there = {*PushDevice.objects.filter(pk__in=[message.device for message in due]).values_list("pk", flat=True)}
        return [message for message in due if message.device in there]

    def _note(self, message: Message, status: int) -> None:
        """Do what a push service's answer asks for. The log names neither people nor addresses."""
        devices = PushDevice.objects.filter(pk=message.device)
        if 200 <= status < 300:
            devices.exclude(failures=0).update(failures=0)
        elif status in webpush.GONE:
            devices.delete()
        elif (status in webpush.LATER or status == webpush.UNREACHED) and message.tries < len(RETRIES_S):
            wait_s = RETRIES_S[message.tries]
            self._retries.append((time.monotonic() + wait_s, message._replace(tries=message.tries + 1)))
        else:
            log.warning("a push service did not take a message: status %s", status)
            row = devices.first()
            if row is not None and row.failures + 1 >= MAX_FAILURES:
                devices.delete()
            elif row is not None:
                devices.update(failures=row.failures + 1)


def _decided(told: list[tuple[int, Notice]]) -> list[tuple[int, Notice]]:
    """Leave out limits that nobody decided on: a change of number sets a connection anew with the limits it had."""
    set_by = [notice.seq for _account, notice in told if notice.what == "limits"]
    decided = {*Decision.objects.filter(kind="connection", seq__in=set_by).values_list("seq", flat=True)}
    return [(account, notice) for account, notice in told if notice.what != "limits" or notice.seq in decided]


def one_a_kind(notices: list[Notice]) -> list[Notice]:
    """Return one notice a kind, for a device shows no more than the last of each.

    Trades of several intervals are added up; of all else the newest stands, as with a halt that has ended meanwhile.
    """
    found: dict[str, Notice] = {}
    for notice in kinds.together(notices):  # newest first
        before = found.get(notice.kind)
        if before is None:
            found[notice.kind] = notice
        elif notice.kind in (kinds.SOLD, kinds.BOUGHT):
            found[notice.kind] = before._replace(
                contract="",
                energy_wh=before.energy_wh + notice.energy_wh,
                amount_e7=before.amount_e7 + notice.amount_e7,
                count=before.count + notice.count,
            )
    return list(found.values())


def content_of(notice: Notice, *, amounts: bool) -> dict[str, str]:
    """Return what a device shows, in the active language."""
    return {
        "title": words.title(notice),
        "body": words.text(notice, amounts=amounts),
        "url": kinds.LINKS[notice.kind],
        "tag": notice.kind,
    }
