"""A household sees who looked at it, and asks to be forgotten; the staff's desk shows that."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import Visitor

Visit = Callable[..., Visitor]

pytestmark = pytest.mark.browser


def test_a_look_at_an_account_shows_on_its_owners_page(visit: Visit) -> None:
    household = visit("household")
    mine = household.goto("/account")
    number = re.search(r"Account (\d+) in", mine.locator("#money").locator("xpath=..").inner_text())
    assert number is not None
    regulator = visit("regulator")
    regulator.goto(f"/regulator/accounts/{number[1]}")
    for visitor, heading in ((household, "Who looked at your data"), (regulator, "What you looked at")):
        page = visitor.goto("/account")
        card = page.get_by_role("heading", name=heading).locator("xpath=..")
        expect(card.get_by_role("row").nth(1)).to_contain_text(number[1])
        expect(card).to_contain_text("Regulator · rita")
        assert visitor.errors == []


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_asking_to_be_forgotten_has_no_barriers(visit: Visit, size: dict[str, int], language: str, scheme: str) -> None:
    household = visit("household", size=size, language=language, scheme=scheme)
    page = household.goto("/account")
    page.locator("#erasure ~ p a").click()
    page.locator("#sure").check()
    page.locator("button[name=decision][value=ask]").click()
    expect(page.locator("button[name=decision][value=withdraw]")).to_be_visible()
    check(household, "/account")
    desk = visit("staff", size=size, language=language, scheme=scheme)
    expect(desk.goto("/staff").locator("button[name=decision][value=close]")).to_be_visible()
    check(desk, "/staff")
    page.locator("button[name=decision][value=withdraw]").click()
    expect(page.locator("#erasure ~ p a")).to_be_visible()
