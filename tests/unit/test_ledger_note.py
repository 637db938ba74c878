"""Keys, signed notes, checkpoints and receipts: one way to write each, everything else refused."""

from __future__ import annotations

import base64

import pytest

from ledger.core.merkle import ProofError, inclusion_path, leaf_hashes, nodes_of, root_of
from ledger.core.note import (
    MAX_SIGNATURES,
    NoteError,
    Signer,
    check_public_key,
    checkpoint_body,
    fits,
    format_vkey,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    verify_note,
)
from ledger.core.receipt import format_receipt, parse_receipt, verify_receipt

ROOT = bytes(range(32))
SIGNER = Signer("sunledger.example/test", bytes(32))
KEY = parse_vkey(SIGNER.vkey)
OTHER = Signer("witness.example/w", bytes([1]) * 32)
P = 2**255 - 19


def note(size: int = 12, root: bytes = ROOT) -> str:
    return SIGNER.sign_checkpoint(size, root)


def le(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def test_a_checkpoint_reads_back() -> None:
    assert open_checkpoint(note().encode(), [KEY]) == ("sunledger.example/test", 12, ROOT)
    assert note() == (
        "sunledger.example/test\n12\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n" + note().split("\n\n")[1]
    )


def test_the_key_id_is_the_one_the_specification_gives() -> None:
    text = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
    key = parse_vkey(text)
    assert str(key) == text
    assert format_vkey(key.name, key.public_key) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+33d7b496",
        SIGNER.vkey + " ",
        SIGNER.vkey.replace("example", "exempel"),  # the id belongs to the name
        SIGNER.vkey.replace("/test", "/ test"),
        SIGNER.vkey[:-1],
        SIGNER.vkey + "=",
        SIGNER.vkey.upper(),
        "+".join([*SIGNER.vkey.split("+")[:2], base64.b64encode(b"\x04" + SIGNER.public_key).decode()]),
        "+".join([*SIGNER.vkey.split("+")[:2], base64.b64encode(b"\x01" + SIGNER.public_key[:31]).decode()]),
    ],
)
def test_odd_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_vkey(text)


@pytest.mark.parametrize(
    "key",
    [
        le(1),
        le(1, 1),
        le(P - 1),
        le(P - 1, 1),
        le(0),
        le(0, 1),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    ],
)
def test_keys_of_low_order_are_refused(key: bytes) -> None:
    with pytest.raises(NoteError, match="weak"):
        check_public_key(key)
    with pytest.raises(NoteError, match="weak"):
        parse_vkey(format_vkey("a.example", key))


def test_keys_that_are_no_reduced_point_are_refused() -> None:
    for y in (P, P + 1, P + 18, 2**255 - 1):
        with pytest.raises(NoteError, match="canonical"):
            check_public_key(le(y))
    with pytest.raises(NoteError, match="no point"):
        check_public_key(le(2))
    with pytest.raises(NoteError, match="32 bytes"):
        check_public_key(bytes(31))
    for number in range(50):
        check_public_key(Signer("a.example", bytes([number]) * 32).public_key)


def test_signatures_by_others_are_ignored_and_a_wrong_one_by_a_known_key_is_not() -> None:
    text = checkpoint_body("sunledger.example/test", 12, ROOT)
    lines = [SIGNER.sign(text).split("\n\n")[1], OTHER.sign(text).split("\n\n")[1]]
    both = parse_note(f"{text}\n{''.join(lines)}".encode())
    assert verify_note(both, [KEY]) == [KEY]
    assert len(verify_note(both, [KEY, parse_vkey(OTHER.vkey)])) == 2
    other_line = OTHER.sign("another text\n").split("\n\n")[1]
    wrong = parse_note(f"{text}\n{lines[0]}{other_line}".encode())
    assert verify_note(wrong, [KEY]) == [KEY]
    with pytest.raises(NoteError, match="does not fit"):
        verify_note(wrong, [KEY, parse_vkey(OTHER.vkey)])
    with pytest.raises(NoteError, match="one signature"):
        verify_note(parse_note(f"{text}\n{lines[0] * 2}".encode()), [KEY])
    with pytest.raises(NoteError, match="was none"):
        verify_note(parse_note(f"{text}\n{lines[1]}".encode()), [KEY])
    with pytest.raises(NoteError, match="under the name"):
        open_checkpoint(f"{text}\n{lines[1]}".encode(), [parse_vkey(OTHER.vkey)])


def test_a_note_may_have_as_many_signatures_as_the_bound() -> None:
    text, line = note().split("\n\n")
    head = f"{text}\n\n"
    assert len(parse_note((head + line * MAX_SIGNATURES).encode()).signatures) == MAX_SIGNATURES
    with pytest.raises(NoteError, match="signatures"):
        parse_note((head + line * (MAX_SIGNATURES + 1)).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.rstrip(b"\n"),
        lambda data: data + b"\n",
        lambda data: data.replace(b"\n\n", b"\n"),
        lambda data: data.replace(b"12", b"1\t2"),
        lambda data: data.replace(b"12", b"1\x002"),
        lambda data: data.replace("—".encode(), b"--"),
        lambda data: data.replace("— ".encode(), "—  ".encode()),
        lambda data: data + b"trailing\n",
        lambda data: data.replace("—".encode(), b"\xe2\x80"),
        lambda data: b"x" * (1 << 20) + data,
        lambda data: b"",
    ],
)
def test_notes_of_another_form_are_refused(change) -> None:
    with pytest.raises(NoteError):
        parse_note(change(note().encode()))


@pytest.mark.parametrize(
    "text",
    [
        "origin\n012\n{root}\n",
        "origin\n+12\n{root}\n",
        "origin\n-1\n{root}\n",
        "origin\n1 2\n{root}\n",
        "origin\n\n{root}\n",
        "origin\n12.0\n{root}\n",
        "origin\n١٢\n{root}\n",
        f"origin\n{2**63}\n{{root}}\n",
        "origin\n12\n{root}",
        "origin\n12\n",
        "\n12\n{root}\n",
        "origin\n12\n{root}\nextension\n",
        "origin\n12\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\n",  # spare bits of the last digit set
        "origin\n12\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n",
        "origin\n12\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==\n",
        "origin\n12\n {root}\n",
    ],
)
def test_checkpoints_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(text.format(root=base64.b64encode(ROOT).decode()))


def test_other_logs_may_extend_their_checkpoints() -> None:
    text = checkpoint_body("origin", 0, ROOT) + "extension\n"
    assert parse_checkpoint(text, extensions=True).size == 0
    with pytest.raises(NoteError, match="empty line"):
        parse_checkpoint(checkpoint_body("origin", 0, ROOT) + "\nextension\n", extensions=True)


def test_a_signer_refuses_what_it_could_not_stand_for() -> None:
    for name in ("", "a b", "a+b", "a\u2003b", "a\nb", "x" * 256):
        with pytest.raises(NoteError):
            Signer(name, bytes(32))
    with pytest.raises(ValueError, match="newline"):
        SIGNER.sign("no end")
    with pytest.raises(ValueError, match="size"):
        SIGNER.sign_checkpoint(-1, ROOT)


LEAVES = [f"leaf {n}".encode() for n in range(70)]


def receipt_text(seq: int, extra: bytes = b"") -> str:
    hashes = leaf_hashes(LEAVES)
    path = inclusion_path(seq, len(LEAVES), nodes_of(hashes))
    return format_receipt(seq, path, note(len(LEAVES), root_of(hashes)), extra)


def test_a_receipt_proves_its_entry_and_no_other() -> None:
    for seq in range(len(LEAVES)):
        receipt = parse_receipt(receipt_text(seq))
        assert verify_receipt(receipt, LEAVES[seq], [KEY]).size == len(LEAVES)
        with pytest.raises(ProofError):
            verify_receipt(receipt, LEAVES[seq - 1], [KEY])
        with pytest.raises(ProofError):
            verify_receipt(receipt._replace(seq=seq + 1), LEAVES[seq], [KEY])
    with pytest.raises(NoteError):
        verify_receipt(receipt, LEAVES[-1], [parse_vkey(OTHER.vkey)])


def test_a_receipt_carries_extra_data() -> None:
    text = receipt_text(3, b"anything")
    assert text.startswith("c2sp.org/tlog-proof@v1\nextra YW55dGhpbmc=\nindex 3\n")
    receipt = parse_receipt(text)
    assert receipt.extra == b"anything"
    verify_receipt(receipt, LEAVES[3], [KEY])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@v1", "@v2"),
        ("index 3", "index 03"),
        ("index 3", "index -3"),
        ("index 3", "index"),
        ("index 3\n", ""),
        ("index 3", "extra !\nindex 3"),
        ("index 3", "index 3\nAAAA"),
        ("index 3", "index 3\n?"),
        ("\n\n", "\n"),
    ],
)
def test_receipts_of_another_form_are_refused(old: str, new: str) -> None:
    with pytest.raises((ProofError, NoteError)):
        verify_receipt(parse_receipt(receipt_text(3).replace(old, new)), LEAVES[3], [KEY])


def test_a_signature_by_a_key_of_low_order_fits_nothing_however_often_it_is_asked() -> None:
    neutral = "01" + "00" * 31
    for _ in range(2):
        assert not fits(neutral, neutral + "00" * 32, b"whatever one likes")
