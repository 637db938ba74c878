"""How the trade page keeps up with a fast market, in real Chromium.

    python -m tests.load.trade_page [--seconds 10] [--rate 20] [--throttle 4]

A demo market serves the page. Its socket is replaced in the browser by one that speaks the same protocol and says something
new about book, ticker and trades ``--rate`` times a second each, so that the real client, store and elements do all the work.
Printed are, as JSON: gaps between frames, long tasks, layout shifts, and the part of a second that the page's thread computed
(`busy`, its CPU time, which other work on the machine changes little); the same, and how long each interaction took until the
next paint (Event Timing, in steps of 8 ms), with the CPU slowed down by Chromium; and what each interaction costs in CPU time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGS, DESKTOP, Market
from tests.browser.feed import FEED, interactions, spent, stretch

QUIET_MS = 200  # for what an interaction causes to be over
SETTLE_MS = 2_000  # after loading, before anything is counted


def run(page: Page, url: str, seconds: float, throttle: float) -> dict[str, Any]:
    """Measure one page: loading, a stretch at full speed, the same slowed down, then interactions slowed down."""
    page.goto(f"{url}/sign-in")
    page.locator('form[action="/demo/sign-in"] button[name="role"][value="household"]').click()
    page.wait_for_load_state()
    page.goto(f"{url}/trade")
    page.locator("market-ladder .pick").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)
    loading = page.evaluate("window.measured.shifts")
    answer: dict[str, Any] = {
        "load_layout_shift": round(sum(value for value, _ in loading), 4),
        "load_shifted": [who for _, who in loading][:5],
    }
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    answer["plain"] = stretch(page, cdp, seconds)
    cdp.send("Emulation.setCPUThrottlingRate", {"rate": throttle})
    answer["throttled"] = stretch(page, cdp, seconds)
    page.evaluate("window.measured.events.length = 0")
    for _, do in interactions(page):
        do()
    page.wait_for_timeout(SETTLE_MS)
    events = sorted(page.evaluate("window.measured.events"), key=lambda event: -event[1])
    answer["interaction_max_ms"] = events[0][1] if events else 16
    answer["slowest"] = events[:3]
    # The same in CPU time, full speed and nothing else going on: what is left when other work on the machine is left out.
    cdp.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    page.evaluate("window.quiet = true")
    cost: dict[str, float] = {}
    for name, do in interactions(page):
        page.wait_for_timeout(QUIET_MS)
        before = spent(cdp)
        do()
        page.wait_for_timeout(QUIET_MS)
        cost[name] = round((spent(cdp) - before) * 1000, 1)
    answer["interaction_cpu_ms"] = cost
    answer["interaction_cpu_max_ms_throttled"] = round(max(cost.values()) * throttle, 1)
    return answer


def main() -> None:
    """Start a market and a browser, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=20, help="messages a second and channel")
    parser.add_argument("--throttle", type=float, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        market = Market(Path(folder) / "market")
        market.start()
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
            context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, locale="en-GB")
            context.add_init_script(FEED % {"rate": asked.rate})
            print(json.dumps(run(context.new_page(), market.url, asked.seconds, asked.throttle), indent=1))
            browser.close()
        finally:
            market.stop()


if __name__ == "__main__":
    main()
