"""A household's home: earn, sell, understand; on a phone, in both languages, also when the server falls silent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.barriers import check_now
from tests.browser.conftest import PHONE, Market, Visitor

Visit = Callable[..., Visitor]
AGENTS_MS = 30_000  # by then the neighbours' agents have looked at the market
SILENCE_MS = 40_000  # more than two heartbeats

pytestmark = pytest.mark.browser


def sell_button(page: Page) -> Locator:
    """Return the button, pressable."""
    button = page.locator("#sell")
    expect(button).to_be_enabled(timeout=AGENTS_MS)
    return button


def orders(page: Page, url: str) -> list[int]:
    """Return the ids of the household's open orders."""
    return [row["id"] for row in page.request.get(f"{url}/api/v1/orders?state=open").json()["results"]]


def test_five_seconds_to_take_it_back(visit: Visit) -> None:
    visitor = visit("household", size=PHONE)
    page = visitor.page
    before = orders(page, visitor.url)
    button = sell_button(page)
    page.clock.install()
    page.reload()
    expect(button).to_be_enabled(timeout=AGENTS_MS)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    button.focus()
    page.keyboard.press("Enter")
    expect(button.locator("span")).to_have_text("Take back")
    expect(page.locator("#sell-countdown")).to_have_text("Will be sent in five seconds.")
    expect(page.locator("#status")).to_have_text(
        "Will be sent in five seconds. Press the button again to take it back."
    )
    expect(page.locator("#buy")).to_be_disabled()
    page.clock.run_for(3_000)
    expect(page.locator("#sell-countdown")).to_have_text("Will be sent in two seconds.")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(button).to_have_text("Sell my surplus")
    expect(page.locator("#sell-receipt")).to_have_text("Taken back: nothing was sent.")
    page.clock.run_for(10_000)
    # Who leaves within the five seconds has sent nothing, and hears it once, on the page landed on.
    button.press("Enter")
    expect(button.locator("span")).to_have_text("Take back")
    page.goto(f"{visitor.url}/statement")
    expect(page.locator("#left")).to_have_text("You left the page before your sale was sent: nothing was sold.")
    expect(page.locator("#status")).to_have_text("You left the page before your sale was sent: nothing was sold.")
    page.goto(f"{visitor.url}/trade")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    expect(page.locator("#left")).to_have_count(0)
    page.goto(f"{visitor.url}/home")
    expect(button).to_be_enabled(timeout=AGENTS_MS)
    expect(page.locator("#sell-receipt")).to_be_hidden()
    button.press("Enter")
    expect(button.locator("span")).to_have_text("Take back")
    page.reload()
    expect(page.locator("#sell-receipt")).to_have_text("You left the page before it was sent: nothing was sent.")
    page.reload()
    expect(page.locator("#sell-receipt")).to_be_hidden()
    assert [url for url in sent if "/api/" in url] == []
    assert orders(page, visitor.url) == before
    assert visitor.errors == []


def test_a_halt_is_said_before_anybody_presses(visit: Visit) -> None:
    household, operator = visit("household", size=PHONE), visit("operator")
    sell_button(household.page)
    area = household.page.evaluate("JSON.parse(document.getElementById('page-meta').textContent).area")
    halt = {"scope": "area", "target": area}
    operator.send("PUT", "/api/v1/operator/halts", {**halt, "on": True})
    try:
        expect(household.page.locator("#sell-plan")).to_contain_text("in your part of the grid", timeout=AGENTS_MS)
        expect(household.page.locator("#sell")).to_be_disabled()
        expect(household.page.locator("#buy")).to_be_disabled()
        check_now(household.page, "home, halted")
    finally:
        operator.send("PUT", "/api/v1/operator/halts", {**halt, "on": False})
    sell_button(household.page)


def test_old_figures_say_that_they_are_old(visit: Visit) -> None:
    page = visit("household", size=PHONE).page
    page.clock.install()
    page.reload()
    sell_button(page)
    page.route("**/home/now*", lambda route: route.abort())
    # Each round has to have failed before the next one counts; where nothing happens the first one is half a minute away.
    for _ in range(2):
        with page.expect_event("requestfailed", lambda request: "/home/now" in request.url):
            page.clock.run_for(31_000)
    expect(page.locator("#stale")).to_contain_text("the market does not answer")
    check_now(page, "home, old figures")
    page.unroute("**/home/now*")
    page.clock.run_for(6_000)
    expect(page.locator("#stale")).to_be_hidden()


def test_an_hour_of_the_strip_is_taken_by_both_buttons(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.page
    sell_button(page)
    links = page.locator("#strip a")
    assert links.count() == 24
    links.first.focus()
    page.keyboard.press("ArrowRight")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(links.nth(1)).to_have_attribute("aria-current", "true")
    hour = links.nth(1).locator(".hour").inner_text()
    expect(page.locator("#slot-say")).to_contain_text(f"{hour}–")
    expect(page.locator("#slot-say")).to_contain_text("Both buttons are now for this hour.")
    expect(page.locator("#status")).to_contain_text("Both buttons are now for this hour.")
    expect(page.locator("#sell-plan")).to_contain_text(f"between {hour}")
    contracts = {leg.split()[0] for leg in (page.locator("#sell-plan").get_attribute("data-legs") or "").split(";")}
    assert 0 < len(contracts) <= 4
    page.locator("#slot-say a.any-hour").click()
    expect(page.locator("#slot-say")).to_contain_text("Choose an hour")
    assert page.locator("#strip a[aria-current]").count() == 0
    assert visitor.errors == []


def test_the_autopilot_is_one_switch(visit: Visit) -> None:
    visitor = visit("household")
    switch = visitor.page.get_by_role("switch", name="Trade automatically for me")
    before = switch.is_checked()
    try:
        switch.set_checked(not before)
        expect(visitor.page.locator("#status")).to_have_text("Autopilot is off." if before else "Autopilot is on.")
        visitor.page.reload()
        expect(switch).to_be_checked(checked=not before)
    finally:
        switch.set_checked(before)
        expect(visitor.page.locator("#status")).not_to_be_empty()


def test_it_reads_without_scripts(chromium, market: Market) -> None:  # type: ignore[no-untyped-def]
    signed_in = chromium.new_context()
    page = signed_in.new_page()
    page.goto(f"{market.url}/sign-in")
    page.locator('button[name="role"][value="household"]').click()
    plain = chromium.new_context(java_script_enabled=False, storage_state=signed_in.storage_state())
    try:
        page = plain.new_page()
        page.goto(f"{market.url}/home")
        expect(page.locator(".sum")).to_contain_text("€")
        expect(page.locator("#sell-plan")).not_to_be_empty()
        page.goto(f"{market.url}/trade")
        expect(page.locator("market-strip a").first).to_be_visible()
    finally:
        plain.close()
        signed_in.close()


def test_prices_pause_when_the_server_falls_silent(visit: Visit, market: Market) -> None:
    visitor = visit("household")
    page = visitor.page
    page.clock.install()
    page.reload()
    pulse = page.locator("#pulse")
    expect(pulse).to_have_text("Live")
    market.freeze()
    try:
        page.clock.fast_forward(SILENCE_MS)
        expect(pulse).to_have_text("Prices paused")
        expect(page.get_by_role("button", name="Sell my surplus")).to_be_disabled()
        expect(page.locator(".paused-note")).to_contain_text("Nothing is sent until it is back")
        expect(page.locator("#status")).to_contain_text("Prices paused")
    finally:
        market.thaw()
    page.clock.fast_forward(SILENCE_MS)
    expect(pulse).to_have_text("Live", timeout=AGENTS_MS)


def test_the_language_is_one_tap_and_stays(visit: Visit) -> None:
    visitor = visit("household", size=PHONE)
    page = visitor.page
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("h1")).to_have_text("今日收入")
    assert page.locator("html").get_attribute("lang") == "zh-hans"
    expect(page.get_by_role("button", name="卖出余电")).to_be_visible()
    page.get_by_role("link", name="交易", exact=True).click()
    expect(page.get_by_role("heading", name="新订单")).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="New order")).to_be_visible()


@pytest.mark.parametrize("path", ["/home", "/trade", "/statement"])
def test_nothing_runs_off_the_smallest_screen(visit: Visit, path: str) -> None:
    visitor = visit("household", size=(320, 640))
    page = visitor.goto(path)
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
