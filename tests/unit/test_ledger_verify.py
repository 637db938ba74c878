"""The verifier on logs made in memory: what is right passes, every changed byte and every dishonest seal is named."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ledger.core.blocks import parse_totals, totals_text
from ledger.core.encoding import encode
from ledger.core.findings import Bundle, Position
from ledger.core.follow import Follower
from ledger.core.merkle import leaf_hashes
from ledger.core.note import Signer, format_vkey, parse_vkey
from ledger.core.rows import join_rows
from ledger.core.tiles import TILE_WIDTH, encode_bundle, parse_bundle, parse_path
from ledger.core.verify import Bad, Report, verify_log
from tests.unit.ledger_logs import RULES, SALT, SEED, LogMaker, make_log, rewritten, source, span, time_text

SMALL = (3, 4)  # entries of the blocks of a log small enough to change each of its bytes
LARGE = (3, 250, 5, 300)  # more than two bundles, seals at and around their borders
ROW = encode({"account": 1, "import_wh": 10, "salt": SALT})
SAMPLES = 60  # changed bytes of each file of the large log


def verify(files: dict[str, bytes], *vkeys: str) -> Report:
    return verify_log(source(files), [parse_vkey(vkey) for vkey in vkeys])


def fault(files: dict[str, bytes], *vkeys: str) -> Bad:
    with pytest.raises(Bad) as caught:
        verify(files, *vkeys)
    return caught.value


def entry_at(bundle: bytes, offset: int) -> int:
    """Return which entry of a bundle a byte (of it or its length) belongs to."""
    end = 0
    for number, leaf in enumerate(parse_bundle(bundle)):
        end += 2 + len(leaf)
        if offset < end:
            return number
    raise AssertionError("behind the end")


def places(path: str, data: bytes, offset: int) -> set[str]:
    """Return how the verifier may call the place of a changed byte."""
    if not path.startswith("tile/entries/"):
        return {path}
    return {path, f"entry {parse_path(path).number * TILE_WIDTH + entry_at(data, offset)}"}


def changes(files: dict[str, bytes], samples: int | None, seed: int) -> Iterator[tuple[str, int, dict[str, bytes]]]:
    """Yield the files with one bit of one byte changed: of every byte, or of ``samples`` bytes a file."""
    dice = random.Random(seed)
    for path, data in sorted(files.items()):
        offsets = range(len(data))
        if samples is not None and samples < len(data):
            offsets = sorted(dice.sample(offsets, samples))
        for offset in offsets:
            changed = bytearray(data)
            changed[offset] ^= 1 << dice.randrange(8)
            yield path, offset, {**files, path: bytes(changed)}


def test_a_log_as_it_must_be_passes() -> None:
    log = make_log()
    report = verify(log.files())
    assert (report.size, report.blocks, report.trusted, report.rows) == (len(log.leaves), 4, "genesis", 5)
    assert (report.root, report.vkey) == (log.head[1].hex(), log.signer.vkey)
    assert verify(log.files(), log.signer.vkey).trusted == "given"


@pytest.mark.parametrize("size", [2, 255, 256, 257, 511, 512, 513])
def test_logs_of_all_edges_pass(size: int) -> None:
    log = make_log([size - 2])
    assert verify(log.files()).size == size


def test_a_log_with_tiles_of_three_levels_passes_and_each_level_is_checked() -> None:
    log = LogMaker()
    log.found()
    order = b'{"at":"%s","salt":"%s","seq":%%d,"type":"order","v":1}' % (time_text(1).encode(), SALT.encode())
    for seq in range(1, 66_000):
        log.leaves.append(order % seq)
    log.tiles += log.tree.extend(leaf_hashes(log.leaves[1:]))
    log.seal()
    files = log.files()
    assert verify(files).size == 66_001
    assert {"tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1", "tile/0/257.p/209"} <= files.keys()
    for path in ("tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"):
        changed = bytearray(files[path])
        changed[-5] ^= 4
        assert fault({**files, path: bytes(changed)}).place == path
        assert fault({name: data for name, data in files.items() if name != path}).place == path


@pytest.mark.parametrize("key_is_given", [False, True])
def test_every_changed_byte_of_a_small_log_is_named(key_is_given: bool) -> None:
    log = make_log(SMALL)
    files = log.files()
    vkeys = [log.signer.vkey] if key_is_given else []
    for path, offset, changed in changes(files, None, seed=1):
        assert fault(changed, *vkeys).place in places(path, files[path], offset), (path, offset)


@pytest.mark.parametrize("key_is_given", [False, True])
def test_every_changed_bit_of_the_checkpoint_is_named(key_is_given: bool) -> None:
    """A changed size asks for files that are not there: still it is the checkpoint that is wrong."""
    for log in (make_log(SMALL), make_log(LARGE)):
        files = log.files()
        data = files["checkpoint"]
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            bad = fault({**files, "checkpoint": bytes(changed)}, *([log.signer.vkey] if key_is_given else []))
            assert bad.place == "checkpoint", bit


def test_changed_bytes_of_a_large_log_are_named() -> None:
    files = make_log(LARGE).files()
    for path, offset, changed in changes(files, SAMPLES, seed=2):
        assert fault(changed).place in places(path, files[path], offset), (path, offset)


def rewrite(log: LogMaker, seq: int, leaf: bytes) -> LogMaker:
    """Return a log with another leaf at ``seq``, everything above it made anew and signed by nobody's doing."""
    again = LogMaker()
    for number, old in enumerate(log.leaves):
        again.add_leaf(leaf if number == seq else old)
    again.sign()
    again.extra = log.extra
    return again


def test_a_forged_leaf_with_forged_tiles_is_still_named_by_the_seals() -> None:
    """Tiles and bundles made anew around a changed entry: only the signed checkpoint is still the old one."""
    log = make_log(LARGE)
    for seq in (7, 100, 260, 400, len(log.leaves) - 1, 4):
        leaf = log.leaves[seq]
        for old, new in ((b'"price_e4":2850', b'"price_e4":2851'), (b'"state":"07', b'"state":"17')):
            if old in leaf:
                leaf = leaf.replace(old, new)
        assert leaf != log.leaves[seq]
        files = rewrite(log, seq, leaf).files()
        files["checkpoint"] = log.head[2].encode()
        bad = fault(files)
        first, last = span(bad.place)
        assert first <= seq <= last
        assert first == last or b'"type":"seal"' not in leaf


def test_a_forged_log_with_an_own_checkpoint_needs_the_key() -> None:
    log = make_log(LARGE)
    leaf = log.leaves[2].replace(b'"price_e4":2850', b'"price_e4":2851')
    files = rewrite(log, 2, leaf).files()
    assert fault(files).place == "entries 0 to 4"  # even the operator's own key cannot change sealed history
    mallory = LogMaker(seed=bytes(32))
    mallory.found()
    mallory.orders(3)
    mallory.seal()
    assert verify(mallory.files()).trusted == "genesis"
    assert fault(mallory.files(), log.signer.vkey).place == "checkpoint"


def test_files_that_are_missing_or_of_another_size_are_named() -> None:
    files = make_log(LARGE, rows=False).files()
    for path in sorted(files):
        assert fault({name: data for name, data in files.items() if name != path}).place in (path, "checkpoint")
        assert fault({**files, path: files[path][:-1]}).place in (path, "checkpoint")
        assert fault({**files, path: b""}).place in (path, "checkpoint")
        if path != "checkpoint":
            twice = files[path] + files[path][: 32 if path.startswith("tile/0") else None]
            assert fault({**files, path: twice}).place == path


def test_rows_that_are_not_there_are_counted() -> None:
    log = make_log(LARGE)
    files = {path: data for path, data in log.files().items() if not path.startswith("rows/")}
    assert (verify(files).rows, verify(files).rows_missing) == (0, 1)


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"\n",
        join_rows([encode({"account": n, "import_wh": 10 * n, "salt": SALT}) for n in range(4)]),
        join_rows([encode({"account": n, "import_wh": 10 * n, "salt": SALT}) for n in (1, 0, 2, 3, 4)]),
        join_rows([encode({"account": n, "import_wh": 10 * n, "salt": SALT}) for n in range(5)])[:-1],
    ],
)
def test_other_rows_than_those_committed_to_are_refused(rows: bytes) -> None:
    log = make_log(LARGE)
    (path,) = log.extra
    assert fault({**log.files(), path: rows}).place == path


def test_rulebooks_are_checked_against_their_names() -> None:
    text = b"# Rules\n"
    log = LogMaker()
    log.rules = hashlib.sha256(text).hexdigest()
    log.found()
    log.seal()
    files = log.files()
    assert verify(files).rulebooks_missing == 1
    path = f"rulebook/{log.rules}"
    assert verify({**files, path: text}).rulebooks == 1
    assert fault({**files, path: text + b" "}).place == path


def test_a_new_rulebook_is_what_seals_name_from_there_on() -> None:
    def change(log: LogMaker, follow: bool = True) -> None:
        log.add("rulebook", version=2, sha256="a" * 64)
        log.rules = "a" * 64 if follow else RULES
        log.seal()

    assert verify(rewritten(change)).blocks == 2
    assert fault(rewritten(lambda log: change(log, follow=False))).what == f"rules: expected {'a' * 64}, was {RULES}"


def test_keys_change_hands_on_the_log() -> None:
    new = Signer("sunledger.example/test", bytes([9]) * 32)

    def change(log: LogMaker, *, add: bool = True, revoke: bool = True, sign: bool = True) -> None:
        old = log.signer
        if add:
            log.add_key(new)
        if revoke:
            log.add("key", action="revoke", vkey=old.vkey)
        if sign:
            log.signer = new
        log.seal()

    assert verify(rewritten(change)).vkey == new.vkey
    assert verify(rewritten(change), new.vkey).vkey == new.vkey
    assert verify(rewritten(change), Signer("sunledger.example/test", SEED).vkey).vkey == new.vkey  # trust goes on
    assert verify(rewritten(lambda log: change(log, revoke=False, sign=False))).blocks == 2
    assert (
        fault(rewritten(lambda log: change(log, add=False))).what
        == "vkey: expected a valid key beside it to go on with"
    )
    for wrong in (
        rewritten(lambda log: change(log, sign=False)),
        rewritten(lambda log: change(log, add=False, revoke=False)),
    ):
        assert fault(wrong).place == "checkpoint"
        assert fault(wrong, new.vkey).place == "checkpoint"


def test_trust_goes_on_only_by_a_key_that_is_trusted() -> None:
    """Who trusts the second key does not believe in a third that the first one added behind its back."""
    one, two = Signer("sunledger.example/test", SEED), NEW
    three = Signer("sunledger.example/test", bytes([8]) * 32)

    def change(log: LogMaker, approver: Signer) -> None:
        log.add_key(two)
        log.add_key(three, approver=approver)
        log.add("key", action="revoke", vkey=one.vkey)
        log.add("key", action="revoke", vkey=two.vkey)
        log.signer = three
        log.seal()

    for by in (one, two):
        files = rewritten(lambda log, by=by: change(log, by))
        assert verify(files).vkey == three.vkey
        assert verify(files, one.vkey).vkey == three.vkey
    assert verify(files, two.vkey).vkey == three.vkey
    assert fault(rewritten(lambda log: change(log, one)), two.vkey).place == "checkpoint"


def test_who_goes_on_from_a_position_knows_who_approved_whom() -> None:
    old = Signer("sunledger.example/test", SEED)

    def change(log: LogMaker) -> None:
        log.add_key(NEW)
        log.seal()
        log.add("key", action="revoke", vkey=old.vkey)
        log.signer = NEW
        log.seal()

    files = rewritten(change)
    positions: list[Position] = []

    def each(bundle: Bundle) -> None:
        if bundle.position is not None:
            positions.append(bundle.position)

    for end in (7, 9):  # behind the second and the third seal
        verify_log(source(files), [parse_vkey(old.vkey)], each=each, mark_every=end)
    whole = verify(files)
    assert positions
    for position in positions:
        for vkey in (old.vkey, NEW.vkey):
            assert verify_log(source(files), [parse_vkey(vkey)], start=position) == replace(whole, trusted="given")
        with pytest.raises(Bad, match="checkpoint"):
            verify_log(source(files), [parse_vkey(Signer(old.name, bytes(32)).vkey)], start=position)


def test_a_revoked_key_signs_nothing_and_does_not_come_back() -> None:
    def change(log: LogMaker, back: bool) -> None:
        old = log.signer
        log.add_key(NEW)
        log.add("key", action="revoke", vkey=old.vkey)
        if back:
            log.add_key(old, approver=NEW)
            log.signer = NEW
        log.seal()

    assert fault(rewritten(lambda log: change(log, False))).place == "checkpoint"
    bad = fault(rewritten(lambda log: change(log, True)))
    assert (bad.place, "never had" in bad.what) == ("entry 7", True)


NEW = Signer("sunledger.example/test", bytes([9]) * 32)
WEAK = format_vkey("sunledger.example/test", bytes(31) + b"\x80")
STRANGE = base64.b64encode(NEW.sign_raw("another text\n")).decode()
Change = Callable[[LogMaker], object]


@pytest.mark.parametrize(
    ("change", "place", "what"),
    [
        (lambda log: log.seal(height=3), "entry 5", "height: expected 2, was 3"),
        (lambda log: log.seal(first=4), "entry 5", "first: expected 5, was 4"),
        (lambda log: log.seal(count=2), "entry 5", "count: expected 1, was 2"),
        (lambda log: log.seal(prev="0" * 64), "entry 5", "prev: expected"),
        (lambda log: log.seal(root_before="0" * 64), "entry 5", "root_before: expected"),
        (lambda log: log.seal(rules="0" * 64), "entry 5", "rules: expected"),
        (lambda log: log.seal(state="0" * 63), "entry 5", "state: expected"),
        (lambda log: log.seal(state=0), "entry 5", "state: expected"),
        (lambda log: log.seal(totals="EUR:1,Wh:0"), "entry 5", "totals: expected EUR:0, was EUR:1"),
        (lambda log: log.seal(totals="EUR:0,Wh:-4"), "entry 5", "totals: expected Wh:0, was Wh:-4"),
        (lambda log: log.seal(totals="Wh:0"), "entry 5", "totals: expected a sum of EUR"),
        (lambda log: log.seal(totals=""), "entry 5", "totals: expected"),
        (lambda log: log.seal(totals=0), "entry 5", "totals: expected"),
        (lambda log: (log.orders(2), log.sign()), "entry 6", "expected a seal"),
        (lambda log: (log.add("genesis"), log.seal()), "entry 5", "expected genesis in entry 0"),
        (lambda log: (log.add("gift"), log.seal()), "entry 5", "expected a known type"),
        (lambda log: (log.add("order", v=2), log.seal()), "entry 5", "v: expected 1"),
        (lambda log: (log.add("order", seq=4), log.seal()), "entry 5", "seq: expected 5"),
        (lambda log: (log.add("order", salt="x"), log.seal()), "entry 5", "salt: expected"),
        (lambda log: (log.add("fee", reason="Free text!"), log.seal()), "entry 5", "reason: expected a code"),
        (lambda log: (log.add("fee", reason=7), log.seal()), "entry 5", "reason: expected a code"),
        (lambda log: (log.add("fee", reason=""), log.seal()), "entry 5", "reason: expected a code"),
        (lambda log: (log.add("fee", commitment="Cable 7"), log.seal()), "entry 5", "commitment: expected 64 hex"),
        (lambda log: (log.add("fee", commitment="C1" * 32), log.seal()), "entry 5", "commitment: expected 64 hex"),
        (lambda log: (log.add("fee", commitment=64), log.seal()), "entry 5", "commitment: expected 64 hex"),
        (lambda log: (log.add("order", at=time_text(3)), log.seal()), "entries 4 to 5", "or later"),
        (lambda log: (log.add_leaf(b'{"a": 1}'), log.seal()), "entry 5", "canonical"),
        (lambda log: (log.add_leaf(b'{"a":1.5}'), log.seal()), "entry 5", "expected an integer or a string"),
        (lambda log: (log.add("readings", count=1), log.seal()), "entry 5", "root: expected a text"),
        (lambda log: (log.add("settle", count="1", root="a"), log.seal()), "entry 5", "count: expected"),
        (lambda log: (log.add("settle", count=-1, root="a"), log.seal()), "entry 5", "count: expected"),
        (lambda log: (log.readings([ROW], count=2), log.seal()), "rows/5", "expected 2 rows, was 1"),
        (lambda log: (log.readings([ROW], root="0" * 64), log.seal()), "rows/5", "expected rows with the root"),
        (lambda log: (log.readings([b'{"a":1}']), log.seal()), "rows/5", "expected a salt"),
        (lambda log: (log.add("rulebook", sha256="A" * 64), log.seal()), "entry 5", "SHA-256 of a rulebook"),
        (lambda log: (log.add("rulebook"), log.seal()), "entry 5", "sha256: expected a text"),
        (lambda log: (log.add("key", action="add", vkey="x"), log.seal()), "entry 5", "vkey: expected"),
        (lambda log: (log.add("key", action="x", vkey=log.signer.vkey), log.seal()), "entry 5", "action: expected"),
        (lambda log: (log.add("key", action="add", vkey=NEW.vkey), log.seal()), "entry 5", "possession: expected"),
        (lambda log: (log.add_key(NEW, possession="AA=="), log.seal()), "entry 5", "possession: expected 64 bytes"),
        (lambda log: (log.add_key(NEW, possession=STRANGE), log.seal()), "entry 5", "possession: expected the new"),
        (lambda log: (log.add_key(NEW, approver=NEW), log.seal()), "entry 5", "approval: expected the signature of a"),
        (lambda log: (log.add_key(Signer("b.example", bytes(32))), log.seal()), "entry 5", "vkey: expected the log's name"),
        (lambda log: (log.add_key(log.signer), log.seal()), "entry 5", "vkey: expected a key the log has never had"),
        (lambda log: (log.add("key", action="revoke", vkey=log.signer.vkey), log.seal()), "entry 5", "to go on with"),
        (lambda log: (log.add("key", action="revoke", vkey=NEW.vkey), log.seal()), "entry 5", "vkey: expected a valid"),
        (lambda log: (log.add_key(NEW, vkey=WEAK), log.seal()), "entry 5", "this one is weak"),
    ],
)  # fmt: skip
def test_an_operator_who_signs_something_wrong_is_found_out(change: Change, place: str, what: str) -> None:
    bad = fault(rewritten(change))
    assert (bad.place, what in bad.what) == (place, True), str(bad)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"type": "order"}, "type: expected genesis, was 'order'"),
        ({"type": "seal"}, "type: expected genesis, was 'seal'"),
        ({"vkey": "x"}, "vkey: expected"),
        ({"vkey": 1}, "vkey: expected a text"),
        ({"origin": "another.example"}, "origin: expected"),
        ({"rulebook_sha256": "x"}, "SHA-256 of a rulebook"),
        ({"rulebook_sha256": 1}, "expected a text"),
        ({"currency": ""}, "currency: expected a text"),
    ],
)
@pytest.mark.parametrize("key_is_given", [False, True])
def test_a_log_begins_with_its_founding(fields: dict[str, int | str], what: str, key_is_given: bool) -> None:
    log = LogMaker()
    log.found(**fields)
    log.seal()
    bad = fault(log.files(), *([log.signer.vkey] if key_is_given else []))
    assert bad.place == "entry 0"
    assert what in bad.what


def test_a_log_of_another_name_than_its_key_is_refused() -> None:
    log = make_log(SMALL)
    files = log.files()
    body = files["checkpoint"].decode().split("\n\n")[0] + "\n"
    other = Signer("another.example", bytes(range(32)))
    files["checkpoint"] = other.sign(body.replace(log.signer.name, other.name)).encode()
    assert fault(files).place == "checkpoint"
    assert fault(files, other.vkey).place == "checkpoint"
    files["checkpoint"] = other.sign(body).encode()
    assert fault(files).place == "checkpoint"
    assert fault(files, other.vkey).place == "checkpoint"


def test_an_empty_log_is_refused() -> None:
    log = LogMaker()
    assert fault({"checkpoint": log.signer.sign_checkpoint(0, log.tree.root()).encode()}).place == "checkpoint"


def test_a_bundle_of_an_empty_entry_is_refused() -> None:
    files = make_log(SMALL).files()
    (path,) = (path for path in files if path.startswith("tile/entries"))
    assert fault({**files, path: encode_bundle([b""] * len(parse_bundle(files[path])))}).place == "entry 0"


def test_a_follower_reads_our_log_as_it_grows() -> None:
    log = LogMaker()
    log.found()
    follower = Follower(log.signer.name, [parse_vkey(log.signer.vkey)])
    for count in (2, 250, 0, 300):
        log.orders(count)
        log.seal()
        head = follower.advance(log.head[2].encode(), source(log.files()))
        assert (head.size, head.root) == log.head[:2]
    assert list(follower.entries(source(log.files()), first=260)) == log.leaves[260:]


def test_totals_are_written_in_one_way() -> None:
    assert totals_text({"Wh": 0, "EUR": -5}) == "EUR:-5,Wh:0"
    assert parse_totals("EUR:-5,Wh:0") == {"EUR": -5, "Wh": 0}
    for text in ("", "EUR", "EUR:", "EUR:-0", "EUR:00", "EUR:0,", "Wh:0,EUR:0", "EUR:0,EUR:0", "EUR:0 ,Wh:0", ":0"):
        with pytest.raises(ValueError, match="expected"):
            parse_totals(text)
    with pytest.raises(ValueError, match="expected"):
        totals_text({})
