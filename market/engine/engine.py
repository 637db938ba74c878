"""The market as a deterministic state machine: the same commands give the same events and the same state hash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from market.engine import commands as c
from market.engine.book import NOTHING, PRIORITY_MASK, UNLIMITED_WH
from market.engine.events import Event, Refused
from market.engine.foreseeing import Foreseeing
from market.engine.grid import PRIORITY_BITS, EdgeFlow
from market.engine.signing import KINDS, ONCE_MS, first_contract
from market.engine.trading import is_hex

MAX_LEVELS = 100  # prices a depth view shows at the most
MAX_DEPTH_FILLS = 5_000  # resting orders a depth view looks through at the most, a side: some 10 ms


class Level(NamedTuple):
    """One price of a depth view: all-in at the viewer's meter; ``fee_wh_e4`` is the grid fee within it times the energy."""

    price_e4: int
    energy_wh: int
    fee_wh_e4: int

    @property
    def fee_e4(self) -> int:
        """The grid fee within the price, energy-weighted."""
        return self.fee_wh_e4 // self.energy_wh


class Engine(Foreseeing):
    """Apply commands, look at the state. ``accounts``, ``contracts``, ``orders``, ``params`` are for reading only."""

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[type, Callable[[Any], list[Any]]] = {
            c.PlaceOrder: self._place,
            c.PlaceIceberg: self._place_iceberg,
            c.PlaceSweep: self._place_sweep,
            c.PlaceBlock: self._place_block,
            c.PlaceBasket: self._place_basket,
            c.SignedOrder: self._signed_order,
            c.CancelOrder: self._cancel,
            c.AmendOrder: self._amend,
            c.HibernateOrder: self._hibernate,
            c.ReactivateOrder: self._reactivate,
            c.CancelAll: self._cancel_all,
            c.Expire: self._expire,
            c.Found: self._found,
            c.PublishRulebook: self._publish_rulebook,
            c.RegisterKey: self._register_key,
            c.SetParams: self._set_params,
            c.SetArea: self._set_area,
            c.SetCapacity: self._set_capacity,
            c.SetFee: self._set_fee,
            c.SetTariff: self._set_tariff,
            c.OpenAccount: self._open_account,
            c.CloseAccount: self._close_account,
            c.SetConnection: self._set_connection,
            c.SetAccountKey: self._set_account_key,
            c.Fund: self._fund,
            c.OpenContract: self._open_contract,
            c.CloseContract: self._close_contract,
            c.DeliverContract: self._deliver_contract,
            c.SetHalt: self._set_halt,
            c.RecallTrade: self._recall,
            c.CommitReadings: self._commit_readings,
            c.Settle: self._settle,
            c.Adjust: self._adjust,
            c.Final: self._final,
            c.Propose: self._propose,
            c.Agree: self._agree,
            c.Revoke: self._revoke,
            c.Share: self._share,
            c.Seal: self._seal,
            c.CommitSnapshot: self._commit_snapshot,
        }

    def apply(self, command: c.Command, at_ms: int) -> list[Event | Refused]:
        """Apply one command at a time (ms since the epoch; never earlier than the one before) and return what happened.

        A refusal is the only element of the list and has changed nothing that replays. An empty list: there was nothing
        to do. Raises ``KeyError`` on something that is no command.
        """
        handler = self._handlers[type(command)]
        before_ms = self.at_ms
        if at_ms > before_ms:
            self.at_ms = at_ms
        events = handler(command)
        if not events or type(events[0]) is Refused:
            self.at_ms = before_ms
        elif self.waiting:
            self._try_blocks(events)
        return events

    def _signed_order(self, command: c.SignedOrder) -> list[Any]:
        """Place an order in the name of who signed it; the signature itself was verified before and is again by any audit."""
        index, order, signature, nonce, rules = command
        for field, value, digits in (("signature", signature, 128), ("nonce", nonce, 64), ("rules", rules, 64)):
            if not is_hex(value, digits):
                return self.refuse("invalid_value", field)
        if type(order) not in KINDS:
            return self.refuse("invalid_value", "order")
        if type(index) is not int or not 0 <= index < len(self.accounts) or order.account != index:
            return self.refuse("unknown_account", "account")
        account = self.accounts[index]
        if not account.key:
            return self.refuse("signature_invalid", "signature")
        # The entries name the legs' accounts: what one account signs places orders of that account alone.
        legs = order.legs if type(order) is c.PlaceBasket and type(order.legs) is tuple else ()
        if any(type(leg) is c.Leg and leg.account != index for leg in legs):
            return self.refuse("signature_invalid", "legs")
        name = first_contract(order)
        contract = self.contracts.get(name) if isinstance(name, str) else None
        if contract is not None and (index, nonce) in self.nonces.get(contract.name, ()):
            return self.refuse("signature_invalid", "nonce")
        self.signer = index
        try:
            events = self._handlers[type(order)](order)
        finally:
            self.signer = -1
        early = contract is not None and account.key_changes and contract.gate_ms - self.at_ms > ONCE_MS
        if early and events and type(events[0]) is not Refused:
            assert contract is not None
            self.nonces.setdefault(contract.name, set()).add((index, nonce))
        return events

    # --- views -----------------------------------------------------------------------------------------------------

    def best(self, area: str, contract: str) -> tuple[int | None, int | None]:
        """Return the best all-in bid and ask (e4) an area could trade at now; raise ``KeyError`` on unknown names."""
        found = self.contracts[contract]
        book, node = found.book, self.grid.index[area]
        if book is None or node >= book.topology.areas:
            return None, None
        bid, ask = book.find(node, False), book.find(node, True)
        low_e4, high_e4 = self._bounds(found, True)
        bid_e4, ask_e4 = -(bid >> PRIORITY_BITS), ask >> PRIORITY_BITS
        # The seller's price decides about the collar: a bid less the fee, an ask's own.
        sold_e4 = 0 if ask >= NOTHING else book.orders[ask & PRIORITY_MASK].price_e4
        return (
            None if bid >= NOTHING or not low_e4 <= bid_e4 <= high_e4 else bid_e4,
            None if ask >= NOTHING or not low_e4 <= sold_e4 <= high_e4 else ask_e4,
        )

    def halt_of(self, account: int) -> str:
        """Return the code by which an account's orders are refused in every contract now, "" if they are not."""
        found = self.accounts[account]
        if self.halted:
            return "market_halted"
        if found.halted:
            return "account_halted"
        return "area_halted" if self.grid.areas[found.node].halted_above else ""

    def depth(self, area: str, contract: str, levels: int) -> tuple[list[Level], list[Level]]:
        """Return what an area can execute now as (bids, asks), best first; raise ``KeyError`` on unknown names."""
        levels = max(0, min(levels, MAX_LEVELS))
        return self._levels(area, contract, levels, False), self._levels(area, contract, levels, True)

    def _levels(self, area: str, contract: str, levels: int, is_buy: bool) -> list[Level]:
        book = self.contracts[contract].book
        node = self.grid.index[area]
        if book is None or node >= book.topology.areas:
            return []
        cost = NOTHING >> PRIORITY_BITS
        found: list[Level] = []
        fills = book.sweep(node, is_buy, cost, UNLIMITED_WH, MAX_DEPTH_FILLS, levels=levels)
        if (
            len(fills) == MAX_DEPTH_FILLS
        ):  # cut: of the last price there may be more, so it is not shown, unless it is all
            last_e4 = fills[-1][2] >> PRIORITY_BITS
            fills = [fill for fill in fills if fill[2] >> PRIORITY_BITS != last_e4] or fills
        low_e4, high_e4 = self._bounds(self.contracts[contract], True)
        for order, energy_wh, key in fills:
            if not low_e4 <= (order.price_e4 if is_buy else -(key >> PRIORITY_BITS)) <= high_e4:
                break  # whoever takes this far halts the contract
            price_e4 = key >> PRIORITY_BITS if is_buy else -(key >> PRIORITY_BITS)
            fee_e4 = (key >> PRIORITY_BITS) - (order.key >> PRIORITY_BITS)
            if found and found[-1].price_e4 == price_e4:
                _, before_wh, before_wh_e4 = found[-1]
                found[-1] = Level(price_e4, before_wh + energy_wh, before_wh_e4 + fee_e4 * energy_wh)
            else:
                found.append(Level(price_e4, energy_wh, fee_e4 * energy_wh))
        return found

    def flows(self, contract: str) -> dict[str, EdgeFlow]:
        """Return flow, capacity and residual of every edge, by the lower area; raise ``KeyError`` on an unknown contract."""
        book = self.contracts[contract].book
        if book is None:
            return {}
        return {
            area.name: book.edge_flow(area.index) for area in self.grid.areas[: book.topology.areas] if area.parent >= 0
        }

    @classmethod
    def load(cls, data: bytes) -> Engine:
        """Return the engine that ``dump()`` wrote; raise ``ValueError`` on another format."""
        engine = cast(Engine, super().load(data))
        engine.rewatch()
        return engine
