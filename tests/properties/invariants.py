"""What must hold in every world. Each invariant is a function of its own, so that each can be shown to notice a broken book.

Those on events get the mirror and an event, before or after it is applied; those on commands get a ``Step``; those at the end
get the world and its source of commands. None but ``events_are_the_oracles`` knows the oracle.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from market.engine import commands as c
from market.engine import events as ev
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.engine.events import Refused
from market.engine.replay import Divergence, replay
from tests.properties.mirror import Mirror
from tests.properties.naive import ARRIVING, EXPORT, IMPORT, RESTING, WAITING, NaiveOrder
from tests.properties.worlds import MAX_PRICE_E4, PARAMS, Commands, World

STRANGER_WH = 1_000_000  # more than all orders of a world
AFTERWARDS = 5  # commands that a loaded engine and the one it was saved from play alike


class Broken(AssertionError):
    """An invariant did not hold; ``invariant`` is its name."""

    def __init__(self, invariant: str, what: object):
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


class Step(NamedTuple):
    """One command and what came of it."""

    world: World
    command: Any
    refused: bool
    events: list[Any]  # as the oracle would say them
    expected: list[Any]  # what it said
    hash_before: str


# --- on every trade ------------------------------------------------------------------------------------------------------


def no_fill_is_worse_than_its_limit(mirror: Mirror, event: Any) -> None:
    if isinstance(event, ev.Traded):
        buy, sell, maker = (mirror.find(id) for id in (event.buy_order, event.sell_order, event.maker))
        assert event.buy_e4 <= buy.price_e4 and event.sell_e4 >= sell.price_e4, event
        assert maker.price_e4 == (event.buy_e4 if maker is buy else event.sell_e4), event


def buyer_minus_seller_is_the_fee(mirror: Mirror, event: Any) -> None:
    if isinstance(event, ev.Traded):
        contract = mirror.contracts[event.contract]
        source, sink = (mirror.accounts[index].area for index in (event.seller, event.buyer))
        assert (source, sink) == (event.sell_area, event.buy_area), event
        assert event.buy_e4 - event.sell_e4 == mirror.fee(contract, source, sink), event


def price_then_time(mirror: Mirror, event: Any) -> None:
    """Nobody passes over a better resting order that it could reach."""
    if not isinstance(event, ev.Traded):
        return
    contract = mirror.contracts[event.contract]
    maker, taker = mirror.find(event.maker), mirror.find(event.taker)
    best = mirror.offer_for(taker, contract)
    if taker.where in (ARRIVING, WAITING):
        assert best is not None and best[2] is maker, (event, best)
    else:  # two resting orders met: one of them could have nothing better, and the maker was first
        other = mirror.offer_for(maker, contract)
        assert (best is not None and best[2] is maker) or (other is not None and other[2] is taker), event
        assert maker.priority < taker.priority, event


def the_path_carries_it(mirror: Mirror, event: Any) -> None:
    if isinstance(event, ev.Traded):
        contract = mirror.contracts[event.contract]
        least = min(
            (mirror.residual(contract, *edge) for edge in mirror.path(event.sell_area, event.buy_area)),
            default=event.energy_wh,
        )
        shown = (mirror.find(id).shown_wh for id in (event.maker, event.taker))
        assert 0 < event.energy_wh <= min(least, *shown), event


def nobody_trades_with_its_own_group(mirror: Mirror, event: Any) -> None:
    if isinstance(event, ev.Traded):
        assert mirror.accounts[event.buyer].group != mirror.accounts[event.seller].group, event


def nothing_trades_after_the_gate_or_in_a_halt(mirror: Mirror, event: Any) -> None:
    if isinstance(event, ev.Traded):
        assert mirror.trading(mirror.contracts[event.contract]), event
        assert not mirror.account_out(event.buyer) and not mirror.account_out(event.seller), event


def the_collar_holds(mirror: Mirror, event: Any) -> None:
    """A trade lies within the collar, but for those that a halt's end sets off."""
    if isinstance(event, ev.Traded) and mirror.params.collar_e4 and not mirror.ended:
        reference_e4 = mirror.contracts[event.contract].reference_e4
        assert abs(event.sell_e4 - reference_e4) <= mirror.params.collar_e4, (event, reference_e4)


def position_limits_hold(mirror: Mirror, event: Any) -> None:
    """After an order was accepted, and after each trade of a sweep, its connection is within its limits."""
    order: NaiveOrder | None = None
    if isinstance(event, ev.OrderPlaced | ev.ComplexOrderPlaced) and getattr(event, "kind", "") != ev.SWEEP:
        order = mirror.orders[-1]
    elif isinstance(event, ev.OrderReactivated) or (isinstance(event, ev.OrderAmended) and mirror.grew):
        order = mirror.find(event.order)
    elif isinstance(event, ev.Traded):
        side, index = ("buy", event.buyer) if event.taker_side == "buy" else ("sell", event.seller)
        if event.taker in mirror.sweeps:
            room = mirror.room(mirror.contracts[event.contract], index, side)
            assert room is None or room >= 0, (event, room)
    if order is not None:
        room = mirror.room(mirror.contracts[order.contract], order.account, order.side)
        assert room is None or room >= 0, (event, room)


# --- after every command -------------------------------------------------------------------------------------------------


def events_are_the_oracles(step: Step) -> None:
    assert step.events == step.expected, (step.command, step.events, step.expected)


def a_refusal_leaves_no_trace(step: Step) -> None:
    if step.refused:
        assert len(step.events) == 1
        assert step.world.engine.state_hash() == step.hash_before, step.command


def only_good_till_orders_rest(step: Step) -> None:
    """Immediate-or-cancel and fill-or-kill orders never rest; what rests wants energy."""
    for order in step.world.engine.orders.values():
        assert order.time_in_force in ("gtg", "gtd") and 0 < order.left_wh <= order.energy_wh, order.id
    assert all(order.where != ARRIVING for order in step.world.mirror.orders)


def nothing_reachable_is_crossed(step: Step) -> None:
    mirror = step.world.mirror
    for order in mirror.resting():
        if order.side == "sell":
            assert mirror.best_for(order) is None, (order, mirror.best_for(order))


def residuals_follow_from_trades(step: Step) -> None:
    mirror = step.world.mirror
    for contract in mirror.contracts.values():
        if contract.state == "open":
            for area, edge in step.world.engine.flows(contract.name).items():
                flows = tuple(mirror.flow(contract, area, way) for way in (IMPORT, EXPORT))
                assert (edge.import_wh, edge.export_wh) == flows, (contract.name, area, edge, flows)
                residuals = tuple(mirror.residual(contract, area, way) for way in (IMPORT, EXPORT))
                shown = (edge.import_residual_wh, edge.export_residual_wh)
                assert shown == residuals, (contract.name, area, edge, residuals)


def money_and_energy_are_conserved(step: Step) -> None:
    engine, mirror = step.world.engine, step.world.mirror
    assert sum(account.cash_e7 - account.arrears_e7 for account in engine.accounts) == 0
    for index, account in mirror.accounts.items():
        was = engine.accounts[index]
        held_e7 = mirror.held_e7(index)
        assert (was.cash_e7, was.held_e7) == (account.cash_e7, held_e7), (index, was.cash_e7, was.held_e7, held_e7)
        assert 0 <= held_e7 <= account.cash_e7, index
        assert was.open_orders == sum(order.account == index for order in mirror.orders)
    for id, order in engine.orders.items():
        assert order.energy_wh - order.left_wh == mirror.filled_wh.get(id, 0), id
    for contract in mirror.contracts.values():
        positions: dict[int, int] = {}
        for trade in contract.standing():
            positions[trade.buyer] = positions.get(trade.buyer, 0) + trade.energy_wh
            positions[trade.seller] = positions.get(trade.seller, 0) - trade.energy_wh
        kept = engine.contracts[contract.name]
        tallies = {index: tally.position_wh for index, tally in kept.tallies.items() if tally.position_wh}
        assert tallies == {index: wh for index, wh in positions.items() if wh}, contract.name
        assert sum(tallies.values()) == 0
        assert kept.volume_wh == sum(trade.energy_wh for trade in contract.standing())
        held_e7 = sum(trade.cost_e7 + trade.margin_e7 for trade in contract.standing())
        assert engine.accounts[kept.account].cash_e7 == held_e7, contract.name


def nothing_lives_after_the_gate(step: Step) -> None:
    for order in step.world.engine.orders.values():
        assert step.world.mirror.contracts[order.contract].state == "open", order.id


def the_stream_rebuilds_the_book(step: Step) -> None:
    rebuilt = {
        o.id: (o.account, o.contract, o.side, o.price_e4, o.energy_wh, o.left_wh, o.time_in_force, o.expires_at_ms)
        for o in step.world.mirror.orders
    }
    kept = {
        o.id: (o.account, o.contract, o.side, o.price_e4, o.energy_wh, o.left_wh, o.time_in_force, o.expires_at_ms)
        for o in step.world.engine.orders.values()
    }
    assert rebuilt == kept, step.command


def no_waiting_block_could_trade(step: Step) -> None:
    mirror = step.world.mirror
    for first in [order for order in mirror.orders if order.where == WAITING and order.block == order.id]:
        could: list[bool] = []
        mirror.attempt(lambda: could.append(mirror.trade_block(mirror.legs(first))) or False)  # noqa: B023
        assert could == [False], first


# --- at the end of a world -----------------------------------------------------------------------------------------------


def displayed_depth_is_executable_depth(world: World, commands: Commands) -> None:
    """A view shows just what a stranger with all the money would get, hidden energy left out."""
    engine, mirror = world.engine_copy(), copy.deepcopy(world.mirror)

    def do(command: Any) -> None:
        events = engine.apply(command, mirror.at_ms)
        assert not (events and isinstance(events[0], Refused)), (command, events)
        mirror.see(events)

    for order in list(mirror.orders):
        if order.where == WAITING and order.id == order.block:
            do(c.CancelOrder(-1, order.id, "owner"))
    kept = ("netting_permille", "collar_e4", "collar_period_s", "collar_halt_s")
    do(PARAMS._replace(max_order_wh=STRANGER_WH, **{name: getattr(mirror.params, name) for name in kept}))
    do(c.SetHalt("market", "", 0, "test"))
    for index in mirror.accounts:
        do(c.SetHalt("account", str(index), 0, "test"))
        if mirror.accounts[index].key and not mirror.accounts[index].closed:
            do(c.SetAccountKey(index, "", reason="lost_device"))  # what lies hidden is about to be amended away
    for area in mirror.areas:
        do(c.SetHalt("area", area, 0, "test"))
    for contract in mirror.contracts:
        do(c.SetHalt("contract", contract, 0, "test"))
    mirror.at_ms = engine.at_ms
    names = [name for name, contract in mirror.contracts.items() if mirror.trading(contract)][:2]
    for name in names:
        area, is_buy = commands.draw.choice(list(mirror.contracts[name].fees)), commands.draw.random() < 0.5
        bids, asks = engine.depth(area, name, 100)
        levels = asks if is_buy else bids
        shown = [(level.price_e4, level.energy_wh) for level in levels if 0 < level.price_e4 <= MAX_PRICE_E4]
        assert shown == executed(engine, mirror, area, name, is_buy), (area, name, is_buy)
        assert engine.best(area, name)[is_buy] == (levels[0].price_e4 if levels else None)


def executed(engine: Engine, mirror: Mirror, area: str, name: str, is_buy: bool) -> list[tuple[int, int]]:
    """Let a stranger take everything at once in a copy without hidden energy; return energy by all-in price."""
    engine = Engine.load(engine.dump())
    for order in mirror.orders:
        if order.hidden_wh and order.where == RESTING:
            engine.apply(c.AmendOrder(-1, order.id, -1, order.energy_wh - order.hidden_wh), engine.at_ms)
    engine.apply(c.OpenAccount("f" * 32, area, "", "", ""), engine.at_ms)
    stranger = engine.accounts[-1].index
    engine.apply(c.Fund(stranger, 10**12, "opening", ""), engine.at_ms)
    side, limit_e4 = ("buy", MAX_PRICE_E4) if is_buy else ("sell", 1)
    events = engine.apply(c.PlaceOrder(stranger, name, side, limit_e4, STRANGER_WH, "ioc", 0), engine.at_ms)
    taken: dict[int, int] = {}
    for event in events:
        if isinstance(event, ev.Traded) and stranger in (event.buyer, event.seller):
            price_e4 = event.buy_e4 if is_buy else event.sell_e4
            taken[price_e4] = taken.get(price_e4, 0) + event.energy_wh
    return list(taken.items())


def replay_gives_the_same_state(world: World, commands: Commands) -> None:
    again = Engine()
    try:
        replay(again, [{**to_leaf(event), **world.signed.get(event.seq, {})} for event in world.log])
    except Divergence as divergence:
        raise AssertionError(str(divergence)) from divergence
    assert again.state_hash() == world.engine.state_hash()


def a_loaded_state_goes_on_alike(world: World, commands: Commands) -> None:
    loaded = world.engine_copy()
    assert loaded.dump() == world.engine.dump()
    for _ in range(AFTERWARDS):
        command, at_ms = commands.next()
        events = world.engine.apply(command, at_ms)
        assert loaded.apply(command, at_ms) == events, command
        if events and not isinstance(events[0], Refused):
            world.log += events
            world.mirror.see(events)
    assert loaded.state_hash() == world.engine.state_hash()


# --- all of them ---------------------------------------------------------------------------------------------------------

BEFORE_EVENT: tuple[Callable[[Mirror, Any], None], ...] = (
    no_fill_is_worse_than_its_limit, buyer_minus_seller_is_the_fee, price_then_time, the_path_carries_it,
    nobody_trades_with_its_own_group, nothing_trades_after_the_gate_or_in_a_halt, the_collar_holds,
)  # fmt: skip
AFTER_EVENT: tuple[Callable[[Mirror, Any], None], ...] = (position_limits_hold,)
AFTER_COMMAND: tuple[Callable[[Step], None], ...] = (
    events_are_the_oracles, a_refusal_leaves_no_trace, only_good_till_orders_rest, nothing_reachable_is_crossed,
    residuals_follow_from_trades, money_and_energy_are_conserved, nothing_lives_after_the_gate,
    the_stream_rebuilds_the_book, no_waiting_block_could_trade,
)  # fmt: skip
AT_END: tuple[Callable[[World, Commands], None], ...] = (
    displayed_depth_is_executable_depth, replay_gives_the_same_state, a_loaded_state_goes_on_alike,
)  # fmt: skip
ALL = tuple(check.__name__ for checks in (BEFORE_EVENT, AFTER_EVENT, AFTER_COMMAND, AT_END) for check in checks)


def named(check: Callable[..., None]) -> Callable[..., None]:
    """The check, naming itself when it does not hold."""

    def run(*values: Any) -> None:
        try:
            check(*values)
        except AssertionError as error:
            raise Broken(check.__name__, error) from error

    return run


class Checks:
    """The invariants that a world is held to: all, or those named."""

    def __init__(self, names: Iterable[str] = ALL):
        wanted = set(names)
        self.before_event = self._chosen(BEFORE_EVENT, wanted)
        self.after_event = self._chosen(AFTER_EVENT, wanted)
        self._after_command = self._chosen(AFTER_COMMAND, wanted)
        self._at_end = self._chosen(AT_END, wanted)
        self.with_oracle = events_are_the_oracles.__name__ in wanted
        self.with_hash = a_refusal_leaves_no_trace.__name__ in wanted

    @staticmethod
    def _chosen(checks: tuple[Callable[..., None], ...], names: set[str]) -> tuple[Callable[..., None], ...]:
        return tuple(named(check) for check in checks if check.__name__ in names)

    def after_command(
        self, world: World, command: Any, raw: list[Any], events: list[Any], expected: list[Any], before: str
    ) -> None:
        """A command was applied."""
        step = Step(world, command, bool(raw) and isinstance(raw[0], Refused), events, expected, before)
        for check in self._after_command:
            check(step)

    def at_end(self, world: World, commands: Commands) -> None:
        """The last command was applied."""
        for check in self._at_end:
            check(world, commands)
