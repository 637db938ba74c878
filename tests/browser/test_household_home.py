"""A household's home: earn, sell, understand; on a phone, in both languages, also when the server falls silent."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Market, Visitor

Visit = Callable[..., Visitor]
AGENTS_MS = 30_000  # by then the neighbours' agents have looked at the market
SILENCE_MS = 40_000  # more than two heartbeats

pytestmark = pytest.mark.browser


def test_a_newcomer_sells_surplus_in_three_taps(visit: Visit, shoot: Callable[[Page, str], None]) -> None:
    visitor = visit(size=PHONE)
    page = visitor.goto("/sign-in")
    page.locator('button[name="role"][value="household"]').click()
    expect(page.locator("h1")).to_have_text("Earned today")
    sell = page.get_by_role("button", name="Sell my surplus")
    expect(sell).to_be_enabled(timeout=AGENTS_MS)
    promise = page.locator("#offer")
    expect(promise).to_contain_text("The grid would pay")
    contract = promise.get_attribute("data-contract")
    sell.click()
    receipt = page.locator("#receipt")
    expect(receipt).to_contain_text(re.compile(r"^(Sold|On offer): "))
    number = re.search(r"[Nn]o\. (\d+)", receipt.inner_text())
    assert number is not None
    order = page.request.get(f"{visitor.url}/api/v1/orders/{number[1]}").json()["order"]
    assert (order["side"], order["contract"]) == ("sell", contract)
    shoot(page, "home-sold-390")
    expect(page.locator("#status")).to_contain_text(re.compile(r"Sold|On offer"))
    assert visitor.errors == []


def test_the_autopilot_is_one_switch(visit: Visit) -> None:
    visitor = visit("household")
    switch = visitor.page.get_by_role("switch", name="Trade automatically for me")
    before = switch.is_checked()
    try:
        switch.set_checked(not before)
        expect(visitor.page.locator("#status")).to_have_text("Autopilot is off." if before else "Autopilot is on.")
        visitor.page.reload()
        expect(switch).to_be_checked(checked=not before)
    finally:
        switch.set_checked(before)
        expect(visitor.page.locator("#status")).not_to_be_empty()


def test_it_reads_without_scripts(chromium, market: Market) -> None:  # type: ignore[no-untyped-def]
    signed_in = chromium.new_context()
    page = signed_in.new_page()
    page.goto(f"{market.url}/sign-in")
    page.locator('button[name="role"][value="household"]').click()
    plain = chromium.new_context(java_script_enabled=False, storage_state=signed_in.storage_state())
    try:
        page = plain.new_page()
        page.goto(f"{market.url}/home")
        expect(page.locator(".sum")).to_contain_text("€")
        expect(page.locator("#offer")).not_to_be_empty()
        page.goto(f"{market.url}/trade")
        expect(page.locator("market-strip a").first).to_be_visible()
    finally:
        plain.close()
        signed_in.close()


def test_prices_pause_when_the_server_falls_silent(visit: Visit, market: Market) -> None:
    visitor = visit("household")
    page = visitor.page
    page.clock.install()
    page.reload()
    pulse = page.locator("#pulse")
    expect(pulse).to_have_text("Live")
    market.freeze()
    try:
        page.clock.fast_forward(SILENCE_MS)
        expect(pulse).to_have_text("Prices paused")
        expect(page.get_by_role("button", name="Sell my surplus")).to_be_disabled()
        expect(page.locator("#status")).to_contain_text("Prices paused")
    finally:
        market.thaw()
    page.clock.fast_forward(SILENCE_MS)
    expect(pulse).to_have_text("Live", timeout=AGENTS_MS)


def test_the_language_is_one_tap_and_stays(visit: Visit) -> None:
    visitor = visit("household", size=PHONE)
    page = visitor.page
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("h1")).to_have_text("今日收入")
    assert page.locator("html").get_attribute("lang") == "zh-hans"
    expect(page.get_by_role("button", name="卖出余电")).to_be_visible()
    page.get_by_role("link", name="交易", exact=True).click()
    expect(page.get_by_role("heading", name="新订单")).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="New order")).to_be_visible()


@pytest.mark.parametrize("path", ["/home", "/trade", "/statement"])
@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["390", "1280"])
def test_nobody_is_shut_out(
    visit: Visit, shoot: Callable[[Page, str], None], path: str, language: str, size: tuple[int, int]
) -> None:
    for scheme in ("light", "dark"):
        visitor = visit("household", size=size, language=language, scheme=scheme)
        page = visitor.goto(path)
        expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
        found = Axe().run(page).response["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert visitor.errors == []
        shoot(page, f"{path[1:]}-{language}-{size[0]}-{scheme}")


@pytest.mark.parametrize("path", ["/home", "/trade", "/statement"])
def test_nothing_runs_off_the_smallest_screen(visit: Visit, path: str) -> None:
    visitor = visit("household", size=(320, 640))
    page = visitor.goto(path)
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
