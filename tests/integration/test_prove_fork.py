"""`manage.py prove_fork`: what two signed heads prove, and that the evidence holds for those who were not there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import keys
from ledger.core.cosign import Cosigner
from ledger.core.forks import Unusable, compare, format_evidence, judge, parse_evidence
from ledger.core.note import Signer, parse_vkey
from tests.unit.ledger_logs import ORIGIN, SEED, LogMaker, source

KEY = parse_vkey(Signer(ORIGIN, SEED).vkey)
STRANGER = parse_vkey(Signer(ORIGIN, bytes(32)).vkey)


@pytest.fixture(autouse=True)
def no_key_here(tmp_path: Path) -> Iterator[None]:
    with override_settings(LEDGER_KEY_FILE=tmp_path / "keys" / "key", LEDGER_ORIGIN=ORIGIN, LEDGER_SIGNER=""):
        yield


def history(*prices: int) -> LogMaker:
    """Return a log with a sealed block for each price: two that share their first prices share these blocks."""
    log = LogMaker()
    log.found()
    for price in prices:
        for _ in range(7):
            log.add("order", account=1, price_e4=price)
        log.seal()
    return log


def export(log: LogMaker, folder: Path) -> Path:
    for name, data in log.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def run(*arguments: object, **options: object) -> tuple[int, str]:
    out = StringIO()
    options.setdefault("vkey", [str(KEY)])
    try:
        call_command("prove_fork", *map(str, arguments), stdout=out, **options)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


PRICES = st.lists(st.integers(1, 2), min_size=1, max_size=50)


@given(PRICES, PRICES)
@settings(max_examples=120, deadline=None)
def test_the_verdict_is_what_the_histories_are(one: list[int], other: list[int]) -> None:
    a, b = history(*one), history(*other)
    shared = one[: len(other)] == other[: len(one)]
    files_a, files_b = a.files(), b.files()
    verdict, evidence = compare(files_a["checkpoint"], files_b["checkpoint"], [KEY], source(files_a), source(files_b))
    assert verdict.forked is not shared
    again = parse_evidence(format_evidence(evidence))
    assert again == evidence
    assert judge(again, [KEY]) == judge(again) == verdict
    with pytest.raises(Unusable):
        judge(again, [STRANGER])


@given(PRICES, PRICES, st.data())
@settings(max_examples=100, deadline=None)
def test_no_change_of_the_evidence_makes_a_fork_of_one_history(
    one: list[int], more: list[int], data: st.DataObject
) -> None:
    """Whatever is altered in evidence of consistency, it never becomes evidence of a fork."""
    a, b = history(*one).files(), history(*one, *more).files()
    _, evidence = compare(a["checkpoint"], b["checkpoint"], [KEY], source(a), source(b))
    kind = data.draw(st.sampled_from(("root", "proof", "drop", "swap", "byte")))
    changed = evidence
    if kind == "root":
        changed = evidence._replace(root=data.draw(st.binary(min_size=32, max_size=32)))
    elif kind == "proof" and evidence.proof:
        at = data.draw(st.integers(0, len(evidence.proof) - 1))
        proof = list(evidence.proof)
        proof[at] = data.draw(st.binary(min_size=32, max_size=32))
        changed = evidence._replace(proof=tuple(proof))
    elif kind == "drop":
        changed = evidence._replace(proof=evidence.proof[1:])
    elif kind == "swap":
        changed = evidence._replace(smaller=evidence.larger, larger=evidence.smaller)
    else:
        raw = bytearray(format_evidence(evidence))
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        try:
            changed = parse_evidence(bytes(raw))
        except Unusable:
            return
    with contextlib.suppress(Unusable):
        assert not judge(changed, [KEY]).forked


def test_two_folders(tmp_path: Path) -> None:
    a, b = export(history(1, 1, 1), tmp_path / "a"), export(history(1, 2, 1, 1), tmp_path / "b")
    longer = export(history(1, 1, 1, 1), tmp_path / "longer")
    code, said = run(a, longer)
    assert (code, "ONE HISTORY" in said) == (0, True)
    for pair in ((a, b), (b, a)):
        out = tmp_path / "evidence.json"
        code, said = run(*pair, out=out)
        assert (code, "FORK PROVEN" in said) == (1, True)
        assert run(check=out)[0] == 1
        code, said = run(check=out, vkey=[])
        assert (code, str(KEY) in said) == (1, True)
        assert run(check=out, vkey=[str(STRANGER)])[0] == 2
    # A kept checkpoint against a folder.
    kept = tmp_path / "kept"
    kept.write_bytes((a / "checkpoint").read_bytes())
    assert run(kept, b, out=tmp_path / "e")[0] == 1
    assert run(kept, longer)[0] == 0
    assert run(kept, a)[0] == 0
    code, said = run(kept, b / "checkpoint")
    assert (code, "no tiles of the larger one" in said) == (2, True)


def test_two_heads_of_one_size_need_nothing_more(tmp_path: Path) -> None:
    a, b = history(1, 1), history(1, 2)
    (tmp_path / "a").write_bytes(a.files()["checkpoint"])
    (tmp_path / "b").write_bytes(b.files()["checkpoint"])
    witness = Cosigner("witness.example/w", bytes([7]) * 32)
    for name, log in (("ca", a), ("cb", b)):
        note = log.files()["checkpoint"].decode()
        (tmp_path / name).write_text(note + witness.cosign(note.split("\n\n")[0] + "\n", 5))
    policy = tmp_path / "policy"
    policy.write_text(f"witness liar {witness.key}\nquorum liar\n")
    code, said = run(tmp_path / "a", tmp_path / "b", out=tmp_path / "out", policy=policy)
    assert (code, "did not do its work" in said) == (1, False)
    code, said = run(tmp_path / "ca", tmp_path / "cb", out=tmp_path / "out", policy=policy)
    assert (code, "witness liar has cosigned both" in said) == (1, True)
    assert json.loads((tmp_path / "out").read_bytes())["format"] == "sunledger-fork/v1"


def test_what_proves_nothing(tmp_path: Path) -> None:
    a, b = export(history(1), tmp_path / "a"), export(history(1, 2), tmp_path / "b")
    assert run(a)[0] == 2
    assert run(a, tmp_path / "nowhere")[0] == 2
    assert run(a, b, vkey=[str(STRANGER)])[0] == 2
    assert run(a, b, vkey=["x"])[0] == 2
    assert run(a, b, vkey=[])[0] == 2  # no key is kept here, and none was given
    (b / "tile" / "0").rename(b / "tile" / "9")
    assert run(a, b)[0] == 2
    unsigned = tmp_path / "unsigned"
    unsigned.write_bytes(b"sunledger.example/test\n5\nAAAA\n")
    assert run(a, unsigned)[0] == 2
    for text in ("", "[]", "{}", '{"format":"sunledger-fork/v1"}', "x" * 100):
        (tmp_path / "evidence").write_text(text)
        assert run(check=tmp_path / "evidence")[0] == 2
    other = LogMaker(origin="another.example/log")
    other.found()
    other.seal()
    export(other, tmp_path / "other")
    assert run(a, tmp_path / "other", vkey=[str(KEY), other.signer.vkey])[0] == 2


def test_without_a_key_given_the_installations_own_is_taken(tmp_path: Path) -> None:
    from django.conf import settings as django_settings

    path = Path(django_settings.LEDGER_KEY_FILE)
    path.parent.mkdir()
    path.write_text(SEED.hex() + "\n")
    path.chmod(0o600)
    assert keys.verifier_key() == str(KEY)
    a, b = export(history(1), tmp_path / "a"), export(history(1, 2), tmp_path / "b")
    assert run(a, b, vkey=[])[0] == 0
