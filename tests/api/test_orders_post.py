"""`POST /api/v1/orders`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from market.api import shapes
from market.engine.commands import CloseContract
from market.exchange.units import at_text
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/orders"


def body(city: City, **changes: Any) -> dict[str, Any]:
    """A sound order with some fields changed; None drops a field."""
    fields = {"contract": city.market.contract(), "side": "sell", "price": "0.2000", "energy_wh": 1_000} | changes
    return {name: value for name, value in fields.items() if value is not None}


def post(person: Person, json: Any, **kwargs: Any) -> Any:
    return person.request("POST", PATH, json=json, **kwargs)


def test_an_order_rests_until_somebody_takes_it(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(2)
    made = shaped(post(alice, body(city, contract=contract, price="0.2")), shapes.OrderAnswer, 201)
    assert (made.order.status, made.order.price, made.order.remaining_wh) == ("open", "0.2000", 1_000)
    assert (made.order.contract, made.order.side, made.order.area) == (contract, "sell", "LV1.1")
    assert made.order.id == made.seq == made.order.changed_seq
    assert made.trades == []

    taken = shaped(
        post(bob, body(city, contract=contract, side="buy", price="0.3000", energy_wh=400)), shapes.OrderAnswer, 201
    )
    assert (taken.order.status, taken.order.filled_wh, taken.order.remaining_wh) == ("filled", 400, 0)
    assert [(t.price, t.energy_wh, t.amount) for t in taken.trades] == [("0.2000", 400, "0.0800000")]
    assert taken.seq == taken.trades[0].seq == taken.order.id + 1

    detail = shaped(alice.get(f"{PATH}/{made.order.id}"), shapes.OrderDetail)
    assert (detail.order.status, detail.order.filled_wh, detail.order.remaining_wh) == ("open", 400, 600)
    assert [t.seq for t in detail.trades] == [taken.seq]


def test_between_areas_each_side_sees_its_own_price(city: City, alice: Person, charlie: Person) -> None:
    contract = city.market.contract(5)
    ask = alice.order("sell", "0.2000", 500, contract=contract)["order"]["id"]
    (paid,) = charlie.order("buy", "0.3000", 500, contract=contract)["trades"]
    (got,) = alice.get(f"{PATH}/{ask}").json()["trades"]
    assert (paid["price"], paid["amount"]) == ("0.2300", "0.1150000")  # with the fees of four edges
    assert (got["price"], got["amount"]) == ("0.2000", "0.1000000")
    assert paid["seq"] == got["seq"]


def test_the_rest_of_an_immediate_order_is_cancelled(city: City, alice: Person, bob: Person) -> None:
    contract = city.market.contract(3)
    alice.order("sell", "0.2000", 300, contract=contract)
    answer = bob.order("buy", "0.2000", 500, contract=contract, time_in_force="ioc")
    order = answer["order"]
    assert (order["status"], order["reason"], order["filled_wh"], order["remaining_wh"]) == ("cancelled", "ioc", 300, 0)
    assert answer["seq"] == order["changed_seq"] == order["id"] + 2


def test_an_order_can_expire(city: City, alice: Person) -> None:
    at = at_text(city.market.clock.at_ms + 60_000)
    answer = alice.order("sell", "0.9000", contract=city.market.contract(4), time_in_force="gtd", expires_at=at)
    assert answer["order"]["expires_at"] == at


BAD: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("unknown contract", {"contract": "2031-01-01T00:00Z"}, 422, "unknown_contract", "contract"),
    ("no contract at all", {"contract": "tomorrow"}, 422, "unknown_contract", "contract"),
    ("contract off the raster", {"contract": "2026-06-06T12:07Z"}, 422, "unknown_contract", "contract"),
    ("contract with NUL", {"contract": "2026-06-06T12:1\0Z"}, 422, "unknown_contract", "contract"),
    ("contract in other digits", {"contract": "2026-06-06T12:1٥Z"}, 422, "unknown_contract", "contract"),
    ("contract as number", {"contract": 5}, 400, "invalid_type", "contract"),
    ("closed gate", {"contract": "2026-06-06T10:00Z"}, 422, "unknown_contract", "contract"),
    ("no side", {"side": None}, 400, "missing_field", "side"),
    ("odd side", {"side": "hold"}, 422, "invalid_side", "side"),
    ("zero price", {"price": "0.0000"}, 422, "price_out_of_range", "price"),
    ("negative price", {"price": "-0.1000"}, 422, "price_out_of_range", "price"),
    ("huge price", {"price": "1000000.0000"}, 422, "price_out_of_range", "price"),
    ("astronomic price", {"price": "9" * 400}, 422, "price_out_of_range", "price"),
    ("endless price", {"price": "9" * 4_000}, 422, "invalid_price", "price"),
    ("off-tick price", {"price": "0.20005"}, 422, "price_off_tick", "price"),
    ("price with a zero too many", {"price": "0.25000"}, 422, "price_off_tick", "price"),
    ("price in words", {"price": "cheap"}, 422, "invalid_price", "price"),
    ("empty price", {"price": ""}, 422, "invalid_price", "price"),
    ("price with exponent", {"price": "2e-1"}, 422, "invalid_price", "price"),
    ("price not a number", {"price": "NaN"}, 422, "invalid_price", "price"),
    ("price as a JSON number", {"price": 0.2}, 400, "invalid_type", "price"),
    ("price as a whole number", {"price": 1}, 400, "invalid_type", "price"),
    ("zero energy", {"energy_wh": 0}, 422, "energy_out_of_range", "energy_wh"),
    ("negative energy", {"energy_wh": -5}, 422, "energy_out_of_range", "energy_wh"),
    ("fractional energy", {"energy_wh": 1.5}, 400, "invalid_type", "energy_wh"),
    ("whole energy as a float", {"energy_wh": 1000.0}, 400, "invalid_type", "energy_wh"),
    ("energy as text", {"energy_wh": "1000"}, 400, "invalid_type", "energy_wh"),
    ("energy as truth", {"energy_wh": True}, 400, "invalid_type", "energy_wh"),
    ("huge energy", {"energy_wh": 10**9}, 422, "energy_out_of_range", "energy_wh"),
    ("astronomic energy", {"energy_wh": 10**30}, 422, "energy_out_of_range", "energy_wh"),
    ("too much energy for the largest order", {"energy_wh": 100_001}, 422, "energy_out_of_range", "energy_wh"),
    ("odd time in force", {"time_in_force": "day"}, 422, "invalid_time_in_force", "time_in_force"),
    ("expiry without gtd", {"expires_at": "2026-06-06T10:10:00Z"}, 422, "expiry_invalid", "expires_at"),
    ("gtd without expiry", {"time_in_force": "gtd"}, 422, "expiry_invalid", "expires_at"),
    ("expiry in the past", {"time_in_force": "gtd", "expires_at": "2020-01-01T00:00:00Z"}, 422, "expiry_invalid",
     "expires_at"),
    ("expiry of nonsense", {"time_in_force": "gtd", "expires_at": "soon"}, 422, "expiry_invalid", "expires_at"),
    ("expiry without offset", {"time_in_force": "gtd", "expires_at": "2026-06-06T10:10:00"}, 422, "expiry_invalid",
     "expires_at"),
    ("expiry at the end of time", {"time_in_force": "gtd", "expires_at": "9999-12-31T23:59:59-23:59"}, 422,
     "expiry_invalid", "expires_at"),
    ("expiry at the epoch", {"expires_at": "1970-01-01T00:00:00Z"}, 422, "expiry_invalid", "expires_at"),
    ("unknown field", {"prize": "0.2000"}, 400, "unknown_field", "prize"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "status", "code", "field"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_names_its_field_and_changes_nothing(
    city: City, alice: Person, changes: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = city.state()
    refused(post(alice, body(city, **changes)), status, code, field)
    assert city.state() == before


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"nonsense", b'{"contract":', b'{"colour":', b"{} {}", b"\xff\xfe", b"[" * 10_000,
        b'{"side":"\xc3\x28"}', b'{"colour":"\xc3\x28"}',
    ],
    ids=lambda raw: repr(raw[:12]),
)  # fmt: skip
def test_malformed_json(city: City, alice: Person, raw: bytes) -> None:
    for path in (PATH, f"{PATH}/batch"):
        response = alice.request("POST", path, content=raw, headers={"Content-Type": "application/json"})
        refused(response, 400, "malformed_json")


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (b',"price":"0.9000"', "price"),
        (b',"pric\\u0065":"0.9000"', "price"),
        (b',"time_in_force":"gtg","time_in_force":"ioc"', "time_in_force"),
        (b',"expires_at":null,"expires_at":null', "expires_at"),
        (b',"energy_wh":1', "energy_wh"),
    ],
    ids=repr,
)
def test_a_field_stands_once(city: City, alice: Person, more: bytes, name: str) -> None:
    before = city.state()
    raw = orjson.dumps(body(city))[:-1] + more + b"}"
    json_type = {"Content-Type": "application/json"}
    problem = refused(alice.request("POST", PATH, content=raw, headers=json_type), 400, "malformed_json", name)
    assert name in problem["detail"]
    for batch in (b"[%b]" % raw, b'{"orders":[%b]}' % raw):
        (item,) = alice.request("POST", f"{PATH}/batch", content=batch, headers=json_type).json()["results"]
        assert (item["status"], item["problem"]["code"], item["problem"]["field"]) == (400, "malformed_json", name)
    twice = b'{"orders":[],"orders":[%b]}' % raw
    refused(alice.request("POST", f"{PATH}/batch", content=twice, headers=json_type), 400, "malformed_json", "orders")
    assert city.state() == before


def test_values_may_look_like_names(city: City, alice: Person) -> None:
    refused(post(alice, body(city, side="price", time_in_force="ioc")), 422, "invalid_side", "side")
    refused(post(alice, body(city, side='"', time_in_force="ioc")), 422, "invalid_side", "side")


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"5", b"null", b"true"], ids=repr)
def test_the_body_is_an_object(alice: Person, raw: bytes) -> None:
    response = alice.request("POST", PATH, content=raw, headers={"Content-Type": "application/json"})
    refused(response, 400, "invalid_type")


def test_a_body_of_ten_megabytes_is_not_read(city: City, alice: Person) -> None:
    before = city.state()
    raw = b'{"price":"' + b"9" * 10_000_000 + b'"}'
    problem = refused(
        alice.request("POST", PATH, content=raw, headers={"Content-Type": "application/json"}), 413, "body_too_large"
    )
    assert "16384" in problem["detail"]
    assert city.state() == before


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "",
        "application/json; charset=utf-16",
        "application/json;charset=latin1",
    ],
)
def test_other_content_types(city: City, alice: Person, kind: str) -> None:
    response = alice.request("POST", PATH, content=b"{}", headers={"Content-Type": kind})
    refused(response, 415, "unsupported_media_type", "Content-Type")


def test_a_charset_beside_the_content_type_is_fine(city: City, alice: Person) -> None:
    response = alice.request(
        "POST",
        PATH,
        json=body(city, contract=city.market.contract(5)),
        headers={"Content-Type": "Application/JSON; charset=utf-8"},
    )
    assert response.status_code == 201


def test_a_buyer_needs_the_money(city: City, alice: Person) -> None:
    poor = city.person("poor", area="LV1.2")
    spent = body(city, contract=city.market.contract(6), side="buy", price="1.0000", energy_wh=100_000)
    for _ in range(10):  # of 100.00 each, and 1,000.00 is all there is
        assert post(poor, spent).status_code == 201
    before = city.state()
    problem = refused(post(poor, spent), 422, "insufficient_funds", "energy_wh")
    assert "free" in problem["detail"]
    assert city.state() == before


def test_the_gate_closes(city: City, alice: Person) -> None:
    contract = city.exchange.read(lambda engine: max(engine.contracts))
    city.exchange.call(CloseContract(contract))
    problem = post(alice, body(city, contract=contract)).json()
    assert problem["code"] in {"gate_closed", "contract_not_open"}
    assert problem["field"] == "contract"
    assert problem["status"] == 409


def test_a_stranger_to_the_market_cannot_trade(city: City) -> None:
    refused(post(city.nora, body(city)), 403, "no_account")


def test_query_parameters_are_not_ignored(city: City, alice: Person) -> None:
    before = city.state()
    response = alice.request("POST", PATH + "?price=0.1000", json=body(city))
    refused(response, 400, "unknown_field", "price")
    assert city.state() == before


def test_sentences_come_in_the_readers_language(city: City, alice: Person) -> None:
    response = post(alice, body(city, energy_wh=0), headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    refused(response, 422, "energy_out_of_range", "energy_wh")
    assert response.headers["vary"] == "accept-language"
