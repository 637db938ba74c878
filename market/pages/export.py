"""A copy of everything about a person: one zip file of JSON and CSV with a README and the hash of each file.

It is made while it is sent: nothing of it is kept here, and no part lies in memory as a whole.
"""

from __future__ import annotations

import csv
import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import Any

import orjson
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from market.agents import queries as agents
from market.disputes import queries as disputes
from market.exchange import queries as exchange
from market.households import accesslog, exports, queries
from market.households.models import Role, User
from market.metering import exports as metering
from market.notices import operations as notices
from market.pages.again import freshly
from market.pages.roles import only_for
from market.payments import queries as payments
from market.settlement import statement_csv, statement_queries, subscriptions
from market.settlement.periods import MONTH, period_of

EVERY_S = 600  # one copy of a person in ten minutes
AT_A_TIME = 2  # copies made at once in this process: each holds a thread
EVENTS_PAGE = 1_000
MAX_ROWS = 2_000_000  # of one file: twenty years of a busy home
MAX_MONTHS = 240
CHUNK_BYTES = 64 * 1024
HASHES = "SHA256SUMS"

Parts = Iterator[bytes]

_making = threading.BoundedSemaphore(AT_A_TIME)


class _Sink(io.RawIOBase):
    """What the zip file is written to; ``take`` empties it. It cannot seek, so sizes stand behind each file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


# --- the files --------------------------------------------------------------------------------------------------------
def _json(value: Any) -> Parts:
    yield orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str) + b"\n"


def _csv(columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> Parts:
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow(columns)
    for count, row in enumerate(rows):
        if count == MAX_ROWS:
            break
        writer.writerow(row)
        if target.tell() > CHUNK_BYTES:
            yield target.getvalue().encode()
            target.seek(0)
            target.truncate()
    yield target.getvalue().encode()


def _events(account: int) -> Parts:
    """Return orders, trades, money and settlement of an account, one JSON object a line, as REST's /events has them."""
    after, count = -1, 0
    while count < MAX_ROWS and (rows := exchange.events(after=after, limit=EVENTS_PAGE, account=account)):
        after, count = rows[-1]["seq"], count + len(rows)
        yield b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _paged(page: Callable[[int | None], list[Any]], number: Callable[[Any], int]) -> Iterator[Any]:
    before: int | None = None
    count = 0
    while count < MAX_ROWS and (rows := page(before)):
        yield from rows
        before, count = number(rows[-1]), count + len(rows)


def _payments(account: int) -> Parts:
    rows = _paged(lambda before: payments.payments_of([account], before=before), lambda row: row.pk)
    columns = (
        "direction", "asked_e7", "amount_e7", "state", "reason", "reference", "requested_at", "decided_at", "seq",
        "returned_seq", "iban", "holder",
    )  # fmt: skip
    return _csv(columns, (tuple(getattr(row, column) for column in columns) for row in rows))


def _refusals(account: int) -> Parts:
    rows = _paged(lambda before: exchange.refusals(account=account, before=before), lambda row: row.id)
    return (orjson.dumps(row._asdict(), default=str) + b"\n" for row in rows)


def _disputes(accounts: list[int]) -> Parts:
    found = {}  # by id: an account shows those of its owner's earlier numbers, too
    for account in accounts:
        rows = _paged(partial(_disputes_before, account), lambda row: row.id)
        found.update({row.id: {**row._asdict(), "steps": [step._asdict() for step in row.steps]} for row in rows})
    return _json([found[number] for number in sorted(found)])


def _disputes_before(account: int, before: int | None) -> list[Any]:
    return disputes.disputes_of(account, before=before)


def _choices(user: User) -> Parts:
    """Return what a person set: limits of the autopilot, what devices are told, the weekly summary."""
    wish = notices.wanted(user.pk)
    told = [{"name": device.name, "since": device.since} for device in notices.devices_of(user)]
    return _json(
        {
            "autopilot": agents.chosen_by(user)._asdict(),
            "notifications": {
                **wish._asdict(),
                "kinds": sorted(wish.kinds),
                "devices": told,
                "read_up_to": notices.read_mark(user=user),
            },
            "weekly_summary": subscriptions.about(user),
        }
    )


def _months(user: User, until: date) -> Iterator[date]:
    """Return the first days of the months since a person's first account was opened, by the market's calendar."""
    opened = [account["opened_at"] for account in user.accounts.values("opened_at")]
    if not opened:
        return
    day = min(opened).astimezone(statement_queries.market_zone()).date().replace(day=1)
    for _count in range(MAX_MONTHS):
        if day > until:
            return
        yield day
        day = date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _statement(accounts: list[int], day: date) -> Parts:
    found = statement_queries.statement(accounts, period_of(MONTH, day))
    yield statement_csv.render(found, settings.MARKET_CURRENCY)


def _files(user: User, now: datetime) -> Iterator[tuple[str, Parts]]:
    for name, value in exports.about(user, now=now).items():
        yield f"{name}.json", _json(value)
    yield "choices.json", _choices(user)
    accounts = queries.account_indexes(user.pk)
    for account in accounts:
        folder = f"account-{account}"
        yield f"{folder}/events.jsonl", _events(account)
        yield f"{folder}/refused-orders.jsonl", _refusals(account)
        yield f"{folder}/readings.csv", _csv(metering.READING_COLUMNS, metering.readings(account))
        yield f"{folder}/sent-by-devices.csv", _csv(metering.VALUE_COLUMNS, metering.sent(account))
        yield f"{folder}/payments.csv", _payments(account)
    yield "objections.json", _disputes(accounts)
    last = statement_queries.local_day(statement_queries.market_now_ms())
    if accounts:
        for day in _months(user, last):
            yield f"statements/{day:%Y-%m}.csv", _statement(accounts[-statement_queries.MAX_ACCOUNTS :], day)


def _readme(now: datetime) -> bytes:
    text = _(
        "Everything Sunledger knows about you, as of %(now)s.\n\n"
        "JSON files hold what names you; a folder for each of your account numbers holds what it did. events.jsonl has one\n"
        "event a line: orders, trades, money, settlement, each with the number of its ledger entry (seq). Names that end in\n"
        "_wh are watt-hours, _e4 are 0.0001 of the currency per kWh, _e7 are 0.0000001 of the currency, _ms are milliseconds\n"
        "since 1970 in UTC. Statements are monthly, as on the statement page.\n\n"
        "Not in it: secrets (passwords, keys, codes), which are stored so that nobody can read them, and what belongs to\n"
        "others. %(rows)s rows are the most that one file holds.\n\n"
        "%(hashes)s has the SHA-256 of every file: sha256sum -c %(hashes)s\n"
    )
    return (text % {"now": now.isoformat(timespec="seconds"), "rows": f"{MAX_ROWS:,}", "hashes": HASHES}).encode()


def packed(user: User, now: datetime) -> Iterator[bytes]:
    """Return the zip file, piece by piece."""
    sink = _Sink()
    hashes: list[str] = []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, parts in chain([("README.txt", iter([_readme(now)]))], _files(user, now)):
            digest = hashlib.sha256()
            with archive.open(_info(name, now), "w", force_zip64=True) as file:
                for part in parts:
                    digest.update(part)
                    file.write(part)
                    if piece := sink.take():
                        yield piece
            hashes.append(f"{digest.hexdigest()}  {name}\n")
        archive.writestr(_info(HASHES, now), "".join(hashes))
    yield sink.take()


def _info(name: str, now: datetime) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, now.timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@never_cache
@only_for(Role.HOUSEHOLD)
@freshly(keeps=False)
@require_http_methods(["GET", "POST"])
def export(request: HttpRequest) -> HttpResponseBase:
    """Say what is in the copy; sent, it is that file."""
    user, now = request.user, timezone.now()
    if request.method != "POST":
        return render(request, "account/export.html", {})
    # Taken first: who asks twice at once is answered once.
    if not cache.add(f"pages.export.{user.pk}", True, EVERY_S):
        return _later(request, _("You took a copy some minutes ago. Wait ten minutes and try again."))
    if not _making.acquire(blocking=False):
        cache.delete(f"pages.export.{user.pk}")
        return _later(request, _("Other copies are being made at the moment. Try again in a minute."))
    accesslog.note_export(user_id=user.pk, now=now)
    response = StreamingHttpResponse(_Released(packed(user, now)), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="sunledger-{now:%Y-%m-%d}.zip"'
    return response


def _later(request: HttpRequest, sentence: str) -> HttpResponse:
    return render(request, "account/export.html", {"sentence": sentence}, status=429)


class _Released:
    """An iterator that gives its place back when it is done or closed, even when nobody asked it for anything."""

    def __init__(self, parts: Iterator[bytes]):
        self._parts = parts
        self._held = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the place back; Django calls this when the answer ends, however it ends."""
        if self._held:
            self._held = False
            _making.release()


urlpatterns = [path("account/export", export, name="export")]
