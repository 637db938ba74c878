"""Corners too rare for random worlds: told as stories, held to the same invariants."""

from __future__ import annotations

from typing import Any

from market.engine import commands as c
from market.engine import events as ev
from tests.properties.mirror import Mirror
from tests.unit.engine_cast import NOON, Market

COLLAR = c.SetParams(40_000, 1, 1_000_000, 5, 180, 0, 1_000, collar_e4=300, collar_period_s=60, collar_halt_s=60)


def sound(market: Market) -> bool:
    """Whether nothing that could trade rests, and no block that could trade waits."""
    mirror = Mirror()
    mirror.see(market.log)
    could: list[bool] = []
    for first in [order for order in mirror.orders if order.block == order.id]:
        mirror.attempt(lambda: could.append(mirror.trade_block(mirror.legs(first))) or False)  # noqa: B023
    return not any(could) and not any(mirror.best_for(order) for order in mirror.resting())


def halt(market: Market, scope: str, target: object, on: int) -> list[Any]:
    return market.do(c.SetHalt(scope, str(target), on, "test"))


def crossed_in_a_halt(market: Market) -> tuple[int, int, int, int]:
    """Fill a contract with four orders that cross, while halts keep them apart; return the numbers of two icebergs last."""
    first, second, third, fourth = (market.member("LV1") for _ in range(4))
    sale = market.order(first, "sell", 1_000, 5)[0].seq
    halt(market, "account", first, 1)
    purchase = market.order(second, "buy", 1_900, 5)[0].seq
    buying = market.do(c.PlaceIceberg(third, NOON, "buy", 2_000, 20, "gtg", 0, 5))[0].seq
    halt(market, "account", second, 1)
    halt(market, "account", third, 1)
    selling = market.do(c.PlaceIceberg(fourth, NOON, "sell", 1_000, 20, "gtg", 0, 5))[0].seq
    halt(market, "contract", NOON, 1)
    for account in (first, second, third):
        halt(market, "account", account, 0)
    return sale, purchase, buying, selling


def test_new_clips_meet_when_a_halt_ends() -> None:
    market = Market()
    sale, purchase, buying, selling = crossed_in_a_halt(market)
    events = halt(market, "contract", NOON, 0)
    met = [(e.maker, e.taker) for e in events if isinstance(e, ev.Traded)]
    assert met[:2] == [(sale, buying), (purchase, selling)]
    assert met[2:] == [(buying, selling)] * 3, "clips drawn while others had their turn have theirs"
    assert sound(market)
    market.assert_replays()


def test_a_new_clip_waits_its_turn_when_a_halt_ends() -> None:
    """It is behind those that were there before: here a buyer who pays more, too."""
    market = Market()
    first, second, third = (market.member("LV1") for _ in range(3))
    buying = market.do(c.PlaceIceberg(first, NOON, "buy", 1_600, 10, "gtg", 0, 5))[0].seq
    halt(market, "account", first, 1)
    sale = market.order(second, "sell", 1_000, 10)[0].seq
    halt(market, "account", second, 1)
    purchase = market.order(third, "buy", 2_200, 5)[0].seq
    halt(market, "contract", NOON, 1)
    for account in (first, second):
        halt(market, "account", account, 0)
    events = halt(market, "contract", NOON, 0)
    met = [(e.maker, e.taker, e.energy_wh, e.sell_e4) for e in events if isinstance(e, ev.Traded)]
    assert met == [(buying, sale, 5, 1_600), (sale, purchase, 5, 1_000)]
    assert sound(market)
    market.assert_replays()


def waiting_block(market: Market) -> tuple[int, int, int]:
    """A block kept waiting by an offer that is too cheap for the collar; return that offer, its seller, the block."""
    seller, other, buyer = (market.member("LV1") for _ in range(3))
    market.do(COLLAR)  # around (3000 + 800) / 2
    cheap = market.order(seller, "sell", 1_000, 10)[0].seq
    market.order(other, "sell", 1_900, 10)
    block = market.do(c.PlaceBlock(buyer, NOON, NOON, "buy", 2_100, 10, "gtg", 0))
    assert len(block) == 1 and sound(market)
    return cheap, seller, block[0].seq


def test_a_block_trades_once_what_kept_it_outside_the_collar_is_gone() -> None:
    for gone in ("cancel", "hibernate", "halt", "close"):
        market = Market()
        cheap, seller, block = waiting_block(market)
        events = market.do(
            {
                "cancel": c.CancelOrder(seller, cheap, "owner"),
                "hibernate": c.HibernateOrder(seller, cheap),
                "halt": c.SetHalt("account", str(seller), 1, "test"),
                "close": c.CloseAccount(seller),
            }[gone]
        )
        assert [e.taker for e in events if isinstance(e, ev.Traded)] == [block], gone
        assert sound(market)
        market.assert_replays()


def test_cancel_all_replays_when_a_block_trades_after_it() -> None:
    market = Market()
    _, seller, _ = waiting_block(market)
    market.order(seller, "sell", 1_950, 10)
    market.do(c.CancelAll(seller, "", "owner"))
    assert sound(market)
    market.assert_replays()


def test_an_account_may_change_its_connection_when_what_it_may_sell_adds_up_to_nothing() -> None:
    """Bought as much as it offers: its connection may come to give nothing, and yet there is an order to take back."""
    market = Market()
    market.order(market.alice, "sell", 1_000, 10)
    market.order(market.charlie, "buy", 1_000, 10)
    offer = market.order(market.charlie, "sell", 2_000, 10)[0].seq
    market.do(c.SetConnection(market.charlie, "b" * 64, 0, 0))
    market.do(c.CancelOrder(market.charlie, offer, "owner"))
    market.do(c.SetConnection(market.charlie, "b" * 64, 0, 40))  # 10 Wh: what it has bought, it may sell, and 10 more
    assert market.refused(c.PlaceOrder(market.charlie, NOON, "sell", 2_000, 21, "gtg", 0))[0] == "position_limit"
    market.order(market.charlie, "sell", 2_000, 20)
    market.assert_replays()
