"""Changing the key that signs the ledger: on the log, in its file or signer, for verifiers, recovery, export and pages."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.test import override_settings

from ledger import keys, queries
from ledger.core.keyring import key_statement
from ledger.core.note import Signer, checkpoint_body, parse_note, parse_vkey, verify_note
from ledger.core.verify import Bad, verify_log
from ledger.management.commands.ledger_signer import serve
from ledger.operations import Log
from ledger.secretfiles import KeyFileError, load_all
from ledger.signing import FileKeys, SocketKeys
from ledger.sources import DatabaseSource, FolderSource
from market.engine.commands import RegisterKey
from market.exchange.exchange import Exchange
from market.exchange.outcomes import RecoveryFailed
from tests.factories import running_market
from tests.integration.ledger_writer import write_log

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = "sunledger.example/test"


@pytest.fixture(autouse=True)
def own(tmp_path: Path) -> Iterator[Path]:
    """Give every test keys and a published checkpoint of its own."""
    files = {
        "LEDGER_KEY_FILE": tmp_path / "keys" / "key",
        "LEDGER_SALT_FILE": tmp_path / "keys" / "salt",
        "PUBLISHED_CHECKPOINT_FILE": tmp_path / "published_checkpoint",
    }
    with override_settings(**files, LEDGER_ORIGIN=ORIGIN, LEDGER_SIGNER=""):
        yield tmp_path


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("ledger_key", *arguments, stdout=out)
    return out.getvalue()


def trade_once(folder: Path) -> None:
    with running_market(folder=folder, seal_every_s=0.05) as market:
        market.place(market.alice, "sell", "0.2000", 500)
        market.place(market.bob, "buy", "0.2000", 200)


def go_on(folder: Path) -> None:
    """Start the market again and let it seal something."""
    with running_market(folder=folder, cast=False, seal_every_s=0.05) as market:
        market.member()


def signers() -> list[str]:
    """Return the keys whose lines the newest checkpoint has, each verified."""
    note = parse_note(queries.checkpoint().encode())
    signed = verify_note(note, [parse_vkey(vkey) for vkey in queries.known_keys()])
    assert len(signed) == len(note.signatures)
    return [str(key) for key in signed]


def trusted_by(*vkeys: str) -> str:
    source = DatabaseSource()
    return verify_log(source, [parse_vkey(vkey) for vkey in vkeys], source.heads()).vkey


def test_a_key_changes_hands_with_an_overlap(own: Path) -> None:
    trade_once(own)
    (old,) = queries.valid_keys()
    assert signers() == [old]
    assert "signs here" in command("show")

    said = command("rotate")
    assert queries.valid_keys()[0] == old
    new = queries.valid_keys()[1]
    assert f"added {new}" in said
    assert signers() == [old, new]  # the very first head that covers the entry has both
    entry = next(entry for entry in queries.entries(0, 500) if entry["type"] == "key")
    assert set(entry) == {"v", "seq", "type", "at", "salt", "action", "vkey", "possession", "approval"}
    assert stat.S_IMODE((own / "keys" / "key").stat().st_mode) == 0o600
    go_on(own)
    assert signers() == [old, new]
    for trust in (old, new):
        assert trusted_by(trust) in (old, new)

    command("revoke", old.split("+")[1])
    assert queries.valid_keys() == [new]
    assert signers() == [new]
    assert len(load_all(own / "keys" / "key")) == 1  # the secret is gone
    go_on(own)
    assert signers() == [new]
    # Who only knows the old key goes on by what it approved; who trusts a stranger's does not.
    assert trusted_by(old) == trusted_by(new) == trusted_by() == new
    with pytest.raises(Bad, match="checkpoint"):
        trusted_by(Signer(ORIGIN, bytes(32)).vkey)

    folder = own / "export"
    call_command("export_ledger", folder, stdout=StringIO())
    assert (folder / "log.vkey").read_text() == f"{new}\n"
    assert verify_log(FolderSource(folder), [parse_vkey(old)]).vkey == new
    call_command("verify_ledger", stdout=StringIO())
    assert "VALID" not in command("show")
    assert old not in command("show")


def test_recovery_accepts_what_the_old_key_published(own: Path) -> None:
    trade_once(own)
    published = (own / "published_checkpoint").read_bytes()
    old = queries.valid_keys()[0]
    command("rotate")
    command("revoke", old)
    (own / "published_checkpoint").write_bytes(published)  # as if nothing had been published since
    go_on(own)
    assert signers() == queries.valid_keys()


def test_a_rotation_that_was_interrupted_is_taken_up_again(own: Path) -> None:
    trade_once(own)
    waiting = keys.signing_keys().make()  # and then the machine stopped
    go_on(own)
    assert waiting not in signers()
    assert f"{waiting}  held here, not valid on the ledger" in command("show")
    command("rotate")
    assert signers() == [queries.valid_keys()[0], waiting]


def test_a_revocation_that_was_cut_short_is_taken_up_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is on the ledger and the secret still in its file: nobody else would destroy it."""
    trade_once(own)
    old = queries.valid_keys()[0]
    command("rotate")
    new = queries.valid_keys()[1]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FileKeys, "drop", killed)
    with pytest.raises(KeyboardInterrupt):
        command("revoke", old)
    monkeypatch.undo()
    assert (queries.valid_keys(), keys.signing_keys().vkeys()) == ([new], [old, new])
    size = queries.sealed_size()
    assert f"{old} was revoked before; its secret is destroyed" in command("revoke", old.split("+")[1])
    assert keys.signing_keys().vkeys() == [new]
    assert queries.sealed_size() == size  # nothing new on the ledger
    for done in (old, "00000000"):
        with pytest.raises(CommandError, match="expected one of the valid keys"):
            command("revoke", done)
    waiting = keys.signing_keys().make()  # one that no entry names yet is not revoked
    with pytest.raises(CommandError, match="expected one of the valid keys"):
        command("revoke", waiting)


def test_what_may_not_be(own: Path) -> None:
    with pytest.raises(CommandError, match="not been founded"):
        command("rotate")
    trade_once(own)
    old = queries.valid_keys()[0]
    with pytest.raises(CommandError, match="refuses: vkey"):
        command("revoke", old)  # the last one
    with pytest.raises(CommandError, match="expected one of the valid keys"):
        command("revoke", "00000000")
    command("rotate")
    new = queries.valid_keys()[1]
    command("revoke", old)
    with running_market(folder=own, cast=False) as market:
        for wrong in (
            RegisterKey("add", old, "cA==", "YQ=="),
            RegisterKey("add", "x", "cA==", "YQ=="),
            RegisterKey("revoke", new),
            RegisterKey("revoke", old),
        ):
            outcome = market.exchange.call(wrong)
            assert outcome.refused is not None, wrong
        assert market.exchange.status()["state"] == "running"
    assert signers() == [new]


def test_a_market_without_a_valid_key_does_not_start(own: Path) -> None:
    trade_once(own)
    (own / "keys" / "key").unlink()
    with pytest.raises(RecoveryFailed, match="none of the signing keys is valid"):
        Exchange(lambda: 0, published_file=own / "published_checkpoint").start()


def test_a_key_on_the_log_that_is_not_held_is_not_needed(own: Path) -> None:
    trade_once(own)
    old = queries.valid_keys()[0]
    command("rotate")
    FileKeys(ORIGIN, own / "keys" / "key").drop(old)  # lost, not revoked
    go_on(own)
    assert signers() == [queries.valid_keys()[1]]
    assert "not held here" in command("show")


# --- the signer ------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def signer(own: Path, key_file: Path) -> Iterator[Path]:
    path = own / "signer.sock"
    server = serve(FileKeys(ORIGIN, key_file), path)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with override_settings(LEDGER_SIGNER=f"unix:{path}", LEDGER_KEY_FILE=own / "nowhere" / "key"):
            yield path
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_market_whose_key_is_with_a_signer(own: Path) -> None:
    with signer(own, own / "elsewhere" / "key") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        trade_once(own)
        (old,) = queries.valid_keys()
        assert signers() == [old] == FileKeys(ORIGIN, own / "elsewhere" / "key").vkeys()
        command("rotate")
        new = queries.valid_keys()[1]
        assert signers() == [old, new]
        said = command("revoke", old)
        assert f"ledger_signer --drop {old}" in said  # the market cannot destroy a key
        assert signers() == [new]
        assert trusted_by(old) == new
        assert not (own / "nowhere").exists()
    out = StringIO()
    call_command("ledger_signer", drop=old, key_file=own / "elsewhere" / "key", stdout=out)
    assert FileKeys(ORIGIN, own / "elsewhere" / "key").vkeys() == [new]


def test_a_signer_signs_heads_and_statements_only(own: Path) -> None:
    with signer(own, own / "elsewhere" / "key") as path:
        held = SocketKeys(ORIGIN, path)
        (vkey,) = held.vkeys()
        assert held.sign(vkey, checkpoint_body(ORIGIN, 5, bytes(32)))
        for text in ("hello\n", checkpoint_body("another.example", 5, bytes(32)), ""):
            with pytest.raises(KeyFileError, match="refuses"):
                held.sign(vkey, text)
        with pytest.raises(KeyFileError, match="refuses"):
            held.sign(Signer(ORIGIN, bytes(32)).vkey, checkpoint_body(ORIGIN, 5, bytes(32)))
        with pytest.raises(KeyFileError, match="--drop"):
            held.drop(vkey)
        with pytest.raises(KeyFileError, match="expected a signer for"):
            SocketKeys("another.example", path)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(path))
            for line in (b"nonsense\n", b"[]\n", b"{}\n", b'{"op":"drop"}\n', b'{"op":"sign","vkey":1}\n'):
                raw.sendall(line)
                assert b'"error"' in raw.recv(8192)
        with pytest.raises(OSError, match="another signer"):
            serve(FileKeys(ORIGIN, own / "elsewhere" / "key"), path)


def test_a_signer_approves_no_key_that_it_does_not_hold(own: Path) -> None:
    """Whoever reaches the socket once must not leave with the approval of a key of their own."""
    with signer(own, own / "elsewhere" / "key") as path:
        held = SocketKeys(ORIGIN, path)
        (vkey,) = held.vkeys()
        stranger = Signer(ORIGIN, secrets.token_bytes(32)).vkey
        with pytest.raises(
            KeyFileError, match="refuses: expected a head of the log or a statement about a key held here"
        ):
            held.sign(vkey, key_statement(ORIGIN, stranger))
        new = held.make()
        for signing in (vkey, new):
            assert held.sign(signing, key_statement(ORIGIN, new))


def test_a_signer_that_is_started_again_is_found_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.signing.PAUSE_S", 0.05)
    key_file = own / "elsewhere" / "key"
    with signer(own, key_file):
        trade_once(own)
        log = Log.load()
    with signer(own, key_file):
        go_on(own)
        assert log.vkey == queries.valid_keys()[0]
    with override_settings(LEDGER_SIGNER=f"unix:{own / 'signer.sock'}"), pytest.raises(KeyFileError, match="answer"):
        Log.load()
    with override_settings(LEDGER_SIGNER="tcp:1"), pytest.raises(KeyFileError, match="unix:PATH"):
        keys.signing_keys()


def test_the_signer_is_a_program_of_its_own(own: Path, tmp_path: Path) -> None:
    path = own / "own.sock"
    arguments = [
        sys.executable,
        "manage.py",
        "ledger_signer",
        "--socket",
        str(path),
        "--key-file",
        str(own / "k"),
        "--mode",
        "660",
    ]
    environment = {**os.environ, "SUNLEDGER_DATA": str(tmp_path / "empty"), "SUNLEDGER_LEDGER_ORIGIN": ORIGIN}
    process = subprocess.Popen(
        arguments, cwd=django_settings.BASE_DIR, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("signing with ")
        deadline = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < deadline
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert len(SocketKeys(ORIGIN, path).vkeys()) == 1
    finally:
        process.terminate()
        process.wait(10)


def test_a_key_is_found_by_its_line_whatever_its_base64_looks_like(own: Path) -> None:
    def plus(number: int) -> bool:
        return "+" in Signer(ORIGIN, bytes([number]) * 32).vkey.split("+", 2)[2]

    seed = bytes([next(number for number in range(100) if plus(number))]) * 32
    (own / "keys").mkdir()
    (own / "keys" / "key").touch(0o600)
    (own / "keys" / "key").write_text(seed.hex() + "\n")
    writer = write_log(5)
    assert queries.key_of(queries.checkpoint()) == writer.log.vkey == Signer(ORIGIN, seed).vkey
    assert queries.key_of(Signer("another.example", seed).sign("text\n")) == ""
