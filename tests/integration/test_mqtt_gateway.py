"""The MQTT gateway against a real Mosquitto: nothing is acknowledged before it is durable, lost, or counted twice."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import DatabaseError, connection
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from market.exchange.units import parse_at
from market.households import devices, operations
from market.metering import mqtt
from market.metering.models import Batch, DeviceValue
from market.metering.mqtt import Arrived, Gateway, take_messages
from tests.factories import Market, running_market
from tests.integration.mosquitto import Broker, broker, needed

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
NOW_MS = parse_at("2026-06-06T12:00:00Z")
WAIT_S = 15.0


@pytest.fixture
def market() -> Iterator[Market]:
    with running_market(seal_every_s=3_600, cast=False) as running:
        yield running


@pytest.fixture
def meter(market: Market) -> devices.Registered:
    user = operations.create_person(username="alice", password=None)
    operations.open_account(market.exchange, now=NOW, user=user, area="LV1.1")
    return devices.register(user=user, kind="meter", name="m", rating_w=30_000, now=NOW, now_ms=0)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path, needed()) as running:
        yield running


def payload(meter: devices.Registered, *energies: int, first: int = 0) -> bytes:
    values = [
        {"start": f"2026-06-06T{(first + n) // 4:02d}:{(first + n) % 4 * 15:02d}:00Z", "import_wh": wh}
        for n, wh in enumerate(energies)
    ]
    return orjson.dumps({"key": meter.token, "values": values})


class Publisher:
    """A device's MQTT client that hears the verdicts."""

    def __init__(self, port: int, device: str):
        self.topic = f"sunledger/v1/{device}/readings"
        self.verdicts: list[dict[str, Any]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _c, _d, message: self.verdicts.append(orjson.loads(message.payload))
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(f"sunledger/v1/{device}/verdicts")
        self._client.loop_start()

    def send(self, *bodies: bytes) -> None:
        """Publish, and wait until the broker has it."""
        for info in [self._client.publish(self.topic, body, qos=1) for body in bodies]:
            info.wait_for_publish(WAIT_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def running(port: int, take: Callable[..., Any] = take_messages) -> Iterator[Gateway]:
    gateway = Gateway(host="127.0.0.1", port=port, clock=lambda: NOW_MS, take=take)

    def run() -> None:
        try:
            gateway.run()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def subscribed(port: int) -> None:
    """Have the broker know the gateway's session: from then on it keeps what comes."""
    with running(port) as gateway:
        until(lambda: gateway._generation == 1 and gateway._client.is_connected())
        time.sleep(0.3)


def test_what_is_published_is_taken_and_answered(mosquitto: Broker, meter: devices.Registered) -> None:
    with running(mosquitto.port) as gateway:
        until(gateway._client.is_connected)
        time.sleep(0.3)
        device = Publisher(mosquitto.port, meter.device.device_id)
        device.send(payload(meter, 1, 2, 3), payload(meter, 1, 2, 10**9), b"{", b'{"key":"sl_x","values":[]}')
        until(lambda: len(device.verdicts) == 4)
        device.close()
    assert device.verdicts[0] == {"verdicts": [["accepted", 0, 3]]}
    assert device.verdicts[1] == {"verdicts": [["duplicate", 0, 2], ["above_rating", 2, 1]]}
    assert [one.get("code") for one in device.verdicts[2:]] == ["malformed", "invalid_key"]
    assert sorted(DeviceValue.objects.values_list("import_wh", flat=True)) == [1, 2, 3]


def test_nothing_is_acknowledged_before_it_is_durable(mosquitto: Broker, meter: devices.Registered) -> None:
    subscribed(mosquitto.port)
    tried = threading.Event()

    def fails(messages: Any, *, now_ms: int) -> Any:
        tried.set()
        raise DatabaseError("the database is away")

    device = Publisher(mosquitto.port, meter.device.device_id)
    with running(mosquitto.port, fails):
        device.send(payload(meter, 1), payload(meter, 2, first=1))
        assert tried.wait(WAIT_S)
    assert not DeviceValue.objects.exists()
    with running(mosquitto.port):  # the broker sends again what nobody acknowledged
        until(lambda: DeviceValue.objects.count() == 2)
        until(lambda: len(device.verdicts) == 2)
    arrived: list[Any] = []
    with running(mosquitto.port, lambda messages, now_ms: arrived.extend(messages) or []):
        time.sleep(0.5)
    assert arrived == []
    device.close()


def test_a_gateway_that_dies_between_taking_and_acknowledging_takes_twice_and_counts_once(
    mosquitto: Broker, meter: devices.Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed(mosquitto.port)
    device = Publisher(mosquitto.port, meter.device.device_id)
    with monkeypatch.context() as patch:
        patch.setattr(mqtt.Client, "ack", lambda *_: None)  # what a dead one does
        with running(mosquitto.port):
            device.send(payload(meter, 1, 2))
            until(lambda: len(device.verdicts) == 1)
    with running(mosquitto.port):
        until(lambda: len(device.verdicts) == 2)
    device.close()
    assert device.verdicts[1] == {"verdicts": [["duplicate", 0, 2]]}
    assert (DeviceValue.objects.count(), Batch.objects.count()) == (2, 1)


def test_what_comes_while_nobody_listens_and_a_broker_that_restarts(
    mosquitto: Broker, meter: devices.Registered
) -> None:
    subscribed(mosquitto.port)
    device = Publisher(mosquitto.port, meter.device.device_id)
    device.send(*[payload(meter, n, first=n) for n in range(20)])
    with running(mosquitto.port) as gateway:
        until(lambda: DeviceValue.objects.count() == 20)
        mosquitto.stop()
        mosquitto.start()
        until(gateway._client.is_connected)
        device.send(payload(meter, 99, first=30))
        until(lambda: DeviceValue.objects.count() == 21)
    device.close()


def test_a_message_nobody_foresaw_keeps_no_other_out(mosquitto: Broker, meter: devices.Registered) -> None:
    subscribed(mosquitto.port)

    def stumbles(messages: Any, *, now_ms: int) -> Any:
        if any(b"poison" in message.payload for message in messages):
            raise RuntimeError("a bug")
        return take_messages(messages, now_ms=now_ms)

    device = Publisher(mosquitto.port, meter.device.device_id)
    device.send(payload(meter, 1), b"poison", payload(meter, 2, first=1))
    with running(mosquitto.port, stumbles) as gateway:
        until(lambda: gateway.taken == 3)
    assert DeviceValue.objects.count() == 2
    device.close()


def test_who_may_publish_for_whom(market: Market, meter: devices.Registered) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    user = meter.device.user
    account = user.accounts.get()
    proof = key.sign(devices.key_text(account.account_id, public)).hex()
    signer = devices.register(
        user=user, kind="meter", name="s", rating_w=9_000, now=NOW, now_ms=0, public_key=public, proof=proof
    ).device.device_id
    body = b'{"values":[{"start":"2026-06-06T10:00:00Z","import_wh":7}]}'
    signature = key.sign(devices.readings_text(signer, body)).hex()

    def tell(device: str, **envelope: Any) -> Any:
        arrived = Arrived(1, 1, f"sunledger/v1/{device}/readings", orjson.dumps(envelope))
        [answer] = take_messages([arrived], now_ms=NOW_MS)
        return orjson.loads(answer.body)

    own = meter.device.device_id
    values = orjson.loads(body)["values"]
    assert tell(signer, key=meter.token, values=values)["code"] == "invalid_key"
    assert tell(own, values=values)["code"] == "invalid_key"
    assert tell(own, signature=signature, body=body.decode())["code"] == "signature_invalid"
    assert tell(signer, signature=signature, body=body.decode() + " ")["code"] == "signature_invalid"
    assert tell("0" * 32, signature=signature, body=body.decode())["code"] == "unknown_device"
    assert not DeviceValue.objects.exists()
    assert tell(signer, signature=signature, body=body.decode()) == {"verdicts": [["accepted", 0, 1]]}
    assert Batch.objects.get().evidence
    devices.revoke(user=user, device_id=own, now=NOW, now_ms=NOW_MS)
    assert tell(own, key=meter.token, values=values)["code"] == "invalid_key"
