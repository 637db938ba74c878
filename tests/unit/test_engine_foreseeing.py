"""What an opened edge is foreseen to do where groups, the collar and blocks come in: rare in random worlds, so set up here."""

from __future__ import annotations

import pytest

from market.engine import commands as c
from market.engine import events as ev
from market.engine import foreseeing
from market.engine.foreseeing import Foreseen
from tests.unit.engine_cast import LATER, NOON, Market

ROOMY_W = 40_000
COLLAR_E4 = 300  # around 1900, half of top-up plus spill


def opened(market: Market) -> tuple[Foreseen, list[object]]:
    """Return what opening LV2 is foreseen to do, and what it does."""
    before = market.engine.state_hash()
    found = market.engine.foresee_capacity(NOON, "LV2", ROOMY_W, ROOMY_W)
    assert found is not None and market.engine.state_hash() == before
    return found, market.do(c.SetCapacity("LV2", ROOMY_W, ROOMY_W, "restored"))


def collared() -> Market:
    """Return a market with a collar whose LV2 is cut off."""
    market = Market()
    market.do(c.SetParams(40_000, 1, 1_000_000, 5, 180, 0, 1_000, COLLAR_E4, 60, 300))
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    return market


def test_an_order_that_would_meet_its_own_group_is_counted_as_taken_back() -> None:
    market = Market()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    first, second = market.member("LV1", "family"), market.member("LV2", "family")
    market.order(first, "sell", 1_000, 100)
    market.order(second, "buy", 2_000, 100)
    found, events = opened(market)
    assert (found.trades, found.cancelled) == (0, 1)
    assert [e.reason for e in events if isinstance(e, ev.OrderCancelled)] == ["self_trade"]


def test_a_price_outside_the_collar_halts_instead_of_trading() -> None:
    market = collared()
    market.order(market.alice, "sell", 1_000, 100)
    market.order(market.bob, "buy", 2_000, 100)
    found, events = opened(market)
    assert (found.trades, found.collar) == (0, True)
    assert [e.reason for e in events if isinstance(e, ev.HaltSet)] == ["collar"]
    assert market.trades(events) == []


def test_the_collar_is_about_what_the_seller_gets_after_the_fee() -> None:
    market = collared()
    market.order(market.bob, "buy", 2_250, 100)  # 200 of it are the path's fee: the seller gets 2050
    market.order(market.alice, "sell", 1_900, 100)
    found, events = opened(market)
    assert (found.trades, found.traded_wh, found.collar) == (1, 100, False)
    assert market.trades(events) == [(market.alice, market.bob, 100, 2_050, 2_250)]


# --- blocks ----------------------------------------------------------------------------------------------------------


def with_blocks(market: Market, import_w: int, export_w: int) -> tuple[foreseeing.ForeseenBlocks, list[object]]:
    """Return what waiting blocks are foreseen to do with a capacity of LV2, after holding that against what they do."""
    before = market.engine.state_hash()
    found = market.engine.foresee_blocks("LV2", import_w, export_w)
    assert market.engine.state_hash() == before
    waited = len(market.engine.waiting)
    before_legs = {name: contract.blocks for name, contract in market.engine.contracts.items()}
    events = market.do(c.SetCapacity("LV2", import_w, export_w, "restored"))
    assert found.traded == waited - len(market.engine.waiting) and not found.more
    for name, foreseen in found.contracts.items():
        made = [event for event in events if isinstance(event, ev.Traded) and event.contract == name]
        gone = [event for event in events if isinstance(event, ev.OrderCancelled) and event.contract == name]
        assert (foreseen.trades, foreseen.traded_wh) == (len(made), sum(event.energy_wh for event in made))
        assert foreseen.cancelled == len(gone)
        assert foreseen.after == market.engine.flows(name)["LV2"]
        assert foreseen.legs == before_legs[name] - market.engine.contracts[name].blocks
    traded = {event.contract for event in events if isinstance(event, ev.Traded)}
    assert traded == found.contracts.keys()
    market.assert_replays()
    return found, events


def block(market: Market, account: int, side: str, price_e4: int, energy_wh: int = 100) -> None:
    market.do(c.PlaceBlock(account, NOON, LATER, side, price_e4, energy_wh, "gtg", 0))


def test_a_block_that_waits_behind_the_edge_is_foreseen_to_trade() -> None:
    market = Market()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    for contract in (NOON, LATER):
        market.order(market.alice, "sell", 2_000, 100, contract=contract)
    block(market, market.bob, "buy", 2_500)
    found, events = with_blocks(market, ROOMY_W, ROOMY_W)
    assert [line.legs for line in found.contracts.values()] == [1, 1]
    assert market.trades(events) == [(market.alice, market.bob, 100, 2_000, 2_200)] * 2


def test_a_block_that_lacks_energy_in_one_contract_trades_in_none() -> None:
    market = Market()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    market.order(market.alice, "sell", 2_000, 100)
    block(market, market.bob, "buy", 2_500)
    found, _ = with_blocks(market, ROOMY_W, ROOMY_W)
    assert (found.traded, found.contracts) == (0, {})


def test_a_block_goes_past_orders_of_its_own_group_which_are_taken_back() -> None:
    market = Market()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    here, there = market.member("LV2", "family"), market.member("LV1", "family")
    market.order(there, "sell", 1_900, 50)
    for contract in (NOON, LATER):
        market.order(market.alice, "sell", 2_000, 100, contract=contract)
    block(market, here, "buy", 2_500)
    found, _ = with_blocks(market, ROOMY_W, ROOMY_W)
    assert [line.cancelled for line in found.contracts.values()] == [1, 0]


def test_a_block_makes_room_for_an_older_one_that_goes_the_other_way() -> None:
    market = Market()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    for contract in (NOON, LATER):
        market.order(market.alice, "sell", 2_000, 100, contract=contract)
        market.order(market.charlie, "buy", 1_950, 100, contract=contract)
    block(market, market.dora, "sell", 1_700)
    block(market, market.bob, "buy", 2_500)
    found, events = with_blocks(market, ROOMY_W, 0)  # out of LV2 only what netting gives
    assert found.traded == 2 and len(market.trades(events)) == 4


def test_a_block_whose_contract_the_collar_stops_on_the_way_does_not_trade() -> None:
    market = collared()
    market.order(market.dora, "buy", 2_600, 100)  # older, so hers would be the price: outside the collar
    for contract in (NOON, LATER):
        market.order(market.alice, "sell", 1_900, 300, contract=contract)
    block(market, market.bob, "buy", 2_500)
    found, events = with_blocks(market, ROOMY_W, ROOMY_W)
    assert found.traded == 0 and market.trades(events) == []
    assert market.engine.contracts[NOON].halted


@pytest.mark.parametrize(("bound", "value"), [("MAX_STEPS", 6), ("MAX_FILLS", 1)])
def test_what_would_take_too_long_to_play_is_said_to_be_more(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    market = Market()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    for contract in (NOON, LATER):
        market.order(market.alice, "sell", 2_000, 200, contract=contract)
        market.order(market.charlie, "sell", 2_001, 200, contract=contract)
    for account in (market.bob, market.dora):
        block(market, account, "buy", 2_500, 150)
    before = market.engine.state_hash()
    monkeypatch.setattr(foreseeing, bound, value)
    assert market.engine.foresee_blocks("LV2", ROOMY_W, ROOMY_W).more
    assert market.engine.state_hash() == before


def roomy() -> Market:
    """Return a market in which one member may have many orders and much money."""
    market = Market()
    market.do(c.SetParams(40_000, 1, 1_000_000, 5_000, 180, 0, 1_000))
    market.do(c.Fund(market.bob, 10**12, "deposit", ""))
    return market


@pytest.mark.parametrize("whose", ["others", "their own group's"])
def test_blocks_that_sweep_a_whole_book_in_vain_share_one_budget(monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    """Each of them finds a price to cross and too little energy behind it: a look at one is a look at the whole book."""
    market = roomy()
    seller, buyer = market.member("LV1", "family"), market.member("LV2", "family")
    market.do(c.Fund(buyer, 10**12, "deposit", ""))
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    for _ in range(100):
        market.order(market.alice if whose == "others" else seller, "sell", 2_000, 10)
    for _ in range(30):
        market.do(c.PlaceBlock(buyer, NOON, NOON, "buy", 2_500, 2_000, "gtg", 0))
    book, before = market.engine.contracts[NOON].book, market.engine.state_hash()
    assert book is not None and not market.engine.foresee_blocks("LV2", ROOMY_W, ROOMY_W).more
    monkeypatch.setattr(foreseeing, "MAX_STEPS", 1_000)
    swept = book.swept
    assert market.engine.foresee_blocks("LV2", ROOMY_W, ROOMY_W).more
    assert 1_000 - 100 <= book.swept - swept <= 1_000 + 100, "of 3,000 that all of them sweep"
    assert market.engine.state_hash() == before


def test_what_uncrosses_in_one_contract_after_the_other_is_of_the_same_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    market = roomy()
    market.do(c.SetCapacity("LV2", 0, 0, "fault"))
    for contract in (NOON, LATER):
        for _ in range(20):
            market.order(market.alice, "sell", 2_000, 10, contract=contract)
            market.order(market.bob, "buy", 2_500, 10, contract=contract)
    block(market, market.bob, "buy", 1_000)
    before = market.engine.state_hash()
    assert not market.engine.foresee_blocks("LV2", ROOMY_W, ROOMY_W).more
    for steps in (150, 230):  # enough for the 20 trades of one contract; for those of both, and no look at the block
        monkeypatch.setattr(foreseeing, "MAX_STEPS", steps)
        assert market.engine.foresee_blocks("LV2", ROOMY_W, ROOMY_W).more is (steps == 150)
    assert market.engine.state_hash() == before
