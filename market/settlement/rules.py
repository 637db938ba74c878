"""From positions and readings to money: what one area owes and gets for one delivered contract. Pure.

Trades are firm: they were paid into ``clearing:<start>`` when they happened, at their own price. Settlement pays out of
it and compares what a home traded with what its meter saw:

* ``position = bought - sold``, ``net = import - export``, ``imbalance = net - position`` (Wh).
* Missing energy (imbalance > 0) is topped up by the supplier of last resort. The part that was sold and not delivered,
  ``short = min(imbalance, max(0, -position))``, is paid by the margin the seller left in clearing; the rest is the
  home's ordinary consumption and goes on its supply bill.
* Left-over energy (imbalance < 0) is spilled at the spill price.

Integers only: Wh, 0.0001 currency per kWh (``_e4``), 0.0000001 currency (``_e7``); ``price_e4 * energy_wh`` is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from market.engine import contracts
from market.engine.commands import NO_QUALITY, AdjustRow, SettleRow, ShareRow

MEASURED = "measured"
ESTIMATED = "estimated"


class Tally(Protocol):
    """What an account traded in a contract, as the engine counts it."""

    bought_wh: int
    sold_wh: int
    proceeds_e7: int  # what its sales earned
    margin_e7: int  # what it left in clearing against not delivering
    fee_e7: int  # grid fees of what it bought


class Metered(NamedTuple):
    """What the meter of an account saw in a contract."""

    import_wh: int
    export_wh: int
    quality: str  # MEASURED or ESTIMATED


class Tariff(NamedTuple):
    """Prices of the supplier of last resort, frozen when the contract opened; 0 <= spill <= top-up."""

    topup_e4: int
    spill_e4: int


class Totals(NamedTuple):
    """Sums over the rows of an area."""

    payout_e7: int
    fee_e7: int
    short_e7: int
    topup_e7: int
    spill_e7: int


def estimated(position_wh: int) -> Metered:
    """Return the stand-in for a missing reading: what the home traded, so that nobody gains or loses by the silence."""
    return Metered(max(0, position_wh), max(0, -position_wh), ESTIMATED)


def settle_account(account: int, tally: Tally | None, metered: Metered | None, tariff: Tariff) -> SettleRow:
    """Return the settlement of one account; without a tally its position is 0, without a reading it is estimated."""
    bought = sold = proceeds = margin = fee = 0
    if tally is not None:
        bought, sold = tally.bought_wh, tally.sold_wh
        proceeds, margin, fee = tally.proceeds_e7, tally.margin_e7, tally.fee_e7
    position = bought - sold
    import_wh, export_wh, quality = metered if metered is not None else estimated(position)
    imbalance = import_wh - export_wh - position
    short = topup = spill = 0
    if imbalance > 0:
        short = min(imbalance, -position) if position < 0 else 0
        topup = imbalance - short
    else:
        spill = -imbalance
    short_e7 = short * tariff.topup_e4
    return SettleRow(
        account,
        import_wh,
        export_wh,
        quality,
        position,
        short,
        topup,
        spill,
        proceeds + margin - short_e7,
        fee,
        short_e7,
        topup * tariff.topup_e4,
        spill * tariff.spill_e4,
    )


def settle_area(tallies: Mapping[int, Tally], readings: Mapping[int, Metered], tariff: Tariff) -> tuple[SettleRow, ...]:
    """Return the rows of an area, by account: every account with a tally or a reading exactly once."""
    tally, reading = tallies.get, readings.get
    return tuple(
        settle_account(account, tally(account), reading(account), tariff)
        for account in sorted(tallies.keys() | readings.keys())
    )


def nothing_settled(account: int) -> SettleRow:
    """Return what the row of an account was that had none: neither a position nor a reading."""
    return SettleRow(account, 0, 0, NO_QUALITY, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def corrected(was: SettleRow, metered: Metered, tariff: Tariff) -> SettleRow:
    """Return a row settled again by another reading: the same rule, with what the account traded taken from the old row.

    Proceeds and margins are together what it was paid out and what was kept for being short.
    """
    position_wh = was.position_wh
    # What was bought and sold again does not matter to settlement, nor how much of the money is margin.
    gross_e7 = was.payout_e7 + was.short_e7
    traded = contracts.Tally.restore([max(position_wh, 0), max(-position_wh, 0), 0, gross_e7, 0, was.fee_e7])
    return settle_account(was.account, traded, metered, tariff)


def changes(rows: Mapping[int, SettleRow], readings: Mapping[int, Metered], tariff: Tariff) -> tuple[AdjustRow, ...]:
    """Return what readings change of an area's newest rows, by account: those that come out as they were are left out.

    An account without a row gets one at its first reading; an account without a reading keeps its row.
    """
    found = []
    for account in sorted(readings):
        was = rows.get(account) or nothing_settled(account)
        row = corrected(was, readings[account], tariff)
        if row != was:
            found.append(AdjustRow(row, was))
    return tuple(found)


class Agreement(Protocol):
    """Who gives to whom what is left over."""

    id: int
    giver: int
    receiver: int


def shared(
    agreements: Iterable[Agreement], rows: Mapping[int, SettleRow], before: Mapping[int, int]
) -> tuple[ShareRow, ...]:
    """Return what agreements move in a contract: in the order of their numbers, the lesser of what is left and missing.

    ``rows`` are the parties' settlement rows, all of them (who has none has neither), ``before`` what each moved so far.
    What a home sold and did not deliver is not ordinary supply: no neighbour's gift makes it good (rulebook, 8.9).
    """
    left: dict[int, int] = {}
    missing: dict[int, int] = {}
    found = []
    for agreement in sorted(agreements, key=lambda one: one.id):
        giver, receiver = rows.get(agreement.giver), rows.get(agreement.receiver)
        left_wh, missing_wh = giver.spill_wh if giver else 0, receiver.topup_wh if receiver else 0
        energy_wh = min(left.get(agreement.giver, left_wh), missing.get(agreement.receiver, missing_wh))
        left[agreement.giver] = left.get(agreement.giver, left_wh) - energy_wh
        missing[agreement.receiver] = missing.get(agreement.receiver, missing_wh) - energy_wh
        found.append(ShareRow(agreement.id, left_wh, missing_wh, energy_wh, before.get(agreement.id, 0)))
    return tuple(found)


def short_of_sales(sales: Iterable[tuple[int, int]], short_wh: int) -> dict[int, int]:
    """Return which sales of an account in a contract are short, and by how much (Wh): the newest are, first.

    ``sales`` are (trade id, Wh) of the trades that stand. Who sold first was promised first, so what was delivered goes to
    the oldest trades (rulebook, 8.5). Money does not depend on it: the trades are firm, and the seller pays the top-up price
    for every Wh alike. Raises ``ValueError`` when more is short than was sold, or a trade is named twice.
    """
    left_wh, found = short_wh, {}
    ordered = sorted(sales, reverse=True)
    if len({trade for trade, _ in ordered}) != len(ordered):
        raise ValueError("expected each trade once")
    for trade, energy_wh in ordered:
        if left_wh <= 0:
            break
        found[trade] = min(energy_wh, left_wh)
        left_wh -= found[trade]
    if left_wh:
        raise ValueError(f"expected at most {short_wh - left_wh} Wh short of what was sold, was {short_wh}")
    return found


def totals(rows: tuple[SettleRow, ...]) -> Totals:
    """Return the sums of the rows' money."""
    return Totals(
        sum(row.payout_e7 for row in rows),
        sum(row.fee_e7 for row in rows),
        sum(row.short_e7 for row in rows),
        sum(row.topup_e7 for row in rows),
        sum(row.spill_e7 for row in rows),
    )
