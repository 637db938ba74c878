"""The worked examples of docs/ledger.md are what the code makes."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from ledger.core.cosign import Cosigner, cosigned_message
from ledger.core.encoding import encode
from ledger.core.entries import TYPES
from ledger.core.keyring import key_statement
from ledger.core.merkle import inclusion_path, leaf_hash, leaf_hashes, node_hash, nodes_of, root_of
from ledger.core.note import Signer, checkpoint_body, open_checkpoint, parse_vkey
from ledger.core.receipt import format_receipt, parse_receipt, verify_receipt
from ledger.core.tiles import encode_bundle

TEXT = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
ORDER = {
    "v": 1, "seq": 412, "type": "order", "at": "2026-06-06T12:15:00.000Z", "salt": "00112233445566778899aabbccddeeff",
    "account": 17, "area": "LV1.101", "contract": "2026-06-06T13:00Z", "side": "sell", "price_e4": 2850,
    "energy_wh": 1500, "time_in_force": "gtg",
}  # fmt: skip
LEAVES = [b"one", b"two", b"three"]


def examples() -> dict[str, str]:
    """Return every computed text of the document under the name of its example."""
    leaf = encode(ORDER)
    hashes = leaf_hashes(LEAVES)
    signer = Signer("sunledger.example/city", bytes(range(32)))
    note = signer.sign_checkpoint(3, root_of(hashes))
    body = checkpoint_body(signer.name, 3, root_of(hashes))
    witness = Cosigner("witness.example/w1", bytes(range(32, 64)))
    new = Signer(signer.name, bytes(range(64, 96)))
    statement = key_statement(signer.name, new.vkey)
    path = inclusion_path(1, 3, nodes_of(hashes))
    return {
        "LEAF_LENGTH": f"has {len(leaf)} bytes",
        "LEAF_PREFIX": f"two bytes `{len(leaf).to_bytes(2).hex()}`",
        "LEAF_HASH": f"SHA-256(00 || leaf) = {leaf_hash(leaf).hex()}",
        "HASH_ONE": f"h0 = SHA-256(00 6f6e65)       = {hashes[0].hex()}",
        "HASH_TWO": f"h1 = SHA-256(00 74776f)       = {hashes[1].hex()}",
        "HASH_THREE": f"h2 = SHA-256(00 7468726565)   = {hashes[2].hex()}",
        "HASH_01": f"h01 = SHA-256(01 || h0 || h1) = {node_hash(hashes[0], hashes[1]).hex()}",
        "HASH_ROOT": f"root = SHA-256(01 || h01 || h2) = {root_of(hashes).hex()}",
        "CHECKPOINT": f"```\n{note}```",
        "VKEY": f"```\n{signer.vkey}\n```",
        "WITNESS_KEY": f"witness regulator {witness.key} ",
        "COSIGNATURE": f"```\n{witness.cosign(body, 1_790_000_000)}```",
        "COSIGNED": f"```\n{cosigned_message(body, 1_790_000_000).decode()}```",
        "KEY_STATEMENT": f"```\n{statement}```",
        "POSSESSION": f"`possession` is `{base64.b64encode(new.sign_raw(statement)).decode()}`",
        "APPROVAL": f"`approval`\n`{base64.b64encode(signer.sign_raw(statement)).decode()}`",
        "RECEIPT": f"```\n{format_receipt(1, path, note)}```",
    }


def test_the_examples_are_what_the_code_makes() -> None:
    for name, text in examples().items():
        assert text in TEXT, name


def test_the_example_entry_is_canonical_but_for_its_line_break() -> None:
    shown = re.search(r'```\n(\{"account":17,.*?\})\n```', TEXT, re.DOTALL)
    assert shown is not None
    assert shown[1].replace("\n ", "").encode() == encode(ORDER)


def test_the_example_receipt_verifies() -> None:
    shown = re.search(r"```\n(c2sp.org/tlog-proof@v1\n.*?)```", TEXT, re.DOTALL)
    vkey = re.search(r"```\n(sunledger.example/city\+.*?)\n```", TEXT)
    assert shown is not None
    assert vkey is not None
    key = parse_vkey(vkey[1])
    receipt = parse_receipt(shown[1])
    assert verify_receipt(receipt, b"two", [key]) == open_checkpoint(receipt.checkpoint.encode(), [key])


def test_the_example_bundle_is_that_of_the_public_test_log() -> None:
    bundle = encode_bundle(LEAVES)
    assert (Path(__file__).parents[1] / "vectors/tile-log/tile/entries/000.p/3").read_bytes() == bundle
    assert "`0003 6f6e65 0003 74776f 0005 7468726565`" in TEXT
    assert bundle.hex() == "00036f6e65000374776f00057468726565"
    published = (Path(__file__).parents[1] / "vectors/tile-log/checkpoint.3").read_text().split("\n")[2]
    assert base64.b64decode(published) == root_of(leaf_hashes(LEAVES))


def test_all_entry_types_are_listed() -> None:
    (row,) = re.findall(r"\| `type` \| (.*?) \|", TEXT)
    assert set(re.findall(r"`(\w+)`", row)) == TYPES
