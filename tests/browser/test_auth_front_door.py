"""From a stranger at the front door to a member with money, in two browsers: the household's and the market operator's."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Visitor

Visit = Callable[..., Visitor]
FIGURES_MS = 20_000  # figures are counted every 5 s and fetched every 5 s

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("door", "address"),
    [("A household", "/home"), ("The grid operator", "/operator"), ("The regulator", "/regulator"),
     ("The market operator", "/staff")],
)  # fmt: skip
def test_one_click_leads_through_each_door(visit: Visit, door: str, address: str) -> None:
    visitor = visit()
    page = visitor.goto("/")
    page.get_by_role("button", name=re.compile(f"^{door}")).click()
    expect(page).to_have_url(visitor.url + address)
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(visitor.url + "/")
    expect(page.locator("h1")).to_have_text("The sun on one roof lights the house next door.")
    assert visitor.errors == []


def test_the_front_page_grows_while_one_looks(visit: Visit) -> None:
    visitor = visit()
    page = visitor.goto("/")
    blocks = page.locator("#front-figures dd").nth(2)
    before = blocks.inner_text()
    expect(blocks).not_to_have_text(before, timeout=FIGURES_MS)


def test_a_household_becomes_a_member_with_money(visit: Visit, shoot: Callable[[Page, str], None]) -> None:
    newcomer = visit(size=PHONE)
    page = newcomer.goto("/")
    page.get_by_role("link", name="Open an account").click()
    page.get_by_label("Name to sign in with").fill("nora")
    page.get_by_label("E-mail").fill("nora@sunledger.example")
    page.get_by_label("Password").fill("short")
    page.get_by_label("Address of the home").fill("7 Sun Street")
    page.get_by_label("Meter number").fill("DE-77")
    page.get_by_label("Grid area").select_option("LV1.101")
    ask = page.get_by_role("button", name="Ask for an account")
    ask.click()
    # The mistake is said at its field, in words, and the rest is still there.
    password = page.get_by_label("Password")
    expect(password).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#id_password_error")).to_contain_text("too short")
    expect(page.get_by_label("Meter number")).to_have_value("DE-77")
    shoot(page, "sign-up-390")
    password.fill("a kettle and a lamp")
    ask.click()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    expect(page.get_by_text("The market operator checks your request.")).to_be_visible()

    staff = visit("staff")
    desk = staff.page
    case = desk.locator("form.case", has_text="nora")
    expect(case).to_contain_text("7 Sun Street")
    case.get_by_role("button", name="Open the account").click()
    told = desk.locator(".notice.success")
    expect(told).to_contain_text(re.compile(r"Account \d+ is open in LV1\.101\. Ledger entry \d+"))

    newcomer.goto("/money")
    page.get_by_label("Amount, EUR").first.fill("40")
    page.get_by_role("button", name="Get a reference").click()
    reference = page.locator("table code", has_text=re.compile("^RF")).first.inner_text()
    desk = staff.goto("/staff/money")
    desk.locator("form.case", has_text=reference).get_by_role("button", name="It has arrived").click()
    expect(desk.locator(".notice.success")).to_contain_text("The deposit is in the wallet")
    page.reload()
    expect(page.locator("dt", has_text="Free to use").locator("xpath=following-sibling::dd")).to_have_text("€40.00")
    expect(page.get_by_text("in your wallet", exact=True)).to_be_visible()
    desk.locator(".notice.success").get_by_role("link").click()
    expect(desk.locator("table.fields")).to_contain_text("fund")


def test_a_key_made_in_the_browser_opens_the_api_until_it_is_revoked(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/account")
    page.get_by_label("Name of the key").fill("my script")
    page.get_by_role("button", name="Make the key").click()
    token = page.locator("#secret").inner_text()
    ask = {"headers": {"Authorization": f"Bearer {token}"}}
    stranger = visit()
    assert stranger.context.request.get(f"{visitor.url}/api/v1/me", **ask).status == 200
    page.goto(f"{visitor.url}/account")
    expect(page.locator("#secret")).to_have_count(0)
    page.get_by_role("button", name="Revoke my script").click()
    expect(page.locator(".notice.success")).to_contain_text("revoked")
    assert stranger.context.request.get(f"{visitor.url}/api/v1/me", **ask).status == 401
