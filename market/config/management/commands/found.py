"""`manage.py found`: found a real market once, before its first `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from market.config import database
from market.engine.accounts import Params
from market.engine.commands import SetTariff
from market.exchange.exchange import Exchange, wall_clock_ms
from market.exchange.operations import Area, FoundingRefused, found_market
from market.exchange.outcomes import ExchangeError
from market.exchange.units import parse_price
from market.simulator.founding import GUARD_RAILS, RULEBOOK_VERSION
from market.simulator.neighbourhood import CityError, load_areas

RULEBOOK = Path(settings.BASE_DIR) / "docs" / "market-rules.md"


class Command(BaseCommand):
    """Open the ledger with its first entries: grid, fees, tariff, rulebook."""

    help = (
        "Found the market: the ledger's first entries with the grid of a CSV file (columns area_id, parent_id, level, "
        "capacity_kw), one fee for every edge, the prices of the supplier of last resort and guard rails that the market "
        "operator can change later. Does nothing when it has been founded already."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("areas", type=Path, metavar="AREAS.CSV")
        parser.add_argument("--fee", default="0.0100", help="grid fee per kWh on every edge (default 0.0100)")
        parser.add_argument("--topup", required=True, help="price per kWh of energy that is missing, e.g. 0.3000")
        parser.add_argument("--spill", required=True, help="price per kWh of energy that is left over, e.g. 0.0800")

    def handle(self, *args: Any, **options: Any) -> None:
        prices = {name: self._price(name, options[name]) for name in ("fee", "topup", "spill")}
        if not prices["spill"] <= prices["topup"] <= Params().max_price_e4:
            raise CommandError("--spill and --topup: expected spill <= topup <= 4.0000, the market's highest price")
        try:
            city_areas = load_areas(options["areas"])
        except (CityError, OSError) as error:
            raise CommandError(f"areas: {error}") from error
        areas = [
            Area(a.area, a.parent, a.level, a.capacity_w, a.capacity_w, prices["fee"] if a.parent else 0)
            for a in city_areas
        ]
        database.prepare()
        exchange = Exchange(wall_clock_ms)
        try:
            exchange.start()
            try:
                new = found_market(
                    exchange,
                    areas=areas,
                    tariff=SetTariff(prices["topup"], prices["spill"]),
                    params=GUARD_RAILS,
                    rulebook=RULEBOOK.read_text(encoding="utf-8"),
                    rulebook_version=RULEBOOK_VERSION,
                )
            finally:
                exchange.stop()
        except FoundingRefused as error:
            raise CommandError(f"{error.refused.field or 'market'}: {error}") from error
        except ExchangeError as error:
            raise CommandError(str(error)) from error
        if new:
            self.stdout.write(f"Founded {settings.LEDGER_ORIGIN} with {len(areas)} areas.")
        else:
            self.stdout.write("The market has been founded already; nothing was changed.")

    def _price(self, name: str, text: str) -> int:
        try:
            price_e4 = parse_price(text)
        except ValueError as error:
            raise CommandError(f"--{name}: {error}") from error
        if price_e4 < 0:
            raise CommandError(f"--{name}: expected 0 or more, was {text}")
        return price_e4
