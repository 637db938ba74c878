"""The market as one home sees it: prices of the hours ahead, and what one press to sell or buy would do now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

from market.agents import outlook
from market.engine.accounts import Account as Wallet
from market.engine.contracts import Contract, contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange import queries as exchange
from market.exchange.exchange import Exchange
from market.exchange.figures import figures as cache
from market.households.queries import AccountInfo
from market.metering import queries as metering
from market.pages import plans, pricestrip
from market.pages.context import local
from market.pages.houseflow import House
from market.pages.plans import BUY, SELL, Line, Plan
from market.pages.pricestrip import HOURS, Moment, Slot

LEVELS = 10  # of a book that one order looks through
# Five seconds to take it back, and time to read the sentence before: an interval whose gate closes sooner is not offered.
MIN_LEAD_REAL_S = 12
GUESSED_MS = 3_600_000  # how long "as it is now" may be said where nobody forecasts
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PAST_DAYS = 8  # of readings that a forecast may look at
LEARNT_KEPT_S = 900  # real time; until the next reading at the latest


@dataclass(frozen=True)
class PriceNow:
    """What the next interval costs from where this home is; None where nobody offers."""

    contract: str
    sell_e4: int | None  # what a neighbour pays
    buy_e4: int | None  # what a neighbour asks
    topup_e4: int  # what the grid charges
    spill_e4: int  # what the grid pays


@dataclass(frozen=True)
class Trading:
    """Prices, and the two things to do."""

    price: PriceNow | None
    slots: list[Slot]
    chosen: Slot | None  # the hour that was asked for
    sell_at: Slot | None  # the best hour to sell
    buy_at: Slot | None  # and to buy
    sell: Plan
    buy: Plan
    offered_wh: int  # waits for a buyer, in the hours of the strip
    asked_wh: int  # waits for a seller


@dataclass(frozen=True)
class _Live:
    """What the engine knows, read in one go."""

    lines: list[Line]
    quotes: dict[str, tuple[int | None, int | None]]
    blocked: str
    owing: bool
    free_e7: int
    tick_e4: int


def interval_ms() -> int:
    """Return the length of a delivery interval."""
    return settings.MARKET_INTERVAL_MIN * 60_000


def load(
    market: Exchange, account: AccountInfo, *, now_ms: int, speed: float, house: House | None, wanted_ms: int = 0
) -> Trading:
    """Return the market for a home; ``wanted_ms`` is the start of the hour a person chose, 0 for none."""
    lead_ms = round(MIN_LEAD_REAL_S * 1000 * speed)
    nets, guessed = _expected(account.index, now_ms, house)
    live = market.read(lambda engine: _read(engine, account, now_ms, lead_ms, nets))
    usual = _usual([line.contract for line in live.lines])
    moments = [
        Moment(
            line.contract,
            line.start_ms,
            *live.quotes[line.contract],
            line.topup_e4,
            line.spill_e4,
            usual.get(line.contract),
            line.net_wh,
            line.halted,
        )
        for line in live.lines
    ]
    hours = pricestrip.slots(moments, hour_of)
    chosen = next((slot for slot in hours if slot.start_ms == wanted_ms), None)
    first = next((moment for moment in moments if not moment.halted), None)
    sell, buy = (_plan(market, account, live, side, now_ms, chosen, guessed) for side in (SELL, BUY))
    return Trading(
        price=None
        if first is None
        else PriceNow(first.contract, first.bid_e4, first.ask_e4, first.topup_e4, first.spill_e4),
        slots=hours,
        chosen=chosen,
        sell_at=pricestrip.best_to_sell(hours),
        buy_at=pricestrip.best_to_buy(hours),
        sell=sell,
        buy=buy,
        offered_wh=sum(line.selling_wh for line in live.lines),
        asked_wh=sum(line.buying_wh for line in live.lines),
    )


def hour_of(at_ms: int) -> int:
    """Return the start of the market-local hour an instant lies in, ms."""
    there = local(at_ms)
    return at_ms - at_ms % 1000 - (there.minute * 60 + there.second) * 1000


def day_before_ms(at_ms: int) -> int:
    """Return the same time by the market's clock a day earlier, ms: 23 or 25 hours where clocks change."""
    return round((local(at_ms) - timedelta(days=1)).timestamp() * 1000)


# --- what the engine knows -------------------------------------------------------------------------------------------
def _read(engine: Engine, account: AccountInfo, now_ms: int, lead_ms: int, nets: Mapping[int, int]) -> _Live:
    wallet = engine.accounts[account.index]
    waiting: dict[tuple[str, bool], int] = {}
    for order_id in wallet.open_ids:
        order = engine.orders[order_id]
        if order.complex is None or not order.complex.asleep:
            place = (order.contract, order.is_buy)
            waiting[place] = waiting.get(place, 0) + order.left_wh
    found = sorted(
        (
            contract
            for contract in engine.contracts.values()
            if contract.state == "open" and now_ms + lead_ms < contract.gate_ms and contract.start_ms < _end_ms(now_ms)
        ),
        key=lambda contract: contract.start_ms,
    )
    return _Live(
        lines=[_line(engine, wallet, contract, waiting, nets.get(contract.start_ms)) for contract in found],
        quotes={contract.name: engine.best(account.area, contract.name) for contract in found},
        blocked=_halt(engine, wallet),
        owing=wallet.arrears_e7 > 0,
        free_e7=wallet.cash_e7 - wallet.held_e7,
        tick_e4=engine.params.tick_e4,
    )


def _end_ms(now_ms: int) -> int:
    """Return where the strip ends at the latest: so many full hours, should nothing of the running one be left."""
    return hour_of(now_ms) + (HOURS + 1) * HOUR_MS


def _position(contract: Contract, account: int) -> int:
    tally = contract.tallies.get(account)
    return 0 if tally is None else tally.bought_wh - tally.sold_wh


def _halt(engine: Engine, wallet: Wallet) -> str:
    """Return the code of what stops this account in every interval, "" if nothing does; the widest first."""
    if wallet.closed and not engine.halted:
        return "account_closed"
    return engine.halt_of(wallet.index)


def _line(
    engine: Engine, wallet: Wallet, contract: Contract, waiting: Mapping[tuple[str, bool], int], net_wh: int | None
) -> Line:
    exposure = contract.exposures.get(wallet.slot)
    return Line(
        contract=contract.name,
        start_ms=contract.start_ms,
        topup_e4=contract.topup_e4,
        spill_e4=contract.spill_e4,
        last_e4=contract.last_e4,
        halted=contract.halted,
        net_wh=net_wh,
        sold_wh=-_position(contract, wallet.index),
        selling_wh=waiting.get((contract.name, False), 0),
        buying_wh=waiting.get((contract.name, True), 0),
        sell_room_wh=wallet.export_wh - (0 if exposure is None else exposure.sell_wh),
        buy_room_wh=wallet.import_wh - (0 if exposure is None else exposure.buy_wh),
        most_wh=engine.params.max_order_wh,
    )


def _plan(
    market: Exchange, account: AccountInfo, live: _Live, side: str, now_ms: int, chosen: Slot | None, guessed: bool
) -> Plan:
    if live.blocked or (side == BUY and live.owing):
        return Plan(side, (), interval_ms(), blocked=live.blocked or "in_arrears")
    within = None if chosen is None else frozenset(chosen.contracts)
    picked = plans.choose(live.lines, side, now_ms, within)
    names = [line.contract for line in picked if not line.halted]

    def read(engine: Engine) -> dict[str, list[tuple[int, int]]]:
        books = {}
        for name in names:
            if name in engine.contracts:
                bids, asks = engine.depth(account.area, name, LEVELS)
                books[name] = [(level.price_e4, level.energy_wh) for level in (bids if side == SELL else asks)]
        return books

    if within is None:
        nearby = [line for line in live.lines if line.start_ms < now_ms + plans.WINDOW_MS]
    else:
        nearby = [line for line in live.lines if line.contract in within]
    found = plans.plan(
        side,
        picked,
        market.read(read) if names else {},
        now_ms=now_ms,
        interval_ms=interval_ms(),
        tick_e4=live.tick_e4,
        nearby=nearby,
        guessed=guessed,
    )
    # What trades at once is paid at its price; the exchange sets aside the whole at the limit first.
    return found._replace(blocked="no_money") if found.hold_e7 > live.free_e7 else found


# --- what to expect --------------------------------------------------------------------------------------------------
def _expected(account: int, now_ms: int, house: House | None) -> tuple[dict[int, int], bool]:
    """Return what a home will probably have left (negative: lack) in Wh by start of interval, and whether that is a guess.

    Its controller's forecast if there is one, else one from its own readings, else "as it is now" for the next hour.
    """
    length_ms = interval_ms()
    next_ms = (now_ms // length_ms + 1) * length_ms
    found: metering.Outlook | outlook.Expected | None = metering.outlook(account)
    if found is None or found.start_ms + DAY_MS // 2 < next_ms:
        found = _learnt(account, next_ms)
    if found is not None:
        both = zip(found.made_wh, found.used_wh, strict=True)
        return {found.start_ms + step * length_ms: made - used for step, (made, used) in enumerate(both)}, False
    if house is None:
        return {}, True
    # A battery takes up less when more is sold: what it takes now is there to be sold as well.
    net_wh = (house.produced_w - house.used_w) * length_ms // HOUR_MS
    return dict.fromkeys(range(next_ms, next_ms + GUESSED_MS, length_ms), net_wh), True


def _learnt(account: int, next_ms: int) -> outlook.Expected | None:
    """Return a forecast from the home's own readings; worked out once an interval."""
    key = f"pages.outlook.{account}.{next_ms}"
    kept = cache.get(key)
    if kept is None:
        readings = metering.made_and_used(account, start_ms=next_ms - PAST_DAYS * DAY_MS, end_ms=next_ms)
        found = outlook.expect(readings, next_ms=next_ms, interval_ms=interval_ms())
        kept = () if found is None else tuple(found)
        cache.set(key, kept, LEARNT_KEPT_S if kept else LEARNT_KEPT_S // 15)
    return outlook.Expected(*kept) if kept else None


def _usual(contracts: list[str]) -> dict[str, int]:
    """Return what was paid a day earlier in the same intervals, e4; worked out once for everybody."""
    if not contracts:
        return {}
    key = f"pages.usual.{contracts[0]}.{len(contracts)}"
    kept: dict[str, int] | None = cache.get(key)
    if kept is None:
        before = {contract_name(day_before_ms(contract_start_ms(name))): name for name in contracts}
        kept = {before[name]: price_e4 for name, (price_e4, _) in exchange.traded(before).items()}
        cache.set(key, kept, LEARNT_KEPT_S)
    return kept
