"""A household's statement: what came of a day, each line with its receipt, files to take home, a sheet to print."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.barriers import LOOKS, check, check_now
from tests.browser.conftest import PHONE, Visitor

Visit = Callable[..., Visitor]
Shoot = Callable[[Page, str], None]
GUARD_MS = 15_000
SETTLED_S = 150  # the first interval of the demo is over a minute after its start

pytestmark = pytest.mark.browser
SPEED = 90  # an interval is over after ten seconds


def settled(visitor: Visitor) -> Page:
    """Wait until the statement of the day has a settled interval, and return its page."""
    page = visitor.goto("/statement")
    for _ in range(SETTLED_S):
        if page.locator(".verdict .sum").count():
            return page
        page.wait_for_timeout(1_000)
        page.reload()
    raise AssertionError("nothing was settled")


def shown(page: Page) -> date:
    """Return the day the page is about: the demo begins today."""
    return date.fromisoformat(page.get_by_label("A day in it").input_value())


def test_a_day_is_a_sentence_and_every_line_has_its_receipt(visit: Visit, shoot: Shoot) -> None:
    visitor = visit("household")
    page = settled(visitor)
    expect(page.locator(".verdict .story")).to_contain_text(re.compile(r"You earned €[\d.]+ and paid €[\d.]+\."))
    expect(page.locator(".verdict .sum strong")).to_contain_text("€")
    row = page.locator("table.statement tbody tr", has=page.locator("details")).first
    row.locator("summary").click()
    link = row.get_by_role("link", name=re.compile(r"^receipt \d+$")).last
    shoot(page, "statement-open-1280")
    check_now(page, "/statement with lines")
    with page.expect_download() as downloading:
        link.click()
    assert downloading.value.suggested_filename.endswith(".tlog-proof")
    row.get_by_role("link", name=re.compile(r"^Check receipt")).last.click()
    expect(page.locator("#ledger-checked")).to_contain_text("This browser follows", timeout=GUARD_MS)
    expect(page.locator("#receipt")).to_have_value(re.compile("^c2sp.org/tlog-proof@v1\n"))
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#result")).to_have_attribute("data-verdict", "good")
    assert visitor.errors == []


def test_the_files_are_those_of_the_period(visit: Visit) -> None:
    visitor = visit("household")
    page = settled(visitor)
    day = shown(page)
    for kind, begin in (("CSV", b"interval start [UTC],account,"), ("PDF", b"%PDF-1.")):
        with page.expect_download() as downloading:
            page.get_by_role("link", name=f"Download {kind}").click()
        assert downloading.value.suggested_filename == f"statement-{day.isoformat()}.{kind.lower()}"
        content = Path(downloading.value.path()).read_bytes()
        assert content.startswith(begin)
        if kind == "CSV":
            rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
            assert rows[-1][4] == "total"


def test_from_day_to_month_to_year_and_back(visit: Visit, shoot: Shoot) -> None:
    visitor = visit("household")
    page = settled(visitor)
    day = shown(page)
    kinds = page.get_by_role("navigation", name="Length")
    kinds.get_by_role("link", name="Month").click()
    expect(page.locator(".verdict h2")).to_have_text(f"{day:%B %Y}")
    shoot(page, "statement-month-1280")
    kinds.get_by_role("link", name="Year").click()
    expect(page.locator(".verdict h2")).to_have_text(f"{day.year}")
    page.locator("table.statement").get_by_role("link", name=f"{day:%B %Y}").click()
    page.locator("table.statement").get_by_role("link", name=f"{day:%a}, {day.day} {day:%b}").click()
    expect(page.locator(".verdict h2")).to_have_text(f"{day:%a}, {day.day} {day:%B} {day.year}")
    page.get_by_role("link", name="Earlier").click()
    expect(page.locator(".verdict")).to_contain_text("Nothing is settled here yet.")
    page.get_by_label("A day in it").fill(day.isoformat())
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".verdict h2")).to_have_text(f"{day:%a}, {day.day} {day:%B} {day.year}")
    page.get_by_role("link", name="Movements").click()
    expect(page.locator("table.statement")).to_contain_text("money in or out")
    assert visitor.errors == []


def test_on_paper_there_is_nothing_to_press_and_every_line(visit: Visit, shoot: Shoot) -> None:
    visitor = visit("household", scheme="dark")
    page = settled(visitor)
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in (".band", ".tabs", ".period-bar", ".downloads", "footer"):
        expect(page.locator(hidden).first).to_be_hidden()
    expect(page.locator(".verdict .sum")).to_be_visible()
    expect(page.locator("details.lines li").first).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    shoot(page, "statement-print")


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_nobody_is_shut_out(visit: Visit, shoot: Shoot, size: tuple[int, int], language: str, scheme: str) -> None:
    visitor = visit("household", size=size, language=language, scheme=scheme)
    page = settled(visitor)
    name = f"statement-day-{language}-{size[0]}-{scheme}"
    page.locator("details.lines summary").first.click()
    check_now(page, name)
    shoot(page, name)
    for path in (
        "/statement?period=month",
        "/statement?period=year",
        "/statement?date=2026-01-01",
        "/statement/movements",
    ):
        check(visitor, path)
    if size == PHONE:
        for link in page.locator(".tabs a").all():
            box = link.bounding_box()
            assert box is not None and box["height"] >= 44


def test_the_weekly_summary_is_one_button(visit: Visit, shoot: Shoot) -> None:
    visitor = visit("household", size=PHONE)
    page = visitor.goto("/account")
    page.get_by_role("button", name="Send me the summary").click()
    expect(page.get_by_role("button", name="Stop the summaries")).to_be_visible()
    check_now(page, "/account with a summary")
    shoot(page, "account-summary-390")
    page.get_by_role("button", name="Stop the summaries").click()
    expect(page.get_by_role("button", name="Send me the summary")).to_be_visible()
    assert visitor.errors == []
