"""What every page must pass: no accessibility violation, no error in the console, and room for all it says.

Room: no sideways scrolling, nothing cut off and no words over each other, in both sizes, at 200 % zoom, on the smallest
phone and with text of twice the size.

A page is looked at in every look where it stands: resized and recoloured, not loaded again, because loading is what costs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from tests.browser.conftest import DESKTOP, PHONE, Visitor

SIZES = (DESKTOP, PHONE)
SCHEMES = ("light", "dark")
# How a test opens its pages: once in each language. The checks themselves go through all sizes and themes.
LOOKS = [(DESKTOP, "en", "light"), (PHONE, "zh-hans", "dark")]
# Target size is a rule of WCAG 2.2, which axe leaves out unless it is asked for.
EVERYTHING = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
COLOURS = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}
# A colour on its way from one theme to the other belongs to neither.
ARRIVED = """() => {
    getComputedStyle(document.body).color;
    for (const one of document.getAnimations()) if (one instanceof CSSTransition) one.finish();
}"""
CRAMPED = (Path(__file__).parent / "cramped.js").read_text()
# Width in CSS pixels and size of text in px: a screen of 1280 px at a zoom of 200 %, one at 400 % (the smallest phone),
# and who has chosen text of twice the size in the browser.
NARROW = ((640, 16), (320, 16), (1280, 32))
# A mark of Chinese brings its room with it; what joins sentences must not add to it.
LOOSE = re.compile(r".{0,12}[。！？；：，、] +\S.{0,12}")
LOADED = "typeof window.axe === 'object'"


def violations(page: Page, options: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Run axe on the page as it stands and return the rules it breaks, each with the elements that break it."""
    if not page.evaluate(LOADED):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate(f"axe.run({json.dumps(options)})")["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


def check_now(page: Page, name: str) -> None:
    """Check a page as it stands, in both sizes and both themes; it is left in the look it had."""
    before = page.viewport_size
    assert before is not None
    first = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    here = (before["width"], before["height"])
    for size in sorted(SIZES, key=lambda size: size != here):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        for scheme in sorted(SCHEMES, key=lambda scheme: scheme != first):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.evaluate(ARRIVED)
            # A theme changes colours only.
            found = violations(page, EVERYTHING if scheme == first else COLOURS)
            assert found == [], (name, size, scheme, found)
        found = page.evaluate(CRAMPED)
        assert found == [], (name, size, found)
    loose = LOOSE.findall(page.locator("body").inner_text())
    assert loose == [], (name, "a space after a Chinese mark", loose)
    page.emulate_media(color_scheme=first)  # type: ignore[arg-type]
    check_room(page, name)
    page.set_viewport_size(before)


def check_room(page: Page, name: str) -> None:
    """Check that a page has room for all it says where there is least; its size is left changed."""
    # Not detached again: with it a page would lose its virtual authenticator.
    browser = page.context.new_cdp_session(page)
    for width, text in NARROW:
        page.set_viewport_size({"width": width, "height": DESKTOP[1]})
        browser.send("Page.setFontSizes", {"fontSizes": {"standard": text}})
        found = page.evaluate(CRAMPED)
        assert found == [], (name, f"{width} px wide, text of {text} px", found)
    browser.send("Page.setFontSizes", {"fontSizes": {"standard": NARROW[0][1]}})


def check(visitor: Visitor, path: str, expected_errors: int = 0) -> None:
    """Open a page and check it; ``expected_errors`` are those a refused page itself causes in the console."""
    visitor.errors.clear()
    page = visitor.goto(path)
    page.wait_for_load_state("networkidle")
    check_now(page, path)
    assert len(visitor.errors) == expected_errors, (path, visitor.errors)
    assert page.locator("h1").count() == 1, path
