"""More than can be done in time is refused early, with a time to come back; real faults are never a 500."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from market.api import lean
from market.exchange import queries
from market.exchange.outcomes import CommitFailed, Overloaded
from tests.api.conftest import City, Person, refused

PATH = "/api/v1/orders"


def order(city: City) -> dict[str, Any]:
    return {"contract": city.market.contract(2), "side": "buy", "price": "0.0100", "energy_wh": 100}


def raises(error: Exception) -> Any:
    async def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "after"),
    [(Overloaded(7), "overloaded", "7"), (CommitFailed("disk full"), "outcome_unknown", "2"),
     (RuntimeError("a bug"), "unavailable", "2")],
)  # fmt: skip
def test_faults_of_the_exchange(
    city: City, alice: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception,
    code: str, after: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(city.exchange, "aexecute", raises(error))
    with caplog.at_level(logging.ERROR):
        response = alice.request("POST", PATH, json=order(city))
    body = refused(response, 503, code)
    assert response.headers["retry-after"] == after
    assert str(error) not in body["detail"]
    assert ("a bug" in caplog.text) == (code == "unavailable")


def test_too_many_requests_at_once(city: City, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "MAX_IN_FLIGHT", 0)
    response = alice.request("POST", PATH, json=order(city))
    refused(response, 503, "overloaded")
    assert int(response.headers["retry-after"]) > 0
    monkeypatch.undo()
    alice.order("buy", "0.0100", contract=city.market.contract(2))


def test_a_bug_in_a_view(city: City, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(queries, "balance", broken)
    refused(alice.get("/api/v1/me/balance"), 503, "unavailable")
    monkeypatch.setattr(queries, "orders", broken)
    refused(alice.get(PATH), 503, "unavailable")


def test_too_many_open_orders_say_when_to_come_back(city: City) -> None:
    busy = city.person("busy", area="LV1.2")
    batch = [order(city) | {"price": "0.0001", "energy_wh": 1}] * 1_000
    assert busy.request("POST", PATH + "/batch", json=batch).status_code == 200
    response = busy.request("POST", PATH, json=order(city))
    problem = refused(response, 429, "too_many_orders", "account")
    assert "1000" in problem["detail"]
    assert int(response.headers["retry-after"]) > 0
