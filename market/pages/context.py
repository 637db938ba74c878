"""What every page knows: market time, who looks, where they may go, the words of scripts."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import get_language, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from market.disputes import queries as disputes
from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import NotRunning
from market.grid import queries as grid
from market.households import queries as households
from market.households.queries import AccountInfo
from market.notices import queries as notices
from market.pages.messages import catalogue
from market.pages.zones import market_zone, shown_zone
from market.settlement.periods import start_ms

CLOCKS_AGREE = timedelta(minutes=1)  # what is shown has no seconds
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "CNY": "¥", "JPY": "¥", "CHF": "CHF "}

# Role -> pages in the order of the navigation: (name of the URL, label). A page that is not installed is left out.
NAVIGATION: dict[str, tuple[tuple[str, Any], ...]] = {
    "household": (
        ("home", _("Home")), ("trade", _("Trade")), ("statement", _("Statement")), ("money", pgettext_lazy("wallet", "Money")),
        ("account", _("Account")),
    ),
    "operator": (("operator", _("Grid")), ("account", _("Account"))),
    "regulator": (("regulator", _("Ledger")), ("account", _("Account"))),
    "staff": (("staff", _("Market")), ("operator", _("Grid")), ("regulator", _("Ledger")), ("account", _("Account"))),
}  # fmt: skip
BELONGS = {"/autopilot": "home", "/history": "statement", "/disputes": "statement"}  # pages below another's tab
FRONT_PAGES = {"household": "home", "operator": "operator", "regulator": "regulator", "staff": "staff"}


class Link(NamedTuple):
    """An entry of the navigation."""

    url: str
    label: str
    current: bool
    count: int = 0  # what waits there


def local(at_ms: int) -> datetime:
    """Return market-local time of an instant: what days and rules go by. ``shown`` is what people read."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(market_zone())


def shown(at_ms: int) -> datetime:
    """Return an instant in the time zone that its reader sees times in."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(shown_zone())


def day_span_ms(day: date) -> tuple[int, int]:
    """Return the start and end of a market-local day, ms since epoch UTC; 23 or 25 hours apart when clocks change."""
    zone = market_zone()
    return start_ms(day, zone), start_ms(day + timedelta(days=1), zone)


def running_exchange() -> Exchange | None:
    """Return the exchange if it trades, else None: then pages say so instead of failing."""
    try:
        exchange = gateway.current()
    except NotRunning:
        return None
    return exchange if exchange.status()["state"] == "running" else None


def market_now() -> datetime:
    """Return market time, the machine's while nothing runs."""
    exchange = running_exchange()
    return datetime.now(UTC) if exchange is None else datetime.fromtimestamp(exchange.now_ms() / 1000, UTC)


def clocks_differ() -> bool:
    """Return whether market time is another than real time: only the demo's market has a clock of its own."""
    return settings.DEMO and abs(market_now() - datetime.now(UTC)) > CLOCKS_AGREE


def currency_symbol() -> str:
    """Return the sign before an amount."""
    return SYMBOLS.get(settings.MARKET_CURRENCY, f"{settings.MARKET_CURRENCY} ")


class Page:
    """The shell's view of one request; each part is looked up once, and only when a template asks."""

    def __init__(self, request: HttpRequest):
        self._request = request
        user = getattr(request, "user", None)
        self._user = user if user is not None and user.is_authenticated else None

    @cached_property
    def exchange(self) -> Exchange | None:
        """The running exchange, or None."""
        return running_exchange()

    @cached_property
    def status(self) -> dict[str, Any]:
        """Sizes of ledger and blocks; zeros while nothing runs."""
        return {"height": 0, "sealed": 0} if self.exchange is None else self.exchange.status()

    @property
    def running(self) -> bool:
        """Whether the market trades."""
        return self.exchange is not None

    @cached_property
    def now_ms(self) -> int:
        """Market time; the machine's while nothing runs."""
        return round(datetime.now(UTC).timestamp() * 1000) if self.exchange is None else self.exchange.now_ms()

    @property
    def demo(self) -> bool:
        """Whether this is the demo: play money, a clock of its own."""
        return settings.DEMO

    @property
    def speed(self) -> float:
        """Market seconds a real second."""
        return 1.0 if self.exchange is None else self.exchange.speed

    @cached_property
    def account(self) -> AccountInfo | None:
        """The account of the signed-in person, or None."""
        return None if self._user is None else households.account_of(self._user)

    @cached_property
    def answered(self) -> bool:
        """Whether an objection of this person has an answer that waits for them; not on the page that shows it."""
        if self.role != "household" or self.account is None or self._request.path == reverse("disputes"):
            return False
        return bool(disputes.answered(self.account.index))

    @cached_property
    def open_alerts(self) -> int:
        """How many alerts nobody has acknowledged; for those who run the grid."""
        return grid.open_alerts() if self.role in ("operator", "staff") else 0

    @property
    def has_bell(self) -> bool:
        """Whether this person gets notifications."""
        return self.role == "household" and self.account is not None

    @cached_property
    def unread(self) -> int:
        """How many of them are new, as of the last seconds."""
        return 0 if self._user is None else notices.unread(self._user)

    @property
    def role(self) -> str:
        """The person's role, "" for anybody."""
        return "" if self._user is None else self._user.role

    @property
    def colours(self) -> str:
        """How rising and falling prices look, "" for without colour."""
        return "" if self._user is None else self._user.colours

    @property
    def zone(self) -> str:
        """The place whose time pages show where it is not the market's, "" where it is: "Asia/Shanghai"."""
        return "" if shown_zone().key == settings.MARKET_TIME_ZONE else shown_zone().key

    @cached_property
    def navigation(self) -> list[Link]:
        """Where this person may go."""
        links = []
        for name, label in NAVIGATION.get(self.role, ()):
            try:
                url = reverse(name)
            except NoReverseMatch:
                continue
            path = self._request.path
            here = path == url or path.startswith(url + "/") or BELONGS.get(path) == name
            count = self.open_alerts if name == "operator" else 0
            links.append(Link(url, label, here, count))
        return links

    @cached_property
    def sun(self) -> tuple[float, float, str]:
        """Where the clock's sun stands: x, y and class; the same arc as frontend/src/clock.ts draws."""
        time = local(self.now_ms)
        part = (time.hour * 60 + time.minute - 360) / 720
        angle = math.pi * (1 - min(1.0, max(0.0, part)))
        up = 0 <= part <= 1
        return round(34 + 28 * math.cos(angle), 1), round(32 - 28 * math.sin(angle), 1), "sun" if up else "night"

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What scripts need to know (frontend/src/meta.ts)."""
        account = self.account
        return {
            "running": self.running,
            "now_ms": self.now_ms,
            "speed": self.speed,
            "demo": self.demo,
            "language": get_language() or settings.LANGUAGE_CODE,
            "time_zone": shown_zone().key,
            "market_time_zone": settings.MARKET_TIME_ZONE,
            "currency": settings.MARKET_CURRENCY,
            "symbol": currency_symbol(),
            "role": self.role,
            "area": "" if account is None else account.area,
            "account": None if account is None else account.index,
            "interval_min": settings.MARKET_INTERVAL_MIN,
            "ledger_size": self.status["sealed"],
            "height": self.status["height"],
        }

    @property
    def words(self) -> dict[str, str]:
        """Translations for scripts; empty in English."""
        return catalogue()


def page(request: HttpRequest) -> dict[str, Any]:
    """Context processor: ``page`` in every template."""
    return {"page": Page(request)}
