"""What readers get: candles, events, positions, settlement; and events read back as the engine gave them."""

import base64
from pathlib import Path

import pytest
from django.conf import settings

from ledger.core.keyring import key_statement
from ledger.core.note import Signer
from ledger.secretfiles import load_all
from market.engine import events as ev
from market.engine.commands import (
    BUY,
    SELL,
    AmendOrder,
    CancelAll,
    CloseAccount,
    CommitSnapshot,
    PublishRulebook,
    RegisterKey,
    SetCapacity,
    SetFee,
    SetHalt,
    SetTariff,
)
from market.engine.events import Event
from market.exchange import models, operations, queries
from market.exchange.rebuild import events_between
from market.settlement.operations import settle_due
from tests.factories import PARAMS, Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)


def settled_market(market: Market) -> str:
    """Trade in a contract, deliver and settle it without a single reading; return its name."""
    contract = market.contract()
    market.place(market.alice, SELL, "0.1500", 2_000, contract=contract)
    market.place(market.bob, BUY, "0.2500", 1_500, contract=contract)
    market.clock.advance(minutes=30)
    market.exchange.call(SetHalt("market", "", 0, "nothing"))  # any command: what is due by now comes first
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms + 3_600_000)
    return contract


def test_settlement_pays_out_and_leaves_nothing_behind() -> None:
    with running_market() as market:
        contract = settled_market(market)
        view = queries.contract(contract)
        assert view is not None and view.state == "settled"
        pool = queries.balance(view.account)
        assert pool is not None and pool.cash_e7 == 0
        assert sum(queries.money_by_kind().values()) == 0
        (line,) = queries.settlement_lines(account=market.bob, contract=contract)
        assert (line.position_wh, line.area, line.fee_e7) == (1_500, "LV1.1", 0)
        sold = queries.settlement_lines(account=market.alice)[0]
        assert sold.position_wh == -1_500
        moved = queries.transfers(seq=sold.seq)
        to_alice = sum(t.amount for t in moved if t.credit == market.alice)
        assert to_alice == sold.payout_e7 + sold.spill_e7 > 0
        assert sold in queries.settlement_lines(seq=sold.seq)


def test_events_come_back_as_the_engine_gave_them() -> None:
    heard: list[Event] = []
    with running_market(listener=lambda committed: heard.extend(committed.events)) as market:
        settled_market(market)
        exchange = market.exchange
        order = market.place(market.alice, SELL, "0.9000", 500).events[0].seq
        exchange.call(AmendOrder(market.alice, order, -1, 400))
        until = market.clock.at_ms + 60_000
        market.place(market.alice, SELL, "0.9000", 500, time_in_force="gtd", expires_at_ms=until)
        market.place(market.charlie, BUY, "0.9000", 5_000, time_in_force="ioc")
        market.place(market.bob, BUY, "0.0100", 100)
        exchange.call(CancelAll(market.bob, "", "owner"))
        for command in (
            SetCapacity("LV1.1", 50_000, 40_000, "maintenance"),
            SetCapacity("LV1.1", 50_000, 45_000, "maintenance", "c1" * 32),
            SetFee("LV1.1", 25),  # as older logs have it
            SetFee("LV1.1", 26, "tariff", "c2" * 32),
            SetTariff(4_100, 700, "market", "c3" * 32),
            SetHalt("area", "LV2.1", 1, "works", commitment="c4" * 32),
            PublishRulebook(2, "ab" * 32, "law", "c5" * 32),
            new_key(),
            PARAMS._replace(tick_e4=5, reason="integrity", commitment="c6" * 32),
            CommitSnapshot("cd" * 32),
            CloseAccount(market.charlie),
        ):
            exchange.call(command)
        operations.fund(exchange, account=market.bob, amount_e7=-100, reason="withdrawal", reference="ef" * 32)
        market.clock.advance(minutes=5)
        market.place(market.bob, BUY, "0.0100", 100)
    assert [event.seq for event in heard] == list(range(len(heard)))
    kinds = {type(event) for event in heard}
    assert {ev.Traded, ev.Settled, ev.OrderCancelled, ev.OrderAmended, ev.HaltSet, ev.AccountClosed, ev.Sealed} <= kinds
    for event in heard:
        if not isinstance(event, ev.Settled):
            assert events_between(event.seq, 1) == (event,)
            continue
        (again,) = events_between(event.seq, 1)
        assert again == event


def new_key() -> RegisterKey:
    """Return the command that adds a key: one the log's own has approved."""
    own = Signer(settings.LEDGER_ORIGIN, load_all(Path(settings.LEDGER_KEY_FILE))[0])
    new = Signer(own.name, bytes([9]) * 32)
    statement = key_statement(own.name, new.vkey)
    signatures = [base64.b64encode(signer.sign_raw(statement)).decode() for signer in (new, own)]
    return RegisterKey("add", new.vkey, *signatures)


def test_candles_of_a_contract_and_of_an_area() -> None:
    with running_market() as market:
        contract = market.contract(4)
        start = market.clock.at_ms
        for minute, price in enumerate(("0.2000", "0.2400", "0.1800", "0.2200", "0.3000")):
            market.clock.at_ms = start + minute * 60_000
            market.place(market.alice, SELL, price, 100, contract=contract)
            market.place(market.bob, BUY, price, 100, contract=contract)
    span = {"length_ms": 240_000, "since_ms": start, "until_ms": start + 300_000}
    candles = queries.candles(contract=contract, **span)
    assert candles[0] == (start, 2_000, 2_400, 1_800, 2_200, 400)
    assert candles[1] == (start + 240_000, 3_000, 3_000, 3_000, 3_000, 100)
    assert queries.candles(contract=contract, limit=1, **span) == candles[1:]
    assert queries.candles(area="LV1.1", **span) == candles
    assert queries.candles(area="LV2.1", **span) == []
    assert queries.candles(contract=market.contract(5), **span) == []
    assert queries.candles(contract=contract, length_ms=60_000, since_ms=start + 60_000, until_ms=start + 120_000) == [
        (start + 60_000, 2_400, 2_400, 2_400, 2_400, 100)
    ]


def test_events_of_an_account_show_its_side_only() -> None:
    with running_market() as market:
        market.place(market.alice, SELL, "0.1500", 2_000)
        market.place(market.bob, BUY, "0.2500", 1_500)
        order = market.place(market.charlie, BUY, "0.0100", 10).events[0].seq
    mine = queries.events(account=market.bob)
    assert [event["type"] for event in mine] == ["fund", "order", "trade"]
    trade = mine[-1]
    assert (trade["side"], trade["price_e4"], trade["amount_e7"]) == ("buy", 1_500, 1_500 * 1_500)
    assert trade["order"] == mine[1]["order"]
    assert "seller" not in trade and "sell_order" not in trade
    assert queries.events(account=market.bob, after=mine[0]["seq"], limit=1) == [mine[1]]
    assert [event["order"] for event in queries.events(account=market.charlie) if event["type"] == "order"] == [order]
    everything = queries.events(limit=1_000)
    assert [event["seq"] for event in everything] == list(range(len(everything)))
    assert everything[0]["type"] == "genesis" and everything[-1]["type"] == "seal"
    assert all("salt" not in event for event in everything)
    assert queries.events(after=everything[-1]["seq"]) == []


def test_positions_of_an_account() -> None:
    with running_market() as market:
        first, second = market.contract(1), market.contract(2)
        market.place(market.alice, SELL, "0.1500", 2_000, contract=first)
        market.place(market.bob, BUY, "0.2500", 1_500, contract=first)
        market.place(market.bob, SELL, "0.3000", 400, contract=second)
        market.place(market.alice, BUY, "0.3000", 400, contract=second)
    assert queries.positions(market.bob) == [
        (first, 1_500, 0, 1_500 * 1_500, 0),
        (second, 0, 400, 0, 400 * 3_000),
    ]
    assert queries.positions(market.bob, contracts=[second])[0].position_wh == -400
    assert queries.positions(market.charlie) == []


def test_security_is_out_from_the_sale_until_the_settlement() -> None:
    with running_market() as market:
        contract = market.contract(7)
        market.place(market.alice, SELL, "0.1500", 2_000, contract=contract)
        market.place(market.bob, BUY, "0.2500", 1_500, contract=contract)
        margin_e7 = queries.trades(account=market.alice)[0].margin_e7
        assert queries.security(market.alice) == margin_e7 > 0
        assert queries.security(market.bob) == queries.security(market.charlie) == 0
        settled_market(market)  # another interval: what it left comes back, the security of this one stays out
        assert queries.security(market.alice) == margin_e7


def test_trades_in_pages() -> None:
    with running_market() as market:
        for _ in range(5):
            market.place(market.alice, SELL, "0.1500", 10)
            market.place(market.bob, BUY, "0.2500", 10)
    every = queries.trades()
    assert len(every) == 5
    assert queries.trades(after=every[1].seq, limit=2) == every[2:4]
    assert queries.trades(before=every[3].seq, newest_first=True) == every[2::-1]
    assert queries.trades(account=market.alice) == every
    assert queries.trades(account=market.charlie) == []
    order = queries.order(every[0].sell_order)
    assert order is not None and queries.trades_of_order(order) == every[:1]
    assert models.Trade.objects.count() == 5
