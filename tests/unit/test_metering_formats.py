"""Readings in every format give one form; hostile and broken files get a clear refusal, and cost next to nothing."""

from __future__ import annotations

import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from market.metering.formats import csvbatch, espi, jsonbatch
from market.metering.formats.values import MAX_FILE_BYTES, FormatError, Value

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "espi"
START_MS = 1_780_740_000_000  # 2026-06-06T10:00:00Z
QUARTER = Value("", START_MS, 900_000, 120, 30, False, "measured", 0, 7)


def refusal(parse, data: bytes, **limits: int) -> tuple[str, str, int]:
    with pytest.raises(FormatError) as caught:
        parse(data, received_ms=7, **limits)
    return caught.value.code, caught.value.field, caught.value.line


# --- one form --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (jsonbatch.parse, b'{"values":[{"start":"2026-06-06T10:00:00Z","import_wh":120,"export_wh":30}]}'),
        (jsonbatch.parse, b'{"values":[{"start":"2026-06-06T12:00:00.000+02:00","import_wh":120,"export_wh":30}]}'),
        (csvbatch.parse, b"start,import_wh,export_wh\n2026-06-06T10:00:00Z,120,30\n"),
        (csvbatch.parse, b"\xef\xbb\xbfstart;import_kwh;export_kwh\r\n2026-06-06T12:00+02:00;0,12;0,030\r\n\r\n"),
        (csvbatch.parse, b"export_wh\tstart\timport_kwh\tduration_s\n30\t2026-06-06T10:00Z\t0.120\t900\n"),
    ],
)
def test_every_format_gives_the_same_value(parse, data: bytes) -> None:
    assert parse(data, received_ms=7) == [QUARTER]


def test_counters_revisions_and_devices() -> None:
    text = b"start,device,register,import_wh,quality,revision\n2026-06-06T10:00:00Z,ab,1,9000000,estimated,3\n"
    expected = [Value("ab", START_MS, 0, 9_000_000, 0, True, "estimated", 3, 7)]
    assert csvbatch.parse(text, received_ms=7) == expected
    body = (
        b'{"values":[{"start":"2026-06-06T10:00:00Z","device":"ab","register":true,"import_wh":9000000,'
        b'"quality":"estimated","revision":3}]}'
    )
    assert jsonbatch.parse(body, received_ms=7) == expected


def test_public_green_button_files() -> None:
    nist = espi.parse((VECTORS / "nist-hourly-2014.xml").read_bytes(), received_ms=7)
    assert (len(nist), sum(value.import_wh for value in nist)) == (24, 21_021)
    assert nist[0] == Value("", 1_388_552_400_000, 3_600_000, 273, 0, False, "measured", 0, 7)
    assert [b.start_ms - a.start_ms for a, b in pairwise(nist)] == [3_600_000] * 23
    sdge = espi.parse((VECTORS / "sdge-2011.xml").read_bytes(), received_ms=7)
    assert (len(sdge), sdge[0].start_ms, sdge[0].import_wh) == (72, 1_296_547_200_000, 385)


def feed(*entries: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> bytes:
    inside = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return f'{head}<feed xmlns="http://www.w3.org/2005/Atom">{inside}</feed>'.encode()


def kind(name: str, **fields: int) -> str:
    inside = "".join(f"<{field}>{value}</{field}>" for field, value in fields.items())
    link = f'<link rel="self" href="ReadingType/{name}"/>'
    return f'{link}<content><ReadingType xmlns="http://naesb.org/espi">{inside}</ReadingType></content>'


def meter(name: str, related: str) -> str:
    links = f'<link rel="self" href="MeterReading/{name}"/><link rel="related" href="ReadingType/{related}"/>'
    return f'{links}<content><MeterReading xmlns="http://naesb.org/espi"/></content>'


def block(name: str, *values: tuple[int, int, int], extra: str = "") -> str:
    readings = "".join(
        f"<IntervalReading>{extra}<timePeriod><duration>{duration}</duration><start>{start}</start></timePeriod>"
        f"<value>{value}</value></IntervalReading>"
        for start, duration, value in values
    )
    link = f'<link rel="up" href="MeterReading/{name}/IntervalBlock"/>'
    return f'{link}<content><IntervalBlock xmlns="http://naesb.org/espi">{readings}</IntervalBlock></content>'


def test_both_directions_meet_in_one_value() -> None:
    at = START_MS // 1_000
    data = feed(
        kind("in", flowDirection=1, powerOfTenMultiplier=0, uom=72),
        kind("out", flowDirection=19, powerOfTenMultiplier=1, uom=72),
        meter("1", "in"), meter("2", "out"), block("1", (at, 900, 120)), block("2", (at, 900, 3)),
    )  # fmt: skip
    assert espi.parse(data, received_ms=7) == [QUARTER]


def test_green_button_counters_and_estimates() -> None:
    at = START_MS // 1_000
    data = feed(kind("c", accumulationBehaviour=3, powerOfTenMultiplier=3, uom=72), block("1", (at - 900, 900, 12)))
    assert espi.parse(data, received_ms=7) == [Value("", START_MS, 0, 12_000, 0, True, "measured", 0, 7)]
    quality = "<ReadingQuality><quality>8</quality></ReadingQuality>"
    [value] = espi.parse(feed(block("1", (at, 900, 12), extra=quality)), received_ms=7)
    assert value.quality == "estimated"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (feed(kind("gas", commodity=7, uom=169), block("1", (0, 3600, 5))), "other_unit"),
        (feed(kind("w", uom=38), block("1", (0, 3600, 5))), "other_unit"),
        (feed(kind("a", uom=72), kind("b", uom=72), block("1", (0, 3600, 5))), "not_espi"),
        (feed(), "not_espi"),
        (b"<html><body>Sign in</body></html>", "not_espi"),
        (feed(block("1", (0, 3600, -5))), "invalid_value"),
        (feed(block("1", (10**17, 3600, 5))), "invalid_value"),
        (feed(block("1")), "empty"),
        (b"<feed>", "malformed"),
        (b"start,import_wh\n", "malformed"),
    ],
)
def test_files_that_are_not_what_we_read(data: bytes, code: str) -> None:
    assert refusal(espi.parse, data)[0] == code


# --- hostile ---------------------------------------------------------------------------------------------------------
LAUGHS = "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' for n in range(1, 10))
BOMB = f'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol0 "lol">{LAUGHS}]><feed>&lol9;</feed>'.encode()
QUADRATIC = f'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY a "{"x" * 50_000}">]><f>{"&a;" * 50_000}</f>'.encode()
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><f>&x;</f>'
PARAMETER = b'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]><f/>'
DTD = b'<?xml version="1.0"?><!DOCTYPE f SYSTEM "http://127.0.0.1:1/x.dtd"><f/>'


@pytest.mark.parametrize(
    "data", [BOMB, QUADRATIC, EXTERNAL, PARAMETER, DTD], ids=["bomb", "quadratic", "file", "parameter", "dtd"]
)
def test_entities_and_document_types_are_refused(data: bytes) -> None:
    tracemalloc.start()
    started_s = time.perf_counter()
    assert refusal(espi.parse, data)[0] == "forbidden_xml"
    assert time.perf_counter() - started_s < 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_depth_and_counts_are_bounded() -> None:
    assert refusal(espi.parse, b"<a>" * 100_000)[0] == "too_deep"
    many = feed("<a/>" * (espi.MAX_ELEMENTS + 1))
    assert refusal(espi.parse, many)[:2] == ("too_many", "elements")
    assert refusal(espi.parse, feed(block("1", *[(n * 900, 900, 1) for n in range(20)])), limit=10)[0] == "too_many"
    rows = "".join(f"2026-06-06T10:00:00Z,{n}\n" for n in range(20))
    assert refusal(csvbatch.parse, f"start,import_wh\n{rows}".encode(), limit=10)[0] == "too_many"
    value = b'{"start":"2026-06-06T10:00:00Z","import_wh":1}'
    assert refusal(jsonbatch.parse, b'{"values":[' + b",".join([value] * 11) + b"]}", limit=10)[0] == "too_many"


@pytest.mark.parametrize("parse", [espi.parse, csvbatch.parse])
def test_what_is_too_large_is_not_looked_at(parse) -> None:
    started_s = time.perf_counter()
    assert refusal(parse, b" " * (MAX_FILE_BYTES + 1))[0] == "too_large"
    assert time.perf_counter() - started_s < 0.5


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (csvbatch.parse, "start,import_wh\n2026-06-06T10:00:00Z,1\n".encode("utf-16")),
        (csvbatch.parse, "start,import_wh\n2026-06-06T10:00:00Z,1\n".encode("utf-16-le")),
        (csvbatch.parse, b"start,import_wh\n2026-06-06T10:00:00Z,1\xe4\n"),
        (espi.parse, feed(block("1", (0, 3600, 5))).decode().encode("utf-16")),
        (espi.parse, feed(block("1", (0, 3600, 5))).decode().encode("utf-16-le")),
        (espi.parse, feed(block("1", (0, 3600, 5)), head='<?xml version="1.0" encoding="UTF-16"?>')),
        (espi.parse, feed(block("1", (0, 3600, 5)), head='<?xml version="1.0" encoding="latin-1"?>')),
        (espi.parse, feed(block("1", (0, 3600, 5))).replace(b"<feed", b"<!-- \xff --><feed")),
    ],
)  # fmt: skip
def test_a_wrong_encoding_is_named(parse, data: bytes) -> None:
    assert refusal(parse, data)[0] == "encoding"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("start,import_wh\n2026-06-06T10:00:00,1\n", ("invalid_value", "start", 2)),
        ("start,import_wh\n2026-06-06T10:00:00Z,-1\n", ("invalid_value", "import_wh", 2)),
        ("start,import_wh\n2026-06-06T10:00:00Z,1.5\n", ("invalid_value", "import_wh", 2)),
        ("start,import_wh\n2026-06-06T10:00:00Z,٣\n", ("invalid_value", "import_wh", 2)),
        ("start,import_kwh\n2026-06-06T10:00:00Z,1.2345\n", ("invalid_value", "import_kwh", 2)),
        ("start,import_wh\n2026-06-06T10:00:00Z,1\n2026-06-06T10:15:00Z\n", ("malformed", "", 3)),
        ("start,import_wh,note\n2026-06-06T10:00:00Z,1,hi\n", ("unknown_column", "note", 1)),
        ("import_wh\n1\n", ("missing_column", "start", 1)),
        ("start\n2026-06-06T10:00:00Z\n", ("missing_column", "import_wh", 1)),
        ("start,import_wh,import_wh\n", ("malformed", "import_wh", 1)),
        ('start,import_wh\n"2026-06-06T10:00:00Z,1\n', ("malformed", "", 2)),
        ("start,import_wh,register\n2026-06-06T10:00:00Z,1,yes\n", ("invalid_value", "register", 2)),
        ("start,import_wh,duration_s\n2026-06-06T10:00:00Z,1,0\n", ("invalid_value", "duration_s", 2)),
        ("start,import_wh,quality\n2026-06-06T10:00:00Z,1,guess\n", ("invalid_value", "quality", 2)),
        ("start,import_wh\n", ("empty", "", 0)),
        ("", ("missing_column", "start", 1)),
    ],
)  # fmt: skip
def test_csv_that_is_wrong_names_column_and_line(text: str, refused: tuple[str, str, int]) -> None:
    assert refusal(csvbatch.parse, text.encode()) == refused


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b'{"values":[]}', ("malformed", "values")),
        (b'{"values":[{"start":"x","import_wh":1}]}', ("invalid_value", "values[0].start")),
        (b'{"values":[{"start":"2026-06-06T10:00:00","import_wh":1}]}', ("invalid_value", "values[0].start")),
        (b'{"values":[{"start":"2026-06-06T10:00:00Z","import_wh":-1}]}', ("malformed", "values[0].import_wh")),
        (b'{"values":[{"start":"2026-06-06T10:00:00Z","import_wh":1,"x":1}]}', ("malformed", "values[0]")),
        (b"\xff\xfe", ("malformed", "")),
        (b"[" * 100_000, ("malformed", "")),
    ],
)
def test_json_that_is_wrong(body: bytes, refused: tuple[str, str]) -> None:
    assert refusal(jsonbatch.parse, body)[:2] == refused
