"""A member signs in by passkey, by the app's code and by a recovery code, ends another session, and lets somebody act."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import httpx
import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Page, WebSocket, expect

from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import PHONE, Market, Visitor

Visit = Callable[..., Visitor]
PASSWORD = "a kettle and a lamp"

pytestmark = pytest.mark.browser


def give_authenticator(page: Page) -> None:
    """Plug an authenticator into Chromium that says yes whenever it is asked (WebDriver's virtual authenticator)."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def sign_up(visitor: Visitor) -> str:
    name = f"member{time.monotonic_ns()}"
    page = visitor.goto("/sign-up")
    page.get_by_label("Name to sign in with").fill(name)
    page.get_by_label("E-mail").fill(f"{name}@sunledger.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Address of the home").fill("7 Sun Street")
    page.get_by_label("Meter number").fill(name)
    page.get_by_label("Grid area").select_option(index=1)
    page.get_by_role("button", name="Ask for an account").click()
    expect(page.locator(".notice.success")).to_be_visible()
    return name


def sign_in(visitor: Visitor, name: str, code: str) -> None:
    """Sign in by name, password and a code, after signing out where that is needed."""
    page = visitor.goto("/sign-in")
    if "/sign-in" not in page.url:
        page.get_by_role("button", name="Sign out").first.click()
        page = visitor.goto("/sign-in")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_a_member_secures_the_account_and_uses_every_way_in(visit: Visit, market: Market) -> None:
    home = market.url.replace("127.0.0.1", "localhost")  # a passkey belongs to a name
    visitor = visit(url=home, size=PHONE)
    page = visitor.page
    give_authenticator(page)
    name = sign_up(visitor)

    visitor.goto("/account/security/passkey")
    page.get_by_label("Name of the passkey").fill("My telephone")
    page.get_by_role("button", name="Make the passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    codes = page.locator(".codes code").all_inner_texts()
    assert len(codes) == 10
    visitor.goto("/account/security/app")
    secret = page.locator("code.token").inner_text()
    page.get_by_label("The code it shows").fill(format_hotp_value(hotp_value(secret, int(time.time()) // 30)))
    page.get_by_role("button", name="Switch it on").click()
    expect(page.locator("#second ~ dl")).to_contain_text("on")
    expect(page.get_by_role("row", name="My telephone")).to_be_visible()
    check(visitor, "/account/security")

    page.get_by_role("button", name="Sign out").first.click()
    visitor.goto("/sign-in?next=/account/security")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page).to_have_url(f"{home}/account/security")
    expect(page.get_by_role("row", name="My telephone")).not_to_contain_text("–")

    sign_in(visitor, name, format_hotp_value(hotp_value(secret, int(time.time()) // 30 + 1)))  # the other one is used
    expect(page).to_have_url(f"{home}/home")
    sign_in(visitor, name, codes[0])
    expect(page).to_have_url(f"{home}/home")
    page.get_by_role("button", name="Sign out").first.click()
    other = visit(url=home)
    sign_in(other, name, codes[0])
    expect(other.page.get_by_text("This code is not right, or it has been used.")).to_be_visible()
    assert visitor.errors == []

    # The other browser comes in after all, and is shown out again: what it hears ends at once.
    sockets: list[WebSocket] = []
    other.page.on("websocket", lambda opened: sockets.append(opened))
    other.page.get_by_label("Code").fill(codes[1])
    other.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(other.page.locator("#pulse")).to_have_attribute("data-state", "live")
    visitor.goto("/sign-in?next=/account/security")
    page.get_by_role("button", name="Sign in with a passkey").click()
    rows = page.locator("#sessions ~ table tbody tr")
    expect(rows).to_have_count(2)
    with sockets[-1].expect_event("close", timeout=10_000):
        rows.nth(1).get_by_role("button").click()
        expect(rows).to_have_count(1)
    other.goto("/account")
    expect(other.page).to_have_url(re.compile(r"/sign-in\?next=/account$"))


def test_a_consent_is_given_by_a_link_and_withdrawn(visit: Visit, market: Market) -> None:
    household = visit("household")
    page = household.goto("/consent?name=Solar+Advice&scopes=read&until=2099-01-01")
    expect(page.get_by_label("Who")).to_have_value("Solar Advice")
    page.get_by_role("button", name="Allow it").click()
    key = page.locator("#secret").inner_text()

    def ask() -> int:
        return httpx.get(f"{market.url}/api/v1/me/balance", headers={"Authorization": f"Bearer {key}"}).status_code

    assert ask() == 200
    page = household.goto("/account/consents")
    row = page.get_by_role("row", name="Solar Advice")
    expect(row).not_to_contain_text("never")
    row.get_by_role("button", name="Withdraw").click()
    expect(row).to_contain_text("withdrawn")
    assert ask() == 401
    expect(household.goto("/account").locator("#seen ~ table")).to_contain_text("Third party · Solar Advice")
    assert household.errors == []

    # A script whose request waits for a proof leads there, and back.
    refusal = json.dumps({"code": "reauthentication_required", "detail": "Show who you are."})
    page.route(
        "**/api/v1/me/signing**",
        lambda route: (
            route.continue_()
            if route.request.method == "GET"
            else route.fulfill(status=403, content_type="application/problem+json", body=refusal)
        ),
    )
    page.locator("[data-signing-on]").click()
    expect(page).to_have_url(f"{market.url}/account/security/again?next=%2Faccount")


@pytest.mark.parametrize(("size", "language", "scheme"), (LOOKS[0], LOOKS[-1]))  # each width, language and theme once
def test_the_pages_have_no_barriers(visit: Visit, size: tuple[int, int], language: str, scheme: str) -> None:
    visitor = visit("household", size=size, language=language, scheme=scheme)
    for path in ("/account/security/app", "/account/security/passkey", "/consent?name=Solar+Advice"):
        check(visitor, path)
    visitor.page.locator("button[name=decision][value=yes]").click()
    for path in ("/account/consents", "/account/erasure"):
        check(visitor, path)
    stranger = visit(size=size, language=language, scheme=scheme)
    check(stranger, "/sign-in")
