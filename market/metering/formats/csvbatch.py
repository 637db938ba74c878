"""Values as CSV: by a program to the REST call, or a file that a household uploads. Pure.

The first line names the columns: ``start`` (RFC 3339 with offset) and ``import_wh`` or ``import_kwh``; further ``export_wh`` or
``export_kwh``, ``duration_s`` (default 900), ``register`` (0 or 1), ``quality``, ``revision``, ``device``. The separator is a
comma, a semicolon or a tab; with the latter two a decimal comma is understood.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from market.metering.formats.values import (
    MAX_REVISION,
    MAX_VALUES,
    MAX_WH,
    MEASURED,
    QUALITIES,
    FormatError,
    Value,
    instant_ms,
    text_of,
)

COLUMNS = frozenset(
    ("start", "import_wh", "import_kwh", "export_wh", "export_kwh", "duration_s", "register", "quality", "revision", "device")
)  # fmt: skip
MAX_LINE = 1_000  # characters
MAX_CELL = 64
SEPARATORS = (";", "\t", ",")
_KWH = re.compile(r"([0-9]{1,12})(?:[.,]([0-9]{1,3})0*)?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)


def parse(data: bytes, *, received_ms: int, limit: int = MAX_VALUES) -> list[Value]:
    """Return the values of a CSV file. Raise ``FormatError`` (encoding, too_large, too_many, malformed, invalid_value …)."""
    text = text_of(data)
    head, _, _rest = text.partition("\n")
    if len(head) > MAX_LINE:
        raise FormatError("malformed", "start", 1)
    separator = next((one for one in SEPARATORS if one in head), ",")
    names = [name.strip().strip('"').lower() for name in head.strip("\r\n").split(separator)]
    _check_columns(names)
    place = {name: column for column, name in enumerate(names)}
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    known: dict[str, int] = {}
    found: list[Value] = []
    energy = {"import": _energy(place, "import"), "export": _energy(place, "export")}
    simple = all(name not in place for name in ("duration_s", "register", "quality", "revision", "device"))
    try:
        next(reader)
        for row in reader:
            if not row or row == [""]:
                continue
            if len(row) != len(names):
                raise FormatError("malformed", "", reader.line_num)
            if len(found) >= limit:
                raise FormatError("too_many", "values")
            start = row[place["start"]].strip()
            start_ms = known.get(start)
            if start_ms is None:
                try:
                    start_ms = known[start] = instant_ms(start)
                except (ValueError, OverflowError):
                    raise FormatError("invalid_value", "start", reader.line_num) from None
            line = reader.line_num
            import_wh, export_wh = energy["import"](row, line), energy["export"](row, line)
            if simple:
                found.append(Value("", start_ms, 900_000, import_wh, export_wh, False, MEASURED, 0, received_ms))
                continue
            register = _flag(_cell(row, place, "register"), line)
            duration = _whole(_cell(row, place, "duration_s") or "900", "duration_s", 86_400, line)
            quality = _cell(row, place, "quality") or MEASURED
            if quality not in QUALITIES:
                raise FormatError("invalid_value", "quality", line)
            if not duration and not register:
                raise FormatError("invalid_value", "duration_s", line)
            found.append(
                Value(
                    _cell(row, place, "device"), start_ms, 0 if register else duration * 1_000, import_wh, export_wh,
                    register, quality, _whole(_cell(row, place, "revision") or "0", "revision", MAX_REVISION, line),
                    received_ms,
                )
            )  # fmt: skip
    except csv.Error:
        raise FormatError("malformed", "", reader.line_num) from None
    if not found:
        raise FormatError("empty")
    return found


def _check_columns(names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if "start" not in names:
        raise FormatError("missing_column", "start", 1)
    if unknown:
        raise FormatError("unknown_column", unknown[0][:MAX_CELL], 1)
    if len(set(names)) != len(names):
        raise FormatError("malformed", next(name for name in names if names.count(name) > 1), 1)
    if ("import_wh" in names) == ("import_kwh" in names):
        raise FormatError("missing_column", "import_wh", 1)
    if "export_wh" in names and "export_kwh" in names:
        raise FormatError("malformed", "export_wh", 1)


def _energy(place: dict[str, int], what: str) -> Callable[[list[str], int], int]:
    """Return what reads an energy (Wh) out of a row."""
    if (column := place.get(f"{what}_wh")) is not None:

        def whole(row: list[str], line: int) -> int:
            return _whole(row[column].strip(), f"{what}_wh", MAX_WH, line)

        return whole
    if (kilo := place.get(f"{what}_kwh")) is not None:

        def decimal(row: list[str], line: int) -> int:
            matched = _KWH.fullmatch(row[kilo].strip())
            if matched is None:
                raise FormatError("invalid_value", f"{what}_kwh", line)
            return int(matched[1]) * 1_000 + int((matched[2] or "").ljust(3, "0"))

        return decimal
    return lambda row, line: 0


def _cell(row: list[str], place: dict[str, int], name: str) -> str:
    column = place.get(name)
    return "" if column is None else row[column].strip()[:MAX_CELL]


def _whole(text: str, field: str, most: int, line: int) -> int:
    if _WHOLE.fullmatch(text) is None or int(text) > most:
        raise FormatError("invalid_value", field, line)
    return int(text)


def _flag(text: str, line: int) -> bool:
    if text not in ("", "0", "1"):
        raise FormatError("invalid_value", "register", line)
    return text == "1"
