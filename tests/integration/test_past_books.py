"""A book rebuilt from the ledger is the book the engine showed then, at every entry, whatever the replay starts from."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ledger import queries as ledger
from market.config.threaded import THREADS
from market.engine.commands import AmendOrder, CancelOrder, PlaceIceberg, SetHalt
from market.engine.engine import Engine
from market.surveillance import concentration, exports, past, pastbook
from market.surveillance.past import Past
from market.surveillance.pastbook import LEVELS, View, view_of
from market.surveillance.pastviews import Busy, Contradicted, NoSuchEntry, Rebuilding, UnknownArea
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
AREAS = ("CITY", "LV1.1", "LV2.1")
STEPS = 120


class Recorded:
    """A market's run, and what its engine showed after each command."""

    def __init__(self, market: Market):
        self.market = market
        self.contract = market.contract(2)
        self.shown: dict[int, dict[str, View]] = {}  # by the last entry of the command
        rng = random.Random(7)
        open_ids: list[tuple[int, int]] = []
        for step in range(STEPS):
            self._act(rng, open_ids)
            if step == STEPS // 2:
                market.exchange.call(SetHalt("contract", self.contract, 1, "grid_fault", 0, 0))
                self._look()
                market.exchange.call(SetHalt("contract", self.contract, 0, "grid_fault", 0, 0))
            self._look()
        self.size = market.exchange.read(lambda engine: engine.seq)

    def _act(self, rng: random.Random, open_ids: list[tuple[int, int]]) -> None:
        account = rng.choice((self.market.alice, self.market.bob, self.market.charlie))
        side, price = rng.choice(("buy", "sell")), rng.randrange(1_500, 2_600, 100)
        kind = rng.random()
        if kind < 0.15 and open_ids:
            self.market.exchange.call(CancelOrder(*open_ids.pop(rng.randrange(len(open_ids))), "owner"))
            return
        if kind < 0.25 and open_ids:
            self.market.exchange.call(AmendOrder(*rng.choice(open_ids), price, 700))
            return
        if kind < 0.4:
            order = PlaceIceberg(account, self.contract, side, price, 900, "gtg", 0, 300)
            outcome = self.market.exchange.call(order)
        else:
            outcome = self.market.place(
                account, side, f"0.{price:04d}", rng.randrange(100, 2_000, 50), contract=self.contract
            )
        if outcome.events:
            open_ids.append((account, outcome.events[0].seq))

    def _look(self) -> None:
        def look(engine: Engine) -> None:
            self.shown[engine.seq - 1] = {area: view_of(engine, self.contract, area) for area in AREAS}

        self.market.exchange.read(look)


@pytest.fixture
def run() -> Iterator[Recorded]:
    with running_market() as market:
        yield Recorded(market)


def levels(side: Any) -> dict[int, tuple[int, int]]:
    return {level.price_e4: (level.energy_wh, level.fee_e4) for level in side if level.energy_wh}


def check(rebuilt: Past, run: Recorded, seqs: list[int]) -> None:
    for seq in seqs:
        for area in AREAS:
            moment = rebuilt.book(contract=run.contract, area=area, seq=seq)
            shown = run.shown[seq][area]
            assert (moment.seq, moment.last, moment.at_ms, moment.state) == (seq, seq, shown.at_ms, shown.state)
            assert moment.halted is shown.halted
            assert (levels(moment.bids), levels(moment.asks)) == (dict(shown.bids), dict(shown.asks))
            resting = {order.id: order.left_wh for order in moment.orders if order.left_wh}
            assert resting == {order.id: order.left_wh for order in shown.orders.values()}


def test_every_book_is_what_was_shown_forwards_backwards_and_anywhere(run: Recorded) -> None:
    seqs = sorted(run.shown)
    assert any(run.shown[seq]["LV2.1"].bids and run.shown[seq]["LV2.1"].asks for seq in seqs)
    check(Past(), run, seqs)
    check(Past(step=10), run, seqs[::-1][::3])
    anywhere = Past(step=7)
    check(anywhere, run, random.Random(3).sample(seqs, 30))


def test_what_an_entry_changed_is_marked(run: Recorded) -> None:
    market, contract = run.market, market_contract(run)
    sell = market.place(market.alice, "sell", "0.1700", 1_000, contract=contract).events[0].seq
    buy, trade = (event.seq for event in market.place(market.bob, "buy", "0.1700", 400, contract=contract).events)
    rebuilt = Past()
    placed = rebuilt.book(contract=contract, area="LV1.1", seq=sell)
    assert [(one.price_e4, one.energy_wh, one.was_wh, one.mark) for one in placed.asks] == [(1_700, 1_000, 0, "new")]
    for seq in (buy, trade):  # one command: there was no book between its entries
        after = rebuilt.book(contract=contract, area="LV1.1", seq=seq)
        assert (after.first, after.last, [entry["type"] for entry in after.entries]) == (buy, trade, ["order", "trade"])
        assert [(one.price_e4, one.energy_wh, one.was_wh, one.mark) for one in after.asks] == [
            (1_700, 600, 1_000, "less")
        ]
        assert [(one.id, one.account, one.left_wh, one.mark) for one in after.orders] == [
            (sell, market.alice, 600, "less")
        ]
    cancel = market.exchange.call(CancelOrder(market.alice, sell, "owner")).events[0].seq
    gone = rebuilt.book(contract=contract, area="LV1.1", seq=cancel)
    assert [(one.energy_wh, one.was_wh, one.mark) for one in gone.asks] == [(0, 600, "gone")]
    assert [(one.id, one.left_wh, one.mark) for one in gone.orders] == [(sell, 0, "gone")]


def market_contract(run: Recorded) -> str:
    return run.market.contract(4)


def test_what_moves_in_and_out_of_what_is_shown_is_neither_new_nor_gone(
    run: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pastbook, "LEVELS", 3)
    monkeypatch.setattr(pastbook, "ORDERS", 3)
    market, contract, prices = run.market, market_contract(run), (2_000, 2_010, 2_020, 2_030, 2_040)
    for side, offers in (("sell", prices), ("buy", [price - 1_000 for price in prices])):
        for price in offers:
            market.place(market.alice, side, f"0.{price:04d}", 100, contract=contract)
    best = {"asks": 1_900, "bids": 1_100}
    for levels_of, side in (("asks", "sell"), ("bids", "buy")):
        id_ = market.place(market.alice, side, f"0.{best[levels_of]:04d}", 100, contract=contract).events[0].seq
        cancel = market.exchange.call(CancelOrder(market.alice, id_, "owner")).events[0].seq
        for seq, mark, shown, more in ((id_, "new", 3, 5), (cancel, "gone", 4, 4)):
            moment = Past().book(contract=contract, area="LV1.1", seq=seq)
            rows = getattr(moment, levels_of)
            assert [(row.price_e4, row.mark) for row in rows if row.mark] == [(best[levels_of], mark)]
            assert len(rows) == shown
            assert [(one.id, one.mark) for one in moment.orders if one.mark] == [(id_, mark)]
            assert moment.more_orders == more


def test_a_halt_of_the_market_or_of_the_area_is_one_of_the_book(run: Recorded) -> None:
    market = run.market
    for scope, target, stopped in (
        ("market", "", {"LV1.1", "LV2.1"}), ("area", "LV1.1", {"LV1.1"}), ("contract", run.contract, {"LV1.1", "LV2.1"})
    ):  # fmt: skip
        for on in (1, 0):
            seq = market.exchange.call(SetHalt(scope, target, on, "grid_fault", 0, 0)).events[-1].seq
            books = [Past().book(contract=run.contract, area=area, seq=seq) for area in ("LV1.1", "LV2.1")]
            assert {moment.area for moment in books if moment.halted} == (stopped if on else set()), (scope, on)


def test_a_long_command_is_marked_against_the_book_before_all_of_it(run: Recorded) -> None:
    market, contract = run.market, market_contract(run)
    for index in range(12):
        market.place(market.alice, "sell", f"0.{1_700 + index:04d}", 100, contract=contract)
    events = market.place(market.bob, "buy", "0.2000", 1_200, contract=contract).events
    assert len(events) == 13
    after = Past().book(contract=contract, area="LV1.1", seq=events[-1].seq)
    assert (after.first, after.last) == (events[0].seq, events[-1].seq)
    assert [(one.energy_wh, one.was_wh, one.mark) for one in after.asks] == [(0, 100, "gone")] * 12


def test_what_is_far_is_replayed_beside_and_then_near(run: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "NEAR", 20)
    rebuilt = Past(at_once=40)
    seq = sorted(run.shown)[-1]
    with pytest.raises(Rebuilding) as told:
        rebuilt.book(contract=run.contract, area="CITY", seq=seq)
    assert 0 <= told.value.done <= told.value.of == seq - 20
    rebuilt.wait(30)
    check(rebuilt, run, [seq])


def test_what_is_known_of_another_log_is_forgotten(run: Recorded) -> None:
    rebuilt, seq = Past(step=10), sorted(run.shown)[-1]
    check(rebuilt, run, [seq])
    assert rebuilt._kept
    assert rebuilt._answers
    size, root = rebuilt._head or (0, "")
    rebuilt._head = size, root[::-1]  # as after another database was put in the place of this one
    rebuilt._know_log()
    assert not rebuilt._kept
    assert not rebuilt._answers
    check(rebuilt, run, [seq])


def test_a_snapshot_is_where_it_starts(run: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = market_contract(run)
    run.market.place(run.market.alice, "sell", "0.1700", 1_000, contract=contract)
    run.market.exchange.stop()
    from market.exchange.models import Snapshot

    start = Snapshot.objects.latest("seq").seq
    rebuilt = Past(at_once=5)
    moment = rebuilt.book(contract=contract, area="LV1.1", seq=start)
    assert [(one.price_e4, one.energy_wh) for one in moment.asks] == [(1_700, 1_000)]
    Snapshot.objects.filter(seq=start).update(data=b'{"format": 2}')  # not what the ledger committed to: not believed
    assert Past().book(contract=contract, area="LV1.1", seq=start).asks == moment.asks
    # What then has to be replayed from the beginning is not replayed while somebody waits.
    monkeypatch.setattr(past, "NEAR", 5)
    rebuilt = Past(at_once=10)
    with pytest.raises(Rebuilding):
        rebuilt.book(contract=contract, area="LV1.1", seq=start)
    rebuilt.wait(30)
    assert rebuilt.book(contract=contract, area="LV1.1", seq=start).asks == moment.asks


def test_a_ledger_that_does_not_follow_from_the_rules_is_told(run: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = sorted(run.shown)[40]
    genuine = ledger.leaves

    def bent(first: int, limit: int) -> list[bytes]:
        found = genuine(first, limit)
        if first <= bad < first + len(found):
            found[bad - first] = found[bad - first].replace(b'"price_e4":1', b'"price_e4":3').replace(b"owner", b"gate")
            found[bad - first] = found[bad - first].replace(b'"buy_e4":', b'"buy_e4":9')
        return found

    monkeypatch.setattr(ledger, "leaves", bent)
    with pytest.raises(Contradicted) as told:
        Past().book(contract=run.contract, area="CITY", seq=run.size - 1)
    assert told.value.seq <= run.size


def test_what_cannot_be_told(run: Recorded) -> None:
    rebuilt = Past()
    for seq in (-1, run.size + 100):
        with pytest.raises(NoSuchEntry):
            rebuilt.book(contract=run.contract, area="CITY", seq=seq)
    with pytest.raises(UnknownArea):
        rebuilt.book(contract=run.contract, area="nowhere", seq=run.size - 1)
    assert rebuilt.book(contract="2031-01-01T00:00Z", area="CITY", seq=run.size - 1).state == ""
    assert LEVELS >= 10


def test_what_takes_long_here_leaves_threads_for_everybody_else() -> None:
    rooms = (past.PAST._room, exports._room, concentration._room)
    assert sum(room._initial_value for room in rooms) <= THREADS - 2  # type: ignore[attr-defined]


def test_more_than_may_wait_are_turned_away(run: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilt = Past()
    inside, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        inside.set()
        go_on.wait(20)
        raise NoSuchEntry

    monkeypatch.setattr(rebuilt, "_book", slow)
    answers: list[str] = []

    def ask() -> None:
        try:
            rebuilt.book(contract=run.contract, area="CITY", seq=1)
        except NoSuchEntry:
            answers.append("served")
        except Busy:
            answers.append("busy")

    threads = [threading.Thread(target=ask) for _ in range(past.WAITING + 1)]
    for thread in threads:
        thread.start()
    inside.wait(20)
    while rebuilt._room._value:  # type: ignore[attr-defined]
        threading.Event().wait(0.01)
    with pytest.raises(Busy):
        rebuilt.book(contract=run.contract, area="CITY", seq=1)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert answers == ["served"] * (past.WAITING + 1)
