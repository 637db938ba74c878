"""Market time."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from market.simulator.clock import DEFAULT_SPEED, MarketClock, SteppedClock, at_local


def test_one_interval_a_minute() -> None:
    real = [1_000.0]
    clock = MarketClock(5_000_000, monotonic=lambda: real[0])
    assert DEFAULT_SPEED == 15
    assert clock.now_ms() == 5_000_000
    real[0] += 60
    assert clock.now_ms() == 5_000_000 + 15 * 60_000
    assert clock.real_s(15 * 60_000) == 60
    with pytest.raises(ValueError, match="speed"):
        MarketClock(0, 0)


def test_the_market_opens_at_ten_local_time() -> None:
    summer = at_local(date(2026, 6, 6), "Europe/Berlin")
    assert datetime.fromtimestamp(summer / 1000, UTC) == datetime(2026, 6, 6, 8, tzinfo=UTC)
    winter = at_local(date(2026, 1, 6), "Europe/Berlin")
    assert datetime.fromtimestamp(winter / 1000, UTC) == datetime(2026, 1, 6, 9, tzinfo=UTC)


def test_stepped_time_does_not_run_backwards() -> None:
    clock = SteppedClock(100)
    clock.set(100)
    clock.set(250)
    assert clock.now_ms() == 250
    with pytest.raises(ValueError, match="backwards"):
        clock.set(249)
