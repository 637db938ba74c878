"""`/api/v1/me/agreements`: two households agree to share; nobody else sees or touches it."""

from __future__ import annotations

from typing import Any

import pytest

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/me/agreements"


@pytest.fixture
def alice(city: City) -> Person:
    return city.alice


@pytest.fixture
def bob(city: City) -> Person:
    return city.bob


def id_of(person: Person) -> str:
    found: str = person.get("/api/v1/me").json()["account_id"]
    return found


def terms(city: City, to: Person, **changes: Any) -> dict[str, Any]:
    body = {"side": "give", "neighbour": id_of(to), "price": "0.1000", "start": city.market.contract()}
    return body | changes


def proposed(city: City, by: Person, to: Person, **changes: Any) -> shapes.Agreement:
    return shaped(by.request("POST", PATH, json=terms(city, to, **changes)), shapes.Agreement, 201)


def standing(city: City) -> list[list[int]]:
    """Return all agreements as the engine has them."""
    return city.exchange.read(lambda engine: [one.values() for one in engine.agreements.values()])


def mine(person: Person) -> list[shapes.Agreement]:
    return shaped(person.get(PATH), shapes.AgreementPage).results


def test_one_proposes_and_the_other_accepts(city: City, alice: Person, bob: Person) -> None:
    made = proposed(city, alice, bob)
    assert (made.side, made.neighbour, made.price, made.fee, made.state, made.mine) == (
        "give", id_of(bob), "0.1000", "0.0000", "proposed", True,
    )  # fmt: skip
    (seen,) = [row for row in mine(bob) if row.agreement == made.agreement]
    assert (seen.side, seen.neighbour, seen.state, seen.mine) == ("receive", id_of(alice), "proposed", False)
    accepted = shaped(bob.request("POST", f"{PATH}/{made.agreement}/accept"), shapes.Agreement)
    assert accepted.state == "agreed"
    ended = shaped(alice.request("DELETE", f"{PATH}/{made.agreement}"), shapes.AgreementEnded)
    assert ended.seq > made.agreement
    assert [row.state for row in mine(bob) if row.agreement == made.agreement] in ([], ["ended"])


def test_a_path_through_the_grid_has_its_fee(city: City, alice: Person) -> None:
    made = proposed(city, city.charlie, alice, side="receive", price="0.0000")
    assert (made.side, made.price, made.fee) == ("receive", "0.0000", "0.0300")


def test_a_repeated_request_makes_one_agreement(city: City, alice: Person, bob: Person) -> None:
    headers = {"Idempotency-Key": "once"}
    body = terms(city, bob)
    first, again = (alice.request("POST", PATH, json=body, headers=headers).json() for _ in range(2))
    assert first == again
    other = alice.request("POST", PATH, json=body | {"price": "0.2000"}, headers=headers)
    refused(other, 409, "idempotency_conflict", "price")


def test_nobody_else_can_answer_or_end_it(city: City, alice: Person, bob: Person) -> None:
    made = proposed(city, alice, bob)
    path = f"{PATH}/{made.agreement}"
    before = standing(city)
    refused(city.charlie.request("POST", f"{path}/accept"), 404, "unknown_agreement", "agreement")
    refused(city.charlie.request("DELETE", path), 404, "unknown_agreement", "agreement")
    refused(alice.request("POST", f"{path}/accept"), 422, "nothing_to_change", "agreement")
    refused(bob.request("DELETE", f"{PATH}/999999"), 404, "unknown_agreement", "agreement")
    refused(city.nora.get(PATH), 403, "no_account")
    assert standing(city) == before
    assert all(row.agreement != made.agreement for row in mine(city.charlie))


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"side": "take"}, 422, "invalid_side", "side"),
        ({"neighbour": "0" * 32}, 422, "unknown_account", "neighbour"),
        ({"neighbour": "bank"}, 422, "unknown_account", "neighbour"),
        ({"price": "cheap"}, 422, "invalid_price", "price"),
        ({"price": "2.0000"}, 422, "price_out_of_range", "price"),
        ({"start": "tomorrow"}, 422, "unknown_contract", "start"),
        ({"start": "2026-06-06T10:01Z"}, 422, "invalid_value", "start"),
        ({"gift": True}, 400, "unknown_field", "gift"),
    ],
)
def test_terms_that_cannot_be(
    city: City, alice: Person, bob: Person, changes: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = standing(city)
    refused(alice.request("POST", PATH, json=terms(city, bob, **changes)), status, code, field)
    assert standing(city) == before


def test_a_home_does_not_share_with_itself(city: City, alice: Person) -> None:
    refused(alice.request("POST", PATH, json=terms(city, alice)), 422, "invalid_value", "neighbour")


def test_a_key_that_may_only_read_changes_nothing(city: City, alice: Person, bob: Person) -> None:
    key = alice.key_for("read")
    assert alice.request("GET", PATH, key=key).status_code == 200
    refused(alice.request("POST", PATH, key=key, json=terms(city, bob)), 403, "missing_scope")
