"""A first visit on a slow phone: how soon something is seen, and how soon a touch is answered.

The processor four times slower, a network like a good 4G connection (Chromium's own "Fast 4G": 165 ms, 8.1 Mbit/s), nothing in
the cache: the worst visit there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from playwright.sync_api import Browser, Page

from tests.browser.conftest import PHONE

SLOWER: Final = 4
NETWORK: Final = {"offline": False, "latency": 165, "downloadThroughput": 1_012_500, "uploadThroughput": 168_750}
MAX_PAINT_MS: Final = 1_000
MAX_INTERACTION_MS: Final = 100
FLOOR_MS: Final = 16  # the least that Event Timing reports
PAINTED: Final = (("", "/"), ("", "/market"), ("household", "/home"), ("household", "/trade"))
TOUCHED: Final = (("household", "/home"), ("household", "/trade"))

_PAINT: Final = """() => new Promise((resolve) => new PerformanceObserver((list) => {
  for (const paint of list.getEntries()) if (paint.name === "first-contentful-paint") resolve(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""
_WATCH: Final = """window.slowest = 0;
new PerformanceObserver((list) => {
  for (const event of list.getEntries()) if (event.interactionId) window.slowest = Math.max(window.slowest, event.duration);
}).observe({ type: "event", durationThreshold: 16, buffered: true });"""
SETTLE: Final = (
    "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 200))))"
)


def first_visit(browser: Browser, url: str, role: str, path: str, look: Callable[[Page], float]) -> float:
    """Open a page of the market at ``url`` as somebody's first, slow visit, and return what ``look`` finds there."""
    context = browser.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}, has_touch=True)
    page = context.new_page()
    if role:
        page.goto(f"{url}/sign-in")
        page.locator(f'form[action="/demo/sign-in"] button[name="role"][value="{role}"]').click()
        page.wait_for_load_state()
        page.goto("about:blank")
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.send("Network.emulateNetworkConditions", NETWORK)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.add_init_script(_WATCH)
    page.goto(url + path)
    found = look(page)
    context.close()
    return found


def first_paint_ms(page: Page) -> float:
    """Return when the first text or picture was painted, in ms after the visit began."""
    return float(page.evaluate(_PAINT))


def slowest_answer_ms(page: Page) -> float:
    """Touch and type as a person would; return the longest time until the next paint, in steps of 8 ms."""
    page.locator('#pulse[data-state="live"]').wait_for()
    for selector in ("#bell summary", "main summary"):
        folded = page.locator(selector).first
        if folded.count():
            folded.click()
            page.evaluate(SETTLE)
            page.keyboard.press("Escape")
            page.evaluate(SETTLE)
    field = page.locator("market-ticket input").first
    if field.count():
        field.click()
        field.press_sequentially("0.25", delay=60)
        page.evaluate(SETTLE)
    return max(float(FLOOR_MS), float(page.evaluate("window.slowest")))
