"""The hub against a market steered by hand: what a socket hears, and what it never hears."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest

from market.streaming import access, channels, delivery, sockets
from market.streaming import hub as hub_module
from market.streaming.access import Viewer
from market.streaming.hub import Hub
from market.streaming.sockets import Socket
from tests.streaming.client import Client, HeldWire
from tests.streaming.fake import CONTRACT, LATER, FakeExchange

BOOK = f"book:LV1.101:{CONTRACT}"
ALICE = Viewer(1, "household", 1, "LV1.101", True)
BOB = Viewer(2, "household", 2, "LV1.102", True)
OLGA = Viewer(3, "operator", None, "", True)


class Market:
    """A hub on a fake exchange, with sockets whose clients read when told to. Flushes happen when told to."""

    def __init__(self) -> None:
        self.exchange = FakeExchange()
        self.hub = Hub(self.exchange, asyncio.get_running_loop())  # type: ignore[arg-type]

    async def start(self) -> None:
        await self.hub.start()
        assert self.hub._flusher is not None
        self.hub._flusher.cancel()

    def connect(self, viewer: Viewer = access.ANYBODY) -> Peer:
        return Peer(self.hub, viewer)

    async def flush(self) -> None:
        await asyncio.sleep(0)  # what the writer's thread announced arrives
        await self.hub._flush()


class Peer:
    """A client on a wire."""

    def __init__(self, hub: Hub, viewer: Viewer) -> None:
        self.hub = hub
        self.wire = HeldWire()
        self.client = Client()
        self.socket: Socket = hub.open(self.wire, viewer)

    def say(self, **message: Any) -> None:
        self.hub.receive(self.socket, orjson.dumps(message))

    def subscribe(self, channel: str, *, resume: bool = True) -> None:
        self.hub.receive(self.socket, self.client.subscribe(channel, resume=resume))

    def hear(self, count: int = 1_000_000) -> list[dict[str, Any]]:
        return [self.client.receive(payload) for payload in self.wire.read(count)]

    def types(self) -> list[str]:
        return [message["type"] for message in self.hear()]


def play(scene: Callable[[Market], Awaitable[None]]) -> None:
    """Run a scene on a fresh market."""

    async def run() -> None:
        market = Market()
        await market.start()
        try:
            await scene(market)
        finally:
            await market.hub.stop()

    asyncio.run(run())


async def beat(market: Market) -> None:
    """Let one (shortened) heartbeat pass."""
    await asyncio.sleep(0.002)
    await market.hub.delivery._beat()


@pytest.fixture(autouse=True)
def _open_books(settings: Any) -> None:
    settings.DEMO = True


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bounds small enough to reach with a few messages."""
    monkeypatch.setattr(delivery, "SOFT_BACKLOG_BYTES", 600)
    monkeypatch.setattr(sockets, "SOFT_BACKLOG_BYTES", 600)
    monkeypatch.setattr(sockets, "MAX_BACKLOG_BYTES", 4_000)
    monkeypatch.setattr(sockets, "MAX_QUEUE", 3)
    yield


def test_welcome_then_snapshot_then_deltas() -> None:
    async def scene(market: Market) -> None:
        seq = market.exchange.set_level(CONTRACT, "bids", 2500, 1000)
        peer = market.connect()
        peer.subscribe(BOOK)
        await market.flush()
        welcome, snapshot = peer.hear()
        assert welcome["type"] == "welcome" and welcome["heartbeat_ms"] == 15_000
        assert snapshot == {
            "type": "snapshot",
            "channel": BOOK,
            "seq": seq,
            "data": {"contract": CONTRACT, "area": "LV1.101", "bids": [["0.2500", 1000, "0.0100"]], "asks": []},
        }
        market.exchange.set_level(CONTRACT, "bids", 2600, 500)
        last = market.exchange.set_level(CONTRACT, "bids", 2500, 0)
        await market.flush()
        (delta,) = peer.hear()
        assert (delta["prev"], delta["seq"]) == (seq, last)
        assert delta["data"]["bids"] == [["0.2600", 500, "0.0100"], ["0.2500", 0, "0.0000"]]
        assert peer.client.data[BOOK]["bids"] == [["0.2600", 500, "0.0100"]]

    play(scene)


def test_a_change_elsewhere_is_no_news() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe(BOOK)
        await market.flush()
        peer.hear()
        market.exchange.set_level(LATER, "bids", 2500, 1000)
        reads = market.exchange.reads
        await market.flush()
        assert peer.hear() == []
        assert market.exchange.reads == reads, "nobody reads the book that changed"

    play(scene)


def test_nobody_reads_nothing_is_computed() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe(BOOK)
        await market.flush()
        peer.say(type="unsubscribe", channel=BOOK)
        reads = market.exchange.reads
        market.exchange.set_level(CONTRACT, "bids", 2500, 1000)
        await market.flush()
        assert market.exchange.reads == reads
        assert [message["type"] for message in peer.hear()] == ["welcome", "snapshot"]

    play(scene)


def test_all_hear_the_same_bytes_encoded_once() -> None:
    async def scene(market: Market) -> None:
        peers = [market.connect() for _ in range(3)]
        for peer in peers:
            peer.subscribe(BOOK)
        await market.flush()
        for peer in peers:
            peer.hear()
        market.exchange.set_level(CONTRACT, "asks", 2500, 1000)
        await market.flush()
        frames = [peer.wire.frames[0] for peer in peers]
        assert frames[0] == frames[1] == frames[2]
        assert market.hub.delivery.written == 3

    play(scene)


def test_several_channels_go_out_in_one_write() -> None:
    async def scene(market: Market) -> None:
        peer, other = market.connect(), market.connect()
        for channel in (BOOK, "ticker:MV1", "trades"):
            peer.subscribe(channel)
        other.subscribe("ticker:MV1")
        await market.flush()
        peer.hear(), other.hear()
        writes = peer.wire.writes
        market.exchange.set_level(CONTRACT, "asks", 2500, 1000)
        market.exchange.trade()
        await market.flush()
        assert peer.wire.writes == writes + 1
        assert sorted(m["channel"] for m in peer.hear()) == sorted([BOOK, "ticker:MV1", "trades"])
        assert [m["channel"] for m in other.hear()] == ["ticker:MV1"]

    play(scene)


def test_resume_sends_what_was_missed() -> None:
    async def scene(market: Market) -> None:
        first = market.connect()
        for channel in (BOOK, "trades"):
            first.subscribe(channel)
        await market.flush()
        first.hear()
        market.hub.lost(first.socket)
        market.exchange.set_level(CONTRACT, "asks", 2500, 1000)
        market.exchange.trade()
        await market.flush()
        second = market.connect()
        second.client = first.client
        second.client.reconnect()
        for channel in (BOOK, "trades"):
            second.subscribe(channel)
        await market.flush()
        heard = [(m["type"], m.get("channel")) for m in second.hear()[1:]]
        assert sorted(heard) == sorted([("resumed", BOOK), ("delta", BOOK), ("resumed", "trades"), ("delta", "trades")])
        assert second.client.data[BOOK]["asks"] == [["0.2500", 1000, "0.0100"]]
        assert len(second.client.data["trades"]["items"]) == 1

    play(scene)


def test_resume_from_another_life_starts_afresh() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        await market.flush()
        peer.hear()
        peer.say(type="subscribe", channel=BOOK, epoch="abc", seq=0)
        peer.say(type="subscribe", channel="trades", epoch="abc", seq=0)
        peer.say(type="subscribe", channel="blocks", epoch=market.hub.epoch, seq=99)
        await market.flush()
        heard = {m["channel"]: m for m in peer.hear()}
        assert heard[BOOK]["type"] == "snapshot"
        assert (heard["trades"]["type"], heard["trades"]["reason"]) == ("resync", "epoch")
        assert (heard["blocks"]["type"], heard["blocks"]["reason"]) == ("resync", "gone")

    play(scene)


def test_a_trade_names_nobody_and_each_side_hears_its_own() -> None:
    async def scene(market: Market) -> None:
        anybody, alice, bob = market.connect(), market.connect(ALICE), market.connect(BOB)
        anybody.subscribe("trades")
        alice.subscribe("me")
        bob.subscribe("me")
        seq = market.exchange.trade(buyer=1, seller=2)
        await market.flush()
        (trade,) = anybody.hear()[-1]["data"]["items"]
        assert trade == {
            "seq": seq,
            "at": "2026-06-06T12:00:00.000Z",
            "contract": CONTRACT,
            "price": "0.2700",
            "energy_wh": 1000,
            "buy_price": "0.2800",
            "sell_price": "0.2700",
        }
        (mine,) = alice.hear()[-1]["data"]["items"]
        assert (mine["side"], mine["order"], mine["price"], mine["maker"]) == ("buy", 6, "0.2800", False)
        assert mine["amount"] == "0.2800000"
        (theirs,) = bob.hear()[-1]["data"]["items"]
        assert (theirs["side"], theirs["order"], theirs["price"], theirs["maker"]) == ("sell", 5, "0.2700", True)
        assert "buyer" not in str(trade | mine | theirs)

    play(scene)


def test_blocks() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        peer.subscribe("blocks")
        market.exchange.seal()
        await market.flush()
        (block,) = peer.hear()[-1]["data"]["items"]
        assert (block["height"], block["size"], block["first"], block["count"]) == (1, 2, 0, 2)
        assert block["seq"] == 1

    play(scene)


@pytest.mark.parametrize(
    ("viewer", "channel", "code"),
    [
        (access.ANYBODY, "me", "not_signed_in"),
        (OLGA, "me", "forbidden"),
        (ALICE._replace(may_read=False), "me", "forbidden"),
        (ALICE, "me:2", "unknown_channel"),
        (ALICE, "orders", "unknown_channel"),
        (ALICE, "book:LV1.101", "unknown_channel"),
        (ALICE, "book:LV1.101:2026-06-06", "unknown_channel"),
        (ALICE, f"{BOOK}:x", "unknown_channel"),
        (ALICE, f"book:LV9.999:{CONTRACT}", "unknown_area"),
        (ALICE, "book:LV1.101:2031-01-01T00:00Z", "unknown_contract"),
        (ALICE, "ticker:LV9.999", "unknown_area"),
    ],
)
def test_channels_that_are_not_there(viewer: Viewer, channel: str, code: str) -> None:
    async def scene(market: Market) -> None:
        peer = market.connect(viewer)
        peer.subscribe(channel)
        await market.flush()
        message = peer.hear()[-1]
        assert message == {"type": "error", "code": code, "channel": channel, "retry": None}
        assert peer.socket.subs == {}
        assert market.hub.status()["channels"] == 2, "what is not there is not kept"

    play(scene)


def test_small_areas_are_for_their_members(settings: Any) -> None:
    settings.DEMO = False

    async def scene(market: Market) -> None:
        heard = {}
        for who, viewer in {"anybody": access.ANYBODY, "alice": ALICE, "bob": BOB, "olga": OLGA}.items():
            peer = market.connect(viewer)
            peer.subscribe(BOOK)
            peer.subscribe("ticker:MV1")
            await market.flush()
            heard[who] = {m["channel"]: m["type"] for m in peer.hear()[1:]}
        assert {who: channels[BOOK] for who, channels in heard.items()} == {
            "anybody": "error",
            "alice": "snapshot",
            "bob": "error",
            "olga": "snapshot",
        }
        assert all(channels["ticker:MV1"] == "snapshot" for channels in heard.values()), "13 homes name nobody"

    play(scene)


def test_too_many_subscriptions() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        for hour in range(sockets.MAX_SUBSCRIPTIONS):
            peer.subscribe(f"ticker:LV1.{hour}")
        peer.subscribe("ticker:MV1")
        assert peer.hear()[-1]["code"] == "too_many_subscriptions"

    play(scene)


def test_nonsense_is_answered_then_ended() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        for _ in range(sockets.MAX_ERRORS):
            market.hub.receive(peer.socket, "{")
        assert peer.types() == ["welcome"] + ["error"] * sockets.MAX_ERRORS
        assert peer.wire.closed is None
        market.hub.receive(peer.socket, None)
        assert peer.wire.closed == (4400, "bad_messages")
        assert market.hub.status()["sockets"] == 0

    play(scene)


def test_too_many_messages() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect()
        for _ in range(int(sockets.MESSAGE_BURST) + 2):
            peer.say(type="pong", n=0)
        assert peer.wire.closed == (4429, "too_many_messages")

    play(scene)


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
