"""A household uploads readings: it sees what is in the file, then takes it; broken and hostile files say what is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from market.engine.contracts import contract_start_ms
from market.exchange.units import at_text
from market.households import devices
from market.metering.committing import commit_due
from market.metering.models import DeviceValue, Reading
from tests.integration.pages.conftest import Town, Visitor

PAGE = "/account/readings"
VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "espi"
NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)


@pytest.fixture
def home(town: Town, request: pytest.FixtureRequest) -> Visitor:
    """A person with a meter."""
    name = re.sub(r"\W", "", request.node.name)[-40:]
    visitor = town.person(name, area="LV1.1")
    devices.register(user=visitor.user, kind="meter", name="cellar", rating_w=30_000, now=NOW, now_ms=0)
    return visitor


def upload(visitor: Visitor, data: bytes, name: str = "readings") -> Any:
    [device] = [one for one in devices.of_account(visitor.account) if one.revoked_ms is None]
    return visitor.post(PAGE, device=device.device_id, file=SimpleUploadedFile(name, data))


def take(visitor: Visitor, html: str) -> str:
    found = re.search(r'name="token" value="(\w+)"', html)
    assert found, html
    response = visitor.post(f"{PAGE}/take", page=PAGE, token=found[1])
    assert response.status_code == 200
    return response.content.decode()


def values_of(visitor: Visitor) -> int:
    return DeviceValue.objects.filter(account=visitor.account).count()


@pytest.mark.parametrize(("name", "count"), [("sdge-2011.xml", 72), ("nist-hourly-2014.xml", 24)])
def test_green_button_files_from_outside(town: Town, home: Visitor, name: str, count: int) -> None:
    html = upload(home, (VECTORS / name).read_bytes()).content.decode()
    assert "Green Button" in html and f"<dd>{count}</dd>" in html
    assert values_of(home) == 0
    assert f"<b>{count}</b>" in take(home, html)
    assert values_of(home) == count
    again = take(home, upload(home, (VECTORS / name).read_bytes()).content.decode())
    assert "known already" in again
    assert values_of(home) == count


def test_csv_becomes_readings(town: Town, home: Visitor) -> None:
    contract = town.market.contract(1)
    town.market.clock.advance(minutes=31)
    town.person("tick", area="LV1.2")  # any command lets the timetable catch up
    start = at_text(contract_start_ms(contract))
    html = upload(home, f"start;import_kwh;export_kwh\n{start};0,120;0,5\n{start};999;0\n".encode()).content.decode()
    assert "CSV" in html
    told = take(home, html)
    assert "more than the device can carry" in told
    commit_due(exchange=town.exchange, now_ms=town.exchange.now_ms())
    reading = Reading.objects.get(account=home.account)
    assert (reading.import_wh, reading.export_wh, reading.quality) == (120, 500, "measured")
    page = home.html(PAGE)
    assert "measured" in page and "120" in page


BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;&b;">]><a>&d;</a>'


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (BOMB, "has a document type or entities"),
        (b"start,import_wh\n2026-06-06T10:00:00Z,1\n".decode().encode("utf-16"), "not in UTF-8"),
        (b"start,import_wh\nyesterday,1\n", "A value cannot be right. Line 2. (start)"),
        (b"import_wh\n1\n", "A column is missing"),
        (b"<feed/>", "not a Green Button file"),
        (b"\x89PNG\r\n", "not in UTF-8"),
        (b" ", "A column is missing"),
    ],
)
def test_files_that_are_refused_say_why(town: Town, data: bytes, sentence: str) -> None:
    visitor = town.person(f"r{len(data)}{sentence[:3]}".replace(" ", ""), area="LV1.1")
    devices.register(user=visitor.user, kind="meter", name="cellar", rating_w=30_000, now=NOW, now_ms=0)
    response = upload(visitor, data)
    assert response.status_code == 422
    html = response.content.decode()
    assert sentence in html and 'id="id_file_error"' in html
    assert 'name="token"' not in html


def test_nobody_takes_what_another_has_uploaded(town: Town, home: Visitor) -> None:
    html = upload(home, b"start,import_wh\n2026-06-06T09:00:00Z,1\n").content.decode()
    token = re.search(r'name="token" value="(\w+)"', html)[1]
    other = town.person("other", area="LV1.1")
    devices.register(user=other.user, kind="meter", name="cellar", rating_w=30_000, now=NOW, now_ms=0)
    assert other.post(f"{PAGE}/take", page=PAGE, token=token).status_code == 422
    assert home.post(f"{PAGE}/take", page=PAGE, token="0" * 32).status_code == 422
    assert values_of(home) == values_of(other) == 0
    stranger = devices.of_account(other.account)[0].device_id
    assert home.post(PAGE, device=stranger, file=SimpleUploadedFile("x", b"start,import_wh\n")).status_code == 422


def test_without_a_device_there_is_nothing_to_upload_for(town: Town) -> None:
    assert "Register the meter first" in town.charlie.html(PAGE)
    assert town.olga.get(PAGE).status_code == 403
    chinese = town.charlie.client.get(PAGE, headers={"accept-language": "zh-hans"}).content.decode()
    assert "请先登记" in chinese
