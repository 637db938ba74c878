"""What a new capacity is foreseen to do is what it does, blocks included, in random worlds; foreseeing it changes nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from market.engine import commands as c
from market.engine import events as ev
from market.engine.engine import Engine
from tests.properties.worlds import comparable, play

WORLDS = 400
CHUNK = 100
ASKED = 3  # capacities asked about in a world
MOST = 100  # levels of a depth view


class Unchecked:
    """The worlds' own checks are another test's."""

    with_oracle = False
    with_hash = False
    before_event: tuple[Any, ...] = ()
    after_event: tuple[Any, ...] = ()

    def after_command(self, *args: Any) -> None:
        """Look at nothing."""

    at_end = after_command


def depth_wh(engine: Engine, area: str, contract: str) -> tuple[int, int]:
    """Return what an area can sell and buy now."""
    bids, asks = engine.depth(area, contract, MOST)
    return sum(level.energy_wh for level in bids), sum(level.energy_wh for level in asks)


def untraded_wh(engine: Engine, area: str, contract: str, import_w: int, export_w: int) -> tuple[int, int]:
    """Return what an area could sell and buy by a capacity in W, before anything trades by it."""
    other = Engine.load(engine.dump())
    book, node = other.contracts[contract].book, other.grid.index[area]
    assert book is not None
    book.set_capacity(node, other.capacity_wh(import_w), other.capacity_wh(export_w))
    return depth_wh(other, area, contract)


def ask(draw: random.Random, engine: Engine) -> tuple[int, int]:
    """Foresee one capacity, set it on a copy, compare; return how many trades and how many blocks were foreseen."""
    area = draw.choice([area.name for area in engine.areas.areas if area.parent >= 0])
    import_w, export_w = (draw.choice((0, 20, 80, 400, 4000)) for _ in range(2))
    before = engine.state_hash()
    foreseen = {name: engine.foresee_capacity(name, area, import_w, export_w) for name in sorted(engine.contracts)}
    assert engine.state_hash() == before
    blocks = engine.foresee_blocks(area, import_w, export_w)
    assert engine.state_hash() == before
    assert not blocks.more
    foreseen |= blocks.contracts
    after = Engine.load(engine.dump())
    seen = {name: (found, depth_wh(engine, area, name)) for name, found in foreseen.items() if found is not None}
    for name, (found, (bids_wh, offers_wh)) in seen.items():
        assert (found.bids_before.energy_wh, found.offers_before.energy_wh) == (bids_wh, offers_wh), name
    untraded = {name: untraded_wh(engine, area, name, import_w, export_w) for name in seen}
    events = after.apply(c.SetCapacity(area, import_w, export_w, "x"), engine.at_ms)
    assert isinstance(events[0], ev.CapacitySet)
    assert blocks.traded == len(engine.waiting) - len(after.waiting)
    before_legs = [leg for group in engine.waiting.values() for leg in group.legs]
    trades = 0
    for name, (found, _) in seen.items():
        traded = [event for event in events if isinstance(event, ev.Traded) and event.contract == name]
        ended = [event for event in events if isinstance(event, ev.OrderCancelled) and event.contract == name]
        assert found.trades == len(traded), (name, found, events)
        assert found.traded_wh == sum(event.energy_wh for event in traded)
        assert found.cancelled == len(ended), (name, found, events)
        assert found.legs == sum(leg.contract == name for leg in before_legs) - after.contracts[name].blocks
        assert found.collar == any(isinstance(e, ev.HaltSet) and e.target == name for e in events)
        if area in after.flows(name):
            assert found.after == after.flows(name)[area]
        reach_wh = found.bids_after.energy_wh, found.offers_after.energy_wh
        assert reach_wh == untraded[name], "what is traded at once is not out of reach"
        if not traded and not ended:
            assert reach_wh == depth_wh(after, area, name)
        was, new = found.before, found.after
        if new.import_capacity_wh >= was.import_capacity_wh and new.export_capacity_wh >= was.export_capacity_wh:
            assert found.bids_after.energy_wh >= found.bids_before.energy_wh, "a wider edge takes nothing out of reach"
            assert found.offers_after.energy_wh >= found.offers_before.energy_wh
        assert not found.more
        trades += found.trades
    return trades, blocks.traded


@pytest.mark.parametrize("first", range(0, WORLDS, CHUNK))
def test_a_foreseen_capacity_does_what_was_foreseen(first: int) -> None:
    trades = asked = blocks = 0
    for seed in range(first, first + CHUNK):
        draw = random.Random(seed)
        world = play(draw, 25, Unchecked())
        if len(world.engine.areas.areas) < 2:
            continue
        for _ in range(ASKED):
            asked += 1
            made, moved = ask(draw, world.engine)
            trades, blocks = trades + made, blocks + moved
        # What was looked at goes on as what was not: no aggregate of a book was left wrong, and no block unwatched.
        command = c.SetCapacity(world.engine.areas.areas[-1].name, 4000, 4000, "x")
        twin = world.engine_copy()
        assert comparable(world.engine.apply(command, world.engine.at_ms)) == comparable(
            twin.apply(command, twin.at_ms)
        )
        assert world.engine.state_hash() == twin.state_hash()
    assert asked > CHUNK and trades > 0 and blocks > 0, "these worlds do not show anything"
