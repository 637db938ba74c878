"""What the household's home page shows: money first, then energy, then the one thing to do. Integers throughout."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange import queries as exchange
from market.grid import queries as grid
from market.households import queries as households
from market.households.queries import AccountInfo
from market.metering import queries as metering
from market.pages import homemarket
from market.pages.context import Page, day_span_ms, local
from market.pages.homemarket import PriceNow, Trading, interval_ms
from market.pages.houseflow import MS_AN_HOUR, House, balance
from market.pages.sales import AGREED, Sale, newest_paid, shown, story
from market.settlement import statement_queries
from market.settlement.periods import DAY, period_of

RECENT = 8  # trades in the short list
LOOKED_AT = 200  # trades the story of the latest intervals is made of


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
    coming_e7: int  # contained in what was sold: paid when it is delivered
    corrected_e7: int  # contained in the others
    better_e7: int  # than with the grid alone; negative: worse
    ahead: bool  # whether trades that are not delivered yet are contained in it; the statement has them later
    free_e7: int
    held_e7: int
    security_e7: int  # left in clearing until what was sold is delivered
    arrears_e7: int

    @property
    def earned_e7(self) -> int:
        """What came in."""
        return self.sold_e7 + self.spilled_e7 + self.given_e7 - self.short_e7

    @property
    def street_e7(self) -> int:
        """What the neighbours brought, less what they cost."""
        return self.sold_e7 + self.given_e7 - self.bought_e7 - self.received_e7

    @property
    def grid_e7(self) -> int:
        """What the grid brought, less what it cost."""
        return self.spilled_e7 - self.topup_e7 - self.short_e7

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
    power: House | None
    trading: Trading | None  # None while the market does not run
    deals: list[Deal]
    sales: list[Sale]
    steps: list[str]  # of the first-run guide that are still to be done
    readings: list[metering.ReadingLine]
    settled: dict[str, int]  # contract: the ledger entry that settled it

    @property
    def paid(self) -> Sale | None:
        """The latest sale whose money has arrived."""
        return newest_paid(self.sales)

    @property
    def shown_sales(self) -> list[Sale]:
        """Those that have a line of their own."""
        return shown(self.sales)

    @property
    def more_sales(self) -> int:
        """How many more intervals are agreed, later than those shown."""
        return sum(sale.state == AGREED for sale in self.sales) - sum(s.state == AGREED for s in self.shown_sales)


@dataclass(frozen=True)
class HomeNow:
    """What the picture of the house shows."""

    has_battery: bool
    money: Money
    power: House | None


def load_now(account: AccountInfo, numbers: Collection[int], now_ms: int) -> HomeNow:
    """Gather what an account's home makes and uses at this moment, and what that brought today (see ``load``)."""
    start_ms, end_ms = day_span_ms(local(now_ms).date())
    equipment = households.home_of(account.index)
    return HomeNow(
        has_battery=equipment is not None and equipment.battery_wh > 0,
        money=_money(account.index, numbers, now_ms, None),
        power=_power(account.index, metering.day(account.index, start_ms=start_ms, end_ms=end_ms), now_ms),
    )


def load(page: Page, account: AccountInfo, numbers: Collection[int] = (), wanted_ms: int = 0) -> Home:
    """Gather the page for an account. Without a running exchange there are no prices and nothing to do.

    ``numbers``: the account numbers that the home's statement covers, by default this one. ``wanted_ms``: the start of the
    hour that was chosen in the price strip, 0 for none.
    """
    now_ms = page.now_ms
    start_ms, end_ms = day_span_ms(local(now_ms).date())
    equipment = households.home_of(account.index)
    readings = metering.day(account.index, start_ms=start_ms, end_ms=end_ms)
    power = _power(account.index, readings, now_ms)
    trading = None
    if page.exchange is not None:
        trading = homemarket.load(
            page.exchange, account, now_ms=now_ms, speed=page.speed, house=power, wanted_ms=wanted_ms
        )
    trades = exchange.trades(account=account.index, limit=LOOKED_AT, newest_first=True)
    lines = {line.contract: line for line in exchange.settlement_lines(account=account.index, limit=DAY_LINES)}
    sales = story(
        trades,
        lines,
        account=account.index,
        start_of={trade.contract: contract_start_ms(trade.contract) for trade in trades},
        interval_ms=interval_ms(),
        now_ms=now_ms,
    )
    money = _money(account.index, numbers or [account.index], now_ms, None if trading is None else trading.price)
    has_roof = equipment is not None and equipment.pv_w > 0
    return Home(
        account=account,
        has_roof=has_roof,
        has_battery=equipment is not None and equipment.battery_wh > 0,
        now_ms=now_ms,
        money=money,
        power=power,
        trading=trading,
        deals=_deals(page, account, trades[:RECENT]),
        sales=sales,
        steps=_steps(account.index, power, sales, penniless=not has_roof and money.free_e7 <= 0),
        readings=readings,
        settled={contract: line.seq for contract, line in lines.items()},
    )


def _steps(account: int, power: House | None, sales: list[Sale], *, penniless: bool) -> list[str]:
    """Return what a newcomer has still to see, in its order; nothing for who has seen money arrive.

    ``penniless``: the home buys and has nothing to buy with, so that its button is off until money is paid in.
    """
    if newest_paid(sales) is not None:
        return []
    ordered = bool(sales) or bool(exchange.orders(account=account, limit=1))
    before = [*(["pay"] if penniless and not ordered else []), *(["meter"] if power is None else [])]
    return [*before, *([] if ordered else ["trade"]), "money"]


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
        coming_e7=waiting.sold_e7,
        corrected_e7=sums.corrected_e7,
        better_e7=better,
        ahead=price is not None and bool(waiting.sold_wh or waiting.bought_wh),
        free_e7=0 if balance is None else balance.free_e7,
        held_e7=0 if balance is None else balance.held_e7,
        security_e7=exchange.security(account),
        arrears_e7=0 if balance is None else balance.arrears_e7,
    )


def _power(account: int, readings: list[metering.ReadingLine], now_ms: int) -> House | None:
    """Return the flows at this moment; where nobody measures them, the means of the last interval that was read."""
    length_ms = interval_ms()
    found = metering.power_now(account)
    if found is not None:
        running = contract_name(now_ms // length_ms * length_ms)
        return _house(account, running, (found.produced_w, found.used_w, found.battery_w), live=True)
    last = readings[-1] if readings else metering.latest(account)
    if last is None:
        return None
    hour = MS_AN_HOUR // length_ms
    if last.produced_wh is None or last.used_wh is None:
        powers = (last.export_wh * hour, last.import_wh * hour, 0)
    else:
        stored_wh = last.produced_wh - last.used_wh - last.export_wh + last.import_wh
        powers = (last.produced_wh * hour, last.used_wh * hour, stored_wh * hour)
    return _house(account, last.contract, powers, live=False)


def _house(account: int, contract: str, powers: tuple[int, int, int], *, live: bool) -> House:
    produced_w, used_w, battery_w = powers
    traded = exchange.positions(account, contracts=[contract])
    return balance(
        produced_w=produced_w,
        used_w=used_w,
        battery_w=battery_w,
        position_wh=traded[0].position_wh if traded else 0,
        interval_ms=interval_ms(),
        live=live,
    )


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


def _deals(page: Page, account: AccountInfo, rows: list[exchange.TradeView]) -> list[Deal]:
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
    labels: list[str]  # the clock at a quarter, half and three quarters of the day; other hours where clocks change


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
        labels=[f"{local(start_ms + span * part // 4):%H:%M}" for part in (1, 2, 3)],
    )
