"""The regulator's explorer of the ledger: blocks, entries with their proofs, orders' lives, accounts, contracts."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ledger import cosigning, witnessing
from ledger import operations as ledger_operations
from ledger import queries as ledger
from market.exchange import queries, receipts
from market.exchange.concerns import accounts_named
from market.exchange.units import parse_at
from market.grid import queries as grid_queries
from market.households import accesslog
from market.households.models import Role
from market.pages import connection, erasing, privacy, recall
from market.pages.asked import asked
from market.pages.entrywords import ACTION_WORDS, ENTRY_WORDS
from market.pages.orderlife import life_of
from market.pages.roles import LEDGER_ROLES, only_for
from market.pages.templatetags.market import clock_seconds, day, energy, exact_money, price, slot, start_ms
from market.pages.templatetags.official import reason, watts, word

PAGE_BLOCKS = 20
PAGE_ENTRIES = 200  # entries of a block on one page; a block may have 65,536
PAGE_ROWS = 50  # orders, trades, lines
MAX_SEQ = 2**53 - 1

KIND_WORDS = {
    "iceberg": gettext_lazy("Order, an iceberg"),
    "sweep": gettext_lazy("Order, a sweep"),
    "block": gettext_lazy("Order, leg of a block"),
    "basket": gettext_lazy("Order, leg of a basket"),
}
# Fields of an entry that name another one, an account, a contract: they become links.
ENTRY_FIELDS = ("order", "maker", "taker")
WORD_FIELDS = ("kind", "scope", "side", "time_in_force", "action")  # fields whose code has a word
UNITS: dict[str, Callable[[int], str]] = {"e4": price, "e7": exact_money, "wh": energy, "w": watts}
_SEQ = re.compile(r"[0-9]{1,16}", re.ASCII)
_CONTRACT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", re.ASCII)
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
KINDS = ("entry", "order", "account", "contract", "block")


class EntryLine(NamedTuple):
    """An entry in a list."""

    seq: int
    type: str
    word: str
    at: str
    summary: list[tuple[str, object]]


class Field(NamedTuple):
    """A field of an entry; ``link`` is "" where it leads nowhere, ``meaning`` where the value says all."""

    name: str
    value: object
    link: str
    meaning: str


# --- the log ---------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def explorer(request: HttpRequest) -> HttpResponse:
    """Show the newest blocks and a search."""
    before = number_of(request.GET.get("before", ""))
    blocks = ledger.blocks(PAGE_BLOCKS + 1, before=before)
    context = {
        "blocks": blocks[:PAGE_BLOCKS],
        "next": blocks[PAGE_BLOCKS - 1].height if len(blocks) > PAGE_BLOCKS else None,
        "before": before,
        "newest": blocks[0] if blocks and before is None else next(iter(ledger.blocks(1)), None),
        "kinds": _kind_choices(),
        "witnessed": cosigning.witnessed_size(),
    }
    return render(request, "regulator/explorer.html", context)


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def block(request: HttpRequest, height: int) -> HttpResponse:
    """Show a block: its seal's fields, its checkpoint, its entries."""
    try:
        found = ledger.block(height)
        note = ledger.checkpoint(found.size)
        seal = ledger.entry(found.size - 1)
    except ledger.NotThere as error:
        raise Http404 from error
    first = number_of(request.GET.get("from", "")) or found.first
    first = min(max(first, found.first), found.size - 1)
    records = ledger.entries(first, min(PAGE_ENTRIES, found.size - first))
    privacy.note(request, accesslog.ENTRIES, accounts=accounts_named(records))
    entries = [line_of(entry) for entry in records]
    context = {
        "sealed": found,
        "note": note,
        "seal": _fields(seal),
        "entries": entries,
        "next": first + PAGE_ENTRIES if first + PAGE_ENTRIES < found.size else None,
        "newest": next(iter(ledger.blocks(1)), None),
        "witnessed": cosigning.witnessed_size(),
        "verify": {"note": note, "vkey": ledger.key_of(note)},
    }
    return render(request, "regulator/block.html", context)


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def entry(request: HttpRequest, seq: int) -> HttpResponse:
    """Show an entry: fields, bytes, hash, proof; the browser can check them itself."""
    try:
        leaf = ledger.leaf(seq)
        fields = ledger.entry(seq)
    except ledger.NotThere as error:
        raise Http404 from error
    under: dict[str, Any] = {}
    try:
        proof = ledger.inclusion(seq)
        under = {
            "sealed": ledger.block_of(seq),
            "proof": proof,
            "verify": {
                "seq": seq,
                "leaf": base64.b64encode(leaf).decode(),
                "size": proof.size,
                "hashes": proof.hashes,
                "note": proof.checkpoint,
                "vkey": ledger.key_of(proof.checkpoint),
            },
            "witnessed": cosigning.witnessed_size(),
        }
    except ledger.NotThere:
        pass  # not sealed yet: the page says so
    transfers = queries.transfers(seq=seq, newest_first=False, limit=PAGE_ROWS)
    moved = {account for transfer in transfers for account in (transfer.debit, transfer.credit)}
    privacy.note(request, accesslog.ENTRIES, accounts=moved | set(accounts_named([fields])))
    decision = grid_queries.decision(seq) if request.user.role in {Role.STAFF, Role.REGULATOR} else None
    found = recall.find(seq) if fields["type"] == "trade" else None
    place = ""  # from where the book after it is shown, to those who see books of the past
    if request.user.role in {Role.STAFF, Role.REGULATOR}:
        place = found.buy_area if found is not None else str(fields["area"]) if fields["type"] == "order" else ""
    context = {
        "seq": seq,
        "type": str(fields["type"]),
        "word": _word(fields),
        "trade": found,
        "place": place,
        "contract": fields.get("contract", ""),
        "may_recall": found is not None and request.user.role == Role.STAFF and recall.possible(found),
        "at": fields["at"],
        "fields": _fields(fields),
        "leaf": leaf.decode(),
        "leaf_size": len(leaf),
        "decision": decision,
        "may_erase": erasing.possible(request.user, decision),
        "transfers": transfers,
        "size": ledger.size(),
        **under,
    }
    return render(request, "regulator/entry.html", context)


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def proof(request: HttpRequest, seq: int) -> HttpResponse:
    """Hand out an entry's receipt as a file (https://c2sp.org/tlog-proof)."""
    try:
        text = receipts.entry_receipt(seq)
    except ledger.NotThere as error:
        raise Http404 from error
    privacy.note(request, accesslog.ENTRIES, accounts=accounts_named([ledger.entry(seq)]))
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="entry-{seq}.tlog-proof"'
    return response


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def checking(request: HttpRequest) -> HttpResponse:
    """Explain how to check the ledger without us: key, checkpoint, commands."""
    try:
        note = ledger.checkpoint()
    except ledger.NotThere:
        note = ""
    vkey = ledger.key_of(note) if note else ledger_operations.verifier_key()
    vkeys = ledger.valid_keys() or [vkey]
    context = {
        "note": note,
        "vkey": vkey,
        "vkeys": vkeys,
        "vkeys_text": "\n".join(vkeys),
        "witnesses": witnessing.status(),
        "verify": {"note": note, "vkey": vkey},
        "open_ledger": settings.LEDGER_OPEN,
        "address": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "regulator/checking.html", context)


# --- searching -------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """Lead to what was asked for: an entry, an order, an account, a contract or a block."""
    text = request.GET.get("q", "").strip()
    kind = request.GET.get("kind", "entry")
    where = _find(text, kind if kind in KINDS else "entry")
    if where is None:
        messages.warning(request, _("Nothing was found for “%(text)s”.") % {"text": text[:64]})
        return redirect(reverse("regulator") + "?" + urlencode({"kind": kind[:16], "q": text[:64]}))
    return redirect(where)


def _find(text: str, kind: str) -> str | None:
    if _CONTRACT.fullmatch(text):
        return reverse("ledger-contract", args=[text]) if queries.contract(text) is not None else None
    if _ACCOUNT_ID.fullmatch(text):
        found = queries.account_by_id(text)
        return None if found is None else reverse("ledger-account", args=[found])
    number = number_of(text)
    if number is None:
        return None
    if kind == "account":
        return reverse("ledger-account", args=[number]) if queries.balance(number) is not None else None
    if kind == "order":
        return reverse("ledger-order", args=[number]) if queries.order(number) is not None else None
    if kind == "block":
        try:
            return reverse("ledger-block", args=[ledger.block(number).height])
        except ledger.NotThere:
            return None
    return reverse("ledger-entry", args=[number]) if number < ledger.size() else None


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def order(request: HttpRequest, order_id: int) -> HttpResponse:
    """Show an order's life: placed, changed, traded, gone; each step with its entry."""
    found = queries.order(order_id)
    if found is None:
        raise Http404
    legs = queries.legs(found.group) if found.group else []
    privacy.note(request, accesslog.ORDERS, accounts={found.account, *(leg.account for leg in legs)})
    return render(request, "regulator/order.html", {"order": found, "steps": life_of(found), "legs": legs})


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def account(request: HttpRequest, index: int) -> HttpResponse:
    """Show what an account did; it is a number here, never a name."""
    balance = queries.balance(index)
    if balance is None:
        raise Http404
    privacy.note(request, accesslog.ACCOUNT, accounts=[index])
    context = {
        "balance": balance,
        "orders": queries.orders(account=index, limit=PAGE_ROWS),
        "trades": queries.trades(account=index, limit=PAGE_ROWS, newest_first=True),
        "lines": queries.settlement_lines(account=index, limit=PAGE_ROWS),
        "limits": connection.limits_of(index),
    }
    return render(request, "regulator/account.html", context)


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def contract(request: HttpRequest, name: str) -> HttpResponse:
    """Show a contract: its state, its trades, its settlement."""
    found = queries.contract(name)
    if found is None:
        raise Http404
    before = number_of(request.GET.get("before", ""))
    trades = queries.trades(contract=name, before=before, limit=PAGE_ROWS + 1, newest_first=True)
    sides = {side for trade in trades[:PAGE_ROWS] for side in (trade.buyer, trade.seller)}
    privacy.note(request, accesslog.TRADES, accounts=sides)
    context = {
        "contract": found,
        "trades": trades[:PAGE_ROWS],
        "next": trades[PAGE_ROWS - 1].seq if len(trades) > PAGE_ROWS else None,
    }
    return render(request, "regulator/contract.html", context)


@never_cache
@only_for(*LEDGER_ROLES)
@require_safe
def refusals(request: HttpRequest) -> HttpResponse:
    """Show what the market refused: kept beside the ledger, since it changed nothing."""
    before = number_of(request.GET.get("before", ""))
    rows = queries.refusals(before=before, limit=PAGE_ROWS + 1)
    privacy.note(request, accesslog.REFUSALS, accounts={row.account for row in rows[:PAGE_ROWS]})
    context = {
        "rows": [(row, asked(row.command)) for row in rows[:PAGE_ROWS]],
        "next": rows[PAGE_ROWS - 1].n if len(rows) > PAGE_ROWS else None,
        "before": before,
    }
    return render(request, "regulator/refusals.html", context)


# --- helpers ---------------------------------------------------------------------------------------------------------
def number_of(text: str) -> int | None:
    """Return a number of the ledger that a text is, None when it is none."""
    if not _SEQ.fullmatch(text) or int(text) > MAX_SEQ:
        return None
    return int(text)


def _word(fields: Mapping[str, int | str]) -> str:
    """Return what an entry is, in a word or two."""
    kind = str(fields["type"])
    if kind == "halt":
        if fields.get("cancel"):
            return _("Halt that takes back all orders")
        return _("Halt") if fields["on"] else _("End of a halt")
    if kind == "order" and "kind" in fields:
        return str(KIND_WORDS.get(str(fields["kind"]), ENTRY_WORDS[kind]))
    return str(ACTION_WORDS.get((kind, str(fields.get("action", ""))), ENTRY_WORDS.get(kind, kind)))


def _kind_choices() -> list[tuple[str, str]]:
    words = (_("Entry"), _("Order"), _("Account"), _("Contract"), _("Block"))
    return list(zip(KINDS, words, strict=True))


_HIDDEN = {"v", "seq", "type", "at", "salt"}
INSTANTS = ("at", "until", "expires_at")
SWITCHES = ("on", "cancel", "requeued")
_LONG = {
    "root",
    "root_before",
    "state",
    "prev",
    "rules",
    "totals",
    "sha256",
    "vkey",
    "connection",
    "commitment",
    "public_key",
    "sig",
    "nonce",
}


def line_of(fields: Mapping[str, Any]) -> EntryLine:
    """Return an entry as a line of a list."""
    kind = str(fields["type"])
    unsaid = _HIDDEN | _LONG | (set() if kind == "order" else {"group"})  # the group of an account may be a long name
    summary = [(name, value) for name, value in fields.items() if name not in unsaid]
    return EntryLine(int(fields["seq"]), kind, _word(fields), str(fields["at"]), summary)


def _fields(fields: dict[str, int | str]) -> list[Field]:
    first = [name for name in ("seq", "type", "at") if name in fields]
    names = first + [name for name in fields if name not in first]
    kind = str(fields["type"])
    return [Field(name, fields[name], _link(kind, name, fields[name]), _meaning(name, fields[name])) for name in names]


def _meaning(name: str, value: int | str) -> str:
    """Return what an integer of the ledger stands for, by the unit at the end of its name."""
    if name in INSTANTS:
        return f"{day(parse_at(str(value)))} {clock_seconds(parse_at(str(value)))}"
    if name in {"contract", "last"} and _CONTRACT.fullmatch(str(value)):
        return f"{day(start_ms(str(value)))} {slot(str(value))}"
    if name == "reason":
        return _reason(str(value))
    if name in WORD_FIELDS:
        return word(str(value)) if word(str(value)) != value else ""
    if name in SWITCHES:
        return _("yes") if value else _("no")
    show = UNITS.get(name.rpartition("_")[2]) if isinstance(value, int) else None
    return show(value) if show is not None else ""


def _reason(code: str) -> str:
    """Return the words for a reason: those of officials, else those of the rules; "" for one that has none."""
    words = reason(code) if reason(code) != code else word(code)
    return "" if words == code else words


def _link(kind: str, name: str, value: int | str) -> str:
    if name in ENTRY_FIELDS or (name == "group" and kind == "order"):
        return reverse("ledger-order", args=[value])
    if name == "trade" and kind == "recall":
        return reverse("ledger-entry", args=[value])
    if name == "account" and isinstance(value, int):
        return reverse("ledger-account", args=[value])
    if name in {"contract", "last"} and _CONTRACT.fullmatch(str(value)):
        return reverse("ledger-contract", args=[value])
    if name in {"rules", "rulebook_sha256"} or (name == "sha256" and kind == "rulebook"):
        return f"/ledger/rulebook/{value}"
    return ""


urlpatterns = [
    path("regulator", explorer, name="regulator"),
    path("regulator/search", search, name="ledger-search"),
    path("regulator/checking", checking, name="ledger-checking"),
    path("regulator/refusals", refusals, name="ledger-refusals"),
    path("regulator/blocks/<int:height>", block, name="ledger-block"),
    path("regulator/entries/<int:seq>", entry, name="ledger-entry"),
    path("regulator/entries/<int:seq>/proof", proof, name="ledger-proof"),
    path("regulator/orders/<int:order_id>", order, name="ledger-order"),
    path("regulator/accounts/<int:index>", account, name="ledger-account"),
    path("regulator/contracts/<str:name>", contract, name="ledger-contract"),
]
