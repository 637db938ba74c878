"""`GET /healthz`."""

from __future__ import annotations

import logging

import pytest

from market.api import health, shapes
from market.config.logs import NoTraceOfRefusals
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


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/areas", "/api/v1/orders", "/ledger/checkpoint"])
def test_another_host_is_a_problem_and_one_line_in_the_log(
    city: City, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    refused(city.request("GET", path, headers={"Host": "evil.example"}), 400, "bad_request", "Host")
    lines = [record for record in caplog.records if record.name.startswith("django")]
    assert all(record.levelname == "WARNING" and record.exc_info is None for record in lines)
    assert len(lines) == (path != "/api/v1/orders")


def test_pages_of_another_host_are_not_served(city: City) -> None:
    response = city.request("GET", "/sign-in", headers={"Host": "evil.example"})
    assert (response.status_code, response.headers["content-type"]) == (400, "text/plain")


@pytest.mark.parametrize("path", ["/healthz", "/ledger/checkpoint"])
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_what_is_only_read_says_so(city: City, method: str, path: str) -> None:
    response = city.request(method, path)
    assert (response.status_code, response.json()["code"], response.headers["allow"]) == (
        405, "method_not_allowed", "GET, HEAD",
    )  # fmt: skip
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v2/orders", "/api/v1/nix"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_addresses_beside_the_api(city: City, method: str, path: str) -> None:
    refused(city.request(method, path), 404, "not_found")


def test_a_refused_page_is_one_line_in_the_log() -> None:
    record = logging.LogRecord(
        "django.request", logging.WARNING, "", 0, "Forbidden", (), (ValueError, ValueError(), None)
    )
    record.status_code = 403
    assert NoTraceOfRefusals().filter(record)
    assert record.exc_info is None
    record.exc_info, record.status_code = (ValueError, ValueError(), None), 500
    assert NoTraceOfRefusals().filter(record)
    assert record.exc_info is not None
