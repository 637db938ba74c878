"""What the ledger's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from tests.integration.following import day, days, followed  # noqa: F401 (fixtures)
from tests.integration.ledger_writer import ORIGIN


@pytest.fixture
def own_keys(tmp_path: Path) -> Iterator[None]:
    """Give every test keys of its own and a closed ledger."""
    files = {"LEDGER_KEY_FILE": tmp_path / "keys" / "key", "LEDGER_SALT_FILE": tmp_path / "keys" / "salt"}
    with override_settings(**files, LEDGER_ORIGIN=ORIGIN, LEDGER_OPEN=False):
        yield
