"""`GET /healthz`."""

from __future__ import annotations

import pytest

from market.api import health, shapes
from market.exchange import gateway
from tests.api.conftest import City, refused, shaped


def test_a_market_that_runs(city: City) -> None:
    health_ = shaped(city.request("GET", "/healthz"), shapes.Health)
    assert (health_.status, health_.database, health_.exchange) == ("ok", "ok", "running")
    assert 0 < health_.seq <= city.seq()
    assert 0 <= health_.sealed <= city.seq()


def test_a_market_that_does_not(city: City) -> None:
    gateway.disconnect()
    try:
        health_ = shaped(city.request("GET", "/healthz"), shapes.Health, 503)
        assert (health_.status, health_.exchange) == ("unavailable", "not running")
        body = {"contract": city.market.contract(1), "side": "buy", "price": "0.0100", "energy_wh": 100}
        for response in (
            city.alice.request("POST", "/api/v1/orders", json=body),
            city.alice.request("POST", "/api/v1/orders/batch", json=[body]),
            city.alice.request("DELETE", "/api/v1/orders/1"),
            city.request("GET", "/api/v1/areas"),
        ):
            refused(response, 503, "exchange_not_running")
            assert int(response.headers["retry-after"]) > 0
    finally:
        gateway.connect(city.exchange)


def test_a_failed_exchange_is_not_healthy(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        def status(self) -> dict[str, object]:
            return {"state": "failed", "seq": 5, "sealed": 4, "queue": 0, "error": "disk full"}

    monkeypatch.setattr(health.gateway, "current", Failed)
    response = city.request("GET", "/healthz")
    assert shaped(response, shapes.Health, 503).exchange == "failed"
    assert "disk" not in response.text
