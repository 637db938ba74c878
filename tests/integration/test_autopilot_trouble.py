"""Autopilots when something is not as usual: no readings, a new number, no time, a busy member, refusals, a shut-out person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from market.agents import members as members_module
from market.agents import operations, queries
from market.agents.ahead import Calendar, Sun
from market.agents.backoff import PATIENCE, Look
from market.agents.forecast import Forecaster
from market.agents.members import SILENT_MS, Members, Waits, waits_for
from market.agents.models import PlacedOrder
from market.agents.pastweek import Ring, Week
from market.agents.runner import Runner
from market.agents.strategies.limits import Limits
from market.agents.turns import AgentHome
from market.engine.commands import BUY, SELL, CancelOrder, Fund
from market.exchange import keyed
from market.exchange import operations as exchange_operations
from market.exchange.models import IdempotencyKey, OrderChange, Refusal
from market.exchange.outcomes import Overloaded
from market.households import operations as households
from market.households import renewal
from market.households.models import Account, Role
from market.metering.models import Reading
from tests.factories import PARAMS, Clock, Market, found, running_exchange, running_market
from tests.integration.test_autopilot_agents import QUARTER_MS, member, meter, mine, open_orders, run
from tests.integration.test_autopilot_members import NOON, arrived, open_wh
from tests.integration.witness_http import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def refused(members: Members, account: int, market: Market) -> None:
    """Let a home's present settings have been refused in a look."""
    revision = queries.settings_of(account).revision
    members.runner._backoff.refused(account, market.clock.at_ms // QUARTER_MS, revision)


def user_of(account: int) -> Any:
    return Account.objects.select_related("user").get(index=account).user


# --- what it goes by -------------------------------------------------------------------------------------------------
def test_a_new_number_goes_on_with_what_the_meter_said_under_the_old_one() -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = arrived(market)
        now = datetime.fromtimestamp(market.clock.at_ms / 1000, UTC) + timedelta(days=60)
        new = renewal.renew_account(market.exchange, user=user_of(ada), now=now).index
        other = member(market, "eve")  # somebody else's new account learns nothing from it
        assert waits_for(market.exchange, new, market.clock.at_ms) == Waits()
        assert waits_for(market.exchange, other, market.clock.at_ms).code == "readings"
        run(market, members, 1)
        assert {order.side for order in mine(new)} == {SELL} and not mine(other)
        assert max(order.energy_wh for order in mine(new)) <= 500


def test_another_connection_s_readings_are_nobody_s_forecast() -> None:
    """Who has moved begins anew: what the former home made and used says nothing of the new one."""
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        user = user_of(ada)
        now = datetime.fromtimestamp(market.clock.at_ms / 1000, UTC)
        households.close_account(market.exchange, account_index=ada, now=now)
        moved = households.open_account(
            market.exchange, now=now, user=user, area="LV1.1", address="x", meter_number="77"
        ).index
        assert waits_for(market.exchange, moved, market.clock.at_ms) == Waits("readings", 96)


def test_a_silent_meter_stops_it_and_the_next_reading_starts_it_again() -> None:
    with running_exchange(Clock(NOON)) as (exchange, clock):
        found(exchange, params=PARAMS._replace(horizon_min=60 * 24))
        market = Market(exchange, clock)
        ada = member(market, "ada")
        own = market.place(ada, SELL, "0.3900", 50, contract=market.contract(90)).events[0].seq
        meter(market, ada, import_wh=0, export_wh=500, days=5)
        newest_ms = market.clock.at_ms - QUARTER_MS
        Reading.objects.filter(account=ada, start_ms__gt=newest_ms - SILENT_MS + QUARTER_MS).delete()
        members = arrived(market)
        run(market, members, 1)
        assert open_orders(market, ada) - {own}, "silent, but not for too long yet"
        assert waits_for(market.exchange, ada, market.clock.at_ms) == Waits()
        run(market, members, 31)
        assert waits_for(market.exchange, ada, market.clock.at_ms) == Waits("meter")
        run(market, members, 15)
        assert open_orders(market, ada) == {own}, "its orders are taken back, not those she placed"
        meter(market, ada, import_wh=0, export_wh=500, days=1 / 96)
        assert waits_for(market.exchange, ada, market.clock.at_ms) == Waits()
        run(market, members, 30)  # its next turn
        assert open_orders(market, ada) - {own}


# --- everybody's turn ------------------------------------------------------------------------------------------------
def test_all_have_their_turn_where_there_is_time_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither memory nor time leaves anybody out; what there was no time for is reported."""
    with running_market(Clock(NOON)) as market:
        accounts = [member(market, f"ada-{n}") for n in range(12)]
        for account in accounts:
            meter(market, account, import_wh=0, export_wh=500)
        monkeypatch.setattr(members_module, "BUSY_S", 0.0)
        monkeypatch.setattr(members_module, "KEPT_RINGS", 3)
        members = arrived(market)
        monkeypatch.setattr(members.runner, "_size", 2)
        for _ in range(6):  # four places an interval for twelve homes
            market.clock.advance(minutes=7.5)
            members.step(market.clock.at_ms)
        assert {order.account for account in accounts for order in mine(account)} == set(accounts)
        assert members.report.homes == 12 and members.report.missed >= 8
        assert 0 < members.report.longest_s <= members.report.busy_s
        monkeypatch.setattr(members_module, "BUSY_S", 60.0)
        market.clock.advance(minutes=15)
        run(market, members, 31)
        assert members.report.missed == 0


def test_one_home_that_cannot_be_understood_keeps_nobody_else_from_trading(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_market(Clock(NOON)) as market:
        ada, eve, bad = (member(market, name) for name in ("ada", "eve", "bad"))
        for account in (ada, eve, bad):
            meter(market, account, import_wh=0, export_wh=501 if account == bad else 500)
        members, week = arrived(market), Ring.week

        def reading(ring: Ring, fewest: int) -> Week | None:
            found = week(ring, fewest)
            if found is not None and 501 in found.given_wh:
                raise ArithmeticError("what is this?")
            return found

        monkeypatch.setattr(Ring, "week", reading)
        run(market, members, 2)
        before = mine(ada).count(), mine(eve).count()
        run(market, members, 30)
        assert (mine(ada).count(), mine(eve).count()) > before > (0, 0) and not mine(bad)


def test_one_home_that_cannot_make_way_keeps_nobody_else_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_market(Clock(NOON)) as market:
        ada, bad = member(market, "ada"), member(market, "bad")
        for account in (ada, bad):
            meter(market, account, import_wh=0, export_wh=500)
            operations.change(market.exchange, account=account, limits=Limits(sell_from_e4=3_500))
        contract, members = market.contract(4), arrived(market)
        run(market, members, 15)
        decide = Runner._decide

        def deciding(runner: Runner, home: AgentHome, *about: Any) -> Any:
            if home.account == bad:
                raise ArithmeticError("what is this?")
            return decide(runner, home, *about)

        monkeypatch.setattr(Runner, "_decide", deciding)
        for account in (ada, bad):
            market.place(account, SELL, "0.3900", 400, contract=contract)
        before = mine(ada).count()
        run(market, members, 30)
        assert open_wh(market, ada, contract, SELL) <= 500
        assert mine(ada).count() > before, "and she goes on"
        assert not members.runner._heard


def test_the_service_lets_them_trade_and_reports() -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        service = members_module.MembersService(every_s=0.02)
        assert members_module.report() is None
        service.start()
        try:
            wait_for(lambda: mine(ada).exists())
            market.clock.advance(minutes=15)
            wait_for(lambda: (found := members_module.report()) and found.homes == 1)
        finally:
            service.stop()
        assert members_module.report() is None


# --- beside the member ------------------------------------------------------------------------------------------------
def test_it_makes_way_at_once_for_what_its_member_does_by_hand() -> None:
    """Between two looks at a contract may lie hours: an order of one's own is not beside the autopilot's for so long."""
    with running_market(Clock(NOON)) as market:
        ada, eve = member(market, "ada"), member(market, "eve")
        for account in (ada, eve):
            meter(market, account, import_wh=0, export_wh=500)
            operations.change(market.exchange, account=account, limits=Limits(sell_from_e4=3_500))
        contract = market.contract(4)
        members = arrived(market)
        run(market, members, 15)
        offered = {account: open_wh(market, account, contract, SELL) for account in (ada, eve)}
        assert all(100 < energy_wh < 500 for energy_wh in offered.values())
        for _ in range(PATIENCE):  # even where it waits after refusals
            refused(members, eve, market)
        assert members.runner.held_back(eve, market.clock.at_ms)
        market.place(ada, SELL, "0.3900", 400, contract=contract)
        bid = market.place(eve, BUY, "0.1000", 100, contract=contract).events[0].seq
        run(market, members, 1)
        assert open_wh(market, ada, contract, SELL) <= 500, "not offered twice"
        assert open_wh(market, ada, contract, SELL) >= 400, "her own stays"
        assert open_wh(market, eve, contract, SELL) == 0, "never against its own member"
        assert bid in open_orders(market, eve)
        elsewhere = market.contract(2)
        assert open_wh(market, ada, elsewhere, SELL), "and only there"


def test_what_is_taken_while_it_looks_is_not_offered_again() -> None:
    """The member's own order is taken between two reads of the market, had a look more than one."""
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        contract = market.contract(4)
        market.place(ada, SELL, "0.3900", 500, contract=contract)
        members = arrived(market)
        read, taken = market.exchange.read, []

        def reading(look: Callable[[Any], Any]) -> Any:
            seen = read(look)
            if not taken and getattr(look, "__name__", "") == "look":
                taken.append(market.place(market.bob, BUY, "0.3900", 500, contract=contract))
            return seen

        market.exchange.read = reading  # type: ignore[method-assign]
        for _ in range(59):
            run(market, members, 1)
            assert promised_wh(market, ada, contract) == 500
        assert taken and taken[0].events
        assert mine(ada).exclude(contract=contract).exists()


def promised_wh(market: Market, account: int, contract: str) -> int:
    """Return what an account has sold in a contract and still offers there."""
    tally = market.exchange.read(lambda engine: engine.contracts[contract].tallies.get(account))
    return open_wh(market, account, contract, SELL) + (0 if tally is None else tally.sold_wh)


# --- who may not any more ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["deactivated", "in office", "closed"])
def test_who_left_has_no_autopilot(how: str) -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = arrived(market)
        run(market, members, 2)
        assert open_orders(market, ada)
        now = datetime.fromtimestamp(market.clock.at_ms / 1000, UTC)
        if how == "deactivated":
            households.deactivate(user=user_of(ada), now=now)
        elif how == "in office":
            households.set_role(user=user_of(ada), role=Role.STAFF, now=now)
        else:
            households.close_account(market.exchange, account_index=ada, now=now)
        before = mine(ada).count()
        run(market, members, 31)
        assert mine(ada).count() == before and not open_orders(market, ada)
        assert not Refusal.objects.filter(account=ada).exclude(code="unknown_order").exists()


# --- a market that does not go along -----------------------------------------------------------------------------------
def test_who_is_refused_again_and_again_asks_less_often() -> None:
    with running_exchange(Clock(NOON)) as (exchange, clock):
        found(exchange, params=PARAMS._replace(max_open_orders=1))
        market = Market(exchange, clock)
        ada, eve = member(market, "ada"), member(market, "eve")
        for account in (ada, eve):
            meter(market, account, import_wh=0, export_wh=500)
        market.place(ada, SELL, "0.3900", 50, contract=market.contract(7))  # all that she may have open
        members = arrived(market)
        for _ in range(24):  # six hours
            members.step(market.clock.at_ms)
            market.clock.advance(minutes=14)
            members.step(market.clock.at_ms)
            market.clock.advance(minutes=1)
            for account in (ada, eve):
                meter(market, account, import_wh=0, export_wh=500, days=1 / 96)
            own = market.exchange.read(lambda engine: len(engine.accounts[ada].open_ids))
            if not own:
                market.place(ada, SELL, "0.3900", 50, contract=market.contract(7))
        at = set(Refusal.objects.filter(account=ada, code="too_many_orders").values_list("at_ms", flat=True))
        assert 3 <= len({at_ms // QUARTER_MS for at_ms in at}) <= 10, "not in each of 24 intervals"


@pytest.mark.parametrize("what", ["a limit", "the switch", "money"])
def test_who_waits_after_refusals_says_so_and_asks_again_when_something_changed(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = arrived(market)
        monkeypatch.setattr(members_module, "_running", [members])
        assert waits_for(market.exchange, ada, market.clock.at_ms) == Waits()
        money_e7 = market.exchange.read(lambda engine: engine.accounts[ada].net_e7)
        look = Look(market.clock.at_ms // QUARTER_MS, {ada: queries.settings_of(ada).revision})
        look.take(ada, "insufficient_funds")
        for _ in range(PATIENCE):
            members.runner._backoff.count(look, {ada: money_e7})
        run(market, members, 1)
        assert waits_for(market.exchange, ada, market.clock.at_ms) == Waits("refused")
        assert not mine(ada)
        if what == "a limit":
            operations.change(market.exchange, account=ada, limits=Limits(sell_from_e4=2_000))
        elif what == "the switch":
            operations.change(market.exchange, account=ada, on=False)
            operations.change(market.exchange, account=ada, on=True)
        else:
            market.exchange.call(Fund(ada, 10_000_000, "deposit", ""))
        assert waits_for(market.exchange, ada, market.clock.at_ms) == Waits()
        run(market, members, 30)  # its next turn
        assert mine(ada)


def test_a_look_that_is_sent_in_parts_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part in which nothing was refused does not take back what another one counted; nor does what is let go."""
    with running_exchange(Clock(NOON)) as (exchange, clock):
        found(exchange, params=PARAMS._replace(max_open_orders=1))
        market = Market(exchange, clock)
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = arrived(market)
        monkeypatch.setattr("market.agents.runner.MAX_COMMANDS", 1)
        members.step(market.clock.at_ms)  # one order is taken, all others are refused, the last one of them, too
        assert members.runner.refused["too_many_orders"] > 1 and mine(ada).count() == 1
        counted = members.runner._backoff.among([ada])
        assert counted == [ada] and members.runner._backoff._refused[ada].looks == 1
        members.runner._left.append((ada, mine(ada)[0].id))
        members.runner._let_go()
        assert not open_orders(market, ada)
        assert members.runner._backoff.among([ada]) == [ada]
        members.runner.set_homes([])
        assert not len(members.runner._backoff), "who left is forgotten"


def test_a_clock_set_back_doubles_nothing() -> None:
    with running_market(Clock(NOON)) as market:
        ada, members = member(market, "ada"), None
        meter(market, ada, import_wh=0, export_wh=500)
        operations.change(market.exchange, account=ada, limits=Limits(sell_from_e4=3_900))
        members = arrived(market)
        run(market, members, 40)
        for minutes in (-30, 5, 300, -290, 20):
            market.clock.advance(minutes=minutes)
            members.step(market.exchange.now_ms())
            orders = market.exchange.read(
                lambda engine: [engine.orders[order].contract for order in engine.accounts[ada].open_ids]
            )
            assert len(orders) == len(set(orders))
        assert set(PlacedOrder.objects.values_list("order", flat=True)) == set(mine(ada).values_list("id", flat=True))


def test_a_halted_market_is_left_alone() -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        exchange_operations.set_halt(market.exchange, scope="market", target="", on=True, reason="maintenance")
        members = arrived(market)
        assert waits_for(market.exchange, ada, market.clock.at_ms) == Waits("halt")
        run(market, members, 16)
        assert not mine(ada) and not Refusal.objects.exists()
        exchange_operations.set_halt(market.exchange, scope="market", target="", on=False, reason="maintenance")
        run(market, members, 16)
        assert mine(ada)


def test_an_order_of_a_home_that_went_is_taken_back_however_busy_the_market_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of homes that nobody owns nothing is noted: what is forgotten here would stay in the book."""
    with running_market(Clock(NOON)) as market:
        home = AgentHome(market.alice, "LV1.1", 1, ((0, 2_000),), (), None)
        runner = Runner(
            market.exchange,
            forecaster=Forecaster([[1] * 672], 96),
            calendar=Calendar(QUARTER_MS, 1, lambda at_ms: at_ms // QUARTER_MS % 672, lambda at_ms: 12),
            sun=Sun((), 0),
            share_unit=1,
            charge_of=lambda account: 0,
        )
        runner.set_homes([home])
        runner.sweep(market.clock.at_ms)
        assert open_orders(market, market.alice)
        with monkeypatch.context() as patch:
            patch.setattr(market.exchange, "submit_many", _busy)
            with pytest.raises(Overloaded):
                runner.set_homes([])
        runner.tick(market.clock.at_ms)
        assert not open_orders(market, market.alice)


def _busy(commands: object, scope: int | None = None) -> None:
    raise Overloaded(1)


# --- keys --------------------------------------------------------------------------------------------------------------
def test_a_look_that_is_repeated_places_nothing_again() -> None:
    """Even where the orders themselves are gone from memory and book: taken, noted by nobody, and looked at once more."""
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = arrived(market)
        members.step(market.clock.at_ms)
        placed = mine(ada).count()
        assert placed
        for order in mine(ada):
            if order.id in open_orders(market, ada):
                market.exchange.call(CancelOrder(ada, order.id, "owner"))
        arrived(market).step(market.clock.at_ms)
        assert mine(ada).count() == placed
        keys = list(IdempotencyKey.objects.filter(scope=operations.SCOPE).values_list("key", flat=True))
        assert len(keys) == placed and all(key.startswith(f"{ada}/2026-06-06T") for key in keys)
        # Switched off and on again is another matter.
        operations.change(market.exchange, account=ada, on=False)
        operations.change(market.exchange, account=ada, on=True)
        arrived(market).step(market.clock.at_ms)
        assert mine(ada).count() == 2 * placed


def test_lost_notes_are_found_by_their_keys_and_nobody_else_s(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        own = market.place(ada, SELL, "0.3900", 50, contract=market.contract(3), key=f"{ada}/looks/like/one")
        members = arrived(market)
        members.step(market.clock.at_ms)
        noted = set(PlacedOrder.objects.values_list("order", flat=True))
        assert len(noted) >= 4 and own.events[0].seq not in noted
        PlacedOrder.objects.filter(order__in=sorted(noted)[-2:]).delete()
        assert operations.recover_notes(now_ms=market.clock.at_ms) == 2
        PlacedOrder.objects.all().delete()
        assert operations.recover_notes(now_ms=market.clock.at_ms) == len(noted)
        assert set(PlacedOrder.objects.values_list("order", flat=True)) == noted
        assert operations.recover_notes(now_ms=market.clock.at_ms) == 0
        monkeypatch.setattr(keyed, "ROWS_AT_ONCE", 2)
        found = keyed.orders_placed(scope=operations.SCOPE, since_ms=market.clock.at_ms)
        assert [one.order for one in found] == sorted(noted, reverse=True)
        assert not list(keyed.orders_placed(scope=operations.SCOPE, since_ms=market.clock.at_ms + 1))


def test_two_orders_in_one_contract_become_one() -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        operations.change(market.exchange, account=ada, limits=Limits(sell_from_e4=3_000))
        two = [market.place(ada, SELL, "0.3900", 50, contract=market.contract(3)).events[0].seq for _ in range(2)]
        operations.note(operations.Placed(one, ada, market.contract(3), market.clock.at_ms) for one in two)
        arrived(market)
        assert open_orders(market, ada) == {two[1]}
        assert list(OrderChange.objects.filter(kind="cancel").values_list("order", flat=True)) == [two[0]]
        assert [one.order for one in queries.open_orders(market.exchange)] == [two[1]]
