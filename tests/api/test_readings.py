"""`POST /api/v1/readings`: interval energies of my connection, once delivered."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from market.api import shapes
from market.engine.contracts import contract_start_ms
from market.households import renewal
from market.households.models import Account
from market.metering.models import Reading
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/readings"


@pytest.fixture(scope="module")
def delivered(city: City) -> str:
    """A contract whose energy has flowed."""
    name = city.market.contract(1)
    city.market.clock.advance(minutes=31)
    deadline = time.monotonic() + 10
    while city.exchange.read(lambda engine: engine.contracts[name].state) != "delivered":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return name


def post(person: Person, *readings: dict[str, Any], **kwargs: Any) -> Any:
    return person.request("POST", PATH, json={"readings": list(readings)}, **kwargs)


def readings_entries(city: City) -> int:
    return sum(event["type"] == "readings" for event in city.rita.get("/api/v1/events", limit=500).json()["results"])


def test_a_reading_counts_once_and_can_be_corrected(city: City, alice: Person, delivered: str) -> None:
    reading = {"contract": delivered, "import_wh": 120, "export_wh": 30}
    first = shaped(post(alice, reading), shapes.ReadingsAnswer)
    assert (first.accepted, first.corrected, first.duplicates) == (1, 0, 0)
    assert first.seq is not None
    again = shaped(post(alice, reading), shapes.ReadingsAnswer)
    assert (again.accepted, again.duplicates, again.seq) == (0, 1, None)
    corrected = shaped(post(alice, reading | {"import_wh": 125}), shapes.ReadingsAnswer)
    assert (corrected.accepted, corrected.corrected) == (1, 1)


def test_a_contract_belongs_to_the_number_of_its_time(city: City, delivered: str) -> None:
    begin = datetime.fromtimestamp(contract_start_ms(delivered) / 1_000, UTC)
    late = city.person("late", area="LV1.1")
    Account.objects.filter(index=late.account).update(opened_at=begin + timedelta(minutes=1))
    before = readings_entries(city)
    refused(post(late, {"contract": delivered, "import_wh": 0, "export_wh": 900}), 422, "before_account",
            "readings[0].contract")  # fmt: skip
    assert readings_entries(city) == before
    moved = city.person("moved", area="LV1.1")
    Account.objects.filter(index=moved.account).update(opened_at=begin - timedelta(days=60))
    renewal.renew_account(city.exchange, user=moved.user, now=begin + timedelta(minutes=1))
    bad = {"contract": "2026-06-06T10:07Z", "import_wh": 1, "export_wh": 0}
    answer = post(moved, {"contract": delivered, "import_wh": 1, "export_wh": 0}, bad)
    refused(answer, 422, "unknown_contract", "readings[1].contract")
    assert not Reading.objects.filter(account__gte=moved.account).exists(), "all or none"
    assert post(moved, {"contract": delivered, "import_wh": 3, "export_wh": 0}).status_code == 200
    rows = Reading.objects.filter(account__gte=moved.account)
    assert [*rows.values_list("account", "import_wh")] == [(moved.account, 3)]


def test_a_key_for_meters_only(city: City, alice: Person, delivered: str) -> None:
    key = alice.key_for("readings:write")
    assert post(alice, {"contract": delivered, "import_wh": 1, "export_wh": 0}, key=key).status_code == 200
    refused(alice.request("GET", "/api/v1/me", key=key), 403, "missing_scope")


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"import_wh": -1}, 422, "invalid_value", "readings[0].import_wh"),
        ({"import_wh": 1.5}, 400, "invalid_type", "readings[0].import_wh"),
        ({"export_wh": "5"}, 400, "invalid_type", "readings[0].export_wh"),
        ({"export_wh": 10**12}, 422, "", "readings[0].export_wh"),
        ({"import_wh": 10**30}, 422, "invalid_value", "readings[0].import_wh"),
        ({"contract": "2031-01-01T00:00Z"}, 422, "unknown_contract", "readings[0].contract"),
        ({"contract": "x" * 5_000}, 422, "unknown_contract", "readings[0].contract"),
        ({"contract": "\0"}, 422, "unknown_contract", "readings[0].contract"),
        ({"account": 5}, 400, "unknown_field", "account"),
    ],
)
def test_bad_readings(
    city: City, alice: Person, delivered: str, change: dict[str, Any], status: int, code: str, field: str
) -> None:
    before = readings_entries(city)
    response = post(alice, {"contract": delivered, "import_wh": 1, "export_wh": 1} | change)
    refused(response, status, code or response.json()["code"], field)
    assert readings_entries(city) == before


def test_a_contract_that_is_not_over(city: City, alice: Person, delivered: str) -> None:
    response = post(alice, {"contract": city.market.contract(4), "import_wh": 1, "export_wh": 1})
    body = response.json()
    assert (response.status_code, body["field"]) == (422, "readings[0].contract"), body


def test_bad_batches(city: City, alice: Person, delivered: str) -> None:
    reading = {"contract": delivered, "import_wh": 1, "export_wh": 1}
    refused(post(alice), 422, "invalid_value", "readings")
    refused(post(alice, reading, reading), 422, "duplicate_contract", "readings[1].contract")
    many = [{"contract": f"{n}", "import_wh": 1, "export_wh": 1} for n in range(201)]
    refused(post(alice, *many), 422, "too_many_readings", "readings")
    refused(alice.request("POST", PATH, json=[reading]), 400, "invalid_type")
    response = alice.request("POST", PATH, content=b"{", headers={"Content-Type": "application/json"})
    refused(response, 400, "malformed_json")
    response = alice.request("POST", PATH, content=b"[" * 100_000, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    refused(alice.request("POST", PATH, content=b"x", headers={"Content-Type": "text/plain"}), 415,
            "unsupported_media_type", "Content-Type")  # fmt: skip
    huge = alice.request("POST", PATH, content=b" " * 10_000_000, headers={"Content-Type": "application/json"})
    refused(huge, 413, "body_too_large")


def test_who_may_not(city: City, delivered: str) -> None:
    reading = {"contract": delivered, "import_wh": 1, "export_wh": 1}
    refused(post(city.nora, reading), 403, "no_account")
    refused(post(city.olga, reading), 403, "missing_scope")
    refused(city.request("POST", PATH, json={"readings": [reading]}), 401, "not_authenticated")
