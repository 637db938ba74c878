"""From a home's trades, settlement rows and readings to the lines and sums of its statement. Pure.

An interval is on the statement once it is settled; until then its trades are shown and not counted. The lines of a settled
interval are exactly what its ledger entries moved: what was bought left the wallet with the trade, the settlement paid out
``proceeds + margin - short`` and the spill, and put the top-up on the supply bill; the margin goes in and comes back. Later
entries moved differences: corrections are a line each, and what a private agreement moved is two, what the neighbour pays and
the spill or top-up that it replaces. Sums are what stands after all of them.

Integers only: energy Wh, prices e4 per kWh, money e7 into the home's pocket (negative: out of it). Taxes and levies and
the total are e11, see ``levies``; the total alone is rounded to cents, halves away from zero, and the rounding is a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from market.engine.commands import NO_QUALITY
from market.exchange.views import LineView
from market.settlement.levies import E11, Charged, Table, charged, commercial, table_at
from market.settlement.rules import ESTIMATED, Tariff, short_of_sales

OWN, BOUGHT, TOPUP, SOLD, SHORT, SPILL, CORRECTED = "own", "bought", "topup", "sold", "short", "spill", "corrected"
GIVEN, RECEIVED = "given", "received"
KINDS = (OWN, BOUGHT, TOPUP, SOLD, SHORT, SPILL, GIVEN, RECEIVED, CORRECTED)
DEALS = (BOUGHT, SOLD)
SETTLED, WAITING = "settled", "waiting"
# How far the settlement of an interval has come; of one that is final its lines say whether it was corrected.
PROVISIONAL, FINAL = "provisional", "final"
STAGES = (WAITING, PROVISIONAL, CORRECTED, FINAL)
CENT_E11 = 10**9


class Deal(NamedTuple):
    """A trade from the home's side. ``price_e4`` is its own all-in price, ``fee_e4`` the grid's part of it (buyers)."""

    seq: int
    contract: str
    account: int
    bought: bool
    energy_wh: int
    price_e4: int
    fee_e4: int


class Traded(NamedTuple):
    """Sums of a home's trades in one interval; ``bought_e7`` includes the grid fees ``fee_e7``."""

    bought_wh: int = 0
    bought_e7: int = 0
    fee_e7: int = 0
    sold_wh: int = 0
    sold_e7: int = 0


class Correction(NamedTuple):
    """What a correction changed in a settled interval: differences, each new value minus the old one.

    ``seq`` is the ledger's adjust entry, ``quality`` that of the reading from then on.
    """

    seq: int
    contract: str
    account: int
    quality: str
    import_wh: int
    export_wh: int
    short_wh: int
    topup_wh: int
    spill_wh: int
    short_e7: int
    topup_e7: int
    spill_e7: int

    @property
    def wallet_e7(self) -> int:
        """Return what reached the wallet; negative: what left it, or is owed."""
        return self.spill_e7 - self.short_e7

    @property
    def bill_e7(self) -> int:
        """Return what the supply bill fell by; negative: what it rose by."""
        return -self.topup_e7


class Shared(NamedTuple):
    """What an entry changed in what a private agreement moves: ``energy_wh`` is a difference, negative when it is less.

    ``seq`` is the ledger's adjust entry with the action ``shared``; ``gives``: this account is the giver.
    """

    seq: int
    contract: str
    account: int
    agreement: int
    gives: bool
    energy_wh: int
    price_e4: int
    fee_e4: int


class Later(NamedTuple):
    """What later entries say of a settled interval of an account."""

    corrections: tuple[Correction, ...] = ()
    shared: tuple[Shared, ...] = ()
    final: bool = False


class Line(NamedTuple):
    """One line. ``seq`` is the ledger entry it stands in and that its receipt proves; None while there is none.

    ``price_e4`` None: no single price. Of what was bought or received, ``money_e7`` includes ``fee_e7``. ``agreement``: the
    private agreement that it is about, 0: none. ``short_wh``: how much of a sale was not delivered (rulebook, 8.5).
    """

    kind: str
    energy_wh: int
    price_e4: int | None
    fee_e7: int
    money_e7: int
    seq: int | None
    agreement: int = 0
    short_wh: int = 0


class Sums(NamedTuple):
    """Sums over settled intervals, as they stand after all corrections and all sharing.

    Energies and amounts are sizes, the properties have signs. ``corrected_…`` are what corrections changed in the others.
    """

    intervals: int = 0
    estimated: int = 0  # of them, settled on an estimate
    corrected: int = 0  # of them, corrected since
    final: int = 0  # of them, those that nothing corrects any more
    own_known: int = 0  # of them, those whose roof is metered
    own_wh: int = 0
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
    corrected_wallet_e7: int = 0  # signed, contained in the amounts above
    corrected_bill_e7: int = 0
    plain_topup_e7: int = 0  # what all consumption would have cost at the top-up price
    plain_spill_e7: int = 0  # what all surplus would have brought at the spill price

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

    @property
    def corrected_e7(self) -> int:
        """Return what corrections changed; the other sums contain it."""
        return self.corrected_wallet_e7 + self.corrected_bill_e7

    @property
    def earned_e7(self) -> int:
        """Return what selling and giving brought, less what was not delivered."""
        return self.sold_e7 + self.spill_e7 + self.given_e7 - self.short_e7

    @property
    def paid_e7(self) -> int:
        """Return what was paid for energy and the grid."""
        return self.bought_e7 + self.topup_e7 + self.received_e7

    @property
    def provisional(self) -> int:
        """Return how many intervals later readings may still correct."""
        return self.intervals - self.final

    @property
    def without_e7(self) -> int:
        """Return what the lines would have come to without the market."""
        return self.plain_spill_e7 - self.plain_topup_e7

    @property
    def gain_e7(self) -> int:
        """Return what the market was worth, before taxes and levies on top."""
        return self.net_e7 - self.without_e7

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

    def by_base_without(self) -> dict[str, tuple[int, int]]:
        """Return the same without the market."""
        return {
            "topup": (self.import_wh, -self.plain_topup_e7),
            "spill": (self.export_wh, self.plain_spill_e7),
        }


class Interval(NamedTuple):
    """One interval of one account. ``seq`` is the entry that settled it, None while it waits; ``sums`` are zero then.

    ``stage`` is one of ``STAGES``.
    """

    contract: str
    account: int
    state: str
    estimated: bool
    seq: int | None
    sums: Sums
    lines: tuple[Line, ...]
    stage: str


class Total(NamedTuple):
    """What a statement comes to."""

    sums: Sums
    charges: tuple[Charged, ...]  # those on top, and those the prices contain
    net_e11: int  # lines and charges on top
    without_e11: int
    rounding_e11: int  # what rounding to cents added
    cents: int

    @property
    def bill_e11(self) -> int:
        """Return what is on the supply bill, charges on top included."""
        return self.net_e11 - self.sums.wallet_e7 * E11

    @property
    def gain_e11(self) -> int:
        """Return what the market was worth to the home."""
        return self.net_e11 - self.without_e11


NOTHING = Sums()
NO_TRADES = Traded()
NOTHING_LATER = Later()


def add(sums: Iterable[Sums]) -> Sums:
    """Return the sum of sums."""
    columns = list(zip(*sums, strict=True))
    return Sums(*map(sum, columns)) if columns else NOTHING


def nothing_settled(one: Correction) -> LineView:
    """Return the row of an account that had none before its first correction: it neither traded nor was metered."""
    return LineView(one.seq, one.account, 0, one.contract, "", 0, 0, NO_QUALITY, *[0] * 9)


def interval_sums(
    row: LineView, traded: Traded, tariff: Tariff, own_wh: int | None, later: Later = NOTHING_LATER
) -> Sums:
    """Return the sums of one settled interval of one account; ``own_wh`` None: its roof is not metered."""
    changes = later.corrections
    import_wh = row.import_wh + sum(one.import_wh for one in changes)
    export_wh = row.export_wh + sum(one.export_wh for one in changes)
    short_wh = row.short_wh + sum(one.short_wh for one in changes)
    given = [one for one in later.shared if one.gives]
    received = [one for one in later.shared if not one.gives]
    given_wh, received_wh = sum(one.energy_wh for one in given), sum(one.energy_wh for one in received)
    shared_fee_e7 = sum(one.fee_e4 * one.energy_wh for one in received)
    return Sums(
        intervals=1,
        estimated=int((changes[-1].quality if changes else row.quality) == ESTIMATED),
        corrected=int(bool(changes)),
        final=int(later.final),
        own_known=int(own_wh is not None),
        own_wh=own_wh or 0,
        import_wh=import_wh,
        export_wh=export_wh,
        bought_wh=traded.bought_wh,
        bought_e7=traded.bought_e7,
        fee_e7=traded.fee_e7,
        # What a neighbour gives comes in the place of the supplier's energy, and what is given leaves it.
        topup_wh=row.topup_wh + sum(one.topup_wh for one in changes) - received_wh,
        topup_e7=row.topup_e7 + sum(one.topup_e7 for one in changes) - received_wh * tariff.topup_e4,
        sold_wh=traded.sold_wh,
        sold_e7=traded.sold_e7,
        short_wh=short_wh,
        short_e7=row.short_e7 + sum(one.short_e7 for one in changes),
        spill_wh=row.spill_wh + sum(one.spill_wh for one in changes) - given_wh,
        spill_e7=row.spill_e7 + sum(one.spill_e7 for one in changes) - given_wh * tariff.spill_e4,
        given_wh=given_wh,
        given_e7=sum(one.price_e4 * one.energy_wh for one in given),
        received_wh=received_wh,
        received_e7=sum(one.price_e4 * one.energy_wh for one in received) + shared_fee_e7,
        shared_fee_e7=shared_fee_e7,
        corrected_wallet_e7=sum(one.wallet_e7 for one in changes),
        corrected_bill_e7=sum(one.bill_e7 for one in changes),
        plain_topup_e7=import_wh * tariff.topup_e4,
        plain_spill_e7=export_wh * tariff.spill_e4,
    )


def deal_line(deal: Deal, short_wh: int = 0) -> Line:
    """Return the line of a trade; ``short_wh`` of a sale were not delivered."""
    size_e7 = deal.price_e4 * deal.energy_wh
    if deal.bought:
        return Line(BOUGHT, deal.energy_wh, deal.price_e4, deal.fee_e4 * deal.energy_wh, -size_e7, deal.seq)
    return Line(SOLD, deal.energy_wh, deal.price_e4, 0, size_e7, deal.seq, short_wh=short_wh)


def shared_lines(one: Shared, tariff: Tariff) -> list[Line]:
    """Return the lines of what an agreement moves: the neighbour's energy, and the supplier's that it replaces."""
    wh = one.energy_wh
    if one.gives:
        return [
            Line(GIVEN, wh, one.price_e4, 0, one.price_e4 * wh, one.seq, one.agreement),
            Line(SPILL, -wh, tariff.spill_e4, 0, -tariff.spill_e4 * wh, one.seq, one.agreement),
        ]
    price_e4 = one.price_e4 + one.fee_e4
    return [
        Line(RECEIVED, wh, price_e4, one.fee_e4 * wh, -price_e4 * wh, one.seq, one.agreement),
        Line(TOPUP, -wh, tariff.topup_e4, 0, tariff.topup_e4 * wh, one.seq, one.agreement),
    ]


def settled_interval(
    row: LineView,
    deals: Sequence[Deal],
    traded: Traded,
    tariff: Tariff,
    own_wh: int | None,
    later: Later = NOTHING_LATER,
) -> Interval:
    """Return a settled interval with its lines, which add up to its sums.

    ``deals`` may be fewer than what ``traded`` sums up, the oldest of each side: the rest becomes one line a side that leads
    to the settle entry.
    """
    sums = interval_sums(row, traded, tariff, own_wh, later)
    listed = tally(deals)
    # The newest sales are short first (rulebook, 8.5), and those that are not listed are the newest.
    rest_wh = traded.sold_wh - listed.sold_wh
    rest_short_wh = min(rest_wh, sums.short_wh)
    short = short_of_sales(
        [(deal.seq, deal.energy_wh) for deal in deals if not deal.bought], sums.short_wh - rest_short_wh
    )  # fmt: skip
    lines = [] if own_wh is None else [Line(OWN, own_wh, None, 0, 0, row.seq)]
    lines += [deal_line(deal, 0 if deal.bought else short.get(deal.seq, 0)) for deal in deals]
    if traded.bought_wh > listed.bought_wh:
        rest_e7 = listed.bought_e7 - traded.bought_e7
        fee_e7 = traded.fee_e7 - listed.fee_e7
        lines.append(Line(BOUGHT, traded.bought_wh - listed.bought_wh, None, fee_e7, rest_e7, row.seq))
    if rest_wh:
        rest_e7 = traded.sold_e7 - listed.sold_e7
        lines.append(Line(SOLD, rest_wh, None, 0, rest_e7, row.seq, short_wh=rest_short_wh))
    if row.short_wh:
        lines.append(Line(SHORT, row.short_wh, tariff.topup_e4, 0, -row.short_e7, row.seq))
    if row.topup_wh:
        lines.append(Line(TOPUP, row.topup_wh, tariff.topup_e4, 0, -row.topup_e7, row.seq))
    if row.spill_wh:
        lines.append(Line(SPILL, row.spill_wh, tariff.spill_e4, 0, row.spill_e7, row.seq))
    # What later entries changed: the difference, never a new value for an old line. In the order of the entries.
    found = [
        (one.seq, [Line(CORRECTED, one.import_wh - one.export_wh, None, 0, one.wallet_e7 + one.bill_e7, one.seq)])
        for one in later.corrections
    ]
    found += [(one.seq, shared_lines(one, tariff)) for one in later.shared]
    for _, part in sorted(found, key=lambda entry: entry[0]):
        lines += part
    stage = FINAL if later.final else CORRECTED if later.corrections else PROVISIONAL
    return Interval(row.contract, row.account, SETTLED, bool(sums.estimated), row.seq, sums, tuple(lines), stage)


def waiting_interval(contract: str, account: int, deals: Sequence[Deal]) -> Interval:
    """Return an interval that was traded in and is not settled yet: its trades are shown and not counted."""
    return Interval(contract, account, WAITING, False, None, NOTHING, tuple(map(deal_line, deals)), WAITING)


def tally(deals: Iterable[Deal]) -> Traded:
    """Return the sums of trades."""
    bought_wh = bought_e7 = fee_e7 = sold_wh = sold_e7 = 0
    for deal in deals:
        size_e7 = deal.price_e4 * deal.energy_wh
        if deal.bought:
            bought_wh += deal.energy_wh
            bought_e7 += size_e7
            fee_e7 += deal.fee_e4 * deal.energy_wh
        else:
            sold_wh += deal.energy_wh
            sold_e7 += size_e7
    return Traded(bought_wh, bought_e7, fee_e7, sold_wh, sold_e7)


def own_use_wh(produced_wh: int, export_wh: int) -> int:
    """Return what of a roof's energy did not leave the home in an interval; what went into a battery counts."""
    return max(0, produced_wh - export_wh)


def total(days: Mapping[date, Sums], tables: tuple[Table, ...]) -> Total:
    """Return what the days come to under the tables of levies; rounded to cents here and nowhere before."""
    by_table: dict[Table, list[Sums]] = {}
    for day, sums in sorted(days.items()):
        by_table.setdefault(table_at(tables, day), []).append(sums)
    charges: list[Charged] = []
    net_e11 = without_e11 = 0
    for table, parts in by_table.items():
        part = add(parts)
        found = charged(table, part.by_base())
        charges += found
        net_e11 += part.net_e7 * E11 + on_top_e11(found)
        without_e11 += part.without_e7 * E11 + on_top_e11(charged(table, part.by_base_without()))
    cents = commercial(net_e11, CENT_E11)
    return Total(
        add(days.values()), tuple(charges), net_e11, without_e11, cents * CENT_E11 - net_e11, cents
    )  # fmt: skip


def on_top_e11(charges: Iterable[Charged]) -> int:
    """Return the sum of those charges that the prices do not contain."""
    return sum(one.amount_e11 for one in charges if not one.charge.included)
