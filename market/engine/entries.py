"""Between events and ledger entries: an event's fields as a flat object, and the command an entry tells of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from market.engine import commands as c
from market.engine import events as ev
from market.engine.accounts import MEMBER
from market.engine.trading import MARKET_OPERATOR

Leaf = Mapping[str, int | str]
VERSION = 1
# What the first entry of a signed order has beside its event's fields: signature, nonce and rules of ``SignedOrder``.
SIGNED_FIELDS = ("sig", "nonce", "rules")
DERIVED_CANCELS = frozenset(("ioc", "gate", "self_trade", "account_closed", "kill"))
EXPIRED = "expired"
COMMITS_TO_ROWS = ("settle", "adjust")  # entries whose command is made of the rows beside them
WAS_FIELDS = tuple(f"was_{name}" for name in c.SettleRow._fields[1:])  # of a correction's row: what it was
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

_WHY = ("reason", "commitment")  # of what an official decides

# Event -> entry type, action of types that have several, names of its entry fields after seq and at_ms. Fields beyond
# these are derived. An empty text, a time of 0 and a 0 in ``OPTIONAL`` are left out of the entry.
_ENTRIES: dict[type, tuple[str, str, tuple[str, ...]]] = {
    ev.Founded: (
        "genesis", "", ("origin", "currency", "interval_min", "vkey", "rulebook_version", "rulebook_sha256"),
    ),
    ev.RulebookPublished: ("rulebook", "", ("version", "sha256", *_WHY)),
    ev.KeyRegistered: ("key", "", ("action", "vkey", "possession", "approval")),
    ev.ParamsSet: ("params", "", c.SetParams._fields),
    ev.AreaSet: ("area", "", ("area", "parent", "level")),
    ev.CapacitySet: ("capacity", "", ("area", "import_w", "export_w", *_WHY)),
    ev.FeeSet: ("fee", "", ("area", "fee_e4", *_WHY)),
    ev.TariffSet: ("tariff", "", ("topup_e4", "spill_e4", *_WHY)),
    ev.AccountOpened: (
        "account", "opened", ("account", "account_id", "kind", "area", "group", "connection", "commitment"),
    ),
    ev.AccountClosed: ("account", "closed", ("account",)),
    ev.ConnectionSet: ("account", "connection", ("account", "connection", "import_w", "export_w", *_WHY)),
    ev.AccountKeySet: ("account", "key", c.SetAccountKey._fields[:-1]),
    ev.Funded: ("fund", "", ("account", "amount_e7", "reason", "reference")),
    ev.ContractOpened: ("contract", "opened", ("contract", "account", "account_id", "topup_e4", "spill_e4")),
    ev.ContractClosed: ("contract", "closed", ("contract",)),
    ev.ContractDelivered: ("contract", "delivered", ("contract",)),
    ev.HaltSet: ("halt", "", ("scope", "target", "on", "reason", "until_ms", "cancel", "commitment")),
    ev.OrderPlaced: (
        "order", "",
        ("account", "area", "contract", "side", "price_e4", "energy_wh", "time_in_force", "expires_at_ms"),
    ),
    ev.ComplexOrderPlaced: ("order", "", ev.ComplexOrderPlaced._fields[2:]),
    ev.OrderHibernated: ("amend", "hibernated", ("order", "remaining_wh")),
    ev.OrderReactivated: ("amend", "reactivated", ("order", "remaining_wh")),
    ev.OrderAmended: ("amend", "", ("order", "price_e4", "energy_wh", "requeued")),
    ev.OrderCancelled: ("cancel", "", ("order", "remaining_wh", "reason")),
    ev.Traded: ("trade", "", ("contract", "maker", "taker", "energy_wh", "buy_e4", "sell_e4")),
    ev.TradeRecalled: ("recall", "", ("trade", "contract", *_WHY)),
    ev.ReadingsCommitted: ("readings", "", ("contract", "area", "count", "import_wh", "export_wh", "root")),
    ev.Settled: (
        "settle", "",
        ("contract", "area", "count", "payout_e7", "fee_e7", "short_e7", "topup_e7", "spill_e7", "root"),
    ),
    ev.Adjusted: (
        "adjust", "",
        ("contract", "area", "corrects", "count", "short_e7", "topup_e7", "spill_e7", "arrears_e7", "root"),
    ),
    ev.Finalized: ("final", "", ("contract",)),
    ev.AgreementProposed: (
        "agreement", "proposed", ("account", "giver", "receiver", "price_e4", "fee_e4", "start"),
    ),
    ev.AgreementAccepted: ("agreement", "accepted", ("agreement", "account")),
    ev.AgreementRevoked: ("agreement", "revoked", ("agreement", "account")),
    ev.Shared: (
        "adjust", "shared",
        (
            "contract", "corrects", "count", "energy_wh", "price_e7", "fee_e7", "topup_e7", "spill_e7", "arrears_e7",
            "root",
        ),
    ),
    ev.Sealed: ("seal", "", ("height", "first", "count")),
    ev.SnapshotCommitted: ("snapshot", "", ("sha256",)),
}  # fmt: skip
TIMES = {"expires_at_ms": "expires_at", "until_ms": "until"}  # event fields that an entry writes as times
OPTIONAL = frozenset(("display_wh", "group", "leg", "legs", "cancel", *c.SetParams._field_defaults))
_POSITIONS = {
    kind: (type_, action, tuple((name, kind._fields.index(name)) for name in names))  # type: ignore[attr-defined]
    for kind, (type_, action, names) in _ENTRIES.items()
}
ENTRY_TYPES = frozenset(type_ for type_, _, _ in _ENTRIES.values())


@lru_cache(maxsize=1_024)  # the entries of a batch have one time
def time_text(at_ms: int) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


@lru_cache(maxsize=1_024)
def time_ms(text: str) -> int:
    """Return the time that ``time_text`` wrote; raise ``ValueError`` on any other text."""
    at_ms = (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) - _EPOCH) // _MS
    if time_text(at_ms) != text:
        raise ValueError(f"expected a time like 2026-06-06T12:15:00.000Z, was {text!r}")
    return at_ms


def signed_fields(command: c.SignedOrder) -> dict[str, str]:
    """Return what the first entry of a signed order has beside ``to_leaf``."""
    return dict(zip(SIGNED_FIELDS, (command.signature, command.nonce, command.rules), strict=True))


def to_leaf(event: ev.Event) -> dict[str, int | str]:
    """Return an event's entry without its salt (and, for a seal, without the journal's fields)."""
    values: tuple[Any, ...] = event
    type_, action, positions = _POSITIONS[type(event)]
    leaf: dict[str, int | str] = {"v": VERSION, "seq": values[0], "type": type_, "at": time_text(values[1])}
    if action:
        leaf["action"] = action
    for name, position in positions:
        value = values[position]
        if value == "":
            continue
        if not value and (name in OPTIONAL or name in TIMES):
            continue
        if name in TIMES:
            leaf[TIMES[name]] = time_text(value)
        else:
            leaf[name] = value
    return leaf


def _plain(command: Any, **defaults: int | str) -> Callable[[Leaf], Any]:
    """Return a function that makes a command of the entry fields that have its fields' names."""
    return lambda leaf: command(*(leaf.get(name, defaults.get(name, "")) for name in command._fields))


def _account(leaf: Leaf) -> c.Command | None:
    if leaf["action"] == "closed":
        return c.CloseAccount(int(leaf["account"]))
    if leaf["action"] == "connection":
        connection = str(leaf.get("connection", ""))
        why = (str(leaf.get(name, "")) for name in _WHY)
        return c.SetConnection(int(leaf["account"]), connection, int(leaf["import_w"]), int(leaf["export_w"]), *why)
    if leaf["action"] == "key":
        key, proof, approval, rules, reason = (str(leaf.get(name, "")) for name in c.SetAccountKey._fields[1:-1])
        return c.SetAccountKey(int(leaf["account"]), key, proof, approval, rules, reason)
    if leaf["kind"] != MEMBER:
        return None
    group = str(leaf["group"])
    text = {name: str(leaf.get(name, "")) for name in ("account_id", "area", "connection", "commitment")}
    # A group that is the account's own number is the default.
    return c.OpenAccount(
        text["account_id"], text["area"], "" if group == str(leaf["account"]) else group, text["connection"],
        text["commitment"],
    )  # fmt: skip


def _agreement(leaf: Leaf) -> c.Command:
    account = int(leaf["account"])
    if leaf["action"] == "proposed":
        terms = (int(leaf["giver"]), int(leaf["receiver"]), int(leaf["price_e4"]))
        return c.Propose(account, *terms, str(leaf["start"]))
    kinds: dict[int | str, Any] = {"accepted": c.Agree, "revoked": c.Revoke}
    command: c.Command = kinds[leaf["action"]](account, int(leaf["agreement"]))
    return command


def _contract(leaf: Leaf) -> c.Command:
    kinds: dict[int | str, Any] = {
        "opened": c.OpenContract,
        "closed": c.CloseContract,
        "delivered": c.DeliverContract,
    }
    command: c.Command = kinds[leaf["action"]](leaf["contract"])
    return command


def _time(leaf: Leaf, name: str) -> int:
    """Return an optional time of an entry, 0 where it has none."""
    text = leaf.get(name)
    return 0 if text is None else time_ms(str(text))


def _order(leaf: Leaf) -> c.Command:
    account, contract, side = int(leaf["account"]), str(leaf["contract"]), str(leaf["side"])
    price_e4, energy_wh = int(leaf["price_e4"]), int(leaf["energy_wh"])
    time_in_force, expires_at_ms = str(leaf["time_in_force"]), _time(leaf, "expires_at")
    kind = leaf.get("kind")
    if kind is None:
        return c.PlaceOrder(account, contract, side, price_e4, energy_wh, time_in_force, expires_at_ms)
    if kind == ev.ICEBERG:
        return c.PlaceIceberg(
            account, contract, side, price_e4, energy_wh, time_in_force, expires_at_ms, int(leaf["display_wh"])
        )
    if kind == ev.SWEEP:
        return c.PlaceSweep(account, contract, str(leaf["last"]), side, price_e4, energy_wh)
    raise ValueError(f"expected a kind of order, was {kind!r}")


def legs_of(leaf: Leaf) -> int:
    """Return how many entries, this one included, tell of the command that an entry begins: the legs of an order."""
    return int(leaf.get("legs", 1)) if leaf["type"] == "order" else 1


def _linked(legs: Sequence[Leaf]) -> c.Command:
    """Return the command that the entries of all legs of a block or basket tell of."""
    first = legs[0]
    if first.get("kind") == ev.BASKET:
        names = c.Leg._fields
        return c.PlaceBasket(int(first["account"]), tuple(c.Leg(*(leg[name] for name in names)) for leg in legs))  # type: ignore[arg-type]
    if first.get("kind") == ev.BLOCK:
        return c.PlaceBlock(
            int(first["account"]), str(first["contract"]), str(legs[-1]["contract"]), str(first["side"]),
            int(first["price_e4"]), int(first["energy_wh"]), str(first["time_in_force"]), _time(first, "expires_at"),
        )  # fmt: skip
    raise ValueError(f"expected a kind of linked order, was {first.get('kind')!r}")


def _amend(leaf: Leaf) -> c.Command:
    order, action = int(leaf["order"]), leaf.get("action", "")
    if action == "hibernated":
        return c.HibernateOrder(MARKET_OPERATOR, order)
    if action == "reactivated":
        return c.ReactivateOrder(MARKET_OPERATOR, order)
    return c.AmendOrder(MARKET_OPERATOR, order, int(leaf["price_e4"]), int(leaf["energy_wh"]))


def _halt(leaf: Leaf) -> c.Command:
    return c.SetHalt(
        str(leaf["scope"]), str(leaf.get("target", "")), int(leaf["on"]), str(leaf["reason"]), _time(leaf, "until"),
        int(leaf.get("cancel", 0)), str(leaf.get("commitment", "")),
    )  # fmt: skip


def _cancel(leaf: Leaf) -> c.Command | None:
    reason = str(leaf["reason"])
    if reason == EXPIRED:
        return c.Expire()
    if reason in DERIVED_CANCELS:
        return None
    return c.CancelOrder(MARKET_OPERATOR, int(leaf["order"]), reason)


_COMMANDS: dict[str, Callable[[Leaf], c.Command | None]] = {
    "genesis": _plain(c.Found),
    "rulebook": _plain(c.PublishRulebook),
    "key": _plain(c.RegisterKey, **c.RegisterKey._field_defaults),
    "params": _plain(c.SetParams, **c.SetParams._field_defaults),
    "area": _plain(c.SetArea),
    "capacity": _plain(c.SetCapacity),
    "fee": _plain(c.SetFee),
    "tariff": _plain(c.SetTariff),
    "account": _account,
    "fund": _plain(c.Fund),
    "contract": _contract,
    "halt": _halt,
    "order": _order,
    "amend": _amend,
    "cancel": _cancel,
    "trade": lambda leaf: None,
    "recall": _plain(c.RecallTrade),
    "readings": _plain(c.CommitReadings),
    "final": _plain(c.Final),
    "agreement": _agreement,
    "seal": lambda leaf: c.Seal(),
    "snapshot": _plain(c.CommitSnapshot),
}


def share_row(data: bytes | Mapping[str, Any]) -> c.ShareRow:
    """Return the row of an agreement that stored bytes (or their decoded object) hold."""
    fields = json.loads(data) if isinstance(data, bytes | bytearray | memoryview) else data
    return c.ShareRow(*(fields[name] for name in c.ShareRow._fields))


def settle_row(data: bytes | Mapping[str, Any]) -> c.SettleRow:
    """Return the settlement row that stored bytes (or their decoded object) hold."""
    fields = json.loads(data) if isinstance(data, bytes | bytearray | memoryview) else data
    return c.SettleRow(*(fields[name] for name in c.SettleRow._fields))


def adjust_row(data: bytes | Mapping[str, Any]) -> c.AdjustRow:
    """Return the row of a correction that stored bytes (or their decoded object) hold."""
    fields = json.loads(data) if isinstance(data, bytes | bytearray | memoryview) else data
    return c.AdjustRow(settle_row(fields), c.SettleRow(fields["account"], *(fields[name] for name in WAS_FIELDS)))


def to_command(
    leaf: Leaf, rows: Iterable[bytes | Mapping[str, Any]] = (), legs: Sequence[Leaf] = ()
) -> c.Command | None:
    """Return the command whose first event an entry is; ``None`` for an entry that follows from an earlier command.

    ``rows`` are the committed rows of a ``settle`` or ``adjust`` entry, ``legs`` the entries of a linked order (see
    ``legs_of``), this one first. Raises ``KeyError`` or ``ValueError`` on an entry of unknown form.
    """
    if leaf["type"] == "settle":
        return c.Settle(
            str(leaf["contract"]), str(leaf["area"]), tuple(settle_row(row) for row in rows), str(leaf["root"])
        )
    if leaf["type"] == "adjust" and leaf.get("action") == "shared":
        shares = tuple(share_row(row) for row in rows)
        return c.Share(str(leaf["contract"]), int(leaf["corrects"]), shares, str(leaf["root"]))
    if leaf["type"] == "adjust":
        corrected = tuple(adjust_row(row) for row in rows)
        return c.Adjust(str(leaf["contract"]), str(leaf["area"]), int(leaf["corrects"]), corrected, str(leaf["root"]))
    if leaf["type"] == "order" and not leaf.keys().isdisjoint(SIGNED_FIELDS):
        order: Any = _linked(legs) if "legs" in leaf else _order(leaf)
        return c.SignedOrder(order.account, order, *(str(leaf[name]) for name in SIGNED_FIELDS))
    if "legs" in leaf and leaf["type"] == "order":
        return _linked(legs)
    return _COMMANDS[str(leaf["type"])](leaf)
