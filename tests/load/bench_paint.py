"""How soon a person on a slow phone sees something, and how soon a touch is answered: the demo in throttled Chromium.

Four times slower a processor, a network like a good 4G connection (Chromium's own "Fast 4G": 165 ms, 8.1 Mbit/s), nothing in
the cache: the worst visit there is. Times depend on the machine, so these are no tests. ``BENCH_VISITS`` visits a page.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGS, PHONE, Market
from tests.load.bench import Figure, Peer

VISITS: Final = int(os.environ.get("BENCH_VISITS", "5"))
SLOWER: Final = 4
NETWORK: Final = {"offline": False, "latency": 165, "downloadThroughput": 1_012_500, "uploadThroughput": 168_750}
MAX_PAINT_MS: Final = 1_000
MAX_INTERACTION_MS: Final = 100
FLOOR_MS: Final = 16  # the least that Event Timing reports

PAINT: Final = """() => new Promise((resolve) => new PerformanceObserver((list) => {
  for (const paint of list.getEntries()) if (paint.name === "first-contentful-paint") resolve(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""
WATCH: Final = """window.slowest = 0;
new PerformanceObserver((list) => {
  for (const event of list.getEntries()) if (event.interactionId) window.slowest = Math.max(window.slowest, event.duration);
}).observe({ type: "event", durationThreshold: 16, buffered: true });"""
SETTLE: Final = (
    "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 200))))"
)


@contextmanager
def _demo() -> Iterator[tuple[Market, Browser]]:
    if shutil.which(CHROMIUM) is None:
        raise SystemExit(f"no Chromium at {CHROMIUM}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        market = Market(Path(folder) / "market")
        market.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        try:
            yield market, browser
        finally:
            browser.close()
            market.stop()


def _visit(browser: Browser, market: Market, role: str, path: str, look: Callable[[Page], float]) -> float:
    context = browser.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}, has_touch=True)
    page = context.new_page()
    if role:
        page.goto(f"{market.url}/sign-in")
        page.locator(f'form[action="/demo/sign-in"] button[name="role"][value="{role}"]').click()
        page.wait_for_load_state()
        page.goto("about:blank")
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.send("Network.emulateNetworkConditions", NETWORK)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.add_init_script(WATCH)
    page.goto(market.url + path)
    found = look(page)
    context.close()
    return found


def _paint(page: Page) -> float:
    return float(page.evaluate(PAINT))


def _touch(page: Page) -> float:
    """Touch and type as a person would; return the slowest answer."""
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


def _measure(pages: tuple[tuple[str, str], ...], look: Callable[[Page], float], limit: int, what: str) -> Figure:
    peers: list[Peer] = []
    with _demo() as (market, browser):
        for role, path in pages:
            times = [_visit(browser, market, role, path, look) for _ in range(VISITS)]
            median = statistics.median(times)
            note = f"median of {VISITS}, {min(times):.0f} to {max(times):.0f} ms"
            peers.append(Peer(path, median, median / limit, note))
    worst: Any = max(peer.value or 0.0 for peer in peers)
    return Figure(worst, "ms", float(limit), worst / limit, f"{what}, the slowest page's median", tuple(peers))


def paint() -> Figure:
    """First contentful paint of a first visit."""
    pages = (("", "/"), ("", "/market"), ("household", "/home"), ("household", "/trade"))
    return _measure(pages, _paint, MAX_PAINT_MS, "first contentful paint")


def interaction() -> Figure:
    """Interaction to next paint: the slowest of a few touches and keys."""
    return _measure(
        (("household", "/home"), ("household", "/trade")), _touch, MAX_INTERACTION_MS, "interaction to next paint"
    )


BENCHES: Final = {"paint": paint, "interaction": interaction}
