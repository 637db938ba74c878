"""What a follower lets people ask: accounts, contracts, orders, trades and positions in one small SQLite file.

Everything here follows from the ledger by replay and can be thrown away: the follower makes it again from its mirror.
Money is in 0.0000001 of the currency (e7), prices in 0.0001 per kWh (e4), energy in Wh, times in ms since the epoch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from market.engine import contracts as states
from market.engine import events as ev
from market.engine.accounts import BANK_INDEX, BILLING_INDEX, OPERATOR_INDEX, SUPPLIER_INDEX
from market.engine.engine import Engine
from market.engine.orders import Order

FILE = "model.sqlite3"
VERSION = 1
TIMEOUT_S = 20.0
MAX_ROWS = 10_000  # of one answer

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE account (account INTEGER PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL, area TEXT NOT NULL,
  cash_e7 INTEGER NOT NULL, held_e7 INTEGER NOT NULL, arrears_e7 INTEGER NOT NULL, closed INTEGER NOT NULL);
CREATE TABLE contract (contract TEXT PRIMARY KEY, state TEXT NOT NULL, account INTEGER NOT NULL, topup_e4 INTEGER NOT NULL,
  spill_e4 INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE "order" ("order" INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, account INTEGER NOT NULL, area TEXT NOT NULL,
  contract TEXT NOT NULL, side TEXT NOT NULL, price_e4 INTEGER NOT NULL, energy_wh INTEGER NOT NULL,
  remaining_wh INTEGER NOT NULL, state TEXT NOT NULL, kind TEXT NOT NULL, time_in_force TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL);
CREATE INDEX order_account ON "order" (account, "order");
CREATE INDEX order_contract ON "order" (contract, "order");
CREATE TABLE trade (trade INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, contract TEXT NOT NULL, buyer INTEGER NOT NULL,
  seller INTEGER NOT NULL, energy_wh INTEGER NOT NULL, buy_e4 INTEGER NOT NULL, sell_e4 INTEGER NOT NULL,
  cost_e7 INTEGER NOT NULL, margin_e7 INTEGER NOT NULL, buy_order INTEGER NOT NULL, sell_order INTEGER NOT NULL,
  recalled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX trade_contract ON trade (contract, trade);
CREATE INDEX trade_buyer ON trade (buyer, trade);
CREATE INDEX trade_seller ON trade (seller, trade);
CREATE TABLE position (contract TEXT NOT NULL, account INTEGER NOT NULL, bought_wh INTEGER NOT NULL,
  sold_wh INTEGER NOT NULL, paid_e7 INTEGER NOT NULL, margin_e7 INTEGER NOT NULL,
  PRIMARY KEY (contract, account)) WITHOUT ROWID;
CREATE INDEX position_account ON position (account, contract);
"""
PUT_ACCOUNT = "INSERT OR REPLACE INTO account VALUES (?,?,?,?,?,?,?,?)"
PUT_CONTRACT = "INSERT OR REPLACE INTO contract VALUES (?,?,?,?,?)"
PUT_ORDER = 'INSERT OR REPLACE INTO "order" VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)'
PUT_TRADE = "INSERT OR REPLACE INTO trade VALUES (?,?,?,?,?,?,?,?,?,?,?,?,0)"
SET_ORDER = 'UPDATE "order" SET price_e4 = ?, energy_wh = ?, remaining_wh = ?, state = ? WHERE "order" = ?'
END_ORDER = 'UPDATE "order" SET remaining_wh = 0, state = ? WHERE "order" = ?'
SET_CONTRACT = "UPDATE contract SET state = ? WHERE contract = ?"
CLEARING = "SELECT account FROM contract WHERE contract = ?"
RECALL = "UPDATE trade SET recalled = ? WHERE trade = ?"
ADD_POSITION = """INSERT INTO position VALUES (?,?,?,?,?,?) ON CONFLICT (contract, account) DO UPDATE SET
  bought_wh = bought_wh + excluded.bought_wh, sold_wh = sold_wh + excluded.sold_wh, paid_e7 = paid_e7 + excluded.paid_e7,
  margin_e7 = margin_e7 + excluded.margin_e7"""
MONEY = (OPERATOR_INDEX, SUPPLIER_INDEX, BILLING_INDEX)  # accounts of the market that any settlement moves

# What ``--show`` lists: table, the column it is sorted by, and the columns that name an account.
LISTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "accounts": ("account", "account", ("account",)),
    "contracts": ("contract", "contract", ()),
    "orders": ('"order"', '"order"', ("account",)),
    "trades": ("trade", "trade", ("buyer", "seller")),
    "positions": ("position", "contract", ("account",)),
}


class Saved(NamedTuple):
    """Where a model stands: ``size`` entries are in it; ``state`` is what to go on from, at or before that size."""

    size: int
    state: bytes
    note: bytes  # the checkpoint under which the last entries were read
    state_size: int
    state_sha256: str  # of the engine's state after ``state_size`` entries


class Model:
    """The writer's side. Rows collect in memory until ``flush``, and are seen by readers from ``commit`` on."""

    def __init__(self, folder: Path):
        self._path = folder / FILE
        self._database = self._open()
        self.size = self.saved().size
        self._clear()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=TIMEOUT_S, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return database
        if version or database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.close()  # of another version: it is made again from the mirror
            for end in ("", "-wal", "-shm"):
                self._path.with_name(FILE + end).unlink(missing_ok=True)
            return self._open()
        database.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT")
        return database

    def _clear(self) -> None:
        self._accounts: set[int] = set()
        self._contracts: set[str] = set()  # whose clearing account has changed
        self._new_contracts: list[Sequence[Any]] = []
        self._orders: dict[int, str] = {}  # changed ones; how they ended, if they did, but by being filled
        self._new_orders: list[Sequence[Any]] = []
        self._trades: list[Sequence[Any]] = []
        self._recalls: list[tuple[int, int]] = []
        self._moves: list[Sequence[Any]] = []
        self._states: list[tuple[str, str]] = []  # state, contract

    # --- where it stands ---------------------------------------------------------------------------------------------

    def saved(self) -> Saved:
        """Return where the model stands, an empty one at 0."""
        found = dict(self._database.execute("SELECT name, value FROM meta"))
        return Saved(
            found.get("size", 0), found.get("state", b""), found.get("note", b""), found.get("state_size", 0),
            found.get("state_sha256", ""),
        )  # fmt: skip

    def reset(self) -> None:
        """Begin again with nothing."""
        self._begin()
        for table in ("meta", "account", "contract", '"order"', "trade", "position"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 (names are ours)
        self._database.execute("COMMIT")
        self.size = 0
        self._clear()

    def commit(self, size: int, note: bytes, state: bytes = b"", state_sha256: str = "") -> None:
        """Make everything flushed so far visible and durable: the model is one of ``size`` entries."""
        self._begin()
        values: dict[str, Any] = {"note": note}
        if size >= self.size:
            values["size"] = self.size = size
        if state:
            values |= {"state": state, "state_size": size, "state_sha256": state_sha256}
        self._database.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", values.items())
        self._database.execute("COMMIT")

    def rollback(self) -> None:
        """Forget what was not committed."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")
        self._clear()

    def close(self) -> None:
        """Let go of the file."""
        self.rollback()
        self._database.close()

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")

    # --- what happened ------------------------------------------------------------------------------------------------

    def seed(self, engine: Engine) -> None:
        """Begin with a state instead of with events: what ended before it is not in the model."""
        self._accounts.update(range(len(engine.accounts)))
        self._new_contracts += [
            (contract.name, contract.state, contract.account, contract.topup_e4, contract.spill_e4)
            for contract in engine.contracts.values()
        ]
        areas = engine.grid.areas
        self._new_orders += [
            (
                order.id, 0, order.account, areas[order.node].name, order.contract, order.side, order.price_e4,
                order.energy_wh, order.left_wh, "open", order.complex.kind if order.complex else "",
                order.time_in_force, order.expires_at_ms,
            )
            for order in engine.orders.values()
        ]  # fmt: skip
        self._orders.update(dict.fromkeys(engine.orders, ""))
        self._moves += [
            (contract.name, account, tally.bought_wh, tally.sold_wh, tally.paid_e7, tally.margin_e7)
            for contract in engine.contracts.values()
            for account, tally in contract.tallies.items()
        ]

    def take(self, event: Any) -> None:
        """Take one event of the replay; those the model has already are passed over."""
        if event[0] < self.size:
            return
        kind = type(event)
        if kind is ev.OrderPlaced or kind is ev.ComplexOrderPlaced:
            self._accounts.add(event.account)
            more = event.kind if kind is ev.ComplexOrderPlaced else ""
            self._new_orders.append((*event[:8], event.energy_wh, "open", more, *event[8:10]))
            self._orders[event.seq] = ""
        elif kind is ev.Traded:
            self._accounts.update((event.buyer, event.seller))
            self._contracts.add(event.contract)
            self._orders.setdefault(event.buy_order, "")
            self._orders.setdefault(event.sell_order, "")
            self._trades.append(
                (
                    event.seq, event.at_ms, event.contract, event.buyer, event.seller, event.energy_wh, event.buy_e4,
                    event.sell_e4, event.cost_e7, event.margin_e7, event.buy_order, event.sell_order,
                )
            )  # fmt: skip
            self._move(event, 1)
        elif kind is ev.OrderCancelled:
            self._accounts.add(event.account)
            self._orders[event.order] = f"cancelled: {event.reason}"
        else:
            self._take_rare(event, kind)

    def _take_rare(self, event: Any, kind: type) -> None:
        if kind in (ev.OrderAmended, ev.OrderHibernated, ev.OrderReactivated):
            self._accounts.add(event.account)
            self._orders.setdefault(event.order, "")
        elif kind is ev.TradeRecalled:
            self._accounts.update((event.buyer, event.seller))
            self._contracts.add(event.contract)
            self._recalls.append((event.seq, event.trade))
            self._move(event, -1)
        elif kind in (ev.AccountOpened, ev.AccountClosed):
            self._accounts.add(event.account)
        elif kind is ev.Founded:
            self._accounts.update((BANK_INDEX, *MONEY))
        elif kind is ev.Funded:
            self._accounts.update((event.account, BANK_INDEX))
        elif kind is ev.ContractOpened:
            self._accounts.add(event.account)
            self._new_contracts.append((event.contract, states.OPEN, event.account, event.topup_e4, event.spill_e4))
        elif kind is ev.ContractClosed:
            self._states.append((states.CLOSED, event.contract))
        elif kind is ev.ContractDelivered:
            self._states.append((states.DELIVERED, event.contract))
        elif kind is ev.Settled:
            self._accounts.update(MONEY)
            self._accounts.update(row.account for row in event.rows)
            self._contracts.add(event.contract)
            if event.complete:
                self._states.append((states.SETTLED, event.contract))
        elif kind is ev.Adjusted:
            self._accounts.update(MONEY)
            self._accounts.update(row.account for row, _ in event.rows)
        elif kind is ev.Shared:
            self._accounts.update(MONEY)
            self._accounts.update(giver for giver, *_ in event.parties)
        elif kind is ev.Finalized:
            self._states.append((states.FINAL, event.contract))

    def _move(self, event: Any, sign: int) -> None:
        energy_wh = sign * event.energy_wh
        self._moves.append((event.contract, event.buyer, energy_wh, 0, sign * event.cost_e7, 0))
        self._moves.append((event.contract, event.seller, 0, energy_wh, 0, sign * event.margin_e7))

    def flush(self, engine: Engine) -> None:
        """Write what has collected, with the figures the engine has now, into the running transaction."""
        self._begin()
        many = self._database.executemany
        many(PUT_CONTRACT, self._new_contracts)
        many(SET_CONTRACT, self._states)
        for name in self._contracts:
            self._accounts.update(row[0] for row in self._database.execute(CLEARING, [name]))
        accounts = [engine.accounts[index] for index in sorted(self._accounts)]
        many(
            PUT_ACCOUNT,
            [(a.index, a.id, a.kind, a.area, a.cash_e7, a.held_e7, a.arrears_e7, int(a.closed)) for a in accounts],
        )
        many(PUT_ORDER, self._new_orders)
        living = [(order, engine.orders.get(order)) for order in self._orders]
        many(SET_ORDER, [_now(order) for _, order in living if order is not None])
        many(END_ORDER, [(self._orders[id] or "filled", id) for id, order in living if order is None])
        many(PUT_TRADE, self._trades)
        many(RECALL, self._recalls)
        many(ADD_POSITION, self._moves)
        self._clear()


def _now(order: Order) -> tuple[int, int, int, str, int]:
    asleep = order.complex is not None and order.complex.asleep
    return order.price_e4, order.energy_wh, order.left_wh, "hibernated" if asleep else "open", order.id


def listed(folder: Path, what: str, wanted: Mapping[str, Any], limit: int) -> tuple[list[str], Iterable[Sequence[Any]]]:
    """Return column names and the newest rows of one of ``LISTS``; ``wanted`` may have ``account`` and ``contract``.

    Raises ``FileNotFoundError`` when nothing was followed here yet.
    """
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(f"{path}: nothing was followed here yet")
    table, order, accounts = LISTS[what]
    terms: list[str] = []
    values: list[Any] = []
    if wanted.get("account") is not None and accounts:
        terms.append("(" + " OR ".join(f"{column} = ?" for column in accounts) + ")")
        values += [wanted["account"]] * len(accounts)
    if wanted.get("contract") and what != "accounts":
        terms.append("contract = ?")
        values.append(wanted["contract"])
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=TIMEOUT_S)
    try:
        query = f"SELECT * FROM {table} {where} ORDER BY {order} DESC LIMIT ?"  # noqa: S608 (names are ours)
        found = database.execute(query, [*values, max(0, min(limit, MAX_ROWS))])
        return [column[0] for column in found.description], found.fetchall()
    finally:
        database.close()
