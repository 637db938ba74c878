"""Money in and out, as a household and the market operator's two people meet it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.bank import entry, statement
from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import PHONE, Visitor

Visit = Callable[..., Visitor]

pytestmark = pytest.mark.browser
SPEED = 90  # an interval is over after ten seconds


def cash(page: Page) -> float:
    """Return what the wallet of the page has."""
    text = page.locator("dt", has_text="In the wallet").locator("xpath=following-sibling::dd").inner_text()
    return float(text.replace("€", "").replace(",", ""))


def announce(page: Page, amount: str) -> str:
    """Announce a deposit and return its reference."""
    page.get_by_label("Amount, EUR").first.fill(amount)
    page.get_by_role("button", name="Get a reference").click()
    return page.locator(".transfer code").nth(1).inner_text()


def take_out(page: Page, amount: str, iban: str = "NL91 ABNA 0417 1643 00") -> None:
    out = page.locator('section[aria-labelledby="out"]')
    out.get_by_label("Amount, EUR").fill(amount)
    out.get_by_label("IBAN of your bank account").fill(iban)
    out.get_by_label("Name the bank account is in").fill("Mia Müller")
    out.get_by_role("button", name="Take it out").click()


def test_one_tap_tops_the_wallet_up(visit: Visit) -> None:
    page = visit("household", size=PHONE).goto("/money")
    before = cash(page)
    page.get_by_role("button", name="Add €20.00 of play money").click()
    expect(page.locator(".notice.success")).to_contain_text("€20.00 are in your wallet.")
    assert cash(page) == pytest.approx(before + 20, abs=1)
    row = page.locator("table tbody tr").first
    expect(row).to_contain_text("in your wallet")
    expect(row.get_by_role("link", name=re.compile("receipt"))).to_be_visible()


def test_a_withdrawal_goes_to_the_bank_in_one_file(visit: Visit) -> None:
    household = visit("household")
    page = household.goto("/money")
    before = cash(page)
    take_out(page, "5.00", iban="NL91 ABNA 0417 1643 01")
    expect(page.locator("#id_out-iban_error")).to_contain_text("This is not an IBAN")
    take_out(page, "5.00")
    expect(page.locator(".notice.success")).to_contain_text("€5.00 are set aside")
    assert cash(page) == pytest.approx(before - 5, abs=1)
    expect(page.locator("table tbody tr").first).to_contain_text("set aside, is being checked")
    staff = visit("staff")
    desk = staff.page
    desk.get_by_role("link", name="Money").click()
    case = desk.locator('section[aria-labelledby="withdrawals"] form.case').last
    expect(case).to_contain_text("Mia Muller")
    case.get_by_role("button", name="Confirm").click()
    expect(desk.locator(".notice.success")).to_contain_text("It goes into the next file for the bank.")
    desk.get_by_role("button", name="Make a file and mark them sent").click()
    with desk.expect_download() as download:
        desk.locator('section[aria-labelledby="to-bank"] a[download]').first.click()
    data = Path(download.value.path()).read_text()
    assert "<IBAN>NL91ABNA0417164300</IBAN>" in data and '<InstdAmt Ccy="EUR">5.00</InstdAmt>' in data
    expect(desk.get_by_role("button", name="Make a file and mark them sent")).to_have_count(0)
    expect(household.goto("/money").locator("table tbody tr").first).to_contain_text("given to the bank")


def test_a_refused_withdrawal_comes_back(visit: Visit) -> None:
    household = visit("household")
    page = household.goto("/money")
    before = cash(page)
    take_out(page, "3.00")
    desk = visit("staff").goto("/staff/money")
    case = desk.locator('section[aria-labelledby="withdrawals"] form.case').last
    case.get_by_label("Reason to refuse").select_option("wrong_account")
    case.get_by_role("button", name="Refuse").click()
    expect(desk.locator(".notice.success")).to_contain_text("The money is back in the wallet")
    page = household.goto("/money")
    expect(page.locator("table tbody tr").first).to_contain_text("The bank account is not the member's")
    assert cash(page) == pytest.approx(before, abs=1)


def test_above_the_limit_two_people_look(visit: Visit) -> None:
    household = visit("household")
    announce(household.goto("/money"), "1500")
    sam = visit("staff")
    desk = sam.goto("/staff/money")
    case = desk.locator('section[aria-labelledby="deposits"] form.case', has_text="€1,500.00")
    case.get_by_role("button", name="It has arrived").click()
    expect(desk.locator(".notice.success")).to_contain_text("somebody else of the staff confirms it, too")
    expect(case).to_contain_text("second pair of eyes")
    expect(case).to_contain_text("sam")
    expect(case.get_by_role("button", name="I confirm it, too")).to_have_count(0)
    expect(household.goto("/money").locator("table tbody tr").first).to_contain_text("here, is being checked")
    desk.get_by_role("button", name="Look as Sue").click()
    case.get_by_role("button", name="I confirm it, too").click()
    expect(desk.locator(".notice.success")).to_contain_text("The deposit is in the wallet")
    expect(household.goto("/money").locator("table tbody tr").first).to_contain_text("in your wallet")


def test_a_statement_is_looked_at_and_then_booked(
    visit: Visit, tmp_path: Path, shoot: Callable[[Page, str], None]
) -> None:
    household = visit("household")
    reference = announce(household.goto("/money"), "30")
    file = tmp_path / "statement.xml"
    file.write_bytes(
        statement(
            entry("28.50", text=f"solar {reference}", ref="A1"),
            entry("12.00", text="for my neighbour", ref="A2"),
            entry("4.10", text="bank fee", direction="DBIT", ref="A3"),
            message="DAY-157",
        )
    )
    desk = visit("staff").goto("/staff/money")
    bad = tmp_path / "bomb.xml"
    bad.write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    desk.get_by_label("Bank statement (camt.053)").set_input_files(bad)
    desk.get_by_role("button", name="Read the statement").click()
    expect(desk.locator("#id_file_error")).to_contain_text("No bank sends that")
    desk.get_by_label("Bank statement (camt.053)").set_input_files(file)
    desk.get_by_role("button", name="Read the statement").click()
    rows = desk.locator("table tbody tr")
    expect(rows.nth(0)).to_contain_text("€30.00 announced")
    expect(rows.nth(1)).to_contain_text("has to be placed by hand")
    expect(rows.nth(2)).to_contain_text("outgoing")
    shoot(desk, "money-statement-en-1280-light")
    desk.get_by_role("button", name="Book it").click()
    expect(desk.locator(".notice.success")).to_contain_text("1 transfer is booked. To be placed by hand: 1.")
    expect(household.goto("/money").locator("table tbody tr").first).to_contain_text("€28.50")
    case = desk.locator('section[aria-labelledby="unplaced"] form.case')
    expect(case).to_contain_text("for my neighbour")
    shoot(desk, "money-desk-unplaced-en-1280-light")
    case.get_by_role("button", name="Leave it aside").click()
    expect(desk.locator(".notice.success")).to_contain_text("set aside")


def contest(household: Visitor, text: str) -> None:
    """Contest the newest reading, once there is one."""
    page = household.goto("/disputes")
    page.get_by_label("Interval").wait_for()
    page.get_by_label("Taken from the grid, by your meter, kWh").fill("0.123")
    page.get_by_label("In your own words").fill(text)
    page.get_by_role("button", name="Send the objection").click()
    expect(page.locator(".notice.success")).to_contain_text("The answer comes here.")


def test_an_objection_is_answered_contested_once_and_closed(visit: Visit) -> None:
    household = visit("household", size=PHONE)
    page = household.goto("/disputes")
    for _ in range(120):  # until the first interval has been delivered and metered: two minutes of the demo
        if page.get_by_label("Interval").count():
            break
        page.wait_for_timeout(2_000)
        page.reload()
    contest(household, "The display says 0.123.")
    operator = visit("operator")
    desk = operator.page
    desk.get_by_role("link", name="Objections").click()
    case = desk.locator("form.answer", has_text="The display says 0.123.")
    case.get_by_label("Answer, for the household to read").fill("We have read it again.")
    case.get_by_role("button", name="Decline").click()
    expect(desk.locator(".notice.success")).to_contain_text("Declined.")
    household.goto("/home").get_by_role("link", name="Read the answer").click()
    expect(page.locator("main")).to_contain_text("We have read it again.")
    page.get_by_label("If you do not agree").fill("Look at the photo I sent.")
    page.get_by_role("button", name="Look at it once more").click()
    desk.reload()
    case = desk.locator("form.answer", has_text="Look at the photo I sent.")
    expect(case).to_contain_text("contested once more")
    case.get_by_role("button", name="Decline").click()
    page = household.goto("/disputes")
    expect(page.get_by_role("button", name="Look at it once more")).to_have_count(0)
    page.get_by_role("button", name="I agree").click()
    expect(page.locator("main .tag").first).to_have_text("closed")


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_money_has_no_barriers(
    visit: Visit, size: tuple[int, int], language: str, scheme: str, tmp_path: Path, shoot: Callable[[Page, str], None]
) -> None:
    household = visit("household", size=size)
    page = household.goto("/money")
    announce(page, "25")
    take_out(page, "1.00")
    page = household.goto("/disputes")
    token = page.locator('meta[name="csrf-token"]').get_attribute("content") or ""
    for contract in page.locator("#id_contract option").evaluate_all("found => found.map(one => one.value)"):
        # What was contested before is refused: there is something to look at all the same.
        asked = {"kind": "reading", "contract": contract, "code": "other", "text": "It is wrong."}
        headers = {"X-CSRFToken": token, "Origin": household.url}
        page.request.post(f"{household.url}/api/v1/me/disputes", data=asked, headers=headers)
    household.context.add_cookies([{"name": "django_language", "value": language, "url": household.url}])
    look = visit("household", size=size, language=language, scheme=scheme)
    check(look, "/money")
    shoot(look.page, f"money-household-{language}-{size[0]}-{scheme}")
    staff = visit("staff", size=size, language=language, scheme=scheme)
    check(staff, "/staff/money")
    shoot(staff.page, f"money-desk-{language}-{size[0]}-{scheme}")
    check(look, "/disputes")
    shoot(look.page, f"money-disputes-{language}-{size[0]}-{scheme}")
    operator = visit("operator", size=size, language=language, scheme=scheme)
    check(operator, "/operator/disputes")
    shoot(operator.page, f"money-answers-{language}-{size[0]}-{scheme}")
