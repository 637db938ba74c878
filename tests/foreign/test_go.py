"""Our log as Go's `sumdb/note` and `sumdb/tlog` see it (Debian: golang-go, golang-golang-x-mod-dev)."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.core.cosign import Cosigner
from ledger.core.merkle import inclusion_path, leaf_hashes, nodes_of, root_of
from ledger.core.note import Signer
from tests.unit.ledger_logs import LogMaker, make_log

GOCODE = Path("/usr/share/gocode")
PACKAGE = GOCODE / "src/golang.org/x/mod/sumdb/tlog"
INDEXES = (0, 1, 3, 255, 256, 257, 511, 512, 700)


def _go() -> str | None:
    found = shutil.which("go") or next(iter(sorted(map(str, Path("/usr/lib").glob("go-*/bin/go")))), None)
    return found if PACKAGE.is_dir() else None


@pytest.fixture(scope="module")
def checklog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program, built without a network."""
    go = _go()
    if go is None:
        assert not os.environ.get("CI"), (
            "golang-go and golang-golang-x-mod-dev are missing: in CI nothing may be left out"
        )
        pytest.skip("needs golang-go and golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    program = folder / "checklog"
    environment = {
        **os.environ, "GO111MODULE": "off", "GOPATH": str(GOCODE), "GOCACHE": str(folder / "cache"), "GOFLAGS": "",
        "GOPROXY": "off", "CGO_ENABLED": "0",
    }  # fmt: skip
    source = Path(__file__).with_name("checklog.go")
    subprocess.run([go, "build", "-o", str(program), str(source)], check=True, env=environment)
    return program


@pytest.fixture
def log(tmp_path: Path) -> LogMaker:
    """Return a log of some bundles, exported to ``log``, with a head of earlier in ``older``."""
    maker = make_log()
    (tmp_path / "older").write_bytes(maker.files()["checkpoint"])
    maker.orders(200)
    maker.seal()
    for name, data in maker.files().items():
        path = tmp_path / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return maker


def run(checklog: Path, folder: Path, vkey: str, *indexes: int) -> subprocess.CompletedProcess[str]:
    arguments = [str(checklog), str(folder / "log"), vkey, str(folder / "older"), *map(str, indexes)]
    return subprocess.run(arguments, capture_output=True, text=True)


def test_go_accepts_heads_tiles_and_proofs(checklog: Path, log: LogMaker, tmp_path: Path) -> None:
    found = run(checklog, tmp_path, log.signer.vkey, *INDEXES)
    assert found.returncode == 0, found.stderr
    *lines, last = found.stdout.splitlines()
    hashes = leaf_hashes(log.leaves)
    assert last == f"ok {log.signer.name} {len(hashes)} {base64.b64encode(root_of(hashes)).decode()}"
    node = nodes_of(hashes)
    ours = [(seq, hash_) for seq in INDEXES for hash_ in inclusion_path(seq, len(hashes), node)]
    assert lines == [f"{seq} {base64.b64encode(hash_).decode()}" for seq, hash_ in ours]


def test_go_accepts_a_head_with_cosignatures_and_of_two_keys(checklog: Path, log: LogMaker, tmp_path: Path) -> None:
    checkpoint = tmp_path / "log" / "checkpoint"
    note = checkpoint.read_text()
    body = note.split("\n\n")[0] + "\n"
    second = Signer(log.signer.name, bytes([9]) * 32)
    lines = [second.sign(body).split("\n\n")[1], Cosigner("witness.example/w", bytes(32)).cosign(body, 1_700_000_000)]
    checkpoint.write_text(note + "".join(lines))
    assert run(checklog, tmp_path, log.signer.vkey, 0).returncode == 0
    (tmp_path / "older").write_text(second.sign(body))
    assert run(checklog, tmp_path, second.vkey, 0).returncode == 0


def test_go_refuses_what_we_refuse(checklog: Path, log: LogMaker, tmp_path: Path) -> None:
    assert run(checklog, tmp_path, Signer(log.signer.name, bytes(32)).vkey, 0).returncode == 1
    for name, index in (("tile/0/000", 3), ("tile/entries/000", 3), ("checkpoint", 3)):
        path = tmp_path / "log" / name
        kept = path.read_bytes()
        path.write_bytes(kept[:60] + bytes([kept[60] ^ 1]) + kept[61:])
        assert run(checklog, tmp_path, log.signer.vkey, 0, index).returncode == 1, name
        path.write_bytes(kept)
    fork = make_log((3, 250, 5, 301))
    (tmp_path / "older").write_bytes(fork.files()["checkpoint"])
    found = run(checklog, tmp_path, log.signer.vkey, 0)
    assert found.returncode == 1
