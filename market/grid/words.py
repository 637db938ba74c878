"""What an official says in their own words beside the code of a reason: committed to on the ledger, sealed here, erasable.

Kept before the decision is sent, so that no entry commits to words that were lost on the way. They have a key of their own in
the file of persons' keys (``market.households.keystore``), for they may name somebody: erasing destroys it, and backups have
ciphertext without a key. The commitment is that of an account's record (``market.households.commitments``).
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from django.db import transaction
from django.db.models import ExpressionWrapper, F, QuerySet, TextField
from django.utils.translation import gettext_lazy as _

from market.exchange import keyed
from market.exchange.idempotency import KEPT_MS
from market.grid.models import Decision, Words
from market.households import keystore
from market.households.commitments import commitment_of, identity_text, opens
from market.households.models import User

MAX_WORDS = 200  # characters an official writes beside a decision
SALT_BYTES = 32
NOT_WRITABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control characters, lone surrogates, ends of lines and paragraphs
# What turns the direction of writing: another text is read than the one that is committed to.
TURNING = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
SWEPT = 100  # rows of words without an entry that go at once

# What can be said of words that belong to an entry.
MATCHES = "matches"  # the words here are those the ledger commits to
DIFFERS = "differs"  # they are not: somebody changed them
ERASED = "erased"  # only the commitment remains
MISSING = "missing"  # the ledger commits to words that are not here
BESIDE = "beside"  # words from before the ledger committed to any: nothing to hold them against


class Kept(NamedTuple):
    """A commitment to words; ``fresh``: no earlier decision can have it."""

    commitment: str
    fresh: bool


class Said(NamedTuple):
    """The words beside a decision. ``salt`` (hex) and ``record`` (JSON) are what the commitment is made of."""

    text: str
    state: str  # one of the five above
    commitment: str = ""
    salt: str = ""
    record: str = ""
    erased_at_ms: int = 0
    erased_by: str = ""


def problem(text: str) -> str:
    """Return what is wrong with words, "" if nothing is."""
    if len(text) > MAX_WORDS:
        return str(_("Write at most 200 characters."))
    if any(char in TURNING or unicodedata.category(char) in NOT_WRITABLE for char in text):
        return str(_("Write one line of plain text."))
    return ""


def keep(*, key: str | None, text: str, at_ms: int, scope: int = -1) -> Kept:
    """Keep words and return the commitment for the ledger's entry, "" for none.

    ``key`` is the idempotency key the decision is sent with, in a ``scope`` of the exchange's: as long as it is kept there, the
    same words have the same commitment, so that the decision can be sent again. Words that nobody can read any more count as
    the same. ``at_ms``: market time.
    """
    _sweep(at_ms)
    text = text.strip()
    if not text:
        return Kept("", False)
    record, salt = {"text": text}, secrets.token_bytes(SALT_BYTES)
    fields = {"commitment": commitment_of(salt, record), "kept": identity_text(record, salt), "at_ms": at_ms}
    # A program chose the text of its key: kept is a digest of it that nobody else can make.
    once = None if key is None else keystore.lookup("words", key if scope < 0 else f"{scope}\n{key}")
    if key is not None and once is not None:
        past = Words.objects.filter(once=once, at_ms__lte=at_ms - KEPT_MS)
        if past.exists() and not keyed.is_kept(scope=scope, key=key, now_ms=at_ms):
            past.update(once=None)  # the key stands for another decision from now on
        found, made = Words.objects.defer("kept").get_or_create(once=once, defaults=fields)
        if made or _record(found) in (None, record):
            unused = Words.objects.filter(pk=found.pk).exclude(unused_ms=None).update(unused_ms=None)
            return Kept(found.commitment, made or bool(unused))
    return Kept(Words.objects.create(**fields).commitment, True)


def settle(*, commitment: str, seq: int) -> None:
    """Note that an entry commits to words."""
    if commitment:
        Words.objects.filter(commitment=commitment, seq=None).update(seq=seq, unused_ms=None)


def let_go(*, commitment: str, at_ms: int) -> None:
    """Note that no entry commits to words: they go for good, at once or when the key they were sent with has gone."""
    if commitment:
        Words.objects.filter(commitment=commitment, seq=None).update(unused_ms=at_ms)
        _drop(Words.objects.filter(commitment=commitment, once=None))


def _sweep(at_ms: int) -> None:
    _drop(Words.objects.filter(unused_ms__lte=at_ms - KEPT_MS))


def _drop(rows: QuerySet[Words]) -> None:
    """Delete words that belong to nothing, some at a time, and destroy their keys."""
    for words in rows.filter(seq=None).exclude(unused_ms=None).defer("kept")[:SWEPT]:
        with transaction.atomic():
            words.delete()
            keystore.store().destroy(words.words_key)


def _record(words: Words) -> dict[str, str] | None:
    try:
        return orjson.loads(words.kept)["record"] if words.kept else None  # type: ignore[no-any-return]
    except (keystore.KeyMissing, ValueError):
        return None


def beside(decision: Decision) -> Said | None:
    """Return the words beside a decision from before commitments, None for none."""
    if decision.note_erased_at_ms is not None:
        by = "" if decision.note_erased_by is None else decision.note_erased_by.get_username()
        return Said("", ERASED, erased_at_ms=decision.note_erased_at_ms, erased_by=by)
    return Said(decision.note, BESIDE) if decision.note else None


def said(entries: Iterable[Mapping[str, Any]], decisions: Iterable[Decision]) -> dict[int, Said]:
    """Return the words beside entries of decisions by ``seq``, held against them."""
    found = {row.seq: words for row in decisions if (words := beside(row)) is not None}
    committed = {int(entry["seq"]): str(entry["commitment"]) for entry in entries if "commitment" in entry}
    # As the database has them: one row that cannot be unsealed is that row's matter.
    sealed = ExpressionWrapper(F("kept"), output_field=TextField())
    rows = Words.objects.filter(commitment__in=set(committed.values())).select_related("erased_by").defer("kept")
    held = {words.commitment: _held(words, words.sealed) for words in rows.annotate(sealed=sealed)}
    return found | {seq: held.get(one, Said("", MISSING, one)) for seq, one in committed.items()}


def _held(words: Words, sealed: str) -> Said:
    """Return words as they are here, with whether they are what their commitment was made of."""
    commitment = words.commitment
    if words.erased_at_ms is not None:
        by = "" if words.erased_by is None else words.erased_by.get_username()
        return Said("", ERASED, commitment, erased_at_ms=words.erased_at_ms, erased_by=by)
    try:
        kept = Words._meta.get_field("kept").from_db_value(sealed)
        if not kept:  # a restored backup brought the row back; its key stays destroyed
            return Said("", ERASED, commitment)
        parts = orjson.loads(kept)
        record, salt, text = parts["record"], parts["salt"], parts["record"]["text"]
    except keystore.KeyMissing:  # the file of keys is older than they are
        return Said("", MISSING, commitment)
    except (ValueError, KeyError, TypeError):  # not what was sealed
        return Said("", DIFFERS, commitment)
    state = MATCHES if opens(kept, commitment) else DIFFERS
    return Said(text, state, commitment, salt, orjson.dumps(record, option=orjson.OPT_SORT_KEYS).decode())


def erase(*, seq: int, commitment: str, by: User, at_ms: int) -> bool:
    """Erase the words beside a decision for good; the ledger's commitment stays and can no longer be opened.

    Return False when there are none. Safe to repeat. ``at_ms``: market time.
    """
    old = Decision.objects.filter(seq=seq).exclude(note="")
    cleared = old.update(note="", note_erased_at_ms=at_ms, note_erased_by=by)
    words = Words.objects.filter(commitment=commitment).defer("kept").first() if commitment else None
    if words is None or words.erased_at_ms is not None:
        return bool(cleared) or words is not None
    with transaction.atomic():
        Words.objects.filter(pk=words.pk).update(kept="", erased_at_ms=at_ms, erased_by=by)
        keystore.store().destroy(words.words_key)
    return True
