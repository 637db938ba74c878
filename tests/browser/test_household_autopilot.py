"""A household hands its trading over within limits, sees them obeyed, and leafs through its history."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.barriers import check_now
from tests.browser.conftest import DESKTOP, PHONE, Visitor

Visit = Callable[..., Visitor]
AGENTS_MS = 10_000  # the demo looks for who joined every two seconds
PATH = "/api/v1/me/autopilot"

WAIT_FOR_ORDERS = """async ([path, within]) => {
  for (const end = Date.now() + within; Date.now() < end; await new Promise((go) => setTimeout(go, 200))) {
    if ((await (await fetch(path)).json()).open_orders > 0) return true;
  }
  return false;
}"""

pytestmark = pytest.mark.browser


def autopilot(visitor: Visitor) -> dict[str, object]:
    """Return what REST says of the visitor's autopilot."""
    return visitor.send("GET", PATH)


def test_limits_hold_at_once_and_the_switch_takes_everything_back(
    visit: Visit, shoot: Callable[[Page, str], None]
) -> None:
    visitor = visit("household", size=PHONE)
    page = visitor.goto("/home")
    page.get_by_role("link", name="Set its limits").click()
    expect(page.get_by_role("heading", name="What it would do")).to_be_visible()
    page.get_by_role("button", name="Switch it on").click()
    expect(page.locator(".notices")).to_contain_text("Autopilot is on.")
    # It places its orders within seconds.
    assert page.evaluate(WAIT_FOR_ORDERS, [PATH, AGENTS_MS])
    page.reload()
    expect(page.get_by_text(re.compile(r"Switching it off takes back the \d+ orders? it has waiting"))).to_be_visible()
    check_now(page, "/autopilot, on")

    # Nonsense stands at its field and stays typed.
    page.get_by_label("Lowest price to sell").fill("0.31")
    page.get_by_role("button", name="Save the limits").click()
    expect(page.locator(".field", has=page.get_by_label("Lowest price to sell"))).to_contain_text("would never sell")
    expect(page.get_by_label("Lowest price to sell")).to_have_value("0.31")
    check_now(page, "/autopilot, refused")

    # The grid charges 0.30, and nobody asks for that much: whatever is for sale goes, and is told.
    page.get_by_label("Lowest price to sell").fill("0.30")
    page.get_by_label("Highest price to buy").fill("0.08")
    page.get_by_role("button", name="Save the limits").click()
    expect(page.locator(".notices")).to_contain_text(
        re.compile(r"Your limits are in force\. \d+ orders? (was|were) taken back\.")
    )
    expect(page.locator(".story")).to_contain_text("at €0.30 or more")
    shoot(page, "autopilot-390")
    page.get_by_role("button", name="Switch it off").click()
    expect(page.locator(".notices")).to_contain_text("Autopilot is off.")
    now = autopilot(visitor)
    assert (now["on"], now["open_orders"], now["sell_from"]) == (False, 0, "0.3000")
    assert len(visitor.errors) == 1 and "422" in visitor.errors[0], visitor.errors

    # A word that a newcomer does not know, by keyboard; then all of them.
    word = page.get_by_text("What is “all-in price”?")
    word.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The whole price per kWh at your own meter")).to_be_visible()
    check_now(page, "/autopilot with a word explained")
    page.get_by_role("link", name="All words").click()
    expect(page.get_by_role("heading", name="What the words mean")).to_be_visible()
    expect(page.locator("#all-in")).to_be_in_viewport()
    check_now(page, "/help")


def test_history_from_day_to_month_to_year(visit: Visit, shoot: Callable[[Page, str], None]) -> None:
    visitor = visit("household", size=DESKTOP, language="zh-hans", scheme="dark")
    page = visitor.goto("/statement")
    page.get_by_role("link", name="历史").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("历史")
    kinds = page.get_by_role("navigation", name="时间跨度")
    for kind in ("月", "年", "日"):
        kinds.get_by_role("link", name=kind, exact=True).click()
        expect(kinds.get_by_role("link", name=kind, exact=True)).to_have_attribute("aria-current", "true")
        check_now(page, f"/history, {kind}")
    day = page.locator("#period-title").inner_text()
    page.get_by_role("link", name="更早").click()
    expect(page.locator("#period-title")).not_to_have_text(day)
    page.get_by_role("link", name="更晚").click()
    expect(page.locator("#period-title")).to_have_text(day)
    expect(page.get_by_role("link", name="更晚")).to_have_count(0)
    shoot(page, "history-zh-hans-1280-dark")
    assert visitor.errors == []
