"""Cosignatures, policies, the keyring: what the specifications say, and everything else refused."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core.cosign import Cosigner, cosigned_message, find_cosignature, parse_witness_key
from ledger.core.keyring import MAX_KEYS, Keyring, KeyringError, key_statement
from ledger.core.note import (
    COSIGNATURE,
    NoteError,
    Signer,
    checkpoint_body,
    format_vkey,
    parse_note,
    parse_vkey,
    signature_line,
    verify_note,
)
from ledger.core.policy import PolicyError, parse_policy
from ledger.signing import may_sign

SIGNER = Signer("sunledger.example/test", bytes(32))
WITNESS = Cosigner("witness.example/w1", bytes([7]) * 32)
BODY = checkpoint_body(SIGNER.name, 12, bytes(range(32)))
P = 2**255 - 19
# The eight points whose order divides 8, and the ways to write them that are not reduced (RFC 8032 forbids those).
LOW_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


def noted(*lines: str):
    return parse_note((SIGNER.sign(BODY) + "".join(lines)).encode())


def test_a_cosignature_is_what_the_specification_says() -> None:
    line = WITNESS.cosign(BODY, 1_679_315_147)
    found = find_cosignature(noted(line), WITNESS.key)
    assert found is not None
    assert (found.key, found.at_s, found.line) == (WITNESS.key, 1_679_315_147, line)
    assert cosigned_message(BODY, 1_679_315_147) == b"cosignature/v1\ntime 1679315147\n" + BODY.encode()
    data = base64.b64decode(line.split(" ")[2])
    assert (data[:4], data[4:12]) == (WITNESS.key.key_id, (1_679_315_147).to_bytes(8))
    assert len(data) == 4 + 8 + 64
    assert verify_note(noted(line), [parse_vkey(SIGNER.vkey)])  # who knows no witness is not disturbed


def test_witness_keys_are_of_their_own_kind() -> None:
    text = str(WITNESS.key)
    assert parse_witness_key(text) == WITNESS.key
    with pytest.raises(NoteError, match="0x01"):
        parse_vkey(text)
    with pytest.raises(NoteError, match="0x04"):
        parse_witness_key(SIGNER.vkey)
    assert format_vkey(WITNESS.key.name, WITNESS.key.public_key) != text


def test_a_cosignature_that_does_not_fit_is_refused() -> None:
    other_text = checkpoint_body(SIGNER.name, 13, bytes(range(32)))
    data = bytearray(base64.b64decode(WITNESS.cosign(BODY, 5).split(" ")[2])[4:])
    for at in (0, 7, 8, 71):  # the time is signed, too
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(NoteError, match="does not fit"):
            find_cosignature(
                noted(signature_line("witness.example/w1", WITNESS.key.key_id, bytes(changed))), WITNESS.key
            )
    for line in (
        WITNESS.cosign(other_text, 5),
        signature_line("witness.example/w1", WITNESS.key.key_id, bytes(data[8:])),
        signature_line("witness.example/w1", WITNESS.key.key_id, b"\xff" * 8 + bytes(data[8:])),
    ):
        with pytest.raises(NoteError):
            find_cosignature(noted(line), WITNESS.key)
    stranger = Cosigner("witness.example/w2", bytes([8]) * 32)
    assert find_cosignature(noted(stranger.cosign(BODY, 5)), WITNESS.key) is None
    newest = find_cosignature(noted(WITNESS.cosign(BODY, 5), WITNESS.cosign(BODY, 9)), WITNESS.key)
    assert newest is not None and newest.at_s == 9


@pytest.mark.parametrize("text", LOW_ORDER)
def test_keys_of_low_order_are_refused_wherever_a_key_is_read(text: str) -> None:
    public_key = bytes.fromhex(text)
    log, witness = format_vkey("a.example", public_key), format_vkey("a.example", public_key, COSIGNATURE)
    with pytest.raises(NoteError, match=r"weak|canonical"):
        parse_vkey(log)
    with pytest.raises(NoteError, match=r"weak|canonical"):
        parse_witness_key(witness)
    with pytest.raises(PolicyError, match=r"weak|canonical"):
        parse_policy(f"log {log}\nquorum none\n".encode())
    with pytest.raises(PolicyError, match=r"weak|canonical"):
        parse_policy(f"witness w {witness}\nquorum w\n".encode())
    with pytest.raises(KeyringError, match=r"weak|canonical"):
        Keyring("a.example").found(log)
    assert not may_sign("a.example", key_statement("a.example", log), {log})


# --- policies --------------------------------------------------------------------------------------------------------
def key(number: int) -> str:
    return str(Cosigner(f"w{number}.example", bytes([number]) * 32).key)


EXAMPLE = f"""# Two organisations
log {SIGNER.vkey} https://market.example/ledger

witness X1 {key(1)} http://x1.example/
witness\tX2 {key(2)}
  witness X3 {key(3)} https://x3.example/a
group X-witnesses 2 X1 X2 X3
witness Y1 {key(4)}
witness Y2 {key(5)}
group Y-witnesses any Y1 Y2
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_a_policy_says_who_makes_a_quorum() -> None:
    policy = parse_policy(EXAMPLE.encode())
    assert [str(one) for one in policy.logs] == [SIGNER.vkey]
    assert [(one.name, one.url) for one in policy.witnesses] == [
        ("X1", "http://x1.example"), ("X2", ""), ("X3", "https://x3.example/a"), ("Y1", ""), ("Y2", ""),
    ]  # fmt: skip
    names = [one.name for one in policy.witnesses]
    for count in range(len(names) + 1):
        for chosen in itertools.combinations(names, count):
            expected = sum(name[0] == "X" for name in chosen) >= 2 and any(name[0] == "Y" for name in chosen)
            assert policy.satisfied(set(chosen)) == expected
    assert not policy.satisfied({"X-and-Y-no", "X-witnesses-no"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum none",
        "quorum none\nquorum none\n",
        "quorum w\n",
        f"quorum w\nwitness w {key(1)}\n",
        f"witness w {key(1)}\nwitness w {key(2)}\nquorum w\n",
        f"witness w {key(1)}\nwitness v {key(1)}\nquorum w\n",
        f"witness none {key(1)}\nquorum none\n",
        f"witness w {SIGNER.vkey}\nquorum w\n",
        f"witness w {key(1)} ftp://a\nquorum w\n",
        f"log {key(1)}\nquorum none\n",
        f"log {SIGNER.vkey}\nlog {SIGNER.vkey}\nquorum none\n",
        f"witness w {key(1)}\ngroup g 2 w\nquorum g\n",
        f"witness w {key(1)}\ngroup g 0 w\nquorum g\n",
        f"witness w {key(1)}\ngroup g 01 w\nquorum g\n",
        f"witness w {key(1)}\ngroup g any w w\nquorum g\n",
        f"witness w {key(1)}\ngroup g any w\ngroup h any w\nquorum h\n",
        f"witness w {key(1)}\ngroup g any g\nquorum g\n",
        f"witness w {key(1)}\ngroup g any none\nquorum g\n",
        f"witness w {key(1)}\ngroup g any\nquorum g\n",
        f"witness w {key(1)}\nquorum w\r\n",
        f"witness w {key(1)}\nquorum w more\n",
        f"witness w {key(1)}\nelse w\nquorum w\n",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text.encode())


def test_names_are_octets() -> None:
    policy = parse_policy(f"witness \xe9 {key(1)}\nquorum \xe9\n".encode("latin-1"))
    assert policy.satisfied({policy.witnesses[0].name})
    assert parse_policy(b"quorum none\n").satisfied(set())


# --- the keyring -----------------------------------------------------------------------------------------------------
def added(new: Signer, by: Signer, **fields: object) -> dict[str, object]:
    text = key_statement(SIGNER.name, new.vkey)
    made = {"possession": new.sign_raw(text), "approval": by.sign_raw(text)}
    encoded = {name: base64.b64encode(signature).decode() for name, signature in made.items()}
    return {"action": "add", "vkey": new.vkey, **encoded, **fields}


def signer(number: int) -> Signer:
    return Signer(SIGNER.name, bytes([number]) * 32)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), max_size=12))
@settings(deadline=None)
def test_a_keyring_always_has_a_valid_key_that_came_by_a_valid_one(steps: list[tuple[bool, int, int]]) -> None:
    """Against sets: a key is added only by one that is valid then, never twice, and the last one stays."""
    ring = Keyring(SIGNER.name)
    ring.found(signer(0).vkey)
    valid, ever = {0}, {0}
    for add, which, by in steps:
        entry = added(signer(which), signer(by)) if add else {"action": "revoke", "vkey": signer(which).vkey}
        allowed = (which not in ever and by in valid) if add else (which in valid and len(valid) > 1)
        before = list(ring.valid)
        if not allowed:
            with pytest.raises(KeyringError):
                ring.change(entry)
            assert list(ring.valid) == before
            continue
        ring.change(entry)
        (valid.add if add else valid.discard)(which)
        ever.add(which)
        assert set(ring.valid) == {signer(one).vkey for one in valid} == {str(one) for one in ring.believed()}
        assert set(ring.known) == {signer(one).vkey for one in ever}


def test_a_revoked_key_does_not_come_back() -> None:
    ring = Keyring(SIGNER.name)
    ring.found(signer(0).vkey)
    ring.change(added(signer(1), signer(0)))
    ring.change({"action": "revoke", "vkey": signer(0).vkey})
    with pytest.raises(KeyringError, match="does not come back"):
        ring.change(added(signer(0), signer(1)))
    with pytest.raises(KeyringError, match="approval"):
        ring.change(added(signer(2), signer(0)))


def test_a_keyring_is_bounded() -> None:
    ring = Keyring(SIGNER.name)
    ring.found(signer(0).vkey)
    for number in range(1, MAX_KEYS):
        ring.change(added(signer(number), signer(0)))
    with pytest.raises(KeyringError, match="at most"):
        ring.change(added(signer(100), signer(0)))


def test_a_log_key_signs_nothing_but_heads_and_statements_of_its_log() -> None:
    name = SIGNER.name
    foreign = Signer("another.example", bytes(32)).vkey
    held = {signer(3).vkey, foreign, "x"}
    assert may_sign(name, BODY, held)
    assert may_sign(name, key_statement(name, signer(3).vkey), held)
    for text in (
        "",
        "hello\n",
        checkpoint_body("another.example", 12, bytes(32)),
        BODY + "extension\n",
        key_statement("another.example", signer(3).vkey),
        key_statement(name, foreign),
        key_statement(name, "x"),
        key_statement(name, signer(4).vkey),
        key_statement(name, signer(3).vkey) + "\n",
        "cosignature/v1\ntime 5\n" + BODY,
    ):
        assert not may_sign(name, text, held)
