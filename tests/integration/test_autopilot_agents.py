"""Autopilots at work: orders within the limits, in force at once whatever happens in between, for homes of any market."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from market.agents import members as members_module
from market.agents import operations, queries
from market.agents.members import Members
from market.agents.models import Autopilot, PlacedOrder
from market.agents.strategies.limits import Limits
from market.engine.commands import GOOD_TILL_GATE, SELL, PlaceOrder
from market.exchange import operations as exchange_operations
from market.exchange.models import Order, OrderChange, Refusal
from market.households import erasure, renewal
from market.households import operations as households
from market.households.models import Account
from market.metering.models import Reading
from tests.factories import DEPOSIT_E7, Clock, Market, running_market
from tests.integration.test_demo_market import stepped

pytestmark = pytest.mark.django_db(transaction=True)

QUARTER_MS = 15 * 60_000


def mine(account: int) -> Iterable[Order]:
    return Order.objects.filter(account=account).order_by("id")


def open_orders(market: Any, account: int) -> set[int]:
    return market.exchange.read(lambda engine: set(engine.accounts[account].open_ids))


def test_a_home_of_the_demo_keeps_to_its_limits(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        mia = Account.objects.get(user__username="mia")
        sell_from = 1_800
        operations.change(market.exchange, account=mia.index, on=True, limits=Limits(sell_from_e4=sell_from))
        market.run(1.5)
        sold = [order.price_e4 for order in mine(mia.index) if order.side == SELL]
        assert sold and min(sold) >= sell_from
        assert set(PlacedOrder.objects.filter(account=mia.index).values_list("order", flat=True)) == {
            order.id for order in mine(mia.index)
        }
        # Agents' homes that nobody has taken are not noted: there is nobody to tell.
        assert not PlacedOrder.objects.exclude(account=mia.index).exists()

        # Other limits: what breaks them goes at once, and nothing new ever breaks them.
        market.catch_up()
        waiting = open_orders(market, mia.index)
        book = market.exchange.read(lambda engine: [engine.orders[order] for order in waiting])
        breaking = {order.id for order in book if order.side == SELL and order.price_e4 < 2_400}
        changed = operations.change(market.exchange, account=mia.index, limits=Limits(sell_from_e4=2_400))
        assert breaking and changed.cancelled == len(breaking)
        assert open_orders(market, mia.index) == waiting - breaking
        last = max(order.id for order in mine(mia.index))
        market.run(1.5)
        later = [order.price_e4 for order in mine(mia.index) if order.id > last and order.side == SELL]
        assert later and min(later) >= 2_400
        sales = [order.id for order in mine(mia.index) if order.side == SELL]
        amended = OrderChange.objects.filter(order__in=sales, kind="amend", seq__gt=last)
        assert all(price_e4 >= 2_400 for price_e4 in amended.values_list("price_e4", flat=True))

        done = queries.done(mia.index, start_ms=0, end_ms=market.clock.now_ms())
        assert done.orders == len(list(mine(mia.index)))
        assert operations.change(market.exchange, account=mia.index, on=False).settings.on is False
        assert not open_orders(market, mia.index)
        market.run(0.5)
        assert not open_orders(market, mia.index)
        assert not Refusal.objects.filter(account=mia.index, code="unknown_order").exists(), (
            "nothing is cancelled twice"
        )


def test_what_was_switched_off_while_nothing_ran_goes_at_the_start(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        mia = Account.objects.get(user__username="mia")
        operations.change(market.exchange, account=mia.index, on=True)
        market.run(1.2)
        at_ms = market.clock.now_ms()
        assert open_orders(market, mia.index)
        contract = next(name for name, state in sorted(market.states().items(), reverse=True) if state == "open")
        own = market.exchange.call(_order(mia.index, contract)).events[0].seq
    operations.change(None, account=mia.index, on=False)
    with stepped(tmp_path, type(market.clock)(at_ms)) as market:
        assert open_orders(market, mia.index) == {own}, "what she placed herself stays"
    operations.change(None, account=mia.index, on=True)
    with stepped(tmp_path, type(market.clock)(at_ms)) as market:
        market.run(0.5)
        assert own in open_orders(market, mia.index), "and is not taken for the autopilot's"


def _order(account: int, contract: str) -> PlaceOrder:
    return PlaceOrder(account, contract, SELL, 2_900, 100, GOOD_TILL_GATE, 0)


# --- a market of real homes ------------------------------------------------------------------------------------------
def member(market: Market, name: str, *, on: bool = True) -> int:
    """Open a person's account, without anything that a simulator knows of."""
    user = households.create_person(username=name, password=None)
    account = households.open_account(
        market.exchange, now=datetime.fromtimestamp(market.clock.at_ms / 1000, UTC), user=user, area="LV1.1"
    ).index
    exchange_operations.fund(market.exchange, account=account, amount_e7=DEPOSIT_E7)
    households.set_automatic(account_index=account, automatic=on)
    return account


def meter(market: Market, account: int, *, import_wh: int, export_wh: int, days: float = 2) -> None:
    """Let a meter have reported the same for days."""
    current = market.clock.at_ms // QUARTER_MS * QUARTER_MS
    Reading.objects.bulk_create(
        Reading(
            start_ms=current - n * QUARTER_MS, account=account, version=0, area="LV1.1", import_wh=import_wh,
            export_wh=export_wh, quality="measured", received_ms=current, seq=0, n=0,
        )
        for n in range(1, int(days * 96) + 1)
    )  # fmt: skip


def run(market: Market, members: Members, minutes: int) -> None:
    for _ in range(minutes):
        members.step(market.clock.at_ms)
        market.clock.advance(minutes=1)


def test_members_trade_by_what_their_own_meters_say() -> None:
    with running_market(Clock("2026-06-06T10:00:00Z")) as market:
        seller, buyer, idle, new = (member(market, name, on=name != "idle") for name in ("ada", "ben", "idle", "new"))
        meter(market, seller, import_wh=0, export_wh=500)
        meter(market, buyer, import_wh=400, export_wh=0)
        meter(market, idle, import_wh=400, export_wh=0)
        meter(market, new, import_wh=400, export_wh=0, days=0.5)
        operations.change(market.exchange, account=seller, limits=Limits(sell_from_e4=2_000))
        operations.change(market.exchange, account=buyer, limits=Limits(buy_to_e4=2_500))
        members = Members(market.exchange)
        members.move_in()
        run(market, members, 45)
        sold, bought = list(mine(seller)), list(mine(buyer))
        assert {order.side for order in sold} == {"sell"} and {order.side for order in bought} == {"buy"}
        assert min(order.price_e4 for order in sold) >= 2_000
        assert max(order.price_e4 for order in bought) <= 2_500
        assert max(order.energy_wh for order in sold) <= 550
        done = queries.done(seller, start_ms=0, end_ms=market.clock.at_ms)
        assert done.orders == len(sold)
        assert not mine(idle), "off"
        assert not mine(new), "too little to go by"
        assert members_module.waits_for(market.exchange, seller, market.clock.at_ms) == ("", 0)
        assert members_module.waits_for(market.exchange, new, market.clock.at_ms) == ("readings", 48)
        # Switched off, then on again in the middle of it all.
        assert operations.change(market.exchange, account=seller, on=False).settings.on is False
        assert not open_orders(market, seller)
        before = len(list(mine(seller)))
        run(market, members, 16)
        assert len(list(mine(seller))) == before
        operations.change(market.exchange, account=seller, on=True)
        run(market, members, 16)
        assert len(list(mine(seller))) > before


def test_an_empty_purse_is_not_asked_for_more() -> None:
    with running_market(Clock("2026-06-06T10:00:00Z")) as market:
        ben = member(market, "ben")
        meter(market, ben, import_wh=400, export_wh=0)
        exchange_operations.fund(market.exchange, account=ben, amount_e7=300_000 - DEPOSIT_E7, reason="withdrawal")
        members = Members(market.exchange)
        members.move_in()
        run(market, members, 90)
        assert mine(ben) and max(order.energy_wh for order in mine(ben)) < 400
        assert not Refusal.objects.filter(account=ben).exists()


def test_a_member_s_orders_are_found_again_after_a_restart(tmp_path: Path) -> None:
    clock = Clock("2026-06-06T10:00:00Z")
    with running_market(clock, folder=tmp_path) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = Members(market.exchange)
        members.move_in()
        run(market, members, 20)
        own = market.place(ada, SELL, "0.3900", 50, contract=market.contract(5)).events[0].seq
        waiting = open_orders(market, ada)
        assert len(waiting) > 1
    with running_market(clock, folder=tmp_path, cast=False) as market:
        members = Members(market.exchange)
        members.move_in()
        run(market, members, 20)  # until the interval of her own order comes nearer, too
        orders = market.exchange.read(
            lambda engine: [(engine.orders[o].contract, o) for o in engine.accounts[ada].open_ids]
        )
        theirs = [contract for contract, order in orders if order != own]
        assert len(theirs) == len(set(theirs)), "one order a contract, not another beside the old one"
        assert own in open_orders(market, ada)
        assert not OrderChange.objects.filter(order=own).exists(), "nor is hers taken for one of its own"


def test_a_change_in_the_middle_of_a_look_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are in the book and nobody has noted yet whose they are: then the autopilot is switched off."""
    with running_market(Clock("2026-06-06T10:00:00Z")) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = Members(market.exchange)
        members.move_in()
        note, switched = operations.note, []

        def late(placed: Iterable[operations.Placed]) -> None:
            switched.append(operations.change(market.exchange, account=ada, on=False))
            assert open_orders(market, ada), "placed, and not noted"
            note(placed)

        monkeypatch.setattr(operations, "note", late)
        while not switched:
            run(market, members, 1)
        assert switched[0].cancelled == 0
        assert market.clock.at_ms == Clock("2026-06-06T10:01:00Z").at_ms, (
            "who joins does not wait for the home's moment"
        )
        assert list(mine(ada)) and not open_orders(market, ada)


def test_limits_are_a_person_s_and_go_with_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new account number goes on within the same limits; who is erased leaves neither limits nor notes."""
    with running_market(Clock("2026-06-06T10:00:00Z")) as market:
        ada = member(market, "ada")
        user = Account.objects.select_related("user").get(index=ada).user
        assert user is not None
        limits = Limits(sell_from_e4=2_000, buy_to_e4=2_500)
        operations.change(market.exchange, account=ada, limits=limits)
        operations.note([operations.Placed(n, ada, market.contract(), market.clock.at_ms) for n in (1, 2)])
        now = datetime.fromtimestamp(market.clock.at_ms / 1000, UTC) + timedelta(days=60)
        new = renewal.renew_account(market.exchange, user=user, now=now)
        assert new.index != ada
        assert queries.limits_of([ada, new.index]) == {new.index: limits}
        monkeypatch.setattr(erasure, "check_ready", lambda user: None)  # what keeps from it is told elsewhere
        erasure.erase(user=user)
        assert not Autopilot.objects.exists() and not PlacedOrder.objects.exists()


def test_the_server_runs_them() -> None:
    text = (Path(members_module.__file__).parents[1] / "config/management/commands/serve.py").read_text()
    assert re.search(r"services=\[.*MembersService\(\)", text, re.DOTALL)
