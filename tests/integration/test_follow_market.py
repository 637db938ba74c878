"""Following a market that runs: over the web, from its snapshots, as a program that is killed again and again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import Client, override_settings

from ledger import keys, queries
from ledger.exports import export
from market.engine.commands import BUY, SELL
from market.engine.engine import Engine
from market.engine.replay import replay
from market.exchange.models import Snapshot, Trade
from market.follow.model import Model, listed
from market.households.operations import issue_key
from tests.factories import Market, running_market

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_keys")]
ROOT = Path(__file__).resolve().parents[2]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve this process's Django over HTTP and return the address."""
    app = get_wsgi_application()

    def serve(environ: dict, start_response: object) -> object:
        try:
            return app(environ, start_response)
        finally:
            connections.close_all()

    server = make_server("127.0.0.1", 0, serve, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with override_settings(ALLOWED_HOSTS=["127.0.0.1"]):
            yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trade(market: Market, rounds: int = 5) -> None:
    for number in range(rounds):
        market.place(market.alice, SELL, "0.1500", 100 + number)
        market.place(market.bob, BUY, "0.2000", 90 + number)


def key_of(user_model: type) -> str:
    user = user_model.objects.create(username="rita", role="regulator")
    return issue_key(user=user, name="follower", scopes=["ledger:read"], now=datetime.now(UTC)).token


def state_of_the_ledger() -> str:
    engine = Engine()
    size = queries.sealed_size()
    replay(engine, queries.leaves(0, size)[:size], queries.rows)
    return engine.state_hash()


def state_in(folder: Path) -> tuple[int, str]:
    model = Model(folder)
    try:
        saved = model.saved()
        return saved.state_size, saved.state_sha256
    finally:
        model.close()


def test_snapshots_are_for_those_who_may_read_entries(client: Client, django_user_model: type, tmp_path: Path) -> None:
    with running_market(snapshot_every=20) as market:
        trade(market)
    sha256, data = Snapshot.objects.order_by("-seq").values_list("sha256", "data")[0]
    path = f"/ledger/snapshot/{sha256}"
    assert client.get(path).status_code == 401
    headers = {"Authorization": f"Bearer {key_of(django_user_model)}"}
    assert client.get(path, headers=headers).content == bytes(data)
    assert client.get(f"/ledger/snapshot/{'0' * 64}", headers=headers).status_code == 404
    home = django_user_model.objects.create(username="home", role="household")
    client.force_login(home)
    assert client.get(path).status_code == 403
    export(tmp_path)
    written = {file.name: file.read_bytes() for file in (tmp_path / "snapshot").iterdir()}
    assert written == {sha: bytes(data) for sha, data in Snapshot.objects.values_list("sha256", "data")}


@pytest.mark.parametrize("start", ["", "newest"])
def test_a_running_market_is_followed_over_the_web(django_user_model: type, tmp_path: Path, start: str) -> None:
    options = {"key": key_of(django_user_model), "vkey": [keys.verifier_key()], "folder": tmp_path / "mirror"}
    options |= {"once": True, "from_snapshot": start}
    with running_market(folder=tmp_path, snapshot_every=20, seal_every_s=0.05) as market, served() as url:
        trade(market)
        deadline_s = time.monotonic() + 20
        while queries.sealed_size() < 20 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        call_command("follow", url, **options)
        trade(market, 150)  # into the next bundle
        call_command("follow", url, **options)
    with served() as url:
        call_command("follow", url, **options)
    call_command("verify_ledger", str(tmp_path / "mirror"), vkey=[keys.verifier_key()])
    assert state_in(tmp_path / "mirror") == (queries.sealed_size(), state_of_the_ledger())
    if not start:
        assert len(list(listed(tmp_path / "mirror", "trades", {}, 1_000)[1])) == Trade.objects.count()


def test_killed_again_and_again_it_ends_with_the_same_state(django_user_model: type, tmp_path: Path) -> None:
    folder, data = tmp_path / "mirror", tmp_path / "data"
    with running_market(folder=tmp_path, seal_every_s=0.05) as market, served() as url:
        command = [sys.executable, "manage.py", "follow", url, "--folder", str(folder), "--vkey", keys.verifier_key()]
        environment = {**os.environ, "SUNLEDGER_DATA": str(data), "LEDGER_KEY": key_of(django_user_model)}
        for patience_s in (0.05, 0.3, 0.6):
            process = subprocess.Popen(
                [*command, "--every", "0.1"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
            )
            deadline_s = time.monotonic() + 60
            before = queries.sealed_size()
            while process.poll() is None and not _followed(folder, before) and time.monotonic() < deadline_s:
                trade(market, 3)
                time.sleep(0.05)  # it has to catch up on what is left of the processor
            time.sleep(patience_s)
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
        trade(market)  # nothing new would come before the seal of an idle minute
        process = subprocess.Popen([*command, "--every", "0.1"], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None and b"verified and replayed" in process.stdout.readline()
        process.terminate()  # a service manager's way: it keeps its state and ends well
        assert process.wait(30) == 0
        process.stdout.close()
    with served() as url:
        command[3] = url
        ended = subprocess.run(
            [*command, "--once"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    assert state_in(folder) == (queries.sealed_size(), state_of_the_ledger())
    call_command("verify_ledger", str(folder), vkey=[keys.verifier_key()])


def _followed(folder: Path, size: int) -> bool:
    try:
        return int((folder / "checkpoint").read_text().split("\n")[1]) >= size
    except FileNotFoundError:
        return False
