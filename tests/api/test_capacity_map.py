"""`GET /api/v1/contracts/{start}/capacity`: what the grid can still carry."""

from __future__ import annotations

from typing import Any

from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped


def areas(response: Any) -> dict[str, shapes.Headroom]:
    return {row.area: row for row in shaped(response, shapes.HeadroomPage).results}


def test_the_map_names_no_street_with_few_homes(city: City, alice: Person, charlie: Person, olga: Person) -> None:
    contract = city.market.contract(1)
    path = f"/api/v1/contracts/{contract}/capacity"
    assert areas(city.request("GET", path)) == {}, "three homes in the whole city"
    assert set(areas(alice.get(path))) == {"LV1.1", "MV1"}, "her own street and what is above it"
    assert set(areas(charlie.get(path))) == {"LV2.1", "MV2"}
    everything = {"MV1", "MV2", "LV1.1", "LV1.2", "LV2.1"}
    assert set(areas(olga.get(path))) == set(areas(city.rita.get(path))) == everything
    for _ in range(10):
        city.market.member("LV1.2", deposit_e7=0)
    assert set(areas(city.request("GET", path))) == {"LV1.2", "MV1"}


def test_trades_use_capacity_and_give_the_other_direction_as_much(
    city: City, alice: Person, charlie: Person, olga: Person
) -> None:
    contract = city.market.contract(2)
    alice.order("sell", "0.1000", 2_000, contract=contract)
    charlie.order("buy", "0.3000", 2_000, contract=contract)
    found = areas(olga.get(f"/api/v1/contracts/{contract}/capacity"))
    street = found["LV1.1"]
    assert (street.parent, street.export_capacity_wh, street.import_capacity_wh) == ("MV1", 25_000, 25_000)
    assert (street.export_residual_wh, street.import_residual_wh) == (23_000, 27_000)
    assert (found["LV2.1"].import_residual_wh, found["LV1.2"].import_residual_wh) == (23_000, 25_000)


def test_unknown_contracts_and_questions(city: City) -> None:
    refused(city.request("GET", "/api/v1/contracts/2031-01-01T00:00Z/capacity"), 404, "unknown_contract", "contract")
    refused(city.request("GET", "/api/v1/contracts/x/capacity"), 404, "unknown_contract", "contract")
    path = f"/api/v1/contracts/{city.market.contract()}/capacity?area=LV1.1"
    refused(city.request("GET", path), 400, "unknown_field", "area")
