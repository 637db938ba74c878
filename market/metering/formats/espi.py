"""Green Button files: the ESPI XML of NAESB REQ.21, an Atom feed whose entries hold reading types and blocks of readings. Pure.

Entities, external references and document types are refused outright, sizes and depth are bounded, and what a file says is
used only where it is electricity in Wh (``uom`` 72). ``flowDirection`` 19 is energy given (export); 0, 1 and absent is energy
taken. ``accumulationBehaviour`` 1 and 3 (bulk quantity, cumulative) are counters, all others energies of their period.
"""

from __future__ import annotations

import io
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from market.metering.formats.values import (
    ESTIMATED,
    MAX_DURATION_MS,
    MAX_FILE_VALUES,
    MAX_WH,
    MEASURED,
    FormatError,
    Value,
    text_of,
)

MAX_DEPTH = 32
MAX_ELEMENTS = 400_000  # of a file: a reading has up to nine
MAX_TYPES = 200  # reading types of one feed
MAX_BLOCKS = 20_000
MAX_TEXT = 64  # characters of a number
NAMESPACE = "{http://naesb.org/espi}"
ATOM = "{http://www.w3.org/2005/Atom}"
ELECTRICITY = 1
WATT_HOURS = 72
FORWARD, REVERSE = (0, 1), (19,)
COUNTERS = (1, 3)
ESTIMATES = (8, 9, 15)  # QualityOfReading: estimated with a reference day, by interpolation, estimated


class _Type(NamedTuple):
    """How the values of a meter reading are meant."""

    link: str
    factor: int  # powerOfTenMultiplier
    export: bool
    counter: bool
    fits: bool  # electricity in Wh


class _Block(NamedTuple):
    """An interval block: which meter reading it belongs to, and (start s, duration s, value, quality)."""

    link: str
    readings: list[tuple[int, int, int, int]]


def parse(data: bytes, *, received_ms: int, limit: int = MAX_FILE_VALUES) -> list[Value]:
    """Return the values of a Green Button file, import and export of the same time in one.

    Raise ``FormatError``: encoding, too_large, forbidden_xml (entities, DTD), malformed, too_deep, too_many, not_espi,
    other_unit, invalid_value, empty.
    """
    text_of(data)  # UTF-8, whatever the XML declaration says
    if b"encoding=" in data[:200] and not any(name in data[:200].lower() for name in (b"utf-8", b"ascii")):
        raise FormatError("encoding", "encoding", 1)
    types: list[_Type] = []
    blocks: list[_Block] = []
    meters: dict[str, list[str]] = {}  # link of a meter reading: links related to it
    count = depth = elements = 0
    links: dict[str, list[str]] = {}
    try:
        for event, element in iterparse(io.BytesIO(data), events=("start", "end"), forbid_dtd=True):
            if event == "start":
                depth += 1
                elements += 1
                if depth > MAX_DEPTH:
                    raise FormatError("too_deep")
                if elements > MAX_ELEMENTS:
                    raise FormatError("too_many", "elements")
                if element.tag == ATOM + "entry":
                    links = {}
                continue
            depth -= 1
            tag = element.tag
            if tag == ATOM + "link":
                links.setdefault(str(element.get("rel", "")), []).append(str(element.get("href", ""))[:500])
            elif tag == NAMESPACE + "ReadingType":
                types.append(_type(element, _first(links, "self")))
            elif tag == NAMESPACE + "MeterReading":
                meters[_first(links, "self")] = links.get("related", [])
            elif tag == NAMESPACE + "IntervalBlock":
                block = _block(element, _first(links, "up"))
                count += len(block.readings)
                if count > limit:
                    raise FormatError("too_many", "values")
                blocks.append(block)
                element.clear()
            elif tag == ATOM + "entry":
                element.clear()  # what is read is not kept
            if len(types) > MAX_TYPES or len(blocks) > MAX_BLOCKS or len(meters) > MAX_TYPES:
                raise FormatError("too_many", "entries")
    except DefusedXmlException:
        raise FormatError("forbidden_xml") from None
    except ParseError as error:
        raise FormatError("malformed", "", error.position[0]) from None
    except (LookupError, UnicodeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("malformed") from None
    if not blocks:
        raise FormatError("not_espi")
    return _joined(types, blocks, meters, received_ms)


def _first(links: dict[str, list[str]], rel: str) -> str:
    return links.get(rel, [""])[0]


def _number(element: Element, name: str, default: int | None = None) -> int:
    text = (element.findtext(NAMESPACE + name) or "").strip()
    if not text and default is not None:
        return default
    digits = text[1:] if text[:1] == "-" else text
    if len(text) > MAX_TEXT or not (digits.isascii() and digits.isdigit()):
        raise FormatError("invalid_value", name)
    return int(text)


def _type(element: Element, link: str) -> _Type:
    commodity, unit = _number(element, "commodity", ELECTRICITY), _number(element, "uom", WATT_HOURS)
    direction = _number(element, "flowDirection", 0)
    factor = _number(element, "powerOfTenMultiplier", 0)
    fits = commodity in (0, ELECTRICITY) and unit == WATT_HOURS and direction in FORWARD + REVERSE and -6 <= factor <= 9
    return _Type(link, factor, direction in REVERSE, _number(element, "accumulationBehaviour", 4) in COUNTERS, fits)


def _block(element: Element, link: str) -> _Block:
    readings = []
    for reading in element.iterfind(NAMESPACE + "IntervalReading"):
        period = reading.find(NAMESPACE + "timePeriod")
        if period is None:
            raise FormatError("invalid_value", "timePeriod")
        quality = reading.find(NAMESPACE + "ReadingQuality")
        readings.append(
            (
                _number(period, "start"),
                _number(period, "duration", 0),
                _number(reading, "value"),
                0 if quality is None else _number(quality, "quality", 0),
            )
        )
    return _Block(link, readings)


def _joined(types: list[_Type], blocks: list[_Block], meters: dict[str, list[str]], received_ms: int) -> list[Value]:
    """Give every block the type it is meant by, and put both directions of a time together."""
    found: dict[tuple[int, int, bool], list[int]] = {}
    estimated: set[tuple[int, int, bool]] = set()
    other = False
    for block in blocks:
        kind = _kind(block, types, meters)
        if not kind.fits:
            other = True
            continue
        for start, duration, value, quality in block.readings:
            energy_wh = value * 10**kind.factor if kind.factor >= 0 else value // 10**-kind.factor
            if not 0 <= energy_wh <= MAX_WH:
                raise FormatError("invalid_value", "value")
            if not 0 <= start <= MAX_WH // 1_000 or not 0 <= duration * 1_000 <= MAX_DURATION_MS * 366:
                raise FormatError("invalid_value", "timePeriod")
            # A counter is what it showed at the end of its period.
            key = ((start + duration) * 1_000, 0, True) if kind.counter else (start * 1_000, duration * 1_000, False)
            found.setdefault(key, [0, 0])[kind.export] = energy_wh
            if quality in ESTIMATES:
                estimated.add(key)
    if not found:
        raise FormatError("other_unit" if other else "empty")
    return [
        Value("", start_ms, length_ms, import_wh, export_wh, register, ESTIMATED if key in estimated else MEASURED, 0,
              received_ms)
        for key in sorted(found)
        for start_ms, length_ms, register in [key]
        for import_wh, export_wh in [found[key]]
    ]  # fmt: skip


def _kind(block: _Block, types: list[_Type], meters: dict[str, list[str]]) -> _Type:
    """Return the type of a block: through the meter reading it hangs under, else the only one there is."""
    if not types:
        return _Type("", 0, False, False, True)
    if len(types) == 1:
        return types[0]
    meter = block.link.rsplit("/IntervalBlock", 1)[0]
    related = meters.get(meter, [])
    for one in types:
        if one.link and one.link in related:
            return one
    raise FormatError("not_espi", "ReadingType")
