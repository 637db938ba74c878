"""Dirty data in any order: what is missing, late, doubled, corrected or absurd leaves the same readings however it came in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from market.engine.contracts import contract_start_ms
from market.households import devices, operations
from market.metering import intake, queries
from market.metering.committing import commit_due
from market.metering.estimation import DAY_MS, Past, estimate
from market.metering.formats.values import Value
from market.metering.models import Batch, DeviceValue, Reading
from market.metering.operations import ReadingIn, record_readings
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
MINUTE_MS = 60_000
QUARTER_MS = 15 * MINUTE_MS
CONTRACTS = 8


@pytest.fixture
def market() -> Iterator[Market]:
    with running_market(seal_every_s=3_600, cast=False) as running:
        yield running


def home(market: Market, name: str) -> tuple[devices.DeviceInfo, devices.DeviceInfo]:
    """Return the meter and the inverter of a new home."""
    user = operations.create_person(username=name, password=None)
    operations.open_account(market.exchange, now=NOW, user=user, area="LV1.1")
    made = [
        devices.register(
            user=user, kind=kind, name=kind, rating_w=20_000, register_digits=7, now=NOW, now_ms=0
        ).device.pk
        for kind in ("meter", "inverter")
    ]
    found = {one.pk: one for one in devices.of_account(user.accounts.get().index)}
    return found[made[0]], found[made[1]]


def dirty(chance: random.Random, first_ms: int) -> list[tuple[int, Value]]:
    """Return what a meter (0) and an inverter (1) send of some hours, in no order: true values, gaps, corrections, nonsense."""
    found: list[tuple[int, Value]] = []

    def value(
        which: int, at: int, length: int, taken: int, given: int, revision: int = 0, register: bool = False
    ) -> None:
        found.append((which, Value("", at, length, taken, given, register, "measured", revision, 0)))

    counter = 9_999_400
    for n in range(CONTRACTS):
        at = first_ms + n * QUARTER_MS
        taken, given = chance.randint(0, 900), chance.randint(0, 400)
        kind = chance.choice(("plain", "plain", "fine", "counter", "missing", "corrected", "hour", "absurd"))
        if kind in ("plain", "corrected", "absurd"):
            value(0, at, QUARTER_MS, taken, given)
        if kind == "corrected":
            value(0, at, QUARTER_MS, taken + 7, given, 2)
            value(0, at, QUARTER_MS, taken + 3, given, 1)
        if kind == "fine":
            for part in range(3):
                value(0, at + part * 5 * MINUTE_MS, 5 * MINUTE_MS, taken // 3, 0)
        if kind == "counter":
            value(0, at, 0, counter % 10**7, 0, register=True)
            counter += taken
            value(0, at + QUARTER_MS, 0, counter % 10**7, 0, register=True)
        if kind == "hour":
            value(0, at, 4 * QUARTER_MS, 4 * taken, 0)
        if kind == "absurd":
            value(0, at, QUARTER_MS, 10**9, 0, 5)
        value(1, at, QUARTER_MS, 0, chance.randint(0, 2_000))
    return found + chance.sample(found, 4)


def send(market: Market, meters: tuple[devices.DeviceInfo, ...], values: list[tuple[int, Value]], size: int) -> None:
    """Send values in batches, committing now and then."""
    now_ms = market.exchange.now_ms()
    for start in range(0, len(values), size):
        for which, device in enumerate(meters):
            some = [value for one, value in values[start : start + size] if one == which]
            intake.take(sent=intake.Sent(some, {"": device}, device.pk), limits={}, now_ms=now_ms)
        if start % 3 == 0:
            commit_due(exchange=market.exchange, now_ms=now_ms)
    commit_due(exchange=market.exchange, now_ms=now_ms)
    assert not Batch.objects.filter(committed_ms=None, due_ms__lte=now_ms).exists()


def readings(account: int) -> dict[int, tuple[Any, ...]]:
    """Return the newest reading of each interval."""
    fields = ("import_wh", "export_wh", "produced_wh", "used_wh", "quality", "reason")
    rows = Reading.objects.filter(account=account).order_by("version")
    return {row[0]: row[1:] for row in rows.values_list("start_ms", *fields)}


def test_the_same_values_in_any_order_give_the_same_readings(market: Market) -> None:
    first_ms = contract_start_ms(market.contract(1))
    homes = [[home(market, f"home{n}{side}") for side in "abc"] for n in range(6)]
    market.clock.advance(minutes=15 * (CONTRACTS + 2))
    market.member(deposit_e7=0)
    seen: set[str] = set()
    for n, (plain, reverse, shuffled) in enumerate(homes):
        chance = random.Random(n)
        values = dirty(chance, first_ms)
        mixed = list(values)
        chance.shuffle(mixed)
        send(market, plain, values, 100)
        send(market, reverse, values[::-1], 3)
        send(market, shuffled, mixed, 1)
        expected = readings(plain[0].account)
        assert expected
        assert readings(reverse[0].account) == expected, n
        assert readings(shuffled[0].account) == expected, n
        seen |= {row[4] for row in expected.values()}
        assert sum(row[0] for row in expected.values()) < 40_000  # nothing absurd got in
    assert seen == {"measured", "estimated", "corrected"}


def test_readings_without_devices_may_number_their_corrections_too(market: Market) -> None:
    contract = market.contract(1)
    accounts = [market.member(deposit_e7=0) for _ in range(2)]
    market.clock.advance(minutes=31)
    market.member(deposit_e7=0)
    for account, order in zip(accounts, ((0, 1, 2, 1), (2, 0, 1, 2)), strict=True):
        for revision in order:
            record_readings(
                exchange=market.exchange, contract=contract, area="LV1.1", now_ms=1,
                readings=[ReadingIn(account, 100 + revision, 0, revision=revision)],
            )  # fmt: skip
    newest = [queries.latest(account) for account in accounts]
    assert [(one.import_wh, one.quality) for one in newest if one] == [(102, "corrected")] * 2


def test_a_value_is_stored_once_however_often_it_is_sent(market: Market) -> None:
    meter, _inverter = home(market, "echo")
    value = Value("", contract_start_ms(market.contract(-4)), QUARTER_MS, 5, 0, False, "measured", 0, 7)
    for _ in range(3):
        taken = intake.take(
            sent=intake.Sent([value, value], {"": meter}, meter.pk), limits={}, now_ms=market.exchange.now_ms()
        )
    assert (taken.batch, taken.verdicts) == (None, ["duplicate", "duplicate"])
    assert DeviceValue.objects.count() == Batch.objects.count() == 1


def test_what_estimates_lean_on(market: Market) -> None:
    start_ms = contract_start_ms(market.contract(1))
    for day, version, taken, quality in [
        (7, 0, 100, "measured"), (7, 1, 120, "corrected"), (8, 0, 900, "estimated"), (9, 0, 140, "measured"),
        (3, 0, 5, "measured"), (60, 0, 5, "measured"),
    ]:  # fmt: skip
        Reading.objects.create(
            start_ms=start_ms - day * DAY_MS, account=9, version=version, area="LV1.1", import_wh=taken, export_wh=0,
            quality=quality, received_ms=0, seq=0, n=0,
        )  # fmt: skip
    found = queries.history([9, 10], start_ms=start_ms, final_after_ms=7 * DAY_MS)
    assert found == {9: {start_ms - 7 * DAY_MS: Past(120, 0), start_ms - 9 * DAY_MS: Past(140, 0)}}
    guess = estimate(start_ms=start_ms, history=found[9])
    assert guess is not None and guess.import_wh == 120
