"""The share of local sun: what a street uses of what its roofs give, in the same interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.overview.sun import LocalSun, Measured, local_sun


@pytest.mark.parametrize(
    ("seen", "given_wh", "near_wh", "permille"),
    [
        ([], 0, 0, None),
        ([(500, 0)], 0, 0, None),
        ([(0, 800)], 800, 0, 0),
        ([(300, 800)], 800, 300, 375),
        ([(900, 800)], 800, 800, 1000),
        # Another street's hunger, or another hour's, does not make sun local.
        ([(0, 600), (600, 0)], 600, 0, 0),
        ([(100, 600), (900, 300)], 900, 400, 444),
    ],
)
def test_examples(seen: list[tuple[int, int]], given_wh: int, near_wh: int, permille: int | None) -> None:
    found = local_sun(Measured(*one) for one in seen)
    assert (found, found.permille) == (LocalSun(given_wh, near_wh), permille)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=20))
def test_it_is_a_share_and_splitting_a_street_never_raises_it(seen: list[tuple[int, int]]) -> None:
    apart = local_sun(Measured(*one) for one in seen)
    assert 0 <= apart.used_near_wh <= apart.given_wh
    one = local_sun([Measured(sum(a for a, _ in seen), sum(b for _, b in seen))])
    assert apart.used_near_wh <= one.used_near_wh
