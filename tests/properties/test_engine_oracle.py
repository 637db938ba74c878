"""The engine against the oracle: the same random commands, the same events; and what must hold after every command."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.engine import book as book_module
from market.engine import commands as c
from market.engine import events as ev
from market.engine.book import Book
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.engine.events import Refused
from market.engine.replay import replay
from market.engine.trading import Trading
from tests.properties.naive import NaiveAccount, NaiveArea, NaiveContract, NaiveMarket, comparable

START_MS = contract_start_ms("2026-06-06T10:00Z")
CONTRACTS = ("2026-06-06T10:15Z", "2026-06-06T10:30Z")
GATE_MS = contract_start_ms(CONTRACTS[0])
TOPUP_E4 = 30


class World:
    """An engine and an oracle in the same small random city, and everything the engine ever said."""

    def __init__(self, seed: int):
        draw = random.Random(seed)
        self.engine = Engine()
        self.log: list[Any] = []
        areas = [("R", "")]
        self.found(c.Found("test/log", "EUR", 15, "vkey", 1, "0" * 64))
        self.found(c.SetArea("R", "", "EHV"))
        for number in range(draw.randint(0, 6)):
            areas.append((f"A{number}", draw.choice(areas)[0]))
            self.found(c.SetArea(*areas[-1], "LV"))
            self.found(c.SetFee(areas[-1][0], draw.choice((0, 1, 1, 3))))
            self.found(c.SetCapacity(areas[-1][0], *(draw.choice((0, 20, 80, 4000)) for _ in range(2)), "x"))
        self.found(c.SetParams(40, 1, 100, 6, 30, 0, draw.choice((0, 500, 1000))))
        self.found(c.SetTariff(TOPUP_E4, 5))
        for number in range(draw.randint(2, 5)):
            group = draw.choice(("", "", "family"))
            self.found(c.OpenAccount(f"{number:032x}", draw.choice(areas)[0], group, "", ""))
            self.found(c.Fund(self.engine.accounts[-1].index, draw.choice((300, 3000, 10**6)), "opening", ""))
        for name in CONTRACTS:
            self.found(c.OpenContract(name))
        engine = self.engine
        self.names = [name for name, _ in areas]
        self.members = [account.index for account in engine.accounts if account.kind == "member"]
        oracle = self.oracle = NaiveMarket(seq=engine.seq, interval_min=15, params=engine.params)
        for area in engine.grid.areas:
            parent = engine.grid.areas[area.parent].name if area.parent >= 0 else ""
            oracle.areas[area.name] = NaiveArea(area.name, parent, area.fee_e4, area.import_w, area.export_w)
        for index in self.members:
            account = engine.accounts[index]
            oracle.accounts[index] = NaiveAccount(index, account.area, account.group, account.cash_e7)
        for name in CONTRACTS:
            contract = engine.contracts[name]
            fees = {area.name: area.fee_e4 for area in engine.grid.areas}
            oracle.contracts[name] = NaiveContract(name, contract.gate_ms, contract.topup_e4, fees)
        oracle.note_openings()

    def found(self, command: Any) -> None:
        events = self.engine.apply(command, START_MS)
        assert events and not isinstance(events[0], Refused), (command, events)
        self.log += events

    def step(self, command: Any, at_ms: int) -> None:
        """Apply one command to both; compare; check everything."""
        before = self.engine.state_hash()
        events = self.engine.apply(command, at_ms)
        expected = self.oracle.apply(command, at_ms)
        assert comparable(events) == expected, command
        if events and isinstance(events[0], Refused):
            assert self.engine.state_hash() == before
            return
        self.log += events
        check(self.engine, events)


def check(engine: Engine, events: list[Any]) -> None:
    """What holds after every command."""
    assert sum(account.cash_e7 for account in engine.accounts) == 0
    for account in engine.accounts:
        held_e7 = sum(engine.orders[id].hold_e7 for id in engine.orders_of.get(account.index, ()))
        assert account.held_e7 == held_e7
        assert account.kind != "member" or 0 <= held_e7 <= account.cash_e7
        assert account.open_orders == len(engine.orders_of.get(account.index, ()))
    for order in engine.orders.values():
        assert order.time_in_force in ("gtg", "gtd") and 0 < order.remaining_wh <= order.energy_wh
    for event in events:
        if isinstance(event, ev.Traded):
            book = engine.contracts[event.contract].book
            assert book is not None
            source, sink = (engine.grid.index[area] for area in (event.sell_area, event.buy_area))
            assert event.buy_e4 - event.sell_e4 == book.topology.fee_e4(source, sink)
            assert engine.accounts[event.buyer].group != engine.accounts[event.seller].group
    for contract in engine.contracts.values():
        if contract.halted or engine.halted or contract.book is None:
            continue
        for order in contract.book.orders.values():
            key = contract.book.find(order.node, order.is_buy)
            assert key >> 40 > (order.price_e4 if order.is_buy else -order.price_e4), "reachable and crossed"


def random_command(draw: random.Random, world: World, at_ms: int) -> Any:
    """Return a command that makes sense often enough."""
    ids = list(world.engine.orders) or [0]
    account = draw.choice(world.members)
    kind = draw.random()
    if kind < 0.62:
        tif = draw.choice(("gtg", "gtg", "gtg", "gtd", "ioc", "fok"))
        expires_at_ms = at_ms + draw.randint(1, 40) if tif == "gtd" else 0
        return c.PlaceOrder(
            account, draw.choice(CONTRACTS), draw.choice(("buy", "sell")), draw.choice((draw.randint(8, 24), 0, 50))
            if draw.random() < 0.1 else draw.randint(8, 24), draw.choice((1, 3, 10, 40, 101)), tif, expires_at_ms,
        )  # fmt: skip
    if kind < 0.70:
        return c.CancelOrder(draw.choice((account, -1, world.engine.orders[ids[0]].account if ids[0] else -1)),
                             draw.choice(ids), "owner")  # fmt: skip
    if kind < 0.80:
        id = draw.choice(ids)
        owner = world.engine.orders[id].account if id else account
        return c.AmendOrder(
            owner if draw.random() < 0.9 else account, id, draw.choice((-1, draw.randint(8, 24))),
            draw.choice((-1, 2, 5, 20, 60)),
        )  # fmt: skip
    if kind < 0.82:
        return c.CancelAll(account, draw.choice(("", CONTRACTS[0])), "owner")
    if kind < 0.84:
        return c.Expire()
    if kind < 0.94 and len(world.names) > 1:
        values = (0, 20, 60, 400, 4000)
        return c.SetCapacity(draw.choice(world.names[1:]), draw.choice(values), draw.choice(values), "cut")
    scope = draw.choice(("market", "contract", "area", "account"))
    targets = {"market": "", "contract": CONTRACTS[0], "area": draw.choice(world.names), "account": str(account)}
    return c.SetHalt(scope, targets[scope], draw.choice((0, 0, 1)), "test")


def play(seed: int, steps: int) -> World:
    """Play so many random commands in a random world."""
    world, draw, at_ms = World(seed), random.Random(seed + 1), START_MS
    for _ in range(steps):
        at_ms += draw.choice((0, 1, 5))
        world.step(random_command(draw, world, at_ms), at_ms)
    return world


@settings(max_examples=1_000, deadline=None)
@given(st.integers(0, 2**32))
def test_events_are_the_oracles(seed: int) -> None:
    world = play(seed, 30)
    engine = world.engine

    again = Engine()
    replay(again, [to_leaf(event) for event in world.log])
    assert again.state_hash() == engine.state_hash()

    loaded = Engine.load(engine.dump())
    assert loaded.dump() == engine.dump()
    draw, at_ms = random.Random(seed + 2), engine.at_ms
    for _ in range(5):
        command = random_command(draw, world, at_ms)
        assert loaded.apply(command, at_ms) == engine.apply(command, at_ms)
    assert loaded.state_hash() == engine.state_hash()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_displayed_depth_is_what_can_be_executed(seed: int, is_buy: bool) -> None:
    engine = play(seed, 25).engine
    engine.apply(c.SetHalt("market", "", 0, "test"), engine.at_ms)
    engine.apply(c.SetHalt("contract", CONTRACTS[0], 0, "test"), engine.at_ms)
    for name in [area.name for area in engine.grid.areas]:
        engine.apply(c.SetHalt("area", name, 0, "test"), engine.at_ms)
        before = engine.state_hash()
        bids, asks = engine.depth(name, CONTRACTS[0], 100)
        assert engine.state_hash() == before
        levels = asks if is_buy else bids
        shown = [(level.price_e4, level.energy_wh) for level in levels if 0 < level.price_e4 <= 40]
        assert shown == executed(engine, name, is_buy)
        best = engine.best(name, CONTRACTS[0])[is_buy]
        assert best == (levels[0].price_e4 if levels else None)


def executed(engine: Engine, area: str, is_buy: bool) -> list[tuple[int, int]]:
    """Let a stranger with all the money take everything at once in a copy; return energy by all-in price."""
    copy = Engine.load(engine.dump())
    copy.apply(c.SetParams(40, 1, 1_000_000, 6, 30, 0, copy.params.netting_permille), copy.at_ms)
    copy.apply(c.OpenAccount("f" * 32, area, "", "", ""), copy.at_ms)
    stranger = copy.accounts[-1].index
    copy.apply(c.Fund(stranger, 10**12, "opening", ""), copy.at_ms)
    side, limit_e4 = ("buy", 40) if is_buy else ("sell", 1)
    events = copy.apply(c.PlaceOrder(stranger, CONTRACTS[0], side, limit_e4, 1_000_000, "ioc", 0), copy.at_ms)
    taken: dict[int, int] = {}
    for event in events:
        if isinstance(event, ev.Traded) and stranger in (event.buyer, event.seller):
            price_e4 = event.buy_e4 if is_buy else event.sell_e4
            taken[price_e4] = taken.get(price_e4, 0) + event.energy_wh
    return list(taken.items())


# --- books broken on purpose: the comparison must notice each ----------------------------------------------------------


def ignore_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "residual_wh", lambda self, path: book_module.UNLIMITED_WH)


def never_uncross(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trading, "_uncross", lambda self, events, contract: contract.book.opened.clear())


def forget_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "add_flow", lambda self, path, energy_wh: None)


def keep_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Book.insert

    def insert(self: Book, order: book_module.Order) -> None:
        order.key += 1 << 30  # every order behind those that came before, and its key no longer names it
        order.priority += 1 << 30
        genuine(self, order)

    monkeypatch.setattr(Book, "insert", insert)


def trade_within_group(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Trading._take
    monkeypatch.setattr(
        Trading,
        "_take",
        lambda self, events, contract, book, order, group: genuine(self, events, contract, book, order, ""),
    )


def keep_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(self: Trading, events: list[Any], order: Any, reason: str) -> None:
        if order.resting:
            self.book_of(order).remove(order)
        self.forget(order)
        self._cancelled(events, order, order.remaining_wh, reason)

    monkeypatch.setattr(Trading, "_drop", drop)


def fill_partly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trading, "_fillable", lambda self, contract, order, group, arriving: True)


def see_one_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "find", lambda self, node, is_buy: (self.asks if is_buy else self.bids).own[node])


def full_netting(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Book.__init__
    monkeypatch.setattr(
        Book,
        "__init__",
        lambda self, topology, import_wh, export_wh, netting: genuine(self, topology, import_wh, export_wh, 1000),
    )


MUTANT_WORLDS = 600  # netting shows only where energy crosses an edge both ways
MUTANTS = (
    ignore_residual, never_uncross, forget_flow, keep_priority, trade_within_group, keep_hold, fill_partly, see_one_area,
    full_netting,
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_book_is_noticed(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    noticed = 0
    for seed in range(MUTANT_WORLDS):
        try:
            play(seed, 40)
        except (AssertionError, KeyError, IndexError):
            noticed += 1
            break
    assert noticed
