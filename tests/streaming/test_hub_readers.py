"""The hub and readers that are slow, silent or gone, loops that hang, exchanges that end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from market.engine import events
from market.streaming import access, channels, delivery
from market.streaming import hub as hub_module
from market.streaming.access import Viewer
from tests.streaming.client import HeldWire
from tests.streaming.fake import CONTRACT, LATER, NOON_MS
from tests.streaming.stage import ALICE, BOB, BOOK, Market, beat, play

pytestmark = pytest.mark.usefixtures("open_books")


def test_a_slow_reader_gets_merged_books(small: None) -> None:
    async def scene(market: Market) -> None:
        slow, quick = market.connect(), market.connect()
        for peer in (slow, quick):
            peer.subscribe(BOOK)
        await market.flush()
        quick.hear()
        for step in range(40):
            market.exchange.set_level(CONTRACT, "bids", 2000 + step % 7, 1 + step)
            await market.flush()
            assert [m["type"] for m in quick.hear()] == ["delta"]
        assert market.hub.status()["stalled"] == 1
        assert slow.wire.largest < 1_500, "the backlog is bounded"
        slow.hear()
        slow.hear()
        assert len(slow.client.messages) < 10, "forty flushes were merged"
        assert slow.client.data[BOOK] == quick.client.data[BOOK]
        assert market.hub.status()["stalled"] == 0

    play(scene)


def test_a_slow_reader_of_a_log_is_told_to_catch_up(small: None) -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe("trades")
        await market.flush()
        for _ in range(12):
            market.exchange.trade()
            await market.flush()
        assert peer.wire.largest < 1_500
        for _ in range(4):
            peer.hear()
        types = [message["type"] for message in peer.client.messages]
        assert "resync" in types
        assert peer.client.messages[types.index("resync")]["reason"] == "slow"
        before = len(peer.client.data["trades"]["items"])
        market.exchange.trade()
        await market.flush()
        peer.hear()
        assert len(peer.client.data["trades"]["items"]) == before + 1, "and then it goes on"

    play(scene)


def test_a_reader_that_never_reads_is_closed(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WRITE_DEADLINE_S", 0.0)

    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe(BOOK)
        for step in range(40):
            market.exchange.set_level(CONTRACT, "bids", 2000 + step, 1)
            await market.flush()
        market.hub.delivery._enforce()
        assert peer.wire.closed == (4409, "too_slow")
        assert market.hub.status() == market.hub.status() | {"sockets": 0, "stalled": 0}

    play(scene)


def test_heartbeat_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "HEARTBEAT_S", 0.001)

    async def scene(market: Market) -> None:
        answers, silent = market.connect(), market.connect()
        answers.subscribe("trades")
        for n in (1, 2):
            await beat(market)
            ping = answers.hear()[-1]
            assert ping == {"type": "ping", "n": n, "heads": {"trades": market.hub.seq}}
            answers.say(type="pong", n=n)
        await beat(market)
        assert answers.wire.closed is None
        assert silent.wire.closed == (4408, "silent")

    play(scene)


def test_a_revoked_key_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "HEARTBEAT_S", 0.001)
    monkeypatch.setattr(delivery, "RECHECK_HEARTBEATS", 1)

    async def scene(market: Market) -> None:
        valid: dict[str, Viewer] = {"a": ALICE, "b": BOB}

        async def identify(credentials: access.Credentials) -> Viewer | None:
            return valid.get(credentials.secret)

        market.hub.delivery.identify = identify
        wires = {name: HeldWire() for name in valid}
        for name, wire in wires.items():
            market.hub.open(wire, valid[name], access.Credentials("key", name))
        del valid["b"]
        await beat(market)
        assert market.hub.delivery._rechecking is not None
        await market.hub.delivery._rechecking
        assert wires["a"].closed is None
        assert wires["b"].closed == (4401, "signed_out")

    play(scene)


def test_a_loop_that_hangs_loses_its_place_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_BATCHES", 4)

    async def scene(market: Market) -> None:
        peer = market.connect()
        for channel in (BOOK, "trades"):
            peer.subscribe(channel)
        await market.flush()
        peer.hear()
        market.exchange.trade()
        for step in range(7):  # nothing reaches the loop meanwhile: it is here
            market.exchange.set_level(CONTRACT, "bids", 2000 + step, 1)
        for step in range(4):  # only these are left, and they say nothing of the book
            market.exchange.set_level(LATER, "bids", 2000 + step, 1)
        await market.flush()
        heard = peer.hear()
        assert [m["reason"] for m in heard if m["type"] == "resync"] == ["lost"]
        assert len(peer.client.data[BOOK]["bids"]) == 7
        market.exchange.trade()
        await market.flush()
        assert [m["type"] for m in peer.hear()] == ["delta"]

    play(scene)


def test_one_broken_view_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        del market.exchange.engine.contracts[LATER].state
        peer.subscribe("ticker:MV1")
        peer.subscribe(BOOK)
        await market.flush()
        await market.flush()  # on a busy machine the time of one reading ends with the first view
        heard = {m["channel"]: m for m in peer.hear()[1:]}
        assert (heard["ticker:MV1"]["code"], heard["ticker:MV1"]["retry"]) == ("unavailable", hub_module.RETRY_S)
        assert heard[BOOK]["type"] == "snapshot"

    play(scene)


def test_an_exchange_that_is_gone() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe(BOOK)
        market.exchange.broken = True
        await market.flush()
        assert peer.hear()[-1]["code"] == "unavailable"
        market.exchange.broken = False
        peer.subscribe(BOOK)
        await market.flush()
        assert peer.hear()[-1]["type"] == "snapshot"

    play(scene)


def test_more_views_than_time_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.streaming.reading.READ_BUDGET_S", 0.0)  # one view a flush

    async def scene(market: Market) -> None:
        peer = market.connect()
        for channel in (BOOK, f"book:LV1.102:{CONTRACT}", f"book:MV1:{CONTRACT}", "ticker:MV1"):
            peer.subscribe(channel)
        served = []
        for step in range(4):
            market.exchange.set_level(CONTRACT, "bids", 2000 + step, 1)  # the first is dirty again at once
            await market.flush()
            served += [m["channel"] for m in peer.hear() if m["type"] == "snapshot"]
        assert served == [BOOK, f"book:LV1.102:{CONTRACT}", f"book:MV1:{CONTRACT}", "ticker:MV1"]

    play(scene)


def test_ticker_lines_change_and_leave() -> None:
    async def scene(market: Market) -> None:
        from market.engine.events import ContractDelivered
        from tests.streaming.fake import NOON_MS

        peer = market.connect()
        peer.subscribe("ticker:MV1")
        await market.flush()
        assert set(peer.hear()[-1]["data"]["contracts"]) == {CONTRACT, LATER}
        market.exchange.set_level(CONTRACT, "bids", 2500, 1)
        market.exchange.trade(CONTRACT)
        await market.flush()
        assert peer.hear()[-1]["data"]["contracts"] == {
            CONTRACT: {"bid": "0.2500", "ask": None, "last": "0.2800", "volume_wh": 1000, "state": "open"}
        }
        market.exchange.commit(lambda seq: [ContractDelivered(seq, NOON_MS, CONTRACT)])
        await market.flush()
        assert peer.hear()[-1]["data"]["contracts"] == {CONTRACT: None}
        assert set(peer.client.data["ticker:MV1"]["contracts"]) == {LATER}

    play(scene)


def test_keys_that_are_gone_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAX_TOMBSTONES", 8)

    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe(BOOK)
        await market.flush()
        peer.hear()
        early = peer.client.seqs[BOOK]
        for price in range(2000, 2100):
            market.exchange.set_level(CONTRACT, "bids", price, 5)
            await market.flush()
            market.exchange.set_level(CONTRACT, "bids", price, 0)
            await market.flush()
        channel = market.hub._channels[BOOK]
        assert len(channel.changed) <= 10  # type: ignore[union-attr]
        late = market.connect()
        late.say(type="subscribe", channel=BOOK, epoch=market.hub.epoch, seq=early)
        assert late.types() == ["welcome", "snapshot"], "too long ago to merge"

    play(scene)


def test_a_merged_book_leaves_nothing_out(small: None) -> None:
    """A slow reader misses exactly one change, made by the very next entry."""

    async def scene(market: Market) -> None:
        slow = market.connect()
        slow.subscribe(BOOK)
        await market.flush()
        slow.hear()
        slow.socket.stalled_at = 0.0
        market.hub.delivery.stalled[slow.socket] = None
        market.exchange.set_level(CONTRACT, "bids", 2000, 1)
        await market.flush()
        assert slow.hear() == []
        market.hub.delivery._enforce()
        assert [m["type"] for m in slow.hear()] == ["delta"]
        assert slow.client.data[BOOK]["bids"] == [["0.2000", 1, "0.0100"]]

    play(scene)


def test_nothing_comes_after_unsubscribing(small: None) -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe("trades")
        await market.flush()
        for _ in range(5):
            market.exchange.trade()
            await market.flush()
        assert peer.socket.queue, "some of it waits for the reader"
        on_the_wire = len(peer.wire.frames)
        peer.say(type="unsubscribe", channel="trades")
        assert len(peer.hear()) == on_the_wire
        assert peer.hear() == []
        peer.say(type="unsubscribe", channel="trades")
        assert peer.hear()[-1]["code"] == "not_subscribed"

    play(scene)


def test_a_stopped_hub_listens_no_more() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        await market.hub.stop()
        assert peer.wire.closed == (1012, "restart")
        assert market.exchange.listeners == []
        await market.hub.stop()

    play(scene)


def test_a_channel_left_and_taken_up_while_it_is_computed() -> None:
    """The part of a ticker that was asked for is not taken for the whole of it."""

    async def scene(market: Market) -> None:
        first, second = market.connect(), market.connect()
        first.subscribe("ticker:MV1")
        await market.flush()
        first.hear()
        loop = asyncio.get_running_loop()
        read = market.exchange.read

        def meanwhile() -> None:
            first.say(type="unsubscribe", channel="ticker:MV1")
            market.exchange.set_level(LATER, "bids", 2000, 1)
            second.subscribe("ticker:MV1")

        def slow_read(fn: Callable[[Any], Any]) -> Any:
            answer = read(fn)
            done = threading.Event()
            loop.call_soon_threadsafe(lambda: (meanwhile(), done.set()))
            assert done.wait(5)
            return answer

        market.exchange.set_level(CONTRACT, "bids", 2000, 1)
        market.exchange.read = slow_read  # type: ignore[method-assign]
        await market.flush()
        assert second.types() == ["welcome"], "its view is not there yet"
        market.exchange.read = read  # type: ignore[method-assign]
        await market.flush()
        (snapshot,) = second.hear()
        assert snapshot["data"]["contracts"][LATER]["bid"] == "0.2000"

    play(scene)


@pytest.mark.parametrize("sweeping", [False, True])
def test_what_happens_between_the_news_and_the_reading_is_told_with_it(sweeping: bool) -> None:
    """A part of a ticker is labelled with the seq of the reading, so it holds what other contracts became by then."""

    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe("ticker:MV1")
        await market.flush()
        peer.hear()

        def meanwhile() -> None:
            if sweeping:
                market.exchange.engine.contracts[LATER].halted = True
                market.exchange.commit(lambda seq: [events.HaltSet(seq, NOON_MS, "contract", LATER, 1, "fault")])
            else:
                market.exchange.set_level(LATER, "asks", 3000, 5)

        market.exchange.set_level(CONTRACT, "bids", 2000, 1)
        market.exchange.meanwhile = meanwhile
        await market.flush()
        (delta,) = peer.hear()
        assert delta["seq"] == market.exchange.engine.seq - 1
        assert set(delta["data"]["contracts"]) == {CONTRACT, LATER}
        assert delta["data"]["contracts"][LATER]["state"] == ("halted" if sweeping else "open")
        await market.flush()
        assert peer.hear() == [], "it has been told already"

    play(scene)


def test_a_flush_that_fails_leaves_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        for channel in (BOOK, "ticker:MV1", "trades"):
            peer.subscribe(channel)
        await market.flush()
        peer.hear()
        send, failed = market.hub.delivery.send, asyncio.Event()

        async def fail_once(news: Any) -> None:
            monkeypatch.setattr(market.hub.delivery, "send", send)
            failed.set()
            raise RuntimeError("a mistake")

        monkeypatch.setattr(market.hub.delivery, "send", fail_once)
        market.exchange.set_level(CONTRACT, "bids", 2000, 7)
        trade = market.exchange.trade(LATER)
        market.hub._flusher = asyncio.get_running_loop().create_task(market.hub._run())
        await asyncio.wait_for(failed.wait(), 5)
        await asyncio.sleep(0)
        heard = {message["channel"]: message for message in peer.hear()}
        assert heard[BOOK]["data"]["bids"] == [["0.2000", 7, "0.0100"]]
        assert set(heard["ticker:MV1"]["data"]["contracts"]) == {CONTRACT, LATER}
        assert (heard["trades"]["type"], heard["trades"]["seq"]) == ("resync", trade)
        market.exchange.trade(LATER)
        await asyncio.sleep(3 * hub_module.FLUSH_INTERVAL_S)
        assert [message["type"] for message in peer.hear()] == ["delta", "delta"], "and all goes on"

    play(scene)
