"""``flow:me``: what a home's own meters say, told to that home and to nobody else, without asking the engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from market.engine.events import HaltSet
from market.exchange.figures import figures
from market.metering import news
from market.metering import operations as metering
from market.metering.queries import Power
from market.streaming import access, gauges, hub
from market.streaming.access import Viewer
from tests.streaming.fake import NOON_MS, FakeExchange
from tests.streaming.stage import ALICE, BOB, OLGA, Market, Peer, play

FLOW = "flow:me"


@pytest.fixture(autouse=True)
def nothing_measured() -> None:
    """No test finds what another one measured."""
    figures.clear()


def power(produced_w: int, used_w: int = 400, battery_w: int = 0) -> Power:
    return Power(NOON_MS, produced_w, used_w, battery_w)


def shown(produced_w: int) -> dict[str, int]:
    return {"produced_w": produced_w, "used_w": 400, "battery_w": 0}


def refusal(peer: Peer) -> str:
    peer.hear()
    peer.subscribe(FLOW)
    (message,) = peer.hear()
    assert message["type"] == "error", message
    return str(message["code"])


def test_a_home_hears_its_own_power_and_readings() -> None:
    async def scene(market: Market) -> None:
        metering.note_power(powers={1: power(900)})  # before anybody looked
        alice, bob = market.connect(ALICE), market.connect(BOB)
        for peer in (alice, bob):
            peer.hear()
            peer.subscribe(FLOW)
        (first,) = alice.hear()
        assert (first["type"], first["data"]) == ("snapshot", {"power": shown(900)})
        assert [message["data"] for message in bob.hear()] == [{}]
        reads = market.exchange.reads
        seq = market.exchange.trade()
        news.tell(powers={1: power(1_200)}, readings={1: seq})
        await market.flush()
        (delta,) = alice.hear()
        assert (delta["type"], delta["prev"], delta["seq"]) == ("delta", first["seq"], seq)
        assert delta["data"] == {"power": shown(1_200), "readings": seq}
        assert bob.hear() == []
        assert market.exchange.reads == reads  # the writer was not asked to stand still

    play(scene)


def test_the_same_again_is_no_news() -> None:
    async def scene(market: Market) -> None:
        alice = market.connect(ALICE)
        alice.subscribe(FLOW)
        news.tell(powers={1: power(900)})
        market.exchange.trade()
        await market.flush()
        alice.hear()
        news.tell(powers={1: power(900)._replace(at_ms=NOON_MS + 2_000)})
        market.exchange.trade()
        await market.flush()
        assert alice.hear() == []

    play(scene)


def test_two_changes_at_one_entry_are_told_with_the_next_one() -> None:
    async def scene(market: Market) -> None:
        alice = market.connect(ALICE)
        alice.subscribe(FLOW)
        market.exchange.trade()
        news.tell(powers={1: power(900)})
        await market.flush()
        alice.hear()
        news.tell(powers={1: power(950)})
        news.tell(powers={1: power(1_000)})
        await market.flush()
        assert alice.hear() == []  # a delta leads from one seq to a later one
        seq = market.exchange.trade()
        await market.flush()
        (delta,) = alice.hear()
        assert (delta["seq"], delta["data"]) == (seq, {"power": shown(1_000)})

    play(scene)


def test_who_comes_back_is_never_left_with_what_was() -> None:
    async def scene(market: Market) -> None:
        market.exchange.trade()
        await market.flush()
        alice = market.connect(ALICE)
        alice.subscribe(FLOW)
        alice.hear()
        market.hub.lost(alice.socket)
        metering.note_power(powers={1: power(700)})  # at the entry that she knows
        again = market.connect(ALICE)
        again.client = alice.client
        again.client.reconnect()
        again.subscribe(FLOW)
        again.hear()
        assert again.client.data[FLOW] == {"power": shown(700)}

    play(scene)


def test_two_pages_of_one_home_are_one_channel_and_leave_nothing_behind() -> None:
    async def scene(market: Market) -> None:
        before = market.hub.status()["channels"]
        pages = [market.connect(ALICE) for _ in range(2)]
        for page in pages:
            page.subscribe(FLOW)
        assert market.hub.status()["channels"] == before + 1
        market.hub.lost(pages[0].socket)
        news.tell(powers={1: power(800)})
        market.exchange.trade()
        await market.flush()
        assert pages[1].client.data.get(FLOW) is None
        pages[1].hear()
        assert pages[1].client.data[FLOW] == {"power": shown(800)}
        news.tell(powers={1: power(805)})
        await market.flush()  # waits for the next entry
        pages[1].say(type="unsubscribe", channel=FLOW)
        assert market.hub.status()["channels"] == before
        news.tell(powers={1: power(810)})
        market.exchange.trade()
        await market.flush()
        assert pages[1].hear() == []

    play(scene)


def test_a_halt_reaches_every_home_that_looks() -> None:
    async def scene(market: Market) -> None:
        peers = [market.connect(who) for who in (ALICE, BOB)]
        for peer in peers:
            peer.subscribe(FLOW)
            peer.hear()
        seq = market.exchange.commit(lambda seq: [HaltSet(seq, NOON_MS, "area", "MV1", 1, "fault")])
        await market.flush()
        for peer in peers:
            assert [message["data"] for message in peer.hear()] == [{"halts": seq}]

    play(scene)


def test_a_halt_that_was_dropped_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_BATCHES", 4)

    async def scene(market: Market) -> None:
        alice = market.connect(ALICE)
        alice.subscribe(FLOW)
        halt = market.exchange.commit(lambda seq: [HaltSet(seq, NOON_MS, "area", "MV1", 1, "fault")])
        await market.flush()
        alice.hear()
        assert alice.client.data[FLOW] == {"halts": halt}
        market.exchange.commit(lambda seq: [HaltSet(seq, NOON_MS, "area", "LV1.101", 2, "fault")])
        for _ in range(4):  # nothing reaches the loop meanwhile: it is here
            seq = market.exchange.trade()
        await market.flush()
        alice.hear()
        assert alice.client.data[FLOW] == {"halts": seq, "readings": seq}, "both may have changed"

    play(scene)


def test_readings_that_nobody_could_be_told_of_are_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "MAX_WAITING", 3)

    async def scene(market: Market) -> None:
        alice = market.connect(ALICE)
        alice.subscribe(FLOW)
        alice.hear()
        news.tell(readings={1: market.exchange.trade()})
        for account in range(2, 2 + gauges.MAX_WAITING):
            news.tell(powers={account: power(100)})
        seq = market.exchange.trade()
        await market.flush()
        alice.hear()
        assert alice.client.data[FLOW] == {"readings": seq}
        market.exchange.trade()
        await market.flush()
        assert alice.hear() == [], "once"

    play(scene)


def test_a_hub_that_could_not_start_leaves_nobody_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    listeners: list[Any] = []
    monkeypatch.setattr(news, "_listeners", listeners)

    async def scene() -> None:
        exchange = FakeExchange()
        exchange.broken = True
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the exchange is gone"):
                await hub.attach(exchange)  # type: ignore[arg-type]
            assert len(exchange.listeners) == len(listeners) == 1
        await hub.detach()
        assert exchange.listeners == listeners == []

    asyncio.run(scene())


def test_it_is_for_an_account_and_for_a_key_that_may_read() -> None:
    async def scene(market: Market) -> None:
        assert refusal(market.connect(access.ANYBODY)) == "not_signed_in"
        assert refusal(market.connect(OLGA)) == "forbidden"
        assert refusal(market.connect(Viewer(1, "household", 1, "LV1.101", False))) == "forbidden"

    play(scene)


def test_a_hub_that_has_stopped_listens_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    listeners: list[Any] = []
    monkeypatch.setattr(news, "_listeners", listeners)

    async def scene(market: Market) -> None:
        assert len(listeners) == 1
        metering.note_power(powers={1: power(600)})  # what the gateway of a home's meter does
        market.exchange.trade()
        alice = market.connect(ALICE)
        await market.flush()
        alice.subscribe(FLOW)
        alice.hear()
        assert alice.client.data[FLOW] == {"power": shown(600)}

    play(scene)
    assert listeners == []
