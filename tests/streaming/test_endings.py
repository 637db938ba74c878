"""Whoever lost what a socket was opened with hears nothing more at once: nobody waits for heartbeats, which are 15 s apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.test import Client as Browser
from django.utils import timezone
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from market.households import consents, devices, endings, erasure, queries, renewal, sessions
from market.households import operations as households
from market.households.identities import CACHE
from market.households.models import ApiKey, Ending, Role, User
from market.streaming import access
from tests.streaming.client import HeldWire
from tests.streaming.stage import ALICE, BOB, Market, play
from tests.streaming.test_market import NOW, City, city, in_thread, person

__all__ = ["city"]

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE_S = 5.0  # on a busy machine; the next look would be a minute away


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    """Numbers of rows begin anew with each test: one of another process must not look like one of ours from before."""
    endings._told.clear()


def now() -> datetime:
    return datetime.now(UTC)


def household(name: str = "leaver") -> User:
    return User.objects.create(username=name, role=Role.HOUSEHOLD)


def key_of(user: User) -> str:
    return households.issue_key(user=user, name="bot", scopes={"read"}, now=now()).token


async def code_after(city: City, token: str, act: Callable[[], Any] = lambda: None, limit_s: float = AT_ONCE_S) -> int:
    """Open a socket with a key, do something, and return the code it is closed with."""
    async with city.connect(token) as connection:
        await connection.recv()
        await in_thread(act)
        with pytest.raises(ConnectionClosed) as ended:
            while True:
                await asyncio.wait_for(connection.recv(), limit_s)
    assert ended.value.rcvd is not None
    return int(ended.value.rcvd.code)


def erased(user: User) -> None:
    erasure.erase(user=user)


def disabled(user: User) -> None:
    households.deactivate(user=user, now=now())


def revoked(user: User) -> None:
    assert households.revoke_key(user=user, key_id=ApiKey.objects.get(user=user).pk, now=now())


@pytest.mark.parametrize("act", [erased, disabled, revoked])
def test_a_key_that_ends_closes_its_sockets(city: City, act: Callable[[User], None]) -> None:
    user = household()
    other = person(city.market, city.market.bob)[1]

    token = key_of(user)

    async def scene() -> None:
        async with city.connect(other) as beside:
            await beside.recv()
            assert await code_after(city, token, lambda: act(user)) == 4401
            await beside.ping()
            assert beside.close_code is None, "nobody else's"

    asyncio.run(scene())


def test_who_has_another_account_comes_back_for_its_streams(city: City) -> None:
    user, token = person(city.market, city.market.bob)
    old = city.market.bob
    act = lambda: renewal.renew_account(city.market.exchange, user=user, now=NOW + timedelta(days=400))  # noqa: E731
    assert asyncio.run(code_after(city, token, act)) == 1012
    new = queries.account_of(user)
    assert new is not None and new.index != old
    identity = queries.identify_key(token)
    assert identity is not None and identity.account_index == new.index
    act = lambda: households.close_account(city.market.exchange, account_index=new.index, now=now())  # noqa: E731
    assert asyncio.run(code_after(city, token, act)) == 1012


def test_a_consent_that_ends_with_an_office_or_by_itself_closes_its_sockets(city: City) -> None:
    user = household()
    made = consents.grant(user=user, party="P", scopes={"read"}, expires_at=now() + timedelta(days=2), now=now())
    act = lambda: households.set_role(user=user, role=Role.REGULATOR, now=now())  # noqa: E731
    assert asyncio.run(code_after(city, made.token, act)) == 4401

    user = household("timed")
    made = consents.grant(user=user, party="P", scopes={"read"}, expires_at=now() + timedelta(days=2), now=now())
    end = now() + timedelta(seconds=2)
    act = lambda: consents.extend(user=user, consent_id=made.consent.id, expires_at=end, now=now())  # noqa: E731
    assert asyncio.run(code_after(city, made.token, act)) == 4401
    assert now() >= end, "not before"
    assert queries.identify_key(made.token) is None

    end = now() + timedelta(seconds=2)
    made = consents.grant(user=user, party="Q", scopes={"read"}, expires_at=end, now=now())
    assert asyncio.run(code_after(city, made.token)) == 4401
    assert now() >= end


def test_a_devices_key_closes_with_the_device(city: City) -> None:
    user, _ = person(city.market, city.market.bob)
    made = devices.register(
        user=user, kind="meter", name="cellar", rating_w=9_000, register_digits=6, now=now(), now_ms=1
    )
    name = made.device.device_id
    changed = devices.rekey(user=user, device_id=name, now=now()).token
    act = lambda: devices.rekey(user=user, device_id=name, now=now())  # noqa: E731
    assert asyncio.run(code_after(city, changed, act)) == 4401
    changed = devices.rekey(user=user, device_id=name, now=now()).token
    act = lambda: devices.revoke(user=user, device_id=name, now=now(), now_ms=2)  # noqa: E731
    assert asyncio.run(code_after(city, changed, act)) == 4401


def test_sessions_that_end_close_their_sockets(city: City) -> None:
    user = household("many")
    browsers = [Browser(SERVER_NAME="127.0.0.1") for _ in range(3)]
    for browser in browsers:
        browser.force_login(user)
        assert browser.get("/account/security").status_code == 200
    keys = [browser.cookies["sessionid"].value for browser in browsers]

    async def cut(session: str, act: Callable[[], Any]) -> int:
        async with connect(
            f"ws://127.0.0.1:{city.port}/ws/v1/",
            subprotocols=["market.v1"],  # type: ignore[list-item]
            origin=f"http://127.0.0.1:{city.port}",  # type: ignore[arg-type]
            additional_headers={"Cookie": f"sessionid={session}"},
        ) as connection:
            await connection.recv()
            await in_thread(act)
            with pytest.raises(ConnectionClosed) as ended:
                while True:
                    await asyncio.wait_for(connection.recv(), AT_ONCE_S)
        assert ended.value.rcvd is not None
        return int(ended.value.rcvd.code)

    assert asyncio.run(cut(keys[0], lambda: browsers[0].post("/sign-out"))) == 4401
    assert asyncio.run(cut(keys[1], lambda: sessions.end_others(user=user, session_key=keys[2]))) == 4401
    assert SessionStore(keys[2]).exists(keys[2])
    assert asyncio.run(cut(keys[2], lambda: households.deactivate(user=user, now=now()))) == 4401


def test_what_another_process_ends_closes_sockets_here(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "LOOK_EVERY_S", 0.05)
    user = household()
    token = key_of(user)
    ending = Ending.objects.create(user=user.pk, at=now())
    watch = endings.Watch()
    watch.start()

    def elsewhere() -> None:
        """Do what another process does: this one is told of it by the database alone."""
        assert queries.identify_key(token) is not None, "remembered here"
        ApiKey.objects.filter(user=user).update(revoked_at=now())
        Ending.objects.create(user=user.pk, at=now())

    try:
        assert asyncio.run(code_after(city, token, elsewhere)) == 4401
    finally:
        watch.stop()
    assert queries.identify_key(token) is None
    assert Ending.objects.filter(pk=ending.pk).exists()


def test_a_row_that_commits_late_is_seen_and_old_ones_go() -> None:
    heard: list[int] = []
    watch = endings.Watch()
    endings.listen(heard.append)
    try:
        watch.look()
        heard.clear()
        Ending.objects.create(pk=90, user=2, at=now())
        watch.look()
        Ending.objects.create(pk=80, user=1, at=now() - timedelta(seconds=20))  # made before, committed after
        watch.look()
        watch.look()
        assert heard == [2, 1], "each once"
        Ending.objects.create(pk=95, user=3, at=now() - timedelta(hours=2))
        endings.ended(4)
        watch.look()
        assert heard == [2, 1, 4], "what was noted here is told once"
        endings.Watch().look()
        assert not Ending.objects.filter(user=3).exists() and Ending.objects.filter(user=4).exists()
    finally:
        endings.unlisten(heard.append)


@pytest.mark.parametrize("behind", [timedelta(minutes=5), timedelta(minutes=-5)])
def test_processes_whose_clocks_differ_hear_each_other(monkeypatch: pytest.MonkeyPatch, behind: timedelta) -> None:
    heard: list[int] = []
    watch = endings.Watch()
    endings.listen(heard.append)
    real = timezone.now
    try:
        watch.look()
        monkeypatch.setattr(timezone, "now", lambda: real() - behind)
        endings.ended(6)
        monkeypatch.setattr(timezone, "now", real)
        endings._told.clear()  # as if another process had noted it
        heard.clear()
        watch.look()
        watch.look()
        assert heard == [6]
        Ending.objects.update(at=real() - timedelta(minutes=2))
        assert watch._rows() == {}, "and no longer than need be"
    finally:
        endings.unlisten(heard.append)


def test_nobody_is_told_of_what_was_rolled_back() -> None:
    heard: list[int] = []
    endings.listen(heard.append)
    try:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            endings.ended(5)
            assert heard == [], "not before it holds"
            raise ZeroDivisionError
        assert heard == [] and not Ending.objects.filter(user=5).exists()
    finally:
        endings.unlisten(heard.append)


def test_what_ends_during_the_handshake_closes_the_socket(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    user = household()
    token = key_of(user)
    real, first = access.viewer_of, [True]

    async def slow(credentials: access.Credentials) -> access.Viewer | None:
        viewer = await real(credentials)
        if first:
            first.clear()
            await in_thread(lambda: households.deactivate(user=user, now=now()))
        return viewer

    monkeypatch.setattr(access, "viewer_of", slow)
    assert asyncio.run(code_after(city, token)) == 4401


def test_who_lost_something_is_looked_at_before_those_that_are_only_due(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(market: Market) -> None:
        order: list[str] = []

        async def identify(credentials: access.Credentials) -> access.Viewer | None:
            order.append(credentials.secret)
            if credentials.secret == "a3":
                raise OSError("the database is away")
            return {"a": ALICE}.get(credentials.secret[0])

        market.hub.delivery.identify = identify
        wires = {}
        for name, viewer in [*((f"a{n}", ALICE) for n in range(5)), ("b", BOB)]:
            wires[name] = HeldWire()
            market.hub.open(wires[name], viewer, access.Credentials("key", name))
        due = [socket for socket in market.hub.delivery.sockets if socket.viewer == ALICE]
        market.hub.delivery._rechecks.extend(due)
        market.hub.delivery.recheck(int(BOB.user_id or 0))
        assert market.hub.delivery._rechecking is not None
        await market.hub.delivery._rechecking
        assert order == ["b", "a0", "a1", "a2", "a3", "a4"], "and one that cannot be looked at stops nobody"
        assert wires["b"].closed == (4401, "signed_out") and wires["a3"].closed is None

    play(scene)


def test_an_end_far_away_keeps_no_timer() -> None:
    async def scene(market: Market) -> None:
        timers: list[float] = []
        loop = market.hub.loop
        real = loop.call_later
        market.hub.delivery.loop.call_later = lambda delay, *a, **k: timers.append(delay) or real(delay, *a, **k)  # type: ignore[method-assign]
        try:
            for left_s in (3_600.0, 1.0):
                viewer = ALICE._replace(until_s=time.time() + left_s)
                market.hub.open(HeldWire(), viewer, access.Credentials("key", "a"))
            assert len([delay for delay in timers if 0.9 < delay < 2]) == 1 and max(timers) < 60
        finally:
            market.hub.delivery.loop.call_later = real  # type: ignore[method-assign]

    play(scene)


def test_a_remembered_key_is_forgotten_with_its_person() -> None:
    user = household("cached")
    token = key_of(user)
    assert queries.identify_key(token) is not None and CACHE.get(ApiKey.objects.get(user=user).digest)[0]
    endings.ended(user.pk)
    assert not CACHE.get(ApiKey.objects.get(user=user).digest)[0]
