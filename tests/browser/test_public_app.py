"""The market for everybody and the installed app: honest without a connection, silent about who was here, live at the bell."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.barriers import LOOKS, check, check_now
from tests.browser.conftest import PHONE, Market, Visitor

Visit = Callable[..., Visitor]
SOON_MS = 30_000

pytestmark = pytest.mark.browser

# What a browser keeps for this site after somebody was here: addresses and texts of all caches.
KEPT = """async () => {
  const found = [];
  for (const name of await caches.keys()) {
    const cache = await caches.open(name);
    for (const request of await cache.keys())
      found.push([new URL(request.url).pathname, await (await cache.match(request)).text()]);
  }
  return found;
}"""


def test_without_a_connection_the_app_says_so_and_comes_back(visit: Visit) -> None:
    visitor = visit("household", size=PHONE, language="zh-hans")
    page = visitor.goto("/home")
    page.evaluate("navigator.serviceWorker.ready")
    page.reload()  # from here on the worker sees the pages
    expect(page.locator("h1")).to_have_text("今日收入")
    page.goto(page.evaluate("document.querySelector('link[rel=icon]').href"))  # an answer that names no language
    visitor.context.set_offline(True)
    visitor.errors.clear()
    page.goto(f"{visitor.url}/statement")
    expect(page.locator("h1")).to_have_text("无连接")
    expect(page.locator("#since")).to_contain_text("市场最近一次应答是在")
    assert not re.search(r"[€]|kWh", page.locator("main").inner_text())
    assert (
        page.evaluate("document.fonts.size > 0 && getComputedStyle(document.body).display") == "flex"
    )  # it has its style
    check_now(page, "offline")
    visitor.context.set_offline(False)
    # It tries by itself, and the page that was wanted stands where it was asked for.
    expect(page.locator("h1")).not_to_have_text("无连接", timeout=SOON_MS)
    assert page.url == f"{visitor.url}/statement"


def test_nothing_personal_is_kept_after_signing_out(visit: Visit) -> None:
    visitor = visit("household")
    page = visitor.goto("/home")
    page.evaluate("navigator.serviceWorker.ready")
    for path in ("/home", "/trade", "/statement", "/money", "/account", "/notifications"):
        visitor.goto(path)
    name = page.evaluate("fetch('/api/v1/me').then((answer) => answer.json()).then((me) => me.account_id)")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_load_state()
    kept = page.evaluate(KEPT)
    assert any(path.endswith("/app.css") for path, _ in kept), "the worker keeps nothing: this test sees nothing"
    allowed = re.compile(r"/static/[0-9a-f]{12}/[\w.-]+|/offline/(en|zh-hans|reached)")
    assert [path for path, _ in kept if not allowed.fullmatch(path)] == []
    assert [path for path, text in kept if name in text] == []
    assert page.request.get(f"{visitor.url}/home", max_redirects=0).status == 302


def test_the_bell_rings_while_one_looks(visit: Visit, shoot: Callable[[Page, str], None]) -> None:
    visitor = visit("household", size=PHONE)
    page = visitor.goto("/account")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    bell, count = page.locator("#bell summary"), page.locator("#bell-count")
    bell.click()  # what was before is seen now
    expect(count).to_be_hidden()
    bell.click()
    contract = page.request.get(f"{visitor.url}/api/v1/contracts?state=open&limit=4").json()["results"][3]["contract"]
    visitor.order(contract, "buy", "0.3000", 50)  # the neighbours' agents sell at that
    expect(count).to_be_visible(timeout=SOON_MS)
    expect(page.locator("#status")).to_contain_text("new notifications")
    bell.click()
    newest = page.locator(".bell-notices li").first
    expect(newest).to_contain_text("You bought energy")
    check_now(page, "bell")
    shoot(page, "bell-390")
    page.keyboard.press("Escape")
    expect(page.locator("#bell")).not_to_have_attribute("open", "")
    expect(count).to_be_hidden()
    # What a receipt has just said is not said once more.
    visitor.goto(f"/trade/{contract}")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    page.evaluate(
        """() => { window.said = []; const place = document.getElementById("status");
             new MutationObserver(() => window.said.push(place.textContent)).observe(place, { childList: true }); }"""
    )
    page.locator("#ticket-price").fill("0.3000")
    page.locator("#ticket-energy").fill("0.05")
    page.locator("market-ticket button.main").click()
    expect(page.locator("#ticket-result")).to_contain_text("Bought 50 Wh")
    expect(count).to_be_visible(timeout=SOON_MS)
    said = [text for text in page.evaluate("window.said") if text]
    assert len(said) == 1, said
    assert said[0].startswith("Bought 50 Wh"), said


def test_a_page_that_hears_no_answer_says_how_old_it_is(visit: Visit) -> None:
    page = visit().goto("/market")
    page.clock.install()
    page.reload()
    page.route("**/market", lambda route: route.abort())
    for _ in range(2):  # each round has to have failed before the next one counts
        with page.expect_event("requestfailed"):
            page.clock.run_for(6_000)
    expect(page.locator("#stale")).to_contain_text("the market does not answer")
    page.unroute("**/market")
    page.clock.run_for(6_000)
    expect(page.locator("#stale")).to_be_hidden()


def test_a_device_asks_to_be_told_and_no_more(visit: Visit) -> None:
    visitor = visit("household")
    visitor.context.grant_permissions(["notifications"])
    # A browser in a test reaches no push service: what it would answer is put in its place.
    visitor.context.add_init_script(
        """const keys = { p256dh: "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
             auth: "MDEyMzQ1Njc4OWFiY2RlZg" };
           const endpoint = "https://fcm.googleapis.com/fcm/send/of-a-test";
           const told = { endpoint, toJSON: () => ({ endpoint, keys }), unsubscribe: async () => {
             localStorage.removeItem("stub"); return true; } };
           PushManager.prototype.getSubscription = async () => (localStorage.getItem("stub") ? told : null);
           PushManager.prototype.subscribe = async (wish) => {
             if (wish.applicationServerKey.length !== 65) throw new Error("no key");
             localStorage.setItem("stub", "1"); return told; };
           Notification.requestPermission = async () => "granted";"""
    )
    page = visitor.goto("/notifications")
    page.get_by_role("button", name="Tell this device").click()
    expect(page.get_by_role("button", name="This device is told. Stop it")).to_be_visible()
    assert len(page.request.get(f"{visitor.url}/api/v1/me/push").json()["results"]) == 1
    expect(page.locator(".device")).to_have_count(1)
    page.get_by_role("button", name="This device is told. Stop it").click()
    expect(page.get_by_role("button", name="Tell this device")).to_be_visible()
    assert page.request.get(f"{visitor.url}/api/v1/me/push").json()["results"] == []


def test_everybody_sees_the_market_and_it_moves(visit: Visit, market: Market) -> None:
    for size, language, scheme in LOOKS:
        visitor = visit("", size=size, language=language, scheme=scheme)
        check(visitor, "/market")
    page = visitor.page
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    height = page.locator("#board-height").inner_text()
    expect(page.locator("#board-height")).not_to_have_text(height, timeout=SOON_MS)
    signed_in = visit("household", size=PHONE)
    check(signed_in, "/notifications")
    small = visit("", size=(320, 640))
    check(small, "/market")
