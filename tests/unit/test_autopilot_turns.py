"""Whose turn it is: everybody's, whatever there is time for; and who is refused again and again asks less often."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from market.agents.backoff import MAX_WAIT, PATIENCE, Backoff, Look
from market.agents.turns import AgentHome, Round, Turns

INTERVAL_MS = 900_000
TICKS = 5  # of each interval in these tests
TICK_MS = INTERVAL_MS // TICKS


def homes(count: int, *, person: bool = True, first: int = 0) -> list[AgentHome]:
    return [AgentHome(n, "LV1.1", n, (), (), None, person) for n in range(first, first + count)]


def tick(turns: Turns, now_ms: int, limit: int) -> list[int]:
    turns.begin(now_ms)
    found = turns.take(now_ms, limit)
    turns.taken(found)
    return [home.account for home in found.homes]


def interval(turns: Turns, number: int, limits: list[int]) -> list[int]:
    """Return who looked in an interval, with so much room in each of its ticks."""
    return [
        account
        for n, limit in enumerate(limits)
        for account in tick(turns, number * INTERVAL_MS + (n + 1) * TICK_MS - 1, limit)
    ]


def test_each_home_looks_once_an_interval() -> None:
    turns = Turns(INTERVAL_MS, 1)
    turns.set_homes(homes(50))
    for number in range(3):
        assert sorted(interval(turns, number, [100] * TICKS)) == list(range(50))
    turns.begin(3 * INTERVAL_MS)
    assert turns.last == Round(2 * INTERVAL_MS, 50, 50, 0)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 40),
    room=st.integers(1, 8),
    rooms=st.lists(st.integers(0, 8), min_size=0, max_size=40),
    person=st.booleans(),
)
def test_nobody_starves(count: int, room: int, rooms: list[int], person: bool) -> None:
    """However little time there was before: from any state on, ``room`` places a tick reach everybody in turn."""
    turns = Turns(INTERVAL_MS, 1)
    turns.set_homes(homes(count, person=person))
    number = 0
    for at in range(0, len(rooms), TICKS):
        interval(turns, number, rooms[at : at + TICKS])
        number += 1
    rounds = -(-count // (room * TICKS)) + 1
    seen: list[int] = []
    for _ in range(rounds):
        looked = interval(turns, number, [room] * TICKS)
        assert len(looked) == len(set(looked)), "nobody looks twice while others wait"
        seen += looked
        number += 1
    assert set(seen) == set(range(count))


def test_what_there_is_no_time_for_is_said() -> None:
    turns = Turns(INTERVAL_MS, 1)
    turns.set_homes(homes(30))
    interval(turns, 0, [2] * TICKS)
    turns.begin(INTERVAL_MS)
    assert turns.last == Round(0, 30, 10, 20)


def test_who_joins_or_leaves_in_between_costs_nobody_a_turn() -> None:
    turns = Turns(INTERVAL_MS, 1)
    turns.set_homes(homes(6_000, person=False))  # some share a moment
    turns.begin(0)
    looked: list[int] = []
    for n in range(60):
        now_ms = (n + 1) * INTERVAL_MS // 60 - 1
        looked += [account for account in tick(turns, now_ms, 117) if account < 6_000]
        turns.set_homes([*homes(6_000, person=False), *homes(n % 3, first=40_000)])
    assert len(looked) == len(set(looked)) == 6_000


def test_a_clock_that_jumps_or_goes_back_begins_another_interval() -> None:
    turns = Turns(INTERVAL_MS, 1)
    turns.set_homes(homes(10))
    for number in (5, 500, 4, 5):
        assert sorted(interval(turns, number, [100] * TICKS)) == list(range(10))


def test_the_same_homes_again_until_they_have_looked() -> None:
    """A market that was too busy costs nobody the turn."""
    turns = Turns(INTERVAL_MS, 1)
    turns.set_homes(homes(10))
    turns.begin(0)
    assert turns.take(0, 4) == turns.take(0, 4)


def test_refusals_in_a_row_make_it_wait_longer_and_longer_but_never_for_ever() -> None:
    backoff, asked = Backoff(), []
    for now in range(100):
        if not backoff.waits(7, now):
            asked.append(now)
            backoff.refused(7, now)
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps[: PATIENCE - 1] == [1] * (PATIENCE - 1)
    assert gaps[PATIENCE - 1 :][:4] == [2, 3, 5, 9]
    assert max(gaps) == MAX_WAIT + 1
    backoff.accepted(7)
    assert not backoff.waits(7, 100) and not len(backoff)


def test_only_what_is_not_of_the_moment_counts_and_once_a_look() -> None:
    backoff, look = Backoff(), Look(5, {7: 1, 8: 1})
    for account, code in ((7, ""), (7, "position_limit"), (7, ""), (8, "throttled"), (9, "position_limit")):
        look.take(account, code)
    backoff.refused(8, 4, 1)
    backoff.count(look, {})
    assert backoff.among([7, 8, 9]) == [7] and not look.poor
    backoff.keep({8})
    assert not len(backoff)


def test_a_change_of_what_it_may_ends_the_wait_and_more_money_one_for_want_of_it() -> None:
    backoff = Backoff()
    for _ in range(PATIENCE):
        backoff.refused(7, 0, 1)
        backoff.refused(8, 0, 1, 500)
    assert backoff.waits(7, 1, 1, 10**9) and not backoff.waits(7, 1, 2)
    assert backoff.waits(8, 1, 1, 500) and backoff.waits(8, 1, 1, 400) and not backoff.waits(8, 1, 1, 501)
    backoff.refused(7, 0, 2)
    assert not backoff.waits(7, 1, 2), "the count begins anew"


def test_a_clock_set_back_waits_no_longer() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.refused(7, 1_000)
    assert backoff.waits(7, 1_001) and not backoff.waits(7, 10)
