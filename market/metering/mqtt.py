"""Readings by MQTT: what devices publish is taken in batches and acknowledged to the broker once it is durable.

Topic ``sunledger/v1/DEVICE/readings``, QoS 1. The payload is JSON: ``{"key": …, "values": [...]}`` with the device's API
key, or ``{"signature": …, "body": "…"}`` where ``body`` is the very text ``{"values": [...]}`` that the device has signed. What
became of it is published at ``sunledger/v1/DEVICE/verdicts``. See docs/metering.md.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
from django.db import Error as DatabaseError
from django.db import close_old_connections
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from market.households import devices
from market.households.devices import DeviceInfo
from market.metering import intake
from market.metering.formats import jsonbatch
from market.metering.formats.jsonbatch import DeviceValueIn
from market.metering.formats.values import FormatError, Value

TOPIC = "sunledger/v1/+/readings"
ANSWER = "sunledger/v1/%s/verdicts"
QOS = 1
IN_FLIGHT = 2_000  # messages the broker sends ahead of their acknowledgement (Receive Maximum)
SESSION_S = 7 * 86_400  # how long the broker keeps what came while no gateway ran
MAX_FLUSH_VALUES = 20_000  # of one transaction
WAIT_S = 0.05  # for more messages to share a transaction
RETRY_S = 2.0  # while the database does not answer
RECONNECT_S = (1, 30)
MAX_PAYLOAD = 2 * 1024 * 1024
KEEPALIVE_S = 30

log = logging.getLogger(__name__)


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """What a device publishes: a key with values, or a signature with the text it is of."""

    key: str = ""
    values: list[DeviceValueIn] = []
    signature: str = ""
    body: str = ""


class Arrived(NamedTuple):
    """A message as it came. ``generation`` counts sessions of the broker: numbers of an older one are void."""

    mid: int
    generation: int
    topic: str
    payload: bytes


class Answer(NamedTuple):
    """What became of a message, for its device."""

    device: str
    body: bytes


class _Read(NamedTuple):
    """A message that could be read: whose it claims to be, and what is in it."""

    device: str
    envelope: Envelope
    values: list[Value]


def take_messages(messages: Sequence[Arrived], *, now_ms: int) -> list[Answer]:
    """Take what messages carry, in one transaction; when this returns, it is durable. Bad ones get a code, and are done."""
    read = [_read(message, now_ms) for message in messages]
    known = devices.by_tokens({one.envelope.key for one in read if isinstance(one, _Read) and one.envelope.key})
    signers = devices.by_ids({one.device for one in read if isinstance(one, _Read) and one.envelope.signature})
    answers: list[Answer | None] = [one if isinstance(one, Answer) else None for one in read]
    sent: list[intake.Sent] = []
    places: list[int] = []
    for place, one in enumerate(read):
        if isinstance(one, Answer):
            continue
        found = _sent(one, known, signers)
        if isinstance(found, Answer):
            answers[place] = found
            continue
        sent.append(found)
        places.append(place)
    for place, taken in zip(
        places, intake.take_many(batches=sent, limits={}, now_ms=now_ms) if sent else [], strict=True
    ):
        one = read[place]
        assert isinstance(one, _Read)
        answers[place] = _answer(one.device, verdicts=intake.runs(taken.verdicts))
    return [answer for answer in answers if answer is not None]


def _read(message: Arrived, now_ms: int) -> _Read | Answer:
    name = message.topic.split("/")[2]
    if len(message.payload) > MAX_PAYLOAD:
        return _answer(name, code="body_too_large")
    try:
        envelope = msgspec.json.decode(message.payload, type=Envelope, strict=True)
        if envelope.signature:
            return _Read(name, envelope, jsonbatch.parse(envelope.body.encode(), received_ms=now_ms))
        return _Read(name, envelope, jsonbatch.values_of(envelope.values, received_ms=now_ms))
    except FormatError as error:
        return _answer(name, code=error.code, field=error.field)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _answer(name, code="malformed")


def _sent(one: _Read, known: dict[str, DeviceInfo], signers: dict[str, DeviceInfo]) -> intake.Sent | Answer:
    """Return the values of a device that has shown who it is; the topic alone shows nothing."""
    evidence = b""
    if one.envelope.signature:
        device = signers.get(one.device)
        if device is None:
            return _answer(one.device, code="unknown_device")
        try:
            evidence = intake.signed(device, one.envelope.body.encode(), one.envelope.signature)
        except intake.SignatureInvalid:
            return _answer(one.device, code="signature_invalid")
    else:
        device = known.get(one.envelope.key)
        if device is None or device.device_id != one.device:
            return _answer(one.device, code="invalid_key")
    if device.account < 0 and device.kind != "substation":
        return _answer(one.device, code="no_account")
    return intake.Sent(one.values, {"": device, device.device_id: device}, device.pk, evidence)


def _answer(
    device: str, *, code: str = "", field: str = "", verdicts: list[tuple[str, int, int]] | None = None
) -> Answer:
    body: dict[str, Any] = {"code": code, "field": field} if code else {"verdicts": verdicts}
    return Answer(device, orjson.dumps(body))


class Gateway:
    """Between a broker and the database. ``clock`` is market time in ms; ``run`` returns after ``stop``."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        clock: Callable[[], int],
        username: str = "",
        password: str = "",
        client_id: str = "sunledger-gateway",
        tls: bool = False,
        take: Callable[..., list[Answer]] = take_messages,
    ):
        self._where = host, port
        self._clock = clock
        self._take = take
        self._messages: queue.Queue[Arrived] = queue.Queue(
            2 * IN_FLIGHT
        )  # the broker sends no more than IN_FLIGHT ahead
        self._stopping = threading.Event()
        self._generation = 0
        self.taken = 0  # messages acknowledged
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5, manual_ack=True)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._arrived
        self._client.reconnect_delay_set(*RECONNECT_S)
        if username:
            self._client.username_pw_set(username, password)
        if tls:
            self._client.tls_set()

    def run(self) -> None:
        """Take messages until stopped; raise ``OSError`` when the broker cannot be reached at the start."""
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = IN_FLIGHT
        self._client.connect(*self._where, keepalive=KEEPALIVE_S, clean_start=False, properties=properties)
        self._client.loop_start()
        try:
            while not self._stopping.is_set():
                messages = self._next()
                if messages:
                    self._flush(messages)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def stop(self) -> None:
        """Have ``run`` return after what it is taking; the rest stays with the broker."""
        self._stopping.set()

    # --- the client's thread -----------------------------------------------------------------------------------------
    def _connected(
        self, client: Client, _data: Any, flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            log.error("the broker refuses us: %s", code)
            return
        if not flags.session_present:
            self._generation += 1
        client.subscribe(TOPIC, QOS)
        log.info("connected to the broker, session %s", "kept" if flags.session_present else "new")

    def _disconnected(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if not self._stopping.is_set():
            log.warning("the broker is gone (%s); trying again", code)

    def _arrived(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.qos == 0:
            log.debug("a message without acknowledgement is taken all the same")
        self._messages.put(Arrived(message.mid if message.qos else 0, self._generation, message.topic, message.payload))

    # --- the taking thread -------------------------------------------------------------------------------------------
    def _next(self) -> list[Arrived]:
        """Return what has arrived: at least one message, as many as come within a moment and fit in a transaction."""
        try:
            messages = [self._messages.get(timeout=0.5)]
        except queue.Empty:
            return []
        until_s = time.monotonic() + WAIT_S
        size = len(messages[0].payload)
        while len(messages) < IN_FLIGHT and size < MAX_FLUSH_VALUES * 80:  # bytes of a short value
            try:
                messages.append(self._messages.get(timeout=max(0.0, until_s - time.monotonic())))
            except queue.Empty:
                break
            size += len(messages[-1].payload)
        return messages

    def _flush(self, messages: Sequence[Arrived]) -> None:
        """Take messages, again and again while the database is away, then acknowledge them."""
        while True:
            try:
                answers = self._take(messages, now_ms=self._clock())
                break
            except DatabaseError:
                log.exception("the database does not take readings; the broker keeps them")
                close_old_connections()
                if self._stopping.wait(RETRY_S):
                    return
            except Exception:
                # One message nobody foresaw must not come back for ever and keep the others out.
                log.exception("%s messages could not be taken", len(messages))
                if len(messages) > 1:
                    for message in messages:
                        self._flush([message])
                    return
                answers = [_answer(messages[0].topic.split("/")[2], code="unavailable")]
                break
        for message in messages:
            if message.mid and message.generation == self._generation:
                self._client.ack(message.mid, QOS)
        self.taken += len(messages)
        for answer in answers:
            self._client.publish(ANSWER % answer.device, answer.body, qos=0)
