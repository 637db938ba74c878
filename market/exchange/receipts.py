"""Receipts that a household takes home: of the entries that concern it, and of its own settlement rows."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q

from ledger import queries as ledger
from ledger.core.bundled import bundle
from ledger.core.receipt import format_receipt
from ledger.core.rows import row_path
from market.engine.entries import COMMITS_TO_ROWS
from market.exchange import models
from market.exchange.concerns import concerns


def entry_receipt(seq: int) -> str:
    """Return an entry's receipt with the entry in it; raise ``ledger.NotThere`` while it is not sealed."""
    return _receipt(seq, bundle(ledger.leaf(seq)))


def has_row(seq: int, account: int) -> bool:
    """Whether the entry ``seq`` is a settlement, or a correction of one, with a row of this account."""
    return _number(seq, _rows(seq), account) is not None


def row_receipt(seq: int, account: int, agreement: int = 0) -> str:
    """Return the receipt of an account's row of the settle or adjust entry ``seq``, with row and entry in it.

    Where agreements of the account are in the entry: that of ``agreement``, by default of the first of them.
    Raises ``ledger.NotThere`` where there is no such row, and while the entry is not sealed.
    """
    rows = _rows(seq)
    number = _number(seq, rows, account, agreement)
    if number is None:
        raise ledger.NotThere(f"row of account {account} in entry {seq}")
    return _receipt(seq, bundle(ledger.leaf(seq), rows[number], number, row_path(rows, number)))


def _rows(seq: int) -> list[bytes]:
    return ledger.rows(seq) if ledger.entry(seq)["type"] in COMMITS_TO_ROWS else []


def _number(seq: int, rows: list[bytes], account: int, agreement: int = 0) -> int | None:
    mark = b'{"account":%d,' % account  # how a row begins: its keys are in order
    number = next((number for number, row in enumerate(rows) if row.startswith(mark)), None)
    if number is None and rows:  # a row of an agreement names nobody
        shared = models.SharedLine.objects.filter(Q(giver=account) | Q(receiver=account), seq=seq)
        shared = shared.filter(agreement=agreement) if agreement else shared
        number = shared.order_by("n").values_list("n", flat=True).first()
    return number


def own_receipt(seq: int, accounts: Collection[int], agreement: int = 0) -> str:
    """Return the receipt a household with these accounts gets of an entry: its row of a settlement, else the entry.

    ``agreement``: as in ``row_receipt``.

    Raises ``ledger.NotThere`` where nothing there concerns it, and while the entry is not sealed.
    """
    entry = ledger.entry(seq)
    if not concerns(entry, accounts):
        raise ledger.NotThere(f"entry {seq}")
    if entry["type"] not in COMMITS_TO_ROWS:
        return entry_receipt(seq)
    return row_receipt(seq, next((account for account in accounts if has_row(seq, account)), -1), agreement)


def _receipt(seq: int, extra: bytes) -> str:
    proof = ledger.inclusion(seq)
    return format_receipt(seq, [bytes.fromhex(hash_) for hash_ in proof.hashes], proof.checkpoint, extra)
