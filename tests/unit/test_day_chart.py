"""The picture of a day's prices: everything stands at its time, on days of 23 and 25 hours and in other zones, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest

from market.pages.daychart import EDGE, FOOT, HEIGHT, WIDTH, Chart, chart_of
from market.surveillance.concentration import Priced

BERLIN = ZoneInfo("Europe/Berlin")


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def chart(day: datetime, starts: list[datetime], reader: tzinfo = BERLIN) -> Chart:
    prices = [Priced("", 1_000 + 100 * n, 1_200, 2_000, 500 * (n + 1), 1) for n, _ in enumerate(starts)]
    following = (day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=BERLIN)
    span = (ms(day), ms(following))
    return chart_of(
        prices, [ms(one) for one in starts], 900_000, span, lambda at: datetime.fromtimestamp(at / 1000, reader)
    )


def clocks(found: Chart, reader: tzinfo = BERLIN) -> list[str]:
    return [f"{datetime.fromtimestamp(hour.at_ms / 1000, reader):%H:%M}" for hour in found.hours]


@pytest.mark.parametrize(
    ("day", "first", "gap"), [("2026-06-06", 3, 3), ("2026-03-29", 3, 2), ("2026-10-25", 3, 4)], ids=["24", "23", "25"]
)
def test_hours_are_those_of_the_clock(day: str, first: int, gap: int) -> None:
    begin = datetime.fromisoformat(day).replace(tzinfo=BERLIN)
    found = chart(begin, [])
    assert clocks(found) == [f"{hour % 24:02d}:00" for hour in range(0, 25, 3)]
    hour = (found.hours[2].x - found.hours[1].x) / 3  # after the night in which clocks change
    assert found.hours[1].x - found.hours[0].x == pytest.approx(gap * hour, abs=0.3)
    assert (found.hours[0].x, found.hours[-1].x) == (EDGE, WIDTH - EDGE)


def test_a_reader_elsewhere_reads_own_hours() -> None:
    kathmandu = ZoneInfo("Asia/Kathmandu")  # 3 h 45 min ahead of Berlin's summer
    found = chart(datetime(2026, 6, 6, tzinfo=BERLIN), [], kathmandu)
    assert clocks(found, kathmandu) == ["06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "00:00", "03:00"]


def test_contracts_stand_at_their_time_and_inside() -> None:
    day = datetime(2026, 6, 6, tzinfo=BERLIN)
    last = datetime(2026, 6, 6, 21, 45, tzinfo=UTC)
    found = chart(day, [day, day + timedelta(hours=4), day + timedelta(hours=12), last])  # far apart
    noon = next(hour for hour in found.hours if "12:00" in f"{datetime.fromtimestamp(hour.at_ms / 1000, BERLIN)}")
    quarter = (WIDTH - 2 * EDGE) / 96
    assert found.sticks[2].x == pytest.approx(noon.x + quarter / 2, abs=0.2)
    for stick in found.sticks:
        assert stick.bar_x >= EDGE and stick.bar_x + stick.width <= WIDTH - EDGE
        assert 0 < stick.top <= stick.mean and stick.top < stick.bottom <= HEIGHT
        assert stick.bar_top > HEIGHT and stick.bar_top + stick.bar_height == HEIGHT + FOOT
    assert [mark.price_e4 for mark in found.marks] == [1_000, 1_500, 2_000]
    assert found.marks[0].y == found.sticks[0].bottom, "the lowest price is lowest"
    assert not chart(day, []).marks and not chart(day, []).sticks
