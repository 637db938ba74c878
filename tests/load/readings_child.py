"""The measured process of ``bench_readings``: values by JSON, CSV and MQTT until they are durable, and on to the ledger."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

import orjson  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from paho.mqtt.client import Client  # noqa: E402
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402

from market.engine.commands import SetParams, SetTariff  # noqa: E402
from market.engine.contracts import contract_start_ms  # noqa: E402
from market.exchange import guards, operations  # noqa: E402
from market.exchange.exchange import Exchange  # noqa: E402
from market.exchange.operations import Area  # noqa: E402
from market.exchange.units import at_text  # noqa: E402
from market.households import devices  # noqa: E402
from market.households import operations as households  # noqa: E402
from market.households.devices import DeviceInfo  # noqa: E402
from market.households.models import User  # noqa: E402
from market.metering import intake, storage  # noqa: E402
from market.metering.committing import commit_due  # noqa: E402
from market.metering.formats import csvbatch, jsonbatch  # noqa: E402
from market.metering.formats.values import MAX_VALUES, Value  # noqa: E402
from market.metering.models import Batch, DeviceValue, Reading  # noqa: E402
from market.metering.mqtt import Gateway  # noqa: E402
from tests.factories import Clock  # noqa: E402
from tests.integration.mosquitto import broker, program  # noqa: E402

BATCHES = int(os.environ.get("BENCH_READINGS_BATCHES", "24"))  # of 10,000 values, each path
HOMES = 2_000  # of the part that goes on to the ledger
AREAS = 20
CONTRACTS = 8
MESSAGE_VALUES = 96  # of an MQTT message: a day
QUARTER_MS = 900_000
NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
PARAMS = SetParams(10_000, 1, 1_000_000, 1_000_000, 120, 0, 1_000)
GRID = (Area("CITY", "", "HV", 0, 0, 0), *(Area(f"LV{n}", "CITY", "LV", 0, 0, 10) for n in range(AREAS)))


def meters(exchange: Exchange, count: int) -> tuple[list[DeviceInfo], list[str]]:
    """Open homes with a meter each; return the meters and their keys."""
    infos, tokens = [], []
    with transaction.atomic():
        for n in range(count):
            user = User(username=f"home{n}")
            user.set_unusable_password()
            user.save()
            area = f"LV{n % AREAS}"
            account = households.open_account(exchange, now=NOW, area=area, user=user)
            made = devices.register(user=user, kind="meter", name="m", rating_w=30_000, now=NOW, now_ms=0)
            one = made.device
            infos.append(
                DeviceInfo(one.pk, one.device_id, user.pk, account.index, account.account_id, area, "meter", 30_000, 0, "",
                           0, None)
            )  # fmt: skip
            tokens.append(made.token)
    return infos, tokens


def rows_of(number: int, count: int, end_ms: int) -> list[tuple[int, int, int]]:
    """Return (start, import, export) of a batch: quarter hours that no other batch has."""
    first = end_ms - (number + 1) * count * QUARTER_MS
    return [(first + n * QUARTER_MS, 100 + n % 700, n % 300) for n in range(count)]


def json_body(rows: list[tuple[int, int, int]], key: str = "") -> bytes:
    """Return a batch as JSON."""
    values = [{"start": at_text(start), "import_wh": taken, "export_wh": given} for start, taken, given in rows]
    return orjson.dumps({"key": key, "values": values} if key else {"values": values})


def csv_body(rows: list[tuple[int, int, int]]) -> bytes:
    """Return a batch as CSV."""
    lines = [f"{at_text(start)},{taken},{given}" for start, taken, given in rows]
    return ("start,import_wh,export_wh\n" + "\n".join(lines) + "\n").encode()


def measure(bodies: list[bytes], parse: Callable[..., list[Value]], device: DeviceInfo, now_ms: int) -> float:
    """Return values a second from the bytes of batches to a committed transaction each."""

    def one(body: bytes) -> None:
        values = parse(body, received_ms=now_ms)
        taken = intake.take(sent=intake.Sent(values, {"": device}, device.pk, oldest_ms=0), limits={}, now_ms=now_ms)
        assert taken.refused == 0 and taken.batch is not None

    one(bodies[0])  # warm-up
    started_s = time.perf_counter()
    for body in bodies[1:]:
        one(body)
    return (len(bodies) - 1) * MAX_VALUES / (time.perf_counter() - started_s)


def measure_mqtt(infos: list[DeviceInfo], tokens: list[str], now_ms: int) -> float | None:
    """Return values a second from the first message published to the last one acknowledged, through a real broker."""
    path = program()
    if path is None:
        return None
    messages = []
    for n in range(BATCHES * MAX_VALUES // MESSAGE_VALUES):
        place = n % len(infos)
        rows = rows_of(n // len(infos), MESSAGE_VALUES, now_ms)
        messages.append((f"sunledger/v1/{infos[place].device_id}/readings", json_body(rows, tokens[place])))
    before = DeviceValue.objects.count()
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder), path) as running:
        gateway = Gateway(host="127.0.0.1", port=running.port, clock=lambda: now_ms)
        thread = threading.Thread(target=gateway.run)
        thread.start()
        while not gateway._generation:
            time.sleep(0.01)
        time.sleep(0.5)
        publisher = Client(CallbackAPIVersion.VERSION2)
        publisher.max_queued_messages_set(0)
        publisher.max_inflight_messages_set(1_000)
        publisher.connect("127.0.0.1", running.port)
        publisher.loop_start()
        started_s = time.perf_counter()
        for topic, payload in messages:
            publisher.publish(topic, payload, qos=1)
        while gateway.taken < len(messages):
            time.sleep(0.005)
        seconds = time.perf_counter() - started_s
        publisher.disconnect()
        publisher.loop_stop()
        gateway.stop()
        thread.join()
    taken = DeviceValue.objects.count() - before
    assert taken == len(messages) * MESSAGE_VALUES, taken
    return taken / seconds


def measure_ledger(exchange: Exchange, clock: Clock, infos: list[DeviceInfo]) -> float:
    """Return readings a second from durable values to entries, rows and readings of the ledger."""
    names = sorted(exchange.read(lambda engine: list(engine.contracts)))[:CONTRACTS]
    clock.advance(minutes=15 * (CONTRACTS + 1) + 1)
    households.open_account(exchange, now=NOW, area="LV0")  # any command lets the timetable catch up
    Batch.objects.filter(committed_ms=None).update(committed_ms=0)
    now_ms = clock()
    for name in names:
        start_ms = contract_start_ms(name)
        sent = [
            intake.Sent(
                [Value("", start_ms, QUARTER_MS, 5 + n % 300, 0, False, "measured", 0, now_ms)], {"": one}, one.pk
            )
            for n, one in enumerate(infos)
        ]
        intake.take_many(batches=sent, limits={}, now_ms=now_ms)
    before = Reading.objects.count()
    started_s = time.perf_counter()
    while commit_due(exchange=exchange, now_ms=clock()).batches:
        pass
    seconds = time.perf_counter() - started_s
    made = Reading.objects.count() - before
    assert made == len(names) * len(infos), made
    return made / seconds


def write_bare(now_ms: int) -> float:
    """Return values a second of the same rows by bare COPY: no parsing, no checks, no look-up."""
    DeviceValue.objects.all().delete()
    rows = [
        [
            storage.ValueRow(number + 1, n, 1, 1, start, QUARTER_MS, taken, given, False, "measured", 0, now_ms)
            for n, (start, taken, given) in enumerate(rows_of(number, MAX_VALUES, now_ms))
        ]
        for number in range(BATCHES)
    ]
    started_s = time.perf_counter()
    for batch in rows:
        with transaction.atomic():
            storage.insert_values(batch)
    return BATCHES * MAX_VALUES / (time.perf_counter() - started_s)


def main() -> None:
    """Measure and print one JSON line."""
    call_command("migrate", verbosity=0)
    guards.install(connection)
    clock = Clock()
    exchange = Exchange(clock)
    exchange.start()
    operations.found_market(
        exchange, areas=GRID, tariff=SetTariff(4_000, 800), params=PARAMS, rulebook="# Rules\n", rulebook_version=1
    )
    infos, tokens = meters(exchange, HOMES)
    now_ms = clock()
    now_ms -= now_ms % QUARTER_MS
    first, second = infos[0], infos[1]
    batches = [rows_of(number, MAX_VALUES, now_ms) for number in range(BATCHES)]
    result: dict[str, Any] = {
        "json": measure([json_body(rows) for rows in batches], jsonbatch.parse, first, now_ms),
        "csv": measure([csv_body(rows) for rows in batches], csvbatch.parse, second, now_ms),
        "mqtt": measure_mqtt(infos[100:600], tokens[100:600], now_ms),
        "ledger": measure_ledger(exchange, clock, infos),
        "bare": write_bare(now_ms),
        "values": BATCHES * MAX_VALUES,
        "homes": HOMES,
    }
    exchange.stop()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    sys.exit(main())
