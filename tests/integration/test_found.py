"""`manage.py found`: a real market begins."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from ledger.models import Entry
from market.exchange import operations
from market.simulator.founding import RULEBOOK_VERSION
from market.simulator.neighbourhood import DATA

pytestmark = pytest.mark.django_db(transaction=True)
PRICES = {"topup": "0.3000", "spill": "0.0800"}


@pytest.fixture(autouse=True)
def fresh_folder(settings: Any, tmp_path: Path) -> None:
    """Keys and the published checkpoint of each market lie apart."""
    settings.LEDGER_KEY_FILE = tmp_path / "ledger_key"
    settings.LEDGER_SALT_FILE = tmp_path / "ledger_salt"
    settings.PUBLISHED_CHECKPOINT_FILE = tmp_path / "published_checkpoint"


def test_a_market_is_founded_once_and_its_ledger_verifies(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("found", str(DATA / "areas.csv"), **PRICES)
    entries = Entry.objects.count()
    genesis = bytes(Entry.objects.get(seq=0).leaf)
    assert b'"type":"genesis"' in genesis
    text = (settings.BASE_DIR / "docs" / "market-rules.md").read_text()
    [version] = re.findall(r"^Version (\d+)\.", text, re.MULTILINE)
    assert f'"rulebook_version":{version}'.encode() in genesis
    call_command("found", str(DATA / "areas.csv"), **PRICES)
    assert "nothing was changed" in capsys.readouterr().out
    leaves = [bytes(entry.leaf) for entry in Entry.objects.all()]
    assert sum(b'"type":"area"' in leaf for leaf in leaves) == 8
    assert sum(b'"type":"tariff"' in leaf for leaf in leaves) == 1
    [params] = [leaf for leaf in leaves if b'"type":"params"' in leaf]
    assert b'"collar_e4":1500' in params
    assert b'"connection_import_w":30000' in params
    assert Entry.objects.count() >= entries
    call_command("verify_ledger")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"topup": "cheap"}, "--topup"), ({"topup": "0.30001"}, "--topup"), ({"spill": "-0.1"}, "--spill"),
        ({"spill": "0.4000"}, "spill"), ({"topup": "9.0000"}, "topup"), ({"fee": ""}, "--fee"),
    ],
)  # fmt: skip
def test_bad_prices_are_named(change: dict[str, str], field: str) -> None:
    with pytest.raises(CommandError, match=field):
        call_command("found", str(DATA / "areas.csv"), **{**PRICES, **change})
    assert not Entry.objects.exists()


def test_a_bad_grid_is_named(tmp_path: Path) -> None:
    areas = tmp_path / "areas.csv"
    areas.write_text("area_id,parent_id,level,capacity_kw\nLV1,MV,LV,100\n")
    with pytest.raises(CommandError, match="line 2"):
        call_command("found", str(areas), **PRICES)
    with pytest.raises(CommandError, match="areas"):
        call_command("found", str(tmp_path / "none.csv"), **PRICES)
    assert not Entry.objects.exists()


def test_whoever_founds_a_market_says_which_version_of_the_rules() -> None:
    version = inspect.signature(operations.found_market).parameters["rulebook_version"]
    assert version.default is inspect.Parameter.empty, "a version assumed is one that the text does not name"
    text = (settings.BASE_DIR / "docs" / "market-rules.md").read_text(encoding="utf-8")
    assert re.search(rf"\bVersion {RULEBOOK_VERSION}\b", text)


def test_a_superuser_is_staff_of_the_market() -> None:
    assert get_user_model().objects.create_superuser("sam", "sam@market.example", "a long password").role == "staff"
