"""What the trade page shows when it is served; from then on the streams keep it up to date."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from market.engine.contracts import SETTLED, contract_start_ms
from market.engine.engine import Engine, Level
from market.exchange import queries as exchange
from market.exchange.openorders import open_ids
from market.exchange.units import at_text, money_text, price_text
from market.households.queries import AccountInfo
from market.pages import positions
from market.pages.context import Page, local
from market.pages.homeview import next_contract
from market.pages.positions import Standings

LEVELS = 25  # a side, as the stream has them: the ladder shows fewer, the depth chart all
ROWS = 8  # prices of the ladder, a side
MAX_CONTRACTS = 200  # in the strip; 36 hours of quarter hours are 144
LATER = 24  # intervals that need no list to be found: six hours
SHADES = 8  # of the strip; the lightest is 1, 0 is no price at all
ORDERS = 20
TAPE = 20
OPEN_ORDERS = 1_000  # in the list; a block alone has up to 96 legs
WAITING = ("open", "hibernated")  # states of orders that may still trade
DETAIL = ("kind", "last", "display_wh", "group", "leg", "legs")  # of orders that are more than a limit
MIN_LEAD_REAL_S = 30  # an interval whose gate closes sooner is no place to begin


@dataclass(frozen=True)
class Line:
    """A contract in the strip; prices are all-in where this home is, None where nobody offers."""

    name: str
    bid_e4: int | None
    ask_e4: int | None
    last_e4: int | None
    volume_wh: int
    state: str  # open, halted, closed

    @property
    def price_e4(self) -> int | None:
        """What the interval costs about: between bid and ask, or the one there is, or the last trade's price."""
        if self.bid_e4 is not None and self.ask_e4 is not None:
            return (self.bid_e4 + self.ask_e4) // 2
        return self.ask_e4 or self.bid_e4 or self.last_e4

    def data(self) -> dict[str, Any]:
        """Return the line as the ticker channel has it."""
        return {
            "bid": None if self.bid_e4 is None else price_text(self.bid_e4),
            "ask": None if self.ask_e4 is None else price_text(self.ask_e4),
            "last": None if self.last_e4 is None else price_text(self.last_e4),
            "volume_wh": self.volume_wh,
            "state": self.state,
        }


@dataclass(frozen=True)
class Quarter:
    """A contract in the strip, where it stands there and how dark it is (frontend/src/trade/heat.ts has the same rules)."""

    line: Line
    shade: int  # 1 … SHADES from cheap to dear, 0 without a price


@dataclass(frozen=True)
class Hour:
    """A column of the strip: the contracts that start within an hour of the market's clock."""

    start_ms: int
    quarters: list[Quarter]
    begins_day: bool
    missing: int  # places at its top that are over already

    @property
    def before(self) -> range:
        """The places that are over, for a template to count."""
        return range(self.missing)


@dataclass(frozen=True)
class Step:
    """A price in the ladder. ``mine``: an order of this account stands there."""

    price_e4: int
    energy_wh: int
    fee_e4: int  # grid fees within the price
    mine: bool


@dataclass(frozen=True)
class Trade:
    """Everything on the page. ``contract`` is "" while nothing is open."""

    contract: str
    state: str
    gate_ms: int
    lead_min: int  # how long before its start any contract's gate closes
    topup_e4: int
    spill_e4: int
    tick_e4: int
    max_price_e4: int
    max_order_wh: int
    free_e7: int
    strip: list[Line]
    later: list[str]
    asks: list[Step]  # dearest first, as the ladder stands
    bids: list[Step]
    orders: list[exchange.OrderView]
    tape: list[exchange.TradeView]
    position: exchange.PositionView | None
    positions: Standings | None

    @property
    def minutes(self) -> list[str]:
        """The strip's rows."""
        return [f"{minute:02}" for minute in range(0, 60, settings.MARKET_INTERVAL_MIN)]

    @property
    def ask_rows(self) -> list[Step | None]:
        """The ladder's upper half, best price last; empty places come first, so that the middle stays where it is."""
        shown = self.asks[-ROWS:]
        return [*[None] * (ROWS - len(shown)), *shown]

    @property
    def bid_rows(self) -> list[Step | None]:
        """The lower half, best price first."""
        shown = self.bids[:ROWS]
        return [*shown, *[None] * (ROWS - len(shown))]

    @property
    def hours(self) -> list[Hour]:
        """The strip, hour by hour."""
        shades = shades_of(self.strip)
        found: list[Hour] = []
        for line in self.strip:
            start = local(contract_start_ms(line.name)).replace(minute=0)
            start_ms = round(start.timestamp() * 1000)
            if not found or found[-1].start_ms != start_ms:
                begins = not found or local(found[-1].start_ms).date() != start.date()
                place = local(contract_start_ms(line.name)).minute // settings.MARKET_INTERVAL_MIN
                found.append(Hour(start_ms, [], begins, place))
            found[-1].quarters.append(Quarter(line, shades[line.name]))
        return found

    def data(self, page: Page) -> dict[str, Any]:
        """Return what the scripts start from, in the forms of REST and the streams."""
        return {
            "contract": self.contract,
            "state": self.state,
            "gate_ms": self.gate_ms,
            "lead_min": self.lead_min,
            "topup": price_text(self.topup_e4),
            "spill": price_text(self.spill_e4),
            "tick_e4": self.tick_e4,
            "max_price_e4": self.max_price_e4,
            "max_order_wh": self.max_order_wh,
            "account": page.account is not None,
            "ticker": {line.name: line.data() for line in self.strip},
            "strip": [line.name for line in self.strip],
            "held": "0" if self.positions is None else money_text(self.positions.held_e7),
            "halt": "" if self.positions is None else self.positions.halt,
            "net": {} if self.positions is None else self.positions.data(),
            "book": {
                "bids": [[price_text(s.price_e4), s.energy_wh, price_text(s.fee_e4)] for s in self.bids],
                "asks": [[price_text(s.price_e4), s.energy_wh, price_text(s.fee_e4)] for s in reversed(self.asks)],
            },
            "orders": [_order_data(order) for order in self.orders],
            "trades": [_trade_data(trade) for trade in reversed(self.tape)],
            "position": None
            if self.position is None
            else {"bought_wh": self.position.bought_wh, "sold_wh": self.position.sold_wh},
        }


@dataclass(frozen=True)
class _Live:
    """What the engine knows, read in one go."""

    name: str
    state: str
    topup_e4: int
    spill_e4: int
    lines: list[Line]
    bids: list[Level]
    asks: list[Level]
    tick_e4: int
    max_price_e4: int
    max_order_wh: int
    gate_ms: int
    lead_min: int
    open_ids: list[int]  # the reader's open orders, newest first


def load(page: Page, account: AccountInfo | None, wanted: str) -> Trade | None:
    """Gather the page for a contract ("" = the next one); None when the market does not run or knows no such contract."""
    if page.exchange is None:
        return None
    area, index = ("", -1) if account is None else (account.area, account.index)
    now_ms, lead_ms = page.now_ms, round(MIN_LEAD_REAL_S * 1000 * page.speed)
    past = _past(wanted)
    live = page.exchange.read(lambda engine: _read(engine, wanted, area, index, now_ms, lead_ms, past))
    if live is None:
        return None
    orders: list[exchange.OrderView] = []
    position = balance = None
    if account is not None:
        orders = _orders(account.index, live.open_ids)
        balance = exchange.balance(account.index)
        found = exchange.positions(account.index, contracts=[live.name]) if live.name else []
        position = found[0] if found else None
    # A waiting block is in no book.
    resting = [o for o in orders if o.status == "open" and o.contract == live.name and o.kind != "block"]
    own = {(o.side, o.price_e4) for o in resting}
    return Trade(
        contract=live.name,
        state=live.state,
        gate_ms=live.gate_ms,
        lead_min=live.lead_min,
        topup_e4=live.topup_e4,
        spill_e4=live.spill_e4,
        tick_e4=live.tick_e4,
        max_price_e4=live.max_price_e4,
        max_order_wh=live.max_order_wh,
        free_e7=0 if balance is None else balance.free_e7,
        strip=live.lines,
        later=[line.name for line in live.lines][LATER:],
        asks=[_step(level, ("sell", level.price_e4) in own) for level in reversed(live.asks)],
        bids=[_step(level, ("buy", level.price_e4) in own) for level in live.bids],
        orders=orders,
        tape=exchange.trades(contract=live.name, limit=TAPE, newest_first=True) if live.name else [],
        position=position,
        positions=None if account is None else positions.load(page, account),
    )


def shades_of(lines: Iterable[Line]) -> dict[str, int]:
    """Return how dark each contract is in the strip, from its price among all of them: 1 … ``SHADES``, 0 without one."""
    lines = list(lines)
    prices = [line.price_e4 for line in lines if line.price_e4 is not None]
    low, span = (min(prices), max(prices) - min(prices)) if prices else (0, 0)

    def shade(price_e4: int | None) -> int:
        if price_e4 is None:
            return 0
        return 1 + (price_e4 - low) * (SHADES - 1) // span if span else 1

    return {line.name: shade(line.price_e4) for line in lines}


def _step(level: Level, mine: bool) -> Step:
    return Step(level.price_e4, level.energy_wh, level.fee_wh_e4 // level.energy_wh, mine)


def _orders(account: int, opened: list[int]) -> list[exchange.OrderView]:
    """Return the account's open orders, then its latest finished ones."""
    waiting = [row for row in exchange.orders_by_id(account, opened) if row.status in WAITING]
    room = max(0, ORDERS - len(waiting))
    if not room:
        return waiting
    # Of so many no more are open than are listed above, so what is left fills the room.
    latest = exchange.orders(account=account, limit=ORDERS)
    return waiting + [row for row in latest if row.status not in WAITING][:room]


def _line(engine: Engine, area: str, name: str) -> Line:
    contract = engine.contracts[name]
    bid, ask = engine.best(area, name) if area else (None, None)
    state = "closed" if contract.state != "open" else "halted" if contract.halted else "open"
    return Line(name, bid, ask, contract.last_e4 or None, contract.volume_wh, state)


@dataclass(frozen=True)
class _Past:
    """A contract as the database has it: the engine forgets those that are settled."""

    line: Line
    topup_e4: int
    spill_e4: int


def _past(name: str) -> _Past | None:
    row = exchange.contract(name) if name else None
    if row is None or row.state != SETTLED:
        return None
    last_e4, volume_wh = exchange.traded([name]).get(name, (None, 0))
    return _Past(Line(name, None, None, last_e4, volume_wh, "closed"), row.topup_e4, row.spill_e4)


def _read(
    engine: Engine, wanted: str, area: str, account: int, now_ms: int, lead_ms: int, past: _Past | None = None
) -> _Live | None:
    tradable = sorted(
        name
        for name, contract in engine.contracts.items()
        if contract.state == "open" and contract_start_ms(name) > now_ms
    )[:MAX_CONTRACTS]
    name = wanted or next_contract(engine, now_ms, lead_ms) or (tradable[0] if tradable else "")
    contract = engine.contracts.get(name)
    if name and contract is None and past is None:
        return None
    params = engine.params
    shown = tradable
    if name and name not in shown:
        shown = sorted([*shown, name])
    bids, asks = engine.depth(area, name, LEVELS) if contract is not None and area else ([], [])
    state, prices = "", contract or past
    if contract is not None:
        state = _line(engine, "", name).state
    elif past is not None:
        state = past.line.state
    return _Live(
        name=name,
        state=state,
        topup_e4=0 if prices is None else prices.topup_e4,
        spill_e4=0 if prices is None else prices.spill_e4,
        lines=[
            past.line if past is not None and one not in engine.contracts else _line(engine, area, one) for one in shown
        ],
        bids=bids,
        asks=asks,
        tick_e4=params.tick_e4,
        max_price_e4=params.max_price_e4,
        max_order_wh=params.max_order_wh,
        gate_ms=contract_start_ms(name) - params.lead_min * 60_000 if name else 0,
        lead_min=params.lead_min,
        open_ids=open_ids(engine, account, limit=OPEN_ORDERS) if account >= 0 else [],
    )


def _order_data(order: exchange.OrderView) -> dict[str, Any]:
    return {
        "id": order.id,
        "contract": order.contract,
        "side": order.side,
        "price": price_text(order.price_e4),
        "energy_wh": order.energy_wh,
        "filled_wh": order.filled_wh,
        "remaining_wh": order.remaining_wh,
        "status": order.status,
        "reason": order.reason or None,
        "time_in_force": order.time_in_force,
        "expires_at": at_text(order.expires_at_ms) if order.expires_at_ms else None,
        **{name: value for name in DETAIL if (value := getattr(order, name))},
    }


def _trade_data(trade: exchange.TradeView) -> dict[str, Any]:
    buy, sell = price_text(trade.buy_e4), price_text(trade.sell_e4)
    return {
        "seq": trade.seq,
        "at": at_text(trade.at_ms),
        "contract": trade.contract,
        "price": sell if trade.taker_side == "buy" else buy,
        "energy_wh": trade.energy_wh,
        "buy_price": buy,
        "sell_price": sell,
        **({"recalled": True} if trade.recalled_seq else {}),
    }
