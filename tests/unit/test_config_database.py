"""The database file is its owner's."""

from __future__ import annotations

import stat
from pathlib import Path

from market.config.database import make_private


def test_a_new_file_and_what_an_earlier_run_left_are_private(tmp_path: Path) -> None:
    path = tmp_path / "sunledger.sqlite3"
    wal = tmp_path / "sunledger.sqlite3-wal"
    wal.write_bytes(b"")
    wal.chmod(0o644)
    make_private(path)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, wal)] == [0o600, 0o600]
    path.write_bytes(b"kept")
    path.chmod(0o644)
    make_private(path)
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (0o600, b"kept")
