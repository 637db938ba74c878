"""Entries a second, from looks at a counter."""

from market.grid.queries import RATE_SPAN_S, Rate


def test_the_rate_is_unknown_until_a_second_has_passed() -> None:
    rate = Rate()
    assert rate.note(100.0, 10) is None
    assert rate.note(100.5, 20) is None
    assert rate.note(102.0, 30) == 10.0


def test_the_rate_forgets_what_is_long_ago() -> None:
    rate = Rate()
    rate.note(0.0, 0)
    rate.note(10.0, 1_000)
    assert rate.note(10.0 + RATE_SPAN_S, 1_060) == 60 / RATE_SPAN_S


def test_a_new_ledger_starts_a_new_measurement() -> None:
    rate = Rate()
    rate.note(0.0, 5_000)
    assert rate.note(5.0, 10) is None
    assert rate.note(7.0, 30) == 10.0


def test_many_looks_a_second_do_not_push_the_oldest_out() -> None:
    rate = Rate()
    for look in range(1_000):
        rate.note(look / 100, look)
    assert rate.note(10.0, 1_000) == 100.0
