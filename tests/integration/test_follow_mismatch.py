"""Followers meet logs that are not what they must be: named, kept as evidence, and never taken into the copy."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ledger.core.note import Signer, parse_vkey
from market.engine import commands as c
from market.follow import evidence
from market.follow.evidence import Mismatch
from market.follow.follower import PATIENCE, Follower, Withheld
from tests.integration.following import VKEYS, Server, copied, fresh
from tests.integration.test_audit_command import a_longer_day, write
from tests.market_log import SIGNER, lie
from tests.unit.audit_market import AFTER, Town, a_day, of_type

pytestmark = pytest.mark.once


def changed_day() -> Town:
    """The same day, but its last order is another's: another history from the middle on."""
    town = a_longer_day(9)
    town.order(town.bob, c.BUY, 100, 10, AFTER)
    town.seal()
    return town


def test_another_history_is_never_taken(days: list[dict[str, bytes]], followed: Callable[..., Follower]) -> None:
    fork = a_longer_day(9)
    fork.entries[-2] = {**fork.entries[-2], "salt": "0" * 32}
    for files in (fork.files(), changed_day().files()):
        server = Server(days[2])
        one = followed(server, fresh())
        one.step()
        before = copied(one.mirror.folder)
        server.files = files
        with pytest.raises(Mismatch, match="another history"):
            one.step()
        assert copied(one.mirror.folder) == before
    server = Server(a_longer_day(9).files())
    one = followed(server, fresh())
    one.step()
    longer = a_longer_day(28)
    longer.entries[100] = {**longer.entries[100], "salt": "0" * 32}
    server.files = longer.files()
    with pytest.raises(Mismatch, match="checkpoint: "):
        one.step()


def test_an_older_head_is_borne_for_a_while(days: list[dict[str, bytes]], followed: Callable[..., Follower]) -> None:
    server = Server(days[1])
    one = followed(server)
    one.step()
    server.files = days[0]
    for _ in range(PATIENCE - 1):
        with pytest.raises(Withheld, match="expected at least"):
            one.step()
    server.files = days[1]
    assert one.step() is False
    server.files = days[0]
    for _ in range(PATIENCE - 1):
        with pytest.raises(Withheld):
            one.step()
    with pytest.raises(Mismatch, match="5 times in a row"):
        one.step()


def test_a_file_that_is_withheld_is_waited_for(days: list[dict[str, bytes]], followed: Callable[..., Follower]) -> None:
    short = dict(days[2])
    del short["tile/entries/001"]
    server = Server(short)
    one = followed(server)
    with pytest.raises(Withheld, match="tile/entries/001 is missing"):
        one.step()
    server.files = days[2]
    assert one.step() is True


def test_rows_that_are_withheld_are_waited_for_and_nothing_is_accepted_without_them(
    days: list[dict[str, bytes]], followed: Callable[..., Follower]
) -> None:
    rows = [path for path in days[2] if path.startswith("rows/")]
    assert len(rows) == 4, "of readings and of settlements"
    for path in rows:
        server = Server({name: data for name, data in days[2].items() if name != path})
        one = followed(server, fresh())
        for _ in range(PATIENCE - 1):
            with pytest.raises(Withheld, match=f"{path} is missing"):
                one.step()
        assert "checkpoint" not in copied(one.mirror.folder)
        with pytest.raises(Mismatch, match=f"{path} is missing.*, 5 times in a row"):
            one.step()
        server.files = days[2]
        assert one.step() is True


def test_any_flipped_byte_is_found_before_anything_of_it_is_written(
    days: list[dict[str, bytes]], tmp_path: Path
) -> None:
    chance = random.Random(4)
    files = days[2]
    for number in range(300):
        path = chance.choice(sorted(files))
        data = bytearray(files[path])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        server = Server({**files, path: bytes(data)})
        folder = tmp_path / str(number)
        one = Follower(folder, server, VKEYS)
        try:
            one.step()
        except (Mismatch, Withheld):
            assert path in server.asked
            assert "checkpoint" not in copied(folder)
        else:
            assert path not in server.asked  # full hash tiles follow from the entries
            assert copied(folder) == files
        assert all(files[name] == found for name, found in copied(folder).items())
        one.close()


def test_an_entry_against_the_rules_is_named_and_its_bytes_are_kept(day: Town, tmp_path: Path) -> None:
    trade = of_type(day.entries, "trade", 30)
    source = write(tmp_path / "log", lie(day, lambda entries, rows: entries[trade["seq"]].update(energy_wh=9)))
    folder = tmp_path / "mirror"
    with pytest.raises(CommandError, match=rf"entry {trade['seq']} \(trade, .*energy_wh: expected 10, was 9") as caught:
        call_command("follow", str(source), folder=folder, vkey=[SIGNER.vkey], once=True)
    assert caught.value.returncode == 1
    (case,) = (folder / evidence.FOLDER).iterdir()
    kept = {path.name: path.read_bytes() for path in case.iterdir()}
    assert kept["served-checkpoint"] == (source / "checkpoint").read_bytes()
    assert kept["kept-checkpoint"] == b""
    assert b"energy_wh: expected 10, was 9" in kept["what.txt"]
    bundle = f"tile/entries/{trade['seq'] // 256:03d}"
    assert kept[f"offending-{bundle.replace('/', '_')}"] == (source / bundle).read_bytes()
    assert not (folder / "checkpoint").exists()
    with pytest.raises(CommandError):
        call_command("follow", str(source), folder=folder, vkey=[SIGNER.vkey], once=True)
    assert len(list((folder / evidence.FOLDER).iterdir())) == 1  # the same case is kept once


def test_changed_rows_rulebooks_and_signatures_are_named(
    days: list[dict[str, bytes]], followed: Callable[..., Follower]
) -> None:
    rows = next(path for path in days[2] if path.startswith("rows/"))
    rulebook = next(path for path in days[2] if path.startswith("rulebook/"))
    for path in (rows, rulebook):
        with pytest.raises(Mismatch) as caught:
            followed(Server({**days[2], path: days[2][path] + b"{}\n"}), fresh()).step()
        assert (caught.value.place, list(caught.value.files)) == (path, [path])
    other = Signer(SIGNER.name, bytes(32))
    with pytest.raises(Mismatch, match="sign"):
        followed(Server(days[2]), fresh(), [parse_vkey(other.vkey)]).step()
    log = a_day()
    log.signer = other
    with pytest.raises(Mismatch, match="sign"):  # a key on first use is the one in the first entry
        followed(Server(log.files()), fresh(), []).step()
