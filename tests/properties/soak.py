"""Many random worlds, for a machine that has the time: ``make soak``; WORLDS says how many, SEED where to begin."""

from __future__ import annotations

import os

import pytest

from tests.properties.invariants import Checks
from tests.properties.worlds import play_seeds

WORLDS = int(os.environ.get("WORLDS", "50000"))
SEED = int(os.environ.get("SEED", "0"))
CHUNK = 250  # worlds a line of progress


@pytest.mark.parametrize("first", range(SEED, SEED + WORLDS, CHUNK))
def test_worlds_from(first: int) -> None:
    play_seeds(range(first, min(first + CHUNK, SEED + WORLDS)), Checks)
