"""What was added is held for its span; what was not is nearly never taken for it."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from market.exchange import digests
from market.exchange.digests import Digests

DIGESTS = st.integers(-(2**63), 2**63 - 1)


def test_an_empty_filter_holds_nothing() -> None:
    assert not Digests(100).may_hold(0)


@settings(max_examples=20)
@given(st.lists(DIGESTS, max_size=50))
def test_nothing_is_forgotten_within_the_span(values: list[int]) -> None:
    held = Digests(1_000)
    for number, value in enumerate(values):
        held.add(value, number * 10)
    assert all(held.may_hold(value) for value in values)


def test_it_forgets_after_two_spans() -> None:
    held = Digests(100)
    held.add(1 << 40, 0)
    held.add(2 << 40, 99)
    held.add(3 << 40, 100)
    assert held.may_hold(1 << 40) and held.may_hold(2 << 40)
    held.add(4 << 40, 200)
    assert not held.may_hold(1 << 40)
    assert held.may_hold(3 << 40) and held.may_hold(4 << 40)


def test_few_lookups_are_in_vain() -> None:
    chance = random.Random(3)
    held = Digests(1_000)
    # As full as two days of a whole city would make it: 6 million digests in 2**27 bits are 22 bits each.
    original = digests.BITS, digests._MASK
    digests.BITS, digests._MASK = 2**18, 2**18 - 1
    try:
        for _ in range(2**18 // 22):
            held.add(chance.getrandbits(64) - 2**63, 0)
        in_vain = sum(held.may_hold(chance.getrandbits(64) - 2**63) for _ in range(20_000))
    finally:
        digests.BITS, digests._MASK = original
    assert in_vain < 20_000 * 0.005
