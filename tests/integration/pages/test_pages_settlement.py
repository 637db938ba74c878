"""The operator's settlement board as it is served, and its file."""

from __future__ import annotations

import csv
import io

import pytest

from market.metering.operations import ReadingIn, record_batches
from market.settlement.operations import settle_due
from tests.integration.pages.conftest import Town

PATH = "/operator/settlement"


@pytest.fixture(scope="module")
def delivered(town: Town) -> str:
    """A delivered interval in which Bob's meter is silent; Alice's neighbours in LV2.1 are settled."""
    market = town.market
    contract = market.contract()
    market.place(town.alice.account, "sell", "0.2000", 1_000, contract=contract)
    market.buys(town.charlie.account, "0.3000", 1_000, contract=contract)
    market.clock.advance(minutes=31)
    market.member("LV1.2", deposit_e7=0)
    batches = {"LV1.1": [ReadingIn(town.alice.account, 0, 1_000)], "LV2.1": [ReadingIn(town.charlie.account, 900, 0)]}
    record_batches(exchange=town.exchange, contract=contract, batches=batches, now_ms=market.clock.at_ms)
    settle_due(exchange=town.exchange, now_ms=market.clock.at_ms)
    return contract


def test_who_waits_for_what(town: Town, delivered: str) -> None:
    html = town.olga.html(PATH)
    assert 'href="/operator/areas/LV1.1">LV1.1</a>: 1 meter of 2' in html
    assert "1 of 2 areas" in html
    assert "estimated from 12:35" in html
    assert "€0.40" in html, "Alice's proceeds and margin"
    assert "its delivery" in html, "the interval after it"
    assert 'aria-current="page">Settlement' in html
    assert f'href="{PATH}"' in town.olga.html("/operator")


def test_stages_choose_and_nonsense_is_not_there(town: Town, delivered: str) -> None:
    assert "1 meter of 2" in town.olga.html(PATH, stage="waiting")
    assert "1 meter of 2" not in town.olga.html(PATH, stage="closed")
    assert "No interval is in this state." in town.olga.html(PATH, stage="final")
    assert "1 meter of 2" not in town.olga.html(PATH, before=delivered)
    for wrong in ({"stage": "x"}, {"before": "x"}, {"before": "\0"}):
        assert town.olga.get(PATH, **wrong).status_code == 404
        assert town.olga.get(f"{PATH}.csv", **wrong).status_code == 404


def test_the_file_has_a_line_a_contract_and_area(town: Town, delivered: str) -> None:
    response = town.olga.get(f"{PATH}.csv", stage="waiting")
    assert response["Content-Disposition"] == 'attachment; filename="settlement.csv"'
    rows = list(csv.reader(io.StringIO(response.content.decode(), newline="")))
    assert rows == [
        [
            "interval start [UTC]",
            "state",
            "area",
            "settled accounts",
            "estimated accounts",
            "missing meters",
            "corrected accounts",
        ],
        [delivered, "waiting", "LV1.1", "0", "0", "1", "0"],
        [delivered, "waiting", "LV2.1", "1", "0", "0", "0"],
    ]


@pytest.mark.parametrize("path", [PATH, f"{PATH}.csv"])
def test_it_is_the_operators(town: Town, path: str) -> None:
    assert town.sam.get(path).status_code == 200
    for other in (town.alice, town.rita):
        assert other.get(path).status_code == 403
    assert town.nobody.get(path).status_code == 302


def test_without_a_market_it_says_so(town: Town, closed: Town) -> None:
    assert town.olga.get(PATH).status_code == 200
    assert town.olga.get(f"{PATH}.csv").status_code == 404
