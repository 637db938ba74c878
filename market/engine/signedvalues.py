"""A batch of values that a device signed, and what it says of intervals by itself. Pure.

The market judges values by more than is in a batch: what a device can deliver, what kind it is, what else it has sent. Here is
what anybody can tell from the batch alone. Where that is not one figure it says nothing: then no reading is to name the batch
as its proof, and an audit cannot hold one against it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

FIELDS = frozenset(("account", "batch", "device", "key", "signature", "v"))
VERSION = 1
DEFAULT_S = 900  # how long a value is for that does not say

Energies = tuple[int, int]  # import and export, Wh
Slot = tuple[int, int, bool]  # start, end, whether it is a counter


class SignedBatch(NamedTuple):
    """Whose batch it is, who signed what (``body``) with which key, and the values in it. Nothing is verified yet."""

    account_id: str
    device: str
    key: str
    signature: str
    body: bytes
    values: list[dict[str, Any]]


def read(data: bytes) -> SignedBatch:
    """Return a batch as it is kept beside the ledger. Raise ``ValueError`` saying what was expected."""
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict) or fields.keys() != FIELDS or fields["v"] != VERSION:
            raise ValueError(f"expected the fields {', '.join(sorted(FIELDS))}")
        account_id, device, key, signature = (fields[name] for name in ("account", "device", "key", "signature"))
        if not all(isinstance(one, str) and one.isascii() for one in (account_id, device, key, signature)):
            raise ValueError("expected texts")
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError("expected a signed batch") from None
    try:
        body = base64.b64decode(fields["batch"], validate=True)
        values = json.loads(body)["values"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("expected a signed batch") from None
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("expected a batch of values")
    return SignedBatch(account_id, device, key, signature, body, values)


def said(values: Sequence[Mapping[str, Any]], device: str, length_ms: int) -> dict[int, Energies | None]:
    """Return what the values of a batch come to by the start (ms) of each interval that they lie in.

    ``device`` has sent it; ``None``: not one figure. That is so where several devices speak, of several values for one time,
    where the parts of an interval leave gaps, a counter went back, or counters and energies differ. Raises ``ValueError``,
    ``TypeError``, ``KeyError``, ``OverflowError`` for values that cannot be read.
    """
    found: dict[int, dict[str, dict[Slot, set[Energies]]]] = {}
    for value in values:
        low = int(datetime.fromisoformat(value["start"]).timestamp()) * 1_000
        register = bool(value.get("register", False))
        high = low if register else low + int(value.get("duration_s", DEFAULT_S)) * 1_000
        at = low - low % length_ms
        if high > at + length_ms:
            continue  # it reaches over an edge: what follows from it is an estimate
        energies = int(value["import_wh"]), int(value.get("export_wh", 0))
        # A counter read on an edge ends one interval and begins the next.
        for start in (at - length_ms, at) if register and low == at else (at,):
            slots = found.setdefault(start, {}).setdefault(value.get("device") or device, {})
            slots.setdefault((low, high, register), set()).add(energies)
    return {start: _one_figure(by_device, start, start + length_ms) for start, by_device in found.items()}


def _one_figure(by_device: Mapping[str, Mapping[Slot, set[Energies]]], start_ms: int, end_ms: int) -> Energies | None:
    if len(by_device) > 1:
        return None
    [slots] = by_device.values()
    if any(len(several) > 1 for several in slots.values()):
        return None
    known = {slot: next(iter(several)) for slot, several in slots.items()}
    figures: set[Energies] = set()
    exact = known.pop((start_ms, end_ms, False), None)
    if exact is not None:
        figures.add(exact)
    parts = sorted((low, high) for low, high, register in known if not register)
    if parts:
        ends = [start_ms, *(high for _low, high in parts)]
        if [low for low, _high in parts] + [end_ms] != ends:
            return None
        energies = [known[low, high, False] for low, high in parts]
        figures.add((sum(one[0] for one in energies), sum(one[1] for one in energies)))
    before, after = known.get((start_ms, start_ms, True)), known.get((end_ms, end_ms, True))
    if before is not None and after is not None:
        taken, given = after[0] - before[0], after[1] - before[1]
        if taken < 0 or given < 0:
            return None
        figures.add((taken, given))
    return figures.pop() if len(figures) == 1 else None
