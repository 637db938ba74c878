"""Tables as the hot path sees them: a name, its columns, and how rows become COPY text or a multi-row insert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Table:
    """A table that rows are appended to. A row is a tuple with the columns' values in the model's order."""

    def __init__(self, name: str, columns: Sequence[str], kinds: Sequence[str]):
        self.name = name
        self.columns = tuple(columns)
        self.kinds = tuple(kinds)  # "int", "text" or "bytes" each
        self._binary = "bytes" in kinds
        # Bytes formatting takes no text, so the fast way with a binary column needs all others to be integers.
        self._fast = not (self._binary and "text" in kinds)
        self._line = "\t".join("%d" if kind == "int" else "%s" for kind in kinds) + "\n"
        self._bytes_line = self._line.replace("%s", "%b").encode()
        names = ", ".join(f'"{column}"' for column in self.columns)
        self.copy_sql = f'COPY "{name}" ({names}) FROM STDIN'
        self._insert = f'INSERT INTO "{name}" ({names}) VALUES '  # noqa: S608 (names come from the models)
        self._marks = "(" + ",".join("?" * len(self.columns)) + ")"

    @classmethod
    def of(cls, model: type[models.Model]) -> Table:
        """Return the table of a model; ``TypeError`` on a kind of column the hot path does not write."""
        fields = [field for field in model._meta.concrete_fields if field.column is not None]
        return cls(model._meta.db_table, [field.column for field in fields], [_kind(field) for field in fields])

    def copy_text(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Return the rows in PostgreSQL's COPY text format."""
        if self._fast:
            if self._binary:
                buffer = b"".join([self._bytes_line % tuple(row) for row in rows])
            else:
                line = self._line
                buffer = "".join([line % row for row in rows]).encode()
            # One scan for each special character proves that no value held one; only then the plain text is right.
            if (
                buffer.count(b"\n") == len(rows)
                and buffer.count(b"\t") == len(rows) * (len(self.columns) - 1)
                and b"\\" not in buffer
                and b"\r" not in buffer
                and (not self._binary or buffer.isascii())
            ):
                return buffer
        return "".join(["\t".join(map(_escape, row)) + "\n" for row in rows]).encode()

    def insert_sql(self, count: int) -> str:
        """Return an insert of ``count`` rows with SQLite's marks."""
        return self._insert + ",".join([self._marks] * count)


def _escape(value: Any) -> str:
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\\\x" + bytes(value).hex()
    return str(int(value))


def _kind(field: models.Field[Any, Any]) -> str:
    if isinstance(field, models.IntegerField):
        return "int"
    if isinstance(field, models.CharField | models.TextField):
        return "text"
    if isinstance(field, models.BinaryField):
        return "bytes"
    raise TypeError(f"{field}: expected an integer, text or binary column")
