"""What no single log can show: history redone with all its consequences, found against what somebody kept; and damage."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import pytest

from ledger.core.cosign import Cosigner
from ledger.core.findings import Bad
from ledger.core.merkle import inclusion_path, leaf_hashes, nodes_of
from ledger.core.note import Checkpoint, Signer, parse_vkey
from ledger.core.policy import Policy, parse_policy
from ledger.core.receipt import format_receipt
from ledger.core.verify import verify_log
from market.audit.older import Kept, Unusable, any_of
from market.engine import commands as c
from tests.market_log import ORIGIN, SIGNER, signed_files
from tests.unit.audit_market import LATER, Town, a_day, audited, day, of_type
from tests.unit.ledger_logs import source

FLIPS = 400


# --- consequences that were all redone --------------------------------------------------------------------------------


def another_day(signer: Signer = SIGNER) -> Town:
    """The same day with one price less, played by the rules from there on: right in itself."""
    town = Town(signer)
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


def witness(number: int) -> Cosigner:
    return Cosigner(f"witness.example/w{number}", bytes([100 + number]) * 32)


def cosigned(kept: bytes, *numbers: int) -> bytes:
    """Return a checkpoint or receipt with lines of these witnesses (cosignature/v1)."""
    body = kept.decode().rsplit("\n\n", 1)[0].rsplit("\n\n", 1)[-1] + "\n"
    return kept + "".join(witness(number).cosign(body, 1_780_000_000 + number) for number in numbers).encode()


def unsigned(kept: bytes) -> bytes:
    """Return what was kept without the log's own signature."""
    lines = kept.decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(f"— {ORIGIN} ")).encode()


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
    kept = cosigned(kept, 1) if with_witness else kept
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
    for kept in (b"", b"x", stranger, b"c2sp.org/tlog-proof@v1\nindex x\n\n", cosigned(stranger, 1)):
        with pytest.raises(Unusable):
            audited(files, kept)


# --- cosignatures: they speak whoever's key the log goes by today ------------------------------------------------------

ONE = any_of([witness(1).key])
TWO_OF_THREE = parse_policy(
    "".join(f"witness {name} {witness(number).key}\n" for number, name in enumerate("xyz", 1)).encode()
    + b"group two 2 x y z\nquorum two\n"
)
NOBODY = parse_policy(f"witness x {witness(1).key}\nquorum none\n".encode())
THIEF = Signer(ORIGIN, bytes([77]) * 32)  # the name of the log, and a key of an operator's own making


@pytest.mark.parametrize("of", [lambda: head_of(day(), 5), lambda: receipt_of(day(), 40)], ids=["head", "receipt"])
@pytest.mark.parametrize("bare", [False, True], ids=["signed", "witness_only"])
@pytest.mark.parametrize(("policy", "numbers"), [(ONE, (1,)), (TWO_OF_THREE, (1, 3)), (TWO_OF_THREE, (3, 2, 1))])
def test_history_that_was_redone_under_another_key_is_found_against_a_cosignature(
    of: Callable[[], bytes], bare: bool, policy: Policy, numbers: tuple[int, ...]
) -> None:
    kept = cosigned(of(), *numbers)
    kept = unsigned(kept) if bare else kept
    audited(day().files(), kept, policy=policy)
    files = another_day(THIEF).files()
    audited(files, signer=THIEF)  # nothing is wrong with it, alone
    with pytest.raises(Unusable, match="expected a signature by "):
        audited(files, kept, signer=THIEF)  # who names no witness has only the word of a key that nobody knows
    with pytest.raises(Bad, match="was another history") as caught:
        audited(files, kept, signer=THIEF, policy=policy)
    assert caught.value.place == "kept 0"


@pytest.mark.parametrize(
    ("policy", "numbers"), [(ONE, ()), (ONE, (2,)), (TWO_OF_THREE, (2,)), (TWO_OF_THREE, (3, 4)), (NOBODY, (1,))]
)
def test_without_a_quorum_only_the_logs_own_signature_counts(policy: Policy, numbers: tuple[int, ...]) -> None:
    kept = cosigned(head_of(day(), 5), *numbers)
    audited(day().files(), kept, policy=policy)
    with pytest.raises(Unusable, match=r"expected (a signature by|signature lines)"):
        audited(day().files(), unsigned(kept), policy=policy)
    with pytest.raises(Unusable, match="expected a signature by "):
        audited(another_day(THIEF).files(), kept, signer=THIEF, policy=policy)


@pytest.mark.parametrize("bare", [False, True])
def test_a_cosignature_that_does_not_fit_is_no_evidence(bare: bool) -> None:
    """Of another text, of another time, of another key under the witness' name: each in the place of the real one."""
    kept, other = head_of(day(), 5), head_of(day(), 6)
    real = cosigned(kept, 1).removeprefix(kept)
    moved = cosigned(other, 1).removeprefix(other)
    key_id_and_time, signature = base64.b64decode(real.split()[-1])[:12], base64.b64decode(real.split()[-1])[12:]
    later = key_id_and_time[:-1] + bytes([key_id_and_time[-1] ^ 1])
    for data in (None, later + signature, key_id_and_time + bytes(64), key_id_and_time + signature[:-1]):
        line = moved if data is None else f"— {witness(1).key.name} {base64.b64encode(data).decode()}\n".encode()
        forged = kept + line
        with pytest.raises(Unusable, match=r"cosignature by witness\.example/w1|expected a time and a signature"):
            audited(day().files(), unsigned(forged) if bare else forged, policy=ONE)


def test_who_has_cosigned_is_told() -> None:
    files = day().files()
    read, report = source(files), verify_log(source(files))
    head = Checkpoint(report.origin, report.size, bytes.fromhex(report.root))
    for numbers, quorum in (((), False), ((2,), False), ((3, 1), True)):
        kept = Kept("kept", cosigned(head_of(day(), 5), *numbers))
        kept.check(read, head, [parse_vkey(SIGNER.vkey)], TWO_OF_THREE)
        assert {line.key for line in kept.cosignatures} == {witness(number).key for number in numbers}
        assert kept.quorum is quorum


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
