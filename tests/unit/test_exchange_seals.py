"""When the next block is due."""

import random

import pytest

from market.exchange.writer import seal_time


@pytest.mark.parametrize("batch_s", [0.003, 0.03, 0.3])
def test_the_wait_for_a_batch_does_not_add_up(batch_s: float) -> None:
    draw = random.Random(1)
    now_s = last_s = 0.0
    seals = []
    while now_s < 100:
        now_s += draw.uniform(0.5, 1.5) * batch_s
        if now_s - last_s >= 1:
            last_s = seal_time(last_s, now_s, 1.0)
            seals.append(now_s)
    assert len(seals) in (99, 100)
    assert all(0 <= at_s - number < 1.5 * batch_s for number, at_s in enumerate(seals, 1))


def test_no_seal_makes_up_for_an_idle_time_or_a_standstill() -> None:
    assert seal_time(0.0, 2.0, 1.0) == 2.0
    assert seal_time(0.0, 61.3, 1.0) == 61.3


def test_a_seal_that_a_full_block_brought_forward_moves_the_next_one() -> None:
    assert seal_time(10.0, 10.4, 1.0) == 10.4
