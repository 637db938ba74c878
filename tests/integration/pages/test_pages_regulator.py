"""The regulator's explorer shows what the ledger holds, and what it hands out can be checked without it."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from django.test import override_settings

from ledger import operations as ledger_operations
from ledger import queries as ledger
from ledger.core.merkle import leaf_hash
from ledger.core.note import parse_vkey
from ledger.core.receipt import parse_receipt, verify_receipt
from market.engine.commands import AmendOrder, CancelOrder
from tests.integration.pages.conftest import Town


@pytest.fixture(scope="module")
def story(town: Town) -> dict[str, int]:
    """Alice offers 3 kWh, asks more, Bob buys 1 kWh, she takes the rest back; entries by name."""
    sell = town.market.place(town.alice.account, "sell", "0.1500", 3_000).events[0].seq
    amend = town.exchange.call(AmendOrder(town.alice.account, sell, 1_600, -1)).events[0].seq
    buy, trade = (event.seq for event in town.market.buys(town.bob.account, "0.2000", 1_000).events)
    cancel = town.exchange.call(CancelOrder(town.alice.account, sell, "owner")).events[0].seq
    town.sealed(cancel)
    return {"sell": sell, "amend": amend, "buy": buy, "trade": trade, "cancel": cancel}


def evidence(html: str) -> dict[str, Any]:
    """Return what the page gives the browser to check."""
    found = re.search(r'<script id="verify-data" type="application/json">(.*?)</script>', html)
    assert found
    return json.loads(found[1])


def test_blocks_are_listed_newest_first_and_paged(town: Town, story: dict[str, int]) -> None:
    for _ in range(3):
        town.sealed(town.market.place(town.bob.account, "sell", "0.9000").events[0].seq)
    html = town.rita.html("/regulator")
    heights = [int(height) for height in re.findall(r'href="/regulator/blocks/(\d+)"', html)]
    newest = heights[0]
    assert heights == list(range(newest, newest - len(heights), -1))
    html = town.rita.html("/regulator", before="3")
    assert re.findall(r'href="/regulator/blocks/(\d+)"', html) == ["2", "1"]
    assert town.rita.get("/regulator", before="x").status_code == 200


def test_a_block_lists_its_entries_and_its_checkpoint(town: Town, story: dict[str, int]) -> None:
    block = ledger.block_of(story["trade"])
    html = town.rita.html(f"/regulator/blocks/{block.height}")
    shown = {int(seq) for seq in re.findall(r'<a href="/regulator/entries/(\d+)">', html)}
    assert shown == set(range(block.first, block.size))
    assert ledger.checkpoint(block.size).splitlines()[2] in html
    assert evidence(html) == {"note": ledger.checkpoint(block.size), "vkey": ledger_operations.verifier_key()}


def test_an_entry_is_shown_with_its_bytes_and_everything_to_check_them(town: Town, story: dict[str, int]) -> None:
    html = town.rita.html(f"/regulator/entries/{story['trade']}")
    leaf = ledger.leaf(story["trade"])
    given = evidence(html)
    assert base64.b64decode(given["leaf"]) == leaf
    assert leaf_hash(leaf).hex() in html
    assert f'<a href="/regulator/orders/{story["sell"]}">' in html
    assert f'<a href="/regulator/orders/{story["buy"]}">' in html
    assert '<span class="meaning">1.00 kWh</span>' in html
    # What it moved: the price to clearing, the margin, the energy.
    assert "0.1600000" in html


def test_a_receipt_proves_the_entry_to_whoever_has_the_key(town: Town, story: dict[str, int]) -> None:
    response = town.rita.get(f"/regulator/entries/{story['trade']}/proof")
    assert response["Content-Disposition"] == f'attachment; filename="entry-{story["trade"]}.tlog-proof"'
    receipt = parse_receipt(response.content.decode())
    keys = [parse_vkey(ledger_operations.verifier_key())]
    assert verify_receipt(receipt, ledger.leaf(story["trade"]), keys).size >= story["trade"]
    with pytest.raises(ValueError, match="root"):
        verify_receipt(receipt, ledger.leaf(story["sell"]), keys)


def test_an_entry_that_is_not_sealed_yet_says_so(
    town: Town, story: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsealed(seq: int) -> None:
        raise ledger.NotThere(f"sealed entry {seq}")

    monkeypatch.setattr("ledger.queries.inclusion", unsealed)
    html = town.rita.html(f"/regulator/entries/{story['sell']}")
    assert "It waits for the next seal" in html
    assert "verify-data" not in html
    monkeypatch.setattr("ledger.queries.receipt", unsealed)
    assert town.rita.get(f"/regulator/entries/{story['sell']}/proof").status_code == 404


def test_the_life_of_an_order_is_told_step_by_step(town: Town, story: dict[str, int]) -> None:
    html = town.rita.html(f"/regulator/orders/{story['sell']}")
    rows = re.findall(r"<tr>\s*(<th scope=\"row\".*?)</tr>", html, re.DOTALL)
    seqs = [int(re.search(r"/regulator/entries/(\d+)", row)[1]) for row in rows]  # type: ignore[index]
    assert seqs == [story["sell"], story["amend"], story["trade"], story["cancel"]]
    words = [re.search(r'<span class="tag[^"]*">(\w+)<', row)[1] for row in rows]  # type: ignore[index]
    assert words == ["placed", "changed", "traded", "cancelled"]
    left = [re.search(r'data-label="Left">([^<]+)<', row)[1] for row in rows]  # type: ignore[index]
    assert left == ["3.00 kWh", "3.00 kWh", "2.00 kWh", "0 Wh"]
    prices = [re.search(r'per kWh">([^<]+)<', row)[1] for row in rows]  # type: ignore[index]
    assert prices == ["0.1500", "0.1600", "0.1600", "0.1600"]
    assert f"/regulator/orders/{story['buy']}" in rows[2]
    assert "by its owner" in rows[3]


def test_accounts_are_numbers_never_names(town: Town, story: dict[str, int]) -> None:
    for path in (
        f"/regulator/accounts/{town.alice.account}",
        f"/regulator/contracts/{town.market.contract()}",
        f"/regulator/orders/{story['sell']}",
        f"/regulator/entries/{story['trade']}",
    ):
        html = town.rita.html(path)
        assert "alice" not in html
        assert "bob" not in html
    html = town.rita.html(f"/regulator/contracts/{town.market.contract()}")
    assert f"/regulator/accounts/{town.bob.account}" in html


def test_a_search_leads_to_what_was_meant(town: Town, story: dict[str, int]) -> None:
    account_id = town.exchange.read(lambda engine: engine.accounts[town.alice.account].id)
    contract = town.market.contract()
    for kind, text, where in (
        ("entry", str(story["trade"]), f"/regulator/entries/{story['trade']}"),
        ("order", str(story["sell"]), f"/regulator/orders/{story['sell']}"),
        ("account", str(town.bob.account), f"/regulator/accounts/{town.bob.account}"),
        ("block", "1", "/regulator/blocks/1"),
        ("entry", contract, f"/regulator/contracts/{contract}"),
        ("entry", account_id, f"/regulator/accounts/{town.alice.account}"),
        ("nonsense", f" {story['trade']} ", f"/regulator/entries/{story['trade']}"),
    ):
        assert town.rita.get("/regulator/search", kind=kind, q=text)["Location"] == where, (kind, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("entry", ""), ("entry", "999999999"), ("entry", "-1"), ("entry", "9" * 30), ("entry", "²"), ("entry", "<b>"),
        ("order", "0"), ("account", "99999"), ("block", "0"), ("contract", "2031-01-01T00:00Z"), ("entry", "0" * 32),
    ],
)  # fmt: skip
def test_a_search_for_nothing_says_so(town: Town, story: dict[str, int], kind: str, text: str) -> None:
    response = town.rita.client.get("/regulator/search", {"kind": kind, "q": text}, follow=True)
    html = response.content.decode()
    assert response.status_code == 200
    assert "Nothing was found" in html
    assert "<b>" not in html[html.index("Nothing was found") :][:80]


@pytest.mark.parametrize(
    "path",
    ["blocks/0", "blocks/999999", "entries/999999999", "entries/999999999/proof", "orders/0", "accounts/99999",
     "contracts/2031-01-01T00:00Z", "contracts/nonsense", "entries/99999999999999999999", "blocks/99999999999999999999",
     "orders/99999999999999999999", "accounts/99999999999999999999"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(town: Town, path: str) -> None:
    assert town.rita.get(f"/regulator/{path}").status_code == 404


def test_refusals_are_shown_beside_the_ledger(town: Town) -> None:
    assert town.market.place(town.charlie.account, "sell", contract="2031-01-01T00:00Z").refused is not None
    html = town.rita.html("/regulator/refusals")
    assert "unknown_contract" in html
    row = re.sub(r"<[^>]+>", "", html[html.index("unknown_contract") :].split("</tr>")[0])
    assert "Side sell" in row and "Contract Wed, 1 Jan" in row and "kWh" in row, row
    assert "PlaceOrder" not in html
    assert f'href="/regulator/accounts/{town.charlie.account}"' in html


def test_how_to_check_it_is_complete(town: Town, story: dict[str, int]) -> None:
    html = town.rita.html("/regulator/checking")
    assert ledger_operations.verifier_key() in html
    assert "verify_ledger http://testserver --vkey" in html
    needed, open_to_all = "The entries themselves need an API key with <code>ledger:read</code>", "no key is needed"
    with override_settings(LEDGER_OPEN=False):
        html = town.rita.html("/regulator/checking")
        assert needed in html and open_to_all not in html
        assert "LEDGER_KEY=KEY python manage.py verify_ledger http://testserver --vkey" in html
    with override_settings(LEDGER_OPEN=True):
        html = town.rita.html("/regulator/checking")
        assert open_to_all in html and needed not in html and "LEDGER_KEY" not in html
    assert evidence(html)["note"].startswith("sunledger.example/city\n")


def test_the_explorer_needs_no_running_market(closed: Town, story: dict[str, int]) -> None:
    for path in ("", f"/entries/{story['trade']}", f"/orders/{story['sell']}", "/checking", "/refusals", "/blocks/1"):
        assert closed.rita.get(f"/regulator{path}").status_code == 200
