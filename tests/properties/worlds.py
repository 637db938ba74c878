"""Random worlds: a small city, an engine and an oracle in it, and commands that make sense often enough."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from market.engine import commands as c
from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import signed_fields
from market.engine.events import Refused
from tests.properties.mirror import Mirror
from tests.properties.naive import ASLEEP, RESTING, comparable
from tests.properties.naive_rules import ORDERS, Oracle

START_MS = contract_start_ms("2026-06-06T10:00Z")
# Intervals from the start on: two neighbours that most orders are about, one more, one after a gap, one too far away for a
# sweep or block.
CONTRACTS = (1, 2, 3, 5, 120)
MAX_PRICE_E4 = 40
PARAMS = c.SetParams(MAX_PRICE_E4, 1, 100, 6, 30, 0, 1000)
CONNECTIONS = ("a" * 64, "b" * 64)
KEYS = ("c" * 64, "d" * 64)
STEPS = 30  # commands a world
FEW = 6  # open orders: with fewer, new ones are more likely than changes


class World:
    """An engine, the oracle, and the mirror that is built of what the engine said.

    ``checks`` is what must hold (see ``invariants``); without a check that asks for it the oracle does not play along.
    """

    def __init__(self, draw: random.Random, checks: Any):
        self.engine = Engine()
        self.mirror = Mirror()
        self.log: list[Any] = []
        self.signed: dict[int, dict[str, str]] = {}  # what entries of signed orders have beside their events
        self.checks = checks
        self._build(draw)
        self.members = list(self.mirror.accounts)
        self.oracle: Oracle | None = None
        if checks.with_oracle:
            self.oracle = Oracle()
            self.oracle.__dict__.update(copy.deepcopy(self.mirror.__dict__))
            self.oracle.note_openings()

    def _build(self, draw: random.Random) -> None:
        areas = [("R", "")]
        self._found(c.Found("test/log", "EUR", draw.choice((15, 15, 15, 30)), "vkey", 1, "0" * 64))
        self._found(c.SetArea("R", "", "EHV"))
        for number in range(draw.randint(0, 6)):
            areas.append((f"A{number}", draw.choice(areas)[0]))
            self._add_area(draw, *areas[-1])
        self._found(random_params(draw, PARAMS, draw.choice((0, 500, 1000, 333))))
        self._found(c.SetTariff(30, 5))
        for number in range(draw.randint(3, 6)):
            self._open_account(draw, number, draw.choice(areas)[0])
        numbers = CONTRACTS if draw.random() < 0.3 else CONTRACTS[:2]
        names = [contract_name(START_MS + number * self.mirror.interval_min * 60_000) for number in numbers]
        for number, name in enumerate(names):
            self._found(c.OpenContract(name))
            if number == 0 and draw.random() < 0.3:
                self._found(c.SetTariff(20, 3))
                if len(areas) > 1:
                    self._found(c.SetFee(areas[-1][0], 2))
            if number == 0 and draw.random() < 0.2:  # what is added later has no part in the first contract
                self._add_area(draw, "Z", draw.choice(areas)[0])
                self._open_account(draw, 9, "Z")
        self.names = list(self.mirror.areas)
        self.contracts = names

    def _add_area(self, draw: random.Random, name: str, parent: str) -> None:
        self._found(c.SetArea(name, parent, "LV"))
        self._found(c.SetFee(name, draw.choice((0, 1, 1, 3))))
        self._found(c.SetCapacity(name, *(draw.choice((0, 20, 80, 400, 4000, 4000)) for _ in range(2)), "x"))

    def _open_account(self, draw: random.Random, number: int, area: str) -> None:
        group, connection = draw.choice(("", "", "", "family")), draw.choice(("", *CONNECTIONS))
        self._found(c.OpenAccount(f"{number:032x}", area, group, connection, ""))
        self._found(c.Fund(self.engine.accounts[-1].index, draw.choice((600, 5000, 10**6, 10**6)), "opening", ""))

    def _found(self, command: Any) -> None:
        events = self.engine.apply(command, START_MS)
        assert events and not isinstance(events[0], Refused), (command, events)
        self.log += events
        self.mirror.see(events)

    def engine_copy(self) -> Engine:
        """Another engine in the same state."""
        return Engine.load(self.engine.dump())

    def step(self, command: Any, at_ms: int) -> None:
        """Apply one command; check everything that is to be checked."""
        before = self.engine.state_hash() if self.checks.with_hash else ""
        events = self.engine.apply(command, at_ms)
        expected = self.oracle.apply(command, at_ms) if self.oracle else []
        refused = bool(events) and isinstance(events[0], Refused)
        if not refused:
            if isinstance(command, c.SignedOrder):
                self.signed[events[0].seq] = signed_fields(command)
            self.log += events
            self.mirror.see(events, self.checks.before_event, self.checks.after_event)
        self.checks.after_command(self, command, events, comparable(events), expected, before)


def random_params(draw: random.Random, base: c.SetParams, netting_permille: int) -> c.SetParams:
    """Limits of the market; each guard rail is on in some worlds."""
    params = base._replace(netting_permille=netting_permille, tick_e4=draw.choice((1, 1, 1, 2)))
    if draw.random() < 0.35:
        params = params._replace(
            collar_e4=draw.choice((1, 3, 6)), collar_period_s=draw.choice((1, 60)), collar_halt_s=draw.choice((1, 60)),
        )  # fmt: skip
    if draw.random() < 0.25:
        params = params._replace(
            throttle_per_min=draw.choice((60, 6_000, 600_000)), throttle_burst=draw.choice((1, 3, 6)),
            throttle_credit=draw.choice((0, 1, 2)),
        )  # fmt: skip
    if draw.random() < 0.35:
        params = params._replace(
            connection_import_w=draw.choice((0, 200, 600)), connection_export_w=draw.choice((0, 200, 600))
        )
    return params


# --- commands ----------------------------------------------------------------------------------------------------------


Kinds = Sequence[tuple[float, Any]]


class Commands:
    """Makes random commands for a world, knowing what is open in it."""

    def __init__(self, draw: random.Random, world: World):
        self.draw, self.world, self.at_ms = draw, world, START_MS
        self.arrivals: Kinds = (
            (30, self.place),
            (10, self.iceberg),
            (9, self.block),
            (6, self.sweep),
            (7, self.basket),
        )
        self.changes: Kinds = (
            (9, self.amend), (4, self.hibernate), (5, self.reactivate), (4, self.cancel), (1, self.cancel_all),
            (1, self.expire), (8, self.capacity), (4, self.halt), (4, self.lift), (3, self.params),
            (2, self.connection), (5, self.recall), (0.2, self.close_contract), (0.2, self.close_account),
            (1, self.fund), (0.2, self.deliver), (0.6, self.key),
            (0.4, self.fee), (0.4, self.tariff),
        )  # fmt: skip

    def next(self) -> tuple[Any, int]:
        """The next command and its time."""
        draw = self.draw
        contracts = self.world.mirror.contracts
        chance = draw.random()
        if chance < 0.03:
            self.at_ms += draw.choice((1_000, 60_000))
        elif chance < 0.036:
            gates = [contract.gate_ms for contract in contracts.values() if contract.gate_ms > self.at_ms]
            self.at_ms = min(gates) + draw.choice((-1, 0, 0, 1)) if gates else self.at_ms
        else:
            self.at_ms += draw.choice((0, 1, 5))
        over = [x for x in contracts.values() if x.halted and x.until_ms and x.until_ms <= self.at_ms]
        if over and draw.random() < 0.5:
            return c.SetHalt("contract", over[0].name, 0, "over"), self.at_ms
        past = [x.name for x in contracts.values() if x.state == "open" and x.gate_ms <= self.at_ms]
        if past and draw.random() < 0.15:
            return c.CloseContract(past[0]), self.at_ms
        few = len(self.world.mirror.orders) < FEW
        kinds = self.arrivals if draw.random() < (0.9 if few else 0.5) else self.changes
        weights, makers = zip(*kinds, strict=True)
        command = draw.choices(makers, weights)[0]()
        if draw.random() < 0.04:
            command = self.spoiled(command)
        return self.signed(command), self.at_ms

    def signed(self, command: Any) -> Any:
        """An order as accounts with a key send it, nearly always."""
        account = self.world.mirror.accounts.get(getattr(command, "account", -1))
        keyed = type(command).__name__ in ORDERS and account is not None and account.key
        if not keyed or self.draw.random() < 0.05:
            return command
        made = c.SignedOrder(command.account, command, "5" * 128, "6" * 64, "7" * 64)
        if self.draw.random() < 0.97:
            return made
        return made._replace(**self.draw.choice(({"account": self.account()}, {"order": None}, {"signature": "no"})))

    def key(self) -> Any:
        account, key = self.account(), self.draw.choice(("", *KEYS))
        if self.draw.random() < 0.3:
            return c.SetAccountKey(account, key)
        known = self.world.mirror.accounts.get(account)
        proof, approval, reason = "8" * 128 * bool(key), "", ""
        if known is not None and known.key:
            approval, reason = self.draw.choice((("9" * 128, ""), ("", "lost_device"), ("", "market_operator")))
        changes = self.draw.choice((-1, -1, 0, 1, 2))
        made = c.SetAccountKey(account, key, proof, approval, "7" * 64 if proof or approval else "", reason, changes)
        if self.draw.random() < 0.9:
            return made
        field = self.draw.choice(("proof", "approval", "rules", "reason"))
        return made._replace(**{field: self.draw.choice(("", "9" * 128, "9" * 64, "market_operator", "gift"))})

    # --- parts of commands -----------------------------------------------------------------------------------------

    def account(self) -> int:
        return self.draw.choice(self.world.members)

    def contract(self) -> str:
        names = self.world.contracts
        return self.draw.choice(names if self.draw.random() < 0.15 else names[:2])

    def terms(self) -> tuple[str, int]:
        """A side, and a price that some of the other side would take."""
        side = self.draw.choice(("buy", "sell"))
        return side, self.price(13, 25) if side == "buy" else self.price(7, 19)

    def price(self, least: int = 8, most: int = 24) -> int:
        price_e4 = self.draw.randint(least, most)
        return price_e4 - price_e4 % self.world.mirror.params.tick_e4

    def energy(self) -> int:
        return self.draw.choice((1, 3, 10, 10, 40, 100))

    def time(self, *allowed: str) -> tuple[str, int]:
        time_in_force = self.draw.choice(allowed)
        return time_in_force, self.at_ms + self.draw.randint(1, 40) if time_in_force == "gtd" else 0

    def order(self, *wheres: str) -> tuple[int, int]:
        """An open order's owner, now and then somebody else, and its id."""
        orders = [order for order in self.world.mirror.orders if not wheres or order.where in wheres]
        if not orders:
            return self.account(), 0
        order = self.draw.choice(orders)
        chance = self.draw.random()
        return (-1 if chance < 0.05 else self.account() if chance < 0.1 else order.account), order.id

    def last(self, first: str) -> str:
        names = self.world.contracts
        if self.draw.random() < 0.1:
            return self.draw.choice(names)
        return names[min(names.index(first) + self.draw.choice((0, 1, 1, 2)), len(names) - 1)]

    # --- commands --------------------------------------------------------------------------------------------------

    def place(self) -> Any:
        times = self.time("gtg", "gtg", "gtg", "gtd", "ioc", "fok")
        return c.PlaceOrder(self.account(), self.contract(), *self.terms(), self.energy(), *times)

    def iceberg(self) -> Any:
        energy_wh = self.draw.choice((3, 10, 40, 100))
        display_wh = self.draw.choice((1, 2, 5, energy_wh // 2))
        return c.PlaceIceberg(
            self.account(), self.contract(), *self.terms(), energy_wh, *self.time("gtg", "gtg", "gtd"),
            display_wh,
        )  # fmt: skip

    def sweep(self) -> Any:
        first = self.contract()
        return c.PlaceSweep(self.account(), first, self.last(first), *self.terms(), self.energy())

    def block(self) -> Any:
        first, (side, price_e4) = self.contract(), self.terms()
        price_e4 += self.draw.choice((0, 4)) * (1 if side == "buy" else -1)
        return c.PlaceBlock(
            self.account(), first, self.last(first), side, price_e4, self.draw.choice((1, 3, 5, 10)),
            *self.time("gtg", "gtg", "gtd", "fok"),
        )  # fmt: skip

    def basket(self) -> Any:
        """Legs that often find what they want: at the price of something that rests on the other side."""
        mirror, account = self.world.mirror, self.account()
        group = mirror.accounts[account].group
        family = [index for index, other in mirror.accounts.items() if other.group == group]
        offers = [order for order in mirror.resting() if mirror.group(order) != group]
        legs = []
        for _ in range(self.draw.choice((2, 2, 2, 3, 4))):
            index = self.draw.choice(family) if self.draw.random() < 0.95 else self.account()
            if offers and self.draw.random() < 0.9:
                order = self.draw.choice(offers)
                side = "buy" if order.side == "sell" else "sell"
                price_e4 = 24 if side == "buy" else 8
                energy_wh = self.draw.choice((1, order.shown_wh, order.left_wh))
                legs.append(c.Leg(index, order.contract, side, price_e4, energy_wh))
            else:
                legs.append(c.Leg(index, self.contract(), *self.terms(), self.draw.choice((1, 3, 10))))
        return c.PlaceBasket(account, tuple(legs))

    def amend(self) -> Any:
        energy_wh = self.draw.choice((-1, 2, 5, 20, 60))
        wheres = (RESTING,) if self.draw.random() < 0.8 else ()
        return c.AmendOrder(*self.order(*wheres), self.draw.choice((-1, self.price())), energy_wh)

    def hibernate(self) -> Any:
        wheres = (RESTING,) if self.draw.random() < 0.8 else ()
        kind = c.ReactivateOrder if self.draw.random() < 0.05 else c.HibernateOrder
        return kind(*self.order(*wheres))

    def reactivate(self) -> Any:
        asleep = any(order.where == ASLEEP for order in self.world.mirror.orders)
        return c.ReactivateOrder(*self.order(ASLEEP)) if asleep else self.hibernate()

    def cancel(self) -> Any:
        return c.CancelOrder(*self.order(), self.draw.choice(("owner", "owner", "owner", "mistake", "kill")))

    def cancel_all(self) -> Any:
        return c.CancelAll(self.account(), self.draw.choice(("", self.contract())), "owner")

    def expire(self) -> Any:
        return c.Expire()

    def capacity(self) -> Any:
        values = (0, 20, 60, 400, 4000)
        return c.SetCapacity(
            self.draw.choice(self.world.names[1:] or ["R"]), self.draw.choice(values), self.draw.choice(values),
            *self.why("cut"),
        )  # fmt: skip

    def why(self, reason: str) -> tuple[str, str]:
        """The reason of a decision, and often a commitment to words. Draws nothing: worlds stay what they are."""
        return reason, ("", "c1" * 32, f"{self.at_ms:064x}")[self.at_ms % 3] if reason else ""

    def maybe_why(self) -> tuple[str, str]:
        """The same, or none, as in entries of older logs."""
        return self.why(("", "planning")[self.at_ms % 2])

    def fee(self) -> Any:
        return c.SetFee(self.draw.choice(self.world.names), self.draw.choice((-1, 0, 1, 2)), *self.maybe_why())

    def tariff(self) -> Any:
        return c.SetTariff(self.draw.choice((20, 30)), self.draw.choice((3, 5, 31)), *self.maybe_why())

    def halt(self) -> Any:
        scope = self.draw.choice(("market", "contract", "contract", "area", "account"))
        targets = {
            "market": "", "contract": self.contract(), "area": self.draw.choice(self.world.names),
            "account": str(self.account()),
        }  # fmt: skip
        until_ms = (
            self.at_ms + self.draw.choice((1, 5, 1000)) if scope == "contract" and self.draw.random() < 0.5 else 0
        )
        return c.SetHalt(scope, targets[scope], 1, "test", until_ms, int(self.draw.random() < 0.3), self.why("test")[1])

    def lift(self) -> Any:
        """End a halt, one that is on if there is any."""
        mirror = self.world.mirror
        halted = [("market", "")] if mirror.halted else []
        halted += [("contract", x.name) for x in mirror.contracts.values() if x.halted]
        halted += [("area", area.name) for area in mirror.areas.values() if area.halted]
        halted += [("account", str(x.index)) for x in mirror.accounts.values() if x.halted]
        if not halted and self.draw.random() < 0.9:
            return self.recall()
        return c.SetHalt(
            *self.draw.choice(halted or [("contract", self.contract())]), 0, "test", commitment=self.why("test")[1]
        )

    def params(self) -> Any:
        params = random_params(self.draw, PARAMS, self.draw.choice((0, 500, 1000, 777)))
        reason, commitment = self.maybe_why()
        return params._replace(tick_e4=self.world.mirror.params.tick_e4, reason=reason, commitment=commitment)

    def connection(self) -> Any:
        watts = (0, 0, 100, 400)
        return c.SetConnection(
            self.account(), self.draw.choice(("", *CONNECTIONS)), self.draw.choice(watts), self.draw.choice(watts),
            *self.maybe_why(),
        )  # fmt: skip

    def recall(self) -> Any:
        trades = [trade.seq for contract in self.world.mirror.contracts.values() for trade in contract.trades]
        if not trades and self.draw.random() < 0.9:
            return self.place()
        return c.RecallTrade(self.draw.choice(trades or [0]), *self.why("mistake"))

    def close_contract(self) -> Any:
        return c.CloseContract(self.contract())

    def deliver(self) -> Any:
        return c.DeliverContract(self.contract())

    def close_account(self) -> Any:
        still = [x.index for x in self.world.mirror.accounts.values() if not x.closed]
        return c.CloseAccount(self.account() if len(still) > 1 else -1)

    def fund(self) -> Any:
        return c.Fund(self.account(), self.draw.choice((-1000, 500, 5000)), "deposit", "")

    def spoiled(self, command: Any) -> Any:
        """The command with one field out of order."""
        wrong: dict[str, tuple[Any, ...]] = {
            "account": (-7, 0, 999), "contract": ("2026-06-06T09:00Z", "no"), "last": ("no", self.world.contracts[0]),
            "side": ("gift",), "price_e4": (0, MAX_PRICE_E4 + 1, -2, 9), "energy_wh": (0, 101, -3),
            "time_in_force": ("day", "gtd", "ioc", "fok"), "expires_at_ms": (1, self.at_ms + 1, 10**15),
            "display_wh": (0, 10**6), "legs": ((), command.legs[:1] if hasattr(command, "legs") else ()),
            "trade": (0, 10**6), "order": (0, 10**6), "netting_permille": (-1, 1001), "collar_period_s": (-1,),
            "until_ms": (1, self.at_ms), "import_w": (-1,), "on": (2,), "cancel": (1, 2), "amount_e7": (0,),
            "commitment": ("no", "C1" * 32, "c1" * 31),
        }  # fmt: skip
        fields = [name for name in command._fields if name in wrong and not isinstance(command, c.SetCapacity)]
        if not fields:
            return command
        field = self.draw.choice(fields)
        return command._replace(**{field: self.draw.choice(wrong[field])})


def play(draw: random.Random, steps: int, checks: Any) -> World:
    """Play so many random commands in a random world."""
    world = World(draw, checks)
    commands = Commands(draw, world)
    for _ in range(steps):
        world.step(*commands.next())
    checks.at_end(world, commands)
    return world


def play_seeds(seeds: Iterable[int], make_checks: Callable[[], Any]) -> None:
    """Play a world for each seed; a failure names the seed, and how to play that world alone."""
    for seed in seeds:
        try:
            play(random.Random(seed), STEPS, make_checks())
        except Exception as error:
            error.add_note(f"world {seed}: make soak SEED={seed} WORLDS=1")
            raise
