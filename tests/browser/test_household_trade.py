"""A household at the trade page: sees the book, orders, sees the order, takes it back; prices move by themselves."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import PHONE, Visitor

Visit = Callable[..., Visitor]
HOME_BUDGET = 40_000  # bytes of JavaScript, gzip (DESIGN section 11)
TRADE_BUDGET = 130_000

pytestmark = pytest.mark.browser


def late_contract(page: Page) -> str:
    """Return an interval far ahead: nobody else trades it during a test."""
    options = page.locator("#later option")
    value = options.nth(options.count() // 2).get_attribute("value")
    assert value is not None
    return value


def place(page: Page, side: str, price: str, kwh: str) -> None:
    """Fill in the ticket and send it."""
    page.locator(f'market-ticket input[value="{side}"]').check(force=True)
    page.get_by_label("Price limit per kWh").fill(price)
    page.get_by_label("Energy in kWh").fill(kwh)
    page.get_by_role("button", name=f"Place {side} order").click()


@pytest.mark.parametrize("size", [PHONE, (1280, 860)], ids=["390", "1280"])
def test_an_order_is_placed_seen_and_taken_back(visit: Visit, size: tuple[int, int]) -> None:
    visitor = visit("household", size=size)
    page = visitor.goto("/trade")
    page = visitor.goto(f"/trade/{late_contract(page)}")
    expect(page.locator("#preview")).to_contain_text("You buy")
    place(page, "buy", "0.0511", "0.3")
    expect(page.locator("#ticket-result")).to_contain_text("waits: 300 Wh at €0.0511 per kWh")
    mine = page.locator("market-ladder tr.bid", has_text="0.0511")
    expect(mine).to_contain_text("mine")
    row = page.locator("market-orders tbody", has_text="0.0511").first
    expect(row).to_contain_text("0 Wh of 300 Wh")
    row.get_by_role("button", name="Cancel: ").click()
    expect(page.locator("#status")).to_contain_text("is cancelled")
    expect(mine).to_have_count(0)
    expect(page.locator("market-orders").get_by_role("button", name="Cancel: ")).to_have_count(0)
    assert visitor.errors == []


def test_cancel_all_empties_the_list(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/trade")
    page = visitor.goto(f"/trade/{late_contract(page)}")
    place(page, "buy", "0.0521", "0.2")
    expect(page.locator("#ticket-result")).to_be_visible()
    place(page, "buy", "0.0522", "0.2")
    expect(page.locator("market-orders h3")).to_have_text("Open: 2")
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")
    expect(page.locator("#status")).to_contain_text("2 orders are cancelled.")


def test_what_is_refused_says_so_at_its_field(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/trade")
    page = visitor.goto(f"/trade/{late_contract(page)}")
    place(page, "buy", "lots", "0.3")
    price = page.get_by_label("Price limit per kWh")
    expect(page.locator("#error-price")).to_have_text("Enter a price such as 0.2850.")
    expect(price).to_be_focused()
    expect(price).to_have_attribute("aria-invalid", "true")
    # What a connection may take in one interval costs less than the wallet holds; in two of them it does not.
    other = page.locator("#later option").last.get_attribute("value") or ""
    visitor.order(other, "buy", "4.0000", 7_000)
    place(page, "buy", "4", "7")
    expect(page.locator("#error-energy_wh")).to_contain_text("are free.")  # said by the server, in money people read
    expect(page.locator("#error-energy_wh")).not_to_contain_text("0000000")
    place(page, "buy", "0.2", "9")
    expect(page.locator("#error-energy_wh")).to_contain_text("Your grid connection can trade 7500 Wh")
    expect(page.locator("market-orders h3")).to_have_text("Open: 1")
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")


def test_a_price_in_the_ladder_fills_the_ticket_and_sends_nothing(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/trade")
    page = visitor.goto(f"/trade/{late_contract(page)}")
    place(page, "buy", "0.0531", "0.2")
    pick = page.get_by_role("button", name="Fill in: sell at 0.0531")
    pick.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Price limit per kWh")).to_have_value("0.0531")
    expect(page.locator('market-ticket input[value="sell"]')).to_be_checked()
    expect(page.get_by_label("Energy in kWh")).to_be_focused()
    expect(page.locator("market-orders h3")).to_have_text("Open: 1")
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")


def test_a_price_that_changes_reaches_every_open_page(visit: Visit) -> None:
    watcher = visit("household", size=PHONE)
    page = watcher.goto("/trade")
    contract = late_contract(page)
    page = watcher.goto(f"/trade/{contract}")
    expect(page.locator("market-ladder")).to_contain_text("Yours can be the first order")
    trader = visit("household")
    other = trader.goto(f"/trade/{contract}")
    place(other, "buy", "0.0541", "0.4")
    expect(page.locator("market-ladder tr.bid")).to_contain_text("0.0541")
    expect(page.locator("market-strip a[aria-current]")).to_contain_text("0.0541")
    expect(page.locator("market-orders h3")).to_have_text("Open: 1")
    other.get_by_role("button", name="Cancel all").click()
    expect(page.locator("market-ladder")).to_contain_text("Yours can be the first order")
    expect(page.locator("market-strip a[aria-current]")).not_to_contain_text("0.0541")
    assert watcher.errors == []


def test_the_chart_has_a_table(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/trade")
    page.get_by_role("button", name="Whole market").click()
    expect(page.locator(".chart-inside canvas").first).to_be_visible()
    page.locator("market-chart summary").click()
    row = page.locator("market-chart tbody tr").first
    expect(row).to_contain_text("Wh")
    assert visitor.errors == []


@pytest.mark.parametrize(("path", "budget"), [("/home", HOME_BUDGET), ("/trade", TRADE_BUDGET)])
def test_scripts_stay_small(visit: Visit, path: str, budget: int) -> None:
    visitor = visit("household")
    scripts: dict[str, int] = {}

    def weigh(response: Response) -> None:
        if response.url.endswith(".js"):
            scripts[response.url] = len(gzip.compress(response.body(), 9))

    visitor.page.on("response", weigh)
    page = visitor.goto(path)
    page.mouse.wheel(0, 4000)  # what comes only when it is in sight counts as well
    page.wait_for_load_state("networkidle") if path != "/home" else page.wait_for_load_state()
    if path == "/trade":
        expect(page.locator(".chart-inside canvas").first).to_be_visible()
    assert scripts
    assert sum(scripts.values()) < budget, scripts
