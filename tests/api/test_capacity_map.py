"""`GET /api/v1/contracts/{start}/capacity`: what the grid can still carry."""

from __future__ import annotations

from typing import Any

from market.api import shapes
from market.engine.commands import SetArea
from tests.api.conftest import City, Person, refused, shaped


def areas(response: Any) -> dict[str, shapes.Headroom]:
    return {row.area: row for row in shaped(response, shapes.HeadroomPage).results}


def test_the_map_gives_no_street_with_few_homes_away(city: City, alice: Person, charlie: Person, olga: Person) -> None:
    contract = city.market.contract(1)
    path = f"/api/v1/contracts/{contract}/capacity"
    everything = {"MV1", "MV2", "LV1.1", "LV1.2", "LV2.1"}

    def seen() -> set[str]:
        found = set(areas(city.request("GET", path)))
        assert set(areas(alice.get(path))) == set(areas(charlie.get(path))) == found, "who lives there sees no more"
        assert set(areas(olga.get(path))) == set(areas(city.rita.get(path))) == everything
        return found

    assert seen() == set(), "three homes in the whole city"
    for _ in range(10):
        city.market.member("LV1.2", deposit_e7=0)
    assert seen() == set(), "all that is traded, less MV1, would be the one home in LV2.1"
    for _ in range(9):
        city.market.member("LV2.1", deposit_e7=0)
    assert seen() == {"MV1", "MV2", "LV2.1"}, "MV1 less LV1.2 would be the two homes in LV1.1"
    for _ in range(8):
        city.market.member("LV1.1", deposit_e7=0)
    assert seen() == everything


def test_homes_that_a_contract_does_not_know_are_no_cover(city: City) -> None:
    """An area is added beside a small one: its homes cannot trade in contracts opened before."""
    path = f"/api/v1/contracts/{city.market.contract(1)}/capacity"
    before = set(areas(city.request("GET", path)))
    assert "LV2.1" in before
    city.market.member("MV2", deposit_e7=0)
    city.exchange.call(SetArea("LV2.9", "MV2", "LV"))
    for _ in range(9):
        city.market.member("LV2.9", deposit_e7=0)
    assert set(areas(city.request("GET", path))) == before - {"LV2.1"}, "it and MV2 differ by one home"


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
