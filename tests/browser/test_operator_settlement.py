"""The operator's settlement board: read, filtered and taken home, in both languages and sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.test_household_statement import settled

Visit = Callable[..., Visitor]
Shoot = Callable[[Page, str], None]

pytestmark = pytest.mark.browser
SPEED = 90  # an interval is over after ten seconds


def test_stages_choose_without_a_second_click(visit: Visit) -> None:
    settled(visit("household"))
    visitor = visit("operator")
    page = visitor.goto("/operator/settlement")
    expect(page.get_by_role("heading", name="Meters by area")).to_be_visible()
    page.get_by_label("State").select_option("closed")
    page.wait_for_url("**/operator/settlement?stage=closed")
    expect(page.locator("table[aria-labelledby=intervals] tbody tr").first).to_contain_text("gate closed")
    assert visitor.errors == []


def test_the_settlement_board_is_a_file_as_well(visit: Visit) -> None:
    visitor = visit("operator")
    visitor.goto("/operator/settlement")
    with visitor.page.expect_download() as downloading:
        visitor.page.locator("a[download]").click()
    assert downloading.value.suggested_filename == "settlement.csv"
