"""The audit's options for statements, and their files: all of them written, downloaded ones held against the ledger."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import IO, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from market.audit import statement_file
from market.audit.judge import Judge
from market.audit.statement_file import Checked, Unreadable
from market.audit.statements import DaySums, Statements, values_of
from market.engine.accounts import MEMBER
from market.settlement import levies
from market.settlement.levies import Table

ZONE = "Europe/Berlin"  # what a market's days are in unless its operator says otherwise: it is not on the ledger
DEFAULT_LEVIES = Path(levies.__file__).with_name("default_levies.json")


class Asked(NamedTuple):
    """What the options ask for."""

    statements: Statements
    file: Path | None  # where those of all accounts go
    given: tuple[tuple[str, bytes], ...]  # names and content of downloaded ones
    tables: tuple[Table, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "statements", "what every account's statement must come to, from the entries alone"
    )
    group.add_argument(
        "--statements", default="", metavar="FILE", help="write them there: JSON Lines, an account and day each"
    )
    group.add_argument(
        "--statement", action="append", default=[], metavar="FILE",
        help="a statement (CSV) as it was downloaded, under its name, to hold against the ledger; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--account", action="append", type=int, default=[], metavar="N",
        help="number of the account whose --statement it is; repeated for a home that has had several",
    )  # fmt: skip
    group.add_argument("--zone", default=ZONE, metavar="NAME", help=f"time zone of the market's days ({ZONE})")
    group.add_argument(
        "--levies", default="", metavar="FILE", help="the market's taxes and levies, where they are not those shipped"
    )


def asked(options: argparse.Namespace) -> Asked | None:
    """Return what the options ask for, None for nothing; raise ``Unreadable`` or ``OSError``."""
    if not (options.statements or options.statement or options.account):
        return None
    if options.resume:
        raise Unreadable("--statements, --statement: expected the whole log, not what --resume goes on from")
    if bool(options.statement) != bool(options.account):
        raise Unreadable("--statement, --account: expected both or neither")
    try:
        zone = ZoneInfo(options.zone)
    except (KeyError, ValueError, OSError):
        raise Unreadable(f"--zone: expected a time zone such as {ZONE}, was {options.zone!r:.60}") from None
    file = Path(options.levies) if options.levies else DEFAULT_LEVIES
    try:
        tables = levies.parse(_bytes(file, levies.MAX_BYTES))
    except ValueError as error:
        raise Unreadable(f"{file}: {error}") from None
    given = []
    for path in map(Path, options.statement):
        statement_file.period_named(path.name)
        given.append((path.name, _bytes(path, statement_file.MAX_BYTES)))
    target = Path(options.statements) if options.statements else None
    return Asked(Statements(zone, options.account), target, tuple(given), tables)


def _bytes(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Unreadable(f"{path}: expected at most {most} bytes")
    return data


def judge_of(statements: Statements) -> Judge:
    """Return a judge that has statements worked out while it replays."""
    judge = Judge(each=statements.see if statements.asked else None)
    judge.statements = statements
    return judge


def held(wanted: Asked, judge: Judge, currency: str) -> list[Checked]:
    """Hold the downloaded statements against a log that has passed; raise ``Differs`` or ``Unreadable``."""
    accounts = judge.engine.accounts
    for number in sorted(wanted.statements.asked):
        if not 0 <= number < len(accounts) or accounts[number].kind != MEMBER:
            raise Unreadable(f"--account: expected a household's account, was {number}")
    each = (wanted.statements, wanted.tables, currency)
    return [statement_file.check(name, data, *each) for name, data in wanted.given]


class Written:
    """Statements of all accounts as JSON Lines, in their place only when the audit has passed."""

    def __init__(self, file: Path):
        self._file, self._draft = file, file.with_name(file.name + ".new")
        self._out: IO[bytes] = self._draft.open("wb")
        self._passed = False

    def write(self, day: date, account: int, sums: DaySums) -> None:
        """Write an account's day."""
        self._out.write(orjson.dumps(values_of(day, account, sums), option=orjson.OPT_APPEND_NEWLINE))

    def passed(self) -> None:
        """The audit has passed: put the file in its place when it is closed."""
        self._passed = True

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *problem: object) -> None:
        self._out.close()
        if self._passed:
            self._draft.replace(self._file)
        else:
            self._draft.unlink()


def lines_of(count: int, zone: ZoneInfo, checked: Iterable[Checked], currency: str) -> list[str]:
    """Return what an audit that passed says of statements."""
    return [f"statements {count} account-days recomputed from their entries, days of {zone}"] + [
        f"statement of {one.period}: its {one.lines} lines, sums and total {one.total} {currency} follow from the ledger"
        + (f"; {one.own} lines of own use are on no ledger" if one.own else "")
        for one in checked
    ]
