"""A reader's own policy: what a quorum of its witnesses has not cosigned is not believed, by any of the programs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ledger.core.bundled import bundle
from ledger.core.cosign import Cosigner
from ledger.core.merkle import inclusion_path, leaf_hashes, nodes_of
from ledger.core.note import Signer, parse_vkey
from ledger.core.policy import Policy, parse_policy
from ledger.core.quorum import NoQuorum
from ledger.core.receipt import format_receipt
from ledger.core.tiles import parse_bundle
from market.audit.__main__ import main as audit
from market.follow.evidence import Mismatch
from market.follow.follower import PATIENCE, Follower
from market.follow.management.commands import follow as follow_command
from tests.integration.following import Server
from tests.integration.test_audit_command import write
from tests.market_log import ORIGIN, SIGNER

Files = dict[str, bytes]
WITNESSES = {name: Cosigner(f"witness.example/{name}", bytes([100 + at]) * 32) for at, name in enumerate("abcx")}
POLICY = (
    f"log {SIGNER.vkey}\n"
    + "".join(f"witness {name} {WITNESSES[name].key}\n" for name in "abc")
    + "group two 2 a b c\nquorum two\n"
)
AT_S = 1_780_000_000
DATE = "2026-05-28T20:26:40Z"


def cosigned(note: bytes, names: str) -> bytes:
    body = note.decode().split("\n\n")[0] + "\n"
    return note + "".join(WITNESSES[name].cosign(body, AT_S) for name in names).encode()


def bent(note: bytes) -> bytes:
    """Return a note whose last line names a witness and does not fit: dated one second later."""
    head, _, encoded = note.decode().removesuffix("\n").rpartition(" ")
    data = bytearray(base64.b64decode(encoded))
    data[11] ^= 1
    return f"{head} {base64.b64encode(data).decode()}\n".encode()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    path.write_text(POLICY)
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_command, "BACKOFF_S", (0.0,))


# --- the four programs: each returns "" or what it says against the log, and what it says of it -------------------------
def by_verify_ledger(source: Path, policy: Path, *_: object) -> tuple[str, str]:
    out = StringIO()
    try:
        call_command("verify_ledger", str(source), policy=str(policy), stdout=out)
    except CommandError as error:
        return str(error), ""
    assert "(given with --policy)" in out.getvalue()
    return "", out.getvalue()


def by_audit(source: Path, policy: Path, capsys: pytest.CaptureFixture[str], jobs: int = 1) -> tuple[str, str]:
    code = audit([str(source), "--policy", str(policy), "--jobs", str(jobs)])
    out, err = capsys.readouterr()
    assert (code, bool(err)) in ((0, False), (2, True))
    return err, out


def by_audit_beside(source: Path, policy: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    return by_audit(source, policy, capsys, 2)


def by_follow(source: Path, policy: Path, *_: object) -> tuple[str, str]:
    out, mirror = StringIO(), policy.parent / "mirror"
    try:
        call_command("follow", str(source), policy=str(policy), folder=mirror, once=True, stdout=out, stderr=StringIO())
    except CommandError as error:
        assert error.returncode == 2 and not (mirror / "checkpoint").exists()
        return str(error), ""
    assert not by_verify_ledger(mirror, policy)[0], "the copy has what it takes"
    return "", out.getvalue()


def by_check_receipt(source: Path, policy: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    leaves = [
        leaf
        for path in sorted((source / "tile/entries").rglob("*"))
        if path.is_file()
        for leaf in parse_bundle(path.read_bytes())
    ]
    note = (source / "checkpoint").read_bytes()
    size = int(note.split(b"\n")[1])
    file = policy.parent / "receipt.tlog-proof"
    path = inclusion_path(40, size, nodes_of(leaf_hashes(leaves[:size])))
    file.write_text(format_receipt(40, path, note.decode(), bundle(leaves[40])))
    try:
        call_command("check_receipt", str(file), policy=str(policy))
    except CommandError as error:
        return str(error), ""
    return "", capsys.readouterr().out


PROGRAMS = [by_verify_ledger, by_audit, by_audit_beside, by_follow, by_check_receipt]
Program = Callable[..., tuple[str, str]]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("names", "enough"), [("ac", True), ("abc", True), ("", False), ("b", False), ("bx", False)])
def test_only_a_quorum_of_the_readers_own_policy_counts(
    days: list[Files], tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str], program: Program, names: str,
    enough: bool,
) -> None:  # fmt: skip
    files = days[0] | {"checkpoint": cosigned(days[0]["checkpoint"], names)}
    against, said = program(write(tmp_path / "log", files), policy, capsys)
    if enough:
        assert against == ""
        if program is not by_follow:
            assert f"witnessed by {', '.join(f'witness.example/{name} ({DATE})' for name in names)}" in said
    else:
        who = {"": "no witness of the policy", "b": "b", "bx": "b"}[names]
        assert f"to be cosigned by a quorum (two), was by {who}" in against


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_cosignature_that_does_not_fit_is_none(
    days: list[Files], tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str], program: Program
) -> None:
    files = days[0] | {"checkpoint": bent(cosigned(days[0]["checkpoint"], "abc"))}
    against, _ = program(write(tmp_path / "log", files), policy, capsys)
    assert "the cosignature by witness.example/c" in against and "does not fit" in against


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_quorum_does_not_stand_for_the_logs_own_key(
    days: list[Files], tmp_path: Path, capsys: pytest.CaptureFixture[str], program: Program
) -> None:
    """Witnesses that were asked about a log of this name under another key say nothing about this one."""
    policy = tmp_path / "policy"
    policy.write_text(POLICY.replace(SIGNER.vkey, Signer(ORIGIN, bytes([9]) * 32).vkey))
    source = write(tmp_path / "log", days[0] | {"checkpoint": cosigned(days[0]["checkpoint"], "ab")})
    if program is by_follow:
        with pytest.raises(CommandError, match="expected a signature by"):
            call_command("follow", str(source), policy=str(policy), folder=tmp_path / "mirror", once=True)
    elif program in (by_audit, by_audit_beside):
        assert audit([str(source), "--policy", str(policy)]) == 1
        assert "checkpoint: expected a signature by " in capsys.readouterr().err
    else:
        assert "expected a signature by " in program(source, policy, capsys)[0]


@pytest.mark.parametrize("program", PROGRAMS[:-1])
def test_the_newest_head_with_a_quorum_is_taken_where_the_newest_has_none_yet(
    days: list[Files], tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str], program: Program
) -> None:
    size = int(days[0]["checkpoint"].split(b"\n")[1])
    files = days[0] | days[1] | {"checkpoint": cosigned(days[1]["checkpoint"], "a")}
    source = write(tmp_path / "log", files | {"witnessed": cosigned(days[0]["checkpoint"], "bc")})
    against, said = program(source, policy, capsys)
    assert against == ""
    assert f"{size} entries" in said or f"entries {size}," in said
    (source / "witnessed").write_bytes(cosigned(days[0]["checkpoint"], "x"))
    (tmp_path / "mirror").rename(tmp_path / "other") if program is by_follow else None
    assert "witnessed: expected the checkpoint at" in program(source, policy, capsys)[0]


def test_a_policy_that_asks_for_nobody_and_one_that_cannot_be_read(
    days: list[Files], tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "log", days[0])
    policy.write_text(POLICY.replace("quorum two", "quorum none"))
    for program in PROGRAMS:
        assert program(source, policy, capsys)[0] == ""
    policy.write_text("quorum two\n")
    for program in PROGRAMS:
        (tmp_path / "mirror" / "checkpoint").unlink(missing_ok=True)
        assert "policy: line 1: expected the name of a witness" in program(source, policy, capsys)[0]
    file = tmp_path / "receipt.tlog-proof"
    with pytest.raises(CommandError, match="expected a key to trust"):
        call_command("check_receipt", str(file))


# --- what was seen before -----------------------------------------------------------------------------------------------
def read(text: str = POLICY) -> Policy:
    return parse_policy(text.encode())


def test_a_follower_waits_for_the_quorum_as_long_as_it_takes(days: list[Files], tmp_path: Path) -> None:
    server = Server(days[0] | {"checkpoint": cosigned(days[0]["checkpoint"], "ab")})
    one = Follower(tmp_path / "mirror", server, [parse_vkey(SIGNER.vkey)], "", read())
    try:
        assert one.step() is True
        server.files = days[0] | days[1]
        for _ in range(2 * PATIENCE):  # witnesses may be away for days: that is no mismatch
            with pytest.raises(NoQuorum):
                one.step()
        server.files["witnessed"] = cosigned(days[0]["checkpoint"], "ab")
        assert one.step() is False
        server.files["checkpoint"] = cosigned(days[1]["checkpoint"], "bc")
        assert one.step() is True
        server.files["checkpoint"] = days[2]["checkpoint"]
        for _ in range(2 * PATIENCE):  # the policy's quorum is behind what is here: no mismatch either
            with pytest.raises(NoQuorum, match="no quorum yet"):
                one.step()
        fork = SIGNER.sign_checkpoint(int(days[0]["checkpoint"].split(b"\n")[1]), bytes(32)).encode()
        server.files["witnessed"] = cosigned(fork, "ab")
        with pytest.raises(Mismatch, match="another history"):
            one.step()
    finally:
        one.close()


def test_an_audit_that_knows_more_than_the_quorum_does_not_call_the_log_wrong(
    days: list[Files], tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "log", days[0] | days[1])
    kept, position = source / "checkpoint", tmp_path / "position"
    assert audit([str(source), "--resume", str(position)]) == 0
    capsys.readouterr()
    (source / "witnessed").write_bytes(cosigned(days[0]["checkpoint"], "ab"))
    for arguments, said in (
        (["--resume", str(position)], "were judged before"),
        (["--from-checkpoint", str(kept)], "no quorum has cosigned more than "),
    ):
        assert audit([str(source), "--policy", str(policy), *arguments]) == 2
        assert said in capsys.readouterr().err
    # A log that has lost its end is wrong, whoever has cosigned.
    longer = tmp_path / "longer"
    longer.write_bytes(days[2]["checkpoint"])
    assert audit([str(source), "--policy", str(policy), "--from-checkpoint", str(longer)]) == 1
    assert "expected a log of at least" in capsys.readouterr().err
