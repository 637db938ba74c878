"""`GET /api/v1/operator/balance`: what flowed into an area and is in no reading, with the likely cause."""

from __future__ import annotations

import time

import pytest
from django.test import Client

from market.api import shapes
from market.engine.contracts import contract_start_ms
from market.exchange.units import at_text
from market.metering.operations import ReadingIn, record_readings
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/operator/balance"
READ = "/api/v1/readings"


@pytest.fixture(scope="module")
def delivered(city: City) -> list[str]:
    """Five contracts whose energy has flowed; alice and bob are metered in four of them, in the last alice alone."""
    names = [city.market.contract(ahead) for ahead in range(1, 6)]
    city.market.clock.advance(minutes=6 * 15 + 1)
    deadline = time.monotonic() + 10
    while any(city.exchange.read(lambda e, n=name: e.contracts[n].state) != "delivered" for name in names):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for name in names:
        homes = [ReadingIn(city.alice.account, 0, 400), ReadingIn(city.bob.account, 1_000, 0)]
        if name == names[-1]:
            homes.pop()
        record_readings(
            exchange=city.exchange, contract=name, area="LV1.1", readings=homes, now_ms=city.exchange.now_ms()
        )
    return names


def substation(city: City, area: str, readings: dict[str, int]) -> None:
    """Register an edge's meter and send what flowed into the area."""
    body = {"area": area, "name": area, "rating_w": 400_000}
    made = shaped(city.olga.by_hand("POST", "/api/v1/operator/substations", json=body), shapes.DeviceAnswer, 201)
    values = [
        {"start": at_text(contract_start_ms(name)), "import_wh": max(0, wh), "export_wh": max(0, -wh)}
        for name, wh in readings.items()
    ]
    done = city.request("POST", READ, json={"values": values}, headers={"Authorization": f"Bearer {made.token}"})
    assert shaped(done, shapes.ReadingsAnswer).accepted == len(values)


def balances(city: City, delivered: list[str], intervals: int = 5) -> dict[str, shapes.AreaBalance]:
    end = at_text(contract_start_ms(delivered[-1]) + 900_000)
    page = shaped(city.olga.get(PATH, end=end, intervals=intervals), shapes.BalancePage)
    return {one.area: one for one in page.results}


def test_residuals_and_their_causes(city: City, delivered: list[str]) -> None:
    before = balances(city, delivered)
    assert (before["LV1.1"].cause, before["LV1.1"].metered) == ("unknown", False)
    substation(city, "LV1.1", dict.fromkeys(delivered[:4], 640) | {delivered[4]: 650})
    found = balances(city, delivered)["LV1.1"]
    assert (found.cause, found.homes, found.intervals, found.residual_wh) == ("loss", 2, 4, 160)
    assert [row.cause for row in found.rows] == ["loss"] * 4 + ["missing_meter"]
    assert found.rows[-1].missing == 1
    substation(city, "LV1.1", dict.fromkeys(delivered, 900))  # a second cable into the street
    assert balances(city, delivered)["LV1.1"].cause == "theft"
    substation(city, "LV1.2", dict.fromkeys(delivered, 0))
    substation(city, "MV1", dict.fromkeys(delivered, 1560))
    above = balances(city, delivered)["MV1"]
    assert (above.homes, above.cause, above.rows[0].residual_wh) == (0, "loss", 20)


def test_who_may_look(city: City, rita: Person, delivered: list[str]) -> None:
    assert rita.get(PATH).status_code == 200
    refused(city.alice.get(PATH), 403, "forbidden")
    refused(city.olga.get(PATH, intervals=97), 400, "out_of_range", "intervals")
    refused(city.olga.get(PATH, end="yesterday"), 400, "invalid_value", "end")


def test_the_page(city: City, delivered: list[str]) -> None:
    browser = Client()
    browser.force_login(city.olga.user)
    html = browser.get("/operator/balance").content.decode()
    assert "LV1.1" in html and "no meter at its edge" in html
    browser.force_login(city.alice.user)
    assert browser.get("/operator/balance").status_code == 403
