"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests of what only PostgreSQL has to its half of the suite, and those of no database out of it."""
    from django.db import connection

    other = "once" if connection.vendor == "postgresql" else "postgres"
    elsewhere = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if not item.get_closest_marker(other)]


@pytest.fixture(scope="session", autouse=True)
def emptied_between_tests() -> Iterator[None]:
    """Leave the guards out of the databases that tests share: they are emptied after each test, which guards refuse.

    Tests of the guards themselves install them for a while, or start processes with databases of their own.
    """
    from market.config import database
    from market.exchange import guards

    def install(connection: Any) -> None:
        if connection.alias != "default":
            guards.install(connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "guards", SimpleNamespace(**{**vars(guards), "install": install}))
        yield
