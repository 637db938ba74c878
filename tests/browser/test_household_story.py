"""From the tap to the money: a newcomer sells on a phone and sees the sale delivered and paid, on a market that runs fast."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.barriers import check_now
from tests.browser.conftest import PHONE, Market, Visitor

Visit = Callable[..., Visitor]
SPEED = 90  # a quarter of an hour in ten seconds
READY_MS = 20_000
SALE_S = 30
PAID_MS = 60_000  # far more than it takes: delivery, reading and settlement are over within half a minute

pytestmark = pytest.mark.browser

WORDS = {
    "en": ("Earned today", "Sell my surplus", "Take back", r"^(Sold|On offer): ", "Delivered and paid: €"),
    "zh-hans": ("今日收入", "卖出余电", "收回", r"^已(卖出|挂出)：", "已交付并到账：€"),
}


# What the page promised when the button was touched: at this speed, the plan is another one every ten seconds.
NOTE = """document.getElementById("sell").addEventListener("click", () => {
    window.promised ??= document.getElementById("sell-plan").dataset.legs;
}, true)"""


@pytest.fixture
def market(tmp_path: Path, chromium: Browser) -> Iterator[Market]:
    """A fresh market for each language: it opens at 10:00 market time, when every roof has sun."""
    running = Market(tmp_path / "fast")
    running.speed = SPEED
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("language", WORDS)
def test_a_newcomer_sells_in_three_taps_and_sees_the_money_arrive(
    visit: Visit, shoot: Callable[[Page, str], None], language: str
) -> None:
    earned, sell, back, receipt_words, paid_words = WORDS[language]
    visitor = visit(size=PHONE, language=language)
    page = visitor.goto("/sign-in")
    taps = 0

    def tap(place: Locator) -> None:
        nonlocal taps
        taps += 1
        place.tap()

    began = time.monotonic()
    tap(page.locator('button[name="role"][value="household"]'))
    expect(page.locator("h1")).to_have_text(earned)
    assert page.locator("html").get_attribute("lang") == language
    button = page.locator("#sell")
    expect(button).to_have_text(sell)
    expect(button).to_be_enabled(timeout=READY_MS)
    expect(page.locator("#guide")).to_be_visible()
    page.evaluate(NOTE)
    tap(button)
    expect(button.locator("span")).to_have_text(back)
    receipt = page.locator("#sell-receipt")
    expect(receipt).to_contain_text(re.compile(receipt_words), timeout=READY_MS)
    assert taps <= 3
    assert time.monotonic() - began < SALE_S
    shoot(page, f"home-sold-{language}-390")
    check_now(page, f"home, sold, {language}")

    # What was placed is what was promised.
    number = re.search(r"#receipt-(\d+)", receipt.locator("a").first.get_attribute("href") or "")
    assert number is not None
    promised = [leg.split() for leg in page.evaluate("window.promised").split(";")]
    order = page.request.get(f"{visitor.url}/api/v1/orders/{number[1]}").json()["order"]
    assert (order["side"], order["price"]) == ("sell", promised[0][2])
    assert [order["contract"], str(order["energy_wh"])] in [leg[:2] for leg in promised]

    arrived = page.locator(".arrived")
    expect(arrived).to_contain_text(paid_words, timeout=PAID_MS)
    expect(arrived.locator("a")).to_have_attribute("href", re.compile(r"^/ledger/check#receipt-\d+$"))
    expect(page.locator(".sum")).not_to_have_text("€0.00")
    shoot(page, f"home-paid-{language}-390")
    arrived.get_by_role("link").click()
    expect(page.locator("textarea").first).not_to_be_empty()  # its receipt has come along
    assert visitor.errors == []
    page.goto(f"{visitor.url}/home")
    expect(page.locator("#guide")).to_have_count(0)  # the first steps are done
    expect(page.locator(".notices")).to_have_count(0)
