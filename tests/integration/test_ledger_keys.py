"""The log's key, its file, and salts."""

from __future__ import annotations

import hashlib
import hmac
import stat
import threading
from pathlib import Path

import pytest

from ledger import keys

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_keys")]


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    made = keys.load_or_make(path)
    assert keys.load_or_make(path) == made != bytes(32)
    assert len(made) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    for mode in (0o640, 0o604, 0o620, 0o700 | 0o004):
        path.chmod(mode)
        with pytest.raises(keys.KeyFileError, match="0600"):
            keys.load_or_make(path)


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 31, "00" * 33, "00" * 32 + "x"])
def test_a_key_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(keys.KeyFileError, match="hex"):
        keys.load_or_make(path)


def test_many_starters_make_one_key(tmp_path: Path) -> None:
    path, seen, gate = tmp_path / "new" / "key", [], threading.Barrier(8)

    def start() -> None:
        gate.wait()
        seen.append(keys.load_or_make(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert list(path.parent.iterdir()) == [path]


def test_salts_are_hmacs_and_differ() -> None:
    secret = keys.salt_secret()
    assert keys.salt(secret, 412) == hmac.new(secret, b"412", hashlib.sha256).hexdigest()[:32]
    assert len({keys.salt(secret, seq) for seq in range(1000)}) == 1000
    assert secret == keys.salt_secret()
