"""Receipts that carry their entry, and a row's proof: any changed byte is found; other verifiers read them as they are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ledger.core.bundled import RowProof, bundle, parse_bundle, verify_bundle
from ledger.core.merkle import ProofError, inclusion_path, leaf_hashes, nodes_of
from ledger.core.note import parse_vkey
from ledger.core.receipt import format_receipt, parse_receipt, verify_receipt
from ledger.core.rows import row_path
from tests.unit.ledger_logs import LogMaker, make_log

ROWS = [b'{"account":%d,"payout_e7":%d,"salt":"%032x"}' % (n, 3 * n, n) for n in range(21)]
FLIPS = 400


def receipt_for(log: LogMaker, seq: int, extra: bytes) -> str:
    path = inclusion_path(seq, len(log.leaves), nodes_of(leaf_hashes(log.leaves)))
    return format_receipt(seq, path, log.head[2], extra)


@pytest.fixture(scope="module")
def log() -> LogMaker:
    """A log that ends with an entry over ``ROWS`` and a seal."""
    made = make_log()
    made.readings(ROWS)
    made.seal()
    return made


def test_an_entry_and_a_row_are_proven_by_one_file(log: LogMaker) -> None:
    key = parse_vkey(log.signer.vkey)
    seq = len(log.leaves) - 2
    leaf = log.leaves[seq]
    plain = parse_receipt(receipt_for(log, seq, bundle(leaf)))
    assert parse_bundle(plain.extra) == (leaf, None)
    assert verify_bundle(plain, [key]) == verify_receipt(plain, leaf, [key])
    for number in (0, 6, 20):
        extra = bundle(leaf, ROWS[number], number, row_path(ROWS, number))
        receipt = parse_receipt(receipt_for(log, seq, extra))
        assert parse_bundle(receipt.extra).proof == RowProof(ROWS[number], number, tuple(row_path(ROWS, number)))
        assert verify_bundle(receipt, [key]).size == len(log.leaves)
        assert verify_receipt(receipt, leaf, [key])  # who does not know of rows sees the entry's receipt


def test_any_flipped_byte_is_found(log: LogMaker) -> None:
    chance = random.Random(7)
    key = parse_vkey(log.signer.vkey)
    seq = len(log.leaves) - 2
    for extra in (bundle(log.leaves[seq]), bundle(log.leaves[seq], ROWS[6], 6, row_path(ROWS, 6))):
        data = receipt_for(log, seq, extra).encode()
        for _ in range(FLIPS):
            bent = bytearray(data)
            bent[chance.randrange(len(data))] ^= chance.randrange(1, 256)
            with pytest.raises(ValueError):  # ProofError, NoteError, bad UTF-8
                verify_bundle(parse_receipt(bytes(bent).decode()), [key])


@pytest.mark.parametrize(
    "extra",
    [b"", b"\n", b"{}\n", b"{}\n{}", b"{}\n{}\nrow 01", b"{}\n{}\nrow 1\n", b"{}\n{}\nrow 1\nAAAA", b"{}\n{}\nrow -1"],
)
def test_other_forms_are_refused(extra: bytes) -> None:
    with pytest.raises(ProofError):
        parse_bundle(extra)


def test_a_row_at_another_number_and_an_entry_without_rows_are_refused(log: LogMaker) -> None:
    key = parse_vkey(log.signer.vkey)
    seq = len(log.leaves) - 2
    for number in (5, 7, 20, 21, 999_999):
        extra = bundle(log.leaves[seq], ROWS[6], number, row_path(ROWS, 6))
        with pytest.raises(ProofError):
            verify_bundle(parse_receipt(receipt_for(log, seq, extra)), [key])
    with pytest.raises(ProofError, match="no rows"):
        verify_bundle(parse_receipt(receipt_for(log, 1, bundle(log.leaves[1], ROWS[6], 6, ()))), [key])


def test_the_command_says_what_a_file_proves(log: LogMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seq = len(log.leaves) - 2
    file = tmp_path / "receipt.tlog-proof"
    file.write_text(receipt_for(log, seq, bundle(log.leaves[seq], ROWS[6], 6, row_path(ROWS, 6))))
    call_command("check_receipt", str(file), vkey=[log.signer.vkey])
    said = capsys.readouterr().out
    assert ROWS[6].decode() in said
    assert f"row 6 of entry {seq} is on {log.signer.name}, signed at {len(log.leaves)} entries" in said
    file.write_text(file.read_text().replace("index ", "index 1", 1))
    with pytest.raises(CommandError, match="not proven"):
        call_command("check_receipt", str(file), vkey=[log.signer.vkey])
