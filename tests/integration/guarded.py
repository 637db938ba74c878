"""How a test changes what nothing may change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import connection

from market.exchange import guards


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """Take the append-only guards away for a while."""
    guards.remove(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE exchange_balance DISABLE TRIGGER USER")
            cursor.execute("ALTER TABLE exchange_trade DISABLE TRIGGER USER")
            cursor.execute("ALTER TABLE exchange_transfer DISABLE TRIGGER USER")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("ALTER TABLE exchange_balance ENABLE TRIGGER USER")
                cursor.execute("ALTER TABLE exchange_trade ENABLE TRIGGER USER")
                cursor.execute("ALTER TABLE exchange_transfer ENABLE TRIGGER USER")
