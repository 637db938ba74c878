"""Events read back from the database, equal to those the engine gave: how a repeated key is answered after a restart."""

from __future__ import annotations

from typing import Any, get_type_hints

import orjson

from ledger import queries as ledger_queries
from market.engine import events as ev
from market.engine.commands import SettleRow
from market.engine.entries import TIMES, adjust_row, share_row
from market.engine.events import Event
from market.exchange import models
from market.exchange.units import parse_at

# Ledger type, and its "action" where one type stands for several events.
_KINDS: dict[tuple[str, str], type] = {
    ("genesis", ""): ev.Founded,
    ("rulebook", ""): ev.RulebookPublished,
    ("params", ""): ev.ParamsSet,
    ("area", ""): ev.AreaSet,
    ("capacity", ""): ev.CapacitySet,
    ("fee", ""): ev.FeeSet,
    ("tariff", ""): ev.TariffSet,
    ("account", "opened"): ev.AccountOpened,
    ("account", "closed"): ev.AccountClosed,
    ("account", "connection"): ev.ConnectionSet,
    ("account", "key"): ev.AccountKeySet,
    ("fund", ""): ev.Funded,
    ("contract", "opened"): ev.ContractOpened,
    ("contract", "closed"): ev.ContractClosed,
    ("contract", "delivered"): ev.ContractDelivered,
    ("halt", ""): ev.HaltSet,
    ("amend", ""): ev.OrderAmended,
    ("amend", "hibernated"): ev.OrderHibernated,
    ("amend", "reactivated"): ev.OrderReactivated,
    ("cancel", ""): ev.OrderCancelled,
    ("readings", ""): ev.ReadingsCommitted,
    ("final", ""): ev.Finalized,
    ("seal", ""): ev.Sealed,
    ("snapshot", ""): ev.SnapshotCommitted,
}
_CHANGES = (ev.OrderAmended, ev.OrderCancelled, ev.OrderHibernated, ev.OrderReactivated)
_DEFAULTS: dict[type, Any] = {int: 0, str: ""}


def events_between(first_seq: int, count: int) -> tuple[Event, ...]:
    """Return the events with ``first_seq <= seq < first_seq + count``."""
    return tuple(_event(orjson.loads(leaf)) for leaf in ledger_queries.leaves(first_seq, count))


def _event(leaf: dict[str, Any]) -> Any:
    seq, type_ = leaf["seq"], leaf["type"]
    if type_ == "trade":
        return ev.Traded(*_row(models.Trade, seq)[:-1])
    if type_ == "order" and "kind" in leaf:
        return ev.ComplexOrderPlaced(*_row(models.Order, seq), *_row(models.OrderDetail, seq, "order")[1:])
    if type_ == "order":
        return ev.OrderPlaced(*_row(models.Order, seq))
    if type_ == "recall":
        trade, *rest = _row(models.Recall, seq, "seq")
        return ev.TradeRecalled(rest[0], rest[1], trade, *rest[2:], leaf.get("commitment", ""))
    if type_ == "settle":
        return _settled(leaf)
    if type_ == "agreement":
        change = models.AgreementChange.objects.get(seq=seq)
        if change.action == "proposed":
            terms = (change.price_e4, change.fee_e4, change.start)
            return ev.AgreementProposed(seq, change.at_ms, change.account, change.giver, change.receiver, *terms)
        answer = ev.AgreementAccepted if change.action == "accepted" else ev.AgreementRevoked
        return answer(seq, change.at_ms, change.agreement, change.account, change.giver, change.receiver)
    if type_ == "adjust" and leaf.get("action") == "shared":
        return _shared(leaf)
    if type_ == "adjust":
        rows = tuple(adjust_row(row) for row in ledger_queries.rows(seq))
        sums = {name: leaf[name] for name in ev.Adjusted._fields[2:11]}
        return ev.Adjusted(seq, parse_at(leaf["at"]), **sums, rows=rows)
    if type_ == "key":
        signatures = (leaf.get("possession", ""), leaf.get("approval", ""))
        return ev.KeyRegistered(seq, parse_at(leaf["at"]), leaf["action"], leaf["vkey"], *signatures)
    kind = _KINDS[type_, leaf.get("action", "")]
    given = {**leaf, "at_ms": parse_at(leaf["at"])}
    given |= {name: parse_at(leaf[text]) for name, text in TIMES.items() if text in leaf}
    if kind in _CHANGES:
        given.update(models.OrderChange.objects.filter(seq=seq).values()[0])
    # The ledger leaves out what is empty or zero.
    values = {name: given.get(name, _DEFAULTS[hint]) for name, hint in get_type_hints(kind).items()}
    return kind(**values)


def _row(model: type[Any], seq: int, name: str = "id") -> tuple[Any, ...]:
    columns = [field.column for field in model._meta.concrete_fields]
    row: tuple[Any, ...] = model.objects.filter(**{name: seq}).values_list(*columns)[0]
    return row


def _settled(leaf: dict[str, Any]) -> ev.Settled:
    seq = leaf["seq"]
    names = SettleRow._fields
    lines = models.SettlementLine.objects.filter(seq=seq)
    by_account = {line[0]: SettleRow(*line) for line in lines.values_list(*names)}
    # The salted rows beside the log keep the order in which the rows were committed to.
    order = [orjson.loads(row).get("account") for row in ledger_queries.rows(seq)]
    rows = tuple(by_account[account] for account in order) if set(order) == set(by_account) else (*by_account.values(),)
    settled = models.Contract.objects.filter(name=leaf["contract"], state="settled", changed_seq=seq).exists()
    values = {name: leaf.get(name, 0) for name in ev.Settled._fields[5:10]}
    return ev.Settled(
        seq, parse_at(leaf["at"]), leaf["contract"], leaf["area"], leaf["count"], **values, root=leaf["root"], rows=rows,
        complete=int(settled),
    )  # fmt: skip


def _shared(leaf: dict[str, Any]) -> ev.Shared:
    seq = leaf["seq"]
    rows = tuple(share_row(row) for row in ledger_queries.rows(seq))
    lines = models.SharedLine.objects.filter(seq=seq).order_by("n")
    parties = tuple(lines.values_list("giver", "receiver", "price_e4", "fee_e4"))
    tariff = models.Contract.objects.filter(name=leaf["contract"]).values_list("topup_e4", "spill_e4")[0]
    sums = {name: leaf[name] for name in ev.Shared._fields[2:12]}
    at_ms = parse_at(leaf["at"])
    return ev.Shared(seq, at_ms, **sums, rows=rows, parties=parties, topup_e4=tariff[0], spill_e4=tariff[1])
