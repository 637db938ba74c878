"""Values of devices come in: each is judged by itself, those that are taken are durable before anybody is told.

What is kept is what the devices said. The readings of homes are made of it and committed to the ledger afterwards
(``committing``), area by area, so that a million devices cost a few thousand entries an interval.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import orjson
from django.db import transaction

from ledger import operations as ledger
from ledger.core.note import fits
from market.exchange.exchange import Exchange
from market.households import devices
from market.households.devices import DeviceInfo
from market.metering import storage, validation
from market.metering.formats.values import MAX_VALUES, Value
from market.metering.models import Batch, DeviceValue

DAY_MS = 86_400_000
IN_ONE_QUERY = 1_000  # devices
EVIDENCE_VERSION = 1
VALUE_FIELDS = ("device", "batch", *(name for name in Value._fields if name != "device"))


class Sent(NamedTuple):
    """Values of one sender. ``devices``: what it may speak for, by id; ``sender`` 0 = a person or account.

    ``evidence``: what it signed (``signed``), kept where something is taken; b"" where a key opened the door.
    ``oldest_ms``: how far back they may lie.
    """

    values: Sequence[Value]
    devices: Mapping[str, DeviceInfo]
    sender: int = 0
    evidence: bytes = b""
    oldest_ms: int | None = None


class Taken(NamedTuple):
    """What became of values. ``verdicts`` has one of ``validation``'s codes for each, in order."""

    batch: int | None  # its number, None where nothing new was taken
    verdicts: list[str]

    def count(self, *codes: str) -> int:
        """Return how many values have one of these verdicts."""
        return sum(code in codes for code in self.verdicts)

    @property
    def refused(self) -> int:
        """How many were not taken."""
        return sum(code not in validation.TAKEN for code in self.verdicts)


class SignatureInvalid(Exception):
    """A batch was not signed by the device it says it is from."""


def runs(verdicts: Iterable[str]) -> list[tuple[str, int, int]]:
    """Return verdicts in runs: code, place of the first, how many in a row."""
    found, place = [], 0
    for code, several in groupby(verdicts):
        count = sum(1 for _ in several)
        found.append((code, place, count))
        place += count
    return found


def limits_of(exchange: Exchange, accounts: set[int]) -> dict[int, tuple[int, int]]:
    """Return what the connections of accounts may take and give (W, 0 = no limit is known), the market's limit included."""

    def look(engine):  # type: ignore[no-untyped-def]
        params = engine.params
        return {
            index: (
                engine.accounts[index].import_w or params.connection_import_w,
                engine.accounts[index].export_w or params.connection_export_w,
            )
            for index in accounts
            if 0 <= index < len(engine.accounts)
        }

    return exchange.read(look)  # type: ignore[no-any-return]


def signed(device: DeviceInfo, body: bytes, signature: str) -> bytes:
    """Return the evidence of a batch that a device signed; raise ``SignatureInvalid``.

    Canonical JSON: the account's id on the ledger, the batch, the device's id and key, the signature.
    """
    text = devices.readings_text(device.device_id, body)
    if not device.public_key or not fits(device.public_key, signature, text):
        raise SignatureInvalid(device.device_id)
    return orjson.dumps(
        {
            "account": device.account_id,
            "batch": base64.b64encode(body).decode(),
            "device": device.device_id,
            "key": device.public_key,
            "signature": signature,
            "v": EVIDENCE_VERSION,
        },
        option=orjson.OPT_SORT_KEYS,
    )


def _kept(evidence: bytes) -> str:
    """Keep a signed batch beside the ledger, where rows name it; return its SHA-256 (hex), "" of none."""
    return ledger.keep_evidence(evidence) if evidence else ""


def take(*, sent: Sent, limits: Mapping[int, tuple[int, int]], now_ms: int) -> Taken:
    """Take the values of one sender; as ``take_many``."""
    return take_many(batches=[sent], limits=limits, now_ms=now_ms)[0]


def take_many(*, batches: Sequence[Sent], limits: Mapping[int, tuple[int, int]], now_ms: int) -> list[Taken]:
    """Take the values of several senders in one transaction; what is taken is durable when this returns.

    ``limits``: what the connection of an account may carry (``limits_of``). Values that cannot be right are refused one by one,
    duplicates change nothing. Each batch has at most ``MAX_VALUES`` values (``ValueError``).
    """
    judged: list[tuple[Sent, list[str], list[tuple[DeviceInfo, Value]]]] = []
    known: dict[int, dict[validation.Slot, list[Value]]] = {}
    for sent in batches:
        if len(sent.values) > MAX_VALUES:
            raise ValueError(f"expected at most {MAX_VALUES} values, was {len(sent.values)}")
        judged.append((sent, *_possible(sent, limits, now_ms)))
    _look_up([value for _sent, _verdicts, possible in judged for value in possible], known)
    rows: list[list[storage.ValueRow]] = []
    for _sent, verdicts, possible in judged:
        new: list[storage.ValueRow] = []
        fresh = iter(possible)
        for place, verdict in enumerate(verdicts):
            if verdict:
                continue
            device, value = next(fresh)
            slots = known.setdefault(device.pk, {})
            slot = (value.start_ms, value.duration_ms, value.register)
            before = slots.get(slot)
            if before is None:
                slots[slot] = [value]
                verdicts[place] = validation.CORRECTED if value.revision else validation.ACCEPTED
            else:
                verdicts[place] = validation.judged(value, before)
                if verdicts[place] in (validation.DUPLICATE, validation.TOO_MANY):
                    continue
                before.append(value)
            # The number of its time; of what is older than the first one nothing becomes a reading (``committing``).
            number = devices.account_at(device.periods, value.start_ms)
            account = device.account if number < 0 else number
            new.append(
                storage.ValueRow(
                    0, len(new), device.pk, account, value.start_ms, value.duration_ms, value.import_wh,
                    value.export_wh, value.register, value.quality, value.revision, value.received_ms,
                )
            )  # fmt: skip
        rows.append(new)
    numbers = _store([sent for sent, _verdicts, _possible in judged], rows, now_ms)
    devices.seen({row.device for new in rows for row in new}, now_ms)
    return [Taken(number, verdicts) for number, (_sent, verdicts, _possible) in zip(numbers, judged, strict=True)]


def _possible(
    sent: Sent, limits: Mapping[int, tuple[int, int]], now_ms: int
) -> tuple[list[str], list[tuple[DeviceInfo, Value]]]:
    """Return a verdict for each value, "" for those that can be right, and these with their devices."""
    oldest_ms = now_ms - validation.MAX_AGE_MS if sent.oldest_ms is None else sent.oldest_ms
    ratings = {
        name: validation.Rating(one.rating_w, *(limits.get(one.account, (0, 0)) if one.kind == "meter" else (0, 0)))
        for name, one in sent.devices.items()
    }
    verdicts: list[str] = []
    possible: list[tuple[DeviceInfo, Value]] = []
    for value in sent.values:
        device = sent.devices.get(value.device)
        if device is None:
            verdicts.append(validation.UNKNOWN_DEVICE)
            continue
        verdict = validation.problem(value, ratings[value.device], now_ms=now_ms, oldest_ms=oldest_ms)
        verdicts.append(verdict)
        if not verdict:
            possible.append((device, value))
    return verdicts, possible


def _look_up(values: Sequence[tuple[DeviceInfo, Value]], known: dict[int, dict[validation.Slot, list[Value]]]) -> None:
    """Add what is stored for the slots of these values."""
    if not values:
        return
    spans: dict[int, tuple[int, int]] = {}
    for device, value in values:
        low, high = spans.get(device.pk, (value.start_ms, value.start_ms))
        spans[device.pk] = min(low, value.start_ms), max(high, value.start_ms)
    # Devices that tell of the same days are asked about together: one that sends a year makes no long question for others.
    groups: dict[tuple[int, int], list[int]] = {}
    for pk, (low, high) in spans.items():
        groups.setdefault((low // DAY_MS, high // DAY_MS), []).append(pk)
    questions = [
        (sorted(pks)[at : at + IN_ONE_QUERY], first * DAY_MS, (last + 1) * DAY_MS - 1)
        for (first, last), pks in groups.items()
        for at in range(0, len(pks), IN_ONE_QUERY)
    ]
    for some, low, high in questions:
        for pk, _batch, value in stored(some, low, high):
            known.setdefault(pk, {}).setdefault(validation.slot(value), []).append(value)


def stored(pks: Sequence[int], first_ms: int, last_ms: int) -> Iterable[tuple[int, int, Value]]:
    """Return the values of devices that start in [first_ms, last_ms], each with the numbers of its device and batch."""
    rows = DeviceValue.objects.filter(device__in=pks, start_ms__gte=first_ms, start_ms__lte=last_ms)
    for pk, batch, *rest in rows.values_list(*VALUE_FIELDS).iterator(chunk_size=5_000):
        yield pk, batch, Value("", *rest)


def _store(sent: Sequence[Sent], rows: Sequence[list[storage.ValueRow]], now_ms: int) -> list[int | None]:
    """Keep new values, each batch under a number of its own, in one transaction."""
    if not any(rows):
        return [None] * len(rows)
    with transaction.atomic():
        made = iter(
            Batch.objects.bulk_create(
                Batch(device=one.sender, received_ms=now_ms, count=len(new), evidence=_kept(one.evidence))
                for one, new in zip(sent, rows, strict=True)
                if new
            )
        )
        numbers = [next(made).pk if new else None for new in rows]
        storage.insert_values(
            [row._replace(batch=number) for number, new in zip(numbers, rows, strict=True) if number for row in new]
        )
    return numbers
