"""What was added is held for its span; what was not is nearly never taken for it."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from market.exchange.digests import Digests

DIGESTS = st.integers(0, 2**32 - 1)


def test_an_empty_filter_holds_nothing() -> None:
    assert Digests(100).held([0, 1]) == []


@settings(max_examples=20)
@given(st.lists(DIGESTS, max_size=50))
def test_nothing_is_forgotten_within_the_span(values: list[int]) -> None:
    held = Digests(1_000)
    for number, value in enumerate(values):
        held.add(value, number * 10)
    assert held.held(values) == values


def test_it_forgets_after_two_spans() -> None:
    held = Digests(100)
    held.add(1, 0)
    held.add(2, 99)
    held.add(3, 100)
    assert sorted(held.held([1, 2, 3, 4])) == [1, 2, 3]
    held.add(4, 200)
    assert sorted(held.held([1, 2, 3, 4])) == [3, 4]


def test_few_lookups_are_in_vain() -> None:
    chance = random.Random(3)
    held = Digests(1_000)
    values = {chance.getrandbits(32) for _ in range(1_000_000)}
    for value in values:
        held.add(value, 0)
    others = [value for value in (chance.getrandbits(32) for _ in range(100_000)) if value not in values]
    assert len(held.held(others)) < len(others) * 0.001
