"""The replay takes entries in pieces of any size, by a fast path for the frequent types; no field of any entry escapes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from market.engine import commands as c
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.engine.replay import Divergence, Replayer, replay
from tests.unit.engine_cast import LATER, NOON, Market

DERIVED = ("self_trade", "ioc")
SALT = "00112233445566778899aabbccddeeff"
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def market() -> Market:
    """All entry types that trading makes; ends with a command of several entries."""
    market = Market()
    alice, bob, charlie, dora = market.alice, market.bob, market.charlie, market.dora
    market.order(alice, c.SELL, 1_500, 1_000)
    market.order(charlie, c.SELL, 1_600, 2_000)
    market.order(alice, c.BUY, 1_700, 300, "ioc")  # takes its own order back first
    market.order(bob, c.BUY, 1_900, 900)
    resting = market.order(dora, c.BUY, 1_000, 400, "gtd", expires=market.now_ms + 5_000)[0].seq
    market.do(c.AmendOrder(dora, resting, 1_100, 300))
    market.do(c.HibernateOrder(dora, resting))
    market.do(c.ReactivateOrder(dora, resting))
    market.do(c.PlaceIceberg(alice, LATER, c.SELL, 1_400, 500, "gtg", 0, 100))
    market.do(c.PlaceBlock(bob, NOON, LATER, c.BUY, 2_000, 100, "gtg", 0))
    market.do(c.PlaceBasket(dora, (c.Leg(dora, NOON, c.BUY, 2_000, 50), c.Leg(dora, LATER, c.BUY, 2_000, 50))))
    market.do(c.PlaceSweep(dora, NOON, LATER, c.BUY, 2_000, 100))
    cancelled = market.order(dora, c.BUY, 900, 10)[0].seq
    market.now_ms += 10
    market.do(c.CancelOrder(dora, cancelled, "owner"))
    market.tick(market.now_ms + 6_000)
    market.do(c.Seal())
    market.order(alice, c.SELL, 1_500, 10)
    market.order(bob, c.BUY, 2_500, 5_000, "ioc")
    return market


def leaves(market: Market, salted: bool = True) -> list[Fields]:
    return [{**to_leaf(event), **({"salt": SALT} if salted else {})} for event in market.log]


def divergence(entries: list[Fields]) -> Divergence:
    with pytest.raises(Divergence) as caught:
        replay(Engine(), entries)
    return caught.value


@pytest.mark.parametrize("salted", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_pieces_of_any_size_give_the_same(market: Market, size: int, salted: bool) -> None:
    entries, seen, begun = leaves(market, salted), [], []
    replayer = Replayer(Engine(), each=seen.append, begin=lambda at_ms, leaf: begun.append(at_ms))
    for first in range(0, len(entries), size):
        replayer.take(entries[first : first + size])
    replayer.end()
    assert replayer.idle
    assert replayer.engine.state_hash() == market.engine.state_hash()
    assert seen == market.log
    assert begun == sorted({event.at_ms for event in market.log})


def test_stored_bytes_are_taken_as_they_are(market: Market) -> None:
    engine = Engine()
    replay(engine, (json.dumps(leaf).encode() for leaf in leaves(market)))
    assert engine.state_hash() == market.engine.state_hash()


def test_the_market_has_all_that_trading_makes(market: Market) -> None:
    kinds = {(leaf["type"], leaf.get("reason", leaf.get("action", leaf.get("kind", "")))) for leaf in leaves(market)}
    assert {
        ("order", ""), ("order", "iceberg"), ("order", "block"), ("order", "basket"), ("order", "sweep"), ("trade", ""),
        ("cancel", "owner"), ("cancel", "ioc"), ("cancel", "self_trade"), ("cancel", "expired"), ("amend", ""),
        ("amend", "hibernated"), ("amend", "reactivated"), ("seal", ""),
    } <= kinds  # fmt: skip


def test_a_field_too_many_is_found_in_every_entry(market: Market) -> None:
    for seq in range(len(market.log)):
        entries = leaves(market)
        entries[seq]["more"] = 1
        assert divergence(entries).seq == seq, entries[seq]


@pytest.mark.parametrize("field", ["v", "seq", "type", "at"])
def test_what_every_entry_has_is_compared_in_every_entry(market: Market, field: str) -> None:
    for seq in range(len(market.log)):
        for value in (None, 7, "final", "2026-06-06T10:05:00.1Z"):
            entries = leaves(market)
            if value == entries[seq][field]:
                continue
            if value is None:
                del entries[seq][field]
            else:
                entries[seq][field] = value
            assert divergence(entries).seq == seq, (entries[seq], value)


def test_what_follows_from_others_is_compared_field_by_field(market: Market) -> None:
    for seq, leaf in enumerate(leaves(market)):
        if leaf["type"] != "trade" and leaf.get("reason") not in DERIVED:
            continue
        for field, value in leaf.items():
            if field == "salt":
                continue
            for other in (None, value + 1 if type(value) is int else value + "x"):
                entries = leaves(market)
                if other is None:
                    del entries[seq][field]
                else:
                    entries[seq][field] = other
                assert divergence(entries).seq == seq, (leaf, field, other)


def test_what_an_entry_cannot_hold_is_no_error_of_the_engine(market: Market) -> None:
    for seq, leaf in enumerate(leaves(market)):
        if leaf["type"] not in ("order", "cancel"):
            continue
        for field in leaf.keys() - {"salt", "v"}:
            for value in ([], {}, None, 1.5):
                entries = leaves(market)
                entries[seq][field] = value
                divergence(entries)


def test_a_log_that_ends_within_a_command_is_found(market: Market) -> None:
    entries = leaves(market)
    starts = [seq for seq, leaf in enumerate(entries) if leaf["type"] == "order" and leaf.get("leg", 1) == 1]
    for cut in range(1, len(entries) + 1):
        engine = Engine()
        try:
            replay(engine, entries[:cut])
        except Divergence as found:
            assert found.was == "the end of the log" or found.seq < cut, cut
        else:
            assert engine.seq == cut
    assert starts
    assert divergence(entries[:-1]).was == "the end of the log"
