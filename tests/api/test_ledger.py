"""`GET /api/v1/ledger/blocks`, `/entries/{seq}`, `/entries/{seq}/proof`."""

from __future__ import annotations

import base64
import itertools
import time
from typing import Any

import pytest

from ledger.core.merkle import leaf_hash, verify_inclusion
from market.api import shapes
from tests.api.conftest import City, Person, refused, shaped

ENTRIES = "/api/v1/ledger/entries"


def sealed(person: Person, seq: int) -> shapes.Proof:
    """Wait until an entry is sealed and return its proof."""
    deadline = time.monotonic() + 10
    while True:
        response = person.get(f"{ENTRIES}/{seq}/proof")
        if response.status_code != 409 or time.monotonic() > deadline:
            return shaped(response, shapes.Proof)
        refused(response, 409, "not_sealed", "seq")
        time.sleep(0.02)


def test_an_order_leads_to_its_entry_and_proof(city: City, alice: Person) -> None:
    order = alice.order("sell", "0.9000", 700, contract=city.market.contract(2))["order"]
    entry = shaped(alice.get(f"{ENTRIES}/{order['id']}"), shapes.Entry)
    assert entry.entry["type"] == "order"
    assert (entry.entry["seq"], entry.entry["price_e4"], entry.entry["energy_wh"]) == (order["id"], 9_000, 700)

    leaf = base64.b64decode(entry.leaf)
    assert leaf_hash(leaf).hex() == entry.leaf_hash
    proof = sealed(alice, order["id"])
    hashes = [bytes.fromhex(hash_) for hash_ in proof.hashes]
    assert verify_inclusion(order["id"], proof.size, leaf_hash(leaf), hashes, bytes.fromhex(proof.root)) in (None, True)
    assert base64.b64encode(bytes.fromhex(proof.root)).decode() in proof.checkpoint
    assert proof.receipt.startswith("c2sp.org/tlog-proof@v1")


def own_entries(city: City, alice: Person, bob: Person) -> dict[str, int]:
    contract = city.market.contract(3)
    order = alice.order("sell", "0.2000", 500, contract=contract)["order"]["id"]
    trade = bob.order("buy", "0.2000", 200, contract=contract)["trades"][0]["seq"]
    amend = alice.request("PATCH", f"/api/v1/orders/{order}", json={"price": "0.3000"}).json()["seq"]
    cancel = alice.request("DELETE", f"/api/v1/orders/{order}").json()["seq"]
    return {"order": order, "trade": trade, "amend": amend, "cancel": cancel}


def test_a_household_sees_its_own_entries_only(
    city: City, alice: Person, bob: Person, charlie: Person, settings: Any
) -> None:
    settings.LEDGER_OPEN = False
    mine = own_entries(city, alice, bob)
    for kind, seq in mine.items():
        assert shaped(alice.get(f"{ENTRIES}/{seq}"), shapes.Entry).entry["type"] == kind
        for path in (f"{ENTRIES}/{seq}", f"{ENTRIES}/{seq}/proof"):
            refused(charlie.get(path), 404, "not_found", "seq")
            refused(city.request("GET", path), 401, "not_authenticated")
    assert bob.get(f"{ENTRIES}/{mine['trade']}").status_code == 200
    refused(bob.get(f"{ENTRIES}/{mine['order']}"), 404, "not_found", "seq")
    refused(alice.get(f"{ENTRIES}/0"), 404, "not_found", "seq")
    refused(alice.request("GET", f"{ENTRIES}/{mine['order']}", key=alice.key_for("trade")), 404, "not_found", "seq")


def test_the_entry_of_my_account_and_money(city: City, alice: Person, bob: Person, settings: Any) -> None:
    settings.LEDGER_OPEN = False
    for line in alice.get("/api/v1/me/statement").json()["results"]:
        assert alice.get(f"{ENTRIES}/{line['seq']}").status_code == 200
        if line["kind"] == "fund":
            refused(bob.get(f"{ENTRIES}/{line['seq']}"), 404, "not_found", "seq")


@pytest.mark.parametrize("name", ["olga", "rita", "sam"])
def test_officials_see_every_entry(city: City, settings: Any, name: str) -> None:
    settings.LEDGER_OPEN = False
    person = getattr(city, name)
    assert shaped(person.get(f"{ENTRIES}/0"), shapes.Entry).entry["type"] == "genesis"
    sealed(person, 0)
    key = person.key_for("ledger:read")
    assert person.request("GET", f"{ENTRIES}/0", key=key).status_code == 200


def test_an_open_ledger_is_open(city: City, settings: Any) -> None:
    settings.LEDGER_OPEN = True
    assert city.request("GET", f"{ENTRIES}/0").status_code == 200


@pytest.mark.parametrize("seq", ["999999999", "9" * 17, "9" * 40])
def test_entries_that_do_not_exist(rita: Person, seq: str) -> None:
    refused(rita.get(f"{ENTRIES}/{seq}"), 404, "not_found", "seq")
    refused(rita.get(f"{ENTRIES}/{seq}/proof"), 404, "not_found", "seq")


def test_blocks_follow_each_other(city: City, alice: Person) -> None:
    sealed(alice, alice.order("sell", "0.9000", contract=city.market.contract(2))["order"]["id"])
    seen: list[shapes.Block] = []
    cursor = None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = shaped(city.request("GET", "/api/v1/ledger/blocks", params=params), shapes.BlockPage)
        seen += page.results
        cursor = page.next
        if cursor is None:
            break
    heights = [block.height for block in seen]
    assert heights == list(range(heights[0], heights[-1] - 1, -1))
    assert heights[-1] in (0, 1)
    for newer, older in itertools.pairwise(seen):
        assert newer.first == older.size == older.first + older.count
    assert seen[-1].first == 0
