"""The market's state, its canonical dump and what the rules need to change it."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from heapq import heapify, heappop, heappush
from typing import Any

from market.engine.accounts import FIRST_PARAMS, TOKEN, UNLIMITED_WH, Account, Connection, Params
from market.engine.book import Book
from market.engine.contracts import MINUTE_MS, Agreement, Contract, Provisional, Tally, contract_start_ms
from market.engine.events import Event, Refused
from market.engine.grid import Grid
from market.engine.orders import Complex, Group, Order

SETTLED_KEPT = 192  # settled contracts still known by name: two days, longer than any late command is under way
EXPIRIES_KEPT = 1_024  # dead expiries kept beyond twice the open orders before they are swept out
FORMAT = 2  # of the dump


def _complex_values(order: Order) -> tuple[str, int, int, int, int]:
    extra = order.complex
    if extra is None:
        return "", 0, 0, 0, 0
    return (
        extra.kind,
        extra.display_wh,
        extra.hidden_wh,
        int(extra.asleep),
        extra.group.id if extra.group is not None else 0,
    )


class State:
    """Everything that a replay of the ledger rebuilds."""

    def __init__(self) -> None:
        self.seq = 0  # sequence of the next entry
        self.at_ms = 0  # time of the last command
        self.height = 0  # sealed blocks
        self.block_first = 0  # first entry of the running block
        self.priority = 0  # the engine's own counter: time priority
        self.interval_min = 0  # 0: not founded yet
        self.last_opened_ms = 0  # start of the newest contract
        self.topup_e4 = -1  # no tariff yet
        self.spill_e4 = -1
        self.halted = False
        self.some_halt = False  # whether any halt is on: spares every order the look at each scope
        self._params = Params()
        self._order_limits: tuple[int, ...] = ()  # a plain tuple unpacks in a third of the time
        self._credit = 0  # tokens a trade gives back
        self.grid = Grid()
        self.accounts: list[Account] = []
        self.ids: set[str] = set()
        self.members_by_area: dict[str, int] = {}  # open member accounts
        self.contracts: dict[str, Contract] = {}
        self.orders: dict[int, Order] = {}
        self.orders_of: dict[int, dict[int, None]] = {}  # every account's ``open_ids``
        self.groups: dict[str, list[int]] = {}  # accounts that never trade with each other
        self.expiries: list[tuple[int, int]] = []  # heap of (expires_at_ms, order id), cleaned when read
        self.waiting: dict[int, Group] = {}  # blocks that have not traded, by id
        self.connections: dict[str, Connection] = {}  # by name
        self.nonces: dict[str, set[tuple[int, str]]] = {}  # contract: accounts and nonces of early signed orders
        self.settled: list[str] = []  # contracts settled last, oldest first
        self.provisional: dict[str, Provisional] = {}  # settlements that may still be corrected, by contract
        self.agreements: dict[int, Agreement] = {}  # by number; those that ended as long as they may still matter
        self.finals: list[str] = []  # contracts whose settlement became final last, oldest first
        self._dirty: set[int] = set()
        self.signer = -1  # whose signature the command being applied carries
        self._events: list[Event] = []  # of the command being applied
        self._schedule_from_ms = 0  # nothing is due before
        self.params = self._params

    # --- views -----------------------------------------------------------------------------------------------------

    @property
    def areas(self) -> Grid:
        """The grid."""
        return self.grid

    @property
    def params(self) -> Params:
        """The limits of the market."""
        return self._params

    @params.setter
    def params(self, params: Params) -> None:
        self._params = params
        rate = params.throttle_per_min
        self._order_limits = (*params[:4], rate, params.throttle_burst * TOKEN)
        self._credit = params.throttle_credit * TOKEN if rate else 0

    def take_dirty(self) -> set[int]:
        """Return the accounts whose balances changed since the last call."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    # --- helpers of the rules --------------------------------------------------------------------------------------

    def refuse(self, code: str, field: str = "", **detail: int | str) -> list[Event | Refused]:
        """Return a refusal; the caller has changed nothing."""
        return [Refused(code, field, tuple(sorted(detail.items())))]

    def capacity_wh(self, power_w: int) -> int:
        """Return the energy a power carries in one interval, rounded down."""
        return power_w * self.interval_min // 60

    def open_account(self, id: str, kind: str, area: str, group: str) -> Account:
        """Append an account to the vector; ``connect`` ties it to its grid connection."""
        index = len(self.accounts)
        node = self.grid.index[area] if area else -1
        account = Account(index, id, kind, area, node, group or str(index))
        self.accounts.append(account)
        self.orders_of[index] = account.open_ids
        self.groups.setdefault(account.group, []).append(index)
        self.ids.add(id)
        self._dirty.add(index)
        return account

    def connect(self, account: Account, name: str) -> None:
        """Tie an account to a named grid connection with the limits that has; its exposure is the caller's to move."""
        if account.connection:
            self.connections[account.connection].accounts.remove(account)
        connection = self.connections.get(name)
        if connection is None:
            connection = self.connections[name] = Connection(-1 - len(self.connections))
        for other in connection.accounts[:1]:
            account.import_w, account.export_w = other.import_w, other.export_w
        connection.accounts.append(account)
        account.connection, account.slot = name, connection.slot

    def limit(self, account: Account) -> None:
        """Work out what an account's connection may take and give in one interval, ``UNLIMITED_WH`` without a limit."""
        import_w = account.import_w or self._params.connection_import_w
        export_w = account.export_w or self._params.connection_export_w
        account.import_wh = self.capacity_wh(import_w) if import_w else UNLIMITED_WH
        account.export_wh = self.capacity_wh(export_w) if export_w else UNLIMITED_WH

    def forget_agreements(self) -> None:
        """Forget agreements that ended before any contract that is open, or may still be corrected, started."""
        if not self.agreements:
            return
        starts = [contract.start_ms for contract in self.contracts.values()]
        starts += [contract_start_ms(name) for name in self.provisional]
        oldest_ms = min(starts, default=self.at_ms)
        for id, one in list(self.agreements.items()):
            if one.revoked_ms and (one.revoked_ms <= oldest_ms or not one.accepted_ms):
                del self.agreements[id]

    # --- dump ------------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Return the whole state as canonical JSON: equal states give equal bytes, whatever led to them."""
        return json.dumps(self._values(), separators=(",", ":"), sort_keys=True).encode("ascii")

    def state_hash(self) -> str:
        """Return the SHA-256 of ``dump()`` in hex."""
        return sha256(self.dump()).hexdigest()

    def _values(self) -> dict[str, Any]:
        values = self._plain_values()
        if keys := {str(account.index): account.key for account in self.accounts if account.key}:
            values["keys"] = keys  # only where there are any: a state without them is written as it always was
        if self._params.final_after_min:
            values["final_after_min"] = self._params.final_after_min
        if self.provisional:
            values["provisional"] = [[name, *found.values()] for name, found in self.provisional.items()]
        if self._params.sharing_scope:
            values["sharing_scope"] = self._params.sharing_scope
        if self.agreements:
            values["agreements"] = [one.values() for _, one in sorted(self.agreements.items())]
        if self.finals:
            values["finals"] = self.finals
        if changes := {str(account.index): account.key_changes for account in self.accounts if account.key_changes}:
            values["key_changes"] = changes
        if self.nonces:
            values["nonces"] = {name: sorted(map(list, found)) for name, found in self.nonces.items()}
        return values

    def _plain_values(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "seq": self.seq,
            "at_ms": self.at_ms,
            "height": self.height,
            "block_first": self.block_first,
            "priority": self.priority,
            "interval_min": self.interval_min,
            "last_opened_ms": self.last_opened_ms,
            "topup_e4": self.topup_e4,
            "spill_e4": self.spill_e4,
            "halted": int(self.halted),
            "params": list(self.params[:FIRST_PARAMS]),
            "areas": [
                [area.name, area.parent, area.level, area.fee_e4, area.import_w, area.export_w, int(area.halted)]
                for area in self.grid.areas
            ],
            "accounts": [
                [
                    a.id, a.kind, a.area, a.group, a.cash_e7, a.held_e7, a.arrears_e7, int(a.closed), int(a.halted),
                    a.connection, a.import_w, a.export_w, a.spent, a.spent_at_ms,
                ]
                for a in self.accounts
            ],
            "contracts": [self._contract_values(contract) for contract in self.contracts.values()],
            "orders": [
                [
                    o.id, o.account, o.contract, o.node, int(o.is_buy), o.price_e4, o.energy_wh, o.remaining_wh,
                    o.time_in_force, o.expires_at_ms, o.hold_e4, o.priority, int(o.resting), *_complex_values(o),
                ]
                for o in sorted(self.orders.values(), key=lambda order: order.id)
            ],
            "settled": self.settled,
        }  # fmt: skip

    @staticmethod
    def _contract_values(contract: Contract) -> dict[str, Any]:
        values: dict[str, Any] = {
            "name": contract.name,
            "start_ms": contract.start_ms,
            "end_ms": contract.end_ms,
            "gate_ms": contract.gate_ms,
            "state": contract.state,
            "halted": int(contract.halted),
            "account": contract.account,
            "topup_e4": contract.topup_e4,
            "spill_e4": contract.spill_e4,
            "halt_until_ms": contract.halt_until_ms,
            "reference_e4": contract.reference_e4,
            "looked_until_ms": contract.looked_until_ms,
            "trades": b64encode(contract.trades).decode("ascii"),
            "last_e4": contract.last_e4,
            "volume_wh": contract.volume_wh,
            "areas_due": sorted(contract.areas_due),
            "settled_areas": sorted(contract.settled_areas),
            "tallies": sorted([account, *tally.values()] for account, tally in contract.tallies.items()),
        }
        book = contract.book
        if book is not None:
            topology = book.topology
            values["book"] = {
                "parents": topology.real_parents,
                "fees_e4": topology.fees_e4,
                "capacity_down": book.capacity_down,
                "capacity_up": book.capacity_up,
                "netting": book.netting,
                "flow_up": book.asks.flow_wh[: topology.areas],
                "flow_down": book.bids.flow_wh[: topology.areas],
                "opened": sorted(set(book.opened)),
            }
        return values

    @classmethod
    def load(cls, data: bytes) -> State:
        """Return the state that ``dump()`` wrote; raise ``ValueError`` on another format."""
        values = json.loads(data)
        if values.get("format") != FORMAT:
            raise ValueError(f"expected a snapshot of format {FORMAT}, was {values.get('format')}")
        state = cls()
        for name in (
            "seq", "at_ms", "height", "block_first", "priority", "interval_min", "last_opened_ms", "topup_e4", "spill_e4",
        ):  # fmt: skip
            setattr(state, name, values[name])
        state.halted = bool(values["halted"])
        state.params = Params(*values["params"])._replace(
            final_after_min=values.get("final_after_min", 0), sharing_scope=values.get("sharing_scope", 0)
        )
        for name, parent, level, fee_e4, import_w, export_w, halted in values["areas"]:
            area = state.grid.add(name, state.grid.areas[parent].name if parent >= 0 else "", level)
            area.fee_e4, area.import_w, area.export_w, area.halted = fee_e4, import_w, export_w, bool(halted)
        state.grid.spread_halts()
        for id, kind, name, group, cash_e7, held_e7, arrears_e7, closed, halted, *rest in values["accounts"]:
            account = state.open_account(id, kind, name, group)
            account.cash_e7, account.held_e7, account.arrears_e7 = cash_e7, held_e7, arrears_e7
            account.closed, account.halted = bool(closed), bool(halted)
            connection, account.import_w, account.export_w, account.spent, account.spent_at_ms = rest
            if connection:
                state.connect(account, connection)
            state.limit(account)
            if name and not closed:
                state.members_by_area[name] = state.members_by_area.get(name, 0) + 1
        for index, key in values.get("keys", {}).items():
            state.accounts[int(index)].key = key
        for index, changes in values.get("key_changes", {}).items():
            state.accounts[int(index)].key_changes = changes
        for name, found in values.get("nonces", {}).items():
            state.nonces[name] = {(index, nonce) for index, nonce in found}
        topologies: dict[tuple[tuple[int, ...], tuple[int, ...]], Any] = {}
        for contract_values in values["contracts"]:
            contract = state._restore_contract(contract_values, topologies)
            state.contracts[contract.name] = contract
        for order_values in values["orders"]:
            state._restore_order(order_values)
        state.settled = values["settled"]
        state.finals = values.get("finals", [])
        state.agreements = {kept[0]: Agreement(*kept) for kept in values.get("agreements", [])}
        state.provisional = {name: Provisional.restore(*kept) for name, *kept in values.get("provisional", [])}
        state.note_halts()
        state.take_dirty()
        return state

    def _restore_contract(self, values: dict[str, Any], topologies: dict[Any, Any]) -> Contract:
        contract = Contract(
            values["name"], values["start_ms"], values["end_ms"], values["gate_ms"], values["account"],
            values["topup_e4"], values["spill_e4"],
        )  # fmt: skip
        contract.state = values["state"]
        contract.halted = bool(values["halted"])
        contract.last_e4, contract.volume_wh = values["last_e4"], values["volume_wh"]
        contract.halt_until_ms, contract.reference_e4 = values["halt_until_ms"], values["reference_e4"]
        contract.looked_until_ms = values["looked_until_ms"]
        contract.set_collar(self._params.collar_e4)
        contract.trades = bytearray(b64decode(values["trades"]))
        contract.areas_due, contract.settled_areas = set(values["areas_due"]), set(values["settled_areas"])
        contract.tallies = {account: Tally.restore(rest) for account, *rest in values["tallies"]}
        for index, tally in contract.tallies.items():
            contract.exposure(self.accounts[index].slot).move(tally.position_wh)
        if "book" in values:
            kept = values["book"]
            key = (tuple(kept["parents"]), tuple(kept["fees_e4"]))
            topology = topologies.get(key)
            if topology is None:
                current = self.grid.topology()
                same = list(key[0]) == current.real_parents and list(key[1]) == current.fees_e4
                topology = topologies[key] = current if same else self.grid.past_topology(*key)
            book = contract.open_book(topology, kept["capacity_down"], kept["capacity_up"], kept["netting"])
            book.restore_flows(kept["flow_up"], kept["flow_down"])
            book.opened = list(kept["opened"])
            heapify(book.opened)
        return contract

    def _restore_order(self, values: list[Any]) -> None:
        *values, resting, kind, display_wh, hidden_wh, asleep, group_id = values
        id, account, contract, node, is_buy, price, energy, remaining, tif, expires, hold_e4, priority = values
        exposure = self.contracts[contract].exposure(self.accounts[account].slot)
        order = Order(
            id, account, contract, node, bool(is_buy), price, energy, tif, expires, hold_e4, priority, exposure
        )  # fmt: skip
        order.remaining_wh = remaining
        if kind or asleep:
            order.complex = Complex(kind, display_wh)
            order.complex.hidden_wh, order.complex.asleep = hidden_wh, bool(asleep)
            if group_id:
                group = order.complex.group = self.waiting.setdefault(group_id, Group(group_id))
                group.legs.append(order)
                self.contracts[contract].blocks += 1
                if order.id == group_id:
                    self.watch(group, contract)
        self.register(order)
        if not asleep:
            exposure.add(order.is_buy, order.left_wh)
        if resting:
            self.book_of(order).insert(order)

    def watch(self, group: Group, contract: str) -> None:
        """Look at a waiting block again when something happens in this contract."""
        if group.watched:
            self.contracts[group.watched].watching.pop(group.id, None)
        group.watched = contract
        self.contracts[contract].watching[group.id] = group

    def _unblock(self, group: Group) -> None:
        """A block no longer waits."""
        del self.waiting[group.id]
        self.contracts[group.watched].watching.pop(group.id, None)
        for leg in group.legs:
            self.contracts[leg.contract].blocks -= 1

    def note_halts(self) -> None:
        """Look whether any halt is on."""
        self.some_halt = (
            self.halted
            or any(contract.halted for contract in self.contracts.values())
            or any(area.halted for area in self.grid.areas)
            or any(account.halted for account in self.accounts)
        )

    # --- orders ----------------------------------------------------------------------------------------------------

    def book_of(self, order: Order) -> Book:
        """Return the book an order belongs to."""
        book = self.contracts[order.contract].book
        assert book is not None
        return book

    def register(self, order: Order) -> None:
        """Make an order known as open."""
        id, index = order.id, order.account
        self.orders[id] = order
        self.accounts[index].open_ids[id] = None
        if order.expires_at_ms:
            self._push_expiry(order)

    def forget(self, order: Order) -> None:
        """An order is filled or cancelled; its hold has been released by the caller."""
        id = order.id
        del self.orders[id]
        del self.accounts[order.account].open_ids[id]

    def open_orders_of(self, account: int) -> list[Order]:
        """Return an account's open orders by id; the tables themselves are filled in another sequence after a recovery."""
        return [self.orders[id] for id in sorted(self.orders_of.get(account, ()))]

    def _push_expiry(self, order: Order) -> None:
        heap = self.expiries
        heappush(heap, (order.expires_at_ms, order.id))
        if len(heap) > 2 * len(self.orders) + EXPIRIES_KEPT:  # orders that were cancelled long before their date
            heap[:] = {entry for entry in heap if entry[1] in self.orders}
            heapify(heap)

    def due_ms(self) -> int | None:
        """Return when the next good-till-date order expires, ``None`` if there is none."""
        heap, orders = self.expiries, self.orders
        while heap:
            expires_at_ms, id = heap[0]
            order = orders.get(id)
            if order is not None and order.expires_at_ms == expires_at_ms:
                return expires_at_ms
            heappop(heap)
        return None

    @property
    def interval_ms(self) -> int:
        """Length of a delivery interval."""
        return self.interval_min * MINUTE_MS
