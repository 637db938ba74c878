"""Complex orders, sleeping orders, recalls and alerts: in their rows, after a restart, and in the books."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger import queries as ledger_queries
from market.engine import commands as c
from market.engine import events as ev
from market.engine.commands import BUY, SELL
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.exchange import models, operations, queries, rebuild, recording
from market.exchange.outcomes import Committed, RecoveryFailed
from tests.factories import Market, running_exchange, running_market
from tests.integration.test_exchange_orders import movements
from tests.integration.test_exchange_recovery import crash, state

pytestmark = pytest.mark.django_db(transaction=True)


def everything(market: Market) -> list[c.Command]:
    """Return commands that make one of each kind of event there is about orders."""
    one, two, three = (market.contract(ahead) for ahead in (1, 2, 3))
    alice, bob, charlie = market.alice, market.bob, market.charlie
    return [
        c.PlaceIceberg(alice, one, SELL, 1_500, 1_000, "gtg", 0, 100),
        c.PlaceOrder(alice, two, SELL, 1_800, 400, "gtg", 0),
        c.PlaceSweep(bob, one, three, BUY, 3_000, 700),
        c.PlaceBlock(charlie, one, two, BUY, 3_000, 200, "gtg", 0),
        c.PlaceOrder(alice, two, SELL, 1_900, 500, "gtg", 0),
        c.PlaceBlock(charlie, two, three, BUY, 100, 50, "gtd", market.clock() + 3_600_000),
        c.PlaceOrder(bob, three, BUY, 3_000, 300, "gtg", 0),
        c.PlaceBasket(alice, (c.Leg(alice, three, SELL, 1_000, 100), c.Leg(alice, three, SELL, 1_000, 50))),
        c.PlaceOrder(bob, three, BUY, 500, 300, "gtg", 0),
    ]


def lived(market: Market) -> list[Any]:
    """Let a market have one of each kind of event about orders, halts and connections; return the outcomes."""
    call = market.exchange.call
    done = [call(command, key=f"k{n}") for n, command in enumerate(everything(market))]
    asleep = done[-1].events[0].seq
    trade = next(event for outcome in done for event in outcome.events if type(event) is ev.Traded)
    more: list[c.Command] = [
        c.HibernateOrder(market.bob, asleep),
        c.RecallTrade(trade.seq, "error", "c1" * 32),
        c.ReactivateOrder(market.bob, asleep),
        c.SetConnection(market.bob, "", 50_000, 0, "request", "c2" * 32),
        c.SetHalt("contract", market.contract(4), 1, "drill", market.clock() + 60_000, 1),
        c.SetHalt("contract", market.contract(4), 0, "drill"),
        c.SetParams(
            10_000,
            1,
            100_000,
            1_000,
            120,
            0,
            1_000,
            collar_e4=500,
            collar_period_s=9,
            collar_halt_s=9,
            final_after_min=20_160,
            sharing_scope=3,
        ),
    ]
    done += [call(command, key=f"m{n}") for n, command in enumerate(more)]
    assert [outcome.refused for outcome in done] == [None] * len(done)
    return done


def test_every_event_can_be_read_back() -> None:
    heard: list[Committed] = []
    with running_market() as market:
        market.exchange.listen(heard.append)
        first = market.exchange.status()["seq"]
        lived(market)
        market.clock.advance(minutes=61)  # the block expires, gates close
        market.exchange.call(c.Fund(market.alice, 1, "deposit", ""))
    events = [event for committed in heard for event in committed.events]
    kinds = {type(event) for event in events}
    assert {
        ev.ComplexOrderPlaced, ev.OrderHibernated, ev.OrderReactivated, ev.TradeRecalled, ev.ConnectionSet, ev.HaltSet,
        ev.ParamsSet, ev.Traded, ev.OrderCancelled,
    } <= kinds  # fmt: skip
    assert {e.kind for e in events if type(e) is ev.ComplexOrderPlaced} == {"iceberg", "sweep", "block", "basket"}
    assert list(rebuild.events_between(first, len(events))) == events
    for event in events:
        stored = ledger_queries.entry(event.seq)
        assert {**to_leaf(event), **stored} == stored


def test_keys_are_answered_the_same_after_a_restart(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        done = lived(market)
        last = state(market.exchange)
        crash(market.exchange)
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert state(exchange) == last, "the replay gives the same"
        for n, (command, before) in enumerate(zip(everything(market), done, strict=False)):
            again = exchange.call(command, key=f"k{n}")
            assert again.repeated and again.events == before.events, command
        basket = everything(market)[7]
        leg = basket.legs[1]._replace(price_e4=1_100)
        other = exchange.call(basket._replace(legs=(basket.legs[0], leg)), key="k7")
        assert other.conflict == "legs[1].price"
        block = everything(market)[3]
        assert exchange.call(block._replace(last=market.contract(3)), key="k3").conflict == "last"


def test_movements_and_positions_know_recalls() -> None:
    with running_market() as market:
        for price in ("0.1000", "0.5000"):  # the second one above the top-up price: no margin
            market.place(market.alice, SELL, price, 300)
            trade = market.place(market.charlie, BUY, "0.9000", 300).events[-1]
            if price == "0.5000":
                kept = trade
            outcome = operations.recall_trade(market.exchange, trade=trade.seq, reason="error")
            assert outcome.refused is None
        assert queries.positions(market.alice) == [] == queries.positions(market.charlie)
        assert queries.trade_totals() == (0, 0, outcome.events[0].seq)
        assert queries.traded([trade.contract]) == {}
        assert queries.counts()["energy_wh"] == 0
        row = queries.trades(contract=trade.contract)[-1]
        assert (row.seq, row.recalled_seq) == (kept.seq, outcome.events[0].seq)
        sealed = market.exchange.status()["height"]
    assert sealed >= 0
    sums: dict[tuple[str, int], int] = {}
    for move in movements():
        sums[move.asset, move.debit] = sums.get((move.asset, move.debit), 0) - move.amount
        sums[move.asset, move.credit] = sums.get((move.asset, move.credit), 0) + move.amount
    assert {b.account: sums.get(("e7", b.account), 0) for b in queries.balances()} == {
        b.account: b.cash_e7 for b in queries.balances()
    }
    assert {value for (asset, _), value in sums.items() if asset.startswith("wh:")} == {0}
    for account in (market.alice, market.charlie):
        mine = sorted((t for t in movements() if account in (t.debit, t.credit)), reverse=True)
        assert queries.transfers(account=account) == mine
    moves = {(t.n, t.kind, t.asset[:2]) for t in queries.transfers(seq=outcome.events[0].seq)}
    assert moves == {(0, "recall", "e7"), (1, "recall", "wh")}


def test_totals_add_up_whenever_they_are_asked() -> None:
    """A page keeps the sums and adds what is new: a recall of a trade it has counted takes that away again."""
    with running_market() as market:
        count = energy_wh = 0
        last = -1
        trades = []
        for step in range(6):
            market.place(market.alice, SELL, "0.1000", 100)
            trades.append(market.place(market.bob, BUY, "0.2000", 100).events[-1].seq)
            if step % 2:
                operations.recall_trade(market.exchange, trade=trades[step - 1], reason="error")
            if step % 3 == 2:
                more, more_wh, last = queries.trade_totals(after=last)
                count, energy_wh = count + more, energy_wh + more_wh
        assert (count, energy_wh) == (3, 300) == queries.trade_totals()[:2]


def test_money_that_the_books_do_not_explain_stops_the_market(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "of_recall", lambda event, clearing: [])
    with running_market() as market:
        market.place(market.alice, SELL, "0.1000", 300)
        trade = market.place(market.bob, BUY, "0.2000", 300).events[-1].seq
        with pytest.raises(Exception, match="expected"):
            operations.recall_trade(market.exchange, trade=trade, reason="error")


# --- alerts ----------------------------------------------------------------------------------------------------------
def cut(exchange: Any, export_w: int, area: str = "LV1.1") -> Any:
    return operations.set_capacity(exchange, area=area, import_w=100_000, export_w=export_w, reason="fault")


def test_an_alert_is_written_with_its_entry_and_never_again(tmp_path: Path) -> None:
    heard: list[Committed] = []
    with running_market(folder=tmp_path) as market:
        market.exchange.listen(heard.append)
        for ahead in (1, 2):
            market.place(market.alice, SELL, "0.1000", 1_000, contract=market.contract(ahead))
            market.place(market.charlie, BUY, "0.3000", 1_000, contract=market.contract(ahead))
        cut(market.exchange, 4_000)
        assert queries.alerts() == []
        seq = cut(market.exchange, 3_996).events[0].seq
        (alert,) = queries.alerts()
        assert (alert.seq, alert.kind, alert.area, alert.contract) == (seq, "capacity", "LV1.1", "")
        assert orjson.loads(alert.detail) == {
            "reason": "fault",
            "contracts": [
                {"area": "LV1.1", "contract": market.contract(ahead), "direction": "export", "flow_wh": 1_000,
                 "capacity_wh": 999, "over_wh": 1}
                for ahead in (1, 2)
            ],
        }  # fmt: skip
        told = [told for committed in heard for told in committed.alerts]
        crash(market.exchange)
    assert told == [alert]
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert queries.alerts() == [alert], "found again, and not raised twice"
        cut(exchange, 100_000)
        assert queries.alerts() == [alert], "an edge that opens alarms nobody"
        market.clock.advance(minutes=31)
        exchange.call(c.Fund(market.alice, 1, "deposit", ""))
        cut(exchange, 0)
        newest = queries.alerts()[0]
        assert newest.seq > alert.seq
        states = exchange.read(lambda engine: {name: row.state for name, row in engine.contracts.items()})
        over = [row["contract"] for row in orjson.loads(newest.detail)["contracts"]]
        assert [states[name] for name in over] == ["closed"], "what was delivered alarms nobody"


def test_what_netting_gives_back_is_no_overload() -> None:
    with running_market() as market:
        contract = market.contract()
        market.place(market.alice, SELL, "0.1000", 1_000)
        market.place(market.charlie, BUY, "0.3000", 1_000)
        market.place(market.charlie, SELL, "0.1000", 600)
        market.place(market.bob, BUY, "0.3000", 600)
        flow = market.exchange.read(lambda engine: engine.flows(contract)["LV1.1"])
        assert (flow.export_wh, flow.import_wh) == (1_000, 600)
        cut(market.exchange, 1_600)  # 400 Wh and the 600 that come back
        assert queries.alerts() == []
        cut(market.exchange, 1_596)
        assert len(queries.alerts()) == 1


def test_two_cuts_at_once_are_one_alert() -> None:
    with running_market() as market:
        market.place(market.alice, SELL, "0.1000", 1_000)
        market.place(market.charlie, BUY, "0.3000", 1_000)
        cuts = [(c.SetCapacity("LV1.1", 0, watts, "fault"), None) for watts in (3_000, 2_000)]
        last = market.exchange.submit_many(cuts).result(10)[-1].events[0].seq
        assert [alert.seq for alert in queries.alerts()] == [last]


def crossed(market: Market) -> tuple[int, int]:
    """Let 1,000 Wh leave LV1.1 for LV2.1 and 600 Wh come back, over edges that carry 500 Wh; return the trades."""
    market.place(market.charlie, SELL, "0.1000", 600)
    back = market.place(market.bob, BUY, "0.3000", 600).events[-1].seq
    market.place(market.alice, SELL, "0.1000", 1_000)
    there = market.place(market.charlie, BUY, "0.3000", 1_000).events[-1].seq
    for area in ("LV1.1", "LV2.1"):
        operations.set_capacity(market.exchange, area=area, import_w=2_000, export_w=2_000, reason="planning")
    assert queries.alerts() == []
    return there, back


def test_a_recall_that_leaves_edges_overloaded_raises_one_alert() -> None:
    with running_market() as market:
        contract = market.contract()
        there, back = crossed(market)
        seq = operations.recall_trade(market.exchange, trade=back, reason="error").events[0].seq
        (alert,) = queries.alerts()
        assert (alert.seq, alert.kind, alert.area, alert.contract) == (seq, "capacity", "", "")
        detail = orjson.loads(alert.detail)
        assert detail["reason"] == "recall"
        over = {(row["area"], row["direction"]): row for row in detail["contracts"]}
        assert set(over) == {("LV1.1", "export"), ("LV2.1", "import")}
        assert {row["contract"] for row in over.values()} == {contract}
        assert over["LV1.1", "export"] | {"area": "", "direction": ""} == {
            "area": "", "contract": contract, "direction": "", "flow_wh": 1_000, "capacity_wh": 500, "over_wh": 500,
        }  # fmt: skip
        residual = market.exchange.read(lambda engine: engine.flows(contract)["LV1.1"].export_residual_wh)
        assert residual == -500
        operations.recall_trade(market.exchange, trade=there, reason="error")
        assert queries.alerts() == [alert], "that relieved the edges"


def test_two_recalls_at_once_tell_of_an_edge_once() -> None:
    with running_market() as market:
        market.place(market.charlie, SELL, "0.1000", 300)
        first = market.place(market.bob, BUY, "0.3000", 300).events[-1].seq
        _, second = crossed(market)
        recalls = [(c.RecallTrade(trade, "error"), None) for trade in (first, second)]
        last = market.exchange.submit_many(recalls).result(10)[-1].events[0].seq
        assert [alert.seq for alert in queries.alerts()] == [last]


def test_netting_that_gives_back_less_raises_one_alert() -> None:
    with running_market() as market:
        crossed(market)
        params = market.exchange.read(lambda engine: engine.params)

        def netting(permille: int) -> int:
            values = params._replace(netting_permille=permille)
            return market.exchange.call(c.SetParams(*values)).events[0].seq

        netting(900)
        assert queries.alerts() == [], "540 Wh come back, the edges carry 500 Wh more"
        seq = netting(500)
        (alert,) = queries.alerts()
        assert (alert.seq, alert.kind, alert.area) == (seq, "capacity", "")
        detail = orjson.loads(alert.detail)
        over = {(row["area"], row["direction"], row["over_wh"]) for row in detail["contracts"]}
        assert (detail["reason"], over) == ("netting", {("LV1.1", "export", 200), ("LV2.1", "import", 200)})
        netting(500)
        netting(600)
        assert queries.alerts() == [alert], "no less than before"


# --- snapshots of another version --------------------------------------------------------------------------------------
def test_a_snapshot_of_another_version_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dump = Engine.dump
    with running_market(folder=tmp_path) as market:
        lived(market)
        monkeypatch.setattr(Engine, "dump", lambda engine: orjson.dumps({"format": 0}))
    monkeypatch.setattr(Engine, "dump", dump)
    assert models.Snapshot.objects.count() == 1
    with running_exchange(market.clock, folder=tmp_path) as (exchange, _):
        assert exchange.read(lambda engine: engine.seq) == ledger_queries.size()
        assert Market(exchange, market.clock).place(market.alice, SELL).events
    assert "trying an older one" in caplog.text and "format" in caplog.text


def test_a_snapshot_that_the_ledger_does_not_confirm_is_no_way_round(tmp_path: Path) -> None:
    with running_market(folder=tmp_path) as market:
        lived(market)
    models.OrderDetail.objects.all().delete()
    models.Snapshot.objects.update(sha256="00" * 32)
    models.Balance.objects.filter(account=market.alice).update(held_e7=1)
    with pytest.raises(RecoveryFailed, match="cash, held, arrears"), running_exchange(market.clock, folder=tmp_path):
        pass
