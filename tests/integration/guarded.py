"""How a test changes what nothing may change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """Take the append-only guards away for a while."""
    yield
