"""`make screens`: a picture of every main screen at both widths, ``docs/screens/<page>-<390|1280>.png``.

No test: it starts a demo, lets a quarter of an hour be settled, signs in as each role and looks. A new screen is one more
line in ``SCREENS``. Pictures that no line makes are removed. Pillow (it comes with fpdf2) makes palette files of them.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urljoin

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGS, DESKTOP, PHONE, Market

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "screens"
MAX_BYTES: Final = 200_000
MAX_TALL: Final = 2_400  # px: what is further down is left out
COLOURS: Final = (128, 64, 32)  # as many as fit into MAX_BYTES
TIMEOUT_MS: Final = 10_000
SETTLED_S: Final = 180.0  # the demo's first interval is over and settled after a minute and a half


class Screen(NamedTuple):
    """A picture: its name, who looks ("" for anybody) and where. ``find`` leads on from there, by what the page offers."""

    name: str
    role: str
    path: str
    find: Callable[[Page], object] | None = None


def follow(selector: str) -> Callable[[Page], object]:
    """Return a step that follows the first link of a kind."""

    def go(page: Page) -> None:
        page.goto(urljoin(page.url, page.locator(selector).first.get_attribute("href") or ""))

    return go


def an_order(page: Page) -> None:
    """Go to the newest order that somebody traded with."""
    address = "/api/v1/regulator/trades?limit=1"
    order = page.evaluate(f"fetch('{address}').then((a) => a.json()).then((found) => found.results[0].buy_order)")
    page.goto(page.url.partition("/regulator")[0] + f"/regulator/orders/{order}")


SCREENS: Final = (
    Screen("front", "", "/"),
    Screen("market", "", "/market"),
    Screen("sign-in", "", "/sign-in"),
    Screen("help", "", "/help"),
    Screen("check-receipt", "", "/ledger/check"),
    Screen("home", "household", "/home"),
    Screen("trade", "household", "/trade"),
    Screen("autopilot", "household", "/autopilot"),
    Screen("history", "household", "/history"),
    Screen("statement", "household", "/statement"),
    Screen("money", "household", "/money"),
    Screen("account", "household", "/account"),
    Screen("security", "household", "/account/security"),
    Screen("devices", "household", "/account/devices"),
    Screen("notifications", "household", "/notifications"),
    Screen("bell", "household", "/home", lambda page: page.locator("#bell summary").click()),
    Screen("operator", "operator", "/operator"),
    Screen("operator-area", "operator", "/operator", follow('a[href^="/operator/areas/"]')),
    Screen("operator-ahead", "operator", "/operator/ahead"),
    Screen("operator-alerts", "operator", "/operator/alerts"),
    Screen("operator-health", "operator", "/operator/health"),
    Screen("operator-settlement", "operator", "/operator/settlement"),
    Screen("operator-halts", "operator", "/operator/halts"),
    Screen("operator-balance", "operator", "/operator/balance"),
    Screen("regulator", "regulator", "/regulator"),
    Screen("regulator-find", "regulator", "/regulator/find"),
    Screen("regulator-book", "regulator", "/regulator/book"),
    Screen("regulator-charts", "regulator", "/regulator/charts"),
    Screen("regulator-block", "regulator", "/regulator", follow('a[href^="/regulator/blocks/"]')),
    Screen("regulator-entry", "regulator", "/regulator/entries/20"),
    Screen("regulator-order", "regulator", "/regulator", an_order),
    Screen("staff", "staff", "/staff"),
    Screen("staff-money", "staff", "/staff/money"),
    Screen("staff-rules", "staff", "/staff/rules"),
)


def small(picture: bytes) -> bytes:
    """Return a picture as a palette file below ``MAX_BYTES``: as many colours as fit, at last a shorter piece of it."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, MAX_TALL)))
    while True:
        for colours in COLOURS:
            out = io.BytesIO()
            image.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
            if out.tell() <= MAX_BYTES:
                return out.getvalue()
        image = image.crop((0, 0, image.width, image.height * 3 // 4))


def shoot(browser: Browser, market: Market, screen: Screen, size: tuple[int, int]) -> None:
    """Write the picture of a screen at one width."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, locale="en-GB", has_touch=size == PHONE, reduced_motion="reduce"
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    if screen.role:
        page.goto(f"{market.url}/sign-in")
        page.locator(f'form[action="/demo/sign-in"] button[name="role"][value="{screen.role}"]').click()
        page.wait_for_load_state()
    page.goto(market.url + screen.path)
    page.locator('#pulse[data-state="live"]').wait_for()
    if screen.find is not None:
        screen.find(page)
        page.locator('#pulse[data-state="live"]').wait_for()
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    (FOLDER / f"{screen.name}-{size[0]}.png").write_bytes(small(page.screenshot(full_page=True)))
    context.close()


def wait_for_settlement(browser: Browser, market: Market) -> None:
    """Let the demo live until a quarter of an hour is settled, so that the screens have something to say."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{market.url}/sign-in")
    page.locator('form[action="/demo/sign-in"] button[name="role"][value="household"]').click()
    deadline = time.monotonic() + SETTLED_S
    while '"settle"' not in page.request.get(f"{market.url}/api/v1/events?after=0&limit=500").text():
        if time.monotonic() > deadline:
            sys.exit("no interval of the demo was settled")
        page.wait_for_timeout(1_000)
    context.close()


def main(wanted: list[str]) -> int:
    """Write the wanted pictures (all of them by default) and remove those that no line makes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = {screen.name for screen in SCREENS}
    if unknown := set(wanted) - names:
        print(f"unknown screen {sorted(unknown)[0]!r}; there are: {', '.join(sorted(names))}", file=sys.stderr)
        return 2
    failed = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        market = Market(Path(folder) / "market")
        market.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        try:
            wait_for_settlement(browser, market)
            for screen in SCREENS:
                if wanted and screen.name not in wanted:
                    continue
                for size in (PHONE, DESKTOP):
                    try:
                        shoot(browser, market, screen, size)
                    except Exception as error:  # the others are wanted all the same
                        failed.append(f"{screen.name}-{size[0]}: {str(error).splitlines()[0]}")
        finally:
            browser.close()
            market.stop()
    made = {f"{name}-{size[0]}.png" for name in names for size in (PHONE, DESKTOP)}
    for path in FOLDER.glob("*.png"):
        if path.name not in made:
            path.unlink()
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}")
    for line in failed:
        print(f"not made: {line}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
