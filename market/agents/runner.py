"""Looks after every home that no person trades for: forecasts, decides, and keeps one order a contract up to date.

Each home has its own moment within the interval, so that the market moves all the time instead of once an interval.
What is decided depends on the seed, market time, the market and, where a person has handed the trading over, that person's
limits. Those are read before each decision and once more after its orders are known to be a person's: whoever changes them in
between finds nothing in the book that breaks them.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from market.agents import operations, queries
from market.agents.battery import Battery
from market.agents.forecast import Forecaster, noise
from market.agents.strategies import household, limits
from market.agents.strategies.limits import FREE, Limits
from market.agents.wallets import NOTHING, Standing, wallets_of
from market.engine.commands import AmendOrder, CancelOrder, Command, PlaceOrder
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.engine.events import OrderPlaced
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Outcome

log = logging.getLogger(__name__)

MAX_COMMANDS = 1_000  # the exchange's largest batch
MAX_HOMES = 1_000_000
ACTIVE_SHARE = 900  # permille of the interval in which homes look, so that a late tick misses nobody
ANSWER_TIMEOUT_S = 60.0
DEMO_LEADS = (48, 16, 4, 3, 2, 1)  # intervals before delivery at which a home looks at a contract, farthest first

Part = tuple[int, int]  # index of a profile, W at share 1


class AgentHome(NamedTuple):
    """A home as its agent knows it. ``seed`` makes its errors its own; ``person``: somebody set limits, or may."""

    account: int
    area: str
    seed: int
    use: tuple[Part, ...]
    make: tuple[Part, ...]
    battery: Battery | None
    person: bool = False


class Calendar(NamedTuple):
    """How market time meets the profiles. All instants in ms."""

    interval_ms: int
    steps: int  # profile steps of one interval
    step_of: Callable[[int], int]  # instant -> step
    hour_of: Callable[[int], int]  # instant -> local hour


class Sun(NamedTuple):
    """Which profiles are roofs, and the most they bring together in a week."""

    profiles: tuple[int, ...]
    best: int


class Outlook(NamedTuple):
    """What is expected of one contract, the same for all homes."""

    contract: str
    shares: list[int]  # by profile, summed over the interval's steps
    sun: int  # permille of the best
    hour: int
    rank: int  # of the lead: 0 = the farthest
    lead: int


class Batch(NamedTuple):
    """Commands under way, and the limits that those for persons were decided by."""

    commands: list[tuple[Command, None]]
    answers: Future[list[Outcome]]
    limits: dict[int, Limits]


class Best(NamedTuple):
    """Best all-in prices of a contract seen from an area, 0 = none."""

    bid_e4: int
    ask_e4: int


class Terms(NamedTuple):
    """A contract's prices and the market's tick."""

    topup_e4: int
    spill_e4: int
    tick_e4: int
    max_order_wh: int
    best: dict[str, Best]  # by area
    halted: frozenset[str]  # areas in which nobody may trade now


NO_BEST = Best(0, 0)


class Runner:
    """Agents of many homes on one exchange. Not thread-safe: one thread ticks.

    ``in_flight`` batches may wait for their answers (0: each tick waits, so the next one sees what it did).
    ``share_unit``: what a profile share of 1 is as an integer. ``charge_of`` tells a battery's charge in Wh.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        forecaster: Forecaster,
        calendar: Calendar,
        sun: Sun,
        share_unit: int,
        charge_of: Callable[[int], int],
        leads: Sequence[int] = DEMO_LEADS,
        seed: int = 1,
        in_flight: int = 0,
    ):
        self._exchange = exchange
        self._forecaster = forecaster
        self._calendar = calendar
        self._sun = sun
        self._unit = share_unit * 60 * 60_000 // (calendar.interval_ms // calendar.steps)  # share x W -> Wh
        self._charge_of = charge_of
        self._leads = tuple(sorted(leads, reverse=True))
        self._seed = seed
        self._in_flight = in_flight
        self._homes: list[tuple[int, AgentHome]] = []  # moment within the interval (ms), home
        self._newcomers: list[AgentHome] = []  # persons who have just handed their trading over
        self._interval = -1
        self._next = 0  # index of the next home to look
        self._looked_ms = -1  # moment of the last home that looked in this interval
        self._orders: dict[str, dict[int, int]] = {}  # contract -> account -> resting order
        self._pending: deque[Batch] = deque()
        self._known_terms: dict[str, Terms] = {}
        self._seen: tuple[int, list[Outlook]] = (-1, [])
        self.placed = 0
        self.refused: Counter[str] = Counter()

    def know(self, forecaster: Forecaster, sun: Sun) -> None:
        """Forecast from this from now on; ``set_homes`` comes next where the profiles are others."""
        self._forecaster, self._sun = forecaster, sun
        self._seen = (-1, [])

    # --- homes ------------------------------------------------------------------------------------------------------
    def set_homes(self, homes: Iterable[AgentHome]) -> None:
        """Look after these homes from now on; orders left for others are taken back.

        Persons who are new here do not wait for their moment: their homes look at the next tick.
        """
        homes = list(homes)
        if len(homes) > MAX_HOMES:
            raise ValueError(f"expected at most {MAX_HOMES} homes, was {len(homes)}")
        before = {home.account for _, home in self._homes}
        active_ms = self._calendar.interval_ms * ACTIVE_SHARE // 1000
        self._homes = sorted(
            ((active_ms * (noise(self._seed, home.seed) + 1000) // 2001, home) for home in homes),
            key=lambda entry: (entry[0], entry[1].account),
        )
        self._newcomers = [home for home in homes if home.person and home.account not in before]
        # Who joins or leaves shifts the others by some places; their moments say who has looked already.
        self._next = bisect_right(self._homes, self._looked_ms, key=lambda entry: entry[0])
        self._let_go(before - {home.account for home in homes})

    def adopt(self) -> None:
        """Find the orders that agents left resting before a restart; what persons placed themselves is left alone.

        Orders of autopilots that were switched off or limited while nothing ran are taken back.
        """
        mine = {home.account for _, home in self._homes if not home.person}

        def resting(engine: Engine) -> list[tuple[str, int, int]]:
            return [
                (order.contract, order.account, order.id) for order in engine.orders.values() if order.account in mine
            ]

        operations.obey(self._exchange)
        self._orders = {}
        for contract, account, order in self._exchange.read(resting):
            self._orders.setdefault(contract, {})[account] = order
        persons = {home.account for _, home in self._homes if home.person}
        for one in queries.open_orders(self._exchange, persons) if persons else ():
            self._orders.setdefault(one.contract, {})[one.account] = one.order

    def _let_go(self, accounts: set[int]) -> None:
        left = [(a, orders.pop(a)) for orders in self._orders.values() for a in accounts & orders.keys()]
        # Who switched the autopilot off has its orders back already; asking again would only be refused.
        waiting = self._exchange.read(lambda engine: [one for one in left if one[1] in engine.orders])
        commands: list[Command] = [CancelOrder(account, order, "owner") for account, order in waiting]
        for start in range(0, len(commands), MAX_COMMANDS):
            self._submit(commands[start : start + MAX_COMMANDS])

    # --- time -------------------------------------------------------------------------------------------------------
    def tick(self, now_ms: int) -> int:
        """Let every home look whose moment has come, as far as one batch goes; return the number of commands sent.

        Raises ``Overloaded``: then the same homes look again at the next tick.
        """
        interval_ms = self._calendar.interval_ms
        interval, moment = divmod(now_ms, interval_ms)
        self._answered()
        if interval != self._interval:
            self._interval, self._next, self._looked_ms = interval, 0, -1
            self._forget(contract_name(interval * interval_ms))
        size = MAX_COMMANDS // (2 * len(self._leads))
        if self._newcomers:
            sent = self._look(self._newcomers[:size], now_ms)
            del self._newcomers[:size]
            return sent
        first = self._next
        until = first
        limit = min(len(self._homes), first + size)
        while until < limit and self._homes[until][0] <= moment:
            until += 1
        if until == first:
            return 0
        sent = self._look([home for _, home in self._homes[first:until]], now_ms)
        self._next, self._looked_ms = until, self._homes[until - 1][0]
        return sent

    def sweep(self, now_ms: int) -> int:
        """Let every home look at once, as in the market's first moment; return the number of commands sent.

        Raises ``Overloaded`` when the exchange does not take them all.
        """
        sent = 0
        size = MAX_COMMANDS // (2 * len(self._leads))
        for start in range(0, len(self._homes), size):
            sent += self._look([home for _, home in self._homes[start : start + size]], now_ms)
        return sent

    def finish(self) -> None:
        """Wait for the answers still under way."""
        while self._pending:
            self._collect()

    # --- one batch --------------------------------------------------------------------------------------------------
    def _look(self, homes: list[AgentHome], now_ms: int) -> int:
        outlooks = self._outlooks(now_ms)
        persons = {home.account for home in homes if home.person}
        allowed = queries.limits_of(persons) if persons else {}
        homes = [home for home in homes if not home.person or home.account in allowed]
        if len(self._leads) > 1:
            terms, standing = self._exchange.read(lambda engine: self._read(engine, outlooks, homes))
        else:  # nobody who looks once has anything to come back to, and terms don't change once a contract is open
            terms, standing = self._terms(outlooks), {}
        wallets = self._exchange.read(lambda engine: wallets_of(engine, allowed, standing, terms)) if allowed else {}
        homes = [home for home in homes if not home.person or home.account in wallets]
        commands: list[Command] = []
        for home in homes:
            charge = self._charge_of(home.account) if home.battery is not None else 0
            for outlook in outlooks:
                if outlook.contract in terms and home.area not in terms[outlook.contract].halted:
                    stands = standing.get((home.account, outlook.contract), NOTHING)
                    bounds, wallet = allowed.get(home.account, FREE), wallets.get(home.account)
                    if wallet is not None:  # what the person has on offer is as good as traded
                        room = wallet.rooms[outlook.contract]
                        own_wh = room.own_buys_wh - room.own_sells_wh
                        stands = stands._replace(position_wh=stands.position_wh + own_wh)
                    intent = self._decide(home, bounds, outlook, stands, terms[outlook.contract], charge, now_ms)
                    if wallet is not None:
                        topup_e4 = terms[outlook.contract].topup_e4
                        intent, purse = limits.affordable(
                            limits.fitting(intent, room), wallet.purse, _set_aside_e7(stands, topup_e4), topup_e4
                        )
                        wallets[home.account] = wallet._replace(purse=purse)
                    commands += _commands(home.account, outlook.contract, stands, intent)
        if commands:
            self._submit(commands, allowed)
        return len(commands)

    def _terms(self, outlooks: list[Outlook]) -> dict[str, Terms]:
        name = outlooks[0].contract
        if name not in self._known_terms:
            self._known_terms, _ = self._exchange.read(lambda engine: self._read(engine, outlooks, []))
        return self._known_terms

    def _outlooks(self, now_ms: int) -> list[Outlook]:
        calendar = self._calendar
        current = now_ms // calendar.interval_ms * calendar.interval_ms
        if self._seen[0] == current:
            return self._seen[1]
        observed = calendar.step_of(current) - 1
        outlooks = []
        for rank, lead in enumerate(self._leads):
            start = current + lead * calendar.interval_ms
            ahead = lead * calendar.steps + 1
            parts = [self._forecaster.expect(observed, ahead + step) for step in range(calendar.steps)]
            shares = parts[0] if len(parts) == 1 else [sum(values) for values in zip(*parts, strict=True)]
            sunny = sum(shares[profile] for profile in self._sun.profiles)
            best = self._sun.best * calendar.steps
            sun = min(1000, sunny * 1000 // best) if best else 0
            outlooks.append(Outlook(contract_name(start), shares, sun, calendar.hour_of(start), rank, lead))
        self._seen = (current, outlooks)
        return outlooks

    def _read(
        self, engine: Engine, outlooks: list[Outlook], homes: list[AgentHome]
    ) -> tuple[dict[str, Terms], dict[tuple[int, str], Standing]]:
        terms: dict[str, Terms] = {}
        standing: dict[tuple[int, str], Standing] = {}
        tick_e4, max_order_wh = engine.params.tick_e4, engine.params.max_order_wh
        areas = {home.area for home in homes}
        halted = frozenset(area.name for area in engine.grid.areas if area.halted_above)
        for outlook in outlooks:
            name = outlook.contract
            contract = engine.contracts.get(name)
            if contract is None or contract.state != "open" or contract.halted or engine.halted:
                continue  # asking would only be refused, and each refusal is kept for the regulator
            best = {area: Best(*(price or 0 for price in engine.best(area, name))) for area in areas}
            terms[name] = Terms(contract.topup_e4, contract.spill_e4, tick_e4, max_order_wh, best, halted)
            tallies, orders = contract.tallies, self._orders.get(name, {})
            for account in (home.account for home in homes):
                tally = tallies.get(account)
                order = engine.orders.get(orders.get(account, -1))
                if tally is None and order is None:
                    continue
                position = 0 if tally is None else tally.bought_wh - tally.sold_wh
                if order is None:
                    standing[account, name] = Standing(position, -1, "", 0, 0, 0)
                else:
                    standing[account, name] = Standing(
                        position, order.id, order.side, order.price_e4, order.filled_wh, order.remaining_wh
                    )
        return terms, standing

    def _decide(
        self,
        home: AgentHome,
        bounds: Limits,
        outlook: Outlook,
        stands: Standing,
        terms: Terms,
        charge_wh: int,
        now_ms: int,
    ) -> household.Intent | None:
        shares = outlook.shares
        power = 0
        for profile, watts in home.use:
            power += shares[profile] * watts
        for profile, watts in home.make:
            power -= shares[profile] * watts
        interval_ms = self._calendar.interval_ms
        best = terms.best.get(home.area, NO_BEST)
        elapsed = now_ms % interval_ms * 1000 // interval_ms
        temper = noise(self._seed, home.seed, now_ms // interval_ms + outlook.lead)
        view = household.View(
            urgency=(outlook.rank * 1000 + elapsed) // len(self._leads),
            need_wh=power // self._unit,
            position_wh=stands.position_wh,
            sun=outlook.sun,
            noise=temper,
            error=0 if home.person else temper,  # nobody's own money pays for errors that are made up
            last=outlook.rank == len(self._leads) - 1,
            topup_e4=terms.topup_e4,
            spill_e4=terms.spill_e4,
            tick_e4=terms.tick_e4,
            bid_e4=best.bid_e4,
            ask_e4=best.ask_e4,
        )
        intent = limits.decide(view, bounds, home.battery, charge_wh, outlook.hour)
        if intent is not None and intent.energy_wh > terms.max_order_wh:
            intent = intent._replace(energy_wh=terms.max_order_wh)
        return intent

    # --- answers ----------------------------------------------------------------------------------------------------
    def _submit(self, commands: list[Command], allowed: dict[int, Limits] | None = None) -> None:
        batch: list[tuple[Command, None]] = [(command, None) for command in commands]
        self._pending.append(Batch(batch, self._exchange.submit_many(batch), allowed or {}))
        self._answered()

    def _answered(self) -> None:
        """Wait until no more batches are under way than may be."""
        while len(self._pending) > self._in_flight:
            self._collect()

    def _collect(self) -> None:
        batch = self._pending[0]
        try:
            outcomes = batch.answers.result(ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise  # it is asked again before anything else is done: its orders may be in the book
        except Exception:
            self._pending.popleft()
            raise
        self._learn(batch, outcomes)
        # Only what is learnt completely is over: an order that nobody noted would look like its person's own.
        self._pending.popleft()
        for outcome in outcomes:
            if outcome.refused is not None:
                self.refused[outcome.refused.code] += 1
            elif type(outcome.events[0]) is OrderPlaced:
                self.placed += 1

    def _learn(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Remember and note what a batch placed. Safe to repeat."""
        remember = len(self._leads) > 1  # who looks once never comes back to an order
        noted: list[operations.Placed] = []
        for (command, _), outcome in zip(batch.commands, outcomes, strict=True):
            if outcome.refused is None and type(command) is PlaceOrder:
                placed = outcome.events[0]
                assert isinstance(placed, OrderPlaced), f"expected OrderPlaced, was {placed!r}"
                if command.account in batch.limits:
                    noted.append(operations.Placed(placed.seq, command.account, command.contract, placed.at_ms))
                if remember and command.time_in_force == household.GOOD_TILL_GATE:
                    self._orders.setdefault(command.contract, {})[command.account] = placed.seq
        if noted:
            operations.note(noted)
        if batch.limits and queries.limits_of(batch.limits) != batch.limits:
            # Changed while this was under way: what was not noted then could not be taken back.
            operations.obey(self._exchange, accounts=batch.limits)

    def _forget(self, current: str) -> None:
        """Drop the orders of contracts whose delivery has begun; names sort by time."""
        for contract in [contract for contract in self._orders if contract <= current]:
            del self._orders[contract]


def _set_aside_e7(stands: Standing, topup_e4: int) -> int:
    """Return what the resting order has set aside."""
    return limits.set_aside_e4(stands.side, stands.price_e4, topup_e4) * stands.remaining_wh if stands.order >= 0 else 0


def _commands(account: int, contract: str, stands: Standing, intent: household.Intent | None) -> list[Command]:
    """Return what turns the resting order into the wanted one: nothing, an amendment, or another order instead."""
    if intent is None:
        return [] if stands.order < 0 else [CancelOrder(account, stands.order, "owner")]
    place = PlaceOrder(account, contract, intent.side, intent.price_e4, intent.energy_wh, intent.time_in_force, 0)
    if stands.order < 0:
        return [place]
    # Never another one for the same energy: somebody may take the first before it is cancelled, in the same batch even, and
    # the energy would be promised twice. What an amendment says is the total, whatever was taken.
    if stands.side != intent.side:
        return [CancelOrder(account, stands.order, "owner"), place]
    if stands.price_e4 == intent.price_e4 and stands.remaining_wh == intent.energy_wh:
        return []
    return [AmendOrder(account, stands.order, intent.price_e4, stands.filled_wh + intent.energy_wh)]
