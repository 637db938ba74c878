"""Alarms about the ledger itself, live on ``alerts``: from the witnesses of a running market to an operator's socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from ledger import keys
from ledger.core.note import Signer, parse_vkey
from ledger.core.witness import format_request
from ledger.models import Alarm
from ledger.secretfiles import load_or_make
from ledger.witnessing import Witnessing
from market.config import database, runtime, server
from market.exchange import queries
from market.exchange.views import AlertView
from market.exchange.witnesses import WitnessService
from market.households import operations as households
from market.households.models import Role, User
from market.streaming import hub
from tests.integration.witness_http import Station, post
from tests.streaming.client import Client
from tests.streaming.fake import CONTRACT, NOON_MS
from tests.streaming.stage import OLGA, Market, Peer, play
from tests.streaming.test_market import NOW, City, city, hear_until, in_thread

__all__ = ("city",)

LAG_S = 0.5  # for the minute that a quorum may be behind


# --- on a market steered by hand --------------------------------------------------------------------------------------


def alarm(seq: int, kind: str = "quorum") -> AlertView:
    detail = {"reason": "lag", "witnessed": 0, "size": seq + 1, "witnesses": {"w1": "ConnectionRefusedError"}}
    return AlertView(seq, NOON_MS, kind, "", "", json.dumps(detail))


def items(peer: Peer) -> list[dict[str, Any]]:
    return [item for message in peer.hear() if message["type"] == "delta" for item in message["data"]["items"]]


def test_an_alarm_is_sent_as_it_is_raised_though_no_entry_raised_it() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect(OLGA)
        peer.subscribe("alerts")
        peer.hear()
        seal = market.exchange.seal()
        newest = market.exchange.trade()
        await market.flush()
        market.hub.alarm(alarm(seal - 7))  # of a checkpoint that has waited a minute
        await market.flush()
        (message,) = peer.hear()
        (item,) = message["data"]["items"]
        assert message["seq"] == newest
        assert (item["seq"], item["id"], item["kind"], item["reason"]) == (seal - 7, seal - 7, "quorum", "lag")
        assert item["witnesses"] == ["w1"]
        market.hub.alarm(alarm(seal - 7))  # the same, from the list that a start reads: no news
        await market.flush()
        assert items(peer) == []
        over = {"contract": CONTRACT, "direction": "export", "flow_wh": 9, "capacity_wh": 5, "over_wh": 4}
        seq = market.exchange.alert("capacity", area="LV1.101", detail={"reason": "fault", "contracts": [over]})
        await market.flush()
        market.exchange.seal()
        await market.flush()
        assert [item["id"] for item in items(peer)] == [seq]

    play(scene)


def test_an_alarm_whose_place_is_taken_comes_with_the_next_entry() -> None:
    async def scene(market: Market) -> None:
        peer, other = market.connect(OLGA), market.connect(OLGA)
        peer.subscribe("alerts")
        market.hub.alarm(alarm(3))  # nothing has happened since the channel began
        await market.flush()
        assert items(peer) == []
        first = market.exchange.seal()
        market.hub.alarm(alarm(2, "fork"))
        await market.flush()
        assert [item["id"] for item in items(peer)] == [3]
        second = market.exchange.alert("collar", contract=CONTRACT, detail={"reason": "collar", "until": None})
        await market.flush()
        assert [item["id"] for item in items(peer)] == [second], "an entry's own alert goes first"
        third = market.exchange.seal()
        await market.flush()
        assert [item["id"] for item in items(peer)] == [2]
        assert peer.client.seqs["alerts"] == third

        other.subscribe("alerts")  # who comes later has all of them, and who comes back what was missed
        assert [item["id"] for item in other.hear()[-1]["data"]["items"]] == [3, second, 2]
        back = market.connect(OLGA)
        back.client.epoch, back.client.seqs["alerts"] = market.hub.epoch, first
        back.client.data["alerts"] = {"items": []}
        back.subscribe("alerts")
        assert [item["id"] for item in items(back)] == [second, 2]

    play(scene)


def test_nobody_is_told_where_no_hub_runs() -> None:
    hub.announce(alarm(1))


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_the_market_that_is_served_tells_its_hub(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(runtime, "configure", lambda **options: given.update(options))
    monkeypatch.setattr(database, "prepare", lambda: None)
    monkeypatch.setattr(server, "run", lambda **options: 0)
    monkeypatch.setattr("market.config.management.commands.demo.last_market_ms", lambda: 0)
    with pytest.raises(SystemExit):
        call_command(command, stdout=io.StringIO())
    (service,) = [one for one in given["services"] if isinstance(one, WitnessService)]
    heard: list[AlertView] = []
    monkeypatch.setattr(hub, "_current", SimpleNamespace(alarm=heard.append))
    monkeypatch.setattr(queries, "alert", alarm)
    service._alarm(7)
    assert heard == [alarm(7)]


# --- on a real one ----------------------------------------------------------------------------------------------------


@pytest.fixture
def station(city: City, tmp_path: Path) -> Iterator[Station]:
    """A witness of the city's log, named by the policy; it runs only when a test opens it."""
    made = Station(tmp_path / "witness", [parse_vkey(keys.verifier_key())])
    policy = tmp_path / "policy"
    policy.write_text(f"log {keys.verifier_key()}\nwitness w1 {made.vkey} {made.url}\nquorum w1\n")
    with override_settings(LEDGER_POLICY_FILE=str(policy)):
        yield made


@contextlib.contextmanager
def witnessed() -> Iterator[None]:
    service = WitnessService(hub.announce)
    service.start()
    try:
        yield
    finally:
        service.stop()


async def heard(city: City, kind: str, begin: Any) -> dict[str, Any]:
    """Subscribe as the grid operator, begin what must alarm, and return the alarm that comes as news."""
    operator = await in_thread(User.objects.create, username="olga", role=Role.OPERATOR)
    key = (await in_thread(households.issue_key, user=operator, name="desk", scopes={"read"}, now=NOW)).token
    client = Client()
    async with city.connect(key) as connection:
        await connection.send(client.subscribe("alerts").decode())
        await hear_until(connection, client, lambda: "alerts" in client.data)
        assert client.data["alerts"]["items"] == []
        service = begin()
        await in_thread(service.__enter__)
        try:
            await in_thread(city.market.place, city.market.alice, "sell", "0.1500", 2_000)
            await hear_until(connection, client, lambda: bool(client.data["alerts"]["items"]), 20.0)
        finally:
            await in_thread(service.__exit__, None, None, None)
    (item,) = client.data["alerts"]["items"]
    assert item["kind"] == kind
    assert client.messages[-1]["type"] == "delta", "news, not history"
    found: dict[str, Any] = item
    return found


@pytest.mark.django_db(transaction=True)
def test_a_quorum_that_lags_is_told_at_once(city: City, station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Witnessing.__init__.__kwdefaults__
    assert defaults["lag_s"] == 60.0
    monkeypatch.setitem(defaults, "lag_s", LAG_S)
    item = asyncio.run(heard(city, "quorum", witnessed))  # nobody is at the witness' address
    assert (item["reason"], item["witnesses"]) == ("lag", ["w1"])
    alarms = list(Alarm.objects.values_list("seq", "kind"))
    assert alarms == [(item["id"], "quorum")]
    (listed,) = queries.alerts()
    assert (listed.seq, listed.kind) == (item["seq"], item["kind"])


@pytest.mark.django_db(transaction=True)
def test_a_witness_that_refuses_is_told_at_once(city: City, station: Station, settings: Any) -> None:
    """It has cosigned another history of this log, which somebody with the log's key has shown to it."""
    vkey = parse_vkey(keys.verifier_key())
    thief = Signer(vkey.name, load_or_make(Path(settings.LEDGER_KEY_FILE)))
    with station.open():
        assert post(station.url, format_request(0, [], thief.sign_checkpoint(1_000_000, b"\x07" * 32)))[0] == 200
        item = asyncio.run(heard(city, "fork", witnessed))
    assert (item["reason"], item["witnesses"]) == ("refused", ["w1"])
    assert list(Alarm.objects.values_list("seq", "kind")) == [(item["id"], "fork")]
