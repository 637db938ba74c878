"""Books broken on purpose: for every invariant, and for every kind of order, one that it must notice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from market.engine import book as book_module
from market.engine import replay as replay_module
from market.engine import trading as trading_module
from market.engine.book import Book
from market.engine.changing import Changing
from market.engine.complex import ComplexTrading
from market.engine.contracts import Contract
from market.engine.engine import Engine
from market.engine.events import Traded
from market.engine.halting import Halting
from market.engine.orders import Group, Order
from market.engine.state import State
from market.engine.trading import Trading
from market.engine.trials import Scratch
from tests.properties import invariants as inv
from tests.properties.worlds import STEPS, play

Patch = pytest.MonkeyPatch
MUTANT_WORLDS = 1_000  # some show only where several rare things meet


def wrap(patch: Patch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Put ``around(genuine, *args)`` in a method's place."""
    genuine = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: around(genuine, *args, **kwargs))


# --- matching ------------------------------------------------------------------------------------------------------------


def ignore_residual(patch: Patch) -> None:
    patch.setattr(Book, "residual_wh", lambda self, path: book_module.UNLIMITED_WH)


def never_uncross(patch: Patch) -> None:
    patch.setattr(Trading, "_uncross", lambda self, events, contract: contract.book.opened.clear())


def forget_flow(patch: Patch) -> None:
    patch.setattr(Book, "add_flow", lambda self, path, energy_wh: None)


def full_netting(patch: Patch) -> None:
    wrap(patch, Book, "__init__", lambda genuine, *args: genuine(*args[:-1], 1000))


def see_one_area(patch: Patch) -> None:
    patch.setattr(Book, "find", lambda self, node, is_buy: (self.asks if is_buy else self.bids).own[node])


def never_requeue(patch: Patch) -> None:
    """An amended or reactivated order, or a new clip, keeps the time priority it had."""
    wrap(patch, Order, "queue", lambda genuine, self, priority: genuine(self, getattr(self, "priority", priority)))


def last_come_first_served(patch: Patch) -> None:
    def insert(genuine: Any, self: Book, order: Order) -> None:
        if order.priority < 1 << 30:
            order.queue((1 << 31) - order.priority)
        genuine(self, order)

    wrap(patch, Book, "insert", insert)


def charge_no_fee(patch: Patch) -> None:
    def trade(genuine: Any, self: Any, events: Any, contract: Any, book: Any, maker: Any, taker: Any, key: int) -> Any:
        return genuine(self, events, contract, book, maker, taker, maker.key)

    wrap(patch, Trading, "_trade", trade)


def overcharge(patch: Patch) -> None:
    """The buyer pays more than was agreed."""

    def new(genuine: Any, kind: Any, values: Any) -> Any:
        at = Traded._fields.index("buy_e4")
        return genuine(kind, (*values[:at], values[at] + 50, *values[at + 1 :]) if kind is Traded else values)

    wrap(patch, trading_module, "_new", new)


def trade_within_group(patch: Patch) -> None:
    wrap(patch, Trading, "_take", lambda genuine, *args: genuine(*args[:-1], ""))


def fill_partly(patch: Patch) -> None:
    patch.setattr(Trading, "_fillable", lambda self, contract, order, group, arriving: True)


def keep_hold(patch: Patch) -> None:
    def drop(genuine: Any, self: Trading, events: Any, order: Order, reason: str) -> None:
        self.accounts[order.account].held_e7 += order.hold_e7
        genuine(self, events, order, reason)

    wrap(patch, Trading, "_drop", drop)


def trade_on_after_the_gate(patch: Patch) -> None:
    def init(genuine: Any, self: Contract, name: str, start_ms: int, end_ms: int, gate_ms: int, *rest: Any) -> None:
        genuine(self, name, start_ms, end_ms, gate_ms + 60_000, *rest)

    wrap(patch, Contract, "__init__", init)


def forget_sleepers_at_the_gate(patch: Patch) -> None:
    def drop_all(genuine: Any, self: Trading, events: Any, orders: list[Order], reason: str) -> None:
        genuine(self, events, [order for order in orders if reason != "gate" or not order.waits], reason)

    wrap(patch, Trading, "_drop_all", drop_all)


def number_refusals(patch: Patch) -> None:
    def refuse(genuine: Any, self: State, *args: Any, **detail: Any) -> Any:
        self.priority += 1
        return genuine(self, *args, **detail)

    wrap(patch, State, "refuse", refuse)


# --- kinds of orders -----------------------------------------------------------------------------------------------------


def lose_hidden_energy(patch: Patch) -> None:
    def hide(genuine: Any, self: Order) -> None:
        genuine(self)
        if self.complex is not None:
            self.complex.hidden_wh = 0

    wrap(patch, Order, "hide", hide)


def show_hidden_energy(patch: Patch) -> None:
    wrap(patch, Book, "sweep", lambda genuine, *args, **kwargs: genuine(*args, **{**kwargs, "hidden": True}))


def sweep_in_order_of_time(patch: Patch) -> None:
    def sweep(genuine: Any, self: Any, events: Any, market: list[Contract], order: Order, account: Any) -> None:
        for contract in market:
            genuine(self, events, [contract], order, account)

    wrap(patch, ComplexTrading, "_sweep", sweep)


def sweep_beyond_the_limit(patch: Patch) -> None:
    def sweep(genuine: Any, self: Any, events: Any, market: list[Contract], order: Order, account: Any) -> None:
        limits = account.import_wh, account.export_wh
        account.import_wh = account.export_wh = book_module.UNLIMITED_WH
        genuine(self, events, market, order, account)
        account.import_wh, account.export_wh = limits

    wrap(patch, ComplexTrading, "_sweep", sweep)


def newest_block_first(patch: Patch) -> None:
    patch.setattr(Group, "priority", property(lambda self: -self.legs[0].priority))


def never_wake_blocks(patch: Patch) -> None:
    patch.setattr(ComplexTrading, "_try_blocks", lambda self, events: None)


def blocks_count_too_much(patch: Patch) -> None:
    """A block is thought to lack more than it does."""
    wrap(patch, ComplexTrading, "_lacks", lambda genuine, *args: 2 * found if (found := genuine(*args)) > 0 else found)


def keep_what_was_tried(patch: Patch) -> None:
    """A basket refused leaves the edges as it would have used them."""
    patch.setattr(Scratch, "put_back", lambda self: None)


def refuse_baskets(patch: Patch) -> None:
    patch.setattr(ComplexTrading, "_trial", lambda self, legs, group, arriving: False)


def sleep_on_hold(patch: Patch) -> None:
    def hibernate(genuine: Any, self: Changing, command: Any) -> Any:
        order = self.orders.get(command.order)
        hold_e7 = order.hold_e7 if order is not None else 0
        events = genuine(self, command)
        if not hasattr(events[0], "code"):
            self.accounts[events[0].account].held_e7 += hold_e7
        return events

    wrap(patch, Changing, "_hibernate", hibernate)


# --- guard rails ---------------------------------------------------------------------------------------------------------


def trade_at_any_price(patch: Patch) -> None:
    patch.setattr(Contract, "set_collar", lambda self, collar_e4: None)


def never_look(patch: Patch) -> None:
    """The reference price stays what it was at first."""
    wrap(patch, Trading, "_look", lambda genuine, self, contract: contract.set_collar(self.params.collar_e4))


def end_halts_within_the_collar(patch: Patch) -> None:
    wrap(
        patch, Contract, "set_collar", lambda genuine, self, collar_e4: genuine(self, collar_e4) if collar_e4 else None
    )


def limit_nobody(patch: Patch) -> None:
    def limit(self: State, account: Any) -> None:
        account.import_wh = account.export_wh = book_module.UNLIMITED_WH

    patch.setattr(State, "limit", limit)


def limit_each_account_alone(patch: Patch) -> None:
    wrap(
        patch, State, "connect", lambda genuine, self, account, name: genuine(self, account, f"{name}/{account.index}")
    )  # fmt: skip


def tokens_never_come_back(patch: Patch) -> None:
    def apply(genuine: Any, self: Engine, command: Any, at_ms: int) -> Any:
        for account in self.accounts:
            account.spent_at_ms = max(self.at_ms, at_ms)  # no time has passed
        return genuine(self, command, at_ms)

    wrap(patch, Engine, "apply", apply)


def kill_nobody(patch: Patch) -> None:
    patch.setattr(Halting, "_in_scope", lambda self, scope, target: [])


def recall_without_the_flow(patch: Patch) -> None:
    patch.setattr(Book, "take_flow_back", lambda self, path, energy_wh: None)


def recall_without_the_money(patch: Patch) -> None:
    def recall(genuine: Any, self: Any, command: Any) -> Any:
        events = genuine(self, command)
        if not hasattr(events[0], "code"):
            self.accounts[events[0].buyer].cash_e7 -= events[0].cost_e7
        return events

    wrap(patch, Halting, "_recall", recall)


# --- what is kept --------------------------------------------------------------------------------------------------------


def replay_leg_by_leg(patch: Patch) -> None:
    patch.setattr(replay_module, "legs_of", lambda leaf: 1)


def load_without_tokens(patch: Patch) -> None:
    genuine = Engine.load

    def load(data: bytes) -> Engine:
        engine = genuine(data)
        for account in engine.accounts:
            account.spent = 0
        return engine

    patch.setattr(Engine, "load", load)


MUTANTS: tuple[tuple[Callable[[Patch], None], Callable[..., None]], ...] = (
    (last_come_first_served, inv.events_are_the_oracles),
    (sweep_in_order_of_time, inv.events_are_the_oracles),
    (newest_block_first, inv.events_are_the_oracles),
    (refuse_baskets, inv.events_are_the_oracles),
    (tokens_never_come_back, inv.events_are_the_oracles),
    (kill_nobody, inv.events_are_the_oracles),
    (never_look, inv.events_are_the_oracles),
    (end_halts_within_the_collar, inv.events_are_the_oracles),
    (overcharge, inv.no_fill_is_worse_than_its_limit),
    (charge_no_fee, inv.buyer_minus_seller_is_the_fee),
    (see_one_area, inv.price_then_time),
    (never_requeue, inv.price_then_time),
    (ignore_residual, inv.the_path_carries_it),
    (trade_within_group, inv.nobody_trades_with_its_own_group),
    (trade_on_after_the_gate, inv.nothing_trades_after_the_gate_or_in_a_halt),
    (trade_at_any_price, inv.the_collar_holds),
    (limit_nobody, inv.position_limits_hold),
    (limit_each_account_alone, inv.position_limits_hold),
    (sweep_beyond_the_limit, inv.position_limits_hold),
    (number_refusals, inv.a_refusal_leaves_no_trace),
    (keep_what_was_tried, inv.a_refusal_leaves_no_trace),
    (fill_partly, inv.only_good_till_orders_rest),
    (never_uncross, inv.nothing_reachable_is_crossed),
    (forget_flow, inv.residuals_follow_from_trades),
    (full_netting, inv.residuals_follow_from_trades),
    (recall_without_the_flow, inv.residuals_follow_from_trades),
    (keep_hold, inv.money_and_energy_are_conserved),
    (sleep_on_hold, inv.money_and_energy_are_conserved),
    (recall_without_the_money, inv.money_and_energy_are_conserved),
    (forget_sleepers_at_the_gate, inv.nothing_lives_after_the_gate),
    (lose_hidden_energy, inv.the_stream_rebuilds_the_book),
    (never_wake_blocks, inv.no_waiting_block_could_trade),
    (blocks_count_too_much, inv.no_waiting_block_could_trade),
    (show_hidden_energy, inv.displayed_depth_is_executable_depth),
    (replay_leg_by_leg, inv.replay_gives_the_same_state),
    (load_without_tokens, inv.a_loaded_state_goes_on_alike),
)


def holds(seed: int, invariant: str) -> bool:
    """Play one world; whether the invariant held. What merely falls over says nothing."""
    try:
        play(random.Random(seed), STEPS, inv.Checks([invariant]))
    except inv.Broken:
        return False
    except (AssertionError, LookupError, TypeError, ValueError, StopIteration):
        return True
    return True


@pytest.mark.parametrize(("mutant", "invariant"), MUTANTS, ids=[mutant.__name__ for mutant, _ in MUTANTS])
def test_a_broken_book_is_noticed(mutant: Any, invariant: Any) -> None:
    """The invariant named notices it, on its own, in a world where it holds in a sound book."""
    for seed in range(MUTANT_WORLDS):
        with pytest.MonkeyPatch.context() as patch:
            mutant(patch)
            noticed = not holds(seed, invariant.__name__)
        if noticed and holds(seed, invariant.__name__):
            return
    pytest.fail(f"{invariant.__name__} held in all worlds")


def test_every_invariant_has_a_mutant() -> None:
    assert {invariant.__name__ for _, invariant in MUTANTS} == set(inv.ALL)
