"""The regulator's search by anything, the searches it keeps, and files of what they find."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from market.households.models import Role
from market.pages import privacy
from market.pages.context import local, market_zone
from market.pages.entrywords import ENTRY_WORDS
from market.pages.regulator import line_of, number_of
from market.pages.roles import only_for
from market.pages.templatetags.official import word
from market.surveillance import exports, filters, formats, looks, saved, search
from market.surveillance.filters import BadFilter, Filter

WATCHERS = (Role.REGULATOR, Role.STAFF)
PAGE_ROWS = 50
MAX_FIELDS = 50  # of a query that comes back in a form
ENDS = ("until", "price_to", "wh_to")
_NUMBER = gettext_lazy("A whole number, like 4711.")
_PRICE = gettext_lazy("A price per kWh with at most four decimals, like 0.1850.")
_TIME = gettext_lazy("A day and a time, like 2026-06-06 12:15.")
LOOKS_LIKE = {
    "type": gettext_lazy("What is looked for has no such type: choose one of its own."),
    "area": gettext_lazy("The name of an area, like LV1.101."),
    "contract": gettext_lazy("A contract is named by its start in UTC, like 2026-06-06T12:15Z."),
    "hash": gettext_lazy("A hash has 64 digits from 0 to 9 and a to f."),
    **dict.fromkeys(("account", "wh_from", "wh_to", "order", "trade", "block"), _NUMBER),
    **dict.fromkeys(("price_from", "price_to"), _PRICE),
    **dict.fromkeys(("from", "until"), _TIME),
}


class Field(NamedTuple):
    """A field of the search; ``choices`` is () unless it is one of several values."""

    name: str
    label: str
    type: str  # of its input
    value: str
    wrong: str  # what is wrong with the value, "" when nothing is
    choices: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()


@never_cache
@only_for(*WATCHERS)
@require_safe
def find(request: HttpRequest) -> HttpResponse:
    """Search trades, orders or entries; the address says what for, so that it can be kept and shared."""
    given = {name: request.GET[name] for name in request.GET if name in filters.FIELDS}
    try:
        wanted = filters.parse(given, zone=market_zone())
    except BadFilter as error:
        return _page(request, given, {error.field: _wrong(error, given)}, None)
    return _page(request, given, {}, wanted)


def _wrong(error: BadFilter, given: dict[str, str]) -> str:
    """Return what is wrong with a field: where its range ends, or what its value should look like."""
    no_number = error.field == "wh_to" and number_of(given["wh_to"].strip()) is None
    if error.field in ENDS and error.code == "out_of_range" and not no_number:
        return _("This is before where the range begins.")
    return str(LOOKS_LIKE.get(error.field, _("This value is not allowed.")))


def _page(request: HttpRequest, given: dict[str, str], wrong: dict[str, str], wanted: Filter | None) -> HttpResponse:
    context: dict[str, Any] = {
        "fields": _fields(given, wrong, wanted),
        "wrong": wrong,
        "views": saved.views(request.user.pk),
        "formats": formats.FORMATS,
        "max_rows": exports.MAX_ROWS,
    }
    if wanted is not None:
        before = number_of(request.GET.get("before", ""))
        page = search.find(wanted, before=before, limit=PAGE_ROWS)
        privacy.note(request, wanted.kind, accounts=search.accounts_of(page.rows), what=looks.SEARCH)
        rows = [line_of(row.fields) for row in page.rows] if wanted.kind == filters.ENTRIES else page.rows
        context |= {
            "kind": wanted.kind,
            "side": wanted.side,
            "rows": rows,
            "next": page.next,
            "looked": page.looked,
            "before": before,
            "totals": search.totals(wanted) if before is None else None,
            "query": filters.query_of(wanted),
        }
    return render(request, "regulator/find.html", context)


def _fields(given: dict[str, str], wrong: dict[str, str], wanted: Filter | None) -> list[Field]:
    def value(name: str) -> str:
        at_ms = None if wanted is None else {"from": wanted.from_ms, "until": wanted.until_ms}.get(name)
        return given.get(name, "")[:200] if at_ms is None else f"{local(at_ms):%Y-%m-%dT%H:%M:%S}"

    plain = [
        ("account", _("Account"), "number"), ("area", _("Area"), "text"), ("contract", _("Contract"), "text"),
        ("from", _("From, market time"), "datetime-local"), ("until", _("Until, market time"), "datetime-local"),
        ("price_from", _("Price from, per kWh"), "text"), ("price_to", _("Price to, per kWh"), "text"),
        ("wh_from", _("Size from, Wh"), "number"), ("wh_to", _("Size to, Wh"), "number"), ("order", _("Order"), "number"),
        ("trade", _("Trade"), "number"), ("block", _("Block"), "number"), ("hash", _("Hash of the entry"), "text"),
    ]  # fmt: skip
    kinds = tuple((kind, word(kind)) for kind in filters.KINDS)
    any_ = (("", _("any")),)
    sides = tuple((side, word(side)) for side in filters.SIDES)
    types = tuple(
        (word(kind), tuple((name, _type_word(name)) for name in filters.TYPES[kind])) for kind in filters.KINDS
    )
    choices = [
        Field("kind", _("What"), "select", given.get("kind", ""), wrong.get("kind", ""), (("", kinds),)),
        Field("side", _("Side"), "select", given.get("side", ""), wrong.get("side", ""), (("", any_ + sides),)),
        Field("type", _("Type"), "select", given.get("type", ""), wrong.get("type", ""), (("", any_), *types)),
    ]
    return choices + [Field(name, label, kind, value(name), wrong.get(name, "")) for name, label, kind in plain]


def _type_word(name: str) -> str:
    return str(ENTRY_WORDS[name]) if name in ENTRY_WORDS and name not in filters.ORDER_TYPES else word(name)


# --- views -----------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*WATCHERS)
@require_POST
def views(request: HttpRequest) -> HttpResponse:
    """Keep, rename or forget a search."""
    query, name = request.POST.get("query", ""), request.POST.get("name", "")
    view_id = number_of(request.POST.get("view", ""))
    try:
        if "delete" in request.POST and view_id is not None:
            if not saved.delete(user_id=request.user.pk, view_id=view_id):
                raise Http404
            messages.success(request, _("The view is deleted."))
        elif view_id is not None:
            if saved.rename(user_id=request.user.pk, view_id=view_id, name=name) is None:
                raise Http404
            messages.success(request, _("The view has its new name."))
        else:
            query = filters.query_of(_filter(query))
            saved.save(user_id=request.user.pk, name=name, query=query, now=timezone.now())
            messages.success(request, _("The view is saved."))
    except saved.ViewError as error:
        messages.error(request, _view_sentence(error))
    except BadFilter:
        messages.error(request, _("This search cannot be kept."))
        query = ""
    return redirect(f"{reverse('regulator-find')}?{query}")


def _filter(query: str) -> Filter:
    try:
        return filters.parse(dict(parse_qsl(query[:1_000], max_num_fields=MAX_FIELDS)))
    except ValueError as error:
        raise error if isinstance(error, BadFilter) else BadFilter("query") from error


def _view_sentence(error: saved.ViewError) -> str:
    if error.code == "view_exists":
        return _("You have a view of this name.")
    if error.code == "too_many_views":
        return _("You have %(limit)s views: delete one first.") % {"limit": saved.MAX_VIEWS}
    return _("A view needs a name of at most 80 characters.")


# --- exports ---------------------------------------------------------------------------------------------------------
@never_cache
@only_for(*WATCHERS)
def files(request: HttpRequest) -> HttpResponse:
    """List the exports, or make one of a search."""
    if request.method == "POST":
        return _make(request)
    before = number_of(request.GET.get("before", ""))
    rows = exports.exports(reader=request.user.pk, before=before, limit=PAGE_ROWS + 1)
    context = {
        "rows": rows[:PAGE_ROWS],
        "next": rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
        "max_rows": exports.MAX_ROWS,
        "kept_days": exports.KEPT_DAYS,
        "kept_files": exports.KEPT_FILES,
    }
    return render(request, "regulator/exports.html", context)


def _make(request: HttpRequest) -> HttpResponse:
    query, format = request.POST.get("query", ""), request.POST.get("format", "")
    if format not in formats.FORMATS:
        raise Http404
    try:
        wanted = _filter(query)
        made = exports.make(reader=request.user.pk, wanted=wanted, format=format, now=timezone.now())
    except (BadFilter, exports.ExportBusy) as error:
        busy = isinstance(error, exports.ExportBusy)
        sentence = (
            _("Other exports are being made; try again in a moment.") if busy else _("This search cannot be kept.")
        )
        messages.error(request, sentence)
        return redirect("regulator-find")
    privacy.note(request, wanted.kind, everybody=True, what=looks.EXPORT, query=made.query, sha256=made.sha256)
    messages.success(request, _("The export is made. Its hash is noted in the log of what you looked at."))
    return redirect("regulator-exports")


def _mine(request: HttpRequest, export_id: int) -> exports.Made:
    made = exports.export(reader=request.user.pk, export_id=export_id)
    if made is None:
        raise Http404
    return made


@never_cache
@only_for(*WATCHERS)
@require_safe
def file(request: HttpRequest, export_id: int) -> HttpResponseBase:
    """Hand an export out."""
    made = _mine(request, export_id)
    response = exports.response(made)
    if response is None:
        raise Http404
    privacy.note(request, made.kind, everybody=True, what=looks.DOWNLOAD, query=made.query, sha256=made.sha256)
    return response


@never_cache
@only_for(*WATCHERS)
@require_safe
def sidecar(request: HttpRequest, export_id: int) -> HttpResponse:
    """Hand out an export's hash as a file that ``sha256sum --check`` reads."""
    made = _mine(request, export_id)
    response = HttpResponse(made.sidecar, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{made.name}.sha256"'
    return response


# --- own accesses ----------------------------------------------------------------------------------------------------
@never_cache
@only_for(*WATCHERS)
@require_safe
def accesses(request: HttpRequest) -> HttpResponse:
    """Show what the reader looked at."""
    before = number_of(request.GET.get("before", ""))
    rows = looks.by(request.user.pk, before=before, limit=PAGE_ROWS + 1)
    context = {
        # A page can be looked at again; what made or fetched something, or was a program's, cannot.
        "rows": [
            (row, looks.WHAT.get(row.what, row.what), not row.sha256 and row.path.startswith("/regulator"))
            for row in rows[:PAGE_ROWS]
        ],
        "next": rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
        "before": before,
    }
    return render(request, "regulator/accesses.html", context)


urlpatterns = [
    path("regulator/find", find, name="regulator-find"),
    path("regulator/views", views, name="regulator-views"),
    path("regulator/exports", files, name="regulator-exports"),
    path("regulator/exports/<int:export_id>", file, name="regulator-export"),
    path("regulator/exports/<int:export_id>.sha256", sidecar, name="regulator-export-hash"),
    path("regulator/accesses", accesses, name="regulator-accesses"),
]
