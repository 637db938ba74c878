"""What readers may ask. All of it comes from the database, so any process can; live state comes from ``Exchange.read``.

Rows are plain tuples in the system's integers (``_wh``, ``_e4``, ``_e7``, ``at_ms``); lists are ordered by ledger
sequence and cut to ``limit`` (at most ``MAX_LIMIT``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, F, Max, Q, Sum

from ledger import cosigning
from ledger import queries as ledger
from ledger.models import Alarm
from market.engine.contracts import contract_start_ms
from market.exchange import models
from market.exchange.history import DETAIL, MAX_LIMIT, candles, events, seq_before
from market.exchange.models import TRANSFERS_AN_ENTRY
from market.exchange.orderviews import (
    changes_of_order,
    legs,
    limited,
    only_self_trades,
    order,
    orders,
    orders_by_id,
    recalled_at,
    search_orders,
    trade_views,
    trades_of_order,
)
from market.exchange.transfers import MONEY, energy_of_recall, of_trade
from market.exchange.views import (
    AlertView,
    BalanceView,
    ChangeView,
    ContractView,
    LineView,
    OrderView,
    PositionView,
    RefusalView,
    TradeView,
    TransferView,
)

__all__ = [
    "DETAIL", "ChangeView", "OrderView", "account_by_id", "alert", "alerts", "balance", "balances", "candles",
    "changes_of_order", "contract", "contract_states", "contracts", "counts", "events", "fund_seq", "legs",
    "money_by_kind", "only_self_trades", "order", "orders", "orders_by_id", "positions", "recalled_at", "refusals",
    "search_orders", "security", "seq_before", "settlement_lines", "trade_totals", "traded", "trades",
    "trades_of_order", "transfers", "unsettled",
]  # fmt: skip

MAX_FUNDS = 1_000  # fund entries of one account that are looked through


# --- trades and prices ------------------------------------------------------------------------------------------------
def _standing(rows: Any) -> Any:
    """Return those of the trades that were not taken back."""
    return rows.exclude(id__in=models.Recall.objects.values("trade"))


def trades(
    *, contract: str | None = None, account: int | None = None, after: int | None = None, before: int | None = None,
    limit: int = 100, newest_first: bool = False,
) -> list[TradeView]:  # fmt: skip
    """Return trades after and before a sequence, of a contract, of an account, or all; oldest first by default.

    Those that were taken back are among them and say so (``recalled_seq``).
    """
    rows = models.Trade.objects.order_by("-id" if newest_first else "id")
    if contract is not None:
        rows = rows.filter(contract=contract)
    if after is not None:
        rows = rows.filter(id__gt=after)
    if before is not None:
        rows = rows.filter(id__lt=before)
    limit = limited(limit)
    if account is None:
        return trade_views(rows[:limit])
    # Side by side: asked for "buyer or seller" in order, a database walks through everybody's trades.
    found = set(trade_views(rows.filter(buyer=account)[:limit])) | set(trade_views(rows.filter(seller=account)[:limit]))
    return sorted(found, reverse=newest_first)[:limit]


def trade_totals(*, after: int = -1) -> tuple[int, int, int]:
    """Return number and energy (Wh) of the trades after a sequence less those taken back after it, and the last
    sequence looked at (``after``: nothing happened).

    Both only ever arrive at the end: who keeps the sums adds the next answer to them and never counts twice.
    """
    # First how far to look: another batch may become durable between two queries.
    newest = [
        models.Trade.objects.aggregate(last=Max("id", default=after))["last"],
        models.Recall.objects.aggregate(last=Max("seq", default=after))["last"],
    ]
    last = max(after, *newest)
    total = {"energy": Sum("energy_wh", default=0)}
    made = models.Trade.objects.filter(id__gt=after, id__lte=last).aggregate(count=Count("id"), **total)
    back = models.Recall.objects.filter(seq__gt=after, seq__lte=last).aggregate(count=Count("trade"), **total)
    return made["count"] - back["count"], int(made["energy"]) - int(back["energy"]), last


def traded(contracts: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the last trade's price (e4, what its seller got) and the energy (Wh) of those contracts that have trades.

    At most ``MAX_LIMIT`` contracts (``ValueError``). For settled ones, which the engine no longer holds.
    """
    names = list(contracts)
    if len(names) > MAX_LIMIT:
        raise ValueError(f"expected at most {MAX_LIMIT} contracts, was {len(names)}")
    if not names:
        return {}
    rows = _standing(models.Trade.objects.filter(contract__in=names)).values("contract")
    found = list(rows.annotate(last=Max("id"), energy_wh=Sum("energy_wh")).order_by())
    prices = dict(models.Trade.objects.filter(id__in=[row["last"] for row in found]).values_list("id", "sell_e4"))
    return {row["contract"]: (prices[row["last"]], int(row["energy_wh"])) for row in found}


# --- contracts --------------------------------------------------------------------------------------------------------
def _is_name(name: str) -> bool:
    """Return whether a text can be a contract's name at all; PostgreSQL refuses some texts (NUL) outright."""
    try:
        contract_start_ms(name)
    except ValueError:
        return False
    return True


def contract(name: str) -> ContractView | None:
    """Return a contract, or None."""
    if not _is_name(name):
        return None
    row = models.Contract.objects.filter(name=name).values_list(*ContractView._fields).first()
    return None if row is None else ContractView(*row)


def contract_states(names: Iterable[str]) -> dict[str, str]:
    """Return the states of those of the names (at most ``MAX_LIMIT``, else ``ValueError``) that are contracts."""
    wanted = set(names)
    if len(wanted) > MAX_LIMIT:
        raise ValueError(f"expected at most {MAX_LIMIT} contracts, was {len(wanted)}")
    names_only = [name for name in wanted if _is_name(name)]
    return dict(models.Contract.objects.filter(name__in=names_only).values_list("name", "state"))


def contracts(*, state: str | None = None, after: str = "", limit: int = 1_000) -> list[ContractView]:
    """Return contracts by start, those of one state or all, whose names come after ``after``."""
    rows = models.Contract.objects.filter(name__gt=after)
    if state is not None:
        rows = rows.filter(state=state)
    return [ContractView(*row) for row in rows.order_by("name").values_list(*ContractView._fields)[: limited(limit)]]


# --- accounts ---------------------------------------------------------------------------------------------------------
def balance(account: int) -> BalanceView | None:
    """Return an account's money, or None when there is no such account."""
    row = models.Balance.objects.filter(account=account).values_list(*BalanceView._fields).first()
    return None if row is None else BalanceView(*row)


def account_by_id(account_id: str) -> int | None:
    """Return the index of the account with this id, or None. Looks through all accounts: for people, not for programs."""
    return models.Balance.objects.filter(account_id=account_id).values_list("account", flat=True).first()


def balances(*, kind: str | None = None, after: int = -1, limit: int = 1_000) -> list[BalanceView]:
    """Return accounts by index, of one kind or all."""
    rows = models.Balance.objects.filter(account__gt=after)
    if kind is not None:
        rows = rows.filter(kind=kind)
    return [BalanceView(*row) for row in rows.order_by("account").values_list(*BalanceView._fields)[: limited(limit)]]


def money_by_kind() -> dict[str, int]:
    """Return the sum of all wallets, less what they owe, by kind of account, e7; the values add up to 0."""
    rows = models.Balance.objects.values_list("kind").annotate(total=Sum(F("cash_e7") - F("arrears_e7")))
    return {kind: int(total) for kind, total in rows}


def positions(account: int, *, contracts: Iterable[str] | None = None) -> list[PositionView]:
    """Return what an account traded by contract: in the contracts given, by default all that are not settled yet."""
    known = models.Contract.objects.all()
    known = known.exclude(state="settled") if contracts is None else known.filter(name__in=list(contracts))
    opened = dict(known.values_list("name", "opened_seq"))
    if not opened:
        return []
    found: dict[str, list[int]] = {}
    # Nothing trades before its contract opens: that bound keeps an account's long past out of the scan.
    rows = _standing(
        models.Trade.objects.filter(
            Q(buyer=account) | Q(seller=account), contract__in=opened, id__gt=min(opened.values())
        )
    )
    for row in rows.values_list("contract", "buyer", "seller", "energy_wh", "buy_e4", "sell_e4"):
        name, buyer, seller, energy_wh, buy_e4, sell_e4 = row
        tally = found.setdefault(name, [0, 0, 0, 0])
        if buyer == account:
            tally[0] += energy_wh
            tally[2] += energy_wh * buy_e4
        if seller == account:
            tally[1] += energy_wh
            tally[3] += energy_wh * sell_e4
    return [PositionView(name, *found[name]) for name in sorted(found)]


def security(account: int) -> int:
    """Return what an account left in clearing against not delivering what it sold and what is not settled yet, e7."""
    opened = dict(models.Contract.objects.exclude(state="settled").values_list("name", "opened_seq"))
    if not opened:
        return 0
    rows = _standing(models.Trade.objects.filter(seller=account, contract__in=opened, id__gt=min(opened.values())))
    settled = models.SettlementLine.objects.filter(account=account, contract__in=opened).values("contract")
    return int(rows.exclude(contract__in=settled).aggregate(total=Sum("margin_e7"))["total"] or 0)


def transfers(
    *,
    account: int | None = None,
    seq: int | None = None,
    money_only: bool = False,
    after: int | None = None,
    before: int | None = None,
    limit: int = 100,
    newest_first: bool = True,
) -> list[TransferView]:
    """Return movements of an account (statement lines) or of one ledger entry, newest first by default."""
    limit = limited(limit)
    if seq is not None:
        after, before = seq - 1, seq + 1
    rows = models.Transfer.objects.order_by("-id" if newest_first else "id")
    if after is not None:
        rows = rows.filter(id__gte=(after + 1) * TRANSFERS_AN_ENTRY)
    if before is not None:
        rows = rows.filter(id__lt=before * TRANSFERS_AN_ENTRY)
    if account is None:
        stored = set(rows.values_list()[:limit])
    else:
        stored = set(rows.filter(debit=account).values_list()[:limit])
        stored |= set(rows.filter(credit=account).values_list()[:limit])
    found = [
        TransferView(*divmod(id_, TRANSFERS_AN_ENTRY), at_ms, kind, MONEY, debit, credit, amount)
        for id_, at_ms, kind, debit, credit, amount in stored
    ]
    found += _trade_transfers(account, after, before, limit, newest_first)
    if money_only:
        found = [transfer for transfer in found if transfer.asset == MONEY]
    return sorted(found, reverse=newest_first)[:limit]


def fund_seq(*, account: int, reference: str, since: int | None = None) -> int | None:
    """Return the fund entry of an account that carries a reference, or None: whether something has been booked already.

    The ledger knows that for good; an idempotency key is forgotten after two days. Looks at all from the sequence ``since`` on,
    else at the newest ``MAX_FUNDS`` of the account.
    """
    seqs = fund_entries(account=account, since=since or 0)
    looked_at = seqs[-MAX_FUNDS:] if since is None else seqs
    return next((seq for seq in reversed(looked_at) if ledger.entry(seq).get("reference") == reference), None)


def fund_entries(*, account: int, since: int = 0) -> list[int]:
    """Return the fund entries of an account from a sequence on, oldest first."""
    rows = models.Transfer.objects.filter(kind="fund", id__gte=since * TRANSFERS_AN_ENTRY)
    found = {*rows.filter(debit=account).values_list("id", flat=True)}
    found |= {*rows.filter(credit=account).values_list("id", flat=True)}
    return sorted(id_ // TRANSFERS_AN_ENTRY for id_ in found)


def _trade_transfers(
    account: int | None, after: int | None, before: int | None, limit: int, newest_first: bool
) -> list[TransferView]:
    """Return what trades moved: of an account (of a clearing account: the trades of its contract), or of everybody."""
    contract = None
    if account is not None:
        contract = models.Contract.objects.filter(account=account).values_list("name", flat=True).first()
    found = trades(
        contract=contract,
        account=None if contract is not None else account,
        after=after,
        before=before,
        limit=limit,
        newest_first=newest_first,
    )
    clearing = dict(
        models.Contract.objects.filter(name__in={trade.contract for trade in found}).values_list("name", "account")
    )
    moves = [
        move
        for trade in found
        for move in of_trade(
            seq=trade.seq,
            at_ms=trade.at_ms,
            contract=trade.contract,
            energy_wh=trade.energy_wh,
            buyer=trade.buyer,
            seller=trade.seller,
            cost_e7=trade.cost_e7,
            margin_e7=trade.margin_e7,
            clearing=clearing[trade.contract],
        )
    ]
    moves += _recalled_energy(account, after, before, limit, newest_first)
    return [move for move in moves if account is None or account in (move.debit, move.credit)]


def _recalled_energy(
    account: int | None, after: int | None, before: int | None, limit: int, newest_first: bool
) -> list[TransferView]:
    """Return the energy that went back to sellers."""
    rows = models.Recall.objects.order_by("-seq" if newest_first else "seq")
    if account is not None:
        rows = rows.filter(Q(buyer=account) | Q(seller=account))
    if after is not None:
        rows = rows.filter(seq__gt=after)
    if before is not None:
        rows = rows.filter(seq__lt=before)
    names = ("seq", "at_ms", "contract", "energy_wh", "buyer", "seller")
    return [energy_of_recall(**row) for row in rows.values(*names)[:limit]]


def settlement_lines(
    *, account: int | None = None, contract: str | None = None, seq: int | None = None, after: int | None = None,
    before: int | None = None, limit: int = 100,
) -> list[LineView]:  # fmt: skip
    """Return settlement lines, newest first: of an account, a contract or a ledger entry."""
    rows = models.SettlementLine.objects.all()
    if account is not None:
        rows = rows.filter(account=account)
    if contract is not None:
        rows = rows.filter(contract=contract)
    if seq is not None:
        rows = rows.filter(seq=seq)
    if after is not None:
        rows = rows.filter(seq__gt=after)
    if before is not None:
        rows = rows.filter(seq__lt=before)
    ordered = rows.order_by("-seq", "account").values_list(*LineView._fields)
    return [LineView(*row) for row in ordered[: limited(limit)]]


def unsettled(account: int, *, until_ms: int) -> list[str]:
    """Return the contracts that may still move an account's money: unsettled ones it traded in, and those that began before
    ``until_ms``, since its meter may have run in them."""
    names = models.Contract.objects.exclude(state="settled").order_by("name").values_list("name", flat=True)
    waiting = list(names[:MAX_LIMIT])
    of_account = Q(buyer=account) | Q(seller=account)
    traded_in = set(models.Trade.objects.filter(of_account, contract__in=waiting).values_list("contract", flat=True))
    lines = models.SettlementLine.objects.filter(account=account, contract__in=waiting)
    done = set(lines.values_list("contract", flat=True))
    return [name for name in waiting if name not in done and (name in traded_in or contract_start_ms(name) < until_ms)]


def refusals(*, account: int | None = None, before: int | None = None, limit: int = 100) -> list[RefusalView]:
    """Return refused commands, newest first, for the regulator."""
    rows = models.Refusal.objects.all()
    if account is not None:
        rows = rows.filter(account=account)
    if before is not None:
        rows = rows.filter(n__lt=before)
    ordered = rows.order_by("-n").values_list(*RefusalView._fields)
    return [RefusalView(*row) for row in ordered[: limited(limit)]]


def alerts(*, before: int | None = None, limit: int = 100, among: Any = None, without: bool = False) -> list[AlertView]:
    """Return what the grid operator must look at, newest first: what entries raised, and alarms about the log itself.

    ``among``: only those whose ``seq`` a query gives (``without``: only the others).
    """
    rows = models.Alert.objects.all()
    if before is not None:
        rows = rows.filter(seq__lt=before)
    if among is not None:
        rows = rows.exclude(seq__in=among) if without else rows.filter(seq__in=among)
    found = [AlertView(*row) for row in rows.order_by("-seq").values_list(*AlertView._fields)[: limited(limit)]]
    alarms = cosigning.alarms(before=before, limit=limited(limit), among=among, without=without)
    found += [_alarm(row) for row in alarms]
    return sorted(found, key=lambda row: -row.seq)[: limited(limit)]


def alert_count() -> int:
    """Return how many alerts and alarms there are."""
    return models.Alert.objects.count() + cosigning.alarm_count()


def alert(seq: int) -> AlertView | None:
    """Return one alert by the ledger entry that raised it (an alarm: by the seal it stands at), or None."""
    row = models.Alert.objects.filter(seq=seq).values_list(*AlertView._fields).first()
    if row is not None:
        return AlertView(*row)
    alarm = cosigning.alarm(seq)
    return None if alarm is None else _alarm(alarm)


def _alarm(row: Alarm) -> AlertView:
    return AlertView(row.seq, row.at_ms, row.kind, "", "", row.detail)


def counts() -> dict[str, Any]:
    """Return how many orders and trades there are, and how much energy was traded and not taken back, for summaries."""
    return {
        "orders": models.Order.objects.count(),
        "trades": models.Trade.objects.count(),
        "energy_wh": int(_standing(models.Trade.objects).aggregate(total=Sum("energy_wh", default=0))["total"]),
    }
