"""One city, one market: a city's intervals as orders, the product's engine that matches them, and the judge of its trades.

The judge knows the grid and the orders from the city's files alone. From the trades it computes fees, welfare and the net
flow of every edge, and it raises ``AccountingError`` when they contradict the orders, the fees or the engine's own books.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC
from hashlib import sha256
from typing import Any, NamedTuple

from market.engine import commands as c
from market.engine.accounts import CLEARING, MEMBER
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.engine.events import OrderPlaced, Refused, Traded
from market.simulator.neighbourhood import SHARE, STEP_MIN, City, CityError
from tests.load.optimum import Offer

SPILL_E4 = 800  # limits are drawn from here
TOPUP_E4 = 3_000  # up to here, both included
UNLIMITED_W = 10**12  # the most the engine takes for a capacity
MAX_ORDER_WH = 100_000_000  # the most it takes for one order
STEP_MS = STEP_MIN * 60_000
UNIT = 60 // STEP_MIN * SHARE  # watts * share / UNIT = Wh of a step


class AccountingError(Exception):
    """The market's books, its trades and the orders do not agree. The message says where."""


class Tree(NamedTuple):
    """The grid as the judge sees it; by area, parents first. Capacities are those of the edge above, both directions."""

    names: list[str]
    parents: list[int]  # -1 for the root
    levels: list[str]
    depths: list[int]
    capacity_w: list[int]

    @classmethod
    def of(cls, city: City) -> Tree:
        """Return the tree of a city's areas."""
        index = {area.area: number for number, area in enumerate(city.areas)}
        parents = [index[area.parent] if area.parent else -1 for area in city.areas]
        depths: list[int] = []
        for parent in parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return cls(
            list(index), parents, [area.level for area in city.areas], depths, [area.capacity_w for area in city.areas]
        )

    def edges_between(self, a: int, b: int) -> int:
        """Return how many edges lie on the path between two areas."""
        edges = 0
        while a != b:
            if self.depths[a] < self.depths[b]:
                a, b = b, a
            a = self.parents[a]
            edges += 1
        return edges


class Interval(NamedTuple):
    """One interval's orders, one a home with a surplus or a deficit. By home: area, net energy (> 0 is for sale), limit."""

    start_ms: int
    areas: Sequence[int]
    net_wh: list[int]
    prices_e4: list[int]
    arrivals: list[int]  # homes with an order, in the order these arrive
    used_wh: int  # by all homes
    own_wh: int  # of that from their own generation at the same time

    @property
    def name(self) -> str:
        """The contract's name."""
        return contract_name(self.start_ms)

    def offers(self) -> list[Offer]:
        """Return the orders as ``optimum_e7`` takes them."""
        return [
            (self.areas[home], self.net_wh[home] < 0, self.prices_e4[home], abs(self.net_wh[home]))
            for home in self.arrivals
        ]


class Needs:
    """What every home generates and uses in every interval, from the city's profiles; Wh, rounded down as its meter does."""

    def __init__(self, city: City, tree: Tree):
        index = {name: number for number, name in enumerate(tree.names)}
        profiles = city.profiles
        self.steps = profiles.steps
        self._first_ms = int(profiles.first.replace(tzinfo=UTC).timestamp()) * 1000  # local time; names only
        self._shares = profiles.shares
        self.areas = [index[home.area] for home in city.homes]
        self._loads = [profiles.parts(home.load_profiles) for home in city.homes]
        self._suns = [(profiles.index[home.pv_profile], home.pv_w) if home.pv_w else None for home in city.homes]

    def interval(self, step: int, seed: int) -> Interval:
        """Return the orders of one step of the week; the same seed and step give the same orders."""
        shares = [values[step] for values in self._shares]
        net_wh: list[int] = []
        used_wh = own_wh = 0
        for parts, sun in zip(self._loads, self._suns, strict=True):
            used = sum(shares[profile] * watts for profile, watts in parts) // UNIT
            made = shares[sun[0]] * sun[1] // UNIT if sun else 0
            used_wh += used
            own_wh += min(used, made)
            net_wh.append(made - used)
        draw = random.Random(f"{seed}/{step}")
        prices_e4 = draw.choices(range(SPILL_E4, TOPUP_E4 + 1), k=len(net_wh))
        arrivals = [home for home, net in enumerate(net_wh) if net]
        draw.shuffle(arrivals)
        start_ms = self._first_ms + step * STEP_MS
        return Interval(start_ms, self.areas, net_wh, prices_e4, arrivals, used_wh, own_wh)


class CityMarket:
    """The product's engine with a city's grid and homes in it: every home has a wallet that lasts for its orders."""

    def __init__(self, tree: Tree, areas: Sequence[int], capacity_w: Sequence[int], fee_e4: int, first_ms: int):
        """``areas``: by home. ``capacity_w``: by area, both directions. ``fee_e4``: of every edge.

        Raises ``CityError`` on a grid that the market refuses. No interval may start before ``first_ms``.
        """
        self.engine = Engine()
        self._at_ms = first_ms - STEP_MS
        self._do(c.Found("city.test/book", "EUR", STEP_MIN, "vkey", 1, "0" * 64))
        self._do(c.SetParams(TOPUP_E4, 1, MAX_ORDER_WH, 1, 2 * STEP_MIN, 0, 1_000))
        for area, name in enumerate(tree.names):
            parent = tree.parents[area]
            self._do(c.SetArea(name, tree.names[parent] if parent >= 0 else "", tree.levels[area]))
            if parent >= 0:
                self._do(c.SetFee(name, fee_e4))
                self._do(c.SetCapacity(name, capacity_w[area], capacity_w[area], "opening"))
        self._do(c.SetTariff(TOPUP_E4, SPILL_E4))
        self.accounts: list[int] = []
        for home, area in enumerate(areas):
            number = sha256(str(home).encode()).hexdigest()[:32]
            self.accounts.append(self._do(c.OpenAccount(number, tree.names[area], "", "", ""))[0].account)

    def _do(self, command: c.Command) -> list[Any]:
        events = self.engine.apply(command, self._at_ms)
        if events and type(events[0]) is Refused:
            raise CityError(f"the market refuses {command}: {events[0].code} ({events[0].field})")
        return events

    def fund(self, needs_e7: Sequence[int]) -> None:
        """Pay into every home's wallet."""
        for account, need_e7 in zip(self.accounts, needs_e7, strict=True):
            if need_e7:
                self._do(c.Fund(account, need_e7, "opening", ""))

    def trade(self, interval: Interval) -> list[Traded]:
        """Open the interval's contract, let all its orders arrive, close the gate; return the trades."""
        name, apply = interval.name, self.engine.apply
        self._at_ms = at_ms = interval.start_ms - STEP_MS
        self._do(c.OpenContract(name))
        trades: list[Traded] = []
        for home in interval.arrivals:
            net_wh = interval.net_wh[home]
            side = c.SELL if net_wh > 0 else c.BUY
            order = c.PlaceOrder(
                self.accounts[home], name, side, interval.prices_e4[home], abs(net_wh), c.GOOD_TILL_GATE, 0
            )
            events = apply(order, at_ms)
            if type(events[0]) is not OrderPlaced:
                raise AccountingError(f"expected the market to accept {order}, was {events[0]}")
            if len(events) > 1:
                trades += [event for event in events if type(event) is Traded]
        self._do(c.CloseContract(name))
        return trades

    def check(self, interval: Interval, outcome: Outcome) -> None:
        """Compare the engine's own books with what the judge made of the trades."""
        engine, contract = self.engine, self.engine.contracts[interval.name]
        if contract.volume_wh != outcome.energy_wh:
            raise AccountingError(
                f"{interval.name}: the market counts {contract.volume_wh} Wh, was {outcome.energy_wh}"
            )
        for number, flow in enumerate(engine.flows(interval.name).values(), 1):
            if flow.export_wh - flow.import_wh != outcome.flows_wh[number]:
                raise AccountingError(
                    f"{interval.name}: expected a net flow of {outcome.flows_wh[number]} Wh on edge {number}, was {flow}"
                )
        total_e7 = sum(account.cash_e7 for account in engine.accounts)
        held_e7 = sum(account.held_e7 for account in engine.accounts)
        poor = sum(account.kind in (MEMBER, CLEARING) and account.cash_e7 < 0 for account in engine.accounts)
        if total_e7 or held_e7 or poor or engine.orders:
            raise AccountingError(
                f"{interval.name}: expected no money too much, none held, nobody below zero and no open order after the "
                f"gate, was {total_e7} e7, {held_e7} e7, {poor}, {len(engine.orders)}"
            )
        clearing_e7 = engine.accounts[contract.account].cash_e7
        if clearing_e7 != outcome.clearing_e7:
            raise AccountingError(f"{interval.name}: expected {outcome.clearing_e7} e7 in clearing, was {clearing_e7}")


class Outcome(NamedTuple):
    """What the trades of one interval come to."""

    energy_wh: int
    welfare_e7: int
    fees_e7: int
    clearing_e7: int  # what buyers paid and sellers set aside as margin
    flows_wh: list[int]  # by area: net flow from it to its parent


class Judge:
    """Takes trades apart, with nothing but the city's grid, the fee and the orders to go by."""

    def __init__(self, tree: Tree, fee_e4: int, accounts: Sequence[int]):
        """``accounts``: by home."""
        self._tree = tree
        self._fee_e4 = fee_e4
        self._home_of = {account: home for home, account in enumerate(accounts)}
        self._paths: dict[tuple[int, int], int] = {}

    def judge(self, interval: Interval, trades: Sequence[Traded]) -> Outcome:
        """Return the outcome; raise ``AccountingError`` on a trade that orders and fees do not allow."""
        home_of, paths, areas = self._home_of, self._paths, interval.areas
        left_wh, prices_e4 = list(interval.net_wh), interval.prices_e4
        net_wh = [0] * len(self._tree.parents)
        energy = welfare_e7 = fees_e7 = clearing_e7 = 0
        for trade in trades:
            energy_wh, buy_e4, sell_e4 = trade.energy_wh, trade.buy_e4, trade.sell_e4
            buyer, seller = home_of[trade.buyer], home_of[trade.seller]
            source, sink = areas[seller], areas[buyer]
            edges = paths.get((source, sink))
            if edges is None:
                edges = paths[source, sink] = self._tree.edges_between(source, sink)
            fee_e4 = edges * self._fee_e4
            left_wh[seller] -= energy_wh
            left_wh[buyer] += energy_wh
            if (
                energy_wh <= 0
                or buy_e4 - sell_e4 != fee_e4
                or buy_e4 > prices_e4[buyer]
                or sell_e4 < prices_e4[seller]
                or left_wh[seller] < 0
                or left_wh[buyer] > 0
                or trade.contract != interval.name
            ):
                raise AccountingError(
                    f"{interval.name}: {trade} does not follow from the orders {interval.net_wh[seller]} Wh at "
                    f"{prices_e4[seller]} and {interval.net_wh[buyer]} Wh at {prices_e4[buyer]} with {fee_e4} of fees"
                )
            energy += energy_wh
            welfare_e7 += (prices_e4[buyer] - prices_e4[seller] - fee_e4) * energy_wh
            fees_e7 += fee_e4 * energy_wh
            clearing_e7 += (buy_e4 + max(0, TOPUP_E4 - sell_e4)) * energy_wh
            net_wh[source] += energy_wh
            net_wh[sink] -= energy_wh
        for area in range(len(net_wh) - 1, 0, -1):
            net_wh[self._tree.parents[area]] += net_wh[area]
        assert net_wh[0] == 0, "every Wh sold was bought"
        return Outcome(energy, welfare_e7, fees_e7, clearing_e7, net_wh)


def edges_at(flows_wh: Sequence[int], capacity_wh: Sequence[int]) -> tuple[int, int]:
    """Return how many edges carry more than their capacity, and how many all of it or more; in either direction.

    By area, the edge to its parent; a net flow uses one direction only. An edge that carries nothing is not full.
    """
    pairs = list(zip(flows_wh, capacity_wh, strict=True))[1:]
    exceeded = sum(abs(flow) > capacity for flow, capacity in pairs)
    return exceeded, sum(flow != 0 and abs(flow) >= capacity for flow, capacity in pairs)
