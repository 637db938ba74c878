"""What Rita searches, replays, keeps and takes along, and what is kept about that."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from arro3.io import read_parquet
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from ledger import queries as ledger
from ledger.core.merkle import leaf_hash
from market.api import shapes
from market.engine.commands import PlaceIceberg
from market.exchange import models
from market.surveillance import entrysearch, exports, filters, formats, past, saved, search, steps
from market.surveillance.filters import MAX_AREA_CHARS, MAX_INTEGER, Filter, parse, query_of
from market.surveillance.models import QUERY_LENGTH
from tests.api.conftest import City, Person, refused, shaped

BASE = "/api/v1/regulator"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("exports")
    with override_settings(EXPORTS_DIR=path):
        yield path


@pytest.fixture(scope="module")
def story(city: City) -> dict[str, Any]:
    """Alice offers 500 Wh, Bob takes 200, Charlie's iceberg bids; Alice takes the rest back."""
    contract, market = city.market.contract(3), city.market
    sell = city.alice.order("sell", "0.2000", 500, contract=contract)["order"]["id"]
    buy = city.bob.order("buy", "0.2100", 200, contract=contract)
    trade = buy["trades"][0]["seq"] if "seq" in buy["trades"][0] else buy["seq"]
    iceberg = city.exchange.call(PlaceIceberg(city.charlie.account, contract, "buy", 1_000, 900, "gtg", 0, 300))
    cancel = city.alice.request("DELETE", f"/api/v1/orders/{sell}").json()["seq"]
    city.alice.order("sell", "0.3000", 700, contract=market.contract(4))
    return {
        "contract": contract, "sell": sell, "buy": buy["order"]["id"], "trade": trade,
        "iceberg": iceberg.events[0].seq, "cancel": cancel,
    }  # fmt: skip


def seqs(person: Person, **fields: Any) -> list[int]:
    page = shaped(person.get(f"{BASE}/search", **fields), shapes.SearchPage)
    return [row.get("seq", row.get("id")) for row in page.results]


def test_trades_are_found_by_anything(city: City, rita: Person, story: dict[str, Any]) -> None:
    trade, block = story["trade"], _block(story["trade"])
    at = ledger.entry(trade)["at"]
    for fields in (
        {"account": city.bob.account, "contract": story["contract"]},
        {"account": city.alice.account, "side": "sell"},
        {"area": "LV1.1", "price_from": "0.1990", "price_to": "0.2000"},
        {"wh_from": 200, "wh_to": 200},
        {"order": story["sell"]},
        {"order": story["buy"]},
        {"trade": trade},
        {"block": block},
        {"hash": leaf_hash(ledger.leaf(trade)).hex()},
        {"from": at, "contract": story["contract"]},
        {"type": "standing", "side": "buy", "account": city.bob.account},
    ):
        assert trade in seqs(rita, **fields), fields
    for fields in (
        {"account": city.alice.account, "side": "buy"},
        {"account": city.charlie.account},
        {"area": "LV2.1"},
        {"price_from": "0.2001", "side": "sell"},
        {"wh_from": 201},
        {"contract": city.market.contract(4)},
        {"type": "recalled"},
        {"until": at},
        {"block": block + 100_000},
        {"hash": "0" * 64},
    ):
        assert trade not in seqs(rita, **fields), fields


def _block(seq: int) -> int:
    for _ in range(200):
        if ledger.sealed_size() > seq:
            return ledger.block_of(seq).height
        time.sleep(0.02)
    raise AssertionError("not sealed")


def test_orders_and_entries_are_found_by_anything(city: City, rita: Person, story: dict[str, Any]) -> None:
    contract = story["contract"]
    assert seqs(rita, kind="orders", contract=contract) == [story["iceberg"], story["buy"], story["sell"]]
    assert seqs(rita, kind="orders", contract=contract, type="iceberg") == [story["iceberg"]]
    assert seqs(rita, kind="orders", contract=contract, type="limit", side="sell") == [story["sell"]]
    assert seqs(rita, kind="orders", trade=story["trade"]) == [story["buy"], story["sell"]]
    life = [story["cancel"], story["trade"], story["sell"]]
    assert seqs(rita, kind="entries", order=story["sell"]) == life
    assert seqs(rita, kind="entries", account=city.alice.account, contract=contract) == life
    assert seqs(rita, kind="entries", account=city.alice.account, type="fund")
    assert seqs(rita, kind="entries", type="cancel", contract=contract) == [story["cancel"]]
    assert 0 in seqs(rita, kind="entries", type="genesis")
    assert seqs(rita, kind="entries", hash=leaf_hash(ledger.leaf(5)).hex()) == [5]
    assert seqs(rita, kind="entries", area="LV2.1", contract=contract) == [story["iceberg"]]


def test_entries_are_found_by_their_type(city: City, story: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    by_type: dict[str, list[int]] = {}
    within = search.Span(0, ledger.size())
    for seq in range(within.high):
        by_type.setdefault(str(ledger.entry(seq)["type"]), []).append(seq)
    assert {"order", "trade", "cancel", "seal", "genesis", "area"} <= by_type.keys() and "halt" not in by_type
    monkeypatch.setattr(entrysearch, "AT_ONCE", 3)
    for kind in filters.ENTRY_TYPES:
        wanted, there = Filter(kind="entries", type=kind), by_type.get(kind, [])
        assert list(search.entry_seqs(wanted, within)) == there, kind
        found = search.find(wanted, limit=500)
        assert [row.seq for row in found.rows if row.seq < within.high] == there[::-1], kind
        assert search._entry_count(wanted, within) == (len(there), 0)
        some = search.Span(there[len(there) // 2] if there else 5, within.high)
        assert list(search.entry_seqs(wanted, some)) == [seq for seq in there if seq >= some.low], kind
    # More than are counted: from which one on is said.
    monkeypatch.setattr(search, "MAX_COUNTED", 2)
    assert search._entry_count(Filter(kind="entries", type="area"), within) == (2, by_type["area"][-2])
    assert not search.totals(Filter(kind="entries", type="area")).complete


@pytest.mark.parametrize("kind", ["halt", "cancel"])
def test_no_search_by_type_looks_through_entries(city: City, kind: str) -> None:
    """The index is taken, for what is there and what is not: a database that would not know its words reads everything."""
    for sql, values in (
        entrysearch._of_type("SELECT leaf FROM ledger_entry", kind, 0, 10**9),
        entrysearch._of_type("SELECT seq FROM ledger_entry", kind, 5, 10**9),
    ):
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":  # a ledger this small is read faster than any index
                cursor.execute("SET LOCAL enable_seqscan = off")
                cursor.execute("SET LOCAL enable_bitmapscan = off")
            explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
            cursor.execute(f"{explain}{sql} ORDER BY seq DESC LIMIT 51", values)
            plan = " ".join(str(row) for row in cursor.fetchall())
        assert "ledger_entry_type" in plan and "Sort" not in plan and "TEMP B-TREE" not in plan, plan


def test_the_way_to_the_next_change_is_an_index(city: City, story: dict[str, Any]) -> None:
    """A contract without changes is where it took long: every change of all others lay between."""
    contract = city.market.contract(4)
    with CaptureQueriesContext(connection) as asked:
        found = steps.around(contract, city.seq(), city.seq())
    assert found is not None and found.before is not None
    plans = []
    for query in asked.captured_queries:
        if "exchange_orderchange" in query["sql"]:
            with transaction.atomic(), connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute("SET LOCAL enable_seqscan = off")
                explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
                cursor.execute(explain + query["sql"].replace("%", "%%"))
                plans.append(" ".join(str(row) for row in cursor.fetchall()))
    assert len(plans) == 2 and all("orderchange_contract" in plan for plan in plans), plans


def test_a_hash_in_a_full_tile_is_found(city: City, rita: Person) -> None:
    while city.seq() < 520:
        city.market.place(city.alice.account, "sell", "0.9000", 100, contract=city.market.contract(5))
    _block(515)
    assert seqs(rita, kind="entries", hash=leaf_hash(ledger.leaf(3)).hex()) == [3]
    assert seqs(rita, kind="entries", hash=leaf_hash(ledger.leaf(300)).hex()) == [300]


def test_totals_and_pages(city: City, rita: Person, story: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    contract = city.market.contract(6)
    city.alice.order("sell", "0.1000", 1_000, contract=contract)
    for energy_wh in (100, 200, 300):
        city.bob.order("buy", "0.1000", energy_wh, contract=contract)
    page = shaped(rita.get(f"{BASE}/search", contract=contract, limit=2), shapes.SearchPage)
    assert page.totals.count == 3
    assert (page.totals.energy_wh, page.totals.money, page.totals.complete) == (600, "0.0600000", True)
    assert [row["energy_wh"] for row in page.results] == [300, 200]
    rest = shaped(rita.get(f"{BASE}/search", contract=contract, limit=2, cursor=page.next), shapes.SearchPage)
    assert ([row["energy_wh"] for row in rest.results], rest.next, rest.totals) == ([100], None, None)
    # Where no index helps, a page looks through a window and says how far it came; nothing is lost between pages.
    monkeypatch.setattr(search, "WINDOW", 40)
    wanted, before, found, pages = Filter(area="LV1.1"), None, [], 0
    while True:
        part = search.find(wanted, before=before, limit=50)
        found += [row.seq for row in part.rows]
        pages += 1
        if part.next is None:
            break
        before = part.next
    assert found == list(models.Trade.objects.order_by("-id").values_list("id", flat=True))
    assert pages >= city.seq() // 40
    assert not search.totals(wanted).complete


def test_prices_are_those_of_the_side_asked_for(city: City, rita: Person) -> None:
    contract = city.market.contract(7)
    city.alice.order("sell", "0.1000", 100, contract=contract)
    trade = city.charlie.order("buy", "0.2000", 100, contract=contract)["seq"]
    row = rita.get(f"{BASE}/search", contract=contract).json()["results"][0]
    assert row["seq"] == trade
    # The buyer is in another area and pays the grid's fees.
    assert seqs(rita, contract=contract, price_from="0.1000", price_to="0.1000") == [trade]
    assert seqs(rita, contract=contract, side="sell", price_to="0.1000") == [trade]
    assert seqs(rita, contract=contract, side="buy", price_to="0.1000") == []
    assert seqs(rita, contract=contract, side="buy", price_from="0.1001") == [trade]
    assert seqs(rita, contract=contract, side="buy", area="LV2.1") == [trade]
    assert seqs(rita, contract=contract, side="sell", area="LV2.1") == []


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"kind": "people"}, "kind", "invalid_value"),
        ({"account": "x"}, "account", "out_of_range"),
        ({"contract": "tomorrow"}, "contract", "invalid_value"),
        ({"price_from": "cheap"}, "price_from", "invalid_value"),
        ({"price_from": "0.2", "price_to": "0.1"}, "price_to", "out_of_range"),
        ({"hash": "abc"}, "hash", "invalid_value"),
        ({"area": "\u5317\u4eac"}, "area", "invalid_value"),
        ({"from": "yesterday"}, "from", "invalid_value"),
        ({"from": "9999-12-31T23:59Z"}, "from", "invalid_value"),
        ({"type": "iceberg"}, "type", "invalid_value"),
    ],
)
def test_bad_searches_name_their_field(rita: Person, fields: dict[str, str], field: str, code: str) -> None:
    refused(rita.get(f"{BASE}/search", **fields), 422, code, field)


def test_the_longest_search_fits_where_it_is_kept() -> None:
    most, price = MAX_INTEGER, MAX_INTEGER
    longest = Filter(
        "entries", most, "+" * MAX_AREA_CHARS, "2026-06-06T12:15Z", "sell", "agreement", 7 * 10**12, 7 * 10**12, -price, -price,
        most, most, most, most, most, "f" * 64,
    )  # fmt: skip
    text = query_of(longest)
    assert parse(dict(parse_qsl(text))) == longest
    assert len(text) <= QUERY_LENGTH


def test_the_book_as_it_stood(city: City, rita: Person, story: dict[str, Any]) -> None:
    ask = {"contract": story["contract"], "area": "LV1.1"}
    book = shaped(rita.get(f"{BASE}/book", **ask, seq=story["trade"]), shapes.PastBook)
    assert (book.first, book.last) == (story["buy"], story["trade"])
    assert [(one.price, one.energy_wh, one.was_wh, one.mark) for one in book.asks] == [("0.2000", 300, 500, "less")]
    assert [(one.id, one.account) for one in book.orders] == [(story["sell"], city.alice.account)]
    now = city.seq() - 1
    then = shaped(rita.get(f"{BASE}/book", **ask, seq=now), shapes.PastBook)
    live = rita.get(f"/api/v1/contracts/{story['contract']}/book", area="LV1.1").json()
    plain = [{"price": one.price, "energy_wh": one.energy_wh, "fee": one.fee} for one in then.bids if one.energy_wh]
    assert plain == live["bids"]
    refused(rita.get(f"{BASE}/book", **ask, seq=10**9), 404, "not_found", "seq")
    refused(rita.get(f"{BASE}/book", contract=story["contract"], area="X", seq=now), 404, "unknown_area", "area")
    refused(rita.get(f"{BASE}/book", **ask), 400, "missing_field", "seq")
    refused(rita.get(f"{BASE}/book", **ask, seq="x"), 400, "out_of_range", "seq")


def test_the_event_loop_goes_on_while_a_book_is_rebuilt(
    city: City, rita: Person, story: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on, genuine = threading.Event(), threading.Event(), past.PAST._book

    def slow(*args: Any) -> Any:
        inside.set()
        assert go_on.wait(20)
        return genuine(*args)

    monkeypatch.setattr(past.PAST, "_book", slow)
    answers: list[Any] = []
    fields = {"contract": story["contract"], "area": "LV1.1", "seq": story["trade"]}
    thread = threading.Thread(target=lambda: answers.append(rita.get(f"{BASE}/book", **fields)))
    thread.start()
    assert inside.wait(20)
    assert city.request("GET", "/healthz").status_code == 200
    assert city.alice.order("sell", "0.9000", 100)["order"]["status"] == "open"
    assert not answers
    go_on.set()
    thread.join(20)
    assert answers[0].status_code == 200


def test_views_are_mine_and_bounded(rita: Person, city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"name": "Dear", "query": "price_from=0.5&kind=orders"}
    view = shaped(rita.request("POST", f"{BASE}/views", json=body), shapes.SavedViewOut, 201)
    assert view.query == "kind=orders&price_from=0.5000"
    refused(rita.request("POST", f"{BASE}/views", json=body), 409, "view_exists", "name")
    refused(rita.request("POST", f"{BASE}/views", json={"name": "", "query": ""}), 422, "invalid_value", "name")
    refused(rita.request("POST", f"{BASE}/views", json={"name": "a", "query": "side=up"}), 422, "invalid_value", "side")
    again = rita.request("PATCH", f"{BASE}/views/{view.id}", json={"name": "Expensive"})
    assert shaped(again, shapes.SavedViewOut).name == "Expensive"
    assert city.sam.get(f"{BASE}/views").json()["results"] == []
    refused(city.sam.request("DELETE", f"{BASE}/views/{view.id}"), 404, "not_found")
    monkeypatch.setattr(saved, "MAX_VIEWS", 1)
    refused(rita.request("POST", f"{BASE}/views", json={"name": "b", "query": ""}), 409, "too_many_views", "name")
    assert rita.request("DELETE", f"{BASE}/views/{view.id}").json()["results"] == []


def made(person: Person, query: str, format: str) -> tuple[Any, bytes, Any]:
    body = {"query": query, "format": format}
    export = shaped(person.request("POST", f"{BASE}/exports", json=body), shapes.ExportOut, 201)
    response = person.get(f"{BASE}/exports/{export.id}/file")
    assert hashlib.sha256(response.content).hexdigest() == export.sha256
    digest = base64.b64encode(hashlib.sha256(response.content).digest()).decode()
    assert response.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert len(response.content) == export.size
    return export, response.content, response


@pytest.mark.parametrize("kind", ["trades", "orders", "entries"])
def test_every_export_reads_back_as_the_rows_it_was_made_of(
    rita: Person, city: City, story: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    query = f"kind={kind}&contract={story['contract']}".replace(":", "%3A")
    wanted = Filter(kind=kind, contract=story["contract"])
    rows = list(exports.rows_of(wanted, ledger.size()))
    assert rows
    assert list(exports.rows_of(wanted, rows[-1][0])) == rows[:-1], "what is younger than the export says it is"
    names = [column.name for column in exports.COLUMNS[kind]]
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    for row in expected:
        row["at"] = str(ledger.entry(row["seq"])["at"])
    export, content, _ = made(rita, query, "csv")
    assert (export.rows, export.complete) == (len(rows), True)
    read = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert read == [{name: str(value) for name, value in row.items()} for row in expected]
    _, content, _ = made(rita, query, "jsonl")
    assert [orjson.loads(line) for line in content.splitlines()] == expected
    _, content, _ = made(rita, query, "parquet")
    (tmp_path / "x.parquet").write_bytes(content)
    table = read_parquet(tmp_path / "x.parquet").read_all()
    columns = {name: table[name].to_pylist() for name in names}
    columns["at"] = [f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z" for at in columns["at"]]
    assert [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] == expected
    assert table.schema.field("seq").nullable is False


def test_an_export_has_an_end(rita: Person, story: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MAX_ROWS", 2)
    export, content, _ = made(rita, "kind=orders", "jsonl")
    assert (export.rows, export.complete, len(content.splitlines())) == (2, False, 2)
    monkeypatch.setattr(exports, "KEPT_FILES", 1)
    newer, _, _ = made(rita, "kind=orders", "csv")
    assert newer.kept
    refused(rita.get(f"{BASE}/exports/{export.id}/file"), 404, "not_found")
    listed = {one["id"]: one["kept"] for one in rita.get(f"{BASE}/exports").json()["results"]}
    assert (listed[export.id], listed[newer.id]) == (False, True)


def test_exports_that_wait_leave_threads_for_everybody_else(
    rita: Person, story: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    genuine = exports.rows_of
    answers: list[Any] = []

    def slow(wanted: Filter, *args: Any) -> Any:
        begun.set()
        go_on.wait(20)
        return genuine(wanted, *args)

    monkeypatch.setattr(exports, "rows_of", slow)
    threads = [threading.Thread(target=lambda: answers.append(made(rita, "kind=trades", "csv"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait(20)
    while exports._room._value:  # type: ignore[attr-defined]  # until the second one waits
        threading.Event().wait(0.01)
    body = {"query": "kind=trades", "format": "csv"}
    response = rita.request("POST", f"{BASE}/exports", json=body)
    go_on.set()
    for thread in threads:
        thread.join(20)
    refused(response, 503, "overloaded")
    assert len(answers) == 2


def test_no_cell_is_a_formula() -> None:
    columns = (formats.Column("area", formats.TEXT), formats.Column("energy_wh", formats.INTEGER))
    file = io.BytesIO()
    rows = [("=1+1", -5), ("@x", 1), ('a,"b', 2), ("+1", 3), ("-1", 4), ("\t=1", 5)]
    formats.write("csv", file, columns, rows, str)
    read = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))[1:]
    assert [cells[0] for cells in read] == ["'=1+1", "'@x", 'a,"b', "'+1", "'-1", "'\t=1"]
    assert [cells[1] for cells in read] == ["-5", "1", "2", "3", "4", "5"]


def test_an_empty_export_is_a_file_too(rita: Person) -> None:
    for format in formats.FORMATS:
        export, content, _ = made(rita, "account=999999", format)
        assert (export.rows, export.complete) == (0, True)
        assert bool(content) is (format != "jsonl")


def test_what_she_looked_at_is_kept(rita: Person, city: City, story: dict[str, Any]) -> None:
    rita.get(f"{BASE}/search", account=city.bob.account, wh_from=1)
    export, _, _ = made(rita, "kind=trades&wh_from=150", "csv")
    page = shaped(rita.get(f"{BASE}/accesses", limit=500), shapes.LookPage)
    found = {(look.what, look.query): look for look in page.results}
    assert ("search", f"account={city.bob.account}&wh_from=1") in found
    assert found["export", "kind=trades&wh_from=150"].sha256 == export.sha256
    assert found["download", "kind=trades&wh_from=150"].path == f"{BASE}/exports/{export.id}/file"
    assert ("book", f"contract={story['contract']}&area=LV1.1&seq={story['trade']}".replace(":", "%3A")) in found
    first = shaped(rita.get(f"{BASE}/accesses", limit=1), shapes.LookPage)
    second = shaped(rita.get(f"{BASE}/accesses", limit=1, cursor=first.next), shapes.LookPage)
    assert second.results[0].id < first.results[0].id
    assert city.sam.get(f"{BASE}/accesses").json()["results"] == []


def test_concentration_by_day_and_area(city: City, rita: Person, story: dict[str, Any]) -> None:
    day = story["contract"][:10]
    page = shaped(rita.get(f"{BASE}/concentration", day=day), shapes.ConcentrationPage)
    whole = {row.side: row for row in page.results if not row.area}
    bought: dict[int, int] = {}
    for buyer, energy_wh in models.Trade.objects.values_list("buyer", "energy_wh"):
        bought[buyer] = bought.get(buyer, 0) + energy_wh
    total = sum(bought.values())
    assert whole["buy"].hhi == round(sum(Fraction(100 * one, total) ** 2 for one in bought.values()))
    assert whole["buy"].largest[0]["share_bp"] == round(Fraction(10_000 * max(bought.values()), total))
    assert (whole["buy"].energy_wh, whole["buy"].accounts) == (total, len(bought))
    assert (whole["sell"].hhi, whole["sell"].largest[0]["account"]) == (10_000, city.alice.account)
    for wrong in ("x", "9999-12-31", "0001-01-01"):
        refused(rita.get(f"{BASE}/concentration", day=wrong), 422, "invalid_value", "day")


@pytest.mark.parametrize("path", ["search", "book", "views", "exports", "accesses", "concentration"])
def test_nobody_else(city: City, path: str) -> None:
    for person in (city.alice, city.olga, city.nora):
        refused(person.get(f"{BASE}/{path}"), 403, "forbidden")
    refused(city.request("GET", f"{BASE}/{path}"), 401, "not_authenticated")
