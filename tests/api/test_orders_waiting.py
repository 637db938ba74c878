"""`waiting` in `GET /api/v1/orders/{id}` and in the list: why an order has not traded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from market.api import shapes
from market.api import waiting as waiting_module
from market.engine.engine import Engine
from market.exchange import operations
from tests.api.conftest import City, Person, shaped

PATH = "/api/v1/orders"


def waiting(person: Person, order: int, **headers: str) -> shapes.Waiting | None:
    response = person.request("GET", f"{PATH}/{order}", headers=headers)
    return shaped(response, shapes.OrderDetail).order.waiting


@pytest.fixture
def narrow(city: City) -> Iterator[None]:
    """Nothing can be brought into LV2.1."""
    operations.set_capacity(city.exchange, area="LV2.1", import_w=0, export_w=100_000, reason="test")
    yield
    operations.set_capacity(city.exchange, area="LV2.1", import_w=100_000, export_w=100_000, reason="test")


def test_price_and_nobody(city: City, alice: Person, bob: Person, charlie: Person) -> None:
    contract = city.market.contract(1)
    order = charlie.order("buy", "0.1000", contract=contract)["order"]["id"]
    assert waiting(charlie, order).code == "no_offers"
    alice.order("sell", "0.2000", contract=contract)
    found = waiting(charlie, order)
    assert found.code == "price"
    assert "0.2300" in found.detail and "0.1000" in found.detail, "all-in at the reader's meter"


def test_a_full_line_is_named_to_who_lives_behind_it(city: City, alice: Person, charlie: Person, narrow: None) -> None:
    contract = city.market.contract(2)
    ask = alice.order("sell", "0.2000", contract=contract)["order"]["id"]
    bid = charlie.order("buy", "0.3000", contract=contract)["order"]["id"]
    mine, theirs = waiting(charlie, bid), waiting(alice, ask)
    assert (mine.code, theirs.code) == ("capacity", "capacity")
    assert "LV2.1" in mine.detail and "0.2300" in mine.detail
    assert "LV2.1" not in theirs.detail, "a street of one home"
    operations.set_capacity(city.exchange, area="LV2.1", import_w=100_000, export_w=100_000, reason="test")
    assert charlie.get(f"{PATH}/{bid}").json()["order"]["status"] == "filled"
    assert waiting(charlie, bid) is None


@pytest.mark.parametrize(
    ("scope", "code"),
    [("market", "market_halted"), ("contract", "contract_halted"), ("area", "area_halted"),
     ("account", "account_halted")],
)  # fmt: skip
def test_halts(city: City, bob: Person, scope: str, code: str) -> None:
    contract = city.market.contract(3)
    order = bob.order("buy", "0.1000", contract=contract)["order"]["id"]
    target = {"market": "", "contract": contract, "area": "LV1.1", "account": str(bob.account)}[scope]
    operations.set_halt(city.exchange, scope=scope, target=target, on=True, reason="test")
    try:
        assert waiting(bob, order).code == code
    finally:
        operations.set_halt(city.exchange, scope=scope, target=target, on=False, reason="test")
    assert waiting(bob, order).code == "no_offers"


def test_the_list_asks_once(city: City, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = city.market.contract(4)
    for _ in range(3):
        bob.order("buy", "0.1000", contract=contract)
    gone = bob.order("buy", "0.1000", contract=contract, time_in_force="ioc")["order"]["id"]
    reads = []
    read = city.exchange.read
    monkeypatch.setattr(city.exchange, "read", lambda fn: reads.append(fn) or read(fn))
    page = shaped(bob.get(PATH, contract=contract), shapes.OrderPage)
    codes = {order.id: order.waiting and order.waiting.code for order in page.results}
    assert codes.pop(gone) is None
    assert list(codes.values()) == ["no_offers"] * 3
    assert len(reads) == 1
    monkeypatch.setattr(waiting_module, "READ_BUDGET_S", 0.0)
    again = shaped(bob.get(PATH, contract=contract), shapes.OrderPage)
    assert again == page
    assert len(reads) == 4, "a page that takes long lets the writer go on in between"


def test_all_legs_of_a_block_give_one_answer(city: City, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    contracts = [city.market.contract(ahead) for ahead in (6, 7)]
    blocks = []
    for _ in range(2):
        body = {"contract": contracts[0], "last": contracts[1], "side": "buy", "price": "0.0100", "energy_wh": 100}
        blocks.append([order["id"] for order in bob.request("POST", f"{PATH}/block", json=body).json()["orders"]])
    asked = []
    why_not = Engine.why_not
    monkeypatch.setattr(Engine, "why_not", lambda engine, order: asked.append(order) or why_not(engine, order))
    page = shaped(bob.get(PATH, state="open"), shapes.OrderPage)
    said = {order.id: order.waiting for order in page.results}
    for legs in blocks:
        assert said[legs[0]] == said[legs[1]] and said[legs[0]].code == "block"
        assert len([order for order in asked if order in legs]) == 1
        bob.request("DELETE", f"{PATH}/{legs[0]}")


@pytest.mark.parametrize(
    ("answer", "english", "chinese"),
    [
        (
            ("collar", {"contract": "2026-06-06T11:45Z"}),
            "2026-06-06T11:45Z only at a price outside",
            "超出价格区间限制",
        ),
        (("collar", {}), "but only at a price outside the price collar", "超出价格区间限制"),
        (("own_orders", {}), "Only your own orders would match", "只有您自己的订单"),
        (
            ("own_orders", {"contract": "2026-06-06T11:45Z", "missing_wh": 70}),
            "In 2026-06-06T11:45Z 70 Wh could only come from your own orders",
            "70 Wh",
        ),
    ],
)
def test_answers_of_the_engine_in_words(
    city: City, bob: Person, monkeypatch: pytest.MonkeyPatch, answer: tuple[str, dict[str, int | str]], english: str,
    chinese: str,
) -> None:  # fmt: skip
    order = bob.order("buy", "0.1000", contract=city.market.contract(6))["order"]["id"]
    monkeypatch.setattr(Engine, "why_not", lambda engine, order: answer)
    for language, words in (("en", english), ("zh-CN", chinese)):
        found = waiting(bob, order, **{"Accept-Language": language})
        assert found.code == answer[0]
        assert words in found.detail
        assert "contract" not in answer[1] or str(answer[1]["contract"]) in found.detail


def test_in_the_readers_language(city: City, bob: Person) -> None:
    order = bob.order("buy", "0.1000", contract=city.market.contract(5))["order"]["id"]
    english, chinese = waiting(bob, order), waiting(bob, order, **{"Accept-Language": "zh-CN"})
    assert english.code == chinese.code and english.detail != chinese.detail


def test_writes_do_not_say_it(city: City, bob: Person) -> None:
    answer = bob.order("buy", "0.1000", contract=city.market.contract(6))
    assert "waiting" not in answer["order"]
