"""Statements as households download them, held against the ledger: all true ones pass, each changed number is named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pytest
from django.core.management import call_command

from market.audit import statement_file
from market.audit.__main__ import main
from market.engine.commands import SELL, Agree, Propose
from market.exchange import operations as exchange_operations
from market.metering.operations import ReadingIn, record_batches
from market.settlement import statement_files, statement_queries
from market.settlement.operations import adjust_due, finalise_due, settle_due, share_due
from market.settlement.periods import DAY, MONTH, YEAR, Period, period_of
from market.settlement.waiting import DEADLINE_MS
from tests.factories import PARAMS, Clock, Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)

SIXTH = date(2026, 6, 6)
PERIODS = tuple(period_of(kind, SIXTH) for kind in (DAY, MONTH, YEAR)) + (period_of(DAY, date(2026, 6, 7)),)
SUMS = ("import_wh", "export_wh", "bought_wh", "bought_e7", "fee_e7", "topup_wh", "topup_e7", "sold_wh", "sold_e7")
SUMS += ("short_wh", "short_e7", "spill_wh", "spill_e7", "wallet_e7", "bill_e7", "net_e7", "intervals", "estimated")
NUMBERS = ("energy [Wh]", "price [EUR/kWh]", "grid fee [EUR]", "ledger entry", "amount [EUR]", "contained [EUR]")


class Downloaded(NamedTuple):
    """A market's export, and the statements of its homes as they were downloaded."""

    log: Path
    homes: dict[str, int]
    files: dict[tuple[int, str], Path]  # by account and name of the period


def deliver(market: Market, minutes: float) -> None:
    market.clock.advance(minutes=minutes)
    market.member("LV1.2", deposit_e7=0)  # any command makes the timetable follow


def meter(market: Market, contract: str, **homes: tuple[int, ...]) -> None:
    """Record import, export and, of a roof that is metered, what was made and used."""
    batches: dict[str, list[ReadingIn]] = {}
    for name, values in homes.items():
        area = "LV2.1" if name == "charlie" else "LV1.1"
        batches.setdefault(area, []).append(ReadingIn(getattr(market, name), *values))
    record_batches(exchange=market.exchange, contract=contract, batches=batches, now_ms=market.clock.at_ms)


def trade(market: Market, contract: str) -> None:
    """Alice sells 600 and 400 Wh to Charlie across the city, 100 to Bob, and gets a sale to Bob taken back."""
    market.place(market.alice, SELL, "0.2000", 600, contract=contract)
    market.place(market.alice, SELL, "0.2100", 400, contract=contract)
    market.buys(market.charlie, "0.3000", 1_000, contract=contract)
    market.place(market.alice, SELL, "0.2500", 100, contract=contract)
    market.buys(market.bob, "0.2500", 100, contract=contract)
    market.place(market.alice, SELL, "0.2600", 300, contract=contract)
    taken_back = market.buys(market.bob, "0.2600", 300, contract=contract).events[-1]
    exchange_operations.recall_trade(market.exchange, trade=taken_back.seq, reason="error")  # type: ignore[union-attr]


def days(market: Market, *, later: bool) -> None:
    """Half an hour before midnight in Berlin: trades on two days, the last of which wait; ``later``: corrected, shared."""
    first, second, third = (market.contract(ahead) for ahead in (1, 2, 8))
    if later:
        number = market.exchange.call(Propose(market.bob, market.bob, market.charlie, 1_000, first)).events[0].seq
        assert market.exchange.call(Agree(market.charlie, number)).refused is None
    for contract in (first, second, third):
        trade(market, contract)
    deliver(market, 45)
    # Alice is short of what she sold; Bob's roof gives more than it needs; Charlie needs more than he bought.
    meter(market, first, alice=(0, 900), bob=(0, 500, 800, 300), charlie=(1_300, 0))
    meter(market, second, bob=(70, 0), charlie=(950, 0))  # Alice's meter is silent
    market.clock.advance(ms=DEADLINE_MS)
    settle_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    if later:
        assert share_due(exchange=market.exchange) >= 1
        meter(market, first, alice=(0, 1_000), bob=(0, 450, 800, 350), charlie=(1_200, 0))
        meter(market, second, alice=(30, 1_200))
        assert adjust_due(exchange=market.exchange).accounts == 4
        assert share_due(exchange=market.exchange) >= 1


def downloaded(folder: Path, *, later: bool, final: bool = False) -> Downloaded:
    with running_market(Clock("2026-06-06T21:30:00Z")) as market:
        days(market, later=later)
        if final:
            market.clock.advance(minutes=PARAMS.final_after_min + 120)
            market.member("LV1.2", deposit_e7=0)
            assert finalise_due(exchange=market.exchange, now_ms=market.clock.at_ms) >= 2
        homes = {name: getattr(market, name) for name in ("alice", "bob", "charlie")}
        files = {(account, one.name): download(folder, account, one) for account in homes.values() for one in PERIODS}
    call_command("export_ledger", str(folder / "log"), stdout=io.StringIO())
    return Downloaded(folder / "log", homes, files)


def download(folder: Path, account: int, period: Period, *earlier: int) -> Path:
    """Save a statement under the name it is downloaded with; ``earlier``: numbers that the home had before."""
    found = statement_queries.statement([account, *earlier], period)
    answer = statement_files.response(found, "csv", now_ms=0)
    file = folder / "-".join(map(str, (account, *earlier))) / answer["Content-Disposition"].split('"')[1]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(answer.content)
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def audited(capsys: pytest.CaptureFixture[str], found: Downloaded, account: int, *files: Path) -> tuple[int, str, str]:
    options = [option for file in files for option in ("--statement", file)]
    return run(capsys, found.log, "--account", account, *options)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Downloaded]:
    yield downloaded(tmp_path, later=False)


def rows_of(file: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_bytes().decode(), newline="")))


def write(file: Path, rows: list[list[str]]) -> None:
    target = io.StringIO(newline="")
    csv.writer(target).writerows(rows)
    file.write_bytes(target.getvalue().encode())


def changed(text: str) -> str:
    """Return a number that is one more in its last digit."""
    return text[:-1] + str((int(text[-1]) + 1) % 10)


def hold_all(capsys: pytest.CaptureFixture[str], found: Downloaded) -> None:
    """Every statement of every home and period follows from the ledger, and its sums are those the audit writes."""
    for account in found.homes.values():
        files = [file for (number, _), file in found.files.items() if number == account]
        code, out, err = audited(capsys, found, account, *files)
        assert (code, err) == (0, ""), (account, err)
        assert out.count("sums and total") == len(PERIODS)
        assert "account-days recomputed from their entries, days of Europe/Berlin" in out
    target = found.log.parent / "all.jsonl"
    code, out, err = run(capsys, found.log, "--statements", target, "--json", found.log.parent / "verdict.json")
    assert (code, err) == (0, "")
    told = [json.loads(line) for line in target.read_text().splitlines()]
    assert told == sorted(told, key=lambda one: (one["day"], one["account"]))
    assert f"statements {len(told)} account-days recomputed" in out
    assert json.loads((found.log.parent / "verdict.json").read_text())["statement_days"] == len(told)
    for account in found.homes.values():
        product = statement_queries.statement([account], period_of(YEAR, SIXTH)).days
        mine = {date.fromisoformat(one["day"]): one for one in told if one["account"] == account}
        assert mine.keys() == product.keys()
        for day, sums in product.items():
            assert {name: mine[day][name] for name in SUMS} == {name: getattr(sums, name) for name in SUMS}, (
                account,
                day,
            )


def name_all(capsys: pytest.CaptureFixture[str], found: Downloaded, account: int, most: int) -> set[str]:
    """Each number of a day's statement is named when it is another; return the kinds of lines that were tried."""
    file = found.files[account, SIXTH.isoformat()]
    head, *good = rows_of(file)
    tried: set[str] = set()
    for number, row in enumerate(good):
        for column in [at for at, name in enumerate(head) if name in NUMBERS and row[at]]:
            if (row[4], head[column]) == ("own", "energy [Wh]"):
                continue
            bad = [list(one) for one in good]
            bad[number][column] = changed(row[column])
            write(file, [head, *bad])
            code, out, err = audited(capsys, found, account, file)
            assert (code, out) == (1, ""), (row, head[column])
            assert err.startswith(f"{file.name} line {number + 2} ({row[4]}"), err
            if head[column] != "ledger entry":
                assert f"{head[column]}: expected {row[column]}, was {changed(row[column])}" in err
            tried.add(row[4])
        most -= 1
        if not most:
            break
    write(file, [head, *good])
    assert audited(capsys, found, account, file)[0] == 0
    return tried


def test_each_statement_equals_the_audits(plain: Downloaded, capsys: pytest.CaptureFixture[str]) -> None:
    hold_all(capsys, plain)


def test_each_changed_number_is_named(plain: Downloaded, capsys: pytest.CaptureFixture[str]) -> None:
    tried = set().union(*(name_all(capsys, plain, account, 99) for account in plain.homes.values()))
    assert tried == {
        "own", "sold", "bought", "short", "topup", "spill", "included:electricity_tax", "included:vat", "rounding", "total",
    }  # fmt: skip


def test_a_line_more_or_less_is_named(plain: Downloaded, capsys: pytest.CaptureFixture[str]) -> None:
    alice = plain.homes["alice"]
    file = plain.files[alice, SIXTH.isoformat()]
    head, *good = rows_of(file)
    assert [row[4] for row in good[:4]] == ["sold", "sold", "sold", "short"]

    def told(rows: list[list[str]]) -> str:
        write(file, [head, *rows])
        code, out, err = audited(capsys, plain, alice, file)
        assert (code, out) == (1, "")
        return err

    start = "2026-06-06T21:45Z"
    assert f"after line 4: expected the line sold, entry {good[1][8]}, 400 Wh, 0.0840000 in {start}, was none" in told(
        [good[0], *good[2:]]
    )
    assert "line 3 (sold, entry " in told([good[0], *good])
    assert "expected a line that the ledger has in this interval" in told([good[0], *good])
    assert f"before its closing lines: expected the interval {start} of account {alice} (sold, " in told(good[4:])
    assert "line 6 (included:electricity_tax): line: expected rounding" not in told([*good[:4], *good[5:]])
    assert "at its end: expected the line total, was none" in told(good[:-1])
    assert f"line {len(good) + 2} (total): expected nothing after the total" in told([*good, good[-1]])
    moved = [["2026-06-06T21:30:00.000Z", *row[1:]] if row[0] else row for row in good]
    assert "line 2 (sold, entry " in (err := told(moved)) and "expected an interval that the ledger has" in err
    stranger = [[row[0], str(alice + 1), *row[2:]] if row[0] else row for row in good]
    assert f"account: expected {alice} (--account), was {alice + 1}" in told(stranger)
    assert "state: expected settled, was waiting" in told([[*good[0][:2], "waiting", *good[0][3:]], *good[1:]])
    assert "quality: expected measured, was estimated" in told([[*good[0][:3], "estimated", *good[0][4:]], *good[1:]])


def test_a_statement_of_many_trades_has_one_line_for_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement_queries, "MAX_DEALS", 1)
    found = downloaded(tmp_path, later=False)
    month = found.files[found.homes["alice"], "2026-06"]
    code, _, err = audited(capsys, found, found.homes["alice"], month)
    assert (code, "before its closing lines: expected the interval 2026-06-06T23:30Z" in err) == (1, True)
    monkeypatch.setattr(statement_file, "MAX_LISTED", 1)  # the statement has left out what waits and is beyond
    hold_all(capsys, found)
    alice = found.homes["alice"]
    file = found.files[alice, SIXTH.isoformat()]
    head, *good = rows_of(file)
    assert (good[1][4:7], good[1][8]) == (["sold", "500", ""], good[2][8])
    write(file, [head, good[0], [*good[1][:5], "501", *good[1][6:]], *good[2:]])
    code, _, err = audited(capsys, found, alice, file)
    assert (code, "energy [Wh]: expected 500, was 501" in err) == (1, True)


def test_a_home_that_has_had_two_numbers_and_a_core_to_spare(
    plain: Downloaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = plain.homes["alice"], plain.homes["bob"]
    file = download(tmp_path, alice, PERIODS[0], bob)
    options = ("--statement", file, "--jobs", 2)
    code, out, err = run(capsys, plain.log, "--account", alice, "--account", bob, *options)
    assert (code, err, "statement of 2026-06-06: its 6 lines, sums and total " in out) == (0, "", True), out
    code, _, err = run(capsys, plain.log, "--account", alice, *options)
    assert (code, f"account: expected {alice} (--account), was {bob}" in err) == (1, True)
    alone = plain.files[alice, SIXTH.isoformat()]
    code, _, err = run(capsys, plain.log, "--account", alice, "--account", bob, "--statement", alone)
    assert (code, f"expected the interval 2026-06-06T21:45Z of account {bob} (bought, " in err) == (1, True)


def test_what_cannot_be_held_against_a_ledger_is_told(
    plain: Downloaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = plain.homes["alice"]
    file = plain.files[alice, SIXTH.isoformat()]
    for name, content in (
        ("statement.csv", file.read_bytes()), ("statement-2026-13.csv", b""), ("statement-2026.csv", b"x,y\r\n"),
        ("statement-2026-06-06.csv", b"\xff"), ("statement-1066.csv", b""),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert audited(capsys, plain, alice, tmp_path / name)[:2] == (2, ""), name
    for more in (
        ("--account", alice), ("--statement", file), ("--account", 0, "--statement", file),
        ("--account", 9_999, "--statement", file), ("--statements", tmp_path / "all", "--zone", "Atlantis/Poseidon"),
        ("--statements", tmp_path / "all", "--resume", tmp_path / "position"),
        ("--statements", tmp_path / "all", "--levies", file), ("--statements", tmp_path / "no" / "folder"),
    ):  # fmt: skip
        code, out, err = run(capsys, plain.log, *more)
        assert (code, out, bool(err)) == (2, "", True), more
    assert not (tmp_path / "all").exists() and not (tmp_path / "all.new").exists()
    # In another zone the interval is not of this day: the file says so, and the whole log still passes.
    code, _, err = run(capsys, plain.log, "--account", alice, "--statement", file, "--zone", "Asia/Tokyo")
    assert (code, "expected an interval that the ledger has in this period" in err) == (1, True)


def test_a_log_that_is_wrong_has_no_statements(
    plain: Downloaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = next((plain.log / "tile/entries").rglob("000*/*"))
    bundle.write_bytes(bundle.read_bytes().replace(b'"buy_e4":2300', b'"buy_e4":2301', 1))
    code, _, _ = run(capsys, plain.log, "--statements", tmp_path / "all")
    assert code == 1
    assert not (tmp_path / "all").exists() and not (tmp_path / "all.new").exists()


def test_statements_with_corrections_and_sharing_follow_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = downloaded(tmp_path, later=True)
    hold_all(capsys, found)
    tried = set().union(*(name_all(capsys, found, account, 99) for account in found.homes.values()))
    assert tried >= {"corrected", "given", "received", "spill", "topup", "short"}
    # What came later is missed: a statement of before the correction, or one that leaves it out.
    charlie = found.homes["charlie"]
    file = found.files[charlie, SIXTH.isoformat()]
    head, *good = rows_of(file)
    (at,) = [number for number, row in enumerate(good) if row[4] == "corrected"]
    write(file, [head, *good[:at], *good[at + 1 :]])
    code, _, err = audited(capsys, found, charlie, file)
    assert (code, f"expected the line corrected, entry {good[at][8]}" in err) == (1, True)
    for column, other in (("stage", "final"), ("not delivered [Wh]", "1"), ("agreement", "7")):
        bad = [list(row) for row in good]
        bad[0][head.index(column)] = other
        write(file, [head, *bad])
        code, _, err = audited(capsys, found, charlie, file)
        assert (code, f"{column}: expected " in err and f", was {other}" in err) == (1, True), err


def test_a_statement_that_is_final_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = downloaded(tmp_path, later=True, final=True)
    hold_all(capsys, found)
    bob = found.homes["bob"]
    file = found.files[bob, SIXTH.isoformat()]
    head, *good = rows_of(file)
    assert {row[head.index("stage")] for row in good} == {"final", ""}
    assert {row[4] for row in good} >= {"bought", "spill", "given", "corrected"}
    write(file, [head, [*good[0][:11], "corrected", *good[0][12:]], *good[1:]])
    code, _, err = audited(capsys, found, bob, file)
    assert (code, "stage: expected final, was corrected" in err) == (1, True)
