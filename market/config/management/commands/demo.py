"""`manage.py demo`: a living market in one process, or a whole city's days as fast as the machine goes."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import close_old_connections

from market.config import database, runtime, server
from market.exchange.witnesses import WitnessService
from market.households.endings import Watch
from market.metering.service import MeteringService
from market.notices.service import PushService
from market.pages.outbox import OUTBOX
from market.simulator.cityrun import BooksDoNotBalance, CityRun, Progress
from market.simulator.clock import DEFAULT_SPEED
from market.simulator.demo import Demo, demo_clock, last_market_ms
from market.simulator.neighbourhood import DATA, City, CityError, load_city
from market.streaming import hub

PROGRESS_EVERY = 4  # intervals: an hour of market time a line


class Command(BaseCommand):
    """Open the demo market, or run a city to its end."""

    help = (
        "Open a market that trades by itself: a real neighbourhood of SimBench, or any city in the same CSV form "
        "(--city). With --until-end nothing is served: the city's days run through and a JSON summary is printed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to serve on (default 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to serve on (default 8000)")
        parser.add_argument("--data", metavar="FOLDER", help="keep database and keys here (default var/)")
        parser.add_argument("--speed", type=float, help=f"times life; default {DEFAULT_SPEED}, to the end: unlimited")
        parser.add_argument("--seed", type=int, default=1, help="of the agents' errors (default 1)")
        parser.add_argument("--city", type=Path, default=DATA, metavar="FOLDER", help="areas.csv, homes.csv, profiles")
        parser.add_argument("--week", default="", metavar="DATE", help="picks profiles-DATE.csv (default: the newest)")
        parser.add_argument("--areas", default="", metavar="A,B", help="only these areas with all below them")
        parser.add_argument("--homes", type=int, default=0, metavar="N", help="only the first N homes")
        parser.add_argument("--until-end", action="store_true", help="run through the data without serving")
        parser.add_argument("--days", type=int, default=0, metavar="D", help="with --until-end: only the first D days")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["speed"] is not None and options["speed"] <= 0:
            raise CommandError(f"--speed: expected a number above 0, was {options['speed']}")
        if options["homes"] < 0 or options["days"] < 0:
            raise CommandError("--homes and --days: expected numbers from 0")
        database.prepare()
        areas = [area for area in options["areas"].split(",") if area]
        try:
            city = load_city(options["city"], week=options["week"], areas=areas, homes=options["homes"])
        except CityError as error:
            raise CommandError(str(error)) from error
        if options["until_end"]:
            self._run_through(city, options)
        else:
            self._serve(city, options)

    def _serve(self, city: City, options: dict[str, Any]) -> None:
        clock = demo_clock(last_market_ms(), options["speed"] or DEFAULT_SPEED)
        runtime.configure(
            clock=clock.now_ms,
            services=[
                Demo(clock.now_ms, city=city, seed=options["seed"]),
                MeteringService(),
                WitnessService(hub.announce),
                PushService(),
                OUTBOX,
                Watch(),
            ],
        )
        close_old_connections()
        shown = "localhost" if options["host"] in ("127.0.0.1", "0.0.0.0") else options["host"]  # noqa: S104
        self.stdout.write(f"Sunledger: {len(city.homes)} homes, open http://{shown}:{options['port']}/")
        sys.exit(server.run(host=options["host"], port=options["port"]))

    def _run_through(self, city: City, options: dict[str, Any]) -> None:
        logging.getLogger().setLevel(logging.WARNING)
        run = CityRun(
            city,
            days=options["days"],
            speed=options["speed"] or 0,
            seed=options["seed"],
            progress=self._show,
        )
        try:
            summary = run.run()
        except (CityError, BooksDoNotBalance) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(summary, indent=2))

    def _show(self, progress: Progress) -> None:
        if progress.interval % PROGRESS_EVERY == 0:
            self.stderr.write(
                f"{progress.contract}  interval {progress.interval} of {progress.intervals}, "
                f"{progress.seq:,} entries, {progress.elapsed_s:.0f} s"
            )
