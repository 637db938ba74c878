"""What a signed batch says by itself: one figure for an interval, or none that could be held against a reading."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from market.engine import signedvalues

LENGTH_MS = 900_000
START_MS = 1_780_747_200_000  # an edge


def value(minute: int, import_wh: int, minutes: int = 15, **more: Any) -> dict[str, Any]:
    start = datetime.fromtimestamp(START_MS / 1_000 + 60 * minute, UTC).isoformat()
    return {"start": start, "duration_s": 60 * minutes, "import_wh": import_wh, **more}


def counter(minute: int, import_wh: int, **more: Any) -> dict[str, Any]:
    return {**value(minute, import_wh, **more), "register": True}


@pytest.mark.parametrize(
    ("values", "figures"),
    [
        ([value(0, 7, export_wh=3)], (7, 3)),
        ([value(0, 7), value(0, 7, revision=1)], (7, 0)),
        ([value(0, 1, 5), value(10, 3, 5), value(5, 2, 5)], (6, 0)),
        ([value(0, 6), value(0, 1, 5), value(5, 5, 10)], (6, 0)),
        ([counter(0, 100, export_wh=4), counter(15, 170, export_wh=9)], (70, 5)),
        ([counter(0, 100), counter(7, 130), counter(15, 170), value(0, 70)], (70, 0)),
        ([value(0, 7), value(-30, 99, 120)], (7, 0)),
        ([value(0, 7, device="own")], (7, 0)),
        # not one figure
        ([value(0, 7), value(0, 8, revision=1)], None),
        ([value(0, 7), value(0, 0, export_wh=500, device="inverter")], None),
        ([value(0, 7), value(0, 1, 5)], None),
        ([value(0, 1, 5), value(5, 2, 5)], None),
        ([value(0, 1, 10), value(5, 2, 10)], None),
        ([value(0, 9), value(0, 1, 5), value(5, 5, 10)], None),
        ([counter(0, 99_990), counter(15, 20)], None),
        ([counter(0, 100), counter(15, 170), value(0, 71)], None),
        ([counter(7, 100)], None),
    ],
)
def test_an_interval_has_one_figure_or_none(values: list[dict[str, Any]], figures: tuple[int, int] | None) -> None:
    found = signedvalues.said(values, "own", LENGTH_MS)
    assert found[START_MS] == figures
    assert signedvalues.said(values[::-1], "own", LENGTH_MS) == found


def test_each_value_is_of_its_interval() -> None:
    values = [value(0, 1), value(15, 2), counter(60, 5), counter(75, 9)]
    found = signedvalues.said(values, "own", LENGTH_MS)
    known = {(at - START_MS) // 60_000: figures for at, figures in found.items()}
    assert known == {0: (1, 0), 15: (2, 0), 45: None, 60: (4, 0), 75: None}


@pytest.mark.parametrize(
    "wrong", [{"start": 5}, {"start": "soon"}, {"import_wh": "x"}, {"device": ["x"]}, {"start": None}]
)
def test_values_that_cannot_be_read(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        signedvalues.said([value(0, 1) | wrong], "own", LENGTH_MS)


@pytest.mark.parametrize(
    "changed",
    [{"v": 2}, {"more": 1}, {"batch": "="}, {"batch": 5}, {"key": None}, {"batch": base64.b64encode(b'{"values":5}')}],
)
def test_batches_that_cannot_be_read(changed: dict[str, Any]) -> None:
    body = json.dumps({"values": [value(0, 1)]}).encode()
    fields = {"account": "a", "device": "d", "key": "k", "signature": "s", "v": 1}
    fields["batch"] = base64.b64encode(body).decode()
    read = signedvalues.read(json.dumps(fields).encode())
    assert (read.account_id, read.device, read.body, len(read.values)) == ("a", "d", body, 1)
    changed = {name: one.decode() if isinstance(one, bytes) else one for name, one in changed.items()}
    with pytest.raises(ValueError, match="expected"):
        signedvalues.read(json.dumps(fields | changed).encode())
