"""From a command to durable rows: what the exchange answers is what the database has."""

import asyncio

import pytest
from django.db import connection

from ledger import queries as ledger_queries
from market.engine.commands import BUY, SELL, AmendOrder, CancelOrder, Fund, PlaceOrder
from market.engine.events import OrderAmended, OrderCancelled, OrderPlaced, Traded
from market.exchange import gateway, models, operations, queries
from market.exchange.exchange import batch_keys
from market.exchange.outcomes import Committed, NotRunning
from tests.factories import DEPOSIT_E7, found, running_market

FOUNDING = {"genesis", "params", "area", "capacity", "fee", "tariff", "rulebook"}

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_trade_is_in_all_its_rows() -> None:
    with running_market() as market:
        sell = market.place(market.alice, SELL, "0.1500", 2_000)
        buy = market.place(market.bob, BUY, "0.2500", 1_500)
    (sold,) = sell.events
    bought, trade = buy.events
    assert isinstance(sold, OrderPlaced) and isinstance(bought, OrderPlaced) and isinstance(trade, Traded)
    assert (trade.energy_wh, trade.buy_e4, trade.sell_e4) == (1_500, 1_500, 1_500)
    view = queries.order(sold.seq)
    assert view is not None
    assert (view.status, view.filled_wh, view.remaining_wh) == ("open", 1_500, 500)
    view = queries.order(bought.seq)
    assert view is not None
    assert (view.status, view.filled_wh, view.remaining_wh, view.changed_seq) == ("filled", 1_500, 0, trade.seq)
    (row,) = queries.trades(contract=trade.contract)
    assert row == (*trade, 0)
    entry = ledger_queries.entry(trade.seq)
    assert (entry["type"], entry["energy_wh"], entry["maker"]) == ("trade", 1_500, sold.seq)
    assert "buyer" not in entry and "seller" not in entry
    pool = models.Contract.objects.get(name=trade.contract).account
    moved = {(t.kind, t.debit, t.credit, t.amount) for t in queries.transfers(seq=trade.seq)}
    assert moved == {
        ("trade", market.bob, pool, 1_500 * 1_500),
        ("energy", market.alice, market.bob, 1_500),
        ("margin", market.alice, pool, 1_500 * (4_000 - 1_500)),
    }


def test_balances_are_the_engines() -> None:
    with running_market() as market:
        market.place(market.alice, SELL, "0.1500", 2_000)
        market.place(market.bob, BUY, "0.2500", 3_000)
        expected = market.exchange.read(
            lambda engine: {a.index: (a.cash_e7, a.held_e7, a.arrears_e7) for a in engine.accounts}
        )
        stored = {b.account: (b.cash_e7, b.held_e7, b.arrears_e7) for b in queries.balances()}
        assert stored == expected
        bob = queries.balance(market.bob)
    assert bob is not None
    assert bob.cash_e7 == DEPOSIT_E7 - 2_000 * 1_500
    assert bob.held_e7 == 1_000 * 2_500
    assert bob.free_e7 == bob.cash_e7 - bob.held_e7
    assert sum(queries.money_by_kind().values()) == 0


def test_cancel_and_amend_show_in_the_order() -> None:
    with running_market() as market:
        order = market.place(market.alice, SELL, "0.3000", 2_000).events[0].seq
        amended = market.exchange.call(AmendOrder(market.alice, order, 2_800, 1_000))
        assert isinstance(amended.events[0], OrderAmended)
        view = queries.order(order)
        assert view is not None
        assert (view.price_e4, view.energy_wh, view.remaining_wh, view.status) == (2_800, 1_000, 1_000, "open")
        cancelled = market.exchange.call(CancelOrder(market.alice, order, "owner"))
        assert isinstance(cancelled.events[0], OrderCancelled)
        view = queries.order(order)
        assert view is not None
        assert (view.status, view.reason, view.remaining_wh) == ("cancelled", "owner", 0)
        assert queries.orders(account=market.alice) == [view]
        assert queries.orders(account=market.bob) == []


def test_a_refusal_changes_nothing_and_is_kept_for_the_regulator() -> None:
    with running_market() as market:
        before = market.exchange.read(lambda engine: (engine.seq, engine.state_hash()))
        outcome = market.place(market.bob, BUY, "0.2000", 1_000, contract="2026-06-06T09:00Z")
        assert outcome.refused is not None and outcome.events == ()
        assert market.exchange.read(lambda engine: (engine.seq, engine.state_hash())) == before
        (refusal,) = queries.refusals(account=market.bob)
    assert (refusal.code, refusal.field) == (outcome.refused.code, "contract")
    assert "2026-06-06T09:00Z" in refusal.command


def test_a_batch_is_applied_in_order_and_answered_one_by_one() -> None:
    with running_market() as market:
        contract = market.contract()
        commands = [
            PlaceOrder(market.alice, contract, SELL, 1_500, 1_000, "gtg", 0),
            PlaceOrder(market.bob, contract, BUY, 1_400, 1_000, "gtg", 0),
            PlaceOrder(market.bob, contract, "hold", 1_500, 1_000, "gtg", 0),
            PlaceOrder(market.bob, contract, BUY, 1_500, 1_000, "gtg", 0),
        ]
        outcomes = market.exchange.submit_many(batch_keys(commands, "k")).result(10)
        again = market.exchange.submit_many(batch_keys(commands, "k")).result(10)
    assert [len(outcome.events) for outcome in outcomes] == [1, 1, 0, 2]
    assert outcomes[2].refused is not None and outcomes[2].refused.field == "side"
    assert [outcome.repeated for outcome in again] == [True] * 4
    assert [outcome.events for outcome in again] == [outcome.events for outcome in outcomes]
    assert again[2].refused == outcomes[2].refused


def test_event_loops_get_their_answers() -> None:
    with running_market() as market:
        contract = market.contract()

        async def trade() -> list[int]:
            sells = [
                market.exchange.aexecute(PlaceOrder(market.alice, contract, SELL, 1_500, 10, "gtg", 0))
                for _ in range(50)
            ]
            outcomes = await asyncio.gather(*sells)
            batch = [PlaceOrder(market.bob, contract, BUY, 1_500, 250, "gtg", 0)] * 2
            outcomes += await market.exchange.aexecute_many(batch_keys(batch, None))
            return [len(outcome.events) for outcome in outcomes]

        assert asyncio.run(trade()) == [1] * 50 + [26, 26]
    assert queries.counts() == {"orders": 52, "trades": 50, "energy_wh": 500}


def test_an_abandoned_caller_does_not_hurt_the_writer() -> None:
    with running_market() as market:

        async def give_up() -> None:
            order = PlaceOrder(market.alice, market.contract(), SELL, 1_500, 10, "gtg", 0)
            task = asyncio.ensure_future(market.exchange.aexecute(order))
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(give_up())
        future = market.exchange.submit(Fund(market.alice, 5, "deposit", ""))
        future.cancel()
        assert market.place(market.bob, BUY).events
        assert market.exchange.status()["state"] == "running"


def test_listeners_hear_every_event_once_and_in_order() -> None:
    heard: list[Committed] = []
    with running_market() as market:
        market.exchange.listen(heard.append)
        market.exchange.listen(lambda committed: 1 / 0)  # somebody else's mistake
        first = market.exchange.status()["seq"]
        for _ in range(20):
            market.place(market.alice, SELL, "0.1500", 10)
        market.place(market.bob, BUY, "0.2000", 200)
    seqs = [event.seq for committed in heard for event in committed.events]
    assert seqs == list(range(seqs[0], seqs[-1] + 1))
    assert seqs[0] >= first
    assert [c.first_seq for c in heard[1:]] == [c.next_seq for c in heard[:-1]]
    assert heard[-1].sealed is not None and heard[-1].sealed.size == heard[-1].next_seq == ledger_queries.size()


def test_a_listener_may_not_wait_for_the_writer() -> None:
    errors: list[Exception] = []
    with running_market() as market:

        def listener(committed: Committed) -> None:
            try:
                market.exchange.read(lambda engine: engine.seq)
            except RuntimeError as error:
                errors.append(error)

        market.exchange.listen(listener)
        market.place(market.alice, SELL)
    assert errors


def test_the_gateway_knows_the_running_exchange_only() -> None:
    with pytest.raises(NotRunning):
        gateway.current()
    with running_market(cast=False) as market:
        assert gateway.current() is market.exchange
    with pytest.raises(NotRunning):
        gateway.current()
    with pytest.raises(NotRunning):
        market.exchange.call(Fund(4, 1, "deposit", ""))


def test_founding_twice_does_nothing() -> None:
    with running_market(cast=False) as market:
        before = [entry["seq"] for entry in queries.events(limit=1_000) if entry["type"] in FOUNDING]
        assert len(before) > 10
        assert found(market.exchange) is False
        assert [entry["seq"] for entry in queries.events(limit=1_000) if entry["type"] in FOUNDING] == before
        assert operations.is_founded(market.exchange)


def movements() -> list[queries.TransferView]:
    """Return every movement as the database shows it to whoever reads it without this program."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, n, at_ms, kind, asset, debit, credit, amount FROM exchange_movement ORDER BY seq, n"
        )
        return [queries.TransferView(*row) for row in cursor.fetchall()]


def test_movements_explain_every_balance_and_position() -> None:
    with running_market() as market:
        for price in ("0.1000", "0.2000", "0.3000", "0.5000"):  # the last one above the top-up price: no margin
            market.place(market.alice, SELL, price, 300)
            market.place(market.bob, BUY, price, 200)
            market.place(market.charlie, BUY, "0.9000", 50)
        positions = {account: queries.positions(account) for account in (market.alice, market.bob, market.charlie)}
    assert {move.kind for move in movements()} == {"fund", "trade", "energy", "margin"}
    sums: dict[tuple[str, int], int] = {}
    for move in movements():
        sums[move.asset, move.debit] = sums.get((move.asset, move.debit), 0) - move.amount
        sums[move.asset, move.credit] = sums.get((move.asset, move.credit), 0) + move.amount
    assert {b.account: sums.get(("e7", b.account), 0) for b in queries.balances()} == {
        b.account: b.cash_e7 for b in queries.balances()
    }
    for account, (position,) in positions.items():
        assert sums[f"wh:{position.contract}", account] == position.position_wh != 0


def test_statements_lead_to_every_movement_of_an_account() -> None:
    with running_market() as market:
        market.place(market.alice, SELL, "0.1000", 300)
        market.place(market.bob, BUY, "0.2000", 200)
        market.place(market.charlie, SELL, "0.1500", 100)
        market.place(market.alice, BUY, "0.3000", 100, contract=market.contract(2))
    everything = movements()
    pool = models.Contract.objects.get(name=market.contract()).account
    for account in (market.alice, market.bob, market.charlie, pool, 0):
        mine = sorted((t for t in everything if account in (t.debit, t.credit)), reverse=True)
        assert queries.transfers(account=account) == mine
        assert queries.transfers(account=account, newest_first=False, limit=2) == mine[::-1][:2]
        assert queries.transfers(account=account, money_only=True) == [t for t in mine if t.asset == "e7"]
        if mine:
            middle = mine[len(mine) // 2].seq
            assert queries.transfers(account=account, before=middle) == [t for t in mine if t.seq < middle]
            assert queries.transfers(account=account, after=middle) == [t for t in mine if t.seq > middle]
