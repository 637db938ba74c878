"""The wires set the limits: what a household sees when the operator cuts an edge, and what the operator sees of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.barriers import check_now
from tests.browser.conftest import Visitor, join

Visit = Callable[..., Visitor]
SOON_MS = 1_000  # from the operator's answer to the household's screen
TIMES = 5
REFRESH_MS = 15_000

pytestmark = pytest.mark.browser


def late_contract(visitor: Visitor, place: int = 0) -> str:
    """Return an interval far ahead, another one for each place: nobody else trades it during a test."""
    options = visitor.goto("/trade").locator("#later option")
    value = options.nth(options.count() // 2 + 4 * place).get_attribute("value")
    assert value is not None
    return value


def set_capacity(desk: Page, kw: str, reason: str) -> None:
    """Set both directions of the edge whose page is open, and wait for the answer and no longer."""
    desk.get_by_label("Into the area, kW").fill(kw)
    desk.get_by_label("Out of the area, kW").fill(kw)
    desk.locator("#id_capacity-reason").select_option(reason)
    desk.get_by_role("button", name="See what it would do").click()
    sure = desk.get_by_role("button", name="Yes, set the capacity")
    sure.wait_for()
    with desk.expect_response(lambda response: response.request.method == "POST" and "/capacity" in response.url):
        sure.click(no_wait_after=True)


def go_on(operator: Visitor, path: str = "/operator/areas/LV4.101") -> Page:
    """Let the page that the operator's last form led to load, and go to another one."""
    operator.page.locator(".notice.success").wait_for()
    return operator.goto(path)


def lasts_ms(decide: Callable[[], None], offer: Locator, count: int) -> float:
    """Return how long after a decision was sent the offer is there, or not, in ms."""
    decide()
    started_s = time.monotonic()
    expect(offer).to_have_count(count)
    return (time.monotonic() - started_s) * 1_000


def test_a_cheaper_offer_from_another_area_goes_with_the_edge_and_comes_back(
    visit: Visit, shoot: Callable[[Page, str], None]
) -> None:
    staff = visit("staff")
    far = join(visit(), staff, "LV1.201")
    near = join(visit(), staff, "LV4.101")
    household = visit("household")
    contract = late_contract(household)
    far.order(contract, "sell", "0.1200", 300)
    near.order(contract, "sell", "0.2000", 300)
    page = household.goto(f"/trade/{contract}")
    asks = page.locator("market-ladder tr.ask")
    # Four edges of 0.01 lie between the two areas: 0.12 there is 0.16 here, and still the best.
    offer = page.locator("market-ladder tr.ask", has_text="0.1600")
    expect(offer).to_contain_text("incl. 0.0400")
    expect(asks).to_have_count(2)
    operator = visit("operator")
    desk = operator.goto("/operator/areas/LV4.101")
    before = desk.get_by_label("Into the area, kW").input_value()

    set_capacity(desk, "0", "fault")
    expect(offer).to_have_count(0)
    expect(asks).to_have_count(1)
    expect(asks).to_contain_text("0.2000")
    shoot(page, "trade-edge-cut-1280")

    # What would suit, and which edge is in the way, is said at the order that waits for it.
    household.order(contract, "buy", "0.1700", 100)
    mine = page.locator("market-orders > table tbody", has_text="0.1700")
    expect(mine).to_contain_text("A price of 0.1600 per kWh would suit you, but the grid can")
    expect(mine).to_contain_text("LV")

    desk.locator(".notice.success").wait_for()
    set_capacity(desk, before, "restored")
    expect(offer).to_contain_text("200 Wh")  # the order that waited has traded at once
    expect(mine).to_have_count(0)

    # Within a second of the operator's decision.
    gone_ms, back_ms = [], []
    for _ in range(TIMES):
        gone_ms.append(lasts_ms(lambda: set_capacity(go_on(operator), "0", "fault"), offer, 0))
        back_ms.append(lasts_ms(lambda: set_capacity(go_on(operator), before, "restored"), offer, 1))
    assert median(gone_ms) <= SOON_MS and median(back_ms) <= SOON_MS, (gone_ms, back_ms)
    expect(offer).to_contain_text("200 Wh")
    assert household.errors == []


def test_a_cut_below_what_is_allocated_blocks_and_raises_an_alert_that_is_acknowledged(
    visit: Visit, shoot: Callable[[Page, str], None]
) -> None:
    staff = visit("staff")
    far = join(visit(), staff, "LV1.201")
    household = visit("household")
    contract = late_contract(household, 1)
    far.order(contract, "sell", "0.1200", 400)
    household.order(contract, "buy", "0.1600", 400)
    operator = visit("operator")
    desk = operator.goto("/operator/areas/LV4.101")
    before = desk.get_by_label("Into the area, kW").input_value()
    set_capacity(desk, "1", "overload")  # 250 Wh an interval, 400 Wh are allocated
    desk = go_on(operator, f"/operator?contract={contract}")
    edge = desk.locator('[data-live="flows"] tbody tr', has_text="LV4.101")
    expect(edge).to_contain_text("blocked")
    expect(edge).to_contain_text("1.60 kW / 1.00 kW")
    expect(edge).to_contain_text("flow 1.60 kW · left −600 W")
    alert = desk.locator(".alert.new").first
    expect(alert).to_contain_text("The edge of LV4.101 may carry less than is allocated")
    expect(alert).to_contain_text("Overload")
    expect(alert).to_contain_text("too much")
    check_now(desk, "an alert")
    shoot(desk, "operator-alert-1280")
    alerts = desk.locator(".alert.new").count()
    alert.get_by_role("button", name="I have seen it").click()
    expect(desk.locator(".notice.success")).to_contain_text("marked as seen by you")
    expect(desk.locator(".alert.new")).to_have_count(alerts - 1)
    desk = operator.goto("/operator/alerts?state=acknowledged")
    expect(desk.locator('[data-live="alerts"]')).to_contain_text("seen by olga at")
    operator.goto("/operator/areas/LV4.101")
    set_capacity(desk, before, "restored")


def test_the_kill_switch_asks_once_more_and_takes_all_orders_back(visit: Visit) -> None:
    household = visit("household")
    contract = late_contract(household, 2)
    household.send("DELETE", "/api/v1/orders")
    page = household.goto(f"/trade/{contract}")
    household.order(contract, "buy", "0.0551", 200)
    expect(page.locator("market-orders h3")).to_have_text("Open: 1")
    operator = visit("operator")
    desk = operator.goto(f"/operator/halts?scope=contract&target={contract}")
    desk.get_by_label("Reason").select_option("integrity")
    desk.get_by_label("Take back all open orders there, too (kill switch)").check()
    desk.get_by_role("button", name="Stop trading").click()
    # Nothing has been done yet.
    expect(desk.get_by_role("heading", name="Take back all open orders?")).to_be_visible()
    expect(desk.locator("main")).to_contain_text("1 open order is taken back")
    expect(page.locator("market-orders h3")).to_have_text("Open: 1")
    check_now(desk, "the kill switch asks")
    desk.get_by_role("button", name="Yes, stop and take all back").click()
    expect(desk.locator(".notice.success")).to_contain_text("all open orders are taken back. Ledger entry")
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")
    page.locator("market-orders summary", has_text="Finished").click()
    expect(page.locator("market-orders details tbody").first).to_contain_text("taken back when trading was stopped")
    expect(page.locator("market-ticket button.main")).to_be_disabled()
    desk.get_by_role("button", name="Let it go on").click()
    expect(desk.get_by_text("Trading runs everywhere.")).to_be_visible()
    expect(page.locator("market-ticket button.main")).to_be_enabled()
    assert operator.errors == []


def test_a_halt_of_an_interval_may_end_by_itself(visit: Visit) -> None:
    household = visit("household")
    contract = late_contract(household, 3)
    desk = visit("operator").goto("/operator/halts")
    desk.get_by_label("What").select_option("area")
    desk.get_by_label("Which one").fill("LV4.101")
    desk.get_by_label("Ends by itself at").fill("23:00")
    desk.get_by_role("button", name="Stop trading").click()
    expect(desk.locator("#id_until_error")).to_have_text("Only a contract's halt can end by itself.")
    desk.get_by_label("What").select_option("contract")
    desk.get_by_label("Which one").fill(contract)
    desk.get_by_role("button", name="Stop trading").click()
    desk.get_by_role("button", name="Yes, stop trading").click()
    stopped = desk.get_by_role("heading", name="Stopped now").locator("xpath=..")
    expect(stopped).to_contain_text("until 23:00")
    desk.get_by_role("button", name="Let it go on").click()
    expect(desk.get_by_text("Trading runs everywhere.")).to_be_visible()
