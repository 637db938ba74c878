"""What a browser checks of the ledger from visit to visit: damaged files, a key that changes hands, a real witness."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from ledger.core.cosign import find_cosignature, parse_witness_key
from ledger.core.note import COSIGNATURE, ED25519, Signer, format_vkey, parse_note
from ledger.core.receipt import parse_receipt
from tests.browser.conftest import ROOT, Market, Visitor, free_port
from tests.browser.test_household_receipts import choose, guarded, own_order, receipt_of, verdict
from tests.unit.ledger_logs import LogMaker

Visit = Callable[..., Visitor]
FLIPS = 300
SEED = 20261126
WITNESS_S = 30.0
WEAK_KEYS = ("00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 31)

pytestmark = pytest.mark.browser

# One visit in a Worker of the page's own kind: does the log go on from what is kept?
GROWTH = """async (task) => {
    const worker = new Worker(new URL("ledger-worker.js", document.querySelector("script[src]").src), { type: "module" });
    const answer = await new Promise((resolve) => {
        worker.onmessage = ({ data }) => resolve(data.answer ?? { state: "error", error: data.error });
        worker.postMessage({ id: 1, kind: "growth", task });
    });
    worker.terminate();
    return answer;
}"""
KEPT = "JSON.parse(localStorage.getItem('sunledger.log'))"


def growth(page: Page, kept: str, keys: list[str]) -> dict[str, Any]:
    """Return what a visit finds that keeps this checkpoint and believes these keys."""
    found: dict[str, Any] = page.evaluate(GROWTH, {"kept": kept, "keys": keys, "old": []})
    return found


# --- damage -----------------------------------------------------------------------------------------------------------


class Served:
    """A log in the place of the market's, for one browser: its files, of which one may be bent."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.bent: dict[str, bytes] = {}
        self.asked: list[str] = []

    def to(self, visitor: Visitor) -> None:
        """Serve this log to a visitor from now on."""
        for path in ("checkpoint", "keys", "tile/**"):
            visitor.context.route(f"**/ledger/{path}", self)

    def __call__(self, route: Route) -> None:
        path = route.request.url.partition("/ledger/")[2]
        self.asked.append(path)
        data = self.bent.get(path, self.files.get(path))
        if data is None:
            route.fulfill(status=404)
        else:
            route.fulfill(status=200, body=data)


def test_hundreds_of_flipped_bytes_of_the_files_that_a_visit_reads_are_found(visit: Visit) -> None:
    """The head, the keys' entries and every tile: whatever byte of them it is, whether the comparison needs it or not."""
    log, new = LogMaker(), Signer("sunledger.example/test", bytes([5]) * 32)
    log.found()
    log.orders(290)
    log.add_key(new)
    log.seal()
    kept = log.head[2]
    log.orders(700)
    log.seal()
    named = b"".join(leaf + b"\n" for leaf in (log.leaves[0], log.leaves[291]))
    served = Served({**log.files(), "keys": named})
    visitor = visit()
    page = visitor.goto("/sign-in")
    page.wait_for_load_state("networkidle")
    served.to(visitor)
    keys = [log.signer.vkey]
    honest = growth(page, kept, keys)
    assert (honest["state"], honest["size"]) == ("grown", len(log.leaves))
    assert honest["keys"] == [*keys, new.vkey]
    paths = sorted(set(served.asked))
    assert paths == ["checkpoint", "keys", "tile/0/000", "tile/0/001", "tile/0/003.p/226", "tile/1/000.p/3"]

    chance = random.Random(SEED)
    for number in range(FLIPS):
        path = paths[number % len(paths)]
        data = bytearray(served.files[path])
        at = chance.randrange(len(data))
        data[at] ^= chance.randrange(1, 256)
        served.bent = {path: bytes(data)}
        found = growth(page, kept, keys)
        assert (found["state"], found["conflict"]["first"]) == ("failed", kept), (path, at, data[at])
    served.bent = {}
    assert growth(page, kept, keys)["state"] == "grown"

    data = bytearray(served.files["tile/0/001"])  # and on the page itself, it is loud
    data[8_000] ^= 1
    page.evaluate("(text) => localStorage.setItem('sunledger.log', text)", json.dumps(
        {"origin": log.signer.name, "keys": keys, "old": [], "since": 0, "seen": 0, "size": 292, "note": kept}
    ))  # fmt: skip
    served.bent = {"tile/0/001": bytes(data)}
    page = visitor.goto("/ledger/check")
    expect(page.locator("#ledger-alarm")).to_contain_text("does not show that it continues", timeout=15_000)
    assert page.evaluate(KEPT)["size"] == 292


def test_keys_that_are_weak_or_not_reduced_are_refused_on_the_page(visit: Visit) -> None:
    """Anybody could sign for such a key: entered by a person, it verifies nothing."""
    visitor = visit("household")
    data = receipt_of(visitor, own_order(visitor))
    page = visitor.goto("/ledger/check")
    guarded(page)
    page.locator("#check summary").click()
    good = page.evaluate(KEPT)["keys"][0]
    page.locator("#keys").fill(good)
    assert verdict(page, data) == "good"
    for kind in (ED25519, COSIGNATURE):
        for weak in WEAK_KEYS:
            page.locator("#keys").fill(f"{good}\n{format_vkey('witness.example/w', bytes.fromhex(weak), kind)}")
            assert verdict(page, data) == "bad", (kind, weak)
            expect(page.locator("#result")).to_contain_text("A key that was entered is no verifier key.")


# --- keys and witnesses of a running demo -----------------------------------------------------------------------------


@pytest.fixture
def own_market(tmp_path: Path, chromium: Browser) -> Iterator[Market]:
    """A demo of this test alone: it is stopped and gone on with."""
    running = Market(tmp_path / "market")
    running.start()
    yield running
    running.stop()


def manage(market: Market, *arguments: str) -> str:
    """Run a command of the market's on its data, while it is stopped."""
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    environment |= {"SUNLEDGER_DATA": str(market.folder / "data"), **market.settings}
    command = [sys.executable, "manage.py", *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def named_keys(market: Market) -> list[str]:
    """Return the keys that the ledger's entries add, in their order."""
    entries = [json.loads(line) for line in httpx.get(f"{market.url}/ledger/keys").text.splitlines()]
    return [str(entry["vkey"]) for entry in entries if entry.get("action") != "revoke"]


def kept_after(page: Page, size: int) -> dict[str, Any]:
    """Wait until this browser keeps more entries than so many, and return what it keeps."""
    page.wait_for_function(f"() => ({KEPT} ?? {{size: 0}}).size > {size}", timeout=30_000)
    found: dict[str, Any] = page.evaluate(KEPT)
    return found


def test_a_browser_goes_along_with_a_key_that_changes_hands(own_market: Market, visit: Visit) -> None:
    """Rotated and revoked by the operator's own command while the browser was away: no alarm, and old receipts still hold."""
    visitor = visit("household", url=own_market.url)
    seq = own_order(visitor)
    receipt = receipt_of(visitor, seq)
    guarded(visitor.goto("/home"))
    (old,) = named_keys(own_market)
    before = visitor.page.evaluate(KEPT)
    assert before["keys"] == [old]

    own_market.stop()
    manage(own_market, "ledger_key", "rotate")
    own_market.start()
    _, new = named_keys(own_market)
    both = kept_after(visitor.goto("/home"), before["size"])
    assert (both["keys"], both["old"]) == ([old, new], [])
    assert len(parse_note(both["note"].encode()).signatures) == 2
    expect(visitor.page.locator("#ledger-alarm")).to_have_count(0)
    overlap = receipt_of(visitor, own_order(visitor))

    own_market.stop()
    manage(own_market, "ledger_key", "revoke", old)
    own_market.start()
    after = kept_after(visitor.goto("/home"), both["size"])
    assert (after["keys"], after["old"]) == ([new], [old])
    expect(visitor.page.locator("#ledger-alarm")).to_have_count(0)
    fresh = receipt_of(visitor, own_order(visitor))
    page = visitor.goto("/ledger/check")
    guarded(page)
    for data, lines in ((receipt, 1), (overlap, 2), (fresh, 1)):
        assert len(parse_note(parse_receipt(data.decode()).checkpoint.encode()).signatures) == lines
        assert verdict(page, data) == "good", lines
    assert verdict(page, receipt) == "good"
    expect(page.locator("#result")).to_contain_text("which has been revoked since")

    stranger = visit(url=own_market.url)  # who comes for the first time follows the keys from the founder on
    page = stranger.goto("/ledger/check")
    guarded(page)
    assert page.evaluate(KEPT)["keys"] == [new]
    assert verdict(page, fresh) == "good"

    # A browser that knew the first key only, and is told of a key that nobody approved of, does not believe it.
    log = LogMaker("sunledger.example/city", bytes([9]) * 32)
    log.found()
    log.orders(after["size"])
    log.seal()
    served = Served({**log.files(), "keys": log.leaves[0] + b"\n"})
    served.to(visitor)
    page = visitor.goto("/home")
    expect(page.locator("#ledger-alarm")).to_contain_text("not signed by the key this browser knows", timeout=15_000)
    assert page.evaluate(KEPT)["keys"] == [new]


@pytest.fixture
def witness(own_market: Market, tmp_path: Path) -> Iterator[str]:
    """Let ``manage.py witness`` cosign the market from its next start on, and return the witness' key."""
    (vkey,) = named_keys(own_market)
    port, name = free_port(), "witness.example/regulator"
    command = [sys.executable, "manage.py", "witness", "--log-vkey", vkey, "--folder", str(tmp_path / "witness")]
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    environment["SUNLEDGER_DATA"] = str(tmp_path / "witness_data")
    running = subprocess.Popen(
        [*command, "--name", name, "--port", str(port)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    key = running.stdout.readline().split()[1]
    policy = tmp_path / "policy"
    policy.write_text(f"log {vkey}\nwitness regulator {key} http://127.0.0.1:{port}\nquorum regulator\n")
    own_market.settings["SUNLEDGER_LEDGER_POLICY"] = str(policy)
    yield key
    running.terminate()
    running.wait(20)


def test_a_real_witness_cosignature_is_seen_by_the_page(own_market: Market, visit: Visit, witness: str) -> None:
    """Our own witness, as an operator or a regulator runs it, under the receipts of a running market."""
    own_market.stop()
    own_market.start()
    key = parse_witness_key(witness)
    visitor = visit("household", url=own_market.url)
    seq = own_order(visitor)
    deadline = time.monotonic() + WITNESS_S
    while httpx.get(f"{own_market.url}/healthz").json()["witnessed"] <= seq:
        assert time.monotonic() < deadline, httpx.get(f"{own_market.url}/healthz").text
        time.sleep(0.2)
    data = receipt_of(visitor, seq)
    note = parse_note(parse_receipt(data.decode()).checkpoint.encode())
    cosignature = find_cosignature(note, key)
    assert cosignature is not None

    page = visitor.goto("/ledger/check")
    guarded(page)
    assert verdict(page, data) == "good"
    expect(
        page.locator("#result li.good", has_text="The witness witness.example/regulator has signed it")
    ).to_have_count(1)
    # The same line with one bit of its time, and the same of another time: neither is what the witness said.
    line = cosignature.line.encode()
    at = data.index(line) + len(line) - 30
    bent = data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]
    assert verdict(page, bent) == "bad"
    expect(page.locator("#result")).to_contain_text(
        "The signature of the witness witness.example/regulator does not fit."
    )
    # Without the witness' line it is a good receipt, which says of no witness that it has signed.
    assert verdict(page, data.replace(line, b"")) == "good"
    expect(page.locator("#result")).not_to_contain_text("witness.example/regulator")
    # A person who enters keys trusts these alone: without the witness' one its line is counted, not believed.
    page.locator("#check summary").click()
    (log_key,) = named_keys(own_market)
    page.locator("#keys").fill(log_key)
    choose(page, data)
    assert verdict(page, data) == "good"
    expect(page.locator("#result")).to_contain_text("1 further signatures are not known to this browser.")
    page.locator("#keys").fill(f"{log_key}\n{witness}")
    assert verdict(page, data) == "good"
    expect(page.locator("#result")).to_contain_text("The witness witness.example/regulator has signed it")
    assert visitor.errors == []
