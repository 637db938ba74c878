"""A witness on a port of its own, in a thread, that a test can stop and start again; and what pushes to it needs."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from ledger.core.note import VerifierKey
from ledger.witness_server import Witness, WitnessApp

App = Callable[[Any, Any, Any], Awaitable[None]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(app: App, port: int) -> Iterator[str]:
    """Serve an ASGI application; yield its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


class Station:
    """A witness of one folder and port."""

    def __init__(self, folder: Path, keys: list[VerifierKey], name: str = "witness.example/w1"):
        self.folder, self.name, self.keys = folder, name, keys
        self.port = free_port()
        self.vkey = Witness(folder, name, keys).vkey
        self.url = f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def open(self, wrap: Callable[[App], App] = lambda app: app) -> Iterator[Witness]:
        witness = Witness(self.folder, self.name, self.keys)
        with serving(wrap(WitnessApp(witness)), self.port):
            yield witness


def post(url: str, body: bytes, path: str = "/add-checkpoint") -> tuple[int, str, bytes]:
    """Send a request; return status, content type, body."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type") or "", response.read()
    finally:
        connection.close()


def get(url: str, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_for(what: Callable[[], object], seconds: float = 15.0) -> Any:
    """Wait until ``what`` gives something true and return it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {seconds} s for nothing"
        time.sleep(0.02)
    return found
