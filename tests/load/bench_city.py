"""A simulated day of a city, from forecasts and orders to readings, settlement and seals, as fast as it goes.

BENCH_CITY names a folder in the form of ``market/simulator/data``; without it the bundled neighbourhood is laid out
BENCH_CITY_COPIES times (default 20) side by side. BENCH_POSTGRES_URL or a PostgreSQL DATABASE_URL is used when there is
one, in a database made for the run and dropped after it; SQLite otherwise.

The reference is the budget of the whole SimBench city: 32,511 homes and 96 intervals in 15 minutes.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.load.bench import Figure

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "market" / "simulator" / "data"
BUDGET = 32_511 * 96 / 900  # homes x intervals a second


def lay_out(folder: Path, copies: int) -> Path:
    """Write a city of so many copies of the neighbourhood below its root and high-voltage area."""
    with (DATA / "areas.csv").open() as file:
        areas = list(csv.DictReader(file))
    with (DATA / "homes.csv").open() as file:
        homes = list(csv.DictReader(file))
    shared = {area["area_id"] for area in areas if area["level"] in ("EHV", "HV")}
    for profiles in DATA.glob("profiles-*.csv"):
        shutil.copy(profiles, folder)
    with (folder / "areas.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, areas[0].keys())
        writer.writeheader()
        writer.writerows(area for area in areas if area["area_id"] in shared)
        for copy in range(copies):
            for area in areas:
                if area["area_id"] not in shared:
                    parent = area["parent_id"]
                    renamed = {
                        "area_id": f"{area['area_id']}.{copy}",
                        "parent_id": parent if parent in shared else f"{parent}.{copy}",
                    }
                    writer.writerow(area | renamed)
    with (folder / "homes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, homes[0].keys())
        writer.writeheader()
        for copy in range(copies):
            for home in homes:
                writer.writerow(home | {"home_id": f"{home['home_id']}.{copy}", "area_id": f"{home['area_id']}.{copy}"})
    return folder


@contextmanager
def database(folder: str) -> Iterator[str]:
    """Give the URL of an empty database."""
    given = os.environ.get("BENCH_POSTGRES_URL") or os.environ.get("DATABASE_URL", "")
    if not given.startswith("postgres"):
        yield f"sqlite:///{folder}/bench.sqlite3"
        return
    import psycopg2

    name = f"sunledger_city_{os.getpid()}"
    connection = psycopg2.connect(given)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlunsplit(urlsplit(given)._replace(path=f"/{name}"))
        finally:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    connection.close()


def city_day() -> Figure:
    """Run one day to its end and take what the command says about it; it has checked its books."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, database(folder) as url:
        given = os.environ.get("BENCH_CITY")
        if given:
            city = Path(given)
        else:
            (Path(folder) / "city").mkdir()
            city = lay_out(Path(folder) / "city", int(os.environ.get("BENCH_CITY_COPIES", "20")))
        command = ["manage.py", "demo", "--until-end", "--days", "1", "--city", str(city), "--data", folder]
        run = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    day = json.loads(run.stdout)
    rate = day["readings"] / day["elapsed_s"]
    note = (
        f"{day['homes']:,} homes in {day['areas']} areas, {day['orders']:,} orders, {day['trades']:,} trades, "
        f"{day['readings']:,} readings, {day['ledger']['entries']:,} entries in {day['elapsed_s']:.0f} s on "
        f"{'PostgreSQL' if url.startswith('postgres') else 'SQLite'}; reference: budget of the whole SimBench city"
    )
    return Figure(rate, "homes*intervals/s", BUDGET, rate / BUDGET, note)


BENCHES: dict[str, Callable[[], Figure]] = {"city_day": city_day}
