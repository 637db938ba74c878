"""The streams on a real market: real exchange, real keys, real trades, through uvicorn."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvicorn
import uvloop
from django.db import connection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ledger import queries as ledger_queries
from market.api.events import event_out
from market.engine.commands import (
    BUY,
    SELL,
    CancelOrder,
    HibernateOrder,
    PlaceBlock,
    PlaceIceberg,
    PlaceSweep,
    ReactivateOrder,
    RecallTrade,
    SetHalt,
)
from market.engine.events import Traded
from market.exchange import operations as exchange_operations
from market.exchange import queries
from market.households import consents
from market.households import operations as households
from market.households.models import Account, Role, SignIn, User
from market.streaming import delivery, hub
from market.streaming.asgi import socket_app
from market.streaming.views import book_data, book_view, ticker_data, ticker_view
from tests.factories import Market, running_market
from tests.streaming.client import Client

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)


class City:
    """A running market whose streams are served."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port: int = self.listener.getsockname()[1]
        self.uvicorn = uvicorn.Server(
            uvicorn.Config(socket_app, ws="market.streaming.server:SocketProtocol", lifespan="off", log_level="warning")
        )
        self.thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        await self.uvicorn.serve(sockets=[self.listener])
        await hub.detach()

    def start(self) -> None:
        self.thread.start()
        while not self.uvicorn.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(10)
        gc.collect()  # ended threads' database connections

    def connect(self, key: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return connect(
            f"ws://127.0.0.1:{self.port}/ws/v1/",
            subprotocols=["market.v1"],
            additional_headers=headers,
            close_timeout=1,
        )  # type: ignore[arg-type]


@pytest.fixture
def city(settings: Any) -> Iterator[City]:
    settings.DEMO = True
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    with running_market(seal_every_s=0.2) as market:
        running = City(market)
        running.start()
        yield running
        running.stop()


def person(market: Market, index: int) -> tuple[User, str]:
    """Return someone with that account and a key to read with."""
    user = User.objects.create(username=f"person{index}", role=Role.HOUSEHOLD)
    Account.objects.create(index=index, account_id=f"{index:032x}", user=user, area="LV1.1", salt=b"", opened_at=NOW)
    return user, households.issue_key(user=user, name="bot", scopes={"read"}, now=NOW).token


async def hear_until(
    connection: ClientConnection, client: Client, happened: Callable[[], bool], limit_s: float = 5.0
) -> float:
    """Read until something has happened; return how long it took."""
    started = time.monotonic()
    while not happened():
        client.receive(await asyncio.wait_for(connection.recv(), limit_s))
    return time.monotonic() - started


async def in_thread(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        try:
            return fn(*args, **kwargs)
        finally:
            connection.close()  # or the test database could not be dropped

    return await asyncio.get_running_loop().run_in_executor(None, run)


def test_a_trade_reaches_everybody_within_a_second(city: City) -> None:
    market = city.market
    contract = market.contract()
    book, ticker = f"book:LV1.1:{contract}", "ticker:CITY"

    async def scene() -> None:
        client = Client()
        async with city.connect() as connection:
            for channel in (book, ticker, "trades", "blocks"):
                await connection.send(client.subscribe(channel).decode())
            await hear_until(connection, client, lambda: len(client.data) == 4)
            await in_thread(market.place, market.alice, SELL, "0.1500", 2_000)
            await hear_until(connection, client, lambda: bool(client.data[book]["asks"]))
            assert client.data[book]["asks"] == [["0.1500", 2_000, "0.0000"]]
            await hear_until(connection, client, lambda: client.data[ticker]["contracts"][contract]["ask"] is not None)
            assert client.data[ticker]["contracts"][contract]["ask"] == "0.1650", "with the fees up to the city"
            answer = await in_thread(market.place, market.bob, BUY, "0.2500", 500)
            took = await hear_until(connection, client, lambda: bool(client.data["trades"]["items"]))
            assert took < 1.0
            (trade,) = client.data["trades"]["items"]
            assert trade["seq"] == answer.events[-1].seq
            assert (trade["contract"], trade["energy_wh"], trade["price"]) == (contract, 500, "0.1500")
            await hear_until(connection, client, lambda: client.data[ticker]["contracts"][contract]["volume_wh"] == 500)
            await hear_until(
                connection, client, lambda: any(b["size"] > trade["seq"] for b in client.data["blocks"]["items"])
            )
            block = client.data["blocks"]["items"][-1]
            assert block["size"] == block["first"] + block["count"] and len(block["root"]) == 64

    asyncio.run(scene())


def test_the_logs_open_with_what_happened_before(settings: Any) -> None:
    settings.DEMO = True
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    with running_market(seal_every_s=0.1) as market:
        market.place(market.alice, SELL, "0.1500", 1_000)
        trades = [market.place(market.bob, BUY, "0.2500", 1).events[-1].seq for _ in range(60)]
        stop = time.monotonic() + 5
        while not ledger_queries.blocks(1) and time.monotonic() < stop:
            time.sleep(0.05)
        city = City(market)
        city.start()

        async def scene() -> None:
            client = Client()
            async with city.connect() as connection:
                for channel in ("trades", "blocks"):
                    await connection.send(client.subscribe(channel).decode())
                await hear_until(connection, client, lambda: len(client.data) == 2)
                assert [item["seq"] for item in client.data["trades"]["items"]] == trades[-50:]
                assert client.data["blocks"]["items"][-1]["height"] >= 1
                # Before the first look nothing was sent, yet everything after the oldest of these can be resumed.
                resume = {"type": "subscribe", "channel": "trades", "epoch": client.epoch, "seq": trades[-3]}
                client.seqs["trades"], client.data["trades"] = trades[-3], {"items": []}
                await connection.send(json.dumps(resume))
                await hear_until(connection, client, lambda: len(client.data["trades"]["items"]) == 2)

        asyncio.run(scene())
        city.stop()


def test_my_affairs_read_as_rest_tells_them(city: City) -> None:
    market = city.market
    _, key = person(market, market.bob)

    async def scene() -> None:
        client = Client()
        async with city.connect(key) as connection:
            await connection.send(client.subscribe("me").decode())
            await hear_until(connection, client, lambda: "me" in client.data)
            since = client.seqs["me"]
            await in_thread(market.place, market.alice, SELL, "0.1500", 300)
            placed = await in_thread(market.place, market.bob, BUY, "0.2500", 500)
            order = placed.events[0].seq
            await in_thread(market.exchange.call, CancelOrder(market.bob, order, "owner"))
            await in_thread(exchange_operations.fund, market.exchange, account=market.bob, amount_e7=5)
            items = client.data["me"]["items"]
            await hear_until(connection, client, lambda: len(client.data["me"]["items"]) == 4)
            items = client.data["me"]["items"]
            assert [item["type"] for item in items] == ["order", "trade", "cancel", "fund"]
            told = await in_thread(queries.events, after=since, account=market.bob)
            for item, event in zip(items, map(event_out, told), strict=True):
                assert event.items() <= item.items(), "the stream may say more, never something else"
            assert not {"buyer", "seller", "account"} & items[1].keys()

    asyncio.run(scene())


def test_complex_affairs_read_as_rest_tells_them(city: City) -> None:
    market = city.market
    _, key = person(market, market.bob)
    one, two = market.contract(1), market.contract(2)

    def live() -> None:
        call = market.exchange.call
        call(PlaceIceberg(market.bob, one, BUY, 2_000, 900, "gtg", 0, 100))
        rests = market.place(market.bob, BUY, "0.1000", 300).events[0].seq
        call(HibernateOrder(market.bob, rests))
        call(ReactivateOrder(market.bob, rests))
        sold = market.place(market.alice, SELL, "0.1500", 50).events[-1]
        call(RecallTrade(sold.seq, "error"))
        call(PlaceSweep(market.bob, one, two, BUY, 100, 50))
        call(PlaceBlock(market.bob, one, two, BUY, 100, 50, "gtg", 0))

    async def scene() -> None:
        client = Client()
        async with city.connect(key) as connection:
            await connection.send(client.subscribe("me").decode())
            await hear_until(connection, client, lambda: "me" in client.data)
            since = client.seqs["me"]
            await in_thread(live)
            await hear_until(connection, client, lambda: len(client.data["me"]["items"]) == 10)
            items = client.data["me"]["items"]
            assert [item["type"] for item in items] == [
                "order", "order", "hibernate", "reactivate", "trade", "recall", "order", "cancel", "order", "order",
            ]  # fmt: skip
            told = await in_thread(queries.events, after=since, account=market.bob)
            for item, event in zip(items, map(event_out, told), strict=True):
                assert event.items() <= item.items(), "the stream may say more, never something else"
            assert not {"buyer", "seller", "account"} & items[5].keys()

    asyncio.run(scene())


def test_the_views_are_the_engines(city: City) -> None:
    """A client that lives through a busy spell, halts included, knows what the engine shows."""
    market = city.market
    contract = market.contract()
    names = [f"book:{area}:{contract}" for area in ("LV1.1", "LV2.1", "CITY")] + ["ticker:LV2.1"]

    def busy() -> None:
        for step in range(120):
            account, side = (market.alice, SELL) if step % 2 else (market.bob, BUY)
            placed = market.place(account, side, f"0.{1200 + step * 37 % 900:04d}", 100 + step).events
            sold = [event.seq for event in placed if isinstance(event, Traded)]
            if step % 7 == 3:
                market.exchange.call(
                    PlaceIceberg(account, contract, side, 1_000 + 13 * step, 2_000, "gtg", 0, 90 + step)
                )
            if step % 11 == 5:
                market.exchange.call(HibernateOrder(account, placed[0].seq))
            if step % 22 == 16:
                market.exchange.call(ReactivateOrder(account, placed[0].seq))
            if step % 5 == 2:
                market.exchange.call(PlaceBlock(account, contract, market.contract(2), side, 1_500, 70, "gtg", 0))
            if step % 13 == 6 and sold:
                market.exchange.call(RecallTrade(sold[0], "error"))
            if step == 40:
                market.exchange.call(SetHalt("account", str(market.bob), 1, "test", 0, 1))
                market.exchange.call(SetHalt("account", str(market.bob), 0, "test"))
            if step == 60:
                market.exchange.call(SetHalt("contract", contract, 1, "test"))
                market.exchange.call(SetHalt("contract", contract, 0, "test"))
        market.exchange.call(SetHalt("contract", contract, 1, "test"))

    async def scene() -> None:
        client = Client()
        async with city.connect() as connection:
            for channel in names:
                await connection.send(client.subscribe(channel).decode())
            await hear_until(connection, client, lambda: len(client.data) == len(names))
            await in_thread(busy)

            def now() -> dict[str, Any]:
                return {
                    name: market.exchange.read(lambda engine, name=name: _shown(engine, name))  # type: ignore[misc]
                    for name in names
                }

            expected = await in_thread(now)
            await hear_until(connection, client, lambda: client.data == expected)
            assert client.data["ticker:LV2.1"]["contracts"][contract]["state"] == "halted"

    asyncio.run(scene())


def _shown(engine: Any, name: str) -> dict[str, Any]:
    kind, *args = name.split(":", 2)
    view, data = (book_view, book_data) if kind == "book" else (ticker_view, ticker_data)
    return data(args, view(engine, args, None)[0])


def test_a_revoked_key_is_cut_off(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(delivery, "RECHECK_HEARTBEATS", 1)
    market = city.market
    user, key = person(market, market.bob)

    async def scene() -> None:
        async with city.connect(key) as connection:
            await connection.recv()
            key_id = await in_thread(lambda: user.api_keys.get().pk)
            await in_thread(households.revoke_key, user=user, key_id=key_id, now=NOW)
            with pytest.raises(ConnectionClosed) as ended:
                for _ in range(8):
                    message = await asyncio.wait_for(connection.recv(), 5)
                    n = message.partition('"n":')[2].partition(",")[0]  # type: ignore[arg-type]
                    await connection.send(f'{{"type":"pong","n":{n}}}')
            assert ended.value.rcvd is not None and ended.value.rcvd.code == 4401

    asyncio.run(scene())


def test_a_session_hears_its_own(city: City) -> None:
    from django.test import Client as Browser

    market = city.market
    user, _ = person(market, market.bob)
    browser = Browser()
    browser.force_login(user)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"

    async def scene() -> None:
        client = Client()
        async with connect(
            f"ws://127.0.0.1:{city.port}/ws/v1/",
            subprotocols=["market.v1"],  # type: ignore[list-item]
            origin=f"http://127.0.0.1:{city.port}",  # type: ignore[arg-type]
            additional_headers={"Cookie": cookie},
        ) as connection:
            await connection.send(client.subscribe("me").decode())
            await hear_until(connection, client, lambda: "me" in client.data)

    asyncio.run(scene())


def test_who_was_signed_out_or_lost_a_consent_is_cut_off_at_once(city: City) -> None:
    from django.test import Client as Browser

    market = city.market
    user, _ = person(market, market.bob)
    today = datetime.now(UTC)
    made = consents.grant(user=user, party="P", scopes={"read"}, expires_at=today + timedelta(days=2), now=today)
    browsers = [Browser(SERVER_NAME="127.0.0.1"), Browser(SERVER_NAME="127.0.0.1")]
    for browser in browsers:
        browser.force_login(user)
        assert browser.get("/account/security").status_code == 200
    # Nobody waits for the heartbeats, which are 15 s apart.
    closed = f"/account/security/sessions/{SignIn.objects.order_by('pk').first().pk}/end"  # type: ignore[union-attr]

    async def cut(credentials: dict[str, str], act: Callable[[], Any]) -> None:
        async with connect(
            f"ws://127.0.0.1:{city.port}/ws/v1/",
            subprotocols=["market.v1"],  # type: ignore[list-item]
            origin=f"http://127.0.0.1:{city.port}",  # type: ignore[arg-type]
            additional_headers=credentials,
        ) as connection:
            await connection.recv()
            await in_thread(act)
            with pytest.raises(ConnectionClosed) as ended:
                while True:
                    await asyncio.wait_for(connection.recv(), 5)
            assert ended.value.rcvd is not None and ended.value.rcvd.code == 4401

    session = {"Cookie": f"sessionid={browsers[0].cookies['sessionid'].value}"}
    asyncio.run(cut(session, lambda: browsers[1].post(closed)))
    withdrawn = f"/account/consents/{made.consent.id}"
    key = {"Authorization": f"Bearer {made.token}"}
    asyncio.run(cut(key, lambda: browsers[1].post(withdrawn, {"decision": "withdraw"})))
