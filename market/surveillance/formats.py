"""CSV, JSON Lines and Parquet of searched rows: the same columns, types and units in each (docs/regulator.md). Pure.

Numbers stay the system's integers, so that nothing is rounded. A text in CSV that a spreadsheet would take for a formula gets
an apostrophe in front (OWASP, "CSV Injection").
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import orjson
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet

INTEGER, TEXT, INSTANT = "integer", "text", "instant"
CSV, JSONL, PARQUET = "csv", "jsonl", "parquet"
FORMATS = (CSV, JSONL, PARQUET)
TYPES = {CSV: "text/csv; charset=utf-8", JSONL: "application/x-ndjson", PARQUET: "application/vnd.apache.parquet"}
BATCH = 5_000  # rows of a Parquet batch
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Row = Sequence[Any]


class Column(NamedTuple):
    """A column: an ``at`` is ms since the epoch inside, an RFC 3339 text in CSV and JSON, a timestamp in Parquet."""

    name: str
    type: str
    unit: str = ""


def write(
    format: str, file: BinaryIO, columns: Sequence[Column], rows: Iterable[Row], at_text: Callable[[int], str]
) -> None:
    """Write rows to a file as they come."""
    if format == PARQUET:
        _parquet(file, columns, rows)
        return
    instants = [index for index, column in enumerate(columns) if column.type == INSTANT]
    lines = _csv_lines if format == CSV else _json_lines
    file.writelines(lines(columns, _texts(rows, instants, at_text)))


def safe(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA) else value


def _texts(rows: Iterable[Row], instants: Sequence[int], at_text: Callable[[int], str]) -> Iterator[list[Any]]:
    for row in rows:
        cells = list(row)
        for index in instants:
            cells[index] = at_text(cells[index])
        yield cells


class _Line:
    """What a ``csv.writer`` writes into; ``write`` gives the line back."""

    def write(self, text: str) -> str:
        return text


def _csv_lines(columns: Sequence[Column], rows: Iterable[list[Any]]) -> Iterator[bytes]:
    writer: Any = csv.writer(_Line(), lineterminator="\r\n")  # RFC 4180
    yield writer.writerow([column.name for column in columns]).encode()
    for row in rows:
        yield writer.writerow([safe(cell) for cell in row]).encode()


def _json_lines(columns: Sequence[Column], rows: Iterable[list[Any]]) -> Iterator[bytes]:
    names = [column.name for column in columns]
    for row in rows:
        yield orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)


def _parquet(file: BinaryIO, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    kinds = {INTEGER: DataType.int64(), TEXT: DataType.string(), INSTANT: DataType.timestamp("ms", tz="UTC")}
    schema = Schema(
        [
            Field(
                column.name, kinds[column.type], nullable=False, metadata={"unit": column.unit} if column.unit else None
            )
            for column in columns
        ]
    )

    def batches() -> Iterator[RecordBatch]:
        for part in _parts(rows):
            arrays = []
            for column, values in zip(columns, zip(*part, strict=True), strict=True):
                if column.type == INSTANT:
                    arrays.append(Array(list(values), type=DataType.int64()).cast(kinds[INSTANT]))
                else:
                    arrays.append(Array(list(values), type=kinds[column.type]))
            yield RecordBatch.from_arrays(arrays, schema=schema)

    write_parquet(RecordBatchReader.from_batches(schema, batches()), file, compression="zstd(3)")


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == BATCH:
            yield part
            part = []
    if part:
        yield part
