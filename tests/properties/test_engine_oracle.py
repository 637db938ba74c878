"""The engine against the oracle in random worlds, and what must hold after every command (see ``invariants``)."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.properties.invariants import Checks
from tests.properties.worlds import Commands, World, play_seeds

WORLDS = int(os.environ.get("WORLDS", "2000"))
CHUNK = 100  # worlds a test


@pytest.mark.parametrize("first", range(0, WORLDS, CHUNK))
def test_random_worlds(first: int) -> None:
    play_seeds(range(first, min(first + CHUNK, WORLDS)), Checks)


ARRIVALS = ("place", "iceberg", "sweep", "block", "basket")
CHANGES = (
    "amend", "hibernate", "reactivate", "cancel", "cancel_all", "expire", "recall", "fund", "close_account", "connection",
)  # fmt: skip
DECISIONS = ("capacity", "halt", "lift", "params", "close_contract", "deliver")
RANDOMS = st.randoms(use_true_random=False)


class MarketMachine(RuleBasedStateMachine):
    """The same worlds with hypothesis at the dice: it looks for the shortest story that breaks something."""

    @initialize(seed=st.integers(0, 2**32))
    def build(self, seed: int) -> None:
        self.checks = Checks()
        self.world = World(random.Random(seed), self.checks)
        self.commands = Commands(random.Random(seed), self.world)

    @rule(draw=RANDOMS, kind=st.sampled_from(ARRIVALS))
    def arrive(self, draw: Any, kind: str) -> None:
        self.step(draw, kind)

    @rule(draw=RANDOMS, kind=st.sampled_from(CHANGES))
    def change(self, draw: Any, kind: str) -> None:
        self.step(draw, kind)

    @rule(draw=RANDOMS, kind=st.sampled_from(DECISIONS))
    def decide(self, draw: Any, kind: str) -> None:
        self.step(draw, kind)

    @rule(ms=st.sampled_from((1, 5, 1_000, 60_000)))
    def wait(self, ms: int) -> None:
        self.commands.at_ms += ms

    def step(self, draw: Any, kind: str) -> None:
        self.commands.draw = draw
        self.world.step(getattr(self.commands, kind)(), self.commands.at_ms)

    def teardown(self) -> None:
        if hasattr(self, "commands"):
            self.commands.draw = random.Random(0)
            self.checks.at_end(self.world, self.commands)


MarketMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_no_story_breaks_the_market = MarketMachine.TestCase
