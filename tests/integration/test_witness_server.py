"""Our own witness over HTTP, and as the command a regulator starts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from ledger import queries, witness_server
from ledger.core.note import Signer, parse_vkey
from ledger.core.witness import format_request
from ledger.models import Checkpoint
from ledger.secretfiles import load_or_make
from ledger.witness_server import StateLost, Witness
from tests.integration.ledger_writer import write_log
from tests.integration.witness_http import Station, get, post, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_keys")]


def test_the_protocol_over_http(tmp_path: Path) -> None:
    writer = write_log(5, 20)
    station = Station(tmp_path / "w", [parse_vkey(writer.log.vkey)])
    heads = list(Checkpoint.objects.order_by("size"))
    proof = queries.consistency(heads[0].size, heads[1].size)
    first, second = format_request(0, [], heads[0].note), format_request(heads[0].size, proof, heads[1].note)
    with station.open():
        assert post(station.url, second)[:2] == (409, "text/x.tlog.size")
        assert post(station.url, second)[2] == b"0\n"
        status, _, body = post(station.url, first)
        assert (status, body.startswith("— witness.example/w1 ".encode())) == (200, True)
        assert post(station.url, first) == (409, "text/x.tlog.size", b"%d\n" % heads[0].size)
        again = format_request(heads[0].size, [], heads[0].note)
        assert post(station.url, again)[0] == 200  # the same head once more
        assert post(station.url, format_request(heads[0].size, [], heads[1].note))[0] == 422
        assert post(station.url, format_request(heads[1].size, [], heads[0].note))[0] == 400
        assert post(station.url, second)[0] == 200
        assert post(station.url, b"old")[0] == 400
        assert post(station.url, b"x" * 70_000)[0] == 413
        assert post(station.url, first, "/else")[0] == 404
        assert get(station.url, "/add-checkpoint")[0] == 405
        name = hashlib.sha256(writer.log.origin.encode()).hexdigest()
        assert get(station.url, f"/{name}/checkpoint")[0] == 200
        assert get(station.url, f"/{name}/checkpoint", "HEAD") == (200, b"")
        assert get(station.url, f"/{name}/checkpoint", "POST")[0] == 405
        assert get(station.url, "/")[0] == 404
    with station.open():  # started again: it knows what it has cosigned
        assert post(station.url, first) == (409, "text/x.tlog.size", b"%d\n" % heads[1].size)


def test_a_client_that_drips_holds_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are few, and a log that finds none is not witnessed."""
    monkeypatch.setattr(witness_server, "BODY_S", 0.3)
    writer = write_log(5)
    station = Station(tmp_path / "w", [parse_vkey(writer.log.vkey)])
    body = format_request(0, [], queries.newest().note)  # type: ignore[union-attr]
    head = f"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with station.open(), socket.create_connection(("127.0.0.1", station.port), timeout=5) as slow:
        slow.sendall(head + body[:10])
        answer = b""
        while part := slow.recv(65_536):  # until it lets go
            answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"expected the whole request within 0.3 s" in answer
        assert post(station.url, body)[0] == 200


def test_the_command_serves_without_the_market(tmp_path: Path) -> None:
    writer = write_log(5)
    note = queries.newest().note  # type: ignore[union-attr]
    station = Station(tmp_path / "w", [parse_vkey(writer.log.vkey)], "regulator.example/w")
    command = [
        sys.executable, "manage.py", "witness", "--log-vkey", writer.log.vkey, "--port", str(station.port),
        "--folder", str(tmp_path / "w"), "--name", "regulator.example/w",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "SUNLEDGER_DATA": str(tmp_path / "empty"),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
    }
    process = subprocess.Popen(
        command,
        cwd=django_settings.BASE_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"witness {station.vkey}\n"
        body = format_request(0, [], note)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return post(station.url, body)[0] == 200
            return False

        wait_for(answers)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) in (0, -signal.SIGTERM)
    assert (tmp_path / "w" / "witness_key").stat().st_mode & 0o777 == 0o600
    with station.open():
        assert post(station.url, body)[0] == 409


@pytest.mark.parametrize("loss", ["gone", "empty", "without_its_table"])
def test_a_witness_that_has_lost_what_it_cosigned_does_not_start(tmp_path: Path, loss: str) -> None:
    """Its key would cosign any head as the first it sees: a fork, too."""
    writer = write_log(5)
    folder, log = tmp_path / "w", parse_vkey(writer.log.vkey)
    first = Witness(folder, "w.example", [log])
    first.add(format_request(0, [], queries.newest().note))  # type: ignore[union-attr]
    state = folder / "witness.sqlite3"
    for file in folder.glob("witness.sqlite3*"):
        file.unlink()
    if loss == "empty":
        state.touch()
    elif loss == "without_its_table":
        sqlite3.connect(state).execute("CREATE TABLE other (a)").connection.close()
    for _ in range(2):  # nor when it is tried again
        with pytest.raises(StateLost, match="there is a key, and no record of what it has cosigned"):
            Witness(folder, "w.example", [log])
    with pytest.raises(CommandError, match="--begin"):
        call_command("witness", log_vkey=[writer.log.vkey], folder=folder)
    again = Witness(folder, "w.example", [log], begin=True)  # somebody says so
    assert again.vkey == first.vkey
    assert Witness(folder, "w.example", [log]).vkey == first.vkey
    forked = Signer(log.name, load_or_make(Path(django_settings.LEDGER_KEY_FILE))).sign_checkpoint(3, bytes(32))
    assert again.add(format_request(0, [], forked)).startswith("— w.example "), "which is why it must be said"


def test_a_witness_that_was_killed_at_its_first_start_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = parse_vkey(write_log(5).log.vkey)

    def killed(path: Path) -> bytes:
        load_or_make(path)
        raise KeyboardInterrupt

    monkeypatch.setattr("ledger.witness_server.load_or_make", killed)
    with pytest.raises(KeyboardInterrupt):
        Witness(tmp_path / "w", "w.example", [log])
    monkeypatch.undo()
    Witness(tmp_path / "w", "w.example", [log])
