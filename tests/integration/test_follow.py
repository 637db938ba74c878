"""``manage.py follow``: a copy that is verified before it is written, a market played along, evidence when one is off."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ledger import mirror as mirrors
from ledger.core.keyring import key_statement
from ledger.core.note import Signer, parse_checkpoint, parse_note
from ledger.core.verify import verify_log
from ledger.files import FolderSource, SourceFailed
from market.audit.__main__ import main as audit
from market.engine import commands as c
from market.engine.engine import Engine
from market.follow import evidence, follower
from market.follow.evidence import Mismatch
from market.follow.follower import NEWEST, Follower, Unusable
from market.follow.management.commands import follow as command
from market.follow.model import Model, listed
from market.settlement.rules import Metered
from tests.integration.following import VKEYS, Server, copied, dump_at, state
from tests.integration.test_audit_command import a_longer_day, write
from tests.market_log import ORIGIN, SIGNER
from tests.unit.audit_market import AFTER, Town, a_day, of_type
from tests.unit.test_audit_signatures import MINE, OTHER, SigningTown


def test_a_log_that_grows_is_copied_byte_by_byte_and_played_along(
    days: list[dict[str, bytes]], day: Town, followed: Callable[..., Follower], tmp_path: Path
) -> None:
    server = Server(days[0])
    one = followed(server)
    for files in days:
        server.files = files
        assert one.step() is True
        assert copied(one.mirror.folder) == files
        assert (one.mirror.folder / "log.vkey").read_text() == f"{SIGNER.vkey}\n"  # as an export has it
        assert one.step() is False
    assert state(one) == day.engine.state_hash()
    one.close()
    assert verify_log(FolderSource(tmp_path / "mirror"), VKEYS).size == len(day.entries)
    assert audit([str(tmp_path / "mirror"), "--vkey", SIGNER.vkey, "--jobs", "1"]) == 0


def test_the_copy_names_the_key_that_signs_it_now(followed: Callable[..., Follower]) -> None:
    town, new = Town(), Signer(ORIGIN, bytes([5]) * 32)
    town.seal()
    server = Server(town.files())
    one = followed(server, vkeys=[])
    file = one.mirror.folder / "log.vkey"
    one.step()
    assert file.read_text() == f"{SIGNER.vkey}\n"
    statement = key_statement(ORIGIN, new.vkey)
    signatures = [base64.b64encode(signer.sign_raw(statement)).decode() for signer in (new, SIGNER)]
    for command_, line in ((c.RegisterKey("add", new.vkey, *signatures), 2), (c.RegisterKey("revoke", SIGNER.vkey), 1)):
        town.do(command_)
        town.seal()
        server.files = town.files()
        head = parse_checkpoint(parse_note(server.files["checkpoint"]).text)
        by_new = new.sign_checkpoint(head.size, head.root).encode()
        both = server.files["checkpoint"] + by_new.split(b"\n\n")[1]
        server.files["checkpoint"] = both if line == 2 else by_new
        one.step()
        assert file.read_text() == f"{new.vkey}\n"


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


def test_keys_after_a_snapshot_are_judged_by_the_name_of_the_log(followed: Callable[..., Follower]) -> None:
    log = SigningTown()
    log.snapshot()
    log.do(log.change(log.bob, OTHER, by=MINE))
    log.seal()
    entry = of_type(log.entries, "snapshot")
    file = {f"snapshot/{entry['sha256']}": dump_at(log, entry["seq"])}
    one = followed(Server(log.files() | file), snapshot=NEWEST)
    one.step()
    assert state(one) == log.engine.state_hash()


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
        assert (folder / "log.vkey").read_text() == f"{SIGNER.vkey}\n"
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
