"""Autopilots beside the members themselves: nothing is promised twice, nothing is risked, and no promise is forgotten."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from market.agents import members as members_module
from market.agents import operations, queries
from market.agents.members import Members
from market.agents.models import PlacedOrder
from market.agents.pastweek import Ring
from market.agents.strategies.limits import Limits
from market.engine.commands import BUY, SELL
from market.exchange import operations as exchange_operations
from market.exchange.models import OrderChange, Refusal
from market.exchange.outcomes import Overloaded
from tests.factories import PARAMS, Clock, Market, found, running_exchange, running_market
from tests.integration.test_autopilot_agents import member, meter, mine, open_orders, run

pytestmark = pytest.mark.django_db(transaction=True)

NOON = "2026-06-06T10:00:00Z"


def arrived(market: Market) -> Members:
    members = Members(market.exchange)
    members.move_in()
    return members


def open_wh(market: Market, account: int, contract: str, side: str) -> int:
    """Return what an account's open orders in a contract still want."""

    def look(engine: Any) -> int:
        found = (engine.orders[order] for order in engine.accounts[account].open_ids)
        return sum(order.left_wh for order in found if (order.contract, order.side) == (contract, side))

    return market.exchange.read(look)


# --- beside one's own orders -----------------------------------------------------------------------------------------
def test_what_a_member_offers_by_hand_is_not_offered_twice() -> None:
    with running_market(Clock(NOON)) as market:
        ada, eve = member(market, "ada"), member(market, "eve")
        for account in (ada, eve):
            meter(market, account, import_wh=0, export_wh=500)
        contract = market.contract(4)
        market.place(ada, SELL, "0.3900", 500, contract=contract)
        market.place(eve, SELL, "0.3900", 200, contract=contract)
        members, most = arrived(market), {ada: 0, eve: 0}
        for _ in range(60):
            members.step(market.clock.at_ms)
            for account in most:
                most[account] = max(most[account], open_wh(market, account, contract, SELL))
            market.clock.advance(minutes=1)
        assert most == {ada: 500, eve: 500}


def test_it_never_stands_against_its_own_member() -> None:
    """A sale that met the member's own bid would only cancel it."""
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        contract = market.contract(4)
        bid = market.place(ada, BUY, "0.2900", 200, contract=contract).events[0].seq
        members = arrived(market)
        run(market, members, 59)
        assert mine(ada).exclude(contract=contract).exists(), "elsewhere it trades"
        assert bid in open_orders(market, ada) and not OrderChange.objects.filter(order=bid).exists()
        assert set(mine(ada).filter(contract=contract).values_list("id", flat=True)) == {bid}


# --- nothing risked, nothing asked in vain ---------------------------------------------------------------------------
def test_no_error_is_made_up_for_a_member() -> None:
    """What meters say every quarter of an hour is what is sold, not a tenth more or less."""
    with running_market(Clock(NOON)) as market:
        accounts = [member(market, f"ada-{n}") for n in range(4)]
        for account in accounts:
            meter(market, account, import_wh=0, export_wh=500)
        contract = market.contract(4)
        members = arrived(market)
        run(market, members, 59)
        members.step(market.clock.at_ms)  # whose moment is in the last minute
        assert [open_wh(market, account, contract, SELL) or _last_wh(account, contract) for account in accounts] == [
            500
        ] * len(accounts)


def _last_wh(account: int, contract: str) -> int:
    """Return the size of the last order in a contract: one that took at once what was there, and left nothing."""
    return mine(account).filter(contract=contract).last().energy_wh  # type: ignore[attr-defined]


def test_a_connection_is_not_asked_for_more_than_it_carries() -> None:
    with running_market(Clock(NOON)) as market:
        ada, ben = member(market, "ada"), member(market, "ben")
        meter(market, ada, import_wh=0, export_wh=500)
        meter(market, ben, import_wh=500, export_wh=0)
        for account in (ada, ben):
            exchange_operations.set_connection(
                market.exchange, account=account, import_w=1_200, export_w=1_200, reason="planning"
            )
        run(market, arrived(market), 59)
        for account in (ada, ben):
            assert 250 < max(order.energy_wh for order in mine(account)) <= 300
        assert not Refusal.objects.exists()


def test_a_halted_account_is_left_alone() -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        exchange_operations.set_halt(market.exchange, scope="account", target=str(ada), on=True, reason="surveillance")
        members = arrived(market)
        run(market, members, 31)
        assert not mine(ada) and not Refusal.objects.exists()
        exchange_operations.set_halt(market.exchange, scope="account", target=str(ada), on=False, reason="surveillance")
        run(market, members, 16)
        assert mine(ada)


# --- no promise forgotten --------------------------------------------------------------------------------------------
class Late(Future[Any]):
    """An answer that is not there the first time one asks."""

    def __init__(self, real: Future[Any]):
        super().__init__()
        self.real, self.asked = real, 0

    def result(self, timeout: float | None = None) -> Any:
        self.asked += 1
        if self.asked == 1:
            self.real.result(timeout)
            raise TimeoutError
        return self.real.result(timeout)


@pytest.mark.parametrize("fails", ["answer", "note"])
def test_orders_are_known_as_the_autopilot_s_whatever_failed_after_them(
    monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = arrived(market)
        with monkeypatch.context() as patch:
            if fails == "answer":
                submit = market.exchange.submit_many
                patch.setattr(market.exchange, "submit_many", lambda *args, **scope: Late(submit(*args, **scope)))
            else:
                patch.setattr(operations, "note", _no_database)
            with pytest.raises((TimeoutError, ConnectionError)):
                members.step(market.clock.at_ms)
        assert open_orders(market, ada) and not PlacedOrder.objects.exists()
        market.clock.advance(minutes=1)
        members.step(market.clock.at_ms)
        changed = operations.change(market.exchange, account=ada, on=False)
        assert changed.cancelled and not open_orders(market, ada)


def _no_database(placed: object) -> None:
    raise ConnectionError("gone")


def test_what_could_not_be_taken_back_goes_at_the_next_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_exchange(Clock(NOON)) as (exchange, clock):
        # Between the second look at a contract, four hours before delivery, and the third lie three hours.
        found(exchange, params=PARAMS._replace(horizon_min=300))
        market = Market(exchange, clock)
        ada = member(market, "ada")
        meter(market, ada, import_wh=0, export_wh=500)
        members = arrived(market)
        run(market, members, 2)
        with monkeypatch.context() as patch:
            patch.setattr(market.exchange, "submit_many", _busy)
            changed = operations.change(market.exchange, account=ada, limits=Limits(sell_from_e4=3_000))
            assert isinstance(changed.trouble, Overloaded)
        assert _below(market, ada, 3_000)
        market.clock.advance(minutes=13)
        members.step(market.clock.at_ms)
        run(market, members, 14)
        assert not _below(market, ada, 3_000)


def test_an_order_is_found_however_many_there_were_since(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_market(Clock(NOON)) as market:
        ada = member(market, "ada")
        order = market.place(ada, SELL, "0.3900", 500, contract=market.contract(4)).events[0].seq
        operations.note([operations.Placed(order, ada, market.contract(4), market.clock.at_ms)])
        monkeypatch.setattr(queries, "MAX_NOTED", 3)
        operations.note(operations.Placed(order + n, ada, market.contract(-8), market.clock.at_ms) for n in range(1, 9))
        assert [one.order for one in queries.open_orders(market.exchange)] == [order]


def _busy(commands: object, scope: int | None = None) -> None:
    raise Overloaded(1)


def _below(market: Market, account: int, price_e4: int) -> list[int]:
    return market.exchange.read(
        lambda engine: [
            order for order in engine.accounts[account].open_ids if engine.orders[order].price_e4 < price_e4
        ]
    )


# --- bounded work ----------------------------------------------------------------------------------------------------
def test_who_joins_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meters are read and weeks worked out for who looks, not for everybody whenever somebody joins or leaves."""
    with running_market(Clock(NOON)) as market:
        ada, ben = member(market, "ada"), member(market, "ben", on=False)
        for account in (ada, ben):
            meter(market, account, import_wh=0, export_wh=500)
        members, worked_out, read = arrived(market), [], []
        members.step(market.clock.at_ms)
        week, energies = Ring.week, members_module.metering.energies
        monkeypatch.setattr(Ring, "week", lambda ring, fewest: worked_out.append(ring) or week(ring, fewest))
        monkeypatch.setattr(
            members_module.metering,
            "energies",
            lambda accounts, **span: read.extend(accounts) or energies(accounts, **span),
        )
        members.step(market.clock.at_ms)
        assert not worked_out and not read
        for on in (True, False, True):
            operations.change(market.exchange, account=ben, on=on)
            members.step(market.clock.at_ms)
        assert set(read) == {ben} and len(worked_out) == len(read) == 2
        market.clock.advance(minutes=15)
        run(market, members, 15)
        assert set(read[2:]) == {ada, ben} and len(read) == 4, "once an interval"


def test_old_notes_go_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes on SQLite keeps the market waiting meanwhile."""
    with running_market(Clock(NOON)) as market:
        monkeypatch.setattr(operations, "FORGET_AT_ONCE", 3, raising=False)
        old, new = market.contract(), market.contract(200)
        operations.note(operations.Placed(n, 1, old, 0) for n in range(10))
        operations.note([operations.Placed(10, 1, new, 0)])
        pieces: list[int] = []
        delete = operations.PlacedOrder.objects.none().__class__.delete
        monkeypatch.setattr(
            operations.PlacedOrder.objects.none().__class__,
            "delete",
            lambda rows: pieces.append(rows.count()) or delete(rows),
        )
        later_ms = market.clock.at_ms + operations.KEEP_MS + 60 * 60_000
        assert operations.forget_old(now_ms=later_ms) == 10
        assert max(pieces) <= 3
        assert [row.order for row in PlacedOrder.objects.all()] == [10]


# --- many in one batch -----------------------------------------------------------------------------------------------
def test_nobody_sells_twice_what_was_taken_in_the_same_batch() -> None:
    """An order that a neighbour has just taken is not placed once more by who looks after it in the same batch."""
    with running_market(Clock(NOON)) as market:
        sellers = [member(market, f"ada-{n}") for n in range(10)]
        buyers = [member(market, f"ben-{n}") for n in range(30)]
        for account in (*sellers, *buyers):
            meter(market, account, import_wh=500 * (account in buyers), export_wh=500 * (account in sellers))
        for account in buyers:  # until the last look they bid too little
            operations.change(market.exchange, account=account, limits=Limits(buy_to_e4=900))
        contract = market.contract(4)
        members = arrived(market)
        for minute in (0, 14, 29, 44, 59):
            if minute == 59:
                for account in buyers:
                    operations.change(market.exchange, account=account, limits=Limits())
            market.clock.at_ms = Clock(NOON).at_ms + minute * 60_000
            members.step(market.clock.at_ms)
        tallies = market.exchange.read(
            lambda engine: {
                account: (tally.sold_wh, tally.bought_wh)
                for account, tally in engine.contracts[contract].tallies.items()
            }
        )
        assert tallies, "something is traded"
        assert {account: most for account, most in tallies.items() if max(most) > 500} == {}
