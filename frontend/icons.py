"""Draw the app's icons from the mark (docs/design.md) into ``frontend/public``; needed only when the mark changes.

Chromium draws, Pillow makes small palette files of it. The maskable icon keeps the mark within the inner 80 %, which no
launcher cuts off; the others have the favicon's rounded corners.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PUBLIC = Path(__file__).resolve().parent / "public"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
MARK = (
    '<path d="M6 16a10 10 0 0 1 20 0z" fill="#f7b718"/>'
    '<g stroke="#f1f6f0" stroke-width="2.2" stroke-linecap="round">'
    '<path d="M5 19.5h22"/><path d="M8.5 23.5h15"/><path d="M12.5 27.5h7"/></g>'
)
PAGE = "<style>body{{margin:0;background:transparent}}svg{{display:block;width:{size}px;height:{size}px}}</style>{svg}"


def drawing(*, radius: float, scale: float) -> str:
    """Return the mark on its ground; ``scale`` shrinks the mark around the middle."""
    # The mark's own box is 5..27 by 6..28.6: its middle goes to the middle of the icon.
    move = f"translate(16 16) scale({scale}) translate(-16 -17.3)"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect width="32" height="32" rx="{radius}" fill="#0f2c22"/><g transform="{move}">{MARK}</g></svg>\n'
    )


def main() -> None:
    """Write icon.svg, the PNGs and favicon.ico."""
    rounded, square, maskable = (
        drawing(radius=7, scale=0.95),
        drawing(radius=0, scale=0.86),
        drawing(radius=0, scale=0.72),
    )
    (PUBLIC / "icon.svg").write_text(rounded)
    wanted = {
        "icon-192.png": (rounded, 192),
        "icon-512.png": (rounded, 512),
        "icon-maskable-512.png": (maskable, 512),
        "icon-180.png": (square, 180),
        "favicon.ico": (rounded, 48),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, (svg, size) in wanted.items():
            page = browser.new_page(viewport={"width": size, "height": size})
            page.set_content(PAGE.format(size=size, svg=svg))
            picture = Image.open(io.BytesIO(page.screenshot(omit_background=True)))
            if name.endswith(".ico"):
                picture.save(PUBLIC / name, sizes=[(16, 16), (32, 32), (48, 48)])
            else:
                picture.quantize(64, method=Image.Quantize.FASTOCTREE).save(PUBLIC / name, optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
