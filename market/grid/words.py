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
from django.utils.translation import gettext_lazy as _

from market.grid.models import Decision, Words
from market.households import keystore
from market.households.commitments import commitment_of, identity_text, opens
from market.households.models import User

MAX_WORDS = 200  # characters an official writes beside a decision
SALT_BYTES = 32
NOT_WRITABLE = frozenset(("Cc", "Cs"))  # control characters, lone surrogates

# What can be said of words that belong to an entry.
MATCHES = "matches"  # the words here are those the ledger commits to
DIFFERS = "differs"  # they are not: somebody changed them
ERASED = "erased"  # only the commitment remains
MISSING = "missing"  # the ledger commits to words that are not here
BESIDE = "beside"  # words from before the ledger committed to any: nothing to hold them against


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
    if any(unicodedata.category(char) in NOT_WRITABLE for char in text):
        return str(_("Write one line of plain text."))
    return ""


def keep(*, key: str | None, text: str) -> str:
    """Keep words and return the commitment for the ledger's entry, "" for none.

    ``key`` is the idempotency key the decision is sent with: with the same one the same words have the same commitment, so
    that the decision can be sent again. What was kept for a decision that the market then refuses stays sealed here, beside
    the refusal.
    """
    text = text.strip()
    if not text:
        return ""
    record, salt = {"text": text}, secrets.token_bytes(SALT_BYTES)
    fields = {"commitment": commitment_of(salt, record), "kept": identity_text(record, salt)}
    # A program chose the text of its key: kept is a digest of it that nobody else can make.
    once = None if key is None else keystore.lookup("words", key)
    if once is not None:
        found, made = Words.objects.get_or_create(once=once, defaults=fields)
        if made or _record(found) == record:
            return found.commitment
    return Words.objects.create(**fields).commitment


def _record(words: Words) -> dict[str, str] | None:
    return orjson.loads(words.kept)["record"] if words.kept else None  # type: ignore[no-any-return]


def said(entries: Iterable[Mapping[str, Any]], notes: Mapping[int, str]) -> dict[int, Said]:
    """Return the words beside entries of decisions by ``seq``, held against them. ``notes``: those from before commitments."""
    by_commitment = {str(entry["commitment"]): int(entry["seq"]) for entry in entries if "commitment" in entry}
    found = {seq: Said(text, BESIDE) for seq, text in notes.items() if text}
    found |= {seq: Said("", MISSING, commitment) for commitment, seq in by_commitment.items()}
    rows = Words.objects.filter(commitment__in=list(by_commitment)).select_related("erased_by").defer("kept")
    for words in rows:
        found[by_commitment[words.commitment]] = _held(words)
    return found


def _held(words: Words) -> Said:
    """Return words as they are here, with whether they are what their commitment was made of."""
    commitment = words.commitment
    if words.erased_at_ms is not None:
        by = "" if words.erased_by is None else words.erased_by.get_username()
        return Said("", ERASED, commitment, erased_at_ms=words.erased_at_ms, erased_by=by)
    try:
        kept = words.kept
        if not kept:  # a restored backup brought the row back; its key stays destroyed
            return Said("", ERASED, commitment)
        parts = orjson.loads(kept)
        record, salt, text = parts["record"], parts["salt"], parts["record"]["text"]
    except (ValueError, KeyError, TypeError):  # not what was sealed
        return Said("", DIFFERS, commitment)
    state = MATCHES if opens(kept, commitment) else DIFFERS
    return Said(text, state, commitment, salt, orjson.dumps(record, option=orjson.OPT_SORT_KEYS).decode())


def erase(*, seq: int, commitment: str, by: User, at_ms: int) -> bool:
    """Erase the words beside a decision for good; the ledger's commitment stays and can no longer be opened.

    Return False when there are none. Safe to repeat. ``at_ms``: market time.
    """
    Decision.objects.filter(seq=seq).exclude(note="").update(note="")
    words = Words.objects.filter(commitment=commitment).defer("kept").first() if commitment else None
    if words is None or words.erased_at_ms is not None:
        return words is not None
    with transaction.atomic():
        Words.objects.filter(pk=words.pk).update(kept="", erased_at_ms=at_ms, erased_by=by)
        keystore.store().destroy(words.words_key)
    return True
