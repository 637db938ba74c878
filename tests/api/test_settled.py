"""A contract that is settled has left the engine and not the API: prices, book, orders and its page tell what it was."""

from __future__ import annotations

import pytest

from market.api import shapes
from market.settlement.operations import DEADLINE_MS, settle_due
from tests.api.conftest import City, Person, refused, shaped

ORDERS = "/api/v1/orders"


@pytest.fixture(scope="module")
def settled(city: City) -> str:
    """A contract with two trades that has been settled."""
    market = city.market
    contract = market.contract()
    city.alice.order("sell", "0.2000", 400, contract=contract)
    city.alice.order("sell", "0.2100", 600, contract=contract)
    city.bob.order("buy", "0.3000", 900, contract=contract)
    for ms in (60 * 60_000, DEADLINE_MS):
        market.clock.advance(ms=ms)
        market.member("LV1.2", deposit_e7=0)  # any command makes the timetable follow
    settle_due(exchange=city.exchange, now_ms=market.clock.at_ms)
    assert contract in city.exchange.read(lambda engine: engine.settled)
    return contract


def test_its_last_price_and_volume_are_those_of_its_trades(city: City, settled: str) -> None:
    page = shaped(
        city.request("GET", "/api/v1/contracts", params={"state": "settled", "limit": 500}), shapes.ContractPage
    )
    rows = {row.contract: row for row in page.results}
    assert (rows[settled].last_price, rows[settled].volume_wh, rows[settled].halted) == ("0.2100", 900, False)
    untraded = [row for name, row in rows.items() if name != settled]
    assert untraded
    assert {(row.last_price, row.volume_wh) for row in untraded} == {(None, 0)}


def test_its_book_is_empty(city: City, alice: Person, settled: str) -> None:
    book = shaped(alice.get(f"/api/v1/contracts/{settled}/book"), shapes.Book)
    assert (book.state, book.bids, book.asks) == ("settled", [], [])
    live = shaped(alice.get(f"/api/v1/contracts/{city.market.contract(3)}/book"), shapes.Book)
    assert live.state == "open"
    refused(alice.get(f"/api/v1/contracts/{settled}/book", area="NIX"), 404, "unknown_area", "area")


def test_an_order_comes_after_its_gate(city: City, alice: Person, settled: str) -> None:
    order = {"contract": settled, "side": "sell", "price": "0.2000", "energy_wh": 100}
    refused(alice.request("POST", ORDERS, json=order), 409, "gate_closed", "contract")
    refused(
        alice.request("POST", ORDERS, json=order | {"contract": "2031-01-01T00:00Z"}),
        422,
        "unknown_contract",
        "contract",
    )
    batch = [order, order | {"contract": city.market.contract(3)}, order | {"contract": "2031-01-01T00:00Z"}]
    answer = shaped(alice.request("POST", f"{ORDERS}/batch", json=batch), shapes.BatchAnswer).results
    assert [item.status for item in answer] == [409, 201, 422]
    assert answer[0].problem.code == "gate_closed"


def test_orders_over_several_contracts_come_after_its_gate(city: City, alice: Person, settled: str) -> None:
    order = {"side": "sell", "price": "0.2000", "energy_wh": 100}
    later = city.market.contract(3)
    for kind in ("sweep", "block"):
        for contracts, field in (((settled, later), "contract"), ((later, settled), "last")):
            run = order | dict(zip(("contract", "last"), contracts, strict=True))
            refused(alice.request("POST", f"{ORDERS}/{kind}", json=run), 409, "gate_closed", field)
    legs = [order | {"contract": later}, order | {"contract": settled}]
    refused(alice.request("POST", f"{ORDERS}/basket", json={"legs": legs}), 409, "gate_closed", "legs[1].contract")
    legs[1] = order | {"contract": "2031-01-01T00:00Z"}
    refused(alice.request("POST", f"{ORDERS}/basket", json={"legs": legs}), 422, "unknown_contract", "legs[1].contract")


def test_its_trades_cannot_be_taken_back_any_more(city: City, settled: str) -> None:
    trade = city.request("GET", "/api/v1/trades", params={"contract": settled}).json()["results"][0]["seq"]
    path = f"/api/v1/operator/trades/{trade}/recall"
    refused(city.sam.request("POST", path, json={"reason": "error"}), 409, "contract_state", "contract")


def test_its_capacity_map_is_empty(city: City, settled: str) -> None:
    path = f"/api/v1/contracts/{settled}/capacity"
    assert shaped(city.olga.get(path), shapes.HeadroomPage).results == []


def test_taking_back_all_its_orders_takes_back_none(alice: Person, settled: str) -> None:
    response = alice.request("DELETE", ORDERS, params={"contract": settled})
    assert (response.status_code, response.json()) == (200, {"cancelled": [], "seq": None})


def test_its_page_says_that_trading_has_ended(city: City, alice: Person, settled: str) -> None:
    cookies = alice.session()
    page = city.request("GET", f"/trade/{settled}", cookies=cookies)
    assert page.status_code == 200
    assert "Trading has ended" in page.text
    assert "Yours can be the first order" not in page.text
    assert page.text.count("0.21") >= 1
    assert city.request("GET", "/trade/2031-01-01T00:00Z", cookies=cookies).status_code == 404
