"""Mosquitto, a real MQTT broker from Debian's packages, for tests and benches."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

STARTS_S = 10.0


def program() -> str | None:
    """Return the broker's program, None where it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def needed() -> str:
    """Return the broker's program; skip without it, but in CI nothing may be left out."""
    found = program()
    if found is None:
        assert not os.environ.get("CI"), "mosquitto is missing: in CI nothing may be left out"
        pytest.skip("needs mosquitto")
    return found


class Broker:
    """A broker on a port of its own that keeps its sessions in a folder."""

    def __init__(self, path: str, folder: Path):
        self._path = path
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
            f"max_queued_messages 0\nmax_inflight_messages 0\nautosave_interval 1\nautosave_on_changes true\n"
            f"user {os.environ.get('USER', 'root')}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            [self._path, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + STARTS_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < deadline, "mosquitto did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it; it writes its sessions down."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)


@contextlib.contextmanager
def broker(folder: Path, path: str) -> Iterator[Broker]:
    """A running broker."""
    made = Broker(path, folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()
