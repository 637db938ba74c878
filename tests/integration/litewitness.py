"""Debian's witness (package torchwood), started for one log: for tests on machines that have it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ledger.core.note import VerifierKey
from tests.integration.witness_http import free_port, get


class Foreign:
    """Where it listens, and its verifier key."""

    def __init__(self, url: str, vkey: str):
        self.url, self.vkey = url, vkey


@contextlib.contextmanager
def running_litewitness(folder: Path, key: VerifierKey) -> Iterator[Foreign]:
    """Make a key in an ssh-agent of its own, add the log, and serve until the end."""
    folder.mkdir(parents=True)
    agent, database, port = folder / "agent", folder / "witness.db", free_port()
    processes = [subprocess.Popen(["ssh-agent", "-D", "-a", str(agent)])]
    try:
        _await(agent.exists)
        secret = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(secret)], check=True)
        subprocess.run(["ssh-add", "-q", str(secret)], check=True, env={"SSH_AUTH_SOCK": str(agent)})
        fingerprint = subprocess.run(
            ["ssh-keygen", "-lf", f"{secret}.pub"], check=True, capture_output=True, text=True
        ).stdout.split()[1]
        subprocess.run(["witnessctl", "add-log", "-db", str(database), "-origin", key.name], check=True)
        subprocess.run(
            ["witnessctl", "add-key", "-db", str(database), "-origin", key.name, "-key", str(key)], check=True
        )
        command = ["litewitness", "-db", str(database), "-name", "lite.example/w", "-key", fingerprint]
        processes.append(subprocess.Popen([*command, "-ssh-agent", str(agent), "-listen", f"127.0.0.1:{port}"]))
        url = f"http://127.0.0.1:{port}"
        _await(lambda: _answers(url))
        yield Foreign(url, _vkey(Path(f"{secret}.pub").read_text(), "lite.example/w"))
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(10)


def _vkey(public: str, name: str) -> str:
    import base64

    from ledger.core.note import COSIGNATURE, format_vkey

    return format_vkey(name, base64.b64decode(public.split()[1])[-32:], COSIGNATURE)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return get(url, "/")[0] > 0
    return False


def _await(what) -> None:
    deadline = time.monotonic() + 15
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
