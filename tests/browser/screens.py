"""`make screens`: a picture of every main screen at both widths, ``docs/screens/<page>-<390|1280>.png``.

No test: it starts a demo, lets people live in it for half a market day (``screenlife``), signs in as each role and looks. A
new screen is one more line in ``SCREENS``. Pictures that no line makes are removed. Pillow (it comes with fpdf2) makes palette
files of them.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urljoin

from PIL import Image
from playwright.sync_api import Browser, Page, StorageState, sync_playwright

from tests.browser import screenlife
from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGS, DESKTOP, PHONE, Market

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "screens"
MAX_BYTES: Final = 200_000
MAX_TALL: Final = 2_400  # px: what is further down is left out
COLOURS: Final = (128, 64, 32)  # as many as fit into MAX_BYTES
TIMEOUT_MS: Final = 20_000  # the chart library comes late, the books of the past are replayed first
AT_WORK_S: Final = 15  # the autopilot looks at the market every few seconds


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


def newest(page: Page, what: str) -> dict[str, Any]:
    """Return the newest of something that the regulator may list: "trades?…" or "orders?…"."""
    found = page.evaluate(f"fetch('/api/v1/regulator/{what}').then((a) => a.json())")
    one: dict[str, Any] = found["results"][0]
    return one


def an_order(page: Page) -> None:
    """Go to an order that somebody traded with."""
    order = newest(page, "trades?limit=1")["buy_order"]
    page.goto(urljoin(page.url, f"/regulator/orders/{order}"))


def a_book(page: Page) -> None:
    """Go to the book of the newest trade's interval, as it stood when that was made."""
    trade = newest(page, "trades?limit=1")
    page.goto(urljoin(page.url, f"/regulator/book?contract={trade['contract']}&area=LV1.201&seq={trade['seq']}"))
    page.locator("#moment .past-book").wait_for()


def a_chart(page: Page) -> None:
    """Wait until the chart is drawn: its library comes when its place is in sight."""
    page.locator("market-chart").scroll_into_view_if_needed()
    page.locator("market-chart canvas").first.wait_for()
    page.evaluate("scrollTo(0, 0)")


def a_sale(page: Page) -> None:
    """Go to the receipt of what was paid last, and check it."""
    page.goto(urljoin(page.url, page.locator(".arrived a").get_attribute("href") or ""))
    page.locator("#check button.main").click()
    page.locator("#result h2").wait_for()


def the_autopilot_at_work(page: Page) -> None:
    """Switch it on, and wait until it has done something; the last picture of this role."""
    off = page.locator('form[action$="/automatic"] button.main')
    if off.count():
        off.click()
    done = page.locator('section[aria-labelledby="done-title"] dl')
    for _ in range(AT_WORK_S):
        page.wait_for_timeout(1_000)
        page.reload()
        if done.count():
            return


SCREENS: Final = (
    Screen("front", "", "/"),
    Screen("market", "", "/market"),
    Screen("sign-in", "", "/sign-in"),
    Screen("help", "", "/help"),
    Screen("check-receipt", "household", "/home", a_sale),
    Screen("home", "household", "/home"),
    Screen("trade", "household", "/trade", a_chart),
    Screen("history", "household", "/history"),
    Screen("statement", "household", "/statement"),
    Screen("money", "household", "/money"),
    Screen("account", "household", "/account"),
    Screen("security", "household", "/account/security"),
    Screen("devices", "household", "/account/devices"),
    Screen("notifications", "household", "/notifications"),
    Screen("disputes", "household", "/disputes"),
    Screen("bell", "household", "/home", lambda page: page.locator("#bell summary").click()),
    Screen("autopilot", "household", "/autopilot", the_autopilot_at_work),
    Screen("operator", "operator", "/operator"),
    Screen("operator-area", "operator", "/operator/areas/LV1.201"),
    Screen("operator-ahead", "operator", "/operator/ahead"),
    Screen("operator-alerts", "operator", "/operator/alerts?state=all"),
    Screen("operator-health", "operator", "/operator/health"),
    Screen("operator-settlement", "operator", "/operator/settlement"),
    Screen("operator-halts", "operator", "/operator/halts"),
    Screen("operator-disputes", "operator", "/operator/disputes"),
    Screen("operator-devices", "operator", "/operator/devices"),
    Screen("operator-balance", "operator", "/operator/balance"),
    Screen("regulator", "regulator", "/regulator"),
    Screen("regulator-find", "regulator", "/regulator/find?kind=trades&wh_from=500"),
    Screen("regulator-book", "regulator", "/regulator/find", a_book),
    Screen("regulator-charts", "regulator", "/regulator/charts"),
    Screen("regulator-exports", "regulator", "/regulator/exports"),
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


def signed_in(browser: Browser, market: Market, role: str) -> StorageState:
    """Take one of the demo's doors and return the cookies behind it: all pictures of a role are of one sign-in."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{market.url}/sign-in")
    page.locator(f'form[action="/demo/sign-in"] button[name="role"][value="{role}"]').click()
    page.wait_for_load_state()
    state = context.storage_state()
    context.close()
    return state


def shoot(
    browser: Browser, market: Market, screen: Screen, size: tuple[int, int], cookies: StorageState | None
) -> None:
    """Write the picture of a screen at one width."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        locale="en-GB",
        has_touch=size == PHONE,
        reduced_motion="reduce",
        storage_state=cookies,
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(market.url + screen.path)
    page.locator('#pulse[data-state="live"]').wait_for()
    if screen.find is not None:
        screen.find(page)
        page.locator('#pulse[data-state="live"]').wait_for()
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")
    (FOLDER / f"{screen.name}-{size[0]}.png").write_bytes(small(page.screenshot(full_page=True)))
    context.close()


def main(wanted: list[str]) -> int:
    """Write the wanted pictures (all of them by default) and remove those that no line makes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = {screen.name for screen in SCREENS}
    if unknown := set(wanted) - names:
        print(f"unknown screen {sorted(unknown)[0]!r}; there are: {', '.join(sorted(names))}", file=sys.stderr)
        return 2
    failed: list[str] = []
    cookies: dict[str, StorageState] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        market = Market(Path(folder) / "market")
        market.speed = screenlife.FAST
        market.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        try:
            failed += screenlife.live(browser, market)
            market.stop()
            market.speed = 0  # for the pictures as the demo runs for people
            market.start()
            for screen in SCREENS:
                if wanted and screen.name not in wanted:
                    continue
                for size in (PHONE, DESKTOP):
                    try:
                        if screen.role and screen.role not in cookies:
                            cookies[screen.role] = signed_in(browser, market, screen.role)
                        shoot(browser, market, screen, size, cookies.get(screen.role))
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
