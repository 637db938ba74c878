"""What a page may cost: JavaScript over the wire, and nothing that jumps. Times: a benchmark (``tests/load/bench_paint``)."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import DESKTOP, PHONE, Visitor

Visit = Callable[..., Visitor]
KB = 1_000
MAX_SHIFT = 0.02  # Cumulative Layout Shift; 0.1 is what the web calls good
CHART_MS = 20_000

pytestmark = pytest.mark.browser

# Counted from before the first frame on, so that no order of events hides a jump.
WATCH = """window.shifts = [];
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput)
    window.shifts.push([shift.value, ...shift.sources.map((one) => String(one.node?.outerHTML ?? one.node).slice(0, 90))]);
}).observe({ type: "layout-shift", buffered: true });"""
SHIFTS = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(window.shifts))))"


def loaded(visitor: Visitor, path: str, until: Callable[[Page], None]) -> dict[str, int]:
    """Return the scripts that a page loads, workers included, with what each has in gzip."""
    answers: list[Response] = []

    def note(answer: Response) -> None:
        answers.append(answer)

    visitor.context.on("response", note)
    page = visitor.goto(path)
    until(page)
    page.wait_for_load_state("networkidle")
    visitor.context.remove_listener("response", note)
    scripts = {answer.url for answer in answers if "javascript" in answer.headers.get("content-type", "")}
    # Asked for once more: what a worker has loaded, the browser does not hand out. An address is one content for ever.
    return {
        urlsplit(url).path.rpartition("/")[2]: len(gzip.compress(page.request.get(url).body(), 9)) for url in scripts
    }


def is_live(page: Page) -> None:
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")


def has_chart(page: Page) -> None:
    is_live(page)
    page.locator("market-chart").scroll_into_view_if_needed()
    page.locator("market-chart canvas").first.wait_for(timeout=CHART_MS)


@pytest.mark.parametrize(
    ("path", "until", "limit", "must"),
    [
        ("/home", is_live, 40 * KB, {"app.js", "home.js", "bell.chunk.js"}),
        ("/trade", has_chart, 130 * KB, {"app.js", "trade.js", "drawing.chunk.js"}),
    ],
)
def test_a_page_loads_no_more_javascript_than_it_may(
    visit: Visit, path: str, until: Callable[[Page], None], limit: int, must: set[str]
) -> None:
    found = loaded(visit("household"), path, until)
    assert must <= found.keys(), "not all of the page was seen"
    assert sum(found.values()) < limit, sorted(found.items(), key=lambda one: -one[1])


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["390", "1280"])
def test_nothing_jumps(visit: Visit, size: tuple[int, int]) -> None:
    stranger, household = visit("", size=size), visit("household", size=size)
    pages = []
    for visitor, path, refreshed in (
        (stranger, "/", "/figures"), (stranger, "/market", "/market"), (household, "/home", "/home/now"),
        (household, "/trade", ""),
    ):  # fmt: skip
        page = visitor.open()
        page.add_init_script(WATCH)
        page.goto(visitor.url + path)
        pages.append((page, path, refreshed))
    for page, path, refreshed in pages:
        is_live(page)
        if refreshed:  # what comes by itself must not move what is there either
            page.wait_for_function(
                "(path) => performance.getEntriesByType('resource').some((one) => new URL(one.name).pathname === path)",
                arg=refreshed,
            )
        shifts = page.evaluate(SHIFTS)
        assert sum(shift[0] for shift in shifts) < MAX_SHIFT, (path, shifts)
