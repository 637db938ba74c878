"""Whatever is lost, merged or late: what a client makes of the stream is what the server has (Zulip's property)."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from market.streaming import access, channels, delivery, sockets
from market.streaming.views import book_data, book_view, ticker_data, ticker_view
from tests.streaming.fake import CONTRACT, LATER
from tests.streaming.stage import Market, Peer

AREA = "LV1.101"
CHANNELS = (f"book:{AREA}:{CONTRACT}", f"book:{AREA}:{LATER}", f"ticker:{AREA}", "trades")
CLIENTS = 3

clients = st.integers(0, CLIENTS - 1)
changes = st.tuples(
    st.sampled_from([CONTRACT, LATER]), st.sampled_from(["bids", "asks"]), st.integers(2000, 2005), st.integers(0, 2)
)
steps = st.one_of(
    st.tuples(st.just("level"), changes, st.booleans()),
    st.tuples(st.just("level"), changes, st.just(True)),
    st.tuples(st.just("trade"), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("race"), changes, changes),  # the second one after the news of the first, before the reading
    st.tuples(st.just("hang"), st.lists(changes, min_size=5, max_size=8)),  # more batches than the loop takes
    st.tuples(st.just("read"), clients, st.integers(1, 9)),
    st.tuples(st.just("subscribe"), clients, st.sampled_from(CHANNELS), st.booleans()),
    st.tuples(st.just("unsubscribe"), clients, st.sampled_from(CHANNELS)),
    st.tuples(st.just("drop"), clients, st.booleans()),  # what was on the wire is lost; resume or start afresh
)
# Everybody reads something, one of them something of its own, so that channels fall idle and come back.
PRELUDE: list[tuple[Any, ...]] = [
    ("subscribe", 0, CHANNELS[0], False),
    ("subscribe", 0, CHANNELS[3], False),
    ("subscribe", 1, CHANNELS[0], False),
    ("subscribe", 1, CHANNELS[2], False),
    ("subscribe", 2, CHANNELS[1], False),
    ("level", (CONTRACT, "bids", 2000, 1), True),
]


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    """Bounds that a few steps reach."""
    settings.DEMO = True
    monkeypatch.setattr(delivery, "SOFT_BACKLOG_BYTES", 500)
    monkeypatch.setattr(sockets, "SOFT_BACKLOG_BYTES", 500)
    monkeypatch.setattr(sockets, "MAX_BACKLOG_BYTES", 2_000)
    monkeypatch.setattr(sockets, "MAX_QUEUE", 2)
    monkeypatch.setattr(sockets, "MESSAGE_BURST", 1e9)
    monkeypatch.setattr(sockets, "MAX_ERRORS", 10**9)
    monkeypatch.setattr(channels, "MAX_TOMBSTONES", 2)
    monkeypatch.setattr("market.streaming.hub.MAX_BATCHES", 4)
    monkeypatch.setattr("market.streaming.hub.MAX_IDLE", 2)
    log_kind = channels.KINDS["trades"]
    assert isinstance(log_kind, channels.LogKind)
    monkeypatch.setitem(channels.KINDS, "trades", dataclasses.replace(log_kind, ring=4))
    yield


async def play(script: list[tuple[Any, ...]]) -> list[Peer]:
    """Play the script, let everybody read to the end, and compare."""
    market = Market()
    await market.start()
    trades: list[int] = []
    peers = [market.connect(access.ANYBODY) for _ in range(CLIENTS)]
    try:
        for step in script:
            match step:
                case ("level", change, flush):
                    market.exchange.set_level(*change)
                    if flush:
                        await market.flush()
                case ("trade", count, flush):
                    last = market.exchange.trade(count=count)
                    trades += range(last - count + 1, last + 1)
                    if flush:
                        await market.flush()
                case ("race", change, meanwhile):
                    market.exchange.set_level(*change)
                    market.exchange.meanwhile = partial(market.exchange.set_level, *meanwhile)
                    await market.flush()
                case ("hang", missed):
                    trades.append(market.exchange.trade())
                    for change in missed:
                        market.exchange.set_level(*change)
                    await market.flush()
                case ("read", who, count):
                    peers[who].hear(count)
                case ("subscribe", who, channel, resume):
                    peers[who].subscribe(channel, resume=resume)
                case ("unsubscribe", who, channel):
                    peers[who].say(type="unsubscribe", channel=channel)
                case ("drop", who, resume):
                    peers[who] = _reconnect(market, peers[who], resume)
        await _settle(market, peers)
        _compare(market, peers, trades)
    finally:
        await market.hub.stop()
    return peers


def _reconnect(market: Market, before: Peer, resume: bool) -> Peer:
    wanted = tuple(before.socket.subs)
    market.hub.lost(before.socket)
    peer = market.connect()
    peer.client = before.client
    peer.client.reconnect()
    for channel in wanted:
        peer.subscribe(channel, resume=resume)
    return peer


async def _settle(market: Market, peers: list[Peer]) -> None:
    for _ in range(60):
        await market.flush()
        market.hub.delivery._enforce()  # the timer: a transport says nothing when it was not full itself
        if not sum(len(peer.hear()) for peer in peers) and not market.hub._dirty:
            return
    raise AssertionError("the streams never came to rest")


def _compare(market: Market, peers: list[Peer], trades: list[int]) -> None:
    engine = market.exchange.engine
    for peer in peers:
        for channel in peer.socket.subs:
            known = peer.client.data[channel]
            if channel.startswith("book:"):
                args = tuple(channel.split(":", 2)[1:])
                assert known == _through_json(book_data(args, book_view(engine, args, None)[0]))
            elif channel.startswith("ticker:"):
                assert known == _through_json(ticker_data((AREA,), ticker_view(engine, (AREA,), None)[0]))
            else:
                _compare_log(peer, channel, trades)


def _compare_log(peer: Peer, channel: str, trades: list[int]) -> None:
    """Every trade since the last snapshot came exactly once and in order, or lies in a gap the client was told of."""
    starts = [
        index
        for index, message in enumerate(peer.client.messages)
        if message.get("channel") == channel and message["type"] in ("snapshot", "resync")
    ]
    first = peer.client.messages[starts[0]]["seq"] if starts else None
    if first is None:
        return
    snapshots = [index for index in starts if peer.client.messages[index]["type"] == "snapshot"]
    since = peer.client.messages[snapshots[-1]]["seq"] if snapshots else first
    heard = [item["seq"] for item in peer.client.data[channel]["items"] if item["seq"] > since]
    gaps = peer.client.gaps.get(channel, [])
    expected = [
        seq for seq in trades if since < seq and (seq in heard or not any(after < seq <= upto for after, upto in gaps))
    ]
    assert heard == expected


def _through_json(data: dict[str, Any]) -> dict[str, Any]:
    return {key: [list(level) for level in value] if isinstance(value, list) else value for key, value in data.items()}


@hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(steps, max_size=80))
def test_the_client_has_what_the_server_has(script: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(PRELUDE + script))


@pytest.mark.parametrize("seed", range(20))
def test_the_client_has_what_the_server_has_after_a_long_time(seed: int) -> None:
    """Hypothesis likes short scripts; bounds that take many steps to reach need long ones."""
    chance = random.Random(seed)
    script: list[tuple[Any, ...]] = []
    for _ in range(400):
        contract, side = chance.choice([CONTRACT, LATER]), chance.choice(["bids", "asks"])
        change = contract, side, chance.randint(2000, 2005), chance.randint(0, 2)
        who, channel = chance.randrange(CLIENTS), chance.choice(CHANNELS)
        script.append(
            chance.choices(
                [
                    ("level", change, True),
                    ("trade", chance.randint(1, 4), chance.random() < 0.7),
                    ("race", change, (chance.choice([CONTRACT, LATER]), side, 2000, chance.randint(0, 2))),
                    ("hang", [(contract, side, 2000 + i, chance.randint(0, 2)) for i in range(6)]),
                    ("read", who, chance.randint(1, 9)),
                    ("subscribe", who, channel, chance.random() < 0.8),
                    ("unsubscribe", who, channel),
                    ("drop", who, chance.random() < 0.9),
                ],
                [40, 15, 8, 1, 20, 8, 4, 4],
            )[0]
        )
    asyncio.run(play(PRELUDE + script))


def test_the_property_is_not_empty() -> None:
    """A script that visits merging, queueing, resuming and losing one's place, so that the above compares something."""
    subscribe = [("subscribe", who, channel, True) for who in range(2) for channel in CHANNELS]
    churn = [
        step
        for i in range(30)
        for step in (
            ("level", (CONTRACT, "bids", 2000 + i % 5, i % 3), False),
            ("level", (LATER, "asks", 2000 + i % 6, i % 4), False),
            ("trade", 1, True),
            ("read", 1, 50),
        )
    ]
    script = [*subscribe, *churn, ("drop", 1, True), ("trade", 2, True), ("drop", 1, True), *churn]
    peers = asyncio.run(play(script))
    slow, quick = ([m["type"] for m in peer.client.messages] for peer in peers[:2])
    assert "resync" in slow and quick.count("resumed") >= 4
    assert slow.count("delta") < quick.count("delta") / 2
