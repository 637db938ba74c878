"""The regulator finds a trade, reads the life of its orders, and has the browser check the receipt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ledger.core.note import parse_vkey
from ledger.core.receipt import parse_receipt, verify_receipt
from tests.browser.barriers import LOOKS, check
from tests.browser.conftest import Market, Visitor

Visit = Callable[..., Visitor]
TRADES_MS = 60_000

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def trade(chromium, market: Market) -> dict[str, int]:  # type: ignore[no-untyped-def]
    """Wait for a trade of the neighbours and return it: entry, orders."""
    context = chromium.new_context()
    visitor = Visitor(context, market.url)
    visitor.sign_in("regulator")
    visitor.page.wait_for_function(
        "async () => (await (await fetch('/api/v1/trades?limit=1')).json()).results.length > 0", timeout=TRADES_MS
    )
    answer = visitor.page.request.get(f"{market.url}/api/v1/trades?limit=1").json()["results"][0]
    seq = answer["seq"]
    visitor.goto(f"/regulator/entries/{seq}")
    for _ in range(100):
        if visitor.page.locator("sl-verify").count():
            break
        visitor.page.wait_for_timeout(100)
        visitor.page.reload()
    leaf = json.loads(visitor.page.locator('[aria-labelledby="bytes"] pre').first.inner_text())
    context.close()
    return {"seq": seq, "maker": leaf["maker"], "taker": leaf["taker"]}


def test_from_the_blocks_to_both_orders_of_a_trade(visit: Visit, trade: dict[str, int]) -> None:
    visitor = visit("regulator")
    page = visitor.page
    expect(page.locator('[data-live="blocks"] tbody tr').first).to_be_visible()
    page.get_by_label("Number, contract or account id").fill(str(trade["seq"]))
    page.get_by_role("button", name="Find").click()
    expect(page.locator("h1")).to_contain_text(f"Entry {trade['seq']}")
    for name in ("maker", "taker"):
        page.goto(f"{visitor.url}/regulator/entries/{trade['seq']}")
        page.locator("table.fields tr", has_text=name).get_by_role("link").click()
        expect(page.locator("h1")).to_contain_text(f"Order {trade[name]}")
        steps = page.locator("table tbody tr")
        expect(steps.first).to_contain_text("placed")
        expect(page.locator("table tbody tr", has_text=str(trade["seq"]))).to_contain_text("traded")
    assert visitor.errors == []


def test_the_browser_verifies_an_entry_and_the_receipt_does_it_without_us(
    visit: Visit, trade: dict[str, int], shoot: Callable[[Page, str], None]
) -> None:
    visitor = visit("regulator")
    page = visitor.goto(f"/regulator/entries/{trade['seq']}")
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("sl-verify")).to_have_attribute("data-verdict", "good")
    findings = page.locator("sl-verify li")
    expect(findings).to_have_count(5)
    expect(findings.last).to_have_text(re.compile("Verified: this entry is on the signed ledger."))
    expect(page.locator("#status")).to_have_text("Verified: this entry is on the signed ledger.")
    shoot(page, "entry-verified-1280")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the receipt").click()
    receipt = parse_receipt(Path(downloading.value.path()).read_text(encoding="utf-8"))
    leaf = page.locator('[aria-labelledby="bytes"] pre').first.inner_text().encode()
    page.goto(f"{visitor.url}/regulator/checking")
    vkey = page.locator('pre[aria-labelledby="key"]').inner_text().split()[0]
    assert verify_receipt(receipt, leaf, [parse_vkey(vkey)]).size > trade["seq"]
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("sl-verify")).to_have_attribute("data-verdict", "good")
    assert visitor.errors == []


BENT = {
    "another entry's bytes": "e.leaf = btoa(atob(e.leaf).replace('trade', 'trads'))",
    "another place": "e.seq += 1",
    "a hash of the path": "e.hashes[0] = e.hashes[0].replace(/^./, c => c === '0' ? '1' : '0')",
    "a hash too few": "e.hashes.pop()",
    "a hash too many": "e.hashes.push(e.hashes[0])",
    "another size": "e.note = e.note.replace(/\\n(\\d+)\\n/, (m, n) => '\\n' + (Number(n) + 1) + '\\n')",
    "another root": "e.note = e.note.replace(/\\n([A-Za-z0-9+\\/]{43}=)\\n/, '\\n' + 'A'.repeat(43) + '=\\n')",
    "another signature": "e.note = e.note.replace(/(.)(.)(\\n)$/, (m, a, b, c) => (a === 'A' ? 'B' : 'A') + b + c)",
    "another origin": "e.note = e.note.replace('sunledger.example/city', 'sunledger.example/town')",
    "another key": "e.vkey = e.vkey.replace(/.{6}$/, 'AAAAAA')",
}


@pytest.mark.parametrize("what", BENT)
def test_whatever_is_bent_does_not_verify(visit: Visit, trade: dict[str, int], what: str) -> None:
    visitor = visit("regulator")
    page = visitor.goto(f"/regulator/entries/{trade['seq']}")
    page.evaluate(
        f"""() => {{
            const element = document.getElementById('verify-data');
            const e = JSON.parse(element.textContent);
            {BENT[what]};
            element.textContent = JSON.stringify(e);
        }}"""
    )
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("sl-verify")).to_have_attribute("data-verdict", "bad")
    expect(page.locator("sl-verify li").last).to_contain_text("This does not fit together.")


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_the_explorer_has_no_barriers(
    visit: Visit,
    trade: dict[str, int],
    size: tuple[int, int],
    language: str,
    scheme: str,
    shoot: Callable[[Page, str], None],
) -> None:
    visitor = visit("regulator", size=size, language=language, scheme=scheme)
    for path in (f"/entries/{trade['seq']}", f"/orders/{trade['maker']}"):
        check(visitor, f"/regulator{path}")
        name = path.strip("/").split("/")[0] or "explorer"
        shoot(visitor.page, f"regulator-{name}-{language}-{size[0]}-{scheme}")
