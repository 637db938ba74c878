"""A market whose checkpoints are cosigned by witnesses over real HTTP: states, quorum, alarms, and nothing that waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings

from ledger import cosigning, keys, queries, witnessing
from ledger.core.cosign import Cosigner, find_cosignature, parse_witness_key
from ledger.core.note import Signer, VerifierKey, parse_checkpoint, parse_note, parse_vkey
from ledger.core.policy import Policy, PolicyError
from ledger.core.quorum import demand
from ledger.core.receipt import parse_receipt, verify_receipt
from ledger.core.witness import format_request
from ledger.models import Alarm, Checkpoint, Cosignature, Entry, HashTile, Quorum
from ledger.secretfiles import load_or_make
from ledger.witness_server import origin_hash
from ledger.witnessing import Witnessing
from market.exchange import queries as exchange_queries
from market.exchange.witnesses import WitnessService
from tests.factories import Market, running_market
from tests.integration.ledger_writer import Writer, write_log
from tests.integration.litewitness import running_litewitness
from tests.integration.witness_http import App, Station, get, serving, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

LITEWITNESS = shutil.which("litewitness")  # Debian's package torchwood; .ci/run fetches it where the release lacks it


def log_key() -> VerifierKey:
    return parse_vkey(keys.verifier_key())


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """Give every test keys of its own."""
    files = {"LEDGER_KEY_FILE": tmp_path / "keys" / "key", "LEDGER_SALT_FILE": tmp_path / "keys" / "salt"}
    with override_settings(**files, LEDGER_POLICY_FILE="", LEDGER_ORIGIN="sunledger.example/test"):
        yield tmp_path


@contextlib.contextmanager
def policy(folder: Path, *stations: Station, quorum: str = "all", urls: dict[str, str] | None = None) -> Iterator[None]:
    """Write a policy of these witnesses and let the settings name it."""
    names = [f"w{number}" for number, _ in enumerate(stations, 1)]
    lines = [f"log {keys.verifier_key()}"]
    for name, station in zip(names, stations, strict=True):
        lines.append(f"witness {name} {station.vkey} {(urls or {}).get(name, station.url)}")
    lines += [f"group all-of-them {quorum} {' '.join(names)}", "quorum all-of-them"]
    path = folder / "policy"
    path.write_text("\n".join(lines) + "\n")
    with override_settings(LEDGER_POLICY_FILE=str(path)):
        yield


@contextlib.contextmanager
def witnessed(market: Market) -> Iterator[WitnessService]:
    service = WitnessService()
    service.start()
    try:
        yield service
    finally:
        service.stop()


@contextlib.contextmanager
def asking(**options: float) -> Iterator[Witnessing]:
    """Ask the witnesses of the settings about the stored log, without a market."""
    loaded = cosigning.load_policy()
    assert loaded is not None
    asker = Witnessing(loaded, lambda: 1_000, look_s=0.02, **options)
    asker.start()
    try:
        yield asker
    finally:
        asker.stop()


def loaded_policy() -> Policy:
    loaded = cosigning.load_policy()
    assert loaded is not None
    return loaded.policy


def entry_state(client: Client, seq: int) -> dict:
    with override_settings(LEDGER_OPEN=True):
        return client.get(f"/api/v1/ledger/entries/{seq}").json()


def test_an_entry_is_accepted_then_sealed_then_witnessed(own: Path, client: Client) -> None:
    stations = [Station(own / name, [log_key()], f"{name}.example") for name in ("one", "two")]
    with policy(own, *stations), running_market(seal_every_s=0.05) as market, contextlib.ExitStack() as stack:
        witnesses = [stack.enter_context(station.open()) for station in stations]
        seq = market.place(market.alice, "sell", "0.9000").events[0].seq
        wait_for(lambda: queries.sealed_size() > seq)
        assert entry_state(client, seq)["state"] == "sealed"  # nobody has asked the witnesses yet
        with witnessed(market):
            wait_for(lambda: (cosigning.witnessed_size() or 0) > seq)
            assert entry_state(client, seq)["state"] == "witnessed"
            health = client.get("/healthz").json()
            assert (health["status"], health["witnesses"]) == ("ok", "ok")
            wait_for(lambda: client.get("/healthz").json()["witnessed"] > seq)  # noted just after the database has it
            block = client.get("/api/v1/ledger/blocks", {"limit": 500}).json()["results"][-1]
            assert block["state"] == "witnessed"

            with override_settings(LEDGER_OPEN=True):
                proof = client.get(f"/api/v1/ledger/entries/{seq}/proof").json()
            assert proof["state"] == "witnessed"
            receipt = parse_receipt(proof["receipt"])
            head = verify_receipt(receipt, queries.leaf(seq), [log_key()])
            assert head.size == proof["size"] > seq
            note = parse_note(receipt.checkpoint.encode())
            for station in stations:
                found = find_cosignature(note, parse_witness_key(station.vkey))
                assert found is not None and abs(found.at_s - time.time()) < 60
            assert len(note.signatures) == 3

            # The newest head with a quorum is served, too: the newest one may still wait for its own.
            offered = client.get("/ledger/witnessed")
            assert (offered.status_code, offered["Content-Type"]) == (200, "text/plain; charset=utf-8")
            assert demand(offered.content, loaded_policy()).size == cosigning.witnessed_size()
            folder = own / "export"
            call_command("export_ledger", folder, witnessed=True, stdout=StringIO())
            for arguments in ((str(folder),), ()):  # the folder, and this database
                out = StringIO()
                call_command("verify_ledger", *arguments, policy=settings.LEDGER_POLICY_FILE, stdout=out)
                assert "witnessed by one.example (" in out.getvalue()

            # Newer heads follow, and the witnesses serve what they have cosigned.
            size = cosigning.witnessed_size() or 0
            market.place(market.bob, "buy", "0.0100")
            wait_for(lambda: (cosigning.witnessed_size() or 0) > size)
            for station, witness in zip(stations, witnesses, strict=True):
                status, body = get(station.url, f"/{origin_hash(log_key().name)}/checkpoint")
                assert status == 200
                served = parse_note(body)
                assert find_cosignature(served, parse_witness_key(witness.vkey)) is not None
                assert get(station.url, f"/{origin_hash('another.example')}/checkpoint")[0] == 404
        # The newest head with its lines, as the log serves it.
        newest = queries.newest()
        assert newest is not None
        served = client.get("/ledger/checkpoint").content.decode()
        assert served.startswith(newest.note)
        assert served == newest.note + "".join(cosigning.lines_at(newest.size))
    assert client.get("/healthz").json()["witnesses"] == "none"


def test_without_witnesses_an_entry_says_sealed(own: Path, client: Client) -> None:
    with running_market(seal_every_s=0.05) as market, witnessed(market):
        seq = market.place(market.alice, "sell", "0.9000").events[0].seq
        wait_for(lambda: queries.sealed_size() > seq)
        assert entry_state(client, seq)["state"] == "sealed"
        assert client.get("/api/v1/ledger/blocks").json()["results"][0]["state"] == "sealed"
        health = client.get("/healthz").json()
        assert (health["witnesses"], health["witnessed"]) == ("none", None)
        assert cosigning.witnessed_size() is None
        assert client.get("/ledger/witnessed").status_code == 404


def test_a_stopped_witness_is_caught_up_with_by_one_proof(own: Path) -> None:
    station = Station(own / "w", [log_key()])
    writer = write_log(5, 300)
    with policy(own, station), asking() as asker:
        with station.open():
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)
        for _ in range(3):
            writer.orders(400)
            writer.seal()
            writer.commit()
            asker.notify()
        wait_for(lambda: asker.status().witnesses[0].trouble)
        assert asker.status().state == "ok"  # not yet late
        with station.open():
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size, 30)
        assert not asker.status().witnesses[0].trouble
    assert Alarm.objects.count() == 0


def test_an_answer_that_was_lost_is_asked_for_again(own: Path) -> None:
    """The witness has kept a head whose cosignature never arrived: it says 409 with its size, and the log goes on."""
    station = Station(own / "w", [log_key()])
    writer = write_log(5)
    with policy(own, station), station.open() as witness:
        witness.add(format_request(0, [], queries.newest().note))  # type: ignore[union-attr]
        with asking():
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)
    assert Cosignature.objects.count() == 1


# --- forks -----------------------------------------------------------------------------------------------------------
def forked_at(size: int) -> None:
    """Change the stored log as a copy that went another way would be: the entries from ``size`` on are others."""
    for model, column in ((Entry, "seq"), (Checkpoint, "size")):
        model.objects.filter(**{f"{column}__gte" if model is Entry else f"{column}__gt": size}).delete()
    HashTile.objects.filter(level=0, number__gte=size // 256).delete()
    HashTile.objects.filter(level__gte=1).delete()


@contextlib.contextmanager
def running_witness(kind: str, folder: Path) -> Iterator[Station]:
    """Yield a running witness: Debian's litewitness, or our own."""
    if kind == "litewitness":
        with running_litewitness(folder, log_key()) as foreign:
            yield foreign
        return
    station = Station(folder, [log_key()])
    with station.open():
        yield station


@pytest.mark.parametrize("kind", ["own", *(["litewitness"] if LITEWITNESS else [])])
def test_a_fork_is_refused_and_alarms(
    kind: str, own: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The witness has cosigned; the log is stopped, forked in a copy, and started again: refused, and we say so."""
    monkeypatch.setattr(witnessing, "REFUSED_PAUSE_S", 0.05)
    writer = write_log(5, 20)
    with running_witness(kind, own / "w") as station, policy(own, station):
        with asking():
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)
        seen = writer.log.sealed_size
        first = Checkpoint.objects.order_by("size").first()
        assert first is not None
        forked_at(first.size)
        other = Writer()
        other.orders(30)  # where the witness saw 20 and a seal
        other.seal()
        other.commit()
        with asking() as asker:
            alarm = wait_for(lambda: Alarm.objects.filter(kind="fork").first())
            assert asker.status().state == "refused"
            assert asker.status().witnesses[0].refused
            other.orders(5)
            other.seal()
            other.commit()
            asker.notify()
            time.sleep(0.3)
            assert Alarm.objects.count() == 1  # once, not with every head
        assert alarm.seq == other.log.sealed_size - 5 - 1 - 1
        assert json.loads(alarm.detail)["witnesses"].keys() == {"w1"}
        assert seen < other.log.sealed_size
        assert not Cosignature.objects.filter(size__gt=seen).exists()
        assert "REFUSES OUR CHECKPOINT" in caplog.text
        (listed,) = [row for row in exchange_queries.alerts() if row.kind == "fork"]
        assert listed == exchange_queries.alert(alarm.seq)


def test_a_log_that_was_set_back_alarms(own: Path) -> None:
    station = Station(own / "w", [log_key()])
    writer = write_log(5, 20)
    with policy(own, station), station.open():
        with asking():
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)
        first = Checkpoint.objects.order_by("size").first()
        assert first is not None
        forked_at(first.size)
        with asking():
            alarm = wait_for(lambda: Alarm.objects.filter(kind="fork").first())
        assert f"this log has {first.size}" in alarm.detail


# --- late and misbehaving --------------------------------------------------------------------------------------------
def test_a_quorum_that_lags_alarms_once_and_ends(
    own: Path, client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = Station(own / "w", [log_key()])
    writer = write_log(5)
    late = writer.log.sealed_size
    with policy(own, station), asking(lag_s=0.4) as asker:
        time.sleep(0.1)
        writer.orders(3)
        writer.seal()
        writer.commit()
        asker.notify()
        alarm = wait_for(lambda: Alarm.objects.filter(kind="quorum").first())
        monkeypatch.setattr(witnessing, "_current", asker)
        health = client.get("/healthz").json()
        assert (health["witnesses"], health["witnessed"]) == ("behind", 0)
        assert asker.status().state == "behind"
        assert alarm.seq == late - 1  # the oldest head that waits
        assert json.loads(alarm.detail)["reason"] == "lag"
        time.sleep(0.5)
        assert Alarm.objects.count() == 1
        with station.open():
            wait_for(lambda: asker.status().state == "ok")
            assert asker.status().lag_s == 0
        writer.orders(3)
        writer.seal()
        writer.commit()
        asker.notify()
        wait_for(lambda: Alarm.objects.filter(kind="quorum").count() == 2)  # late again: said again
    assert caplog.text.count("QUORUM IS BEHIND") == 2


def misbehaving(kind: str, key: VerifierKey) -> App:
    """Return a witness that does not do what the protocol says."""
    stranger = Cosigner("w.example", bytes([99]) * 32)

    async def app(scope, receive, send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        text = parse_note(body.partition(b"\n\n")[2]).text
        status, type_, answer = 200, b"text/plain", b""
        if kind == "silent":
            await asyncio.sleep(60)
        elif kind == "stranger":
            answer = stranger.cosign(text, int(time.time())).encode()
        elif kind == "nonsense":
            answer = os.urandom(100)
        elif kind == "endless":
            answer = b"x" * 10_000_000
        elif kind == "loop":
            status, type_, answer = 409, b"text/x.tlog.size", b"0\n"
        elif kind == "broken":
            status = 500
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", type_)]})
        if kind == "dripping":
            for _ in range(600):
                await send({"type": "http.response.body", "body": b"\xe2", "more_body": True})
                await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": answer})

    return app


KINDS = ("silent", "stranger", "nonsense", "endless", "loop", "broken", "dripping")


def test_misbehaving_witnesses_stop_neither_the_others_nor_the_market(own: Path) -> None:
    good = Station(own / "good", [log_key()], "good.example")
    stations = [Station(own / kind, [log_key()], f"{kind}.example") for kind in KINDS]
    with contextlib.ExitStack() as stack:
        stack.enter_context(good.open())
        for kind, station in zip(KINDS, stations, strict=True):
            stack.enter_context(serving(misbehaving(kind, log_key()), station.port))
        stack.enter_context(policy(own, good, *stations, quorum="any"))
        market = stack.enter_context(running_market(seal_every_s=0.05))
        stack.enter_context(witnessed(market))
        slowest_s = 0.0
        for number in range(20):
            started_s = time.monotonic()
            seq = market.place(market.alice, "sell", f"0.9{number:03d}", 100).events[0].seq
            slowest_s = max(slowest_s, time.monotonic() - started_s)
            time.sleep(0.05)
        wait_for(lambda: (cosigning.witnessed_size() or 0) > seq)
        assert slowest_s < 2
        wait_for(lambda: sum(bool(one.trouble) for one in witnessing.status().witnesses) >= len(KINDS) - 2)
        assert not witnessing.status().witnesses[0].trouble
        assert not any(one.refused for one in witnessing.status().witnesses)
        assert set(Cosignature.objects.values_list("witness", flat=True)) == {good.vkey}
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("witness")]
        assert len(threads) == 1 + 1 + len(KINDS)
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("witness") and t.is_alive()], 30)


def test_a_request_that_drips_is_broken_off(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.witness_client.DEADLINE_S", 0.5)
    station = Station(own / "w", [log_key()])
    write_log(5)
    with serving(misbehaving("dripping", log_key()), station.port), policy(own, station), asking() as asker:
        wait_for(lambda: asker.status().witnesses[0].trouble, 10)


def test_witnesses_that_take_turns_being_slow_still_make_a_quorum(own: Path) -> None:
    """Two slow witnesses must sign the same head, though a new one comes every moment."""

    def slow(seconds: float) -> Callable[[App], App]:
        def wrap(app: App) -> App:
            async def wrapped(scope, receive, send) -> None:
                await asyncio.sleep(seconds)
                await app(scope, receive, send)

            return wrapped

        return wrap

    stations = [Station(own / name, [log_key()], f"{name}.example") for name in ("one", "two")]
    writer = write_log(5)
    with policy(own, *stations), contextlib.ExitStack() as stack:
        stack.enter_context(stations[0].open(slow(0.4)))
        stack.enter_context(stations[1].open(slow(0.27)))
        asker = stack.enter_context(asking())
        first = writer.log.sealed_size

        def another() -> bool:
            writer.orders(2)
            writer.seal()
            writer.commit()
            asker.notify()
            time.sleep(0.05)
            return (cosigning.witnessed_size() or 0) > first

        wait_for(another, 8)  # a quorum while there is never a moment's rest
        wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)


def test_a_target_stays_until_its_quorum_or_the_end_of_its_round(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witnessing, "MAX_PAUSE_S", 0.02)
    asked: list[int] = []

    async def app(scope, receive, send) -> None:
        body = (await receive()).get("body", b"")
        asked.append(parse_checkpoint(parse_note(body.partition(b"\n\n")[2]).text).size)
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    station = Station(own / "w", [log_key()])
    writer = write_log(5)
    first = writer.log.sealed_size
    with serving(app, station.port), policy(own, station), asking(round_s=5) as asker:
        wait_for(lambda: asked)
        for _ in range(5):
            writer.orders(2)
            writer.seal()
            writer.commit()
            asker.notify()
            seen = len(asked)
            wait_for(lambda seen=seen: len(asked) > seen + 1)
        if set(asked) != {first}:  # a machine so busy that the round was over: the next head, not the one after that
            assert len(set(asked)) == 2
        wait_for(lambda: writer.log.sealed_size in asked)
        assert len(set(asked)) <= 3


def test_two_cosignatures_at_the_same_moment_are_a_quorum(own: Path) -> None:
    """Each is stored before anybody looks: whoever looks last sees both."""
    stations = [Station(own / name, [log_key()], f"{name}.example") for name in ("one", "two")]
    writer = write_log(*[1] * 30)
    heads = list(Checkpoint.objects.order_by("size"))
    with policy(own, *stations):
        loaded = cosigning.load_policy()
        assert loaded is not None
        gate = threading.Barrier(2)

        def sign(seed: Path, name: str) -> None:
            signer = Cosigner(name, load_or_make(seed / "witness_key"))
            try:
                for head in heads:
                    note = parse_note((head.note + signer.cosign(parse_note(head.note.encode()).text, 5)).encode())
                    found = find_cosignature(note, signer.key)
                    assert found is not None
                    gate.wait(10)
                    cosigning.keep(head.size, found, loaded, 0)
            finally:
                connection.close()

        threads = [threading.Thread(target=sign, args=(station.folder, station.name)) for station in stations]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert Quorum.objects.count() == len(heads) == 30
    assert writer.log.sealed_size == heads[-1].size


def test_only_a_quorum_counts(own: Path) -> None:
    stations = [Station(own / name, [log_key()], f"{name}.example") for name in ("one", "two")]
    writer = write_log(5)
    with stations[0].open():
        with policy(own, *stations), asking():
            wait_for(lambda: Cosignature.objects.filter(size=writer.log.sealed_size).exists())
            time.sleep(0.2)
            assert cosigning.witnessed_size() == 0
        with policy(own, *stations, quorum="any"), asking():
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)
        with policy(own, *stations):  # what another policy called a quorum is none for this one
            assert cosigning.witnessed_size() == 0


# --- policies and the command ----------------------------------------------------------------------------------------
def test_a_policy_that_cannot_be_followed_stops_the_start(own: Path) -> None:
    write_log(5)
    missing = override_settings(LEDGER_POLICY_FILE=str(own / "nowhere"))
    with missing, pytest.raises(PolicyError, match="nowhere"):
        witnessing.begin(lambda: 0)
    other = Station(own / "w", [log_key()])
    path = own / "policy"
    path.write_text(f"log {Signer('another.example', bytes(32)).vkey}\nwitness w {other.vkey}\nquorum w\n")
    with override_settings(LEDGER_POLICY_FILE=str(path)), pytest.raises(PolicyError, match="other logs"):
        witnessing.begin(lambda: 0)
