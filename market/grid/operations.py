"""The operators' decisions: capacities, fees, tariff, limits, rulebook, halts, connections and recalls.

Each sends one command to the exchange and notes who decided it. ``once`` is a token of the form that was sent: sending
the form again, by a double click or after a time-out, does nothing twice and returns the first decision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from ledger import queries as ledger_queries
from market.engine.commands import SetParams
from market.engine.reasons import CODES
from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.exchange.exchange import Exchange
from market.exchange.outcomes import NotRunning, Outcome, Overloaded
from market.grid import words as words_beside
from market.grid.models import Acknowledgement, Decision
from market.households.models import User

MAX_ONCE_LENGTH = 64
MAX_NOTE = 200  # characters an official writes beside an alert
MAX_RULEBOOK_BYTES = 1_000_000  # far above any text that a person would read

_SENTENCES = {
    "unknown_area": _("There is no such area."),
    "unknown_contract": _("There is no such contract."),
    "unknown_account": _("There is no such account."),
    "account_closed": _("This account is closed."),
    "contract_state": _("This contract is no longer traded."),
    "nothing_to_change": _("This is in force already."),
    "unknown_trade": _("There is no such trade."),
    "already_recalled": _("This trade has been taken back already."),
    "invalid_value": _("The market does not accept this value."),
}


class GridError(Exception):
    """Nothing was changed. ``code`` is stable, ``field`` names the input at fault, ``sentence`` says it to a person."""

    def __init__(self, code: str, field: str, sentence: object):
        super().__init__(f"{code}: {field}")
        self.code = code
        self.field = field
        self.sentence = sentence


def set_capacity(
    exchange: Exchange, *, by: User, once: str, area: str, import_w: int, export_w: int, reason: str, text: str = ""
) -> Decision:
    """Set what the edge between an area and its parent can carry each way, in W. Raise ``GridError``.

    Here and below ``reason`` is a code of ``reasons`` that goes on the ledger, and ``text`` what the official says in their own
    words: the ledger has a commitment to it, the words are sealed beside it.
    """
    why = _why(exchange, by, once, "capacity", reason, text)
    values = {"import_w": import_w, "export_w": export_w}
    outcome = sent(exchange, partial(exchange_operations.set_capacity, exchange, area=area, **values), why)
    return note(outcome, by=by, kind="capacity", target=area, reason=reason, values=values)


def set_fee(
    exchange: Exchange, *, by: User, once: str, area: str, fee_e4: int, reason: str, text: str = ""
) -> Decision:
    """Set the grid fee of an area's edge for contracts opened from now on. Raise ``GridError``."""
    why = _why(exchange, by, once, "fee", reason, text)
    outcome = sent(exchange, partial(exchange_operations.set_fee, exchange, area=area, fee_e4=fee_e4), why)
    return note(outcome, by=by, kind="fee", target=area, reason=reason, values={"fee_e4": fee_e4})


def set_tariff(
    exchange: Exchange, *, by: User, once: str, topup_e4: int, spill_e4: int, reason: str, text: str = ""
) -> Decision:
    """Set the supplier's prices for contracts opened from now on. Raise ``GridError``."""
    why = _why(exchange, by, once, "tariff", reason, text)
    outcome = sent(
        exchange, partial(exchange_operations.set_tariff, exchange, topup_e4=topup_e4, spill_e4=spill_e4), why
    )
    return note(outcome, by=by, kind="tariff", reason=reason, values={"topup_e4": topup_e4, "spill_e4": spill_e4})


def set_params(exchange: Exchange, *, by: User, once: str, params: SetParams, reason: str, text: str = "") -> Decision:
    """Publish all limits of the market at once. Raise ``GridError``."""
    why = _why(exchange, by, once, "params", reason, text)
    outcome = sent(exchange, partial(exchange_operations.set_params, exchange, params=params), why)
    return note(outcome, by=by, kind="params", reason=reason, values=limits_of(params))


def limits_of(params: SetParams) -> dict[str, int]:
    """Return what a note of new limits holds."""
    return {name: value for name, value in params._asdict().items() if name not in ("reason", "commitment")}


def publish_rulebook(
    exchange: Exchange, *, by: User, once: str, text: str, version: int, reason: str, words: str = ""
) -> Decision:
    """Put a new text of the rulebook in force; ``words`` are the official's own. Raise ``GridError``."""
    if not text.strip() or len(text.encode()) > MAX_RULEBOOK_BYTES:
        raise GridError("invalid_value", "text", _("The rulebook must have a text of at most 1 MB."))
    why = _why(exchange, by, once, "rulebook", reason, words, field="words")
    outcome = sent(exchange, partial(exchange_operations.publish_rulebook, exchange, text=text, version=version), why)
    values = {"version": version, "sha256": exchange_operations.rulebook_sha256(text)}
    return note(outcome, by=by, kind="rulebook", reason=reason, values=values)


def set_halt(
    exchange: Exchange,
    *,
    by: User,
    once: str,
    scope: str,
    target: str = "",
    on: bool,
    reason: str,
    until_ms: int = 0,
    cancel: bool = False,
    text: str = "",
) -> Decision:
    """Stop or resume trading in the market, a contract, area or account (its index as text). Raise ``GridError``.

    ``until_ms``: when a contract's halt ends by itself (0: when somebody ends it). ``cancel``: open orders are taken back.
    """
    why = _why(exchange, by, once, "halt", reason, text)
    values = {"scope": scope, "target": target, "on": on, "until_ms": until_ms, "cancel": cancel}
    outcome = sent(exchange, partial(exchange_operations.set_halt, exchange, **values), why)
    values = halt_values(scope=scope, on=on, until_ms=until_ms, cancel=cancel)
    return note(outcome, by=by, kind="halt", target=target, reason=reason, values=values)


def halt_values(*, scope: str, on: bool, until_ms: int, cancel: bool) -> dict[str, int | str]:
    """Return what a note of a halt holds."""
    values: dict[str, int | str] = {"scope": scope, "on": int(on)}
    if until_ms:
        values["until_ms"] = until_ms
    if cancel:
        values["cancel"] = 1
    return values


def set_connection(
    exchange: Exchange,
    *,
    by: User,
    once: str,
    account: int,
    connection: str = "",
    import_w: int,
    export_w: int,
    reason: str,
    text: str = "",
) -> Decision:
    """Say what an account's grid connection may take and give, in W; 0 is the market's limit. Raise ``GridError``."""
    why = _why(exchange, by, once, "connection", reason, text, scope=account)
    values = {"connection": connection, "import_w": import_w, "export_w": export_w}
    outcome = sent(exchange, partial(exchange_operations.set_connection, exchange, account=account, **values), why)
    return note(outcome, by=by, kind="connection", target=str(account), reason=reason, values=values)


def recall_trade(exchange: Exchange, *, by: User, once: str, trade: int, reason: str, text: str = "") -> Decision:
    """Take a trade (the sequence of its entry) back before delivery; for the market operator. Raise ``GridError``."""
    why = _why(exchange, by, once, "recall", reason, text)
    outcome = sent(exchange, partial(exchange_operations.recall_trade, exchange, trade=trade), why)
    return note(outcome, by=by, kind="recall", target=str(trade), reason=reason)


def erase_words(*, by: User, seq: int, at_ms: int) -> bool:
    """Erase what was said beside the decision of a ledger entry; code and commitment stay. False when there was nothing.

    ``at_ms``: market time. Raise ``ledger.queries.NotThere`` when there is no such entry.
    """
    commitment = str(ledger_queries.entry(seq).get("commitment", ""))
    return words_beside.erase(seq=seq, commitment=commitment, by=by, at_ms=at_ms)


def acknowledge(*, by: User, seq: int, at_ms: int, text: str = "") -> Acknowledgement | None:
    """Note that an official has seen an alert; the first note stays. None when there is no such alert.

    Raise ``GridError`` when ``text`` is too long.
    """
    if len(text) > MAX_NOTE:
        raise GridError("invalid_value", "note", _("Write at most 200 characters."))
    if exchange_queries.alert(seq) is None:
        return None
    try:
        with transaction.atomic():
            return Acknowledgement.objects.get_or_create(seq=seq, defaults={"at_ms": at_ms, "by": by, "note": text})[0]
    except IntegrityError:  # two officials at the same moment
        return Acknowledgement.objects.get(seq=seq)


def note(
    outcome: Outcome,
    *,
    by: User,
    kind: str,
    target: str = "",
    reason: str = "",
    values: dict[str, Any] | None = None,
) -> Decision:
    """Keep who made a decision that is on the ledger now; a repeated one has one note. Raise ``GridError``."""
    if outcome.conflict is not None:
        raise GridError("already_sent", outcome.conflict, _("This form was sent before with other values. Try again."))
    if outcome.refused is not None:
        refused = outcome.refused
        sentence = _SENTENCES.get(refused.code, _("The market refused this."))
        raise GridError(refused.code, refused.field, sentence)
    event = outcome.events[0]
    return note_entry(
        seq=event.seq,  # type: ignore[union-attr]
        at_ms=event.at_ms,  # type: ignore[union-attr]
        by=by,
        kind=kind,
        target=target,
        reason=reason,
        values=values,
    )


def note_entry(
    *,
    seq: int,
    at_ms: int,
    by: User,
    kind: str,
    target: str = "",
    reason: str = "",
    values: dict[str, Any] | None = None,
) -> Decision:
    """Keep who made the decision behind a ledger entry; the first note of an entry stays."""
    fields = {"at_ms": at_ms, "by": by, "kind": kind, "target": target, "reason": reason, "values": values or {}}
    try:
        with transaction.atomic():
            return Decision.objects.get_or_create(seq=seq, defaults=fields)[0]
    except IntegrityError:  # the same form twice at the same moment
        return Decision.objects.get(seq=seq)


def _key(by: User, once: str) -> str:
    if not (0 < len(once) <= MAX_ONCE_LENGTH and once.isascii() and once.isprintable()):
        raise GridError("invalid_value", "once", _("This form is broken. Load the page again."))
    return f"decision:{by.pk}:{once}"


class Why(NamedTuple):
    """What goes with a decision: its reason, the commitment to words that are kept, the key it is sent with."""

    reason: str
    words: words_beside.Kept
    key: str | None


def why_of(
    exchange: Exchange, kind: str, *, reason: str, text: str, key: str | None, field: str = "text", scope: int = -1
) -> Why:
    """Keep the words beside a decision of a kind and return what it is sent with.

    ``scope``: of the key in the exchange. Raise ``GridError``: a code that is not of the list, words that are too long.
    """
    if reason not in CODES[kind]:
        raise GridError("invalid_value", "reason", _("Choose a reason."))
    if problem := words_beside.problem(text):
        raise GridError("invalid_value", field, problem)
    return Why(reason, words_beside.keep(key=key, text=text, at_ms=exchange.now_ms(), scope=scope), key)


def sent(exchange: Exchange, send: Callable[..., Outcome], why: Why) -> Outcome:
    """Send a decision; words beside one that comes to nothing are let go."""
    commitment, fresh = why.words
    try:
        outcome = send(reason=why.reason, commitment=commitment, key=why.key)
    except (Overloaded, NotRunning):  # it was not taken; who sent it before may have been answered otherwise
        if fresh:
            words_beside.let_go(commitment=commitment, at_ms=exchange.now_ms())
        raise
    if outcome.events:
        words_beside.settle(commitment=commitment, seq=outcome.events[0].seq)  # type: ignore[union-attr]
    elif fresh or outcome.refused is not None:  # what conflicts may have the words of what the key was used for
        words_beside.let_go(commitment=commitment, at_ms=exchange.now_ms())
    return outcome


def _why(
    exchange: Exchange, by: User, once: str, kind: str, reason: str, text: str, field: str = "text", scope: int = -1
) -> Why:
    return why_of(exchange, kind, reason=reason, text=text, key=_key(by, once), field=field, scope=scope)
