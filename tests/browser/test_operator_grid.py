"""The grid operator sees what flows, cuts an edge and opens it again."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import Visitor

Visit = Callable[..., Visitor]
TRADES_MS = 60_000  # by then neighbours in two areas have traded
REFRESH_MS = 15_000

pytestmark = pytest.mark.browser


def first_area(page: Page) -> str:
    """Return the area on top of the table."""
    return page.locator('[data-live="flows"] tbody th a').first.inner_text()


def test_flows_appear_by_themselves_with_the_fullest_edge_on_top(visit: Visit) -> None:
    visitor = visit("operator")
    page = visitor.page
    top = page.locator('[data-live="flows"] tbody tr').first
    # Nobody reloads the page: the agents trade, and the table follows.
    expect(top.locator("td").last).to_have_text(re.compile(r"^[1-9]\d* %"), timeout=TRADES_MS)
    loads = [int(text.split()[0]) for text in page.locator('[data-live="flows"] tbody td:last-child').all_inner_texts()]
    assert loads == sorted(loads, reverse=True)
    bars = top.locator("rect.fill")
    assert sum(int(bars.nth(n).get_attribute("width") or 0) for n in range(2)) > 0
    expect(page.locator('[data-live="health"]')).to_contain_text(
        re.compile(r"Entries a second\s*[\d.]+"), timeout=REFRESH_MS
    )
    assert visitor.errors == []


def test_the_choice_of_interval_and_order_needs_no_button(visit: Visit) -> None:
    visitor = visit("operator")
    page = visitor.page
    page.get_by_label("Sorted").select_option("tree")
    expect(page).to_have_url(re.compile("order=tree"))
    assert page.locator('[data-live="flows"] tbody th a').all_inner_texts()[:2] == ["HV1", "MV1.101"]
    chosen = page.get_by_label("Interval")
    value = chosen.locator("option").nth(3).get_attribute("value")
    assert value is not None
    chosen.select_option(value)
    expect(page).to_have_url(re.compile(f"contract={re.escape(value).replace(':', '%3A')}"))
    expect(page.get_by_label("Interval")).to_have_value(value)


def test_an_edge_is_cut_and_opened_again(visit: Visit, shoot: Callable[[Page, str], None]) -> None:
    visitor = visit("operator")
    page = visitor.page
    page.locator('[data-live="flows"]').get_by_role("link", name="LV4.201").click()
    expect(page.locator("h1")).to_contain_text("LV4.201")
    into, out = page.get_by_label("Into the area, kW"), page.get_by_label("Out of the area, kW")
    before = into.input_value()
    into.fill("-1")
    page.get_by_role("button", name="See what it would do").click()
    expect(page.locator("#id_capacity-import_kw_error")).to_be_visible()
    into.fill("0")
    out.fill("0")
    page.locator("#id_capacity-reason").select_option("fault")
    page.get_by_role("button", name="See what it would do").click()
    page.get_by_role("button", name="Yes, set the capacity").click()
    expect(page.locator(".notice.success")).to_contain_text(
        re.compile(r"The new capacity is in force\. Ledger entry \d+")
    )
    expect(page.get_by_role("heading", name="Decided about this area").locator("..")).to_contain_text("Fault")
    flows = page.request.get(f"{visitor.url}/api/v1/areas").json()["results"]
    [cut] = [area for area in flows if area["area"] == "LV4.201"]
    assert (cut["import_w"], cut["export_w"]) == (0, 0)
    # Where something is traded already that direction is blocked; elsewhere nothing can be.
    ahead = page.locator('[data-live="ahead"] tbody tr')
    expect(ahead.first).to_contain_text("blocked")
    expect(ahead.filter(has_text="cut").first).to_be_visible()
    shoot(page, "operator-cut-1280")
    page.locator(".notice.success a").click()
    expect(page.locator("table.fields tr", has_text="reason")).to_contain_text("fault")
    page.goto(f"{visitor.url}/operator/areas/LV4.201")
    page.get_by_label("Into the area, kW").fill(before)
    page.get_by_label("Out of the area, kW").fill(before)
    page.locator("#id_capacity-reason").select_option("restored")
    page.get_by_role("button", name="See what it would do").click()
    page.get_by_role("button", name="Yes, set the capacity").click()
    expect(page.locator("dt", has_text="May flow in").locator("xpath=following-sibling::dd")).to_have_text(
        f"{float(before):.1f} kW"
    )


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_an_area_has_no_barriers(
    visit: Visit, size: tuple[int, int], language: str, scheme: str, shoot: Callable[[Page, str], None]
) -> None:
    visitor = visit("operator", size=size, language=language, scheme=scheme)
    check(visitor, f"/operator/areas/{first_area(visitor.page)}")
    shoot(visitor.page, f"operator-area-{language}-{size[0]}-{scheme}")
