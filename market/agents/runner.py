"""Looks after every home that no person trades for: forecasts, decides, and keeps one order a contract up to date.

What is decided depends on the seed, market time, the market and, where a person has handed the trading over, that person's
limits. Those are read before each decision and once more after its orders are known to be a person's: whoever changes them in
between finds nothing in the book that breaks them.

What is placed for a person carries an idempotency key of the look that placed it (``operations.key_of``). The exchange keeps
it in the order's own transaction: a look that is repeated after a crash cannot place a second order, and an order whose
answer nobody saw is found again by its key (``operations.recover_notes``).
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from django.db import DatabaseError

from market.agents import operations, queries
from market.agents.ahead import DEMO_LEADS, Ahead, Calendar, Outlook, Sun
from market.agents.backoff import Backoff, Look
from market.agents.forecast import Forecaster, noise
from market.agents.queries import Allowed
from market.agents.strategies import household, limits
from market.agents.strategies.limits import FREE, Limits
from market.agents.turns import AgentHome, Round, Turns
from market.agents.wallets import (
    NO_BEST,
    NOTHING,
    Standing,
    Terms,
    Wallet,
    breaking,
    money_of,
    standing_of,
    still_open,
    terms_of,
    wallets_of,
)
from market.engine.commands import AmendOrder, CancelOrder, Command, PlaceOrder
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.engine.events import OrderAmended, OrderPlaced, OrderReactivated
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Committed, ExchangeError, Outcome

log = logging.getLogger(__name__)

MAX_COMMANDS = 1_000  # the exchange's largest batch
MAX_HOMES = 1_000_000
MAX_HEARD = 10_000  # orders of persons that wait to be looked at; what is more is seen at the homes' next looks
ANSWER_TIMEOUT_S = 60.0
# What is wrong with the market or the database is over some time; until then the same homes wait for their look.
TRIED_AGAIN = (ExchangeError, TimeoutError, ConnectionError, DatabaseError)


class Known(NamedTuple):
    """Homes of which enough is known to trade for them, and accounts of those of which it is not: they have no orders."""

    homes: list[AgentHome]
    blind: frozenset[int] = frozenset()


class Batch(NamedTuple):
    """Commands under way, and the limits that those for persons were decided by.

    ``look``: what they belong to, and whether they are the ``last`` of it.
    """

    commands: list[tuple[Command, str | None]]
    answers: Future[list[Outcome]]
    allowed: dict[int, Allowed]
    look: Look
    last: bool


class Seen(NamedTuple):
    """What one look saw of the market, all of it at one moment."""

    terms: dict[str, Terms]
    standing: dict[tuple[int, str], Standing]
    wallets: dict[int, Wallet]
    breaking: list[tuple[int, int, str]]


class Runner:
    """Agents of many homes on one exchange. Not thread-safe: one thread ticks.

    ``in_flight`` batches may wait for their answers (0: each tick waits, so the next one sees what it did).
    ``share_unit``: what a profile share of 1 is as an integer. ``charge_of`` tells a battery's charge in Wh. ``learn`` is
    asked before each look what is known of its homes at an instant; it may let the runner ``know`` other forecasts.
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
        learn: Callable[[list[AgentHome], int], Known] | None = None,
    ):
        self._exchange = exchange
        self._calendar = calendar
        self._unit = share_unit * 60 * 60_000 // (calendar.interval_ms // calendar.steps)  # share x W -> Wh
        self._charge_of = charge_of
        self._leads = tuple(sorted(leads, reverse=True))
        self._seed = seed
        self._in_flight = in_flight
        self._learn_of = learn
        self._turns = Turns(calendar.interval_ms, seed)
        self._size = MAX_COMMANDS // (2 * len(self._leads))  # homes of one look
        self._orders: dict[str, dict[int, int]] = {}  # contract -> account -> resting order
        self._left: list[tuple[int, int]] = []  # account and order of homes that went: to be taken back
        self._heard: deque[tuple[int, str, int]] = deque(maxlen=MAX_HEARD)  # account, contract, order: of persons
        self._persons: frozenset[int] = frozenset()
        self._pending: deque[Batch] = deque()
        self._backoff = Backoff()
        self._known_terms: dict[str, Terms] = {}
        self._ahead = Ahead(calendar, self._leads, forecaster, sun)
        self.placed = 0
        self.refused: Counter[str] = Counter()

    def know(self, forecaster: Forecaster, sun: Sun) -> None:
        """Forecast from this from now on; ``set_homes`` comes next where the profiles are others."""
        self._ahead.know(forecaster, sun)

    @property
    def last_round(self) -> Round | None:
        """What came of the newest interval that is over."""
        return self._turns.last

    # --- homes ------------------------------------------------------------------------------------------------------
    def set_homes(self, homes: Iterable[AgentHome]) -> None:
        """Look after these homes from now on; orders left for others are taken back.

        Persons who are new here do not wait for their moment: their homes look at the next tick.
        """
        homes = list(homes)
        if len(homes) > MAX_HOMES:
            raise ValueError(f"expected at most {MAX_HOMES} homes, was {len(homes)}")
        gone = self._turns.accounts - {home.account for home in homes}
        self._turns.set_homes(homes)
        self._backoff.keep({home.account for home in homes})
        self._persons = frozenset(home.account for home in homes if home.person)
        if gone:
            self._left += [(a, orders.pop(a)) for orders in self._orders.values() for a in gone & orders.keys()]
        self._let_go()

    def adopt(self) -> None:
        """Find the orders that agents left resting before a restart; what persons placed themselves is left alone.

        Orders of autopilots that were switched off or limited while nothing ran are taken back.
        """
        homes = self._turns.homes
        mine = {home.account for home in homes if not home.person}

        def resting(engine: Engine) -> list[tuple[str, int, int]]:
            return [
                (order.contract, order.account, order.id) for order in engine.orders.values() if order.account in mine
            ]

        operations.recover_notes(now_ms=self._exchange.now_ms())
        operations.obey(self._exchange)
        self._orders = {}
        for contract, account, order in self._exchange.read(resting) if mine else ():
            self._orders.setdefault(contract, {})[account] = order
        for one in queries.open_orders(self._exchange, self._persons) if self._persons else ():
            before = self._orders.setdefault(one.contract, {}).get(one.account)
            if before is not None:  # never two: the older one goes
                self._left.append((one.account, before))
            self._orders[one.contract][one.account] = one.order
        self._let_go()
        self._exchange.listen(self._hear)

    def _let_go(self) -> None:
        """Take back what was left; what the exchange has no time for is tried again at the next tick."""
        while self._left:
            some = self._left[:MAX_COMMANDS]
            # Who switched the autopilot off has its orders back already; asking again would only be refused.
            waiting = self._exchange.read(lambda engine: still_open(engine, some))  # noqa: B023
            if waiting:
                self._submit([(CancelOrder(account, order, "owner"), None) for account, order in waiting])
            del self._left[: len(some)]

    def _hear(self, committed: Committed) -> None:
        """Note orders of persons, in the exchange's thread: one of their own may stand beside one of the agent's."""
        persons = self._persons
        if persons:
            for event in committed.events:
                if type(event) is OrderPlaced and event.account in persons:
                    self._heard.append((event.account, event.contract, event.seq))
                elif isinstance(event, (OrderAmended, OrderReactivated)) and event.account in persons:
                    self._heard.append((event.account, event.contract, event.order))

    # --- time -------------------------------------------------------------------------------------------------------
    def tick(self, now_ms: int) -> int:
        """Let every home look whose turn it is, as far as one batch goes; return the number of commands sent.

        Raises ``Overloaded``: then the same homes look again at the next tick.
        """
        self._answered()
        if self._turns.begin(now_ms):
            self._forget(contract_name(now_ms // self._calendar.interval_ms * self._calendar.interval_ms))
        self._let_go()
        sent = self._make_way(now_ms) if self._heard else 0
        turn = self._turns.take(now_ms, self._size)
        if turn.homes:
            sent += self._look_all(turn.homes, now_ms)
        self._turns.taken(turn)
        return sent

    def _look_all(self, homes: list[AgentHome], now_ms: int, only: str = "") -> int:
        """Let homes look together or, where that fails, one by one: what is wrong with one keeps no other from trading."""
        try:
            return self._look(homes, now_ms, only)
        except TRIED_AGAIN:
            raise
        except Exception:
            log.exception("a look of %d homes failed; each looks by itself", len(homes))
        sent = 0
        for home in homes:
            try:
                sent += self._look([home], now_ms, only)
            except TRIED_AGAIN:
                raise
            except Exception:
                log.exception("the look of account %d failed; the others go on", home.account)
        return sent

    def waiting(self, now_ms: int) -> bool:
        """Whether more homes look at this instant than the last tick had room for."""
        return bool(self._turns.take(now_ms, 1).homes)

    def sweep(self, now_ms: int) -> int:
        """Let every home look at once, as in the market's first moment; return the number of commands sent.

        Raises ``Overloaded`` when the exchange does not take them all.
        """
        sent, homes = 0, self._turns.homes
        for start in range(0, len(homes), self._size):
            sent += self._look(homes[start : start + self._size], now_ms)
        return sent

    def finish(self) -> None:
        """Wait for the answers still under way."""
        while self._pending:
            self._collect()

    def _make_way(self, now_ms: int) -> int:
        """Let agents' orders give way where their persons have just placed one of their own; return the commands sent."""
        touched: dict[int, set[str]] = {}
        count = 0
        while count < len(self._heard) and len(touched) < self._size:
            account, contract, order = self._heard[count]
            count += 1
            resting = self._orders.get(contract, {}).get(account, -1)
            if resting >= 0 and resting != order:
                touched.setdefault(account, set()).add(contract)
        sent = 0
        homes = {home.account: home for home in self._turns.homes if home.account in touched} if touched else {}
        for contract in sorted(set().union(*touched.values())):
            some = [homes[a] for a in touched if contract in touched[a] and a in homes]
            sent += self._look_all(some, now_ms, contract)
        for _ in range(count):
            self._heard.popleft()
        return sent

    # --- one batch --------------------------------------------------------------------------------------------------
    def _look(self, homes: list[AgentHome], now_ms: int, only: str = "") -> int:
        """Let homes look at the contracts of the moment, or to give way at one (``only``), in which nothing is placed."""
        persons = {home.account for home in homes if home.person}
        allowed = queries.allowed(persons) if persons else {}
        known = Known([home for home in homes if not home.person or home.account in allowed])
        if self._learn_of is not None:
            known = self._learn_of(known.homes, now_ms)
        if not known.homes and not known.blind:
            return 0
        # Who waits after refusals still makes way: what takes back or makes smaller is not refused.
        waiting = set() if only else self._held_back([home.account for home in known.homes], allowed, now_ms)
        homes = [home for home in known.homes if home.account not in waiting]
        outlooks = self._ahead.expect(now_ms, only)
        seen = self._see(outlooks, homes, allowed, known.blind)
        wallets = seen.wallets
        homes = [home for home in homes if not home.person or home.account in wallets]
        deciding = {home.account: home.area for home in homes}
        commands: list[tuple[Command, str | None]] = [
            (CancelOrder(account, order, "owner"), None)
            for account, order, contract in seen.breaking
            if contract not in seen.terms or deciding.get(account, "") in ("", *seen.terms[contract].halted)
        ]
        for home in homes:
            charge = self._charge_of(home.account) if home.battery is not None else 0
            for outlook in outlooks:
                if outlook.contract in seen.terms and home.area not in seen.terms[outlook.contract].halted:
                    terms, revision = seen.terms[outlook.contract], -1
                    stands = seen.standing.get((home.account, outlook.contract), NOTHING)
                    bounds, wallet = FREE, wallets.get(home.account)
                    if wallet is not None:  # what the person has on offer is as good as traded
                        bounds, revision = allowed[home.account]
                        room = wallet.rooms[outlook.contract]
                        own_wh = room.own_buys_wh - room.own_sells_wh
                        stands = stands._replace(position_wh=stands.position_wh + own_wh)
                    intent = self._decide(home, bounds, outlook, stands, terms, charge, now_ms)
                    if wallet is not None:
                        intent, purse = limits.affordable(
                            limits.fitting(intent, room),
                            wallet.purse,
                            _set_aside_e7(stands, terms.topup_e4),
                            terms.topup_e4,
                        )
                        wallets[home.account] = wallet._replace(purse=purse)
                    for command in _commands(home.account, outlook.contract, stands, intent):
                        if type(command) is not PlaceOrder:
                            commands.append((command, None))
                        elif not only:
                            key = operations.key_of(command, outlook.lead, revision) if wallet is not None else None
                            commands.append((command, key))
        # What only makes way or takes back what breaks limits says nothing of what the market would let them place.
        asked = {} if only else {account: _revision(allowed, account) for account in deciding}
        look = Look(now_ms // self._calendar.interval_ms, asked)
        for end in range(MAX_COMMANDS, len(commands) + MAX_COMMANDS, MAX_COMMANDS):
            self._submit(commands[end - MAX_COMMANDS : end], allowed, look, end >= len(commands))
        return len(commands)

    def held_back(self, account: int, now_ms: int) -> bool:
        """Whether a home asks nothing now because the market has refused it again and again."""
        return account in self._held_back([account], queries.allowed([account]), now_ms)

    def _held_back(self, accounts: list[int], allowed: dict[int, Allowed], now_ms: int) -> set[int]:
        counted = self._backoff.among(accounts)
        if not counted:  # nearly always
            return set()
        money_e7, interval = self._exchange.read(lambda engine: money_of(engine, counted)), self._calendar.interval_ms
        return {
            account
            for account in counted
            if self._backoff.waits(account, now_ms // interval, _revision(allowed, account), money_e7[account])
        }

    def _see(
        self, outlooks: list[Outlook], homes: list[AgentHome], allowed: dict[int, Allowed], blind: frozenset[int]
    ) -> Seen:
        names = [outlook.contract for outlook in outlooks]
        if len(self._leads) == 1 and not allowed:
            # Nobody who looks once has anything to come back to, and terms don't change once a contract is open.
            if names[0] not in self._known_terms:
                self._known_terms = self._exchange.read(lambda engine: terms_of(engine, names, []))
            return Seen(self._known_terms, {}, {}, [])
        bounds: dict[int, Limits | None] = {a: None if a in blind else one.limits for a, one in allowed.items()}
        trading = [home.account for home in homes if home.person]

        def look(engine: Engine) -> Seen:
            terms = terms_of(engine, names, homes)
            standing = standing_of(engine, terms, homes, self._orders)
            wallets = wallets_of(engine, trading, standing, terms)
            return Seen(terms, standing, wallets, breaking(engine, self._orders, bounds) if bounds else [])

        return self._exchange.read(look)

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
    def _submit(
        self,
        commands: list[tuple[Command, str | None]],
        allowed: dict[int, Allowed] | None = None,
        look: Look | None = None,
        last: bool = True,
    ) -> None:
        answers = self._exchange.submit_many(commands, scope=operations.SCOPE)
        self._pending.append(Batch(commands, answers, allowed or {}, look or Look(), last))
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
        self._count(batch, outcomes)

    def _learn(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Remember and note what a batch placed. Safe to repeat."""
        remember = len(self._leads) > 1  # who looks once never comes back to an order
        noted: list[operations.Placed] = []
        for (command, _), outcome in zip(batch.commands, outcomes, strict=True):
            if type(command) is PlaceOrder and outcome.events:  # neither refused nor another order's key
                placed = outcome.events[0]
                assert isinstance(placed, OrderPlaced), f"expected OrderPlaced, was {placed!r}"
                if command.account in batch.allowed:
                    noted.append(operations.Placed(placed.seq, command.account, command.contract, placed.at_ms))
                if remember and command.time_in_force == household.GOOD_TILL_GATE:
                    self._orders.setdefault(command.contract, {})[command.account] = placed.seq
        if noted:
            operations.note(noted)
        if batch.allowed and queries.allowed(batch.allowed) != batch.allowed:
            # Changed while this was under way: what was not noted then could not be taken back.
            operations.obey(self._exchange, accounts=batch.allowed)

    def _count(self, batch: Batch, outcomes: list[Outcome]) -> None:
        for (command, _), outcome in zip(batch.commands, outcomes, strict=True):
            code = "" if outcome.refused is None else outcome.refused.code
            batch.look.take(command.account, code)  # type: ignore[union-attr]
            if code:
                self.refused[code] += 1
            elif outcome.conflict is not None:  # this look has placed its order already, before a crash
                self.refused["idempotency_conflict"] += 1
            elif type(outcome.events[0]) is OrderPlaced and not outcome.repeated:
                self.placed += 1
        if batch.last and (batch.look.refused or len(self._backoff)):
            poor = batch.look.poor
            self._backoff.count(batch.look, self._exchange.read(lambda engine: money_of(engine, poor)) if poor else {})

    def _forget(self, current: str) -> None:
        """Drop the orders of contracts whose delivery has begun; names sort by time."""
        for contract in [contract for contract in self._orders if contract <= current]:
            del self._orders[contract]


def _revision(allowed: dict[int, Allowed], account: int) -> int:
    """Return the revision of what a home may do; 0 where nobody set limits."""
    return allowed[account].revision if account in allowed else 0


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
