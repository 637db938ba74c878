"""``manage.py follow``: a copy that is verified before it is written, a market played along, evidence when one is off."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command

from ledger import mirror as mirrors
from ledger.core.note import Signer, parse_vkey
from ledger.core.source import Missing
from ledger.core.verify import verify_log
from ledger.files import FolderSource, SourceFailed
from market.audit.__main__ import main as audit
from market.engine import commands as c
from market.engine.engine import Engine
from market.engine.replay import replay
from market.follow import evidence, follower
from market.follow.evidence import Mismatch
from market.follow.follower import NEWEST, PATIENCE, Follower, Unusable, Withheld
from market.follow.management.commands import follow as command
from market.follow.model import Model, listed
from market.settlement.rules import Metered
from tests.integration.test_audit_command import a_longer_day, write
from tests.market_log import SIGNER, MarketLog, lie
from tests.unit.audit_market import AFTER, Town, a_day, of_type

VKEYS = [parse_vkey(SIGNER.vkey)]


class Server:
    """Serves a log that its test changes; counts what was asked for, and fails when told."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.asked: list[str] = []
        self.fail_at = -1

    def __call__(self, path: str) -> bytes:
        self.asked.append(path)
        if len(self.asked) - 1 == self.fail_at:
            raise SourceFailed("the line is cut")
        if path not in self.files:
            raise Missing(path, "404")
        return self.files[path]


@pytest.fixture(scope="module")
def days() -> list[dict[str, bytes]]:
    """One log at three times of its life: in one bundle, in two, in four."""
    return [a_longer_day(blocks).files() for blocks in (2, 9, 28)]


@pytest.fixture(scope="module")
def day() -> Town:
    return a_longer_day()


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Follower]]:
    """Return what makes a follower; all of them are closed in the end."""
    made: list[Follower] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def make(source: Any, folder: Path | None = None, vkeys: Any = VKEYS, snapshot: str = "") -> Follower:
        one = Follower(folder or tmp_path / "mirror", source, list(vkeys), snapshot)
        made.append(one)
        return one

    yield make
    for one in made:
        try:
            one.close()
        except (OSError, sqlite3.ProgrammingError):
            continue


def fresh() -> Path:
    """Return a folder that nobody has used."""
    return Path(tempfile.mkdtemp(prefix="follow-")) / "mirror"


def state(one: Follower) -> str:
    assert one.engine is not None
    return one.engine.state_hash()


def copied(folder: Path) -> dict[str, bytes]:
    """Return the ledger's files of a mirror."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".", "model.sqlite3"))
    }


def dump_at(log: MarketLog, seq: int) -> bytes:
    """Return the state of a market after its first ``seq`` entries."""
    engine = Engine()
    rows = {seq: list(map(orjson.loads, found)) for seq, found in log.rows.items()}
    replay(engine, log.entries[:seq], lambda number: rows[number])
    return engine.dump()


def test_a_log_that_grows_is_copied_byte_by_byte_and_played_along(
    days: list[dict[str, bytes]], day: Town, followed: Callable[..., Follower], tmp_path: Path
) -> None:
    server = Server(days[0])
    one = followed(server)
    for files in days:
        server.files = files
        assert one.step() is True
        assert copied(one.mirror.folder) == files
        assert one.step() is False
    assert state(one) == day.engine.state_hash()
    one.close()
    assert verify_log(FolderSource(tmp_path / "mirror"), VKEYS).size == len(day.entries)
    assert audit([str(tmp_path / "mirror"), "--vkey", SIGNER.vkey, "--jobs", "1"]) == 0


def test_following_asks_for_what_is_new_only(days: list[dict[str, bytes]], followed: Callable[..., Follower]) -> None:
    server = Server(days[1])
    one = followed(server)
    one.step()
    asked = len(server.asked)
    server.files = days[2]
    one.step()
    bundles = len([path for path in days[2] if path.startswith("tile/entries/")])
    assert len(server.asked) - asked <= bundles + 5
    assert len(server.asked) == len(set(server.asked)) + server.asked.count("checkpoint") - 1


def test_a_snapshot_and_the_first_entry_lead_to_the_same_state(
    days: list[dict[str, bytes]], day: Town, followed: Callable[..., Follower], tmp_path: Path
) -> None:
    entry = of_type(day.entries, "snapshot")
    dump = dump_at(day, entry["seq"])
    file = tmp_path / "snapshot"
    file.write_bytes(dump)
    whole = followed(Server(days[2]))
    whole.step()
    path = f"snapshot/{entry['sha256']}"
    for number, (given, files) in enumerate(((str(file), {}), (NEWEST, {path: dump}), (NEWEST, {}))):
        server = Server(days[0] | files)
        one = followed(server, tmp_path / f"mirror {number}", snapshot=given)
        seen: list[Any] = []
        one.model.take = seen.append  # type: ignore[method-assign]
        one.step()
        if files or given != NEWEST:
            assert seen[0].seq == entry["seq"] > 0  # nothing before it was played
        else:
            assert seen[0].seq == 0
        server.files = days[2] | files
        one.step()
        assert state(one) == state(whole) == day.engine.state_hash()
        assert copied(one.mirror.folder) == days[2]


def test_a_settlement_after_a_snapshot_is_judged_by_the_readings_before_it(
    followed: Callable[..., Follower], tmp_path: Path
) -> None:
    def town() -> Town:
        town = a_day(settled=False)
        town.due(town.at_ms + 60 * 60_000)
        town.readings("2026-06-06T10:15Z", "LV1", {town.alice: (0, 900), town.charlie: (50, 200)})
        town.readings("2026-06-06T10:15Z", "LV2", {town.bob: (1_250, 0)})
        town.snapshot()
        town.seal()
        return town

    def settled(alice_wh: int) -> Town:
        log = town()
        metered = {log.alice: Metered(0, alice_wh, "measured"), log.charlie: Metered(50, 200, "measured")}
        log.settle("2026-06-06T10:15Z", "LV1", metered)
        log.settle("2026-06-06T10:15Z", "LV2", {log.bob: Metered(1_250, 0, "measured")})
        log.seal()
        return log

    log = settled(900)
    entry = of_type(log.entries, "snapshot", -1)
    file = {f"snapshot/{entry['sha256']}": dump_at(log, entry["seq"])}
    one = followed(Server(log.files() | file), snapshot=NEWEST)
    one.step()
    assert state(one) == log.engine.state_hash()
    other = followed(Server(settled(901).files() | file), tmp_path / "other", snapshot=NEWEST)
    with pytest.raises(
        Mismatch, match=r"entry \d+ \(settle, .*row \d+ \(account \d+\): export_wh: expected 900, was 901"
    ):
        other.step()


def test_a_snapshot_the_ledger_does_not_commit_to_is_refused(
    days: list[dict[str, bytes]], day: Town, followed: Callable[..., Follower], tmp_path: Path
) -> None:
    entry = of_type(day.entries, "snapshot")
    engine = Engine.load(dump_at(day, entry["seq"]))
    engine.accounts[day.alice].cash_e7 += 1
    file = tmp_path / "snapshot"
    file.write_bytes(engine.dump())
    with pytest.raises(Mismatch, match="expected a snapshot that entry"):
        followed(Server(days[0]), snapshot=str(file)).step()
    served = {f"snapshot/{entry['sha256']}": engine.dump()}
    with pytest.raises(Mismatch, match="expected bytes with the SHA-256") as caught:
        followed(Server(days[0] | served), tmp_path / "other", snapshot=NEWEST).step()
    assert caught.value.files == served
    file.write_bytes(b"nothing")
    with pytest.raises(Unusable):
        followed(Server(days[0]), tmp_path / "third", snapshot=str(file)).step()


# --- stopping and going on ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


def test_killed_at_any_write_it_goes_on_where_it_must(
    days: list[dict[str, bytes]], day: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 0
    put, commit = mirrors.put_file, Model.commit

    def die_before() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    def dying_put(folder: Path, path: str, data: bytes, *more: Any) -> None:
        die_before()
        put(folder, path, data, *more)
        die_before()

    def dying_commit(self: Model, *arguments: Any) -> None:
        die_before()
        commit(self, *arguments)
        die_before()

    monkeypatch.setattr(mirrors, "put_file", dying_put)
    monkeypatch.setattr(Model, "commit", dying_commit)
    monkeypatch.setattr(follower, "MARK_EVERY", 100)
    deaths = 0
    for at in range(1, 200):
        folder = tmp_path / str(at)
        server = Server(days[1])
        one = Follower(folder, server, VKEYS)
        one.step()
        server.files, left, died = days[2], at, False
        try:
            one.step()
        except Killed:
            died = True
        left = 0
        if at % 2:
            one.model.rollback()
            one.model.size = 0  # as a process that is gone: it keeps nothing more
            one._judge = None
            one.close()
        else:
            one.close()  # as one that was told to stop
        deaths += died
        two = Follower(folder, server, VKEYS)
        two.step()
        assert state(two) == day.engine.state_hash(), at
        assert copied(folder) == days[2], at
        assert shown(folder) == shown(tmp_path / "1"), at
        two.close()
        if not died:
            break
    assert deaths >= 15 and not died


def shown(folder: Path) -> list[Any]:
    """Return the whole read model."""
    return [listed(folder, what, {}, 10_000) for what in sorted(command.LISTS)]


def test_a_restart_replays_only_what_came_after_the_state_it_kept(
    days: list[dict[str, bytes]], day: Town, followed: Callable[..., Follower]
) -> None:
    server = Server(days[1])
    one = followed(server)
    one.step()
    one.close()
    two = followed(server)
    begun = two.engine
    assert begun is not None and begun.seq == len(a_longer_day(9).entries)
    server.files = days[2]
    two.step()
    assert state(two) == day.engine.state_hash()
    model = shown(two.mirror.folder)
    two.close()
    for file in two.mirror.folder.glob("model.sqlite3*"):
        file.unlink()
    server.asked.clear()
    three = followed(server)
    three.step()
    assert (state(three), shown(two.mirror.folder), server.asked) == (state(two), model, ["checkpoint"])


def test_a_line_that_is_cut_changes_nothing(
    days: list[dict[str, bytes]], day: Town, followed: Callable[..., Follower]
) -> None:
    server = Server(days[1])
    one = followed(server)
    one.step()
    before = copied(one.mirror.folder)["checkpoint"]
    server.files, cuts = days[2], 0
    while True:
        server.asked.clear()
        server.fail_at = cuts
        try:
            one.step()
        except SourceFailed:
            assert copied(one.mirror.folder)["checkpoint"] == before
            cuts += 1
        else:
            break
    assert cuts > 4
    assert copied(one.mirror.folder) == days[2]
    assert state(one) == day.engine.state_hash()


def test_two_followers_never_share_a_folder(days: list[dict[str, bytes]], followed: Callable[..., Follower]) -> None:
    followed(Server(days[0]))
    with pytest.raises(Unusable, match="another follower works here"):
        followed(Server(days[0]))


# --- mismatches ----------------------------------------------------------------------------------------------------------


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


# --- the read model and the command ------------------------------------------------------------------------------------


def test_the_read_model_says_what_the_engine_says(
    days: list[dict[str, bytes]], day: Town, followed: Callable[..., Follower]
) -> None:
    server = Server(days[0])
    one = followed(server)
    one.step()
    server.files = days[2]
    one.step()
    folder, engine = one.mirror.folder, day.engine
    accounts = {row[0]: tuple(row[4:7]) for row in listed(folder, "accounts", {}, 1_000)[1]}
    assert accounts == {a.index: (a.cash_e7, a.held_e7, a.arrears_e7) for a in engine.accounts}
    orders = {row[0]: row for row in listed(folder, "orders", {}, 10_000)[1]}
    assert orders.keys() == {entry["seq"] for entry in day.entries if entry["type"] == "order"}
    living = {seq: row[8] for seq, row in orders.items() if row[9] == "open"}
    assert living == {order.id: order.left_wh for order in engine.orders.values()}
    assert {row[9] for row in orders.values()} > {"open", "filled", "cancelled: owner", "cancelled: ioc"}
    trades = list(listed(folder, "trades", {}, 10_000)[1])
    assert [row[0] for row in trades][::-1] == [entry["seq"] for entry in day.entries if entry["type"] == "trade"]
    positions = {(row[0], row[1]): tuple(row[2:5]) for row in listed(folder, "positions", {}, 10_000)[1]}
    for contract in engine.contracts.values():
        for account, tally in contract.tallies.items():
            assert positions[contract.name, account] == (tally.bought_wh, tally.sold_wh, tally.paid_e7)
    contracts = {row[0]: row[1] for row in listed(folder, "contracts", {}, 100)[1]}
    assert contracts["2026-06-06T10:15Z"] == "settled"
    assert {name: contracts[name] for name in engine.contracts} == {
        name: found.state for name, found in engine.contracts.items()
    }


def test_the_command_follows_shows_and_says_who_signed(days: list[dict[str, bytes]], tmp_path: Path) -> None:
    source, folder = write(tmp_path / "log", days[2]), tmp_path / "mirror"
    with pytest.raises(CommandError, match="nothing was followed here yet"):
        call_command("follow", show="trades", folder=folder)
    out = StringIO()
    call_command("follow", str(source), folder=folder, once=True, stdout=out)
    assert "verified and replayed" in out.getvalue()
    out = StringIO()
    call_command("follow", show="trades", folder=folder, contract=AFTER, limit=3, stdout=out)
    head, *rows = out.getvalue().splitlines()
    assert head.startswith("trade\tat_ms\tcontract\tbuyer")
    assert len(rows) == 3 and all(row.split("\t")[2] == AFTER for row in rows)
    out = StringIO()
    call_command("follow", show="orders", folder=folder, account=4, limit=5, stdout=out)
    assert {row.split("\t")[2] for row in out.getvalue().splitlines()[1:]} == {"4"}


def test_trouble_is_no_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "BACKOFF_S", (0.0,))
    err = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("follow", "http://127.0.0.1:9", folder=tmp_path / "mirror", once=True, stderr=err)
    assert caught.value.returncode == 2
    assert err.getvalue().count("trying again") == command.ONCE_ATTEMPTS - 1
    assert not (tmp_path / "mirror" / evidence.FOLDER).exists()
