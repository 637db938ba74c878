"""A household's history as it is served: money first, part by part, by distance and never by name."""

from __future__ import annotations

import re
from datetime import date

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from market.households.models import Account
from market.pages import history as pages
from market.pages.context import Page
from market.settlement.distances import RINGS
from market.settlement.history import HOUR_MS, History, Part
from market.settlement.periods import DAY, period_of, start_ms
from market.settlement.statement_queries import market_zone
from market.settlement.statements import NOTHING, total
from tests.integration.pages.conftest import Town
from tests.integration.pages.test_pages_statement import DATE, settled  # noqa: F401

MAX_QUERIES = 30  # of the whole page, session and shell included


def far(html: str) -> list[tuple[str, str, str]]:
    """Return where energy went: place, money, energy."""
    table = html.split('aria-labelledby="far-title"')[-1].split("</table>")[0]
    return re.findall(r'<th scope="row">(.+?)</th>.*?<strong>(.+?)</strong>.*?<td[^>]*>([^<]+)</td>', table)


@pytest.mark.usefixtures("settled")
def test_money_first_then_where_it_went(town: Town) -> None:
    html = town.alice.html("/history")
    # 1,000 Wh at 0.20, less 100 Wh that she did not deliver at 0.40.
    assert "<strong>€0.16</strong>" in html
    assert "For energy you paid €0.00." in html
    assert "The market saved you €0.09" in html
    assert re.search(r"Own sun, used at home</dt><dd>100 Wh", html)
    assert html.index("Your sun earned") < html.index("By hour") < html.index("Who your energy went to")
    assert "12:00–13:00" in html and "13:00–14:00" not in html
    assert far(html) == [("Neighbours in town", "€0.20", "1.00 kWh")], "the town has few homes"
    html = town.charlie.html("/history")
    assert "Nothing went out." not in html  # 50 Wh were left over
    assert far(html) == [("The grid", "€0.0040", "50 Wh")]
    assert re.search(r"Neighbours across town</th>.*?<strong>€0\.23</strong>", html, re.DOTALL)


@pytest.mark.usefixtures("settled")
def test_nobody_is_named(town: Town) -> None:
    for visitor, others in ((town.alice, (town.bob, town.charlie)), (town.charlie, (town.alice, town.bob))):
        main = visitor.html("/history").split("<main")[1].split("</main>")[0]
        for other in others:
            assert other.user.username not in main
            assert f">{other.account}<" not in main
        assert "LV" not in main and "MV" not in main


@pytest.mark.usefixtures("settled")
def test_streets_with_enough_homes_are_told_apart(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    came = [town.person(f"crowd-{area}-{n}", area=area).account for area in ("LV1.1", "LV2.1") for n in range(10)]
    told = [("Neighbours across town", "€0.20", "1.00 kWh")]
    assert far(town.alice.html("/history")) == told
    # Seen again when the day is over: who had come by then counts, who came later hides nobody in it.
    path = f"/history?period=day&date={DATE}"
    crowd = Account.objects.filter(index__in=came)
    later_ms = town.market.clock.at_ms + 48 * 3_600_000
    monkeypatch.setattr(pages, "Page", lambda request: _at(Page(request), later_ms))
    crowd.update(opened_seq=0)
    assert far(town.alice.html(path)) == told
    crowd.update(opened_seq=2**40)
    assert far(town.alice.html(path)) == [("Neighbours in town", "€0.20", "1.00 kWh")]


def _at(page: Page, now_ms: int) -> Page:
    page.now_ms = now_ms
    return page


@pytest.mark.usefixtures("settled")
def test_from_day_to_month_to_year_and_back(town: Town) -> None:
    day = town.alice.html("/history")
    assert f'href="?period=month&amp;date={DATE[:7]}-01"' in day
    assert f'href="?period=day&amp;date={DATE[:8]}05" rel="prev"' in day
    assert 'rel="next"' not in day, "there is nothing after today"
    month = town.alice.html("/history", period="month", date=DATE)
    assert f'<a href="?period=day&amp;date={DATE}">Sat, 6 Jun</a>' in month
    year = town.alice.html("/history", period="year", date=DATE)
    assert '<a href="?period=month&amp;date=2026-06-01">June 2026</a>' in year
    for html in (day, month, year):
        assert "<strong>€0.16</strong>" in html
        assert html.count("<table") == 2  # the parts, and where it went; nothing came in
        assert 'class="day-chart"' in html
        assert "/statement?period=" in html
    assert f'href="?period=day&amp;date={DATE}"' in month, "the day that is today, not the first of the month"
    before = town.alice.html("/history", period="day", date="2026-06-05")
    assert "Nothing is settled here yet." in before
    assert f'href="?period=day&amp;date={DATE}" rel="next"' in before


@pytest.mark.usefixtures("settled")
def test_what_makes_no_sense_is_today(town: Town) -> None:
    today = re.sub(r"(csrf|value=)[^>]*>", "", town.alice.html("/history").split("<main")[1].split("</main>")[0])
    for params in ({"period": "week"}, {"date": "tomorrow"}, {"date": "9999-99-99"}, {"date": "1066-10-14"}):
        html = town.alice.html("/history", **params)
        assert re.sub(r"(csrf|value=)[^>]*>", "", html.split("<main")[1].split("</main>")[0]) == today


@pytest.mark.usefixtures("settled")
def test_a_year_asks_as_often_as_a_day(town: Town) -> None:
    counts = set()
    for kind in ("day", "month", "year"):
        with CaptureQueriesContext(connection) as captured:
            town.alice.html("/history", period=kind, date=DATE)
        counts.add(len(captured))
    assert len(counts) == 1
    assert counts.pop() <= MAX_QUERIES


def test_every_group_has_its_words() -> None:
    groups = {tuple(ring for ring in RINGS if bits >> ring & 1) for bits in range(1, 2 ** len(RINGS))}
    assert set(pages.WHERE) == groups


@pytest.mark.parametrize(
    ("day", "labels"),
    [
        (date(2026, 6, 6), ["06:00", "12:00", "18:00"]),
        (date(2026, 3, 29), ["06:00", "12:00", "18:00"]),  # 23 hours
        (date(2026, 10, 25), ["05:00", "11:00", "17:00"]),  # 25: the quarters lie an hour earlier by the clock
    ],
)
def test_the_picture_s_hours_are_the_clock_s(day: date, labels: list[str]) -> None:
    sums = NOTHING._replace(intervals=1, sold_e7=1)
    period = period_of(DAY, day)
    first_ms, end_ms = start_ms(period.first, market_zone()), start_ms(period.end, market_zone())
    parts = [Part(day, at_ms, sums) for at_ms in range(first_ms, end_ms, HOUR_MS)]
    chart = pages.chart_of(History(period, parts, total({day: sums}, ()), {}, {}))
    assert chart is not None and chart.labels == labels


def test_who_may_not(town: Town) -> None:
    assert town.rita.get("/history").status_code == 403
    assert town.nobody.get("/history").status_code == 302
    assert town.person("newcomer-of-history").get("/history")["Location"] == "/home"


def test_without_an_exchange_it_still_reads(closed: Town) -> None:
    assert closed.alice.get("/history").status_code == 200
