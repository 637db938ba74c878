"""The demo's neighbourhood lives on a clock that is stepped by hand: it trades, is metered and settled, and adds up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.utils import timezone

from ledger import queries as ledger_queries
from market.engine.contracts import contract_name
from market.engine.engine import Engine
from market.engine.replay import replay
from market.exchange import gateway
from market.exchange import operations as exchange_operations
from market.exchange.exchange import Exchange
from market.exchange.models import Order, Refusal, Trade
from market.exchange.outcomes import Overloaded
from market.households import operations as household_operations
from market.households.models import Account, Home, User
from market.metering import queries as metering_queries
from market.metering.models import Reading
from market.metering.operations import ReadingIn, record_own
from market.settlement import queries as settlement_queries
from market.simulator.clock import SteppedClock, at_local
from market.simulator.demo import PERSONS_HOME, Demo, demo_clock, last_market_ms
from market.simulator.life import Life

pytestmark = pytest.mark.django_db(transaction=True)

INTERVAL_MS = 15 * 60_000
STEP_MS = 45_000  # three seconds of the demo's real time
OPENING_MS = at_local(date(2026, 6, 3), "Europe/Berlin")  # a Wednesday at 10:00: the sun is up


class Stepped:
    """A demo whose time a test moves."""

    def __init__(self, exchange: Exchange, clock: SteppedClock):
        self.exchange = exchange
        self.clock = clock
        self.demo = Demo(clock.now_ms)
        self.life: Life = self.demo.prepare(exchange)

    def run(self, intervals: float) -> None:
        """Let market time pass."""
        end_ms = self.clock.now_ms() + int(intervals * INTERVAL_MS)
        while self.clock.now_ms() < end_ms:
            self.catch_up()
            self.demo.step(self.clock.now_ms())
            self.clock.set(self.clock.now_ms() + STEP_MS)

    def catch_up(self) -> None:
        """Wait until the market's own timetable has followed the clock."""
        deadline_s = time.monotonic() + 10
        while self.exchange.read(lambda engine: engine.schedule(self.clock.now_ms())):
            assert time.monotonic() < deadline_s, "gates do not close"
            time.sleep(0.001)

    def states(self) -> dict[str, str]:
        return self.exchange.read(lambda engine: {name: found.state for name, found in engine.contracts.items()})


@contextlib.contextmanager
def stepped(tmp_path: Path, clock: SteppedClock | None = None) -> Iterator[Stepped]:
    clock = clock or SteppedClock(OPENING_MS)
    # No seals by the machine's clock: two runs must have the same entries.
    exchange = Exchange(clock.now_ms, published_file=tmp_path / "published", seal_every_s=3_600)
    exchange.start()
    gateway.connect(exchange)
    try:
        yield Stepped(exchange, clock)
    finally:
        gateway.disconnect()
        exchange.stop()


def test_the_neighbourhood_trades_is_settled_and_adds_up(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        assert Home.objects.count() == Account.objects.count() == 108
        assert sum(state == "open" for state in market.states().values()) == 144
        opened = market.exchange.read(lambda engine: sum(a.cash_e7 for a in engine.accounts if a.kind == "member"))
        market.run(1.5)
        assert Trade.objects.count() > 100, "alive within 90 seconds"
        market.run(4.5)
        market.catch_up()
        market.life.measure(market.clock.now_ms())
        market.life.settle(market.clock.now_ms())

        end = contract_name(OPENING_MS + 6 * INTERVAL_MS)
        assert "delivered" not in market.states().values()
        assert min(name for name, state in market.states().items()) >= end
        # The interval in which the market opened had begun before and was never a contract.
        assert market.exchange.read(lambda engine: len(engine.settled)) == 5
        assert len(set(Trade.objects.filter(contract__lt=end).values_list("contract", flat=True))) == 5
        assert Reading.objects.count() == 5 * 108
        assert not Reading.objects.exclude(version=0).exists()

        def look(engine: Engine) -> tuple[int, int, int, int]:
            clearing = [a for a in engine.accounts if a.kind == "clearing"]
            settled = {engine.contracts[name].account for name in engine.contracts}
            return (
                sum(account.cash_e7 for account in engine.accounts),
                sum(abs(account.cash_e7) for account in clearing if account.index not in settled),
                min(account.cash_e7 - account.held_e7 for account in engine.accounts if account.kind == "member"),
                sum(account.cash_e7 for account in engine.accounts if account.kind == "member"),
            )

        total, left_in_clearing, poorest, members = market.exchange.read(look)
        assert total == 0
        assert left_in_clearing == 0
        assert poorest >= 0
        assert members != opened, "money has moved"
        # An order that another home of the same batch has filled meanwhile, wholly or beyond what it is amended to.
        assert set(market.life.runner.refused) <= {"unknown_order", "energy_out_of_range"}
        live = market.exchange.read(lambda engine: engine.state_hash())

        again = Engine()
        replay(again, ledger_queries.iter_leaves(), ledger_queries.rows)
        assert again.state_hash() == live


def test_a_person_s_home_is_told_what_to_expect(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        account = Account.objects.get(home__code=PERSONS_HOME).index
        market.life.note_outlook(OPENING_MS)
        found = metering_queries.outlook(account)
        assert found is not None
        assert found.start_ms == OPENING_MS + INTERVAL_MS
        assert len(found.made_wh) == len(found.used_wh) == 96
        assert sum(found.made_wh[:8]) > 8 * sum(found.used_wh[:8]) / 2, "ten o'clock in June, with a roof"
        assert not any(found.made_wh[56:60]), "and nothing at midnight"
        other = Account.objects.exclude(home__code=PERSONS_HOME).first()
        assert other is not None
        assert metering_queries.outlook(other.index) is None
        market.life.note_outlook(OPENING_MS + INTERVAL_MS // 2)
        assert metering_queries.outlook(account) == found, "once an interval"
        market.life.note_outlook(OPENING_MS + INTERVAL_MS)
        assert metering_queries.outlook(account).start_ms == OPENING_MS + 2 * INTERVAL_MS  # type: ignore[union-attr]


def test_the_book_has_a_spread_and_orders_of_many_homes(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        market.run(1)
        far = contract_name(OPENING_MS + 16 * INTERVAL_MS)
        near = contract_name(OPENING_MS + 3 * INTERVAL_MS)
        bid, ask = market.exchange.read(lambda engine: engine.best("LV4.101", far))
        assert None not in (bid, ask)
        assert bid < ask
        assert Trade.objects.filter(contract=near).count() > 10
        assert Order.objects.values("account").distinct().count() > 90
        assert {"gtg", "ioc"} == set(Order.objects.values_list("time_in_force", flat=True))
        prices = list(Trade.objects.values_list("sell_e4", flat=True))
        assert 800 <= min(prices) < max(prices) <= 3_000


def test_the_same_seed_gives_the_same_market(tmp_path: Path) -> None:
    def told() -> list[tuple]:
        fields = ("contract", "at_ms", "buyer", "seller", "energy_wh", "buy_e4", "sell_e4")
        return list(Trade.objects.order_by("id").values_list(*fields))

    runs = []
    for number in range(2):
        with stepped(tmp_path / str(number)) as market:
            market.run(1)
        runs.append(told())
        if number == 0:
            _empty_database()
    assert runs[0] == runs[1]
    assert len(runs[0]) > 50


def _empty_database() -> None:
    call_command("flush", interactive=False, verbosity=0)


def test_a_restart_goes_on(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        market.run(2.5)
        batteries = market.life.meters.batteries()
        charges = {account: market.life.meters.charge_of(account) for account in batteries}
        at_ms = market.clock.now_ms()
        balances = market.exchange.read(lambda engine: [account.cash_e7 for account in engine.accounts])
        trades = Trade.objects.count()
    assert len(batteries) == 10
    assert at_ms - STEP_MS <= last_market_ms() <= at_ms
    assert demo_clock(last_market_ms()).now_ms() - last_market_ms() < 60_000

    with stepped(tmp_path, SteppedClock(at_ms)) as market:
        assert Account.objects.count() == 108
        assert market.exchange.read(lambda engine: [account.cash_e7 for account in engine.accounts]) == balances
        assert charges == {account: market.life.meters.charge_of(account) for account in batteries}
        market.run(2)
        assert Trade.objects.count() > trades
        resting = market.exchange.read(lambda engine: [(o.account, o.contract) for o in engine.orders.values()])
        assert len(resting) == len(set(resting)), "the agents found their old orders: one a home and contract"


def test_a_person_takes_over(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        mia = Account.objects.get(user=User.objects.get(username="mia"))
        assert (mia.home.code, mia.automatic) == (PERSONS_HOME, False)
        market.run(2.4)
        assert not Order.objects.filter(account=mia.index).exists(), "nobody trades behind her back"
        power = metering_queries.power_now(mia.index)
        assert power.used_w > 0
        assert power.produced_w > 0
        assert metering_queries.latest(mia.index).produced_wh > 0, "her meter runs all the same"

        household_operations.set_automatic(account_index=mia.index, automatic=True)
        market.run(1.2)
        assert Order.objects.filter(account=mia.index, side="sell").exists()
        resting = market.exchange.read(lambda engine: engine.accounts[mia.index].open_orders)
        assert resting > 0
        household_operations.set_automatic(account_index=mia.index, automatic=False)
        market.run(0.3)
        assert market.exchange.read(lambda engine: engine.accounts[mia.index].open_orders) == 0


def test_what_a_person_reports_is_not_overwritten(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        mia = Account.objects.get(user__username="mia")
        contract = contract_name(OPENING_MS + INTERVAL_MS)
        market.clock.set(OPENING_MS + 2 * INTERVAL_MS)
        market.catch_up()
        own = ReadingIn(mia.index, 12_345, 0)
        record_own(exchange=market.exchange, account=mia.index, readings={contract: own}, now_ms=market.clock.now_ms())
        market.run(0.5)
        line = settlement_queries.line(mia.index, contract)
        assert (line.row.import_wh, line.row.topup_wh) == (12_345, 12_345)
        assert Reading.objects.filter(account=mia.index).count() == 1
        assert len(metering_queries.answered(contract)["LV4.101"]) == 41


def test_a_new_household_is_metered_too(tmp_path: Path) -> None:
    with stepped(tmp_path) as market:
        market.run(0.5)
        opened = household_operations.open_account(
            market.exchange,
            now=timezone.now(),
            user=household_operations.create_person(username="nora", password=None),
            area="LV1.101",
            address="Lane 1",
            meter_number="N-1",
        )
        market.run(2)
        line = settlement_queries.lines(opened.index)[0]
        assert line.row.topup_wh > 0, "it uses energy it has not bought"
        assert line.row.quality == "measured"


def test_failures_do_not_stop_the_city(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stepped(tmp_path) as market:
        market.run(0.5)
        monkeypatch.setattr(market.life.meters, "read", lambda *args: 1 / 0)
        market.run(2)
        trades = Trade.objects.count()
        assert set(Reading.objects.values_list("quality", flat=True)) == {"estimated"}, "settlement goes on"
        monkeypatch.setattr(market.life.runner, "tick", lambda now_ms: 1 / 0)
        monkeypatch.delattr(market.life.meters, "read")
        market.run(0.6)
        measured = Reading.objects.exclude(quality="estimated").values("start_ms", "account").distinct()
        assert measured.count() == 2 * 108, "what was missed is read later, in place of estimates"
        monkeypatch.delattr(market.life.runner, "tick")
        market.run(1)
        assert Trade.objects.count() > trades


@pytest.mark.parametrize(("scope", "target"), [("market", ""), ("area", "MV1.101"), ("contract", "soon")])
def test_agents_respect_a_halt(tmp_path: Path, scope: str, target: str) -> None:
    with stepped(tmp_path) as market:
        market.run(1)
        target = contract_name(OPENING_MS + 3 * INTERVAL_MS) if target == "soon" else target
        exchange_operations.set_halt(market.exchange, scope=scope, target=target, on=True, reason="test")
        since = market.exchange.status()["seq"]
        market.run(1)
        assert not Refusal.objects.filter(code__endswith="halted").exists(), "nobody knocks at a closed door"
        placed = Order.objects.filter(id__gt=since)
        there = {
            "market": placed,
            "area": placed.filter(area__endswith=".101"),
            "contract": placed.filter(contract=target),
        }
        assert not there[scope].exists()
        exchange_operations.set_halt(market.exchange, scope=scope, target=target, on=False, reason="test")
        market.run(1)
        assert there[scope].all().exists(), "and it goes on"


def test_an_overloaded_exchange_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stepped(tmp_path) as market:
        market.run(0.2)
        tries = []

        def busy(*args, **kwargs):
            tries.append(1)
            raise Overloaded(60)

        with monkeypatch.context() as patched:
            patched.setattr(market.exchange, "submit_many", busy)
            market.run(0.5)
        assert len(tries) == 1, "it backs off instead of asking again at every tick"


def test_the_market_time_zone_is_used() -> None:
    assert django_settings.MARKET_TIME_ZONE == "Europe/Berlin"
    clock = demo_clock(0)
    assert (clock.now_ms() // 60_000) % 60 == 0
