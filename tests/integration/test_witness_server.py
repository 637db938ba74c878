"""Our own witness over HTTP, and as the command a regulator starts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from ledger import queries
from ledger.core.note import parse_vkey
from ledger.core.witness import format_request
from ledger.models import Checkpoint
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


def test_the_command_serves_without_the_market(tmp_path: Path) -> None:
    writer = write_log(5)
    note = queries.newest().note  # type: ignore[union-attr]
    station = Station(tmp_path / "w", [parse_vkey(writer.log.vkey)], "regulator.example/w")
    (tmp_path / "w" / "witness.sqlite3").unlink()
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
