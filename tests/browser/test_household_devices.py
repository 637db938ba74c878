"""A household registers a meter and uploads a Green Button file; the operator confirms inverters and sees the balance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import Visitor

Visit = Callable[..., Visitor]

pytestmark = pytest.mark.browser
FILE = Path(__file__).resolve().parents[1] / "vectors" / "espi" / "sdge-2011.xml"


def test_a_meter_is_registered_and_a_file_is_taken(visit: Visit) -> None:
    household = visit("household")
    page = household.goto("/account")
    page.get_by_role("link", name="Devices and readings").click()
    page.get_by_label("What it is").select_option("meter")
    page.get_by_label("Name of the device").fill("cellar")
    page.get_by_label("Rated power, kW").fill("30")
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#secret")).to_contain_text("sl_")
    page.get_by_role("link", name="Readings and files").click()
    page.locator("#id_file").set_input_files(FILE)
    page.get_by_role("button", name="Show what is in it").click()
    preview = page.get_by_role("heading", name="What is in the file").locator("xpath=..")
    expect(preview).to_contain_text("Green Button")
    expect(preview).to_contain_text("72")
    check(household, "/account/readings")
    page.locator("#id_file").set_input_files(FILE)
    page.get_by_role("button", name="Show what is in it").click()
    page.get_by_role("button", name="Take these readings").click()
    expect(page.get_by_role("heading", name="Taken from the file")).to_be_visible()
    expect(page.locator("#taken").locator("xpath=..")).to_contain_text("72")
    assert household.errors == []
    page = household.goto("/account/devices")
    page.get_by_role("button", name="Revoke cellar").first.click()
    expect(page.get_by_text("nothing it sends is taken any more")).to_be_visible()


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_devices_and_balance_have_no_barriers(visit: Visit, size: dict[str, int], language: str, scheme: str) -> None:
    household = visit("household", size=size, language=language, scheme=scheme)
    page = household.goto("/account/devices")
    page.locator("#id_kind").select_option("inverter")
    page.locator("#id_name").fill("roof")
    page.locator("#id_rating_w").fill("8")
    page.locator("form[action$=register] button").click()
    expect(page.locator("#secret")).to_be_visible()
    check(household, "/account/devices")
    check(household, "/account/readings")
    operator = visit("operator", size=size, language=language, scheme=scheme)
    page = operator.goto("/operator/devices")
    expect(page.locator("button[value=confirm]").first).to_be_visible()
    page.locator("#id_name").fill("transformer")
    page.locator("#id_rating_w").fill("400")
    page.locator("form[action$=substations] button").click()
    expect(page.locator("#secret")).to_be_visible()
    check(operator, "/operator/devices")
    page.goto(page.url)
    page.locator("button[value=decline]").first.click()
    check(operator, "/operator/balance")
