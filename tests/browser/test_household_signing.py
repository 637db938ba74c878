"""A household switches signing on: its orders carry the signature of a key that never leaves the browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from playwright.sync_api import expect

from market.engine import signing
from market.engine.entries import to_command
from tests.browser.barriers import check_now
from tests.browser.conftest import Visitor

Visit = Callable[..., Visitor]

pytestmark = pytest.mark.browser
PLACE = """async ([path, body]) => {
  const sends = (one) => typeof one === "function" && one.length >= 2 && one.toString().includes("Idempotency-Key");
  const call = Object.values(await import(new URL("api.chunk.js", document.querySelector("script[src]").src))).find(sends);
  try { return await call("POST", path, body); } catch (problem) { return { code: problem.code, text: problem.message }; }
}"""


def test_a_signed_order_can_be_checked_from_its_entry(visit: Visit) -> None:
    household = visit("household")
    page = household.goto("/account")
    card = page.locator("[data-signing]")
    expect(card.get_by_role("status")).to_contain_text("Off")
    card.get_by_role("button", name="Sign my orders").click()
    expect(card.get_by_role("status")).to_have_text("On: this browser signs your orders.")
    check_now(page, "/account while orders are signed")
    known = page.request.get(f"{household.url}/api/v1/me/signing").json()
    assert len(known["public_key"]) == 64
    exported = page.evaluate(
        """async (account) => {
          const open = indexedDB.open("sunledger", 1);
          await new Promise((done) => { open.onsuccess = done; });
          const get = open.result.transaction("keys").objectStore("keys").get(account);
          await new Promise((done) => { get.onsuccess = done; });
          try { await crypto.subtle.exportKey("pkcs8", get.result.pair.privateKey); return "exported"; }
          catch (error) { return error.name; }
        }""",
        known["account_id"],
    )
    assert exported == "InvalidAccessError", "the key cannot be taken out of the browser"

    contract = page.request.get(f"{household.url}/api/v1/contracts?state=open").json()["results"][-1]["contract"]
    body = {"contract": contract, "side": "sell", "price": "0.3900", "energy_wh": 700, "time_in_force": "gtg"}
    answer = page.evaluate(PLACE, ["/api/v1/orders", body])
    entry = page.request.get(f"{household.url}/api/v1/ledger/entries/{answer['order']['id']}").json()["entry"]
    command = to_command(entry)
    text = signing.text(command.order, known["account_id"], entry["nonce"], known["rules"])
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(known["public_key"])).verify(bytes.fromhex(entry["sig"]), text)

    elsewhere = visit("household")
    strange = elsewhere.goto("/account")
    expect(strange.locator("[data-signing]").get_by_role("status")).to_contain_text("another browser or program")
    assert strange.evaluate(PLACE, ["/api/v1/orders", body])["code"] == "signature_required"
    expect(strange.get_by_role("button", name="The key is lost: stop signing")).to_be_visible()

    page.reload()
    card.get_by_role("button", name="Stop signing").click()
    expect(card.get_by_role("status")).to_contain_text("Off")
    assert "order" in strange.evaluate(PLACE, ["/api/v1/orders", body])
    assert household.errors == []


@pytest.mark.parametrize(
    ("language", "attention", "sent"),
    [
        ("en", "Attention: this browser holds your key", "Nothing was sent"),
        ("zh-hans", "注意：此浏览器持有您的密钥", "未发送任何内容"),
    ],
)
@pytest.mark.parametrize("another", [False, True])
def test_nothing_leaves_a_browser_whose_key_the_market_does_not_name_any_more(
    visit: Visit, language: str, attention: str, sent: str, another: bool
) -> None:
    """Whoever has the password, or runs the market, resets the key: the browser that holds it says so and sends nothing."""
    household = visit("household", language=language)
    page = household.goto("/account")
    card, status = page.locator("[data-signing]"), page.locator("[data-signing-state]")
    card.locator("[data-signing-on]").click()
    expect(card.locator("[data-signing-off]")).to_be_visible()

    elsewhere = visit("household").goto("/account").locator("[data-signing]")
    elsewhere.get_by_role("button", name="The key is lost: stop signing").click()
    expect(elsewhere.get_by_role("status")).to_contain_text("Off")
    if another:
        elsewhere.get_by_role("button", name="Sign my orders").click()
        expect(elsewhere.get_by_role("status")).to_contain_text("On: this browser")
    orders = f"{household.url}/api/v1/orders?state=open"
    before = page.request.get(orders).json()["results"]
    contract = page.request.get(f"{household.url}/api/v1/contracts?state=open").json()["results"][-1]["contract"]
    body = {"contract": contract, "side": "sell", "price": "0.3900", "energy_wh": 700, "time_in_force": "gtg"}
    for path in ("/api/v1/orders", "/api/v1/orders/1/reactivate"):
        refused = page.evaluate(PLACE, [path, body])
        assert refused["code"] == "key_replaced" and sent in refused["text"]
    assert page.request.get(orders).json()["results"] == before
    page.reload()
    expect(status).to_contain_text(attention)
    expect(card.locator("[data-signing-on]")).to_be_hidden()
    check_now(page, "/account when the key was changed by somebody else")
    card.locator("[data-signing-forget]").click()
    expect(status).not_to_contain_text(attention)
    if another:
        elsewhere.get_by_role("button", name="Stop signing").click()
        expect(elsewhere.get_by_role("status")).to_contain_text("Off")
    assert household.errors == []


@pytest.mark.parametrize("kind", ["iceberg", "sweep", "block", "basket"])
def test_the_browser_signs_every_kind_as_the_market_reads_it(visit: Visit, kind: str) -> None:
    household = visit("household")
    page = household.goto("/account")
    card = page.locator("[data-signing]")
    card.get_by_role("button", name="Sign my orders").click()
    expect(card.get_by_role("status")).to_contain_text("On")
    results = page.request.get(f"{household.url}/api/v1/contracts?state=open").json()["results"]
    first, last = results[-2]["contract"], results[-1]["contract"]
    order = {"contract": first, "side": "sell", "price": "0.3900", "energy_wh": 400}
    path, body = {
        "iceberg": ("/api/v1/orders", {**order, "display_wh": 100, "time_in_force": "gtg"}),
        "sweep": ("/api/v1/orders/sweep", {**order, "last": last}),
        "block": ("/api/v1/orders/block", {**order, "last": last, "time_in_force": "gtg"}),
        "basket": ("/api/v1/orders/basket", {"legs": [order, {**order, "contract": last}]}),
    }[kind]
    answer = page.evaluate(PLACE, [path, body])
    # Where nobody buys, what must trade at once is refused; by then its signature has been accepted.
    assert "code" not in answer or not answer["code"].startswith("signature"), answer
    assert "code" not in answer or kind in ("sweep", "basket"), answer
    card.get_by_role("button", name="Stop signing").click()
    expect(card.get_by_role("status")).to_contain_text("Off")
