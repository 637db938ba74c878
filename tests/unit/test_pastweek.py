"""A week of a home's own readings as a ring: the newest reading in each place, the usual where there is none."""

from __future__ import annotations

import pytest

from market.agents.pastweek import DAY_MS, MAX_WH, WEEK_DAYS, Ring, Week, place, places

QUARTER_MS = 15 * 60_000
A_DAY = 96
NOW_MS = 20_000 * DAY_MS + 40 * QUARTER_MS + 1_000


def week_of(readings: dict[int, tuple[int, int]], now_ms: int, interval_ms: int, fewest: int) -> Week | None:
    ring = Ring(now_ms, interval_ms)
    ring.learn(readings)
    return ring.week(fewest)


def starts(days: float) -> list[int]:
    """Return the starts of the intervals of the last days, newest first."""
    current = NOW_MS // QUARTER_MS * QUARTER_MS
    return [current - n * QUARTER_MS for n in range(1, int(days * A_DAY) + 1)]


def test_each_place_has_the_newest_reading() -> None:
    readings = {start: (n, 1_000 + n) for n, start in enumerate(starts(7))}
    week = week_of(readings, NOW_MS, QUARTER_MS, A_DAY)
    assert week is not None
    assert len(week.taken_wh) == len(week.given_wh) == places(QUARTER_MS) == WEEK_DAYS * A_DAY
    for n, start in enumerate(starts(7)):
        at = place(start, QUARTER_MS)
        assert (week.taken_wh[at], week.given_wh[at]) == (n, 1_000 + n)
    older = {start - WEEK_DAYS * DAY_MS: (7, 7) for start in starts(7)}
    assert week_of(readings | older, NOW_MS, QUARTER_MS, A_DAY) == week, "what is older does not count"
    coming = {NOW_MS + n * QUARTER_MS: (9, 9) for n in range(A_DAY)}
    assert week_of(readings | coming, NOW_MS, QUARTER_MS, A_DAY) == week, "nor what is to come"


def test_a_gap_is_filled_with_the_usual_of_that_time() -> None:
    readings = {start: (100 * (n // A_DAY), 50) for n, start in enumerate(starts(3))}
    week = week_of(readings, NOW_MS, QUARTER_MS, A_DAY)
    assert week is not None
    missing = place(starts(5)[-1], QUARTER_MS)
    assert (week.taken_wh[missing], week.given_wh[missing]) == (100, 50)
    del readings[starts(1)[0]]
    week = week_of(readings, NOW_MS, QUARTER_MS, A_DAY)
    assert week is not None and week.taken_wh[place(starts(1)[0], QUARTER_MS)] == 150


def test_a_time_of_day_that_was_never_read_is_nothing() -> None:
    readings = {start: (100, 50) for start in starts(7) if place(start, QUARTER_MS) % A_DAY >= A_DAY // 2}
    week = week_of(readings, NOW_MS, QUARTER_MS, A_DAY)
    assert week is not None
    assert set(week.taken_wh[: A_DAY // 2]) == {0}


def test_too_little_is_no_week() -> None:
    readings = dict.fromkeys(starts(1), (100, 50))
    assert week_of(readings, NOW_MS, QUARTER_MS, A_DAY) is not None
    del readings[starts(1)[0]]
    assert week_of(readings, NOW_MS, QUARTER_MS, A_DAY) is None
    assert week_of({}, NOW_MS, QUARTER_MS, A_DAY) is None


@pytest.mark.parametrize("intervals", [0, 1, 5, A_DAY, 3 * A_DAY, 7 * A_DAY - 1, 7 * A_DAY, 9 * A_DAY])
def test_time_goes_on(intervals: int) -> None:
    """A ring that was advanced and told the news is the ring that is made anew."""
    later_ms = NOW_MS + intervals * QUARTER_MS
    old = {start: (n, 1_000 + n) for n, start in enumerate(starts(7))}
    news = {start + intervals * QUARTER_MS: (5_000 + n, n) for n, start in enumerate(starts(7)) if n < intervals}
    news = {start: value for start, value in news.items() if (start // QUARTER_MS) % 3}  # with gaps
    ring = Ring(NOW_MS, QUARTER_MS)
    ring.learn(old)
    ring.advance(later_ms)
    ring.learn(news)
    assert ring.week(0) == week_of(old | news, later_ms, QUARTER_MS, 0)


def test_a_silent_meter_is_known_as_one() -> None:
    ring = Ring(NOW_MS, QUARTER_MS)
    assert ring.silent_ms == WEEK_DAYS * DAY_MS and ring.known == 0
    ring.learn(dict.fromkeys(starts(1)[4:], (1, 1)))
    assert ring.silent_ms == 4 * QUARTER_MS and ring.known == A_DAY - 4
    ring.learn({starts(1)[40]: (2, 2)})
    assert ring.silent_ms == 4 * QUARTER_MS, "a late one says nothing of now"
    ring.advance(NOW_MS + DAY_MS)
    assert ring.silent_ms == DAY_MS + 4 * QUARTER_MS
    ring.advance(NOW_MS + 30 * DAY_MS)
    assert ring.silent_ms == WEEK_DAYS * DAY_MS and ring.known == 0


def test_an_absurd_reading_takes_no_more_room_than_any() -> None:
    ring = Ring(NOW_MS, QUARTER_MS)
    ring.learn(dict.fromkeys(starts(1), (2**50, 0)))
    week = ring.week(A_DAY)
    assert week is not None and max(week.taken_wh) == MAX_WH
