"""What the hub's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from market.streaming import delivery, sockets


@pytest.fixture
def open_books(settings: Any) -> None:
    """Books of every area are for everybody, as in the demo."""
    settings.DEMO = True


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bounds small enough to reach with a few messages."""
    monkeypatch.setattr(delivery, "SOFT_BACKLOG_BYTES", 600)
    monkeypatch.setattr(sockets, "SOFT_BACKLOG_BYTES", 600)
    monkeypatch.setattr(sockets, "MAX_BACKLOG_BYTES", 4_000)
    monkeypatch.setattr(sockets, "MAX_QUEUE", 3)
    yield
