"""The public market page: prices, volumes, local sun and the ledger's health, for anybody, signed in or not.

What everybody sees alike is rendered once a board and language and kept: a crowd costs what its frames cost.
"""

from __future__ import annotations

from typing import NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import path
from django.utils.cache import add_never_cache_headers
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.views.decorators.http import require_safe

from market.engine.contracts import contract_start_ms
from market.overview import board as overview
from market.overview.board import Board
from market.pages.context import running_exchange

WIDTH = 960  # of the charts, in their own units
HEIGHT = 120
HOURS = 4  # labels along the time axis


class Bar(NamedTuple):
    """An interval's traded energy as a bar; ``near`` is its lower part, within one street."""

    x: int
    width: int
    height: int
    near: int


class Chart(NamedTuple):
    """The last 24 hours: ``line`` is an SVG path of mean prices between ``low_e4`` and ``high_e4``."""

    bars: tuple[Bar, ...]
    line: str
    low_e4: int
    high_e4: int
    peak_wh: int
    hours: tuple[int, ...]


def chart_of(board: Board) -> Chart | None:
    """Return the chart of a board; None when nothing was traded in those hours."""
    priced = [one.price_e4 for one in board.behind if one.price_e4 is not None]
    if not priced:
        return None
    low, high = min(priced), max(priced)
    if high - low < 100:  # a cent: a flat line is drawn in the middle, not blown up to a mountain
        low, high = max(0, (low + high) // 2 - 50), (low + high) // 2 + 50
    peak = max(one.volume_wh for one in board.behind)
    count = len(board.behind)
    bars, parts, pen = [], [], "M"
    for n, one in enumerate(board.behind):
        x, after = n * WIDTH // count, (n + 1) * WIDTH // count
        bars.append(Bar(x, max(1, after - x - 1), one.volume_wh * HEIGHT // peak, one.near_wh * HEIGHT // peak))
        if one.price_e4 is None:
            pen = "M"
            continue
        y = HEIGHT - (one.price_e4 - low) * HEIGHT // (high - low)
        parts.append(f"{pen}{x} {y}H{after}")
        pen = "L"
    starts = [contract_start_ms(board.behind[n * count // HOURS].contract) for n in range(HOURS)]
    return Chart(tuple(bars), "".join(parts), low, high, peak, tuple(starts))


_rendered: dict[str, tuple[Board, SafeString]] = {}  # by language; there are two


@require_safe
def market(request: HttpRequest) -> HttpResponse:
    """Show the market to anybody."""
    exchange = running_exchange()
    content = None if exchange is None else _content(overview.board(exchange))
    response = render(request, "public/market.html", {"content": content})
    if request.user.is_authenticated:  # around what is for everybody stands what is theirs
        add_never_cache_headers(response)
    return response


def _content(board: Board) -> SafeString:
    language = get_language() or ""
    kept = _rendered.get(language)
    if kept is not None and kept[0] is board:
        return kept[1]
    text = render_to_string("public/market_board.html", {"board": board, "chart": chart_of(board)})
    html: SafeString = mark_safe(text)  # noqa: S308  # our own template's output, escaped where it was made
    _rendered[language] = board, html
    return html


urlpatterns = [path("market", market, name="market")]
