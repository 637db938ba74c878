"""The API behind the real web server: what only shows with sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.conf import settings

from market.config import threaded
from tests.api.conftest import City

ROOT = Path(__file__).resolve().parents[2]
TEN_MB = 10_000_000


@pytest.fixture(scope="module")
def port(city: City) -> Iterator[int]:
    """uvicorn with the protocol implementations that ``serve`` uses, in front of this file's market."""
    config = uvicorn.Config(
        "market.config.asgi:application",
        port=0,
        loop="uvloop",
        http="httptools",
        ws="market.streaming.server:SocketProtocol",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one response from a socket."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def head(city: City, method: str, path: str, *lines: str) -> bytes:
    wanted = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {city.alice.key}", *lines]
    return "\r\n".join([*wanted, "", ""]).encode("latin-1")


def order(city: City) -> bytes:
    return json.dumps(
        {"contract": city.market.contract(2), "side": "buy", "price": "0.0100", "energy_wh": 100}
    ).encode()


def test_an_order_over_a_connection_that_stays(city: City, port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": f"Bearer {city.alice.key}", "Content-Type": "application/json", "Host": "localhost"}
    for _ in range(3):
        client.request("POST", "/api/v1/orders", order(city), headers)
        response = client.getresponse()
        assert response.status == 201
        assert json.loads(response.read())["order"]["status"] == "open"
    client.request("GET", "/api/v1/me", headers=headers)
    assert json.loads(client.getresponse().read())["user"] == "alice"


@pytest.mark.parametrize("path", ["/api/v1/orders", "/api/v1/orders/batch", "/api/v1/readings"])
def test_the_answer_to_ten_megabytes_comes_before_they_are_sent(city: City, port: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head(city, "POST", path, "Content-Type: application/json", f"Content-Length: {TEN_MB}"))
        connection.sendall(b"[" + b" " * 70_000)
        status, headers, body = read_response(connection)
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert json.loads(body)["code"] == "body_too_large"


MULTIPART = "Content-Type: multipart/form-data; boundary=x"


def test_a_file_of_a_hundred_megabytes_is_refused_before_it_is_sent(city: City, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head(city, "POST", "/account/readings", MULTIPART, "Content-Length: 100000000"))
        connection.sendall(b"--x\r\n")
        assert read_response(connection)[0] == 413


@pytest.mark.parametrize(("path", "kind", "status"), [
    ("/account/readings", MULTIPART, 413),  # of a stranger: keys upload nothing here
    ("/account/readings", "Content-Type: text/csv", 413),
    ("/account/devices/register", MULTIPART, 413),
])  # fmt: skip
def test_only_the_page_for_files_reads_files(city: City, port: int, path: str, kind: str, status: int) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"1" * 3_000_000 + b"\r\n--x--\r\n"
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head(city, "POST", path, kind, f"Content-Length: {len(body)}"))
        connection.sendall(body)
        assert read_response(connection)[0] == status


def test_strangers_hold_no_place_for_files(city: City, port: int) -> None:
    address, body = ("127.0.0.1", port), b"1" * 3_000_000
    slow = [socket.create_connection(address, 20) for _ in range(2 * threaded.MAX_UPLOADS)]
    try:
        for n, connection in enumerate(slow):
            cookie = "Cookie: sessionid=" + ("a" * 32 if n % 2 else "")
            connection.sendall(head(city, "POST", "/account/readings", MULTIPART, cookie, "Content-Length: 1000000"))
            connection.sendall(b"--x\r\n")
        time.sleep(0.5)  # until each is read as far as it will be
        with socket.create_connection(address, 20) as connection:
            cookie = f"Cookie: sessionid={city.alice.session()['sessionid']}"
            length = f"Content-Length: {len(body)}"
            connection.sendall(head(city, "POST", "/account/readings", MULTIPART, cookie, length))
            connection.sendall(body)
            assert read_response(connection)[0] == 403, "read, and then refused: no token"
    finally:
        for connection in slow:
            connection.close()


def test_a_members_file_is_not_too_large_because_there_is_no_time_to_look_who_sends_it(
    city: City, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threaded.LOOKUPS, "_bound", 0)
    for cookie, wanted in ((f"sessionid={city.alice.session()['sessionid']}", (503, "overloaded")),
                           ("", (413, "body_too_large"))):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            lines = (MULTIPART, f"Cookie: {cookie}", "Content-Length: 3000000")
            connection.sendall(head(city, "POST", "/account/readings", *lines))
            status, headers, body = read_response(connection)
        assert (status, json.loads(body)["code"]) == wanted
        assert ("retry-after" in headers) is (status == 503)


SIZES = [("/api/v1/orders", 20_000), *((path, TEN_MB) for path in ("/api/v1/orders", "/api/v1/orders/batch",
                                                                    "/api/v1/readings"))]  # fmt: skip


@pytest.mark.parametrize(("path", "size"), SIZES)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_too_much_first_reads_the_answer(
    city: City, port: int, path: str, size: int, chunked: bool
) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": f"Bearer {city.alice.key}", "Content-Type": "application/json", "Host": "localhost"}
    body: Any = (b" " * 10_000 for _ in range(size // 10_000)) if chunked else b" " * size
    client.request("POST", path, body, headers, encode_chunked=chunked)
    response = client.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["code"] == "body_too_large"
    # The connection is still of use.
    client.request("GET", "/api/v1/me", headers=headers)
    assert client.getresponse().status == 200


def test_a_client_that_goes_away_hurts_nobody(city: City, port: int) -> None:
    before = city.state()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(head(city, "POST", "/api/v1/orders", "Content-Length: 50") + b'{"contract":')
    time.sleep(0.2)
    assert city.state() == before
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head(city, "GET", "/api/v1/orders"))
        assert read_response(connection)[0] == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\xfe\r\n\r\n",
        b"GET /api/v1/orders\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/orders?\xff=%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://evil.example/api/v1/orders HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /api/v1/orders HTTP/1.1\r\n\r\n",
        b"GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_bytes_that_are_hardly_http(city: City, port: int, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.settimeout(20)
        connection.sendall(raw)
        try:
            answer = connection.recv(65_536)
        except ConnectionResetError:
            answer = b""
        assert not answer.startswith(b"HTTP/1.1 5"), answer


def test_pages_and_static_files_are_served(city: City, port: int) -> None:
    client = http.client.HTTPConnection("localhost", port, timeout=20)
    client.request("GET", f"{settings.STATIC_URL}api/docs.css")
    response = client.getresponse()
    assert response.status == 200
    assert b"color-scheme" in response.read()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a server with a database of its own, of the kind the tests run on."""
    url = os.environ.get("DATABASE_URL", "")
    environment = {**os.environ, "SUNLEDGER_DATA": str(tmp_path), "SUNLEDGER_LOG_LEVEL": "WARNING"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    if not url.startswith("postgres"):
        environment.pop("DATABASE_URL", None)
        yield environment
        return
    import psycopg2

    name = f"serve_{os.getpid()}"
    admin = psycopg2.connect(url)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
        try:
            yield environment | {"DATABASE_URL": url.rsplit("/", 1)[0] + f"/{name}"}
        finally:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            admin.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def health_of(server: subprocess.Popen[bytes], port: int) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "the server ended"
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            client.request("GET", "/healthz")
            response = client.getresponse()
            assert response.status == 200
            return json.loads(response.read())
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_serve_opens_an_empty_market_and_closes_it(database: dict[str, str], tmp_path: Path) -> None:
    for _ in range(2):  # the second time on the data of the first
        port = free_port()
        command = [sys.executable, "manage.py", "serve", "--port", str(port)]
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=ROOT, env=database, stderr=log)
        try:
            assert health_of(server, port)["status"] == "ok"
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            client.request("GET", "/api/v1/areas")
            assert json.loads(client.getresponse().read()) == {"results": [], "next": None}
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) in (0, -signal.SIGTERM)
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_only_one_server_a_database(database: dict[str, str]) -> None:
    port = free_port()
    first = subprocess.Popen([sys.executable, "manage.py", "serve", "--port", str(port)], cwd=ROOT, env=database)
    try:
        health_of(first, port)
        impatient = "import manage; from market.exchange import stores; stores.LOCK_WAIT_S = 1; manage.main()"
        second = subprocess.run(
            [sys.executable, "-c", impatient, "serve", "--port", str(free_port())],
            cwd=ROOT, env=database, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert second.returncode == 3
        assert "another exchange writes to" in second.stderr
        assert health_of(first, port)["status"] == "ok"
    finally:
        first.send_signal(signal.SIGTERM)
        first.wait(30)
