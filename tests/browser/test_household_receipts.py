"""A household checks its receipts in its own browser; what was changed is found, and so is a ledger with another history."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Response, Route, expect

from ledger.core.bundled import bundle, parse_bundle, verify_bundle
from ledger.core.encoding import decode
from ledger.core.merkle import inclusion_path, leaf_hashes, nodes_of
from ledger.core.note import open_checkpoint, parse_note, parse_vkey
from ledger.core.receipt import format_receipt, parse_receipt
from ledger.core.rows import row_path
from tests.browser.barriers import LOOKS, check_now
from tests.browser.conftest import Market, Visitor
from tests.unit.ledger_logs import LogMaker, make_log

Visit = Callable[..., Visitor]
Shoot = Callable[[Page, str], None]
FLIPS = 300  # of each file, at random
SEED = 20260606
HOME_BUDGET = 40_000  # bytes of JavaScript, gzip, the Worker included
GUARD_MS = 15_000
SETTLED_S = 150  # the first interval of the demo is over a minute after its start

pytestmark = pytest.mark.browser
SPEED = 90  # an interval is over after ten seconds

# Runs tasks in a Worker of the page's own kind, without the page around it.
DRIVE = """async (tasks) => {
    const worker = new Worker(new URL("ledger-worker.js", document.querySelector("script[src]").src), { type: "module" });
    const bytes = (text) => (text === null ? null : Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    const waiting = new Map();
    worker.onmessage = ({ data }) => waiting.get(data.id)(data.answer ?? { verdict: "error", findings: [], error: data.error });
    const answers = await Promise.all(tasks.map((task, id) => new Promise((resolve) => {
        waiting.set(id, resolve);
        const full = { ...task, receipt: bytes(task.receipt), leaf: bytes(task.leaf), given: bytes(task.given) };
        worker.postMessage({ id, kind: "receipt", task: full });
    })));
    worker.terminate();
    return answers.map((answer) => [answer.verdict, answer.findings.map((finding) => finding.code)]);
}"""


def text64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def drive(page: Page, tasks: list[dict[str, Any]]) -> list[list[Any]]:
    """Return verdict and findings of each task (``receipt``, ``leaf``, ``given`` as bytes)."""
    plain = [
        {"keys": [], "old": [], "entered": True, "kept": "", "here": ""}
        | {name: text64(task.get(name)) if name in {"receipt", "leaf", "given"} else task[name]
           for name in {"receipt", "leaf", "given", *task}}
        for task in tasks
    ]  # fmt: skip
    found: list[list[Any]] = page.evaluate(DRIVE, plain)
    return found


def flips(data: bytes, chance: random.Random, count: int = FLIPS) -> list[bytes]:
    """Return copies of a file with one flipped byte each."""
    copies = []
    for _ in range(count):
        bent = bytearray(data)
        bent[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        copies.append(bytes(bent))
    return copies


def own_order(visitor: Visitor) -> int:
    """Place an order that rests and return its number."""
    visitor.goto("/trade")
    name = visitor.page.locator("#later option").last.get_attribute("value") or ""
    return int(visitor.order(name, "buy", "0.0600", 100)["order"]["id"])


def receipt_of(visitor: Visitor, seq: int) -> bytes:
    """Wait until an entry is sealed and return its receipt."""
    for _ in range(50):
        response = visitor.page.request.get(f"{visitor.url}/api/v1/ledger/entries/{seq}/receipt")
        if response.status == 200:
            return response.body()
        visitor.page.wait_for_timeout(200)
    raise AssertionError(response.text())


def key_of(visitor: Visitor) -> str:
    """Return the verifier key that the market names."""
    genesis = visitor.page.request.get(f"{visitor.url}/ledger/keys").text().splitlines()[0]
    return str(json.loads(genesis)["vkey"])


def choose(page: Page, data: bytes, name: str = "receipt") -> None:
    """Choose a file as a person does."""
    page.locator(f"#{name}-file").set_input_files(
        {"name": f"{name}.tlog-proof", "mimeType": "text/plain", "buffer": data}
    )


def verdict(page: Page, data: bytes) -> str:
    """Check a receipt on the page that is open and return what came out."""
    page.evaluate("delete document.getElementById('result').dataset.verdict")
    choose(page, data)
    page.get_by_role("button", name="Check", exact=True).click()
    page.locator("#result[data-verdict]").wait_for()
    return page.locator("#result").get_attribute("data-verdict") or ""


def guarded(page: Page) -> None:
    """Wait until this visit's comparison is done."""
    expect(page.locator("#ledger-checked")).to_contain_text("This browser follows", timeout=GUARD_MS)


def test_a_household_takes_its_receipt_home_and_checks_it(visit: Visit, shoot: Shoot) -> None:
    visitor = visit("household")
    seq = own_order(visitor)
    receipt_of(visitor, seq)
    page = visitor.goto("/trade")
    with page.expect_download() as downloading:
        page.get_by_role("link", name=f"Receipt of order {seq}", exact=True).click()
    assert downloading.value.suggested_filename == f"receipt-{seq}.tlog-proof"
    data = Path(downloading.value.path()).read_bytes()
    receipt = parse_receipt(data.decode())
    assert verify_bundle(receipt, [parse_vkey(key_of(visitor))]).size > seq

    page = visitor.goto("/ledger/check")
    guarded(page)
    assert verdict(page, data) == "good"
    expect(page.locator("#result h2")).to_have_text("Verified: this entry is on the signed ledger.")
    expect(page.locator("#result h2")).to_be_focused()
    expect(page.locator("#result")).to_contain_text(str(seq))
    expect(page.locator("#result")).to_contain_text("this browser keeps")
    assert page.evaluate("document.activeElement.tagName") == "H2"
    shoot(page, "receipt-good-1280")
    bare = format_receipt(receipt.seq, receipt.path, receipt.checkpoint)
    assert verdict(page, bare.encode()) == "open"
    page.locator("#check summary").click()
    choose(page, parse_bundle(receipt.extra).leaf, "leaf")
    assert verdict(page, bare.encode()) == "good"

    page = visitor.goto(f"/ledger/check#receipt-{seq}")
    expect(page.locator("#receipt")).to_have_value(re.compile("^c2sp.org/tlog-proof@v1\n"))
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#result")).to_have_attribute("data-verdict", "good")
    assert visitor.errors == []


def test_what_was_changed_is_said_on_the_page(visit: Visit, shoot: Shoot) -> None:
    visitor = visit("household")
    data = receipt_of(visitor, own_order(visitor))
    page = visitor.goto("/ledger/check")
    guarded(page)
    lines = data.split(b"\n")
    places = {"header": 3, "extra": 60, "index": data.index(b"index") + 6, "path": data.index(b"index") + 20,
              "size": data.index(lines[-5]) + 1, "signature": len(data) - 20}  # fmt: skip
    for what, at in places.items():
        bent = bytearray(data)
        bent[at] = bent[at] ^ 1
        assert verdict(page, bytes(bent)) == "bad", what
        expect(page.locator("#result h2")).to_have_text("This does not fit together.")
        expect(page.locator("#result h3")).to_have_count(0)  # what it claims is not shown
    shoot(page, "receipt-bad-1280")
    expect(page.locator("#ledger-alarm")).to_have_count(0)  # a bent file is no evidence against the ledger
    choose(page, b"x" * 2_000_000)
    expect(page.locator("#status")).to_contain_text("too large")
    page.locator("#receipt").fill(data.decode().rstrip("\n"))
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#result")).to_have_attribute("data-verdict", "good")  # pasted
    assert visitor.errors == []


def test_hundreds_of_flipped_bytes_are_all_found(visit: Visit) -> None:
    chance = random.Random(SEED)
    visitor = visit("household")
    data = receipt_of(visitor, own_order(visitor))
    page = visitor.goto("/ledger/check")
    guarded(page)
    keys = [key_of(visitor)]
    receipt = parse_receipt(data.decode())
    leaf = receipt.extra
    bare = format_receipt(receipt.seq, receipt.path, receipt.checkpoint).encode()
    given = receipt.checkpoint.encode()

    log = make_log()  # a log with a settlement's rows, of the same code as the market's
    rows = [b'{"account":%d,"payout_e7":%d,"salt":"%032x"}' % (n, 7 * n, n) for n in range(13)]
    seq = log.readings(rows)
    log.seal()
    tree = nodes_of(leaf_hashes(log.leaves))
    path = inclusion_path(seq, len(log.leaves), tree)
    extra = bundle(log.leaves[seq], rows[6], 6, row_path(rows, 6))
    row = format_receipt(seq, path, log.head[2], extra).encode()
    assert verify_bundle(parse_receipt(row.decode()), [parse_vkey(log.signer.vkey)]).size == len(log.leaves)

    good = drive(
        page,
        [
            {"receipt": data, "keys": keys},
            {"receipt": bare, "leaf": leaf, "keys": keys, "given": given},
            {"receipt": row, "keys": [log.signer.vkey]},
        ],
    )
    assert [found[0] for found in good] == ["good", "good", "good"], good
    assert "row" in good[2][1]
    kinds = {
        "receipt": [{"receipt": bent, "keys": keys} for bent in flips(data, chance)],
        "entry": [{"receipt": bare, "leaf": bent, "keys": keys} for bent in flips(leaf, chance)],
        "checkpoint": [{"receipt": data, "given": bent, "keys": keys} for bent in flips(given, chance)],
        "row": [{"receipt": bent, "keys": [log.signer.vkey]} for bent in flips(row, chance)],
    }
    for kind, tasks in kinds.items():
        missed = [n for n, found in enumerate(drive(page, tasks)) if found[0] != "bad"]
        assert missed == [], (kind, missed)


@pytest.fixture
def other_log(market: Market) -> Callable[[int], LogMaker]:
    """Return a function that makes another history, signed with the market's own key, of more entries than given."""
    seed = bytes.fromhex((market.folder / "data" / "ledger_key").read_text().strip())

    def make(more_than: int) -> LogMaker:
        log = LogMaker("sunledger.example/city", seed)
        log.found()
        while len(log.leaves) <= more_than:
            log.orders(500)
            log.seal()
        return log

    return make


def serve(context: BrowserContext, log: LogMaker) -> None:
    """Let this browser see another log where the market's is."""
    files = log.files()

    def answer(route: Route) -> None:
        data = files.get(route.request.url.partition("/ledger/")[2])
        if data is None:
            route.fulfill(status=404)
        else:
            route.fulfill(status=200, body=data)

    context.route("**/ledger/checkpoint", answer)
    context.route("**/ledger/tile/**", answer)


def test_another_history_is_loud_and_its_evidence_stays(
    visit: Visit, other_log: Callable[[int], LogMaker], shoot: Shoot
) -> None:
    visitor = visit("household")
    page = visitor.goto("/home")
    guarded(page)
    kept = page.evaluate("JSON.parse(localStorage.getItem('sunledger.log'))")
    key = parse_vkey(key_of(visitor))
    assert open_checkpoint(kept["note"].encode(), [key]).size == kept["size"]
    assert kept["keys"] == [str(key)]

    page = visitor.goto("/home")  # an honest second visit
    guarded(page)
    expect(page.locator("#ledger-alarm")).to_have_count(0)
    assert page.evaluate("JSON.parse(localStorage.getItem('sunledger.log')).size") >= kept["size"]
    kept = page.evaluate("JSON.parse(localStorage.getItem('sunledger.log'))")

    fork = other_log(kept["size"])
    serve(visitor.context, fork)
    page = visitor.goto("/home")
    alarm = page.locator("#ledger-alarm")
    expect(alarm).to_be_visible(timeout=GUARD_MS)
    expect(alarm).to_contain_text("two checkpoints that cannot both be true")
    expect(alarm.locator("[role=alert]")).to_have_count(1)
    shoot(page, "ledger-alarm-1280")
    assert page.evaluate("JSON.parse(localStorage.getItem('sunledger.log'))") == kept  # what was known stays known

    visitor.context.unroute("**/ledger/checkpoint")
    visitor.context.unroute("**/ledger/tile/**")
    for path in ("/home", "/trade", "/account", "/ledger/check"):  # the market shows the first history again, and yet
        page = visitor.goto(path)
        expect(page.locator("#ledger-alarm")).to_be_visible()
        check_now(page, path)
    notes = []
    for name in ("Save the checkpoint from before", "Save the checkpoint from now"):
        with page.expect_download() as downloading:
            page.locator("#ledger-alarm").get_by_role("link", name=name).click()
        notes.append(Path(downloading.value.path()).read_bytes())
    first, second = (open_checkpoint(note, [key]) for note in notes)
    assert (first.size, second.size) == (kept["size"], len(fork.leaves))
    assert notes[1].decode() == fork.head[2]
    assert parse_note(notes[0]).text == parse_note(kept["note"].encode()).text

    expect(page.locator("#evidence")).to_be_visible()
    shoot(page, "ledger-evidence-1280")
    page.set_viewport_size({"width": 390, "height": 844})
    check_now(page, "evidence on a phone")
    shoot(page, "ledger-evidence-390")
    button = page.get_by_role("button", name="Forget it and follow the ledger as it is now")
    expect(button).to_be_disabled()
    page.get_by_label("I have saved the evidence and know the reason.").check()
    button.click()
    guarded(page)
    expect(page.locator("#ledger-alarm")).to_have_count(0)
    expect(page.locator("#evidence")).to_be_hidden()


def test_a_receipt_of_another_history_raises_the_alarm(visit: Visit, other_log: Callable[[int], LogMaker]) -> None:
    visitor = visit("household")
    page = visitor.goto("/ledger/check")
    guarded(page)
    size = page.evaluate("JSON.parse(localStorage.getItem('sunledger.log')).size")
    fork = other_log(5)
    assert len(fork.leaves) < size
    path = inclusion_path(7, len(fork.leaves), nodes_of(leaf_hashes(fork.leaves)))
    data = format_receipt(7, path, fork.head[2], fork.leaves[7]).encode()
    assert verdict(page, data) == "bad"
    expect(page.locator("#result")).to_contain_text("two histories")
    expect(page.locator("#ledger-alarm")).to_be_visible()
    page.reload()
    expect(page.locator("#ledger-alarm")).to_be_visible()
    expect(page.locator("#evidence")).to_be_visible()


def test_a_checkpoint_by_another_key_or_of_fewer_entries_is_loud(
    visit: Visit, other_log: Callable[[int], LogMaker]
) -> None:
    for change, said in (("key", "not signed by the key this browser knows"), ("size", "fewer entries")):
        visitor = visit("household")
        guarded(visitor.goto("/home"))
        size = visitor.page.evaluate("JSON.parse(localStorage.getItem('sunledger.log')).size")
        if change == "key":
            stranger = LogMaker("sunledger.example/city", bytes(32))
            stranger.found()
            stranger.orders(size)
            stranger.seal()
            serve(visitor.context, stranger)
        else:
            serve(visitor.context, other_log(5))
        page = visitor.goto("/home")
        expect(page.locator("#ledger-alarm")).to_contain_text(said, timeout=GUARD_MS)


def test_a_silent_ledger_raises_no_alarm(visit: Visit) -> None:
    visitor = visit("household")
    guarded(visitor.goto("/home"))
    visitor.context.route("**/ledger/checkpoint", lambda route: route.fulfill(status=503))
    with visitor.page.expect_response("**/ledger/checkpoint"):
        page = visitor.goto("/home")
    page.wait_for_timeout(500)
    expect(page.locator("#ledger-alarm")).to_have_count(0)
    expect(page.locator("#ledger-checked")).to_be_hidden()  # nothing was checked, nothing is claimed


def test_the_worker_comes_late_and_keeps_the_home_page_small(visit: Visit) -> None:
    visitor = visit("household")
    scripts: dict[str, int] = {}

    def weigh(response: Response) -> None:
        if response.url.endswith(".js"):
            scripts[response.url.rpartition("/")[2]] = len(gzip.compress(response.body(), 9))

    guarded(visitor.goto("/home"))
    visitor.page.on("response", weigh)
    guarded(visitor.goto("/home"))
    assert "ledger-worker.js" in scripts
    assert sum(scripts.values()) < HOME_BUDGET, scripts
    scripts.clear()
    visitor.goto("/trade")
    expect(visitor.page.locator("market-orders h3")).to_be_visible()
    visitor.page.wait_for_timeout(1_000)
    assert "ledger-worker.js" not in scripts


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS)
def test_the_page_has_no_barriers(
    visit: Visit, size: tuple[int, int], language: str, scheme: str, shoot: Shoot
) -> None:
    visitor = visit("household", size=size, language=language, scheme=scheme)
    data = receipt_of(visitor, own_order(visitor))
    page = visitor.goto("/ledger/check")
    page.locator("#kept pre").wait_for(timeout=GUARD_MS)
    check_now(page, "/ledger/check")
    page.locator("#check summary").click()
    choose(page, data)
    page.locator("#check button.main").click()
    page.locator("#result[data-verdict=good]").wait_for()
    check_now(page, "/ledger/check after a check")
    shoot(page, f"receipt-{language}-{size[0]}-{scheme}")
    for path in ("/statement", "/trade", "/home"):
        visitor.goto(path)
        check_now(page, path)
        shoot(page, f"receipt{path.replace('/', '-')}-{language}-{size[0]}-{scheme}")
    assert visitor.errors == []


def test_anybody_may_check_a_receipt(visit: Visit) -> None:
    member = visit("household")
    data = receipt_of(member, own_order(member))
    visitor = visit()
    page = visitor.goto("/")
    page.get_by_role("contentinfo").get_by_role("link", name="Check a receipt").click()
    guarded(page)
    assert verdict(page, data) == "good"
    assert visitor.errors == []


def test_a_settled_interval_has_the_receipt_of_the_own_row(visit: Visit, shoot: Shoot) -> None:
    visitor = visit("household")
    page = visitor.page
    link = page.get_by_role("link", name=re.compile("^Receipt of the settlement of"))
    deadline = time.monotonic() + SETTLED_S
    while True:
        visitor.goto("/home")
        page.locator('[data-live="day"] details summary').first.click(timeout=SETTLED_S * 1000)
        if link.count() or time.monotonic() > deadline:
            break
        page.wait_for_timeout(2_000)
    shoot(page, "day-receipts-1280")
    with page.expect_download() as downloading:
        link.first.click()
    data = Path(downloading.value.path()).read_bytes()
    proof = parse_bundle(parse_receipt(data.decode()).extra).proof
    assert proof is not None
    assert decode(proof.row)["account"] == visitor.page.request.get(f"{visitor.url}/api/v1/me").json()["account"]
    page = visitor.goto("/ledger/check")
    guarded(page)
    assert verdict(page, data) == "good"
    expect(page.locator("#result h2")).to_have_text("Verified: this line is on the signed ledger.")
    expect(page.locator("#result h3").first).to_have_text("The line")
    shoot(page, "receipt-row-1280")
