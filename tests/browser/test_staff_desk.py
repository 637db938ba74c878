"""The market operator stops and resumes trading and publishes rules; what that does to others."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor

Visit = Callable[..., Visitor]

pytestmark = pytest.mark.browser


def test_a_halt_is_felt_by_the_household_and_ends(visit: Visit) -> None:
    staff = visit("staff")
    desk = staff.page
    desk.get_by_role("link", name="Halts").click()
    desk.get_by_label("What").select_option("market")
    desk.get_by_label("Reason").select_option("integrity")
    desk.get_by_role("button", name="Stop trading").click()
    desk.get_by_role("button", name="Yes, stop trading").click()
    expect(desk.locator(".notice.success a")).to_have_text(re.compile(r"^Ledger entry \d+$"))
    expect(desk.get_by_role("heading", name="Stopped now").locator("xpath=..")).to_contain_text("The whole market")

    household = visit("household")
    token = household.page.locator('meta[name="csrf-token"]').get_attribute("content")
    contract = household.page.request.get(f"{household.url}/api/v1/contracts?state=open").json()["results"][-1][
        "contract"
    ]
    order = {"contract": contract, "side": "sell", "price": "0.2000", "energy_wh": 100, "time_in_force": "gtg"}
    send = {"data": order, "headers": {"X-CSRFToken": token or "", "Origin": household.url}}
    answer = household.page.request.post(f"{household.url}/api/v1/orders", **send)
    assert (answer.status, answer.json()["code"]) == (409, "market_halted")

    desk.get_by_role("button", name="Let it go on").click()
    expect(desk.get_by_text("Trading runs everywhere.")).to_be_visible()
    assert household.page.request.post(f"{household.url}/api/v1/orders", **send).status == 201
    assert staff.errors == []


def test_a_tariff_is_published_with_its_entry(visit: Visit) -> None:
    staff = visit("staff")
    desk = staff.goto("/staff/rules")
    desk.get_by_label("Spill price, EUR per kWh").fill("0.5")
    desk.get_by_role("button", name="Publish the tariff").click()
    expect(desk.locator("#id_tariff-spill_error")).to_contain_text("may not be above the top-up price")
    desk.get_by_label("Spill price, EUR per kWh").fill("0.0810")
    desk.get_by_role("button", name="Publish the tariff").click()
    desk.locator(".notice.success a").click()
    expect(desk.locator("table.fields")).to_contain_text("spill_e4")
    expect(desk.locator("table.fields tr", has_text="spill_e4")).to_contain_text("810")
    expect(desk.get_by_text("Decided by sam")).to_be_visible()
