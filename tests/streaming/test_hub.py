"""The hub against a market steered by hand: what a socket hears, and what it never hears."""

from __future__ import annotations

from typing import Any

import pytest

from market.engine import events
from market.streaming import access, channels, sockets
from market.streaming.access import Viewer
from tests.streaming.fake import CONTRACT, LATER, NOON_MS
from tests.streaming.stage import ALICE, BOB, BOOK, OLGA, Market, play

pytestmark = pytest.mark.usefixtures("open_books")
PUBLIC_LOGS = [name for name, kind in channels.KINDS.items() if isinstance(kind, channels.LogKind) and not kind.own]


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
        (access.ANYBODY, "alerts", "not_signed_in"),
        (ALICE, "alerts", "forbidden"),
        (OLGA._replace(may_read=False), "alerts", "forbidden"),
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
        assert market.hub.status()["channels"] == len(PUBLIC_LOGS), "what is not there is not kept"

    play(scene)


def test_operators_hear_alerts() -> None:
    async def scene(market: Market) -> None:
        peer = market.connect(OLGA)
        peer.subscribe("alerts")
        over = {"contract": CONTRACT, "direction": "export", "flow_wh": 9, "capacity_wh": 5, "over_wh": 4}
        seq = market.exchange.alert("capacity", area="LV1.101", detail={"reason": "fault", "contracts": [over]})
        await market.flush()
        (item,) = peer.hear()[-1]["data"]["items"]
        assert (item["id"], item["seq"], item["kind"], item["area"]) == (seq, seq, "capacity", "LV1.101")
        assert (item["reason"], item["contract"], item["contracts"]) == ("fault", None, [over | {"area": "LV1.101"}])

    play(scene)


def test_a_trade_taken_back_is_news() -> None:
    async def scene(market: Market) -> None:
        peer, mine = market.connect(), market.connect(ALICE)
        peer.subscribe("trades")
        mine.subscribe("me")
        trade = market.exchange.trade()
        seq = market.exchange.recall(trade)
        await market.flush()
        sold, back = peer.hear()[-1]["data"]["items"]
        assert sold["seq"] == trade
        assert (back["seq"], back["recalled_trade"], back["contract"], back["energy_wh"]) == (
            seq,
            trade,
            CONTRACT,
            1_000,
        )
        item = mine.hear()[-1]["data"]["items"][-1]
        assert (item["type"], item["trade"], item["side"], item["returned"]) == ("recall", trade, "buy", "0.2800000")

    play(scene)


def test_what_sleeps_and_wakes_is_told_to_its_owner_only() -> None:
    async def scene(market: Market) -> None:
        mine, other = market.connect(ALICE), market.connect(BOB)
        mine.subscribe("me")
        other.subscribe("me")
        market.exchange.commit(lambda seq: [events.OrderHibernated(seq, NOON_MS, 5, 1, CONTRACT, 700)])
        market.exchange.commit(lambda seq: [events.OrderReactivated(seq, NOON_MS, 5, 1, CONTRACT, 700)])
        block = (1, "LV1.101", CONTRACT, "buy", 2_500, 700, "gtg", 0, "block", "", 0)
        market.exchange.commit(
            lambda seq: [
                events.ComplexOrderPlaced(seq, NOON_MS, *block, seq, 1, 2),
                events.ComplexOrderPlaced(seq + 1, NOON_MS, *block, seq, 2, 2),
            ]
        )
        await market.flush()
        items = [item for message in mine.hear()[1:] for item in message["data"]["items"]]
        assert [item["type"] for item in items] == ["hibernate", "reactivate", "order", "order"]
        assert all(item["remaining_wh"] == 700 for item in items[:2])
        assert [(item["kind"], item["group"], item["leg"], item["legs"]) for item in items[2:]] == [
            ("block", items[2]["seq"], 1, 2), ("block", items[2]["seq"], 2, 2),
        ]  # fmt: skip
        assert "display_wh" not in items[2] and "last" not in items[2]
        assert [m["type"] for m in other.hear()[1:]] == ["snapshot"]

    play(scene)


@pytest.mark.parametrize("kind", ["asleep", "awake", "recalled", "complex"])
def test_every_new_event_brings_its_book_up_to_date(kind: str) -> None:
    made = {
        "asleep": lambda seq: events.OrderHibernated(seq, NOON_MS, 5, 1, CONTRACT, 700),
        "awake": lambda seq: events.OrderReactivated(seq, NOON_MS, 5, 1, CONTRACT, 700),
        "recalled": lambda seq: events.TradeRecalled(seq, NOON_MS, 1, CONTRACT, "error", 5, 1, 2, 5, 0),
        "complex": lambda seq: events.ComplexOrderPlaced(
            seq, NOON_MS, 1, "LV1.101", CONTRACT, "buy", 2_500, 700, "gtg", 0, "iceberg", "", 70, 0, 0, 0
        ),
    }[kind]

    async def scene(market: Market) -> None:
        peer = market.connect(ALICE)
        peer.subscribe(BOOK)
        await market.flush()
        peer.hear()

        def make(seq: int) -> list[Any]:
            market.exchange.engine.side(CONTRACT, "bids")[2_500] = 70
            return [made(seq)]

        market.exchange.commit(make)
        await market.flush()
        assert peer.hear()[-1]["data"]["bids"] == [["0.2500", 70, "0.0100"]]

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
