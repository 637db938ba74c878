"""One life of a neighbourhood for ``dirty_week``, from its founding until all is final, on the database that is configured.

The clean life lets the homes trade and their meters answer at once; it notes the orders and what was metered. The others
replay these orders at the same times, and get the values as ``dirty_plan`` has them arrive.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management import call_command

from market.audit.__main__ import main as audit
from market.engine.commands import Command, Fund, PlaceOrder, SettleRow
from market.engine.contracts import contract_name, contract_start_ms
from market.engine.engine import Engine
from market.exchange import gateway, models
from market.exchange.exchange import Exchange
from market.exchange.outcomes import Outcome
from market.households import devices
from market.households import operations as households
from market.households.models import Account
from market.metering import estimation, intake
from market.metering.committing import commit_due
from market.metering.estimation import Past
from market.metering.formats.values import MAX_VALUES
from market.metering.models import Mark, Reading
from market.settlement import estimates, operations, queries, waiting
from market.simulator.cityrun import check_books
from market.simulator.clock import SteppedClock
from market.simulator.founding import GUARD_RAILS, connection_of, found_city, submit_all
from market.simulator.life import Life
from market.simulator.neighbourhood import City
from tests.load.dirty_plan import Arrival, Meter, Result, Script, arrivals

HORIZON_MIN = 60  # of contracts: the next ones; what is not traded would only be opened
MOMENTS = 4  # looks of the agents within an interval
PLENTY_E7 = 10**12  # nobody's order is refused for money that a late reading keeps in clearing
TAIL_STEPS = 12  # looks from the week's end to the last value
MAX_TOLD = 5  # violations of one sort that are told one by one
WAIT_S = 60.0

Estimator = Callable[[Exchange, Life], estimates.Estimator]


class Scenario(NamedTuple):
    """How long and under which rules a neighbourhood lives. ``longest_ms``: how late values may be, well before final."""

    city: City
    intervals: int
    final_after_min: int
    longest_ms: int
    moments: int = MOMENTS


def plain(exchange: Exchange, life: Life) -> estimates.Estimator:
    """Return how the demo estimates."""
    return estimates.estimator(exchange, profile_of=life.meters.typical)


class _Noting(Exchange):
    """An exchange that notes orders and when they came."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.noted: list[tuple[int, list[Command]]] | None = None

    def submit_many(self, commands: Sequence[tuple[Command, str | None]], **how: Any) -> Future[list[Outcome]]:
        if self.noted is not None:
            assert all(type(command) is PlaceOrder for command, _ in commands), "only orders are replayed"
            self.noted.append((self.now_ms(), [command for command, _ in commands]))
        return super().submit_many(commands, **how)


class _Lived:
    """A neighbourhood while it lives."""

    def __init__(self, scenario: Scenario, folder: Path, estimator: Estimator):
        self.scenario = scenario
        self.folder = folder
        self.length_ms = settings.MARKET_INTERVAL_MIN * 60_000
        first = scenario.city.profiles.first.replace(tzinfo=ZoneInfo(settings.MARKET_TIME_ZONE))
        self.first_ms = int(first.timestamp()) * 1000
        self.end_ms = self.first_ms + scenario.intervals * self.length_ms
        self.clock = SteppedClock(self.first_ms - self.length_ms)
        self.exchange = _Noting(self.clock.now_ms, published_file=folder / "published_checkpoint", seal_every_s=2.0)
        self.violations: Counter[str] = Counter()
        self.told: list[str] = []
        self.counts: Counter[str] = Counter()
        self.held: set[tuple[str, str]] = set()
        self._estimator = estimator
        self.look_ms = sys.maxsize  # when the deadline of the last interval passes

    # --- beginning --------------------------------------------------------------------------------------------------
    def found(self) -> list[Meter]:
        """Found the market, its homes and their meters."""
        city, now_ms = self.scenario.city, self.clock.now_ms()
        params = GUARD_RAILS._replace(
            horizon_min=max(HORIZON_MIN, 4 * settings.MARKET_INTERVAL_MIN),
            final_after_min=self.scenario.final_after_min,
        )
        found_city(self.exchange, city, now_ms=now_ms, params=params)
        self.life = Life(self.exchange, city, leads=(1,), in_flight=0)
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        homes = {home.code: home for home in city.homes}
        accounts = list(Account.objects.select_related("home").order_by("index"))
        submit_all(self.exchange, [Fund(account.index, PLENTY_E7, "opening", "") for account in accounts])
        found = []
        for account in accounts:
            account.user = households.create_person(username=f"home{account.index}", password=None)
            account.save(update_fields=["user"])
            assert account.home is not None
            rating_w = max(connection_of(homes[account.home.code], city.profiles))
            devices.register(
                user=account.user, kind="meter", name="meter", rating_w=rating_w, now=now, now_ms=now_ms, once="meter"
            )
            (info,) = devices.of_account(account.index)
            found.append(Meter(account.index, info.device_id))
        self.life.move_in()
        self.devices = devices.by_ids({meter.device for meter in found})
        self.limits = intake.limits_of(self.exchange, {meter.account for meter in found})
        self.estimate = self._estimator(self.exchange, self.life)
        return found

    # --- a step -----------------------------------------------------------------------------------------------------
    def wrong(self, sort: str, text: str) -> None:
        """Note a violation."""
        self.violations[sort] += 1
        if self.violations[sort] <= MAX_TOLD:
            self.told.append(f"{sort}: {text}")

    def go_to(self, now_ms: int) -> None:
        """Set the clock and wait until the market's own timetable has been worked off."""
        self.clock.set(now_ms)
        deadline_s = time.monotonic() + WAIT_S
        while self.exchange.read(lambda engine: bool(engine.schedule(now_ms))):
            assert time.monotonic() < deadline_s, f"gates do not close at {contract_name(now_ms)}"
            time.sleep(0.001)

    def pass_to(self, now_ms: int) -> None:
        """Set the clock, and settle on the way what the deadline of the last interval makes due."""
        if self.look_ms <= now_ms:
            self.go_to(self.look_ms)
            self.look_ms = sys.maxsize
            self.settle()
        self.clock.set(now_ms)

    def send(self, arrived: Sequence[Arrival]) -> None:
        """Take values and put the readings they make on the ledger."""
        now_ms = self.clock.now_ms()
        for at in range(0, len(arrived), MAX_VALUES):
            values = [one.value._replace(received_ms=now_ms) for one in arrived[at : at + MAX_VALUES]]
            taken = intake.take(sent=intake.Sent(values, self.devices), limits=self.limits, now_ms=now_ms)
            self.counts.update(taken.verdicts)
        while commit_due(exchange=self.exchange, now_ms=now_ms).batches:
            pass

    def settle(self) -> None:
        """Settle, correct and end what is due, looking at the money after each call and at who waits."""
        now_ms = self.clock.now_ms()
        while self._done("settled", operations.settle_due(
            exchange=self.exchange, now_ms=now_ms, estimate=self.estimate
        ).areas):  # fmt: skip
            pass
        self._look_who_waits(now_ms)
        while self._done("corrected areas", operations.adjust_due(exchange=self.exchange).areas):
            pass
        self._done("shared", operations.share_due(exchange=self.exchange))
        while self._done("final", operations.finalise_due(exchange=self.exchange, now_ms=now_ms)):
            pass

    def _done(self, what: str, count: int) -> int:
        self.counts[what] += count
        self.counts["sums"] += 1
        total = self.exchange.read(lambda engine: sum(account.net_e7 for account in engine.accounts))
        if total:
            self.wrong("money", f"after what was {what} all balances together are {total} e7, not 0")
        return count

    def _look_who_waits(self, now_ms: int) -> None:
        """An area waits for its own meters, and a short time at most."""
        for name, end_ms, area in self.exchange.read(_unsettled):
            if now_ms >= end_ms + waiting.DEADLINE_MS:
                self.wrong(
                    "waiting", f"{area} in {name} is not settled {(now_ms - end_ms) // 60_000} min after delivery"
                )
            else:
                self.held.add((name, area))

    # --- the end ----------------------------------------------------------------------------------------------------
    def check_estimates(self) -> Counter[str]:
        """Hold every estimate against what was final on the ledger when it was made; return what they were made of."""
        final = {contract_start_ms(name): seq for name, seq in models.Final.objects.values_list("contract", "seq")}
        known: dict[int, dict[int, Past]] = {}
        made = []
        fields = ("start_ms", "account", "import_wh", "export_wh", "quality", "reason", "seq")
        for start_ms, account, taken, given, quality, reason, seq in (
            Reading.objects.order_by("version").values_list(*fields).iterator()
        ):
            days = known.setdefault(account, {})
            days.pop(start_ms, None)
            if quality != "estimated":
                days[start_ms] = Past(taken, given)
            elif reason:
                made.append((start_ms, account, taken, given, reason, seq))
        window_ms = self.exchange.read(estimates.final_after_ms)
        bases: Counter[str] = Counter()
        for start_ms, account, taken, given, reason, seq in made:
            bases[reason] += 1
            history = {at: past for at, past in known[account].items() if 0 < final.get(at, 0) < seq}
            wanted = estimation.estimate(
                start_ms=start_ms, history=history, profile=self.life.meters.typical(account, start_ms),
                final_after_ms=window_ms,
            )  # fmt: skip
            if wanted is None or wanted[:3] != (taken, given, reason):
                self.wrong(
                    "estimates",
                    f"account {account} in {contract_name(start_ms)} is estimated at {taken}/{given} Wh ({reason}); what was "
                    f"final then says {wanted}",
                )
        return bases

    def check_waits(self) -> None:
        """Look at every value of every home: how long it took from its own arrival until the home was settled by it.

        Arrival is that of the value alone, the end of the interval at the earliest; ``waiting.DEADLINE_MS`` bounds it, whatever
        the meters of other homes did. A value that another one replaced before is settled with that one.
        """
        rows: dict[tuple[str, int], list[tuple[int, int, tuple[int, int, str]]]] = {}
        for model in (models.SettlementLine, models.Adjustment):
            fields = ("contract", "account", "seq", "at_ms", "import_wh", "export_wh", "quality")
            for contract, account, seq, at_ms, *said in model.objects.order_by("seq").values_list(*fields).iterator():
                rows.setdefault((contract, account), []).append((seq, at_ms, tuple(said)))
        values: dict[tuple[int, int], list[tuple[int, int, tuple[int, int, str]]]] = {}
        fields = ("start_ms", "account", "seq", "received_ms", "import_wh", "export_wh", "quality")
        for start_ms, account, seq, at_ms, taken, given, quality in (
            Reading.objects.filter(start_ms__lt=self.end_ms).order_by("version").values_list(*fields).iterator()
        ):
            said = taken, given, "estimated" if quality == "estimated" else "measured"
            values.setdefault((start_ms, account), []).append((seq, at_ms, said))
        for (start_ms, account), some in values.items():
            end_ms = start_ms + self.length_ms
            settled = rows.get((contract_name(start_ms), account), [])
            for n, (seq, arrived_ms, said) in enumerate(some):
                if said[2] == "estimated":
                    continue
                replaced = some[n + 1][0] if n + 1 < len(some) else sys.maxsize
                standing = next((row for row in reversed(settled) if row[0] < seq), None)
                if standing is not None and standing[2] == said:
                    continue  # it says what the home is settled by already
                after = next((row for row in settled if seq < row[0] < replaced), None)
                if after is None and replaced < sys.maxsize:
                    continue
                arrived_ms = max(arrived_ms, end_ms)
                waited_ms = sys.maxsize if after is None or after[2] != said else after[1] - arrived_ms
                self.counts["values settled at once"] += waited_ms == 0
                self.counts["values settled later"] += waited_ms > 0
                self.counts["longest wait"] = max(self.counts["longest wait"], waited_ms)
                if waited_ms > waiting.DEADLINE_MS:
                    self.wrong(
                        "home",
                        f"account {account} in {contract_name(start_ms)}: its value arrived {(arrived_ms - end_ms) // 60_000} "
                        "min after delivery and it was "
                        + (
                            "never settled by it"
                            if waited_ms == sys.maxsize
                            else f"settled {waited_ms // 60_000} min later"
                        ),
                    )

    def audit(self) -> None:
        """Export the ledger and audit it as anybody would, and compare the books with it."""
        log = self.folder / "log"
        call_command("export_ledger", str(log), stdout=io.StringIO())
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = audit([str(log), "--jobs", "1"])
        if code:
            self.wrong("audit", f"exit code {code}: {out.getvalue()[-500:]}")
        call_command("check_books", stdout=io.StringIO())


def _unsettled(engine: Engine) -> list[tuple[str, int, str]]:
    """Return (contract, end, area) of areas that were delivered and are not settled; runs inside ``Exchange.read``."""
    return [
        (contract.name, contract.end_ms, area)
        for contract in engine.contracts.values()
        if contract.state == "delivered"
        for area in contract.areas_due - contract.settled_areas
    ]


def live(
    scenario: Scenario,
    *,
    folder: Path,
    script: Script | None = None,
    arriving: Callable[[list[Meter], Script], list[Arrival]] | None = None,
    estimator: Estimator = plain,
) -> Result:
    """Let a neighbourhood live on an empty database: the clean life, or (``script`` and ``arriving``) one that replays it.

    ``folder`` takes the published checkpoint and the exported log.
    """
    began_s = time.monotonic()
    one = _Lived(scenario, folder, estimator)
    one.exchange.start()
    gateway.connect(one.exchange)
    try:
        meters = one.found()
        noted = Script([], {}) if script is None else script
        to_come = [] if script is None or arriving is None else arriving(meters, script)
        _week(one, noted, to_come, meters, clean=script is None)
        _tail(one, to_come)
        bases = one.check_estimates()
        one.check_waits()
        check_books(one.exchange, until=contract_name(one.end_ms))
        net_e7 = one.exchange.read(lambda engine: [account.net_e7 for account in engine.accounts])
    finally:
        gateway.disconnect()
        one.exchange.stop()
    one.audit()
    rows = _rows(one)
    statements = _statements(one, meters)
    fields = ("contract", "buyer", "seller", "energy_wh", "buy_e4", "sell_e4")
    trades = list(models.Trade.objects.order_by("id").values_list(*fields))
    one.counts["held"] = len(one.held)
    told = [*one.told, *(f"{sort}: {count} in all" for sort, count in one.violations.items() if count > MAX_TOLD)]
    return Result(
        noted, rows, statements, net_e7, trades, bases, dict(one.counts), time.monotonic() - began_s, told
    )  # fmt: skip


def _week(one: _Lived, script: Script, to_come: list[Arrival], meters: list[Meter], *, clean: bool) -> None:
    orders = iter(script.orders)
    coming = next(orders, None) if not clean else None
    devices_of = {meter.account: meter.device for meter in meters}
    for step in range(one.scenario.intervals + 2):
        now_ms = one.first_ms + (step - 1) * one.length_ms
        one.go_to(now_ms)
        start_ms = now_ms - one.length_ms
        if clean and start_ms >= one.first_ms:
            to_come += _measured(one, script, start_ms, devices_of)
        one.send(_due(to_come, now_ms))
        one.settle()
        one.look_ms = now_ms + waiting.DEADLINE_MS
        if step >= one.scenario.intervals:
            one.pass_to(now_ms + one.length_ms - 1)
            continue  # what is delivered after the week is not traded
        if clean:
            one.exchange.noted = script.orders
            for moment in range(1, one.scenario.moments + 1):
                one.pass_to(now_ms + one.length_ms * moment // (one.scenario.moments + 1))
                while one.life.trade(one.clock.now_ms()):
                    pass
            one.life.runner.finish()
            one.exchange.noted = None
        while coming is not None and coming[0] < now_ms + one.length_ms:
            one.pass_to(coming[0])
            one.exchange.submit_many([(command, None) for command in coming[1]]).result(WAIT_S)
            coming = next(orders, None)
        one.pass_to(now_ms + one.length_ms - 1)
    assert coming is None, "all orders were replayed"


def _measured(one: _Lived, script: Script, start_ms: int, devices_of: dict[int, str]) -> list[Arrival]:
    """Return what the meters say of a delivered interval, and note it."""
    read = one.life.meters.read(contract_name(start_ms), start_ms, one.exchange.read)
    found = {
        (start_ms, reading.account): (reading.import_wh, reading.export_wh)
        for some in read.values()
        for reading in some
    }
    script.truth.update(found)
    meters = [Meter(account, device) for account, device in devices_of.items()]
    return arrivals(found, {}, meters, length_ms=one.length_ms, longest_ms=one.length_ms, order=0)


def _due(to_come: list[Arrival], now_ms: int) -> list[Arrival]:
    """Take away and return what has arrived by now; ``to_come`` is in the order of arrival."""
    count = 0
    while count < len(to_come) and to_come[count].due_ms <= now_ms:
        count += 1
    arrived, to_come[:] = to_come[:count], to_come[count:]
    return arrived


def _tail(one: _Lived, to_come: list[Arrival]) -> None:
    """Let the last values arrive and everything become final."""
    now_ms = one.clock.now_ms()
    until_ms = one.end_ms + max(one.scenario.longest_ms, waiting.DEADLINE_MS) + one.length_ms
    for step in range(1, TAIL_STEPS + 1):
        one.go_to(now_ms + (until_ms - now_ms) * step // TAIL_STEPS)
        one.send(_due(to_come, one.clock.now_ms()))
        one.settle()
    assert not to_come, "everything has arrived"
    final_ms = one.end_ms + one.scenario.final_after_min * 60_000 + operations.FINAL_GRACE_MS
    one.go_to(max(final_ms, until_ms) + 60_000)
    one.settle()
    names = {contract_name(one.first_ms + at * one.length_ms) for at in range(one.scenario.intervals)}
    final = set(models.Final.objects.values_list("contract", flat=True))
    if open_ := sorted(names - final):
        one.wrong("final", f"{len(open_)} intervals are not final in the end, {open_[0]} first")
    if Mark.objects.filter(start_ms__lt=one.end_ms).exists():
        one.wrong("final", "readings were not looked at")


def _rows(one: _Lived) -> dict[tuple[str, int], SettleRow]:
    """Return the newest settlement row of each account and contract of the week."""
    found = {}
    names = contract_name(one.first_ms), contract_name(one.end_ms)
    for model in (models.SettlementLine, models.Adjustment):
        rows = model.objects.filter(contract__gte=names[0], contract__lt=names[1]).order_by("seq")
        for contract, *row in rows.values_list("contract", *SettleRow._fields).iterator():
            found[contract, row[0]] = SettleRow(*row)
    return found


def _statements(one: _Lived, meters: Sequence[Meter]) -> dict[tuple[int, str], tuple[int, ...]]:
    day_ms = estimation.DAY_MS
    found = {}
    for start_ms in range(one.first_ms - one.first_ms % day_ms, one.end_ms, day_ms):
        low, high = max(start_ms, one.first_ms), min(start_ms + day_ms, one.end_ms)
        for meter in meters:
            found[meter.account, contract_name(start_ms)[:10]] = tuple(
                queries.result(meter.account, start_ms=low, end_ms=high)
            )
    return found
