"""A city in the CSV form of SimBench's extract: its areas, homes and a week of profiles (``data/README.md``)."""

from __future__ import annotations

import csv
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent / "data"
STEP_MIN = 15  # of a profile
STEPS_A_DAY = 24 * 60 // STEP_MIN
STEPS_A_WEEK = 7 * STEPS_A_DAY
SHARE = 100_000  # profiles are kept as integers: 100,000 = the whole installed power
MAX_AREAS = 10_000  # of one city
MAX_HOMES = 1_000_000

# One part of a home's power: index of its profile, watts at share 1.
Part = tuple[int, int]


class CityError(Exception):
    """The files are not a city. The message says which file and line, what was expected and what it was."""


class CityArea(NamedTuple):
    """An area; ``capacity_w`` of the edge to its parent."""

    area: str
    parent: str
    level: str
    capacity_w: int


class CityHome(NamedTuple):
    """A home with what stands behind its connection."""

    code: str
    area: str
    load_profiles: str  # as in the file, PROFILE*kW joined by "+"
    pv_profile: str
    pv_w: int
    battery_wh: int
    battery_w: int


class Profiles:
    """A week of profiles: shares of the installed power by profile and quarter of an hour.

    ``first`` is the local time of step 0; ``shares[index][step]`` is an integer, ``SHARE`` = 1.
    """

    def __init__(self, first: datetime, names: list[str], shares: list[list[int]]):
        self.first = first
        self.names = names
        self.shares = shares
        self.index = {name: i for i, name in enumerate(names)}
        self.steps = len(shares[0]) if shares else 0

    def step(self, local: datetime) -> int:
        """Return the step that stands for a local time: the same weekday and quarter of an hour in the data's week."""
        return (_step_of_week(local) - _step_of_week(self.first)) % STEPS_A_WEEK % self.steps

    def parts(self, text: str) -> tuple[Part, ...]:
        """Return the parts of ``PROFILE*kW+PROFILE*kW``; ``CityError`` on an unknown profile or no number."""
        parts = []
        for part in filter(None, text.split("+")):
            name, _, kw = part.partition("*")
            if name not in self.index:
                raise CityError(f"expected a known profile, was {name!r}")
            parts.append((self.index[name], _watts(kw)))
        return tuple(parts)


class City(NamedTuple):
    """All of it."""

    areas: list[CityArea]  # parents before children
    homes: list[CityHome]
    profiles: Profiles


def load_city(folder: Path = DATA, *, week: str = "", areas: Collection[str] = (), homes: int = 0) -> City:
    """Read a city; raise ``CityError``.

    ``week`` picks ``profiles-WEEK.csv`` (default: the newest), ``areas`` some areas with all below them, ``homes`` the
    first so many homes; of the other areas only those above the homes are kept.
    """
    profiles = load_profiles(_profile_file(folder, week))
    all_areas = load_areas(folder / "areas.csv")
    picked = _pick(all_areas, areas)
    found = [home for home in _load_homes(folder / "homes.csv", profiles) if home.area in picked]
    if homes:
        found = found[:homes]
    if not found:
        raise CityError(f"{folder}: expected homes in {', '.join(areas) or 'some area'}, there are none")
    if not areas and not homes:
        return City(all_areas, found, profiles)  # areas without homes are part of the grid too
    by_name = {area.area: area for area in all_areas}
    needed: set[str] = set()
    for name in {home.area for home in found}:
        while name and name not in needed:
            needed.add(name)
            name = by_name[name].parent
    return City([area for area in all_areas if area.area in needed], found, profiles)


def load_profiles(path: Path) -> Profiles:
    """Read a week of profiles."""
    rows = _read(path)
    names = [name for name in rows[0] if name != "time"]
    first = None
    shares: list[list[int]] = [[] for _ in names]
    for line, row in enumerate(rows, 2):
        try:
            if first is None:
                first = datetime.fromisoformat(row["time"])
            for values, name in zip(shares, names, strict=True):
                values.append(round(float(row[name]) * SHARE))
        except (TypeError, ValueError) as error:
            raise CityError(f"{path.name} line {line}: {error}") from None
    if first is None or len(rows) % STEPS_A_DAY:
        raise CityError(f"{path.name}: expected whole days of {STEPS_A_DAY} steps, was {len(rows)} steps")
    return Profiles(first, names, shares)


def _step_of_week(local: datetime) -> int:
    return local.weekday() * STEPS_A_DAY + (local.hour * 60 + local.minute) // STEP_MIN


def _profile_file(folder: Path, week: str) -> Path:
    if week:
        return folder / f"profiles-{week}.csv"
    files = sorted(folder.glob("profiles-*.csv"))
    if not files:
        raise CityError(f"{folder}: expected a file profiles-DATE.csv, there is none")
    return files[-1]


def load_areas(path: Path) -> list[CityArea]:
    """Return the areas of a CSV file, parents first; raise ``CityError`` with file and line on anything odd."""
    areas: list[CityArea] = []
    known: set[str] = set()
    for line, row in enumerate(_read(path, MAX_AREAS), 2):
        parent = row["parent_id"]
        if parent and parent not in known:
            raise CityError(f"{path.name} line {line}: expected parents before children, {parent!r} comes later")
        if row["area_id"] in known or not row["area_id"]:
            raise CityError(f"{path.name} line {line}: expected an area of its own, was {row['area_id']!r}")
        known.add(row["area_id"])
        areas.append(CityArea(row["area_id"], parent, row["level"], _at(path, line, row["capacity_kw"])))
    return areas


def _load_homes(path: Path, profiles: Profiles) -> list[CityHome]:
    homes = []
    for line, row in enumerate(_read(path, MAX_HOMES), 2):
        pv = row["pv_profile"]
        if pv and pv not in profiles.index:
            raise CityError(f"{path.name} line {line}: expected a known profile, was {pv!r}")
        try:
            profiles.parts(row["load_profiles"])
        except CityError as error:
            raise CityError(f"{path.name} line {line}: {error}") from None
        homes.append(
            CityHome(
                row["home_id"],
                row["area_id"],
                row["load_profiles"],
                pv,
                _at(path, line, row["pv_kw"]) if pv else 0,
                _at(path, line, row["battery_kwh"]),
                _at(path, line, row["battery_kw"]),
            )
        )
    return homes


def _pick(areas: list[CityArea], wanted: Collection[str]) -> set[str]:
    """Return the wanted areas and all below them; all areas when none is named."""
    if not wanted:
        return {area.area for area in areas}
    missing = set(wanted) - {area.area for area in areas}
    if missing:
        raise CityError(f"areas.csv: expected {', '.join(sorted(missing))}, there is no such area")
    picked = set(wanted)
    for area in areas:  # parents come first, so one pass reaches every depth
        if area.parent in picked:
            picked.add(area.area)
    return picked


def _read(path: Path, limit: int = MAX_HOMES) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise CityError(f"{path}: {error.strerror}") from None
    if not rows or len(rows) > limit:
        raise CityError(f"{path.name}: expected 1 to {limit} rows, was {len(rows)}")
    if any(None in row or None in row.values() for row in rows):
        raise CityError(f"{path.name}: expected as many values as columns in every line")
    return rows


def _at(path: Path, line: int, text: str) -> int:
    try:
        return _watts(text)
    except CityError as error:
        raise CityError(f"{path.name} line {line}: {error}") from None


def _watts(kilo: str) -> int:
    """Return W (Wh) of a text in kW (kWh)."""
    try:
        value = round(float(kilo) * 1000)
    except (ValueError, OverflowError):
        raise CityError(f"expected a number of kW or kWh, was {kilo!r}") from None
    if value < 0:
        raise CityError(f"expected a number from 0, was {kilo!r}")
    return value
