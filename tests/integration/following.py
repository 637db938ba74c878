"""What the tests of followers share: a log on a server that can fail, at three times of its life."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger.core.note import parse_vkey
from ledger.core.source import Missing
from ledger.files import SourceFailed
from ledger.mirror import VKEY_FILE
from market.engine.engine import Engine
from market.engine.replay import replay
from market.follow.follower import Follower
from tests.integration.test_audit_command import a_longer_day
from tests.market_log import SIGNER, MarketLog
from tests.unit.audit_market import Town

VKEYS = [parse_vkey(SIGNER.vkey)]


class Server:
    """Serves a log that its test changes; counts what was asked for, and fails when told."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.asked: list[str] = []
        self.fail_at = -1

    def __call__(self, path: str) -> bytes:
        self.asked.append(path)
        if len(self.asked) - 1 == self.fail_at:
            raise SourceFailed("the line is cut")
        if path not in self.files:
            raise Missing(path, "404")
        return self.files[path]


@pytest.fixture(scope="module")
def days() -> list[dict[str, bytes]]:
    """One log at three times of its life: in one bundle, in two, in four."""
    return [a_longer_day(blocks).files() for blocks in (2, 9, 28)]


@pytest.fixture(scope="module")
def day() -> Town:
    return a_longer_day()


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Follower]]:
    """Return what makes a follower; all of them are closed in the end."""
    made: list[Follower] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def make(source: Any, folder: Path | None = None, vkeys: Any = VKEYS, snapshot: str = "") -> Follower:
        one = Follower(folder or tmp_path / "mirror", source, list(vkeys), snapshot)
        made.append(one)
        return one

    yield make
    for one in made:
        try:
            one.close()
        except (OSError, sqlite3.ProgrammingError):
            continue


def fresh() -> Path:
    """Return a folder that nobody has used."""
    return Path(tempfile.mkdtemp(prefix="follow-")) / "mirror"


def state(one: Follower) -> str:
    assert one.engine is not None
    return one.engine.state_hash()


def copied(folder: Path) -> dict[str, bytes]:
    """Return the ledger's files of a mirror, without ``log.vkey``."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".", "model.sqlite3", VKEY_FILE))
    }


def dump_at(log: MarketLog, seq: int) -> bytes:
    """Return the state of a market after its first ``seq`` entries."""
    engine = Engine()
    rows = {seq: list(map(orjson.loads, found)) for seq, found in log.rows.items()}
    replay(engine, log.entries[:seq], lambda number: rows[number])
    return engine.dump()
