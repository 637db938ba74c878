"""What the household's home page shows: money first, then energy, then the one thing to do. Integers throughout."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings

from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange import queries as exchange
from market.exchange.exchange import Exchange
from market.grid import queries as grid
from market.households import queries as households
from market.households.queries import AccountInfo
from market.metering import queries as metering
from market.pages.context import Page, day_span_ms, local
from market.settlement import statement_queries
from market.settlement.periods import DAY, period_of

STEP_WH = 10  # an offer is rounded down to this: nobody forecasts single watt-hours
MIN_OFFER_WH = 50  # less is not worth a person's tap
LEVELS = 25
MIN_LEAD_REAL_S = 5  # an interval whose gate closes sooner is gone before a person has read the sentence
RECENT = 8  # trades in the short list
MS_AN_HOUR = 3_600_000


@dataclass(frozen=True)
class PriceNow:
    """What the next interval costs from where this home is; None where nobody offers."""

    contract: str
    sell_e4: int | None  # what a neighbour pays
    buy_e4: int | None  # what a neighbour asks
    topup_e4: int  # what the grid charges
    spill_e4: int  # what the grid pays

    def place(self, price_e4: int) -> int:
        """Return where a price lies between the grid's two, permille."""
        span = max(1, self.topup_e4 - self.spill_e4)
        return min(1000, max(0, (price_e4 - self.spill_e4) * 1000 // span))

    @property
    def sell_place(self) -> int:
        """Where the selling price stands on the scale, permille."""
        return 0 if self.sell_e4 is None else self.place(self.sell_e4)

    @property
    def buy_place(self) -> int:
        """Where the buying price stands on the scale, permille."""
        return 1000 if self.buy_e4 is None else self.place(self.buy_e4)


@dataclass(frozen=True)
class Offer:
    """What "Sell my surplus" would send, and what that brings."""

    contract: str
    energy_wh: int
    price_e4: int  # the limit
    now_wh: int  # bought at once by what waits in the book
    now_e7: int
    grid_e7: int  # what the grid would pay for all of it
    placed_wh: int  # sold or offered for this interval already

    @property
    def later_wh(self) -> int:
        """What waits for a buyer."""
        return self.energy_wh - self.now_wh

    @property
    def total_e7(self) -> int:
        """Money if all of it is bought."""
        return self.now_e7 + self.later_wh * self.price_e4


@dataclass(frozen=True)
class Now:
    """Power at this moment, or the mean of the last interval that was read (``live`` False)."""

    produced_w: int
    used_w: int
    battery_w: int  # into the battery
    live: bool

    @property
    def left_w(self) -> int:
        """What flows out to the street; negative: what comes in."""
        return self.produced_w - self.used_w - self.battery_w

    @property
    def lack_w(self) -> int:
        """What comes in from the street, as a positive number."""
        return -self.left_w

    @property
    def battery_out_w(self) -> int:
        """What the battery gives, as a positive number."""
        return -self.battery_w

    @property
    def scale_w(self) -> int:
        """The longer of the two bars."""
        return max(self.produced_w, self.used_w, 100)

    @property
    def produced_permille(self) -> int:
        """Length of the upper bar."""
        return self.produced_w * 1000 // self.scale_w

    @property
    def used_permille(self) -> int:
        """Length of the lower bar."""
        return self.used_w * 1000 // self.scale_w


@dataclass(frozen=True)
class Deal:
    """A trade as its household sees it. ``far``: 0 own street, 1 next streets, 2 across town."""

    seq: int
    at_ms: int
    contract: str
    sold: bool
    energy_wh: int
    price_e4: int
    amount_e7: int
    far: int
    recalled: bool  # the market took it back


@dataclass(frozen=True)
class Money:
    """Money of today's intervals: the day's statement, and what was traded in those that are not settled yet."""

    sold_e7: int
    sold_wh: int
    spilled_e7: int
    spilled_wh: int
    given_e7: int  # by private agreement
    given_wh: int
    short_e7: int
    short_wh: int
    bought_e7: int
    bought_wh: int
    received_e7: int  # by private agreement
    received_wh: int
    topup_e7: int
    topup_wh: int
    corrected_e7: int  # contained in the others
    better_e7: int  # than with the grid alone
    free_e7: int
    held_e7: int
    arrears_e7: int

    @property
    def earned_e7(self) -> int:
        """What came in."""
        return self.sold_e7 + self.spilled_e7 + self.given_e7 - self.short_e7

    @property
    def spent_e7(self) -> int:
        """What went out."""
        return self.bought_e7 + self.topup_e7 + self.received_e7


@dataclass(frozen=True)
class Home:
    """Everything on the page."""

    account: AccountInfo
    has_roof: bool
    has_battery: bool
    now_ms: int
    money: Money
    power: Now | None
    price: PriceNow | None
    offer: Offer | None
    deals: list[Deal]
    readings: list[metering.ReadingLine]
    settled: dict[str, int]  # contract: the ledger entry that settled it


def load(page: Page, account: AccountInfo, numbers: Collection[int] = ()) -> Home:
    """Gather the page for an account. Without a running exchange there is no price and no offer.

    ``numbers``: the account numbers that the home's statement covers, by default this one.
    """
    start_ms, end_ms = day_span_ms(local(page.now_ms).date())
    equipment = households.home_of(account.index)
    readings = metering.day(account.index, start_ms=start_ms, end_ms=end_ms)
    power = _power(account.index, readings)
    price = _price(page, account)
    return Home(
        account=account,
        has_roof=equipment is not None and equipment.pv_w > 0,
        has_battery=equipment is not None and equipment.battery_wh > 0,
        now_ms=page.now_ms,
        money=_money(account.index, numbers or [account.index], page.now_ms, price),
        power=power,
        price=price,
        offer=None if price is None or page.exchange is None else _offer(page.exchange, account, price, power),
        deals=_deals(page, account),
        readings=readings,
        settled={line.contract: line.seq for line in exchange.settlement_lines(account=account.index, limit=DAY_LINES)},
    )


def _money(account: int, numbers: Collection[int], now_ms: int, price: PriceNow | None) -> Money:
    found = statement_queries.statement(numbers, period_of(DAY, local(now_ms).date()))
    sums, waiting = found.total.sums, found.waiting_trades
    balance = exchange.balance(account)
    better = sums.gain_e7
    if price is not None:  # what is not settled yet, at today's tariff
        better += waiting.sold_e7 - waiting.sold_wh * price.spill_e4
        better += waiting.bought_wh * price.topup_e4 - waiting.bought_e7
    return Money(
        sold_e7=sums.sold_e7 + waiting.sold_e7,
        sold_wh=sums.sold_wh + waiting.sold_wh,
        spilled_e7=sums.spill_e7,
        spilled_wh=sums.spill_wh,
        given_e7=sums.given_e7,
        given_wh=sums.given_wh,
        short_e7=sums.short_e7,
        short_wh=sums.short_wh,
        bought_e7=sums.bought_e7 + waiting.bought_e7,
        bought_wh=sums.bought_wh + waiting.bought_wh,
        received_e7=sums.received_e7,
        received_wh=sums.received_wh,
        topup_e7=sums.topup_e7,
        topup_wh=sums.topup_wh,
        corrected_e7=sums.corrected_e7,
        better_e7=max(0, better),
        free_e7=0 if balance is None else balance.free_e7,
        held_e7=0 if balance is None else balance.held_e7,
        arrears_e7=0 if balance is None else balance.arrears_e7,
    )


def _power(account: int, readings: list[metering.ReadingLine]) -> Now | None:
    found = metering.power_now(account)
    if found is not None:
        return Now(found.produced_w, found.used_w, found.battery_w, live=True)
    last = readings[-1] if readings else metering.latest(account)
    if last is None:
        return None
    hour = MS_AN_HOUR // interval_ms()
    if last.produced_wh is None or last.used_wh is None:
        return Now(last.export_wh * hour, last.import_wh * hour, 0, live=False)
    stored_wh = last.produced_wh - last.used_wh - last.export_wh + last.import_wh
    return Now(last.produced_wh * hour, last.used_wh * hour, stored_wh * hour, live=False)


def interval_ms() -> int:
    """Return the length of a delivery interval."""
    return settings.MARKET_INTERVAL_MIN * 60_000


def next_contract(engine: Engine, now_ms: int, lead_ms: int) -> str | None:
    """Return the first contract that still trades ``lead_ms`` from now, or None."""
    length_ms = interval_ms()
    first = (now_ms + lead_ms) // length_ms * length_ms + length_ms
    gate_ms = engine.params.lead_min * 60_000
    for start_ms in range(first + gate_ms, first + gate_ms + 4 * length_ms, length_ms):
        found = engine.contracts.get(contract_name(start_ms))
        if found is not None and found.state == "open" and not found.halted:
            return found.name
    return None


def _price(page: Page, account: AccountInfo) -> PriceNow | None:
    if page.exchange is None:
        return None
    now_ms, lead_ms = page.now_ms, round(MIN_LEAD_REAL_S * 1000 * page.speed)

    def read(engine: Engine) -> PriceNow | None:
        name = next_contract(engine, now_ms, lead_ms)
        if name is None:
            return None
        bid, ask = engine.best(account.area, name)
        contract = engine.contracts[name]
        return PriceNow(name, bid, ask, contract.topup_e4, contract.spill_e4)

    return page.exchange.read(read)


def _offer(market: Exchange, account: AccountInfo, price: PriceNow, power: Now | None) -> Offer | None:
    """Return what the surplus of the coming interval would bring if it is as sunny as now; None without any."""
    if power is None:
        return None
    index, name = account.index, price.contract

    def read(engine: Engine) -> tuple[list[tuple[int, int]], int, int, int, int]:
        contract = engine.contracts[name]
        tally = contract.tallies.get(index)
        sold = tally.sold_wh - tally.bought_wh if tally is not None else 0
        bids, _ = engine.depth(account.area, name, LEVELS)
        return [(b.price_e4, b.energy_wh) for b in bids], sold, contract.last_e4, engine.params.tick_e4, engine.at_ms

    bids, sold_wh, last_e4, tick_e4, _ = market.read(read)
    placed_wh = max(0, sold_wh) + _waiting_wh(index, name)
    surplus_wh = power.left_w * interval_ms() // MS_AN_HOUR - placed_wh
    energy_wh = surplus_wh // STEP_WH * STEP_WH
    if energy_wh < MIN_OFFER_WH:
        return Offer(name, 0, 0, 0, 0, 0, placed_wh) if placed_wh else None
    now_wh = now_e7 = 0
    limit_e4 = 0
    for bid_e4, bid_wh in bids:
        if bid_e4 <= price.spill_e4 or now_wh == energy_wh:
            break
        taken = min(bid_wh, energy_wh - now_wh)
        now_wh += taken
        now_e7 += taken * bid_e4
        limit_e4 = bid_e4
    if not limit_e4:
        limit_e4 = last_e4 if price.spill_e4 < last_e4 < price.topup_e4 else (price.spill_e4 + price.topup_e4) // 2
        limit_e4 = max(tick_e4, limit_e4 // tick_e4 * tick_e4)
    return Offer(name, energy_wh, limit_e4, now_wh, now_e7, energy_wh * price.spill_e4, placed_wh)


def _waiting_wh(account: int, contract: str) -> int:
    rows = exchange.orders(account=account, contract=contract, limit=50)
    return sum(row.remaining_wh for row in rows if row.status == "open" and row.side == "sell")


def _deals(page: Page, account: AccountInfo) -> list[Deal]:
    rows = exchange.trades(account=account.index, limit=RECENT, newest_first=True)
    parents: dict[str, str] = {}
    if page.exchange is not None:
        parents = {area.area: area.parent for area in grid.areas(page.exchange)}
    deals = []
    for row in rows:
        sold = row.seller == account.index
        other = row.buy_area if sold else row.sell_area
        if other == account.area:
            far = 0
        else:
            far = 1 if parents.get(other) == parents.get(account.area) else 2
        price_e4 = row.sell_e4 if sold else row.buy_e4
        deals.append(
            Deal(
                row.seq,
                row.at_ms,
                row.contract,
                sold,
                row.energy_wh,
                price_e4,
                price_e4 * row.energy_wh,
                far,
                row.recalled_seq > 0,
            )
        )
    return deals


@dataclass(frozen=True)
class Bar:
    """An interval in the picture of the day, in the picture's units."""

    x: int
    made: int
    used: int
    contract: str
    line: metering.ReadingLine
    settled_seq: int | None  # None: not settled yet

    @property
    def used_y(self) -> int:
        """Height of the line of use, from the top."""
        return CHART_H - self.used


CHART_W = 960
CHART_H = 160
DAY_LINES = 100  # a day of 25 hours has 100 quarters of an hour


@dataclass(frozen=True)
class DayChart:
    """The picture of the day: what the roof made and the home used, by interval."""

    bars: list[Bar]
    bar_w: int
    now_x: int
    peak_w: int


def day_chart(home: Home) -> DayChart | None:
    """Return the picture of today's readings, or None while there is none."""
    known = [line for line in home.readings if line.produced_wh is not None and line.used_wh is not None]
    if not known:
        return None
    start_ms, end_ms = day_span_ms(local(home.now_ms).date())
    span = end_ms - start_ms
    peak_wh = max(max(line.produced_wh or 0, line.used_wh or 0) for line in known) or 1
    bars = [
        Bar(
            x=(contract_start_ms(line.contract) - start_ms) * CHART_W // span,
            made=(line.produced_wh or 0) * CHART_H // peak_wh,
            used=(line.used_wh or 0) * CHART_H // peak_wh,
            contract=line.contract,
            line=line,
            settled_seq=home.settled.get(line.contract),
        )
        for line in known
    ]
    return DayChart(
        bars=bars,
        bar_w=max(1, interval_ms() * CHART_W // span - 1),
        now_x=(home.now_ms - start_ms) * CHART_W // span,
        peak_w=peak_wh * MS_AN_HOUR // interval_ms(),
    )
