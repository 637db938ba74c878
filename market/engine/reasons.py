"""Why somebody in office decided something: a code of a list on the ledger, and a commitment to what they said in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from market.engine.trading import is_hex, is_reason

COMMITMENT_DIGITS = 64
OPENING = "opening"  # what holds from the beginning of a market
OPERATOR = "operator"  # a program of the operator decided and said no more
_RULES = frozenset((OPENING, OPERATOR, "planning", "law", "error"))
# Entry type -> the codes a decision may give, named in docs/ledger.md. The doors let no other in; the engine takes any code,
# for entries of older logs have others or none, and the audit tells of them.
CODES: dict[str, frozenset[str]] = {
    "capacity": frozenset((OPENING, OPERATOR, "planning", "maintenance", "works", "overload", "fault", "restored")),
    "fee": frozenset((OPENING, OPERATOR, "planning", "tariff", "error")),
    "tariff": _RULES | {"market"},
    "params": _RULES | {"integrity"},
    "rulebook": _RULES | {"integrity"},
    "connection": frozenset((OPENING, OPERATOR, "planning", "device", "fault", "error", "request", "renewal")),
    "halt": frozenset(
        (OPERATOR, "integrity", "fault", "overload", "maintenance", "works", "drill", "request", "resumed")
    ),
    "recall": frozenset((OPERATOR, "error", "integrity", "fault")),
}
# Halts that nobody decides, by reason and whether they begin: the price collar's, and the end of one that had an end.
BY_RULE = frozenset((("collar", 1), ("over", 0)))


def is_commitment(text: object) -> bool:
    """Return whether a text may be the commitment of a decision: 64 hex digits, or "" where nothing was said in words."""
    return text == "" or is_hex(text, COMMITMENT_DIGITS)


def why_problem(reason: object, commitment: object) -> str:
    """Return which of a decision's two fields is at fault, "" if neither. Older logs have neither; no words without a code."""
    if reason != "" and not is_reason(reason):
        return "reason"
    return "" if commitment == "" or (reason and is_commitment(commitment)) else "commitment"


def decision_of(entry: Mapping[str, Any]) -> str:
    """Return the key in ``CODES`` of an entry that tells of a decision, "" of another one."""
    kind = entry.get("type")
    if kind == "account":
        return "connection" if entry.get("action") == "connection" else ""
    # Only what the engine itself does to a contract: whoever gives these codes to another halt has decided it.
    if kind == "halt" and entry.get("scope") == "contract" and (entry.get("reason"), entry.get("on")) in BY_RULE:
        return "halt" if "commitment" in entry or "cancel" in entry else ""
    return str(kind) if kind in CODES else ""
