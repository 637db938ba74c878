"""`GET /api/v1/areas`, `/contracts`, `/contracts/{start}/book`, `/trades`, `/candles`: open to everybody."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped


def get(city: City, path: str, **params: Any) -> Any:
    return city.request("GET", f"/api/v1/{path}", params=params)


def test_areas(city: City) -> None:
    page = shaped(get(city, "areas"), shapes.AreaPage)
    root, *rest = page.results
    assert (root.area, root.parent, page.next) == ("CITY", None, None)
    street = next(area for area in rest if area.area == "LV1.1")
    assert (street.parent, street.level, street.fee, street.import_w) == ("MV1", "LV", "0.0050", 100_000)
    known = {area.area for area in page.results}
    assert all(area.parent in known for area in rest)


def test_contracts(city: City) -> None:
    page = shaped(get(city, "contracts", state="open"), shapes.ContractPage)
    names = [contract.contract for contract in page.results]
    assert names == sorted(names)
    assert city.market.contract(1) in names
    first = page.results[0]
    assert first.start == first.contract[:-1] + ":00.000Z"
    assert (first.topup_price, first.spill_price, first.last_price, first.volume_wh) == ("0.4000", "0.0800", None, 0)
    assert shaped(get(city, "contracts", state="settled"), shapes.ContractPage).results == []


def test_contracts_in_pages(city: City) -> None:
    everything = [c.contract for c in shaped(get(city, "contracts"), shapes.ContractPage).results]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = shaped(get(city, "contracts", limit=3, **({"cursor": cursor} if cursor else {})), shapes.ContractPage)
        seen += [contract.contract for contract in page.results]
        cursor = page.next
        if cursor is None:
            break
    assert seen == everything
    assert len(everything) > 3


def test_a_book_shows_what_can_be_executed_from_an_area(city: City, alice: Person, charlie: Person) -> None:
    contract = city.market.contract(3)
    alice.order("sell", "0.2000", 700, contract=contract)
    alice.order("sell", "0.2100", 300, contract=contract)
    path = f"/api/v1/contracts/{contract}/book"
    mine = shaped(alice.get(path), shapes.Book)
    assert (mine.area, mine.contract) == ("LV1.1", contract)
    assert mine.bids == []
    charlies = shaped(charlie.get(path), shapes.Book)
    # Charlie pays the fees of four edges: 0.005 + 0.01 + 0.01 + 0.005.
    assert [(level.price, level.energy_wh, level.fee) for level in charlies.asks] == [
        ("0.2300", 700, "0.0300"), ("0.2400", 300, "0.0300"),
    ]  # fmt: skip
    assert len(shaped(charlie.get(path, depth=1), shapes.Book).asks) == 1


def test_the_book_of_a_small_area_is_its_members(city: City, alice: Person, charlie: Person, olga: Person) -> None:
    path = f"/api/v1/contracts/{city.market.contract(3)}/book"
    refused(charlie.get(path, area="LV1.1"), 403, "forbidden", "area")
    refused(city.request("GET", path, params={"area": "LV1.1"}), 403, "forbidden", "area")
    assert alice.get(path, area="LV1.1").status_code == 200
    assert olga.get(path, area="LV1.1").status_code == 200


@pytest.mark.parametrize(
    ("path", "query", "status", "code", "field"),
    [
        ("contracts", "state=lost", 400, "invalid_value", "state"),
        ("contracts", "limit=0", 400, "out_of_range", "limit"),
        ("contracts", "cursor=aTU", 400, "invalid_cursor", "cursor"),
        ("contracts", "x=1", 400, "unknown_field", "x"),
        ("contracts", "format=xml", 400, "unknown_field", "format"),
        ("areas", "limit=1", 400, "unknown_field", "limit"),
        ("contracts/tomorrow/book", "", 404, "unknown_contract", "contract"),
        ("contracts/2031-01-01T00:00Z/book", "", 404, "unknown_contract", "contract"),
        ("contracts/2026-06-06T12:1%00Z/book", "", 404, "unknown_contract", "contract"),
        ("contracts/{contract}/book", "area=NIX", 404, "unknown_area", "area"),
        ("contracts/{contract}/book", "area=" + "x" * 100, 404, "unknown_area", "area"),
        ("contracts/{contract}/book", "depth=0", 400, "out_of_range", "depth"),
        ("contracts/{contract}/book", "depth=101", 400, "out_of_range", "depth"),
        ("trades", "after=-1", 400, "out_of_range", "after"),
        ("trades", "after=x", 400, "out_of_range", "after"),
        ("trades", "after=" + "9" * 25, 400, "out_of_range", "after"),
        ("trades", "contract=x", 422, "unknown_contract", "contract"),
        ("trades", "contract=%00", 400, "invalid_value", "contract"),
        ("candles", "resolution=2m", 400, "invalid_value", "resolution"),
        ("candles", "since=yesterday", 400, "invalid_value", "since"),
        ("candles", "until=0001-01-01T00:00:00%2B23:59", 400, "invalid_value", "until"),
        ("candles", "until=9999-12-31T23:59:59-23:59", 400, "invalid_value", "until"),
        ("candles", "area=NIX", 422, "unknown_area", "area"),
        ("candles", "area=LV1.1", 403, "forbidden", "area"),
    ],
)
def test_bad_questions(city: City, path: str, query: str, status: int, code: str, field: str) -> None:
    path = path.replace("{contract}", city.market.contract(1))
    refused(city.request("GET", f"/api/v1/{path}?{query}"), status, code, field)


def test_trades_name_nobody(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(4)
    alice.order("sell", "0.2000", 900, contract=contract)
    seqs = [bob.order("buy", "0.2500", 100 * n, contract=contract)["trades"][0]["seq"] for n in (1, 2, 3)]

    page = shaped(get(city, "trades", contract=contract), shapes.TradePage)
    assert [trade.seq for trade in page.results] == seqs[::-1]
    assert [(t.price, t.buy_price, t.sell_price) for t in page.results] == [("0.2000", "0.2000", "0.2000")] * 3
    assert [trade.energy_wh for trade in page.results] == [300, 200, 100]

    after = shaped(get(city, "trades", after=seqs[0], contract=contract), shapes.TradePage)
    assert [trade.seq for trade in after.results] == seqs[1:]
    one = shaped(get(city, "trades", after=0, contract=contract, limit=1), shapes.TradePage)
    two = shaped(get(city, "trades", after=0, contract=contract, cursor=one.next), shapes.TradePage)
    assert [trade.seq for trade in one.results + two.results] == seqs
    newest = shaped(get(city, "trades", contract=contract, limit=2), shapes.TradePage)
    oldest = shaped(get(city, "trades", contract=contract, cursor=newest.next), shapes.TradePage)
    assert [trade.seq for trade in newest.results + oldest.results] == seqs[::-1]
    live = shaped(get(city, "contracts", state="open"), shapes.ContractPage)
    mine = next(row for row in live.results if row.contract == contract)
    assert (mine.last_price, mine.volume_wh) == ("0.2000", 600)


def test_candles(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(5)
    for price in ("0.2000", "0.2300", "0.1900", "0.2100"):
        alice.order("sell", price, 100, contract=contract)
        bob.order("buy", price, 100, contract=contract)
    page = shaped(get(city, "candles", contract=contract, resolution="1h"), shapes.CandlePage)
    (candle,) = page.results
    assert (candle.open, candle.high, candle.low, candle.close) == ("0.2000", "0.2300", "0.1900", "0.2100")
    assert (candle.volume_wh, candle.start) == (400, "2026-06-06T10:00:00.000Z")
    past = {"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00+00:00"}
    assert shaped(get(city, "candles", contract=contract, **past), shapes.CandlePage).results == []
    assert len(shaped(get(city, "candles", area="MV1"), shapes.CandlePage).results) == 0
    assert shaped(bob.get("/api/v1/candles", area="LV1.1"), shapes.CandlePage).results


def test_paths_that_do_not_exist(city: City, alice: Person) -> None:
    for path in ("nix", "areas/", "contracts/x/y", "", "me/", "ordersx", "ledger/entries/-1", "ledger/entries/x"):
        refused(alice.get(f"/api/v1/{path}"), 404, "not_found")


@pytest.mark.parametrize("path", ["areas", "trades", "me", "ledger/blocks", "events"])
def test_other_methods(city: City, alice: Person, path: str) -> None:
    response = alice.request("DELETE", f"/api/v1/{path}")
    refused(response, 405, "method_not_allowed")
    assert "GET" in response.headers["allow"]
