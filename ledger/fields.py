"""A column for numbers that only ever grow."""

from __future__ import annotations

from typing import Any

from django.db import models


class SequenceField(models.BigIntegerField):
    """A 64-bit primary key that its writer counts up.

    SQLite keeps a table in the order of a key that is declared exactly ``integer``; for any other type, ``bigint``
    included, it keeps a second tree beside the table, and every row costs two insertions.
    """

    def db_type(self, connection: Any) -> str | None:
        """Return the column's type on this database."""
        return "integer" if connection.vendor == "sqlite" else super().db_type(connection)
