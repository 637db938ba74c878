"""Where settlement stands, for the operator's board, and what it came to for one account."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from django.db.models import Count, F, Max, QuerySet, Sum

from market.engine.commands import SettleRow
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.engine.entries import WAS_FIELDS
from market.exchange.exchange import Exchange
from market.exchange.models import Adjustment, Contract, SettlementLine, SharedLine, Trade
from market.settlement import waiting

MAX_LINES = 200  # lines of one account in one answer
MAX_BOARD = 48  # contracts on the operator's board: half a day


class AreaState(NamedTuple):
    """Settlement of one area in one contract."""

    area: str
    homes: int  # that were there when the interval began
    readings: int  # of them
    settled: bool


class ContractState(NamedTuple):
    """Settlement of one contract. ``areas`` are those due in a delivered one, empty in any other state.

    Once it is settled as a whole, ``settled_areas`` counts the areas that have homes today.
    """

    contract: str
    state: str  # closed, delivered, settled
    settled_areas: int
    missing_readings: int
    areas: list[AreaState]


class Line(NamedTuple):
    """One account in one settled contract; ``seq`` is the ledger's settle entry, or the newest that corrects it."""

    seq: int
    at_ms: int
    contract: str
    area: str
    row: SettleRow


class Adjusted(NamedTuple):
    """A correction of one account's line; ``seq`` is the ledger's adjust entry, ``n`` the row in it."""

    seq: int
    at_ms: int
    contract: str
    area: str
    corrects: int  # the area's settle or adjust entry before
    n: int
    row: SettleRow
    was: SettleRow


class Result(NamedTuple):
    """Money of one account over some settled contracts, all in e7. ``earned = sales - short + spill``."""

    lines: int
    sales_e7: int  # what its buyers' trades paid it
    short_e7: int  # what not delivering cost it
    spill_e7: int  # what the supplier paid for left-over energy
    purchases_e7: int  # what it paid for what it bought, fees included
    topup_e7: int  # on its supply bill

    @property
    def earned_e7(self) -> int:
        """Return what selling brought, net of what was not delivered."""
        return self.sales_e7 - self.short_e7 + self.spill_e7


def board(exchange: Exchange, limit: int = MAX_BOARD) -> list[ContractState]:
    """Return where settlement stands in the contracts that have closed, newest first; at most ``limit``, ``MAX_BOARD``."""

    def look(engine: Engine) -> list[tuple[str, str, set[str], set[str]]]:
        held = {name: found for name, found in engine.contracts.items() if found.state != "open"}
        names = sorted({*held, *engine.settled}, reverse=True)[: min(limit, MAX_BOARD)]
        everywhere = set(engine.members_by_area)
        return [
            (name, held[name].state, set(held[name].areas_due), set(held[name].settled_areas))
            if name in held
            else (name, "settled", everywhere, everywhere)
            for name in names
        ]

    contracts = exchange.read(look)
    counted = waiting.missing(exchange, {name: due for name, state, due, _settled in contracts if state == "delivered"})
    states = []
    for name, state, _due, settled in contracts:
        if state != "delivered":
            states.append(ContractState(name, state, len(settled), 0, []))
            continue
        areas = [
            AreaState(area, homes, homes - missing, area in settled)
            for area, (homes, missing) in sorted(counted[name].items())
        ]
        open_missing = sum(area.homes - area.readings for area in areas if not area.settled)
        states.append(ContractState(name, state, len(settled), open_missing, areas))
    return states


def estimated(contracts: list[str]) -> dict[str, int]:
    """Return how many accounts stand settled on an estimate, by contract; those without any are left out."""
    if not contracts:
        return {}
    # Settlement follows the opening and the last trade: that bound keeps the long past out of the scan.
    bounds = dict(Contract.objects.filter(name__in=contracts).values_list("name", "opened_seq"))
    last_trades = Trade.objects.filter(contract__in=contracts).values("contract").annotate(last=Max("id"))
    bounds |= dict(last_trades.values_list("contract", "last"))
    first = min(bounds.values(), default=0)
    rows = SettlementLine.objects.filter(seq__gte=first, contract__in=contracts, quality="estimated")
    found = dict(rows.values("contract").annotate(count=Count("seq")).values_list("contract", "count"))
    changed = Adjustment.objects.filter(seq__gte=first, contract__in=contracts)
    for field, change in (("quality", 1), ("was_quality", -1)):
        of_one = changed.filter(**{field: "estimated"}).values("contract").annotate(count=Count("seq"))
        for contract, count in of_one.values_list("contract", "count"):
            found[contract] = found.get(contract, 0) + change * count
    return {contract: count for contract, count in found.items() if count}


def lines(account: int, *, before: int | None = None, limit: int = MAX_LINES) -> list[Line]:
    """Return an account's settlement lines, newest first, those with ``seq < before`` when it is given."""
    rows = SettlementLine.objects.filter(account=account)
    if before is not None:
        rows = rows.filter(seq__lt=before)
    fields = ("seq", "at_ms", "contract", "area", *SettleRow._fields)
    found = rows.order_by("-seq").values_list(*fields)[: min(limit, MAX_LINES)]
    return [Line(*row[:4], SettleRow(*row[4:])) for row in found]


def newest_rows(contract: str, newest: Mapping[str, int]) -> dict[str, dict[int, SettleRow]]:
    """Return the rows of areas in a contract as they stand, by area and account.

    ``newest``: by area, the entry that settled or corrected it last, as the engine has it (``Provisional.newest``).
    """
    if not newest:
        return {}
    changed = Adjustment.objects.filter(contract=contract, area__in=list(newest)).order_by("seq")
    first: dict[str, int] = dict(newest)  # by area: the settle entry
    later: dict[str, dict[int, SettleRow]] = {}
    for area, corrects, *values in changed.values_list("area", "corrects", *SettleRow._fields):
        rows = later.setdefault(area, {})
        if not rows:
            first[area] = corrects
        rows[values[0]] = SettleRow(*values)
    found: dict[str, dict[int, SettleRow]] = {area: {} for area in newest}
    lines = SettlementLine.objects.filter(seq__in=list(first.values())).values_list("area", *SettleRow._fields)
    for area, *values in lines.iterator():
        found[area][values[0]] = SettleRow(*values)
    for area, rows in later.items():
        found[area] |= rows
    return found


def adjustments(account: int, *, contracts: Collection[str]) -> list[Adjusted]:
    """Return the corrections of an account's lines in contracts, oldest first; at most ``MAX_LINES``."""
    rows = Adjustment.objects.filter(account=account, contract__in=list(contracts)).order_by("seq")
    names = ("seq", "at_ms", "contract", "area", "corrects", "n", *SettleRow._fields, "account", *WAS_FIELDS)
    width = len(SettleRow._fields)
    return [
        Adjusted(*row[:6], SettleRow(*row[6 : 6 + width]), SettleRow(*row[6 + width :]))
        for row in rows.values_list(*names)[:MAX_LINES]
    ]


class Moved(NamedTuple):
    """What an ``adjust`` entry was about for one account. ``energy_wh`` are differences.

    ``shared``: agreements moved ``energy_wh`` from this account to neighbours; else its meter's reading changed, and
    ``energy_wh`` is what it imports more (less: exports more).
    """

    contract: str
    shared: bool
    energy_wh: int


def moved(account: int, *, seqs: Collection[int]) -> dict[int, Moved]:
    """Return what those of the entries that are corrections, or share out, were about for an account."""
    if not seqs:
        return {}
    changed = Adjustment.objects.filter(account=account, seq__in=list(seqs))
    import_wh, export_wh = F("import_wh") - F("was_import_wh"), F("export_wh") - F("was_export_wh")
    found = {
        seq: Moved(contract, False, energy_wh)
        for seq, contract, energy_wh in changed.annotate(wh=import_wh - export_wh).values_list("seq", "contract", "wh")
    }
    given = SharedLine.objects.filter(giver=account, seq__in=list(seqs)).values("seq", "contract")
    sums = given.annotate(wh=Sum(F("energy_wh") - F("was_wh"))).order_by().values_list("seq", "contract", "wh")
    return found | {seq: Moved(contract, True, int(energy_wh)) for seq, contract, energy_wh in sums}


def shared_before(seq: int) -> dict[int, int]:
    """Return what agreements move (Wh) by the entry that shared a contract out, by number; nothing for 0."""
    if not seq:
        return {}
    return dict(SharedLine.objects.filter(seq=seq).values_list("agreement", "energy_wh"))


class AgreementView(NamedTuple):
    """A private agreement as one of its parties sees it. ``neighbour`` is the other account's id."""

    agreement: int
    gives: bool  # what this party has left over goes to the neighbour
    neighbour: str
    price_e4: int
    fee_e4: int
    start: str
    state: str  # proposed, agreed, ended
    mine: bool  # this party proposed it


def agreements(exchange: Exchange, account: int) -> list[AgreementView]:
    """Return an account's agreements, oldest first; ended ones as long as they may matter to a settlement."""

    def look(engine: Engine) -> list[AgreementView]:
        found = []
        for number, one in sorted(engine.agreements.items()):
            if account not in (one.giver, one.receiver):
                continue
            other = one.receiver if one.giver == account else one.giver
            state = "ended" if one.revoked_ms else "agreed" if one.accepted_ms else "proposed"
            found.append(
                AgreementView(
                    number, one.giver == account, engine.accounts[other].id, one.price_e4, one.fee_e4,
                    contract_name(one.start_ms), state, one.proposer == account,
                )
            )  # fmt: skip
        return found

    return exchange.read(look)


def account_index(exchange: Exchange, account_id: str) -> int | None:
    """Return the index of the member account with this id, None where there is none."""

    def look(engine: Engine) -> int | None:
        if account_id not in engine.ids:
            return None
        return next((a.index for a in engine.accounts if a.id == account_id and a.kind == "member"), None)

    return exchange.read(look)


def state(exchange: Exchange, contract: str) -> str:
    """Return how far settlement of a contract has come: "open" (not settled everywhere), "provisional" or "final"."""

    def look(engine: Engine) -> str:
        if contract in engine.contracts:
            return "open"
        return "provisional" if contract in engine.provisional else "final"

    return exchange.read(look)


def line(account: int, contract: str) -> Line | None:
    """Return an account's settlement in one contract, or None when it is not settled yet."""
    return _line_in(SettlementLine.objects.filter(account=account, contract=contract))


def newest_line(account: int, contract: str) -> Line | None:
    """Return an account's settlement in one contract as it stands, or None when it is not settled yet.

    ``seq`` is that of the correction that changed it last, where there is one; it may have begun with one.
    """
    changed = Adjustment.objects.filter(account=account, contract=contract).order_by("-seq")
    return _line_in(changed) or line(account, contract)


def _line_in(rows: QuerySet[Any]) -> Line | None:
    fields = ("seq", "at_ms", "contract", "area", *SettleRow._fields)
    row = rows.values_list(*fields).first()
    return None if row is None else Line(*row[:4], SettleRow(*row[4:]))


def result(account: int, *, start_ms: int, end_ms: int) -> Result:
    """Return what the settled contracts with start_ms <= start < end_ms came to for an account."""
    span = {"contract__gte": contract_name(start_ms), "contract__lt": contract_name(end_ms)}
    settled = SettlementLine.objects.filter(account=account, **span)
    sums = settled.aggregate(Sum("short_e7"), Sum("spill_e7"), Sum("topup_e7"))
    changed = Adjustment.objects.filter(account=account, **span).aggregate(
        **{name: Sum(F(f"{name}_e7") - F(f"was_{name}_e7")) for name in ("short", "spill", "topup")}
    )
    contracts = list(settled.values_list("contract", flat=True))
    trades = Trade.objects.filter(contract__in=contracts)
    sales = sum(e4 * wh for e4, wh in trades.filter(seller=account).values_list("sell_e4", "energy_wh"))
    purchases = trades.filter(buyer=account).aggregate(Sum("cost_e7"))["cost_e7__sum"] or 0
    return Result(
        len(contracts),
        sales,
        (sums["short_e7__sum"] or 0) + (changed["short"] or 0),
        (sums["spill_e7__sum"] or 0) + (changed["spill"] or 0),
        purchases,
        (sums["topup_e7__sum"] or 0) + (changed["topup"] or 0),
    )
