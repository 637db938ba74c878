"""What the event stream alone tells: a reducer that rebuilds areas, money, trades and open orders from events.

It knows no command and takes no decision; the invariants are checked on what it has built. From ``NaiveMarket`` it has the
questions (who could trade with whom, what is held, what room is left), and the same tables to ask them of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from market.engine import commands as c
from market.engine import events as ev
from market.engine.accounts import MEMBER
from market.engine.contracts import contract_start_ms
from tests.properties.naive import (
    ARRIVING,
    ASLEEP,
    RESTING,
    WAITING,
    NaiveAccount,
    NaiveArea,
    NaiveContract,
    NaiveMarket,
    NaiveOrder,
    NaiveTrade,
)

Watcher = Callable[["Mirror", Any], None]


class Mirror(NaiveMarket):
    """Feed it each command's events with ``see``."""

    def __init__(self) -> None:
        super().__init__()
        self.topup_e4 = self.spill_e4 = 0
        self.filled_wh: dict[int, int] = {}  # of every order ever
        self.sweeps: set[int] = set()
        self.grew = False  # the last amend asked for more energy
        self.ended: list[NaiveContract] = []  # halts that ended in this command: the reference is looked up after

    def see(self, events: list[Any], before: tuple[Watcher, ...] = (), after: tuple[Watcher, ...] = ()) -> None:
        """Take in what one command did; watchers are called before and after each event is applied."""
        self.ended = []
        for event in events:
            self.at_ms = event.at_ms
            self.settle_in(event)
            for watch in before:
                watch(self, event)
            if see := getattr(self, f"see_{type(event).__name__}", None):
                see(event)
            self.seq = event.seq + 1
            for watch in after:
                watch(self, event)
        self.settle_in(None)

    def settle_in(self, event: Any) -> None:
        """Before an event: does an arriving order rest by now, has a halt's end been worked off?"""
        for order in [o for o in self.orders if o.where == ARRIVING and o.kind in ("", "iceberg")]:
            others = event is None or (isinstance(event, ev.Traded) and event.taker != order.id)
            if others and order.time_in_force in ("gtg", "gtd"):
                self.rest(order)
        by_block = isinstance(event, ev.Traded) and self.find(event.taker).where == WAITING
        if event is None or by_block:
            for contract in self.ended if self.params and self.params.collar_e4 else ():
                if self.trading(contract):
                    self.look(contract)
            self.ended = []

    def find(self, id: int) -> NaiveOrder:
        return next(order for order in self.orders if order.id == id)

    # --- grid, limits, accounts ------------------------------------------------------------------------------------

    def see_Founded(self, event: ev.Founded) -> None:
        self.interval_min = event.interval_min

    def see_ParamsSet(self, event: ev.ParamsSet) -> None:
        self.params = c.SetParams(*event[2:])

    def see_AreaSet(self, event: ev.AreaSet) -> None:
        self.areas[event.area] = NaiveArea(event.area, event.parent)

    def see_FeeSet(self, event: ev.FeeSet) -> None:
        self.areas[event.area].fee_e4 = event.fee_e4

    def see_CapacitySet(self, event: ev.CapacitySet) -> None:
        self.areas[event.area].import_w, self.areas[event.area].export_w = event.import_w, event.export_w

    def see_TariffSet(self, event: ev.TariffSet) -> None:
        self.topup_e4, self.spill_e4 = event.topup_e4, event.spill_e4

    def see_AccountOpened(self, event: ev.AccountOpened) -> None:
        self.account_count += 1
        if event.kind == MEMBER:
            connection = event.connection or f"of {event.account}"
            self.accounts[event.account] = NaiveAccount(event.account, event.area, event.group, connection)

    def see_AccountClosed(self, event: ev.AccountClosed) -> None:
        self.accounts[event.account].closed = True

    def see_ConnectionSet(self, event: ev.ConnectionSet) -> None:
        account = self.accounts[event.account]
        account.connection = event.connection or account.connection
        self.connections[account.connection] = (event.import_w, event.export_w)

    def see_AccountKeySet(self, event: ev.AccountKeySet) -> None:
        account = self.accounts[event.account]
        account.key = event.public_key
        account.key_changes += any((event.proof, event.approval, event.reason))

    def see_Funded(self, event: ev.Funded) -> None:
        self.accounts[event.account].cash_e7 += event.amount_e7

    # --- contracts and halts ---------------------------------------------------------------------------------------

    def see_ContractOpened(self, event: ev.ContractOpened) -> None:
        self.account_count += 1
        start_ms = contract_start_ms(event.contract)
        self.contracts[event.contract] = NaiveContract(
            event.contract, start_ms, start_ms - self.params.lead_min * 60_000, event.topup_e4, event.spill_e4,
            {area.name: area.fee_e4 for area in self.areas.values()},
            reference_e4=(event.topup_e4 + event.spill_e4) // 2,
        )  # fmt: skip

    def see_ContractClosed(self, event: ev.ContractClosed) -> None:
        self.contracts[event.contract].state = "closed"

    def see_ContractDelivered(self, event: ev.ContractDelivered) -> None:
        self.contracts[event.contract].state = "delivered"

    def see_HaltSet(self, event: ev.HaltSet) -> None:
        on = bool(event.on)
        if event.scope == "market":
            self.ended = [contract for contract in self.contracts.values() if self.halted and not on]
            self.halted = on
        elif event.scope == "contract":
            contract = self.contracts[event.target]
            self.ended += [contract] if contract.halted and not on else []
            contract.halted, contract.until_ms = on, event.until_ms
        elif event.scope == "area":
            self.areas[event.target].halted = on
        else:
            self.accounts[int(event.target)].halted = on

    # --- orders ----------------------------------------------------------------------------------------------------

    def place(self, event: ev.OrderPlaced | ev.ComplexOrderPlaced, last: str, **more: Any) -> None:
        names = [name for name in self.contracts if event.contract <= name <= last]
        self.look_if_old([self.contracts[name] for name in names if self.trading(self.contracts[name])])
        self.orders.append(
            NaiveOrder(
                event.seq, self.draw(), event.account, event.contract, event.side, event.price_e4, event.energy_wh,
                event.energy_wh, event.time_in_force, event.expires_at_ms, **more,
            )
        )  # fmt: skip

    def see_OrderPlaced(self, event: ev.OrderPlaced) -> None:
        self.place(event, event.contract)

    def see_ComplexOrderPlaced(self, event: ev.ComplexOrderPlaced) -> None:
        is_block = event.kind == ev.BLOCK
        self.sweeps |= {event.seq} if event.kind == ev.SWEEP else set()
        self.place(
            event, event.last or event.contract, kind=event.kind, display_wh=event.display_wh,
            block=event.group if is_block else 0, where=WAITING if is_block else ARRIVING,
        )  # fmt: skip

    def see_OrderAmended(self, event: ev.OrderAmended) -> None:
        order = self.find(event.order)
        left_wh = event.energy_wh - (order.energy_wh - order.left_wh)
        self.grew = left_wh > order.left_wh
        shown_wh = min(order.shown_wh, left_wh)
        order.price_e4, order.energy_wh, order.left_wh = event.price_e4, event.energy_wh, left_wh
        order.hidden_wh = left_wh - shown_wh
        if event.requeued:
            self.arrive_anew(order)

    def see_OrderHibernated(self, event: ev.OrderHibernated) -> None:
        self.find(event.order).where = ASLEEP

    def see_OrderReactivated(self, event: ev.OrderReactivated) -> None:
        self.arrive_anew(self.find(event.order))

    def arrive_anew(self, order: NaiveOrder) -> None:
        self.look_if_old([self.contracts[order.contract]])
        order.where, order.hidden_wh, order.priority = ARRIVING, 0, self.draw()

    def see_OrderCancelled(self, event: ev.OrderCancelled) -> None:
        self.orders.remove(self.find(event.order))

    def see_Traded(self, event: ev.Traded) -> None:
        contract = self.contracts[event.contract]
        contract.trades.append(
            NaiveTrade(
                event.seq, event.buyer, event.seller, event.sell_area, event.buy_area, event.energy_wh, event.cost_e7,
                event.margin_e7, event.sell_e4,
            )
        )  # fmt: skip
        contract.flows = None
        self.accounts[event.buyer].cash_e7 -= event.cost_e7
        self.accounts[event.seller].cash_e7 -= event.margin_e7
        for id in (event.maker, event.taker):
            self.fill(self.find(id), event.energy_wh)
            self.filled_wh[id] = self.filled_wh.get(id, 0) + event.energy_wh

    def see_TradeRecalled(self, event: ev.TradeRecalled) -> None:
        contract = self.contracts[event.contract]
        contract.recalled.add(event.trade)
        contract.flows = None
        self.accounts[event.buyer].cash_e7 += event.cost_e7
        self.accounts[event.seller].cash_e7 += event.margin_e7

    # --- questions -------------------------------------------------------------------------------------------------

    def resting(self) -> list[NaiveOrder]:
        """Orders that meet others: in the book, neither they nor their contract halted."""
        return [
            order
            for order in self.orders
            if order.where == RESTING
            and self.trading(self.contracts[order.contract])
            and not self.account_out(order.account)
        ]
