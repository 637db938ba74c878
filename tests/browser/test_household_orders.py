"""What a household can order beyond a plain limit: icebergs, sweeps, blocks, baskets; changing, resting, asking why."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.barriers import LOOKS, check_now
from tests.browser.conftest import Visitor, join

Visit = Callable[..., Visitor]
KINDS = ("limit", "iceberg", "sweep", "block", "basket")
WHY_MS = 8_000  # the list asks why at most every three seconds

pytestmark = pytest.mark.browser


@pytest.fixture
def mia(visit: Visit) -> Visitor:
    """The demo's household at the trade page, in an interval that nobody else trades."""
    visitor = visit("household")
    visitor.goto("/trade")
    visitor.send("DELETE", "/api/v1/orders")
    options = visitor.page.locator("#later option")
    names = [options.nth(n).get_attribute("value") for n in range(options.count())]
    visitor.goto(f"/trade/{names[len(names) // 2]}")
    return visitor


@pytest.fixture
def tom(visit: Visit) -> Visitor:
    """A neighbour in the same street, with money."""
    return join(visit(), visit("staff"), "LV4.101")


def shown(page: Page) -> str:
    """Return the interval whose book is shown."""
    return page.url.rpartition("/")[2].replace("%3A", ":")


def after(page: Page, steps: int) -> str:
    """Return the interval so many after the shown one, of those the ticket offers."""
    names = [o.get_attribute("value") or "" for o in page.locator("#ticket-last option").all()]
    return names[names.index(shown(page)) + steps]


def fill(page: Page, kind: str, price: str, kwh: str, side: str = "buy") -> None:
    """Choose a kind of order and fill in what all but the basket ask for."""
    page.get_by_label("Kind of order").select_option(kind)
    page.locator(f'market-ticket input[value="{side}"]').check(force=True)
    page.get_by_label("Price limit per kWh").fill(price)
    page.locator("#ticket-energy").fill(kwh)


def submit(page: Page) -> None:
    """Send what the ticket holds."""
    page.locator("market-ticket button.main").click()


def row_of(page: Page, text: str) -> Locator:
    """Return the row of the open orders with a text."""
    return page.locator("market-orders > table tbody", has_text=text).first


def test_an_iceberg_shows_a_part(mia: Visitor) -> None:
    page = mia.page
    fill(page, "iceberg", "0.0512", "0.8")
    page.get_by_label("Show at a time, in kWh").fill("0.9")
    submit(page)
    expect(page.locator("#error-display_wh")).to_have_text("Show less than all of it, and 8 Wh or more.")
    expect(page.get_by_label("Show at a time, in kWh")).to_be_focused()
    page.get_by_label("Show at a time, in kWh").fill("0.1")
    expect(page.locator("#preview")).to_contain_text("Others see 100 Wh at a time.")
    submit(page)
    expect(page.locator("#ticket-result")).to_contain_text("waits: 800 Wh at €0.0512 per kWh")
    expect(row_of(page, "0.0512")).to_contain_text("100 Wh shown, 700 Wh hidden")
    expect(page.locator("market-ladder tr.bid", has_text="0.0512")).to_contain_text("100 Wh")
    assert mia.errors == []


def test_a_sweep_takes_the_cheapest_of_several_intervals(mia: Visitor, tom: Visitor) -> None:
    page = mia.page
    fill(page, "sweep", "0.1500", "0.6")
    first, second, third = shown(page), after(page, 1), after(page, 2)
    for contract, price in ((first, "0.1400"), (second, "0.1200"), (third, "0.1600")):
        tom.order(contract, "sell", price, 400)
    page.get_by_label("To interval").select_option(third)
    expect(page.locator("#preview")).to_contain_text("You buy up to 600 Wh at once")
    expect(page.locator("#preview")).to_contain_text("2 of 3 intervals have something for you; the best price is €0.12")
    submit(page)
    # 400 Wh at 0.12 and 200 Wh at 0.14: the cheaper interval first, the dear one not at all.
    expect(page.locator("#ticket-result")).to_contain_text("Bought 600 Wh in 2 intervals for €0.08.")
    expect(page.locator("market-ladder tr.ask", has_text="0.1400")).to_contain_text("200 Wh")
    tom.send("DELETE", "/api/v1/orders")


def test_a_block_waits_as_one_and_trades_as_one(mia: Visitor, tom: Visitor) -> None:
    page = mia.page
    fill(page, "block", "0.1500", "0.3")
    last = after(page, 1)
    page.get_by_label("To interval").select_option(last)
    expect(page.locator("#preview")).to_contain_text("You buy 300 Wh in each of 2 intervals")
    expect(page.locator("#preview")).to_contain_text("All of it trades or nothing does.")
    submit(page)
    expect(page.locator("#ticket-result")).to_contain_text("waits until all 2 intervals can trade")
    row = row_of(page, "block")
    expect(row).to_contain_text("0 Wh of 600 Wh")
    expect(row).to_contain_text("300 Wh in each of 2 intervals")
    expect(row).to_contain_text("A block trades as a whole or not at all. At your limit 300 Wh are missing in")
    expect(row).not_to_contain_text("Z.")  # intervals are named by the market's clock
    expect(page.locator("market-orders h3")).to_have_text("Open: 1")
    expect(page.locator("market-ladder")).not_to_contain_text("0.1500")  # kept out of the book
    tom.order(shown(page), "sell", "0.1400", 300)
    expect(page.locator("market-orders h3")).to_have_text("Open: 1")
    tom.order(last, "sell", "0.1300", 300)
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")
    page.locator("market-orders summary", has_text="Finished").click()
    expect(page.locator("market-orders details tbody", has_text="block").first).to_contain_text("600 Wh of 600 Wh")


def test_a_block_is_taken_back_whole(mia: Visitor) -> None:
    page = mia.page
    fill(page, "block", "0.0513", "0.2")
    submit(page)
    row_of(page, "block").get_by_role("button", name="Cancel: ").click()
    expect(page.locator("#status")).to_contain_text("is cancelled")
    expect(page.locator("market-orders h3")).to_have_text("Open: 0")


def test_a_basket_buys_and_sells_or_does_nothing(mia: Visitor, tom: Visitor) -> None:
    page = mia.page
    page.get_by_label("Kind of order").select_option("basket")
    page.locator("#leg-0-price").fill("lots")
    submit(page)
    expect(page.locator("#error-leg-0-price")).to_have_text("Enter a price such as 0.2850.")
    expect(page.locator("#leg-0-price")).to_be_focused()
    for place, price in enumerate(("0.1200", "0.2000")):
        page.locator(f"#leg-{place}-price").fill(price)
        page.locator(f"#leg-{place}-energy").fill("0.5")
    later = page.locator("#leg-1-contract").input_value()
    expect(page.locator("#preview")).to_contain_text("All of these orders trade in full at once, or none does:")
    expect(page.locator("#preview")).to_contain_text("Together you are left with €0.04 or more.")
    tom.order(shown(page), "sell", "0.1200", 500)
    submit(page)
    expect(page.locator("#error-legs")).to_have_text(
        "The whole quantity cannot be traded at once, so nothing was done."
    )
    expect(page.locator("market-ladder tr.ask")).to_contain_text("500 Wh")
    tom.order(later, "buy", "0.2000", 500)
    submit(page)
    result = page.locator("#ticket-result")
    expect(result).to_contain_text("All 2 orders traded: bought for €0.06, sold for €0.10.")
    expect(page.locator("market-ladder")).to_contain_text("Yours can be the first order")


def test_an_order_is_changed_put_to_sleep_and_brought_back(mia: Visitor) -> None:
    page = mia.page
    fill(page, "limit", "0.0514", "0.4")
    submit(page)
    row_of(page, "0.0514").get_by_role("button", name="Change: ").click()
    form = page.locator("market-orders form.change")
    expect(form).to_contain_text("It keeps its place")
    form.get_by_label("Energy in kWh").fill("0")
    form.get_by_role("button", name="Change the order").click()
    expect(page.locator("#change-energy-error")).to_contain_text("Enter an energy")
    form.get_by_label("Energy in kWh").fill("0.3")
    form.get_by_label("Price limit per kWh").fill("0.0516")
    expect(form).to_contain_text("It goes behind the orders")
    form.get_by_role("button", name="Change the order").click()
    expect(row_of(page, "0.0516")).to_contain_text("0 Wh of 300 Wh")
    mine = page.locator("market-ladder tr.bid", has_text="0.0516")
    expect(mine).to_contain_text("300 Wh")
    row_of(page, "0.0516").get_by_role("button", name="Put to sleep: ").click()
    expect(row_of(page, "0.0516")).to_contain_text("asleep")
    expect(row_of(page, "0.0516")).to_contain_text("You have put this order to sleep.")
    expect(mine).to_have_count(0)
    row_of(page, "0.0516").get_by_role("button", name="Bring back: ").click()
    expect(mine).to_contain_text("mine")
    expect(row_of(page, "0.0516")).to_contain_text("until the gate closes")


def test_an_order_says_why_it_waits_and_says_it_anew(mia: Visitor, tom: Visitor) -> None:
    page = mia.page
    fill(page, "limit", "0.1000", "0.4")
    submit(page)
    row = row_of(page, "0.1000")
    expect(row).to_contain_text("Nobody is on the other side of the market in this interval yet.")
    tom.order(shown(page), "sell", "0.1900", 400)
    expect(row).to_contain_text("The best price to be had is 0.1900 per kWh with grid fees", timeout=WHY_MS)
    tom.order(shown(page), "sell", "0.1500", 400)
    expect(row).to_contain_text("The best price to be had is 0.1500 per kWh with grid fees", timeout=WHY_MS)


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_the_ticket_and_the_list_have_no_barriers(
    visit: Visit, size: tuple[int, int], language: str, scheme: str, shoot: Callable[[Page, str], None]
) -> None:
    visitor = visit("household", size=size, language=language, scheme=scheme)
    page = visitor.goto("/trade")
    visitor.goto(f"/trade/{page.locator('#later option').last.get_attribute('value')}")
    for kind in KINDS:
        page.locator("#ticket-kind").select_option(kind)
        if kind != "basket":
            page.locator("#ticket-price").fill("0.0521")
        if kind in ("limit", "iceberg", "block"):
            submit(page)
            expect(page.locator("#ticket-result")).to_be_visible()
        expect(page.locator("#preview p").first).to_be_visible()
        check_now(page, kind)
    page.locator("market-orders > table button").first.click()  # the newest simple order is changed
    check_now(page, "changing an order")
    shoot(page, f"trade-orders-{language}-{size[0]}-{scheme}")
    visitor.send("DELETE", "/api/v1/orders")
    assert visitor.errors == []


def test_open_orders_beyond_one_page_are_listed(mia: Visitor) -> None:
    page = mia.page
    page.route("**/api/v1/orders?state=open*", lambda route: route.continue_(url=cut(route.request.url)))
    for price in ("0.0511", "0.0512", "0.0513"):
        fill(page, "limit", price, "0.1")
        with page.expect_response(lambda response: "cursor=" in response.url) if price != "0.0511" else nullcontext():
            submit(page)
        expect(row_of(page, price)).to_be_visible()
    for price in ("0.0511", "0.0512", "0.0513"):
        expect(row_of(page, price)).to_be_visible()
    assert mia.errors == []


def cut(url: str) -> str:
    """Return the address of a list that has one order a page."""
    return re.sub(r"limit=\d+", "limit=1", url)
