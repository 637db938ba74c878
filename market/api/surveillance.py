"""`/api/v1/regulator/…`: searches by anything, books of the past, views, exports, and the log of own accesses."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from urllib.parse import parse_qsl

from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone
from rest_framework.request import Request

from market.api import cursors, shapes
from market.api.openapi import PAGE, describe, query
from market.api.problems import Problem
from market.api.regulator import RegulatorView, order_view, trade_view
from market.api.views import answer, area_of, contract_of
from market.exchange.units import at_text, money_text, price_text
from market.surveillance import concentration, exports, filters, looks, past, pastviews, saved, search
from market.surveillance.filters import BadFilter, Filter

MAX_QUERY_CHARS = 1_000
MAX_DAYS = 7

_SEARCH = (
    query("kind", "what to find: trades (default), orders, entries"),
    query("account", "only of this account", int),
    query("area", "only where one side (with `side`: that side) is in this area"),
    query("contract", "only of this contract"),
    query("side", "buy or sell"),
    query("type", "of orders: limit, iceberg, …; of trades: standing, recalled; of entries: their type"),
    query("from", "not before this instant (RFC 3339)"),
    query("until", "before this instant"),
    query("price_from", "at least this price (currency per kWh)"),
    query("price_to", "at most this price"),
    query("wh_from", "at least this energy", int),
    query("wh_to", "at most this energy", int),
    query("order", "only of this order", int),
    query("trade", "only of this trade", int),
    query("block", "only in this block of the ledger", int),
    query("hash", "only the entry with this leaf hash (hex)"),
)


def filter_of(values: dict[str, str]) -> Filter:
    """Return the search that fields describe; raise ``Problem``."""
    try:
        return filters.parse(values)
    except BadFilter as error:
        status = 400 if error.code == "unknown_field" else 422
        params: dict[str, object] = {"name": error.field, "low": 0, "high": filters.MAX_INTEGER}
        raise Problem(status, error.code, error.field, params=params) from None


def _filter_of_query(text: str) -> Filter:
    if len(text) > MAX_QUERY_CHARS:
        raise Problem(422, "invalid_value", "query")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=50)
    except ValueError:
        raise Problem(422, "invalid_value", "query") from None
    return filter_of(dict(pairs))


class Search(RegulatorView):
    """Trades, orders or entries by anything."""

    @describe("Search by anything", shapes.SearchPage, tag="regulator", parameters=(*_SEARCH, *PAGE))
    def get(self, request: Request) -> HttpResponse:
        """Return what was found, newest first, with totals on the first page."""
        values = self.query(*filters.FIELDS, "limit", "cursor")
        wanted = filter_of({name: text for name, text in values.items() if name in filters.FIELDS})
        before, limit = cursors.number_cursor(values), cursors.limit_of(values)
        page = search.find(wanted, before=before, limit=limit)
        totals = search.totals(wanted) if before is None else None
        self.note(wanted.kind, lambda: search.accounts_of(page.rows), what=looks.SEARCH)
        return answer(
            {
                "kind": wanted.kind,
                "results": [_ROWS[wanted.kind](row) for row in page.rows],
                "next": None if page.next is None else cursors.encode(page.next),
                "looked": page.looked,
                "totals": None if totals is None else _totals(totals),
            }
        )


def _totals(totals: search.Totals) -> dict[str, Any]:
    return {
        "count": totals.count,
        "energy_wh": totals.energy_wh,
        "money": money_text(totals.money_e7),
        "lowest_price": None if totals.low_e4 is None else price_text(totals.low_e4),
        "highest_price": None if totals.high_e4 is None else price_text(totals.high_e4),
        "since": totals.since,
        "complete": totals.complete,
    }


def _entry(view: search.EntryView) -> dict[str, Any]:
    return {name: value for name, value in view.fields.items() if name not in ("v", "salt")}


_ROWS: dict[str, Any] = {filters.TRADES: trade_view, filters.ORDERS: order_view, filters.ENTRIES: _entry}


class PastBook(RegulatorView):
    """The book as it stood."""

    @describe(
        "A book as it stood after any entry",
        shapes.PastBook,
        tag="regulator",
        parameters=(
            query("contract", "the contract"),
            query("area", "where the reader stands"),
            query("seq", "the entry after which", int),
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return the book, rebuilt from the ledger; 202 while the entries up to there are being replayed."""
        values = self.query("contract", "area", "seq")
        for name in ("contract", "area", "seq"):
            if not values.get(name):
                raise Problem(400, "missing_field", name)
        seq = cursors.integer(values, "seq")
        assert seq is not None
        contract, area = contract_of(values["contract"], status=422), area_of(values["area"], status=422)
        try:
            moment = past.book(contract=contract, area=area, seq=seq)
        except pastviews.NoSuchEntry:
            raise Problem(404, "not_found", "seq") from None
        except pastviews.UnknownArea:
            raise Problem(404, "unknown_area", "area") from None
        except pastviews.Busy:
            raise Problem(503, "overloaded", headers=(("Retry-After", "2"),)) from None
        except pastviews.Contradicted as error:
            raise Problem(500, "ledger_contradiction", "seq", params={"seq": error.seq}) from None
        except pastviews.Rebuilding as error:
            response = answer({"state": "rebuilding", "done": error.done, "of": error.of}, 202)
            response["Retry-After"] = "1"
            return response
        self.note(looks.KIND_OF_BOOK, lambda: {order.account for order in moment.orders}, what=looks.BOOK)
        return answer(_moment(moment))


def _moment(moment: pastviews.Moment) -> dict[str, Any]:
    sides = {
        side: [
            {
                "price": price_text(level.price_e4),
                "energy_wh": level.energy_wh,
                "fee": price_text(level.fee_e4),
                "was_wh": level.was_wh,
                "mark": level.mark,
            }
            for level in levels
        ]
        for side, levels in (("bids", moment.bids), ("asks", moment.asks))
    }
    orders = []
    for order in moment.orders:
        told = order._asdict()
        told["price"] = price_text(told.pop("price_e4"))
        orders.append(told)
    entries = [{name: value for name, value in entry.items() if name not in ("v", "salt")} for entry in moment.entries]
    kept = ("contract", "area", "seq", "first", "last", "state", "halted", "more_orders")
    told = {name: getattr(moment, name) for name in kept}
    return {**told, "at": at_text(moment.at_ms), **sides, "orders": orders, "entries": entries}


# --- views -----------------------------------------------------------------------------------------------------------
class Views(RegulatorView):
    """My searches with a name."""

    @describe("My saved views", shapes.SavedViewPage, tag="regulator")
    def get(self, request: Request) -> HttpResponse:
        """Return them by name."""
        self.query()
        return answer({"results": [_view(view) for view in saved.views(self.me())], "next": None})

    @describe("Save a view", shapes.SavedViewOut, tag="regulator", body=shapes.SavedViewIn, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Keep a search under a name."""
        body = self.decode(shapes.SavedViewIn)
        text = filters.query_of(_filter_of_query(body.query))
        try:
            view = saved.save(user_id=self.me(), name=body.name, query=text, now=timezone.now())
        except saved.ViewError as error:
            raise _view_problem(error) from None
        return answer(_view(view), 201)


class OneView(RegulatorView):
    """One of my views."""

    @describe("Rename a view", shapes.SavedViewOut, tag="regulator", body=shapes.SavedViewNameIn)
    def patch(self, request: Request, view_id: int) -> HttpResponse:
        """Give it another name."""
        try:
            view = saved.rename(user_id=self.me(), view_id=view_id, name=self.decode(shapes.SavedViewNameIn).name)
        except saved.ViewError as error:
            raise _view_problem(error) from None
        if view is None:
            raise Problem(404, "not_found")
        return answer(_view(view))

    @describe("Forget a view", shapes.SavedViewPage, tag="regulator")
    def delete(self, request: Request, view_id: int) -> HttpResponse:
        """Delete it and return those that are left."""
        if not saved.delete(user_id=self.me(), view_id=view_id):
            raise Problem(404, "not_found")
        return answer({"results": [_view(view) for view in saved.views(self.me())], "next": None})


def _view(view: saved.View) -> dict[str, Any]:
    return {**view._asdict(), "made_at": _instant(view.made_at)}


def _view_problem(error: saved.ViewError) -> Problem:
    status = 422 if error.code == "invalid_value" else 409
    return Problem(status, error.code, error.field, params={"limit": saved.MAX_VIEWS})


def _instant(at: datetime) -> str:
    return at_text(int(at.timestamp() * 1000))


# --- exports ---------------------------------------------------------------------------------------------------------
class Exports(RegulatorView):
    """My exports."""

    @describe("My exports", shapes.ExportPage, tag="regulator", parameters=PAGE)
    def get(self, request: Request) -> HttpResponse:
        """Return them, newest first."""
        values = self.query("limit", "cursor")
        limit = cursors.limit_of(values)
        rows = exports.exports(reader=self.me(), before=cursors.number_cursor(values), limit=limit + 1)
        return answer(cursors.page(rows, limit, lambda row: row.id, _export))

    @describe("Make an export", shapes.ExportOut, tag="regulator", body=shapes.ExportIn, status=201)
    def post(self, request: Request) -> HttpResponse:
        """Write what a search finds to a file, oldest first."""
        body = self.decode(shapes.ExportIn)
        wanted = _filter_of_query(body.query)
        try:
            made = exports.make(reader=self.me(), wanted=wanted, format=body.format, now=timezone.now())
        except exports.ExportBusy:
            raise Problem(503, "overloaded", headers=(("Retry-After", "5"),)) from None
        self.note(wanted.kind, everybody=True, what=looks.EXPORT, query=made.query, sha256=made.sha256)
        return answer(_export(made), 201)


def _export(made: exports.Made) -> dict[str, Any]:
    told = made._asdict()
    kept = bool(told.pop("file"))
    return {**told, "made_at": _instant(made.made_at), "kept": kept}


class ExportFile(RegulatorView):
    """The bytes of an export."""

    @describe("An export's file", shapes.ExportOut, tag="regulator")
    def get(self, request: Request, export_id: int) -> HttpResponse | StreamingHttpResponse:
        """Return the file; its SHA-256 is in `Repr-Digest` (RFC 9530)."""
        self.query()
        made = exports.export(reader=self.me(), export_id=export_id)
        response = None if made is None else exports.response(made)
        if made is None or response is None:
            raise Problem(404, "not_found")
        self.note(made.kind, everybody=True, what=looks.DOWNLOAD, query=made.query, sha256=made.sha256)
        return response


class Looks(RegulatorView):
    """What I looked at."""

    @describe("What I looked at", shapes.LookPage, tag="regulator", parameters=PAGE)
    def get(self, request: Request) -> HttpResponse:
        """Return my own looks, newest first."""
        values = self.query("limit", "cursor")
        limit = cursors.limit_of(values)
        rows = looks.by(self.me(), before=cursors.number_cursor(values), limit=limit + 1)
        return answer(
            cursors.page(rows, limit, lambda row: row.id, lambda row: {**row._asdict(), "at": _instant(row.at)})
        )


class Concentrations(RegulatorView):
    """How much of the trade is in few hands."""

    @describe(
        "Concentration by day and area",
        shapes.ConcentrationPage,
        tag="regulator",
        parameters=(query("day", "delivery day in the market's time zone, 2026-06-06; the last of `days`"),
                    query("days", f"how many, 1 (default) to {MAX_DAYS}", int)),
    )  # fmt: skip
    def get(self, request: Request) -> HttpResponse:
        """Return shares of the largest buyers and sellers, and the Herfindahl-Hirschman index."""
        values = self.query("day", "days")
        try:
            last = date.fromisoformat(values.get("day", ""))
        except ValueError:
            raise Problem(422, "invalid_value", "day") from None
        if not concentration.FIRST_DAY <= last <= concentration.LAST_DAY:
            raise Problem(422, "invalid_value", "day")
        days = cursors.integer(values, "days", low=1, high=MAX_DAYS) or 1
        try:
            rows = concentration.by_day(last=last, days=days)
        except concentration.TooMany:
            raise Problem(503, "overloaded", headers=(("Retry-After", "5"),)) from None
        self.note(filters.TRADES, lambda: {one[0] for row in rows for one in row.largest}, what=looks.CHARTS)
        return answer({"results": [_concentration(row) for row in rows], "next": None})


def _concentration(row: concentration.Hands) -> dict[str, Any]:
    largest = [dict(zip(("account", "energy_wh", "share_bp"), one, strict=True)) for one in row.largest]
    return {**row._asdict(), "day": row.day.isoformat(), "largest": largest}
