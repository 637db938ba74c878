"""A market that is killed while its agents trade: no order is forgotten, none is placed twice, none is offered twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0


def life(environment: dict[str, str], *arguments: str, killed: bool = False) -> dict[str, Any]:
    """Run one life to its end and return what it said last."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.load.agents_child", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("where", ["note", "answer"])
def test_who_is_killed_between_an_order_and_its_note_knows_it_again(tmp_path: Path, where: str) -> None:
    environment = {
        **os.environ, "SUNLEDGER_DATA": str(tmp_path), "SUNLEDGER_LOG_LEVEL": "ERROR",
        "DATABASE_URL": f"sqlite:///{tmp_path}/killed.sqlite3",
    }  # fmt: skip
    at_ms = life(environment, "prepare")["at_ms"]
    for times in (1, 2, 3):  # the first look of all, and later ones; each next life begins in the same minute
        at_ms = life(environment, "live", str(at_ms), "40", where, str(times), killed=True)["at_ms"]
    at_ms = life(environment, "live", str(at_ms), "20", "never", "1")["at_ms"]
    at_ms = life(environment, "live", str(at_ms), "40", where, "1", killed=True)["at_ms"]
    found = life(environment, "judge", str(at_ms))
    assert found["orders"] > 20
    assert found["wrong"] == []
