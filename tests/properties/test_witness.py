"""The witness under requests of all kinds: it never cosigns two heads that are not one history, whatever happens."""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core.cosign import find_cosignature, parse_witness_key
from ledger.core.merkle import EMPTY_ROOT, consistency_path, nodes_of, root_of
from ledger.core.note import Signer, checkpoint_body, parse_checkpoint, parse_note, parse_vkey
from ledger.core.witness import Refused, format_request, parse_request
from ledger.witness_server import Witness

SIGNER = Signer("sunledger.example/test", bytes(range(32)))
KEY = parse_vkey(SIGNER.vkey)
SIZE = 40
# Histories that part from the first one at these entries.
PARTS = (SIZE, 0, 1, 7, 8, 16, 21, 32, 39)
HISTORIES = [
    [hashlib.sha256(f"{n}{'' if n < part else part}".encode()).digest() for n in range(SIZE)] for part in PARTS
]


def request(history: int, old: int, size: int, prover: int | None = None) -> bytes:
    """Return a request with a head of one history and a proof from the tree of another (default: its own)."""
    hashes = HISTORIES[history][:size]
    maker = hashes if prover is None else HISTORIES[prover][:size]
    proof = consistency_path(old, size, nodes_of(maker)) if 0 < old < size else []
    return format_request(old, proof, SIGNER.sign_checkpoint(size, root_of(hashes)))


def one_history(heads: set[tuple[int, bytes]]) -> bool:
    return any(
        all((root_of(history[:size]) if size else EMPTY_ROOT) == root for size, root in heads) for history in HISTORIES
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(range(len(PARTS))), st.integers(0, SIZE), st.integers(0, SIZE), st.booleans(),
            st.sampled_from(range(len(PARTS))),
        ),
        st.just("restart"),
    ),
    min_size=1,
    max_size=25,
)  # fmt: skip


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_what_it_cosigns_is_always_one_history(steps: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        witness = Witness(Path(folder), "witness.example/w", [KEY])
        vkey = witness.vkey
        cosigned: set[tuple[int, bytes]] = set()
        newest = 0
        for step in steps:
            if step == "restart":
                witness = Witness(Path(folder), "witness.example/w", [KEY])
                assert witness.vkey == vkey
                continue
            history, old, size, knows, prover = step
            old = newest if knows else old  # what a log does after a 409
            body = request(history, old, size, prover if prover else None)
            head = parse_checkpoint(parse_note(body.partition(b"\n\n")[2]).text)
            try:
                line = witness.add(body)
            except Refused as refused:
                if old > size:
                    assert refused.status == 400
                elif old != newest:
                    assert (refused.status, refused.size) == (409, newest)
                else:
                    assert refused.status in (409, 422)
                    if prover in (0, history):
                        assert not one_history(cosigned | {(head.size, head.root)})
                continue
            assert size >= newest == old
            newest = size
            cosigned.add((size, head.root))
            assert one_history(cosigned)
            whole = parse_note(SIGNER.sign_checkpoint(size, head.root).encode() + line.encode())
            assert find_cosignature(whole, parse_witness_key(vkey)) is not None


@given(st.sampled_from(range(1, len(PARTS))), st.integers(1, SIZE), st.integers(1, SIZE))
@settings(max_examples=200, deadline=None)
def test_any_fork_is_refused(history: int, seen: int, size: int) -> None:
    """After a head of the first history no head of another one that parts before it is cosigned, by any proof of either."""
    if PARTS[history] >= seen:
        return  # not yet parted where the witness looked last
    with tempfile.TemporaryDirectory() as folder:
        witness = Witness(Path(folder), "witness.example/w", [KEY])
        witness.add(request(0, 0, seen))
        for old in {0, seen, size}:
            for prover in (0, history):
                if old > size:
                    continue
                with pytest.raises(Refused) as refused:
                    witness.add(request(history, old, size, prover))
                # What the protocol wants: 409 for another root at the size it has seen, 422 for a proof that does not fit.
                assert refused.value.status == (422 if old == seen < size else 409)
                assert refused.value.fork == (old == seen)
        witness.add(request(0, seen, SIZE))  # and the true one goes on


def _race(folder: str, history: int, start, answers) -> None:
    witness = Witness(Path(folder), "witness.example/w", [KEY])
    start.wait()
    done = []
    for size in range(1, SIZE):
        try:
            witness.add(request(history, size - 1, size))
            done.append(size)
        except Refused as refused:
            assert refused.status in (409, 422)
    answers.put((history, done))


def test_two_processes_on_one_folder_never_cosign_two_heads_of_one_size(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        Witness(folder, "witness.example/w", [KEY])
        start, answers = context.Barrier(3), context.Queue()
        racers = [context.Process(target=_race, args=(str(folder), history, start, answers)) for history in (0, 1)]
        for racer in racers:
            racer.start()
        start.wait(60)
        found = dict(answers.get(timeout=60) for _ in racers)
        for racer in racers:
            racer.join(30)
            assert racer.exitcode == 0
        assert sorted(found[0] + found[1]) == list(range(1, SIZE))  # each size once, and none was left out
        assert not found[0] or not found[1]  # the histories part at the first entry: who came first goes on alone


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
@settings(deadline=None)
def test_nonsense_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse_request(body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"old 3", b"old 03"),
        lambda body: body.replace(b"old 3", b"old -3"),
        lambda body: body.replace(b"old 3", b"old  3"),
        lambda body: body.replace(b"old 3", b"Old 3"),
        lambda body: body.replace(b"old 3", b"old 9999999999999999999"),
        lambda body: body.replace(b"old 3\n", b"old 3\n\n"),
        lambda body: body.replace(b"old 3\n", b"old 3\n" + b"A" * 43 + b"=\n" * 1 + b"AA==\n"),
        lambda body: body.replace(b"old 3\n", b"old 3\n" + (b"A" * 43 + b"=\n") * 64),
        lambda body: body.replace(b"=\n", b"=\r\n"),
        lambda body: body[:-1],
        lambda body: b"\n" + body,
    ],
)
def test_requests_are_written_in_one_way(change) -> None:
    body = request(0, 3, 9)
    assert parse_request(body).old == 3
    with pytest.raises(Refused) as refused:
        parse_request(change(body))
    assert refused.value.status == 400


def test_other_heads_and_other_keys(tmp_path: Path) -> None:
    witness = Witness(tmp_path, "witness.example/w", [KEY])
    other = Signer("another.example", bytes(32))
    thief = Signer(SIGNER.name, bytes([5]) * 32)
    for signer, status in ((other, 404), (thief, 403)):
        with pytest.raises(Refused) as refused:
            witness.add(format_request(0, [], signer.sign_checkpoint(1, HISTORIES[0][0])))
        assert refused.value.status == status
    wrong = SIGNER.sign_checkpoint(1, HISTORIES[0][0]).replace(SIGNER.name + "\n1\n", SIGNER.name + "\n2\n")
    with pytest.raises(Refused) as refused:
        witness.add(format_request(0, [], wrong))
    assert refused.value.status == 403
    extended = SIGNER.sign(checkpoint_body(SIGNER.name, 1, HISTORIES[0][0]) + "an extension\n")
    assert witness.add(format_request(0, [], extended))
