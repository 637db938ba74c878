"""The market operator takes a trade back and limits a connection; everybody whom it concerns can see it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import Visitor, join

Visit = Callable[..., Visitor]

pytestmark = pytest.mark.browser


class Deal(NamedTuple):
    """A trade of the household with a neighbour."""

    contract: str
    seq: int
    order: int
    account: int


def deal(visit: Visit, household: Visitor) -> Deal:
    """Let a neighbour sell to the household in an interval that nobody else trades."""
    neighbour = join(visit(), visit("staff"), "LV4.101")
    options = household.goto("/trade").locator("#later option")
    contract = options.nth(options.count() // 2).get_attribute("value") or ""
    neighbour.order(contract, "sell", "0.1300", 300)
    answer = household.order(contract, "buy", "0.1300", 300)
    account = household.page.request.get(f"{household.url}/api/v1/me").json()
    meta = household.page.locator("#page-meta").text_content() or ""
    found = re.search(r'"account": ?(\d+)', meta)
    assert found, account
    return Deal(contract, answer["trades"][0]["seq"], answer["order"]["id"], int(found[1]))


def test_a_recalled_trade_is_marked_for_household_staff_and_regulator(
    visit: Visit, shoot: Callable[[Page, str], None]
) -> None:
    household = visit("household")
    made = deal(visit, household)
    page = household.goto(f"/trade/{made.contract}")
    tape = page.locator("market-tape tbody tr").first
    expect(tape).to_contain_text("300 Wh")
    expect(page.locator("market-ticket")).to_contain_text("bought 300 Wh")
    staff = visit("staff")
    desk = staff.goto(f"/regulator/contracts/{made.contract}")
    desk.get_by_role("link", name=str(made.seq), exact=True).click()
    desk.get_by_role("link", name="Take this trade back").click()
    shoot(desk, "recall-1280")
    desk.get_by_label("Reason").select_option("error")
    desk.get_by_role("button", name="Take the trade back").click()
    expect(desk.locator("h1")).to_contain_text("Trade taken back")
    expect(desk.locator("table.fields tr", has_text="reason")).to_contain_text("Obvious error")
    expect(desk.locator("table.fields tr", has_text="trade").last).to_contain_text(str(made.seq))
    # The household's open page says so by itself.
    expect(tape).to_contain_text("taken back")
    expect(page.locator("market-ticket")).not_to_contain_text("bought 300 Wh")
    expect(household.goto("/statement/movements").locator("table.statement")).to_contain_text("trade taken back")
    expect(household.goto("/home").locator("main")).to_contain_text("taken back")
    regulator = visit("regulator")
    row = regulator.goto(f"/regulator/contracts/{made.contract}").locator("tbody tr", has_text=str(made.seq))
    expect(row).to_contain_text("taken back")
    steps = regulator.goto(f"/regulator/orders/{made.order}").locator('[aria-labelledby="life"] tbody')
    expect(steps).to_contain_text("taken back")
    # Nobody but the market operator is offered to do it, and nobody can do it twice.
    assert regulator.page.request.get(f"{regulator.url}/staff/trades/{made.seq}/recall").status == 403
    expect(staff.goto(f"/staff/trades/{made.seq}/recall").locator("main")).to_contain_text(
        "has been taken back already"
    )
    expect(staff.page.get_by_role("button", name="Take the trade back")).to_have_count(0)


def test_a_connection_that_is_limited_takes_no_more(visit: Visit) -> None:
    household = visit("household")
    made = deal(visit, household)
    staff = visit("staff")
    desk = staff.goto(f"/regulator/accounts/{made.account}")
    desk.get_by_role("link", name="Change the limits").click()
    desk.get_by_label("May take, kW").fill("2")
    desk.get_by_label("May give, kW").fill("-1")
    desk.get_by_role("button", name="Set the limits").click()
    expect(desk.locator("#id_export_w_error")).to_be_visible()
    desk.get_by_label("May give, kW").fill("2")
    desk.get_by_role("button", name="Set the limits").click()
    expect(desk.locator(".notice.success")).to_contain_text("The new limits of the connection are in force.")
    expect(desk.locator("dt", has_text="May take").locator("xpath=following-sibling::dd")).to_contain_text("2.00 kW")
    page = household.goto(f"/trade/{made.contract}")
    page.get_by_label("Price limit per kWh").fill("0.0511")
    page.get_by_label("Energy in kWh").fill("0.4")  # 300 Wh are bought already, and 500 Wh are the limit
    page.locator("market-ticket button.main").click()
    expect(page.locator("#error-energy_wh")).to_contain_text("for this order 200 Wh are free")
    desk = staff.goto(f"/staff/accounts/{made.account}/connection")
    desk.get_by_label("May take, kW").fill("0")
    desk.get_by_label("May give, kW").fill("0")
    desk.get_by_role("button", name="Set the limits").click()
    expect(desk.locator("dt", has_text="May take").locator("xpath=following-sibling::dd")).to_contain_text(
        "as every connection"
    )


def test_guard_rails_are_set_with_the_limits(visit: Visit) -> None:
    staff = visit("staff")
    desk = staff.goto("/staff/rules")
    collar = desk.get_by_label("Price collar, EUR per kWh")
    expect(collar).to_have_value("0.1500")
    expect(desk.get_by_label("A connection may take, kW")).to_have_value("30.000")
    desk.get_by_label("Reference price is renewed after, s").fill("0")
    desk.get_by_role("button", name="Publish the limits").click()
    expect(desk.locator("#id_params-collar_period_s_error")).to_contain_text("at least a second")
    desk.get_by_label("Reference price is renewed after, s").fill("60")
    collar.fill("0.2")
    desk.get_by_role("button", name="Publish the limits").click()
    desk.locator(".notice.success a").click()
    expect(desk.locator("table.fields tr", has_text="collar_e4")).to_contain_text("0.2000")


def test_complex_orders_are_read_with_their_legs(visit: Visit) -> None:
    household = visit("household")
    options = household.goto("/trade").locator("#later option")
    names = [options.nth(n).get_attribute("value") or "" for n in range(options.count())]
    first, last = names[len(names) // 2 : len(names) // 2 + 2]
    block = {"contract": first, "last": last, "side": "buy", "price": "0.0600", "energy_wh": 200}
    legs = household.send("POST", "/api/v1/orders/block", block)["orders"]
    iceberg = household.send(
        "POST",
        "/api/v1/orders",
        {"contract": first, "side": "buy", "price": "0.0600", "energy_wh": 400, "display_wh": 100},
    )["order"]
    asleep = household.send("POST", f"/api/v1/orders/{iceberg['id']}/hibernate")
    regulator = visit("regulator")
    page = regulator.goto(f"/regulator/orders/{legs[1]['id']}")
    expect(page.locator("h1")).to_contain_text("block")
    expect(page.locator('table[aria-labelledby="legs"] tbody tr')).to_have_count(2)
    page.locator('table[aria-labelledby="legs"]').get_by_role("link", name=str(legs[0]["id"])).click()
    expect(page.locator("h1")).to_contain_text(f"Order {legs[0]['id']}")
    page = regulator.goto(f"/regulator/orders/{iceberg['id']}")
    expect(page.locator("dt", has_text="Shows at a time").locator("xpath=following-sibling::dd")).to_have_text("100 Wh")
    expect(page.locator('table[aria-labelledby="life"] tbody tr').last).to_contain_text("asleep")
    expect(regulator.goto(f"/regulator/entries/{asleep['seq']}").locator("h1")).to_contain_text("Order put to sleep")
    expect(regulator.goto(f"/regulator/entries/{legs[1]['id']}").locator("h1")).to_contain_text("leg of a block")
    household.goto("/trade")
    household.send("DELETE", "/api/v1/orders")


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_corrections_have_no_barriers(
    visit: Visit, size: tuple[int, int], language: str, scheme: str, shoot: Callable[[Page, str], None]
) -> None:
    household = visit("household")
    made = deal(visit, household)
    staff = visit("staff", size=size, language=language, scheme=scheme)
    for name, path in (
        ("recall", f"/staff/trades/{made.seq}/recall"),
        ("connection", f"/staff/accounts/{made.account}/connection"),
        ("account", f"/regulator/accounts/{made.account}"),
        ("order", f"/regulator/orders/{made.order}"),
        ("trade", f"/regulator/entries/{made.seq}"),
    ):
        check(staff, path)
        shoot(staff.page, f"corrections-{name}-{language}-{size[0]}-{scheme}")
