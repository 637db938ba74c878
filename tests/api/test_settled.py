"""A contract that is settled has left the engine and not the API: prices, book, orders and its page tell what it was."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from ledger import operations
from ledger.core.bundled import parse_bundle, verify_bundle
from ledger.core.encoding import decode
from ledger.core.note import parse_vkey
from ledger.core.receipt import parse_receipt, verify_receipt
from market.api import shapes
from market.settlement.operations import settle_due
from market.settlement.waiting import DEADLINE_MS
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


def test_it_is_on_the_board_page_by_page(city: City, settled: str) -> None:
    rows: list[shapes.SettlementState] = []
    cursor: dict[str, str] = {}
    for _ in range(20):
        page = shaped(city.olga.get("/api/v1/operator/settlement", limit=3, **cursor), shapes.SettlementPage)
        rows += page.results
        if page.next is None:
            break
        cursor = {"cursor": page.next}
    assert [row.contract for row in rows] == sorted({row.contract for row in rows}, reverse=True)
    row = next(row for row in rows if row.contract == settled)
    assert (row.state, row.stage, row.outstanding, row.waits) == ("settled", "provisional", "0.0000000", [])
    assert (row.accounts, row.estimated, row.missing_readings, row.settled_areas) == (2, 2, 0, 3)


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


def test_each_household_gets_the_receipt_of_its_own_settlement_row_and_of_no_other(
    city: City, settled: str, settings: Any
) -> None:
    settings.LEDGER_OPEN = False
    alice, bob, charlie, rita = city.alice, city.bob, city.charlie, city.rita
    seq = next(line["seq"] for line in alice.get("/api/v1/me/statement").json()["results"] if line["kind"] == "payout")
    path = f"/api/v1/ledger/entries/{seq}/receipt"
    for person in (alice, bob):
        response = sealed_receipt(person, f"{path}?account={person.account}")
        receipt = parse_receipt(response.text)
        assert verify_bundle(receipt, [parse_vkey(operations.verifier_key())]).size > seq
        bundled = parse_bundle(receipt.extra)
        assert bundled.proof is not None
        assert decode(bundled.proof.row)["account"] == person.account
        assert decode(bundled.leaf)["type"] == "settle"
    refused(alice.get(path, account=bob.account), 404, "not_found", "account")
    refused(charlie.get(path, account=charlie.account), 404, "not_found", "seq")
    refused(charlie.get(path), 404, "not_found", "seq")
    refused(city.request("GET", path), 401, "not_authenticated")
    assert rita.get(path, account=bob.account).status_code == 200
    refused(rita.get(path, account=charlie.account), 404, "not_found", "account")
    for bad in ("", "-1", "x", "1" * 12):
        refused(rita.get(path, account=bad), 400, "invalid_value", "account")
    refused(rita.get(path, seq="1"), 400, "unknown_field", "seq")


def test_the_receipt_of_an_entry_carries_it_and_other_verifiers_read_it(
    city: City, settled: str, settings: Any
) -> None:
    settings.LEDGER_OPEN = False
    orders = city.alice.get("/api/v1/orders", contract=settled).json()["results"]
    trades = city.alice.get("/api/v1/trades", contract=settled).json()["results"]
    own = [("order", row["id"]) for row in orders] + [("trade", row["seq"]) for row in trades]
    assert {kind for kind, _ in own} == {"order", "trade"}
    key = parse_vkey(operations.verifier_key())
    for kind, seq in own:
        path = f"/api/v1/ledger/entries/{seq}/receipt"
        response = sealed_receipt(city.alice, path)
        assert response.headers["content-disposition"] == f'attachment; filename="entry-{seq}.tlog-proof"'
        assert response.headers["cache-control"] == "no-store"
        receipt = parse_receipt(response.text)
        assert decode(receipt.extra)["type"] == kind
        assert verify_receipt(receipt, receipt.extra, [key]) == verify_bundle(receipt, [key])
        refused(city.charlie.get(path), 404, "not_found", "seq")
        refused(city.rita.get(path, account=city.alice.account), 404, "not_found", "account")
    assert city.rita.get("/api/v1/ledger/entries/0/receipt").status_code == 200
    refused(city.alice.get("/api/v1/ledger/entries/0/receipt"), 404, "not_found", "seq")


def test_the_pages_give_a_household_its_own_receipts_only(city: City, settled: str) -> None:
    seq = next(
        line["seq"] for line in city.alice.get("/api/v1/me/statement").json()["results"] if line["kind"] == "payout"
    )
    key = parse_vkey(operations.verifier_key())
    for person, expected in ((city.alice, 200), (city.bob, 200), (city.charlie, 404), (city.rita, 403)):
        response = city.request("GET", f"/receipts/{seq}", cookies=person.session())
        assert response.status_code == expected
        if expected == 200:
            receipt = parse_receipt(response.text)
            proof = parse_bundle(receipt.extra).proof
            assert verify_bundle(receipt, [key])
            assert proof is not None
            assert decode(proof.row)["account"] == person.account
    assert city.request("GET", f"/receipts/{seq}").status_code == 302
    assert city.request("GET", "/receipts/0", cookies=city.alice.session()).status_code == 404
    assert city.request("GET", f"/receipts/{2**53}", cookies=city.alice.session()).status_code == 404
    statement = city.request("GET", "/statement", cookies=city.alice.session()).text
    assert f'href="/receipts/{seq}"' in statement
    assert city.request("GET", "/ledger/check").status_code == 200
    genesis = city.request("GET", "/ledger/keys").text
    assert decode(genesis.removesuffix("\n").encode())["vkey"] == operations.verifier_key()
    assert city.request("GET", "/ledger/witnesses").text == ""


def sealed_receipt(person: Person, path: str) -> httpx.Response:
    """Wait until an entry is sealed and return its receipt."""
    deadline = time.monotonic() + 10
    while True:
        response = person.request("GET", path)
        if response.status_code != 409 or time.monotonic() > deadline:
            assert response.status_code == 200, response.text
            return response
        time.sleep(0.02)
