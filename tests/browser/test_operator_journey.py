"""The operator's journey: cut an edge, see books and map react, restore it; and the pages of the day, for everybody."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.barriers import LOOKS, check_now
from tests.browser.conftest import DESKTOP, PHONE, Visitor, join

Visit = Callable[..., Visitor]
Shoot = Callable[[Page, str], None]
AREA = "LV4.101"
JOURNEY_S = 120.0
SOON_MS = 3_000  # from the confirmation to the household's book and to the operator's map
WORDS = {
    "en": {"cut": "cut", "sure": "Yes, set the capacity", "loses": "out of the area's reach", "trades": "made at once"},
    "zh-hans": {"cut": "已切断", "sure": "是，设置容量", "loses": "将无法到达该区域", "trades": "将立即成交"},
}

pytestmark = pytest.mark.browser


def mark(page: Page) -> Locator:
    """Return the area on the map."""
    return page.locator(f'#grid-map a[href="/operator/areas/{AREA}"]')


def ask(page: Page, kw: str, reason: str) -> None:
    """Ask what another capacity both ways would do."""
    page.locator("#id_capacity-import_kw").fill(kw)
    page.locator("#id_capacity-export_kw").fill(kw)
    page.locator("#id_capacity-reason").select_option(reason)
    page.locator('form[action$="/capacity"] button.main').click()
    page.wait_for_load_state()


def journey(visit: Visit, shoot: Shoot, language: str, size: tuple[int, int], home: Visitor, contract: str) -> None:
    """Go the operator's way in a language: from the map to the edge, cut it, see what reacts, restore it."""
    words = WORDS[language]
    book = home.goto(f"/trade/{contract}").locator("market-ladder tr.ask", has_text="0.1600")
    expect(book).to_have_count(1)
    operator = visit("operator", language=language, size=size)
    started_s = time.monotonic()
    desk = operator.goto(f"/operator?contract={contract}")
    watching = operator.open()  # the map in a second tab
    watching.goto(desk.url)
    expect(mark(watching)).not_to_contain_text(words["cut"])
    mark(desk).click()
    desk.wait_for_url(f"**/operator/areas/{AREA}")
    before = desk.locator("#id_capacity-import_kw").input_value()

    # What it would do is said first, and nothing is done.
    ask(desk, "0", "fault")
    expect(desk.locator(".effects")).to_contain_text(words["loses"])
    expect(book).to_have_count(1)
    check_now(desk, "what a capacity would do")
    shoot(desk, f"operator-preview-{language}-{size[0]}")
    desk.get_by_role("button", name=words["sure"]).click()
    expect(book).to_have_count(0, timeout=SOON_MS)
    expect(mark(watching)).to_contain_text(words["cut"], timeout=SOON_MS)
    shoot(watching, f"operator-map-cut-{language}")

    # An order that waits for the edge trades when it opens: foreseen as well.
    home.order(contract, "buy", "0.1700", 100)
    ask(desk, before, "restored")
    expect(desk.locator(".effects")).to_contain_text(words["trades"])
    desk.get_by_role("button", name=words["sure"]).click()
    expect(book).to_contain_text("200 Wh", timeout=SOON_MS)
    expect(mark(watching)).not_to_contain_text(words["cut"], timeout=SOON_MS)
    assert time.monotonic() - started_s < JOURNEY_S
    assert operator.errors == [] and home.errors == []


def test_an_edge_is_cut_books_and_map_react_and_it_is_restored(visit: Visit, shoot: Shoot) -> None:
    far = join(visit(), visit("staff"), "LV1.201")
    home = visit("household")  # the demo's lives in the area
    options = home.goto("/trade").locator("#later option")
    for place, (language, size) in enumerate((("en", DESKTOP), ("zh-hans", PHONE))):
        contract = options.nth(options.count() // 2 + 4 * place).get_attribute("value") or ""
        far.order(contract, "sell", "0.1200", 300)
        journey(visit, shoot, language, size, home, contract)
        home.goto("/trade")


@pytest.mark.parametrize(("size", "language", "scheme"), [LOOKS[0], LOOKS[-1]])
def test_no_tab_is_cut_off_and_an_area_is_found(
    visit: Visit, shoot: Shoot, size: tuple[int, int], language: str, scheme: str
) -> None:
    visitor = visit("operator", size=size, language=language, scheme=scheme)
    visitor.goto("/operator/ahead")
    # No tab is cut off: each stands inside the window.
    for tab in visitor.page.locator(".tabs a").all():
        box = tab.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= size[0], tab.inner_text()
    page = visitor.goto("/operator?find=lv1.2")
    expect(page.locator('#grid-map a[aria-current="true"]')).to_contain_text("LV1.201")
    expect(mark(visitor.goto("/operator"))).to_contain_text(re.compile(r"\d+ %"))
