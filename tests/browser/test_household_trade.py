"""A household at the trade page: sees the book, orders, sees the order, takes it back; prices move by themselves."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.barriers import check_now
from tests.browser.conftest import DESKTOP, PHONE, Visitor, join

Visit = Callable[..., Visitor]

pytestmark = pytest.mark.browser


def late_contract(page: Page, later: int = 0) -> str:
    """Return an interval far ahead, or one so many after it: nobody else trades it during a test."""
    options = page.locator("#later option")
    value = options.nth(options.count() // 2 + later).get_attribute("value")
    assert value is not None
    return value


def place(page: Page, side: str, price: str, kwh: str) -> None:
    """Fill in the ticket and send it."""
    page.locator(f'market-ticket input[value="{side}"]').check(force=True)
    page.get_by_label("Price limit per kWh").fill(price)
    page.get_by_label("Energy in kWh").fill(kwh)
    page.get_by_role("button", name=f"Place {side} order").click()


def cancel_all(page: Page) -> None:
    """Take all orders back, as a person does: ask, read, confirm."""
    page.get_by_role("button", name="Cancel all …").click()
    page.get_by_role("button", name=re.compile(r"Cancel all \d")).click()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["390", "1280"])
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


def test_cancel_all_says_what_it_takes_back_and_asks_once_more(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/trade")
    page = visitor.goto(f"/trade/{late_contract(page)}")
    place(page, "buy", "0.0521", "0.2")
    expect(page.locator("#ticket-result")).to_be_visible()
    place(page, "buy", "0.0522", "0.3")
    expect(page.locator("market-orders h3")).to_have_text("Open: 2")
    page.locator("h1").click()  # out of the ticket, where a letter is a letter
    page.keyboard.press("c")
    question = page.locator(".ask-all")
    expect(question).to_contain_text("all open orders: 2, buying 500 Wh, selling 0 Wh; intervals: 1.")
    expect(question).to_contain_text("€0.03 that is set aside for them becomes free.")
    expect(page.locator("#positions")).to_contain_text("buy 500 Wh")
    page.keyboard.press("Enter")  # the keyboard stands where nothing is lost
    expect(question).to_have_count(0)
    expect(page.locator("market-orders h3")).to_have_text("Open: 2")
    cancel_all(page)
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")
    expect(page.locator("#status")).to_contain_text("Orders cancelled: 2.")
    expect(page.locator("#positions")).to_contain_text("nothing on offer")


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
    cancel_all(page)
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")


def test_a_frozen_ladder_stands_still_and_a_price_in_it_fills_the_ticket_and_sends_nothing(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/trade")
    contract = late_contract(page)
    page = visitor.goto(f"/trade/{contract}")
    place(page, "buy", "0.0531", "0.2")
    expect(page.locator("market-ladder tr.bid.own")).to_contain_text("mine")
    page.locator("h1").click()
    page.keyboard.press("f")
    frozen = page.locator(".ladder-frozen")
    expect(frozen).to_contain_text("Frozen")
    expect(frozen).to_contain_text("bid unchanged")
    visitor.order(contract, "buy", "0.0541", 100)
    expect(frozen).to_contain_text("bid ↑ 0.0010")
    expect(page.locator("market-ladder tr.bid")).to_have_count(1)
    page.keyboard.press("l")
    pick = page.get_by_role("button", name="Fill in: sell at 0.0531")
    expect(pick).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Price limit per kWh")).to_have_value("0.0531")
    expect(page.locator('market-ticket input[value="sell"]')).to_be_checked()
    expect(page.get_by_label("Energy in kWh")).to_be_focused()
    page.keyboard.press("f")  # in an input it is no shortcut
    expect(frozen).to_contain_text("Frozen")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("market-ladder tr.bid")).to_have_count(2)
    page.locator("market-ladder .pick").first.focus()
    page.keyboard.press("ArrowDown")
    expect(pick).to_be_focused()
    expect(page.locator("market-orders h3")).to_have_text("Open: 2")
    cancel_all(page)
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")


def test_the_strip_by_keyboard_shows_another_interval_without_a_new_page(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/trade")
    contract = late_contract(page)
    visitor.order(contract, "buy", "0.0551", 100)
    page = visitor.goto("/trade")
    page.evaluate("window.samePage = true")
    page.keyboard.press("i")
    expect(page.locator("market-strip a[aria-current]")).to_be_focused()
    assert page.locator('market-strip a[tabindex="0"]').count() == 1
    cells = page.locator("market-strip a.cell")
    names = [cell.get_attribute("data-name") for cell in cells.all()]
    here = names.index(page.locator("market-strip a[aria-current]").get_attribute("data-name"))
    away = names.index(contract) - here
    for key, times in (("ArrowRight", away // 4), ("ArrowDown", away % 4)):
        for _ in range(times):
            page.keyboard.press(key)
    cell = page.locator(f'market-strip a[data-name="{contract}"]')
    expect(cell).to_be_focused()
    expect(page.locator(".heat-words")).to_contain_text("bid 0.0551, ask – · my orders wait")
    page.keyboard.press("Enter")
    expect(cell).to_have_attribute("aria-current", "page")
    expect(page.locator("market-ladder tr.bid.own")).to_contain_text("0.0551")
    expect(page.locator("market-depth svg path.bids")).to_have_attribute("d", re.compile("^M.*Z$"))
    assert page.url.endswith(f"/trade/{contract}")
    assert page.evaluate("window.samePage")
    page.go_back()
    expect(cell).not_to_have_attribute("aria-current", "page")
    page.locator("market-strip summary").click()
    expect(page.locator("market-strip tbody tr")).to_have_count(len(names))
    page.keyboard.press("Shift+?")
    sheet = page.locator("dialog.keys-sheet")
    sheet.get_by_role("switch").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(page.locator(".ladder-frozen")).not_to_contain_text("Frozen")
    visitor.send("DELETE", "/api/v1/orders")
    assert visitor.errors == []


def test_two_neighbours_trade_and_both_see_it_live(visit: Visit) -> None:
    seller = visit("household")
    buyer = join(visit(size=PHONE), visit("staff"), "LV4.101")
    contract = late_contract(seller.goto("/trade"), 3)  # a trade leaves a price collar behind
    selling, buying = (who.goto(f"/trade/{contract}") for who in (seller, buyer))
    place(selling, "sell", "0.2150", "0.4")
    offer = buying.locator("market-ladder tr.ask", has_text="0.2150")
    expect(offer).to_contain_text("400 Wh")
    expect(offer).not_to_contain_text("mine")
    offer.locator(".pick").click()
    buying.get_by_label("Energy in kWh").fill("0.4")
    expect(buying.locator("#preview")).to_contain_text("400 Wh trade at once for €0.09.")
    buying.get_by_role("button", name="Place buy order").click()
    expect(buying.locator("#ticket-result")).to_contain_text("Bought 400 Wh for €0.09.")
    for page, words, sign in ((selling, "I sold 400 Wh", "−400 Wh"), (buying, "I bought 400 Wh", "+400 Wh")):
        expect(page.locator("market-tape tbody tr").first).to_contain_text("0.2150")
        expect(page.locator("market-strip a[aria-current]")).to_contain_text(words)
        expect(page.locator("#positions tbody tr", has_text=sign)).to_have_count(1)
        expect(page.locator("market-ladder tr.ask")).to_have_count(0)
    expect(selling.locator("market-orders h3")).to_have_text("Open: 0")
    assert seller.errors == buyer.errors == []


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
    cancel_all(other)
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


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")], ids=["390", "1280"])
def test_what_opens_on_the_page_has_no_barriers(visit: Visit, size: tuple[int, int], scheme: str) -> None:
    visitor = visit("household", size=size, language="zh-hans", scheme=scheme)
    page = visitor.goto("/trade")
    visitor.order(late_contract(page), "buy", "0.0561", 100)
    expect(page.locator("#positions tbody tr")).to_have_count(1)
    for summary in page.locator("market-strip summary, market-depth summary, market-chart summary").all():
        summary.click()
    expect(page.locator("market-strip tbody tr").last).to_be_visible()
    page.locator("h1").click()
    page.keyboard.press("f")
    page.keyboard.press("c")
    expect(page.locator(".ask-all")).to_be_visible()
    check_now(page, "opened")
    page.keyboard.press("Shift+?")
    expect(page.locator("dialog.keys-sheet")).to_be_visible()
    check_now(page, "sheet")
    visitor.send("DELETE", "/api/v1/orders")
    assert visitor.errors == []
