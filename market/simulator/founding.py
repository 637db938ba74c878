"""Found a market for a city: its grid, tariff and rulebook, then a home, an account and opening money for everybody."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from market.engine.accounts import MAX_CONNECTION_W, SHARING_CITY, Params
from market.engine.commands import Command, Fund, SetConnection, SetParams, SetTariff
from market.engine.engine import Engine
from market.engine.reasons import OPENING
from market.exchange import operations as exchange_operations
from market.exchange.exchange import Exchange
from market.exchange.models import Transfer
from market.households import operations as household_operations
from market.households.models import Account, Home
from market.simulator.neighbourhood import City, CityHome, Profiles

log = logging.getLogger(__name__)

RULEBOOK_VERSION = 3  # what docs/market-rules.md says of itself
FEE_E4 = 100  # 1 ct/kWh on every edge of the grid
TARIFF = SetTariff(topup_e4=3_000, spill_e4=800)
OPENING_E7 = 20 * 10**7  # for a home without any installed power
OPENING_A_KW_E7 = 2 * 10**7  # more for each kW: who trades more energy needs more money meanwhile
CONNECTION_W = 30_000  # an ordinary home's connection: three phases of 43 A
# Guard rails. The collar lets pass what lies between the tariff's prices once the reference price is near the middle; the
# throttle is far above what an agent does and stops a program that runs wild.
GUARD_RAILS = SetParams(
    *Params()._replace(
        collar_e4=1_500,
        collar_period_s=60,
        collar_halt_s=60,
        throttle_per_min=6_000,
        throttle_burst=2_000,
        throttle_credit=1,
        connection_import_w=CONNECTION_W,
        connection_export_w=CONNECTION_W,
        final_after_min=14 * 24 * 60,
        sharing_scope=SHARING_CITY,
    )
)
BATCH = 1_000
TIMEOUT_S = 120.0


def found_city(exchange: Exchange, city: City, *, now_ms: int, params: SetParams = GUARD_RAILS) -> None:
    """Make sure that the market, its homes, accounts and opening money exist; it goes on where it was cut short."""
    exchange_operations.found_market(
        exchange,
        areas=[
            exchange_operations.Area(
                area.area, area.parent, area.level, area.capacity_w, area.capacity_w, FEE_E4 if area.parent else 0
            )
            for area in city.areas
        ],
        tariff=TARIFF,
        params=params,
        rulebook=Path(settings.BASE_DIR / "docs" / "market-rules.md").read_text(encoding="utf-8"),
        rulebook_version=RULEBOOK_VERSION,
    )
    known = set(Home.objects.values_list("code", flat=True))
    household_operations.create_homes(
        Home(
            code=home.code,
            area=home.area,
            load_profiles=home.load_profiles,
            pv_profile=home.pv_profile,
            pv_w=home.pv_w,
            battery_wh=home.battery_wh,
            battery_w=home.battery_w,
        )
        for home in city.homes
        if home.code not in known
    )
    codes = {home.code for home in city.homes}
    waiting = [home for home in Home.objects.filter(account=None).order_by("pk") if home.code in codes]
    if waiting:
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        household_operations.open_accounts(exchange, homes=waiting, now=now)
    limit_connections(exchange, city)
    fund_wallets(exchange, city)


def limit_connections(exchange: Exchange, city: City) -> int:
    """Give homes that need more than ``CONNECTION_W`` limits of their own, unless they have them; return how many."""
    large = {
        home.code: limits for home in city.homes if max(limits := connection_of(home, city.profiles)) > CONNECTION_W
    }
    accounts = dict(Account.objects.filter(home__code__in=large).values_list("index", "home__code").order_by("index"))

    def without(engine: Engine) -> list[int]:
        return [index for index in accounts if not engine.accounts[index].import_w]

    commands: list[Command] = [
        SetConnection(index, "", *large[accounts[index]], OPENING) for index in exchange.read(without)
    ]
    submit_all(exchange, commands)
    return len(commands)


def connection_of(home: CityHome, profiles: Profiles) -> tuple[int, int]:
    """Return what a home's connection may take and give, in W: half more than all behind it can at once, from 30 kW up."""
    use_w = sum(watts for _, watts in profiles.parts(home.load_profiles))

    def rated(power_w: int) -> int:
        return min(MAX_CONNECTION_W, max(CONNECTION_W, power_w * 3 // 2))

    return rated(use_w + home.battery_w), rated(home.pv_w + home.battery_w)


def fund_wallets(exchange: Exchange, city: City) -> int:
    """Give opening money to every home's account that never got any; return how many."""
    funded = set(Transfer.objects.filter(kind="fund").values_list("credit", flat=True))
    amounts = opening_money(city)
    accounts = Account.objects.exclude(home=None).values_list("index", "home__code").order_by("index")
    commands: list[Command] = [
        Fund(index, amounts[code], "opening", "") for index, code in accounts if index not in funded and code in amounts
    ]
    submit_all(exchange, commands)
    return len(commands)


def opening_money(city: City) -> dict[str, int]:
    """Return each home's opening money (e7) by its code."""
    return {
        home.code: OPENING_E7
        + OPENING_A_KW_E7
        * (home.pv_w + home.battery_w + sum(watts for _, watts in city.profiles.parts(home.load_profiles)))
        // 1000
        for home in city.homes
    }


def submit_all(exchange: Exchange, commands: list[Command]) -> int:
    """Submit commands in batches and wait; log refusals and return how many were accepted."""
    accepted = 0
    for start in range(0, len(commands), BATCH):
        batch = commands[start : start + BATCH]
        outcomes = exchange.submit_many([(command, None) for command in batch]).result(TIMEOUT_S)
        for command, outcome in zip(batch, outcomes, strict=True):
            if outcome.refused is None:
                accepted += 1
            else:
                log.error("%s was refused: %s", command, outcome.refused)
    return accepted
