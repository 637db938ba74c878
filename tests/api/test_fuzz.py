"""Whatever is sent, the answer is JSON, never a 500, and money neither appears nor disappears."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.config import asgi
from tests.api.conftest import CSRF, HOST, City

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,  # the same in every run: a failure here is news, not luck
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", "0", "-1", "0.2000", "buy", "sell", "gtg", "gtd", "ioc", "fok", "NaN", "Infinity", "1e5", "٣", "\0", "\ud800",
         "2026-06-06T10:30Z", "2026-06-06T11:00Z", "2026-06-06T10:30:00Z", "9999-12-31T23:59:59Z", "LV1.1", "market",
         "null", "9" * 30, "x" * 300, "'; DROP TABLE ledger_entry; --", "%00", "../../etc/passwd"]
    ),
)  # fmt: skip
numbers = st.one_of(st.integers(), st.integers(-5, 1_000), st.sampled_from([2**31, 2**53, 2**63, 2**64, -(2**63)]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
FIELDS = (
    "contract", "side", "price", "energy_wh", "time_in_force", "expires_at", "orders", "readings", "import_wh", "export_wh",
    "fee", "topup_price", "spill_price", "scope", "on", "target", "reason", "import_w", "export_w", "max_price", "tick",
    "values", "start", "device", "register", "duration_s", "revision", "kind", "rating_w", "public_key",
    "display_wh", "last", "legs", "account", "until", "cancel", "connection", "collar",
)  # fmt: skip
near_orders = st.fixed_dictionaries(
    {
        "contract": st.one_of(st.sampled_from(["2026-06-06T10:30Z", "2026-06-06T11:00Z"]), texts),
        "side": st.one_of(st.sampled_from(["buy", "sell"]), texts),
        "price": st.one_of(st.sampled_from(["0.2000", "0.2100"]), texts, numbers),
        "energy_wh": st.one_of(st.integers(1, 500), numbers, texts),
    },
    optional={
        "time_in_force": texts,
        "expires_at": st.one_of(st.none(), texts),
        "display_wh": st.one_of(st.integers(1, 50), numbers),
    },
)
legs = st.fixed_dictionaries({"legs": st.lists(near_orders, max_size=3)})
runs = st.tuples(near_orders, st.fixed_dictionaries({"last": st.one_of(st.just("2026-06-06T11:00Z"), texts)})).map(
    lambda pair: {name: value for part in pair for name, value in part.items() if name != "display_wh"}
)
bodies = st.one_of(
    near_orders,
    legs,
    runs,
    st.lists(near_orders, max_size=3),
    st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), values, max_size=6),
    values,
)

CALLS = [
    ("POST", "/api/v1/orders"),
    ("POST", "/api/v1/orders/batch"),
    ("PATCH", "/api/v1/orders/5"),
    ("POST", "/api/v1/readings"),
    ("POST", "/api/v1/orders/sweep"),
    ("POST", "/api/v1/orders/block"),
    ("POST", "/api/v1/orders/basket"),
    ("POST", "/api/v1/operator/trades/7/recall"),
    ("PUT", "/api/v1/operator/connections/00112233445566778899aabbccddeeff"),
    ("PUT", "/api/v1/operator/areas/LV1.2/capacity"),
    ("PUT", "/api/v1/operator/areas/LV1.2/fee"),
    ("PUT", "/api/v1/operator/tariff"),
    ("PUT", "/api/v1/operator/params"),
]
READS = [
    "orders", "orders/7", "areas", "contracts", "contracts/2026-06-06T10:30Z/book", "trades", "candles", "me",
    "me/positions", "me/balance", "me/statement", "events", "ledger/blocks", "ledger/entries/3", "ledger/entries/3/proof",
    "ledger/entries/3/receipt",
    "operator/params", "operator/flows", "operator/settlement", "operator/alerts", "regulator/orders", "regulator/trades",
    "regulator/refusals", "schema/", "docs/", "contracts/2026-06-06T10:30Z/capacity",
]  # fmt: skip


def dumps(value: Any) -> bytes:
    """Return JSON as a careless client writes it: NaN, lone surrogates and all."""
    import json

    return json.dumps(value).encode("utf-8", "surrogatepass")


async def call(method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    """Send any bytes at all: an HTTP client would refuse to."""
    sent: list[Any] = []
    chunks = [body[:7], body[7:]]

    async def receive() -> dict[str, Any]:
        part = chunks.pop(0) if chunks else b""
        return {"type": "http.request", "body": part, "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": quote(path).encode(),
        "root_path": "", "query_string": query, "headers": headers, "scheme": "http", "client": ("127.0.0.1", 5),
        "server": (HOST, 80), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await asgi.application(scope, receive, send)
    assert sent[0]["type"] == "http.response.start"
    kind = dict(sent[0]["headers"]).get(b"content-type", b"")
    if sent[0]["status"] >= 400 and path.startswith("/api/v1/") and b"/docs" not in path.encode():
        assert kind in (b"application/problem+json", b"text/html; charset=utf-8"), (sent, kind)
    return int(sent[0]["status"])


def run(city: City, *args: Any) -> int:
    return asyncio.run_coroutine_threadsafe(call(*args), city._loop).result(30)


def total(city: City) -> int:
    return city.exchange.read(lambda engine: sum(account.cash_e7 for account in engine.accounts))


@pytest.mark.parametrize(("method", "path"), CALLS)
@EXAMPLES
@given(body=bodies)
def test_any_json(city: City, method: str, path: str, body: Any) -> None:
    person = city.sam if "recall" in path else city.olga if "operator" in path else city.alice
    headers = [
        (b"host", HOST.encode()), (b"content-type", b"application/json"), (b"authorization", f"Bearer {person.key}".encode()),
    ]  # fmt: skip
    assert run(city, method, path, b"", headers, dumps(body)) < 500
    assert total(city) == 0


@pytest.mark.parametrize(("method", "path"), CALLS[:4])
@EXAMPLES
@given(raw=st.binary(max_size=200))
def test_any_bytes(city: City, method: str, path: str, raw: bytes) -> None:
    headers = [
        (b"host", HOST.encode()), (b"content-type", b"application/json"),
        (b"authorization", f"Bearer {city.alice.key}".encode()),
    ]  # fmt: skip
    assert 400 <= run(city, method, path, b"", headers, raw) < 500


@pytest.mark.parametrize("path", READS)
@settings(EXAMPLES, max_examples=40)
@given(
    query=st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.tuples(
                st.sampled_from(["limit", "cursor", "after", "contract", "state", "area", "depth", "account", "since",
                                 "until", "resolution", "format"]),
                texts,
            ),
            max_size=3,
        ).map(lambda pairs: "&".join(f"{k}={quote(v, errors='surrogatepass')}" for k, v in pairs).encode()),
    )
)  # fmt: skip
def test_any_query(city: City, path: str, query: bytes) -> None:
    person = city.sam if "operator" in path or "regulator" in path else city.alice
    headers = [(b"host", HOST.encode()), (b"authorization", f"Bearer {person.key}".encode())]
    assert run(city, "GET", f"/api/v1/{path}", query, headers, b"") < 500


header_values = st.binary(max_size=40).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
any_headers = st.lists(
    st.tuples(
        st.sampled_from(
            [b"authorization", b"cookie", b"content-type", b"content-length", b"idempotency-key", b"origin", b"referer",
             b"x-csrftoken", b"accept-language", b"accept", b"host", b"x-forwarded-proto", b"transfer-encoding", b"expect"]
        ),
        st.one_of(
            header_values,
            st.sampled_from([b"Bearer x", b"Bearer sl_x", b"application/json", b"zh-hans", b"http://localhost", b"99999999",
                             b"-5", b"multipart/form-data; boundary=x", b"sessionid=abc; csrftoken=" + CSRF.encode()]),
        ),
    ),
    max_size=5,
)  # fmt: skip


@pytest.mark.parametrize("signed_in", [False, True])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *CALLS[:4],
        ("GET", "/api/v1/orders"),
        ("GET", "/api/v1/me"),
        ("GET", "/api/v1/areas"),
        ("DELETE", "/api/v1/orders"),
    ],
)
@settings(EXAMPLES, max_examples=40)
@given(headers=any_headers)
def test_any_headers(city: City, method: str, path: str, headers: list[tuple[bytes, bytes]], signed_in: bool) -> None:
    known = [(b"host", HOST.encode())]
    if signed_in:
        known.append((b"authorization", f"Bearer {city.alice.key}".encode()))
    assert run(city, method, path, b"", known + headers, b'{"orders":[]}') < 500


@settings(EXAMPLES, max_examples=200)
@given(
    path=st.text(max_size=40),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"]),
)
def test_any_address(city: City, path: str, method: str) -> None:
    headers = [(b"host", HOST.encode()), (b"authorization", f"Bearer {city.alice.key}".encode())]
    for prefix in ("/api/v1/", "/api/v1/orders", "/api/v1/orders/"):
        assert run(city, method, prefix + path, b"", headers, b"") < 500
