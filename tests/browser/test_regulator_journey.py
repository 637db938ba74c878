"""From a search to the proof: a trade, the life of both orders, the book at that moment, the receipt checked here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.barriers import check
from tests.browser.conftest import DESKTOP, PHONE, Market, Visitor

Visit = Callable[..., Visitor]
JOURNEY_S = 120.0  # what a person may need for it, on a busy machine too
WORDS = {
    "en": {
        "search": "Search", "find": "Find", "size": "Size from, Wh", "then": "Book after entry {}",
        "receipt": "Receipt of entry {}", "verify": "Verify in this browser", "before": "Change before",
        "after": "Change after", "placed": "placed", "traded": "traded", "one": "which are one command",
    },
    "zh-hans": {
        "search": "搜索", "find": "查找", "size": "最小电量，Wh", "then": "条目 {} 之后的订单簿",
        "receipt": "条目 {} 的回执", "verify": "在此浏览器中核验", "before": "上一次变化", "after": "下一次变化",
        "placed": "已下单", "traded": "已成交", "one": "同一指令",
    },
}  # fmt: skip

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("language", "size", "scheme"), [("en", DESKTOP, "light"), ("zh-hans", PHONE, "dark")])
def test_a_trade_its_orders_the_book_then_and_the_receipt(
    visit: Visit, market: Market, language: str, size: tuple[int, int], scheme: str, shoot: Callable[[Page, str], None]
) -> None:
    words = WORDS[language]
    visitor = visit("regulator", size=size, language=language, scheme=scheme)
    page = visitor.page
    page.wait_for_function(
        "async () => (await (await fetch('/api/v1/trades?limit=1')).json()).results.length > 0", timeout=60_000
    )
    started = time.monotonic()
    # Find a trade.
    page.reload()
    page.get_by_role("navigation").get_by_role("link", name=words["search"], exact=True).click()
    page.get_by_label(words["size"]).fill("1")
    page.get_by_role("button", name=words["find"], exact=True).click()
    expect(page).to_have_url(re.compile("wh_from=1"))
    row = page.locator('[aria-labelledby="found"] tbody tr').first
    seq = int(row.locator("th a").first.inner_text())
    buy, sell = (int(one) for one in row.locator("td").nth(7).inner_text().split("\n")[-1].split("·"))
    shoot(page, f"regulator-find-{language}-{size[0]}-{scheme}")
    # The life of both orders.
    for order in (buy, sell):
        visitor.goto(f"/regulator/orders/{order}")
        steps = page.locator("table tbody tr")
        expect(steps.first).to_contain_text(words["placed"])
        step = steps.filter(has=page.get_by_role("link", name=str(seq), exact=True))
        expect(step).to_contain_text(words["traded"])
        expect(step).to_contain_text(str(sell if order == buy else buy))
    # The book at that moment: what the trade took is marked, and steps lead through time.
    page.get_by_role("link", name=words["then"].format(seq)).click()
    moment = page.locator("#moment")
    expect(moment.locator("h2").first).to_contain_text(str(seq))
    expect(moment.locator("h2").first).to_contain_text(words["one"])
    expect(moment.locator(".entry-list")).to_contain_text(str(seq))
    sections = moment.locator("section")  # not the steps, which lead further as the market goes on
    shown = sections.all_inner_texts()
    slider = page.get_by_role("slider")
    expect(slider).to_have_value(str(seq))
    page.get_by_role("link", name=words["before"]).click()
    expect(slider).not_to_have_value(str(seq))
    page.get_by_role("link", name=words["after"]).click()
    expect(moment.locator(".entry-list")).to_contain_text(str(seq))
    slider.focus()
    for key in ("PageDown", "ArrowLeft"):
        was = slider.input_value()
        slider.press(key)
        expect(moment).not_to_have_attribute("aria-busy", "true")
        expect(page).to_have_url(re.compile(f"seq=(?!{was}$)"))
    page.get_by_role("spinbutton").fill(str(seq))
    page.locator("#replay button").click()  # as without scripts
    expect(moment.locator("h2").first).to_contain_text(str(seq))
    assert sections.all_inner_texts() == shown
    shoot(page, f"regulator-book-{language}-{size[0]}-{scheme}")
    # Without a name to type, a book is a tap away.
    visitor.goto("/regulator/book")
    page.locator('[aria-labelledby="lately"] tbody th a').first.click()
    expect(moment.locator(".entry-list tbody tr")).not_to_have_count(0)
    # The receipt, checked in this browser.
    visitor.goto(f"/regulator/find?trade={seq}")
    page.get_by_role("link", name=words["receipt"].format(seq)).click()
    button = page.get_by_role("button", name=words["verify"])
    for _ in range(50):  # sealed within a second
        if button.count():
            break
        page.reload()
    button.click()
    expect(page.locator("sl-verify")).to_have_attribute("data-verdict", "good")
    assert time.monotonic() - started < JOURNEY_S
    assert visitor.errors == []
    # All of it without barriers, and all of it in her own log.
    contract = page.request.get(f"{market.url}/api/v1/regulator/search?trade={seq}").json()["results"][0]["contract"]
    book = f"/regulator/book?contract={quote(contract)}&area=LV1.101&seq={seq}"
    wrong = "/regulator/book?contract=today"
    for path in (
        "/regulator/find?kind=orders",
        book,
        wrong,
        "/regulator/charts",
        "/regulator/exports",
        "/regulator/accesses",
    ):
        check(visitor, path)
    shoot(page, f"regulator-accesses-{language}-{size[0]}-{scheme}")
    expect(page.locator("main")).to_contain_text(f"trade={seq}")
