"""Files of what a search finds, oldest first, with the SHA-256 of their bytes: made once, kept a while, recorded for good."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from django.conf import settings
from django.http import StreamingHttpResponse

from ledger import queries as ledger
from ledger.core.merkle import leaf_hash
from market.exchange import models
from market.exchange.units import at_text, parse_at
from market.surveillance import formats, search
from market.surveillance.filters import ENTRIES, ORDERS, TRADES, Filter, query_of
from market.surveillance.formats import INSTANT, INTEGER, TEXT, Column
from market.surveillance.models import Export

MAX_ROWS = 500_000  # of an export: some seconds' work; ask for shorter times to have more
KEPT_FILES = 20  # of one reader; older ones are dropped, their rows stay
KEPT_DAYS = 7
CHUNK = 1 << 18
FETCHED = 2_000
WAIT_S = 20.0

_one = threading.Lock()  # files are made one at a time
_room = threading.BoundedSemaphore(2)  # and one may wait for that: the threads that wait answer everybody's pages, too

COLUMNS = {
    TRADES: (
        Column("seq", INTEGER), Column("at", INSTANT), Column("contract", TEXT), Column("energy_wh", INTEGER, "Wh"),
        Column("buy_e4", INTEGER, "0.0001 currency per kWh"), Column("sell_e4", INTEGER, "0.0001 currency per kWh"),
        Column("taker_side", TEXT), Column("buyer", INTEGER), Column("seller", INTEGER), Column("buy_order", INTEGER),
        Column("sell_order", INTEGER), Column("buy_area", TEXT), Column("sell_area", TEXT),
        Column("cost_e7", INTEGER, "0.0000001 currency"), Column("margin_e7", INTEGER, "0.0000001 currency"),
        Column("recalled_seq", INTEGER),
    ),
    ORDERS: (
        Column("seq", INTEGER), Column("at", INSTANT), Column("account", INTEGER), Column("area", TEXT),
        Column("contract", TEXT), Column("side", TEXT), Column("price_e4", INTEGER, "0.0001 currency per kWh"),
        Column("energy_wh", INTEGER, "Wh"), Column("time_in_force", TEXT), Column("expires_at_ms", INTEGER, "ms"),
        Column("kind", TEXT), Column("last", TEXT), Column("display_wh", INTEGER, "Wh"), Column("group", INTEGER),
        Column("leg", INTEGER), Column("legs", INTEGER),
    ),
    ENTRIES: (
        Column("seq", INTEGER), Column("at", INSTANT), Column("type", TEXT), Column("leaf_hash", TEXT, "hex"),
        Column("leaf", TEXT, "RFC 8785"),
    ),
}  # fmt: skip


class ExportBusy(Exception):
    """Other exports are being made."""


class Made(NamedTuple):
    """An export, as it is listed; ``file`` is "" once its bytes were dropped."""

    id: int
    made_at: datetime
    kind: str
    format: str
    query: str
    upto_seq: int
    rows: int
    complete: bool
    size: int
    sha256: str
    file: str

    @property
    def name(self) -> str:
        """What the file is called where it is saved."""
        return f"sunledger-{self.kind}-{self.id}.{self.format}"

    @property
    def sidecar(self) -> str:
        """The line that ``sha256sum --check`` takes."""
        return f"{self.sha256}  {self.name}\n"


def make(*, reader: int, wanted: Filter, format: str, now: datetime) -> Made:
    """Write what a search finds, at most ``MAX_ROWS``, to a file; raise ``ExportBusy``."""
    assert format in formats.FORMATS, format
    if not _room.acquire(blocking=False):
        raise ExportBusy
    try:
        if not _one.acquire(timeout=WAIT_S):
            raise ExportBusy
        try:
            return _make(reader, wanted, format, now)
        finally:
            _one.release()
    finally:
        _room.release()


def _make(reader: int, wanted: Filter, format: str, now: datetime) -> Made:
    folder = _folder()
    upto = ledger.size()
    name = f"{secrets.token_hex(16)}.{format}"
    counted = _Counted(islice(rows_of(wanted, upto), MAX_ROWS + 1))
    handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            formats.write(format, file, COLUMNS[wanted.kind], counted, at_text)
    except BaseException:
        (folder / name).unlink(missing_ok=True)
        raise
    row = Export.objects.create(
        reader=reader, made_at=now, kind=wanted.kind, format=format, query=query_of(wanted), upto_seq=upto,
        rows=counted.count, complete=not counted.cut, size=(folder / name).stat().st_size,
        sha256=_sha256(folder / name), file=name,
    )  # fmt: skip
    _drop_old(reader, now)
    return Made(*(getattr(row, field) for field in Made._fields))


class _Counted:
    """Rows that are counted as they pass; the one too many is held back."""

    def __init__(self, rows: Iterator[Any]):
        self._rows = rows
        self.count = 0
        self.cut = False

    def __iter__(self) -> Iterator[Any]:
        for row in self._rows:
            if self.count == MAX_ROWS:
                self.cut = True
                return
            self.count += 1
            yield row


def exports(*, reader: int, before: int | None = None, limit: int = 50) -> list[Made]:
    """Return somebody's exports, newest first."""
    rows = Export.objects.filter(reader=reader)
    if before is not None:
        rows = rows.filter(id__lt=before)
    return [Made(*row) for row in rows.order_by("-id").values_list(*Made._fields)[: max(1, min(limit, 500))]]


def export(*, reader: int, export_id: int) -> Made | None:
    """Return one of somebody's exports, or None."""
    row = Export.objects.filter(reader=reader, id=export_id).values_list(*Made._fields).first()
    return None if row is None else Made(*row)


def content(made: Made) -> Iterator[bytes] | None:
    """Return an export's bytes in pieces, None when they are not here (any more)."""
    path = _folder() / made.file
    if not made.file or not path.is_file():
        return None
    return _pieces(path)


def response(made: Made) -> StreamingHttpResponse | None:
    """Return the answer that hands an export out, None when its bytes are gone; the hash is in its head (RFC 9530)."""
    pieces = content(made)
    if pieces is None:
        return None
    answer = StreamingHttpResponse(pieces, content_type=formats.TYPES[made.format])
    answer["Content-Length"] = str(made.size)
    answer["Content-Disposition"] = f'attachment; filename="{made.name}"'
    answer["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(made.sha256)).decode()}:"
    answer["Cache-Control"] = "no-store"
    return answer


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder() -> Path:
    folder = Path(settings.EXPORTS_DIR)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _drop_old(reader: int, now: datetime) -> None:
    """Drop the files of a reader beyond ``KEPT_FILES`` and of everybody after ``KEPT_DAYS``."""
    mine = Export.objects.filter(reader=reader).exclude(file="").order_by("-id")
    ids = list(mine.values_list("id", flat=True)[KEPT_FILES : KEPT_FILES + 100])
    old = Export.objects.filter(made_at__lt=now - timedelta(days=KEPT_DAYS)).exclude(file="")
    ids += list(old.values_list("id", flat=True)[:100])
    for row in Export.objects.filter(id__in=ids):
        with contextlib.suppress(OSError):
            (_folder() / row.file).unlink(missing_ok=True)
    Export.objects.filter(id__in=ids).update(file="")


# --- rows ------------------------------------------------------------------------------------------------------------
def rows_of(wanted: Filter, upto: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a search, oldest first, in the columns of its kind, as they stood at the first ``upto`` entries."""
    within = search.span(wanted)
    within = within._replace(high=min(within.high, upto))
    if wanted.kind == TRADES:
        return _trade_rows(search.trades_in(wanted, within), upto)
    if wanted.kind == ORDERS:
        return _order_rows(search.orders_in(wanted, within))
    return _entry_rows(search.entry_seqs(wanted, within))


def _trade_rows(rows: Any, upto: int) -> Iterator[tuple[Any, ...]]:
    names = [column.name for column in COLUMNS[TRADES]][2:-1]
    coming = rows.order_by("id").values_list("id", "at_ms", *names).iterator(FETCHED)
    while part := list(islice(coming, FETCHED // 4)):
        recalls = models.Recall.objects.filter(trade__in=[row[0] for row in part], seq__lt=upto)
        back: dict[int, int] = dict(recalls.values_list("trade", "seq"))
        for row in part:
            yield (*row, back.get(row[0], 0))


def _order_rows(rows: Any) -> Iterator[tuple[Any, ...]]:
    names = [column.name for column in COLUMNS[ORDERS]][2:10]
    coming = rows.order_by("id").values_list("id", "at_ms", *names).iterator(FETCHED)
    while part := list(islice(coming, FETCHED // 4)):
        details = {
            order: rest
            for order, *rest in models.OrderDetail.objects.filter(order__in=[row[0] for row in part]).values_list(
                "order", "kind", "last", "display_wh", "group", "leg", "legs"
            )
        }
        for row in part:
            yield (*row, *details.get(row[0], ("limit", "", 0, 0, 0, 0)))


def _entry_rows(seqs: Iterator[int]) -> Iterator[tuple[Any, ...]]:
    while part := list(islice(seqs, FETCHED // 4)):
        for seq, leaf in ledger.leaves_of(part):
            fields = orjson.loads(leaf)
            yield seq, parse_at(str(fields["at"])), str(fields["type"]), leaf_hash(leaf).hex(), leaf.decode()
