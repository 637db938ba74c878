"""What no single log can show: history redone with all its consequences, found against what somebody kept; and damage."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.core.findings import Bad
from ledger.core.merkle import inclusion_path, leaf_hashes, nodes_of
from ledger.core.note import Signer, parse_vkey
from ledger.core.receipt import format_receipt
from ledger.core.verify import verify_log
from market.audit.older import Unusable
from market.engine import commands as c
from tests.market_log import ORIGIN, SIGNER, signed_files
from tests.unit.audit_market import LATER, Town, a_day, audited, day, of_type
from tests.unit.ledger_logs import source

FLIPS = 400


# --- consequences that were all redone --------------------------------------------------------------------------------


def another_day() -> Town:
    """The same day with one price less, played by the rules from there on: right in itself."""
    town = Town()
    town.order(town.alice, c.SELL, 1_499, 1_000)
    town.order(town.charlie, c.SELL, 1_500, 1_000)
    town.order(town.bob, c.BUY, 2_000, 1_200)
    for _ in range(len(day().entries)):
        town.seal()
    return town


def head_of(town: Town, seals: int) -> bytes:
    """Return the checkpoint that was published at a seal."""
    size = [entry["seq"] for entry in town.entries if entry["type"] == "seal"][seals - 1] + 1
    return signed_files(town.entries[:size], {}, SIGNER)["checkpoint"]


def cosigned(note: bytes) -> bytes:
    """Return a checkpoint with the line of a witness (cosignature/v1)."""
    body = note.decode().split("\n\n")[0] + "\n"
    key, name, time_s = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32), "witness.example/w", 1_780_000_000
    public = key.public_key().public_bytes_raw()
    id_ = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    signature = key.sign(f"cosignature/v1\ntime {time_s}\n{body}".encode())
    line = base64.b64encode(id_ + time_s.to_bytes(8) + signature).decode()
    return note + f"— {name} {line}\n".encode()


def receipt_of(town: Town, seq: int) -> bytes:
    files = town.files()
    verify_log(source(files))
    leaves: list[bytes] = []
    verify_log(source(files), each=lambda bundle: leaves.extend(bundle.leaves))
    path = inclusion_path(seq, len(leaves), nodes_of(leaf_hashes(leaves)))
    return format_receipt(seq, path, files["checkpoint"].decode()).encode()


@pytest.mark.parametrize("seals", [3, 5, 7])
@pytest.mark.parametrize("with_witness", [False, True])
def test_history_that_was_redone_is_found_against_an_older_checkpoint(seals: int, with_witness: bool) -> None:
    kept = head_of(day(), seals)
    kept = cosigned(kept) if with_witness else kept
    audited(day().files(), kept)
    files = another_day().files()
    audited(files)  # nothing is wrong with it, alone
    with pytest.raises(Bad, match="was another history") as caught:
        audited(files, kept)
    assert caught.value.place == "kept 0"


def test_a_checkpoint_from_before_the_change_still_fits() -> None:
    audited(another_day().files(), head_of(day(), 2))


def test_history_that_was_redone_is_found_against_a_receipt() -> None:
    order = of_type(day().entries, "order")
    kept = receipt_of(day(), order["seq"])
    audited(day().files(), kept)
    with pytest.raises(Bad) as caught:
        audited(another_day().files(), kept)
    assert caught.value.place == "kept 0"


def test_a_receipt_for_another_entry_than_the_logs_is_found() -> None:
    receipt = receipt_of(day(), 20).replace(b"index 20", b"index 21")
    with pytest.raises(Bad, match="expected entry 21 as it was when its receipt was given"):
        audited(day().files(), receipt)


def test_a_log_that_has_lost_its_end_is_found_against_its_checkpoint() -> None:
    town = day()
    size = of_type(town.entries, "seal", 5)["seq"] + 1
    short = signed_files(town.entries[:size], {seq: rows for seq, rows in town.rows.items() if seq < size}, SIGNER)
    audited(short)
    with pytest.raises(Bad, match=f"expected a log of at least {len(town.entries)} entries, was {size}"):
        audited(short, town.files()["checkpoint"])


def test_what_nobody_signed_or_reads_proves_nothing() -> None:
    files = day().files()
    stranger = Signer(ORIGIN, bytes([9]) * 32).sign_checkpoint(3, bytes(32)).encode()
    for kept in (b"", b"x", stranger, b"c2sp.org/tlog-proof@v1\nindex x\n\n", cosigned(stranger)):
        with pytest.raises(Unusable):
            audited(files, kept)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_flipped_bytes_are_found_by_the_audit_where_the_verifier_finds_them() -> None:
    town = a_day()
    for number in range(90):
        order = town.order(town.alice, c.SELL, 2_000 + number, 10, LATER)
        town.do(c.CancelOrder(town.alice, order, "owner"))
        if number % 9 == 0:
            town.seal()
    town.seal()
    files, dice = town.files(), random.Random(11)
    assert len(town.entries) > 256
    paths = sorted(files)
    for _ in range(FLIPS):
        path = dice.choice(paths)
        changed = bytearray(files[path])
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        flipped = {**files, path: bytes(changed)}
        with pytest.raises(Bad) as verified:
            verify_log(source(flipped), [parse_vkey(SIGNER.vkey)])
        with pytest.raises(Bad) as found:
            audited(flipped)
        assert found.value.place == verified.value.place
