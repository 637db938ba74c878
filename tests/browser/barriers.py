"""What every page must pass: no accessibility violation, no sideways scrolling, no error in the console."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import DESKTOP, PHONE, Visitor

SIZES = (DESKTOP, PHONE)
LOOKS = [
    (size, language, scheme)
    for size in SIZES
    for language in ("en", "zh-hans")
    for scheme in ("light", "dark")
    # Every width in both languages and every theme once: colours do not depend on the language.
    if (language == "en") == (scheme == "light")
]


def check_now(page: Page, name: str) -> None:
    """Check a page as it stands, for what only comes up after a click."""
    violations = Axe().run(page).response["violations"]
    found = [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations]
    assert found == [], (name, found)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, f"{name} scrolls {wide} px sideways"


def check(visitor: Visitor, path: str, expected_errors: int = 0) -> None:
    """Open a page and check it; ``expected_errors`` are those a refused page itself causes in the console."""
    visitor.errors.clear()
    page = visitor.goto(path)
    page.wait_for_load_state("networkidle")
    check_now(page, path)
    assert len(visitor.errors) == expected_errors, visitor.errors
    assert page.locator("h1").count() == 1, path
