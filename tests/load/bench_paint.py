"""How soon a person on a slow phone sees something, and how soon a touch is answered: the demo in throttled Chromium.

``BENCH_VISITS`` visits a page; ``tests/browser/test_budgets`` holds the best of several to the same limits.
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

from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGS, Market
from tests.browser.speed import (
    MAX_INTERACTION_MS,
    MAX_PAINT_MS,
    PAINTED,
    TOUCHED,
    first_paint_ms,
    first_visit,
    slowest_answer_ms,
)
from tests.load.bench import Figure, Peer

VISITS: Final = int(os.environ.get("BENCH_VISITS", "5"))


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


def _measure(pages: tuple[tuple[str, str], ...], look: Callable[[Page], float], limit: int, what: str) -> Figure:
    peers: list[Peer] = []
    with _demo() as (market, browser):
        for role, path in pages:
            times = [first_visit(browser, market.url, role, path, look) for _ in range(VISITS)]
            median = statistics.median(times)
            note = f"median of {VISITS}, {min(times):.0f} to {max(times):.0f} ms"
            peers.append(Peer(path, median, median / limit, note))
    worst: Any = max(peer.value or 0.0 for peer in peers)
    return Figure(worst, "ms", float(limit), worst / limit, f"{what}, the slowest page's median", tuple(peers))


def paint() -> Figure:
    """First contentful paint of a first visit."""
    return _measure(PAINTED, first_paint_ms, MAX_PAINT_MS, "first contentful paint")


def interaction() -> Figure:
    """Interaction to next paint: the slowest of a few touches and keys."""
    return _measure(TOUCHED, slowest_answer_ms, MAX_INTERACTION_MS, "interaction to next paint")


BENCHES: Final = {"paint": paint, "interaction": interaction}
