"""What every account's statement must come to, worked out from the entries and rows of a replay alone. Pure.

Kept are sums by account and market-local day, of days that are not over: a day is handed on once no contract of it, nor of
an earlier day, can still be settled, corrected or shared out. Line by line an interval is kept only of accounts that are
asked for.

What a settled interval adds: the trades that stand, as the replay has counted them, and the row that settles it; then the
differences of each later correction and sharing. What a home uses of its own roof is on no ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from market.engine.commands import NO_QUALITY
from market.engine.contracts import Tally, contract_start_ms
from market.engine.engine import Engine
from market.engine.events import Traded, TradeRecalled
from market.settlement.rules import ESTIMATED

BOUGHT, SOLD, SHORT, TOPUP, SPILL = "bought", "sold", "short", "topup", "spill"
CORRECTED, GIVEN, RECEIVED = "corrected", "given", "received"
_NO_TALLY = Tally()

Fields = Mapping[str, Any]


class Line(NamedTuple):
    """One line: energy in Wh, ``price_e4`` None where there is no single price, money into the home's pocket (e7)."""

    kind: str
    energy_wh: int
    price_e4: int | None
    fee_e7: int  # contained in what was bought
    money_e7: int
    seq: int  # the entry it stands in
    agreement: int = 0  # the private agreement that it is about, 0: none


class DaySums(NamedTuple):
    """What an account's settled intervals of one day come to, after all corrections and all sharing. Sizes in Wh and e7."""

    intervals: int = 0
    estimated: int = 0  # of them, those whose newest reading is an estimate
    import_wh: int = 0
    export_wh: int = 0
    bought_wh: int = 0
    bought_e7: int = 0  # grid fees included
    fee_e7: int = 0
    topup_wh: int = 0
    topup_e7: int = 0
    sold_wh: int = 0
    sold_e7: int = 0
    short_wh: int = 0
    short_e7: int = 0
    spill_wh: int = 0
    spill_e7: int = 0
    given_wh: int = 0  # to neighbours, by agreement
    given_e7: int = 0
    received_wh: int = 0  # from neighbours, by agreement
    received_e7: int = 0  # grid fees included
    shared_fee_e7: int = 0
    corrected_wallet_e7: int = 0  # what corrections changed, with its sign; contained in the amounts above
    corrected_bill_e7: int = 0
    without_e7: int = 0  # all imports at the top-up price, all exports at the spill price, with its sign

    @property
    def wallet_e7(self) -> int:
        """Return what reached the wallet."""
        return self.sold_e7 - self.short_e7 + self.spill_e7 + self.given_e7 - self.bought_e7

    @property
    def bill_e7(self) -> int:
        """Return what is on the supply bill, as a negative number."""
        return -self.topup_e7 - self.received_e7

    @property
    def net_e7(self) -> int:
        """Return what all lines come to."""
        return self.wallet_e7 + self.bill_e7

    def by_base(self) -> dict[str, tuple[int, int]]:
        """Return energy (Wh) and money (e7) by what charges may be on (``levies.BASES``)."""
        return {
            "bought": (self.bought_wh, self.fee_e7 - self.bought_e7),
            "fee": (self.bought_wh + self.received_wh, -self.fee_e7 - self.shared_fee_e7),
            "topup": (self.topup_wh, -self.topup_e7),
            "sold": (self.sold_wh, self.sold_e7),
            "short": (self.short_wh, -self.short_e7),
            "spill": (self.spill_wh, self.spill_e7),
            "given": (self.given_wh, self.given_e7),
            "received": (self.received_wh, self.shared_fee_e7 - self.received_e7),
        }


class Interval:
    """One interval of an account that is asked for."""

    __slots__ = ("deals", "estimated", "final", "lines", "seq", "short_wh")

    def __init__(self) -> None:
        self.seq = 0  # its settle entry; 0: it is not settled
        self.estimated = False
        self.final = False  # nothing corrects it any more
        self.short_wh = 0  # as it stands after all corrections
        self.deals: list[Line] = []  # trades that stand
        self.lines: list[Line] = []  # all others


NOTHING = DaySums()


def add(parts: Iterable[DaySums]) -> DaySums:
    """Return the sum of sums."""
    columns = list(zip(*parts, strict=True))
    return DaySums(*map(sum, columns)) if columns else NOTHING


def values_of(day: date, account: int, sums: DaySums) -> dict[str, Any]:
    """Return an account's day as a program reads it: integers, units last."""
    figures = sums._asdict() | {"wallet_e7": sums.wallet_e7, "bill_e7": sums.bill_e7, "net_e7": sums.net_e7}
    return {"day": day.isoformat(), "account": account, **figures}


class Statements:
    """Sums of every account by day in ``zone``; each is handed to ``write``, days in order, accounts in order within.

    ``asked``: accounts of which lines are kept, too, in ``intervals``, and sums in ``days``. ``count``: account-days so far.
    """

    def __init__(self, zone: ZoneInfo, asked: Collection[int] = ()):
        self.zone = zone
        self.asked = frozenset(asked)
        self.count = 0
        self.write: Callable[[date, int, DaySums], None] | None = None
        self.days: dict[date, dict[int, DaySums]] = {}
        self.intervals: dict[tuple[str, int], Interval] = {}
        self._open: dict[date, dict[int, list[int]]] = {}

    # --- what the replay sees ---------------------------------------------------------------------------------------

    def see(self, event: Any) -> None:
        """Take an event: trades of accounts that are asked for are kept one by one."""
        if type(event) is Traded:
            seq, wh, buy_e4, sell_e4 = event.seq, event.energy_wh, event.buy_e4, event.sell_e4
            if event.buyer in self.asked:
                fee_e7 = (buy_e4 - sell_e4) * wh
                self._interval(event.contract, event.buyer).deals.append(
                    Line(BOUGHT, wh, buy_e4, fee_e7, -buy_e4 * wh, seq)
                )
            if event.seller in self.asked:
                self._interval(event.contract, event.seller).deals.append(Line(SOLD, wh, sell_e4, 0, sell_e4 * wh, seq))
        elif type(event) is TradeRecalled:
            for account in {event.buyer, event.seller} & self.asked:
                interval = self._interval(event.contract, account)
                interval.deals = [deal for deal in interval.deals if deal.seq != event.trade]

    def settle(self, entry: Fields, rows: Sequence[Fields], engine: Engine) -> None:
        """Take the rows that settle an area, while the engine still has the contract's trades."""
        contract = engine.contracts.get(str(entry.get("contract")))
        if contract is None:
            return  # the engine refuses it
        kept = self._of(contract.name)
        for row in rows:
            account = row["account"]
            tally = contract.tallies.get(account, _NO_TALLY)
            without_e7 = row["export_wh"] * contract.spill_e4 - row["import_wh"] * contract.topup_e4
            estimated = int(row["quality"] == ESTIMATED)
            self._add(
                kept, account,
                intervals=1, estimated=estimated, import_wh=row["import_wh"], export_wh=row["export_wh"],
                bought_wh=tally.bought_wh, bought_e7=tally.paid_e7, fee_e7=tally.fee_e7,
                topup_wh=row["topup_wh"], topup_e7=row["topup_e7"],
                sold_wh=tally.sold_wh, sold_e7=tally.proceeds_e7,
                short_wh=row["short_wh"], short_e7=row["short_e7"],
                spill_wh=row["spill_wh"], spill_e7=row["spill_e7"], without_e7=without_e7,
            )  # fmt: skip
            if account in self.asked:
                interval = self._interval(contract.name, account)
                interval.seq, interval.estimated = int(entry["seq"]), bool(estimated)
                interval.short_wh = row["short_wh"]
                for kind, price_e4, sign in (
                    (SHORT, contract.topup_e4, -1),
                    (TOPUP, contract.topup_e4, -1),
                    (SPILL, contract.spill_e4, 1),
                ):
                    if energy_wh := row[f"{kind}_wh"]:
                        money_e7 = sign * row[f"{kind}_e7"]
                        interval.lines.append(Line(kind, energy_wh, price_e4, 0, money_e7, interval.seq))

    def adjust(self, entry: Fields, rows: Sequence[Fields], engine: Engine) -> None:
        """Take a correction: what each row is more or less than before."""
        name = str(entry.get("contract"))
        provisional = engine.provisional.get(name)
        if provisional is None:
            return
        kept, seq = self._of(name), int(entry["seq"])
        for row in rows:
            account = row["account"]
            more = {field: row[field] - row[f"was_{field}"] for field in _CHANGING}
            estimated = int(row["quality"] == ESTIMATED) - int(row["was_quality"] == ESTIMATED)
            wallet_e7, bill_e7 = more["spill_e7"] - more["short_e7"], -more["topup_e7"]
            self._add(
                kept, account,
                intervals=int(row["was_quality"] == NO_QUALITY), estimated=estimated, **more,
                corrected_wallet_e7=wallet_e7, corrected_bill_e7=bill_e7,
                without_e7=more["export_wh"] * provisional.spill_e4 - more["import_wh"] * provisional.topup_e4,
            )  # fmt: skip
            if account in self.asked:
                interval = self._interval(name, account)
                interval.seq, interval.estimated = interval.seq or seq, row["quality"] == ESTIMATED
                interval.short_wh = row["short_wh"]
                energy_wh = more["import_wh"] - more["export_wh"]
                interval.lines.append(Line(CORRECTED, energy_wh, None, 0, wallet_e7 + bill_e7, seq))

    def share(self, entry: Fields, rows: Sequence[Fields], engine: Engine) -> None:
        """Take what agreements move, more or less than before."""
        name, seq = str(entry.get("contract")), int(entry["seq"])
        provisional = engine.provisional.get(name)
        if provisional is None:
            return
        kept = self._of(name)
        for row in rows:
            agreement = engine.agreements.get(row["agreement"])
            more_wh = row["energy_wh"] - row["was_wh"]
            if agreement is None or not more_wh:
                continue
            # The neighbour's energy, and the supplier's that it replaces (rulebook, 8.10).
            price_e4, fee_e4 = agreement.price_e4, agreement.fee_e4
            spill_e7, topup_e7 = provisional.spill_e4 * more_wh, provisional.topup_e4 * more_wh
            given_e7, received_e7 = price_e4 * more_wh, (price_e4 + fee_e4) * more_wh
            self._add(
                kept, agreement.giver,
                given_wh=more_wh, given_e7=given_e7, spill_wh=-more_wh, spill_e7=-spill_e7,
            )  # fmt: skip
            self._add(
                kept, agreement.receiver,
                received_wh=more_wh, received_e7=received_e7, shared_fee_e7=fee_e4 * more_wh,
                topup_wh=-more_wh, topup_e7=-topup_e7,
            )  # fmt: skip
            if agreement.giver in self.asked:
                self._interval(name, agreement.giver).lines += [
                    Line(GIVEN, more_wh, price_e4, 0, given_e7, seq, agreement.id),
                    Line(SPILL, -more_wh, provisional.spill_e4, 0, -spill_e7, seq, agreement.id),
                ]
            if agreement.receiver in self.asked:
                self._interval(name, agreement.receiver).lines += [
                    Line(RECEIVED, more_wh, price_e4 + fee_e4, fee_e4 * more_wh, -received_e7, seq, agreement.id),
                    Line(TOPUP, -more_wh, provisional.topup_e4, 0, topup_e7, seq, agreement.id),
                ]

    # --- days that are over -----------------------------------------------------------------------------------------

    def pass_on(self, engine: Engine) -> None:
        """Something is settled for good: hand on the days in which nothing can move any more."""
        # Contracts open in the order of their time, and names sort by time.
        open_ = min((*engine.contracts, *engine.provisional), default="")
        before = self.day_of(open_) if open_ else self._local(engine.last_opened_ms)
        self._hand_on(day for day in sorted(self._open) if day < before)

    def end(self, engine: Engine) -> None:
        """The log ends: hand on what there is of all other days."""
        for (contract, _), interval in self.intervals.items():
            interval.final = interval.seq > 0 and contract not in engine.provisional
        self._hand_on(sorted(self._open))

    def _hand_on(self, days: Iterable[date]) -> None:
        for day in days:
            for account, values in sorted(self._open.pop(day).items()):
                sums = DaySums(*values)
                self.count += 1
                if account in self.asked:
                    self.days.setdefault(day, {})[account] = sums
                if self.write is not None:
                    self.write(day, account, sums)

    # --- places -----------------------------------------------------------------------------------------------------

    def day_of(self, contract: str) -> date:
        """Return the market-local day in which a contract's delivery starts."""
        return self._local(contract_start_ms(contract))

    def _local(self, at_ms: int) -> date:
        return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self.zone).date()

    def _of(self, contract: str) -> dict[int, list[int]]:
        return self._open.setdefault(self.day_of(contract), {})

    def _interval(self, contract: str, account: int) -> Interval:
        return self.intervals.setdefault((contract, account), Interval())

    @staticmethod
    def _add(kept: dict[int, list[int]], account: int, **more: int) -> None:
        values = kept.get(account)
        if values is None:
            values = kept[account] = [0] * len(DaySums._fields)
        for name, value in more.items():
            values[_AT[name]] += value


_CHANGING = (
    "import_wh", "export_wh", "short_wh", "topup_wh", "spill_wh", "short_e7", "topup_e7", "spill_e7",
)  # fmt: skip
_AT = {name: at for at, name in enumerate(DaySums._fields)}
