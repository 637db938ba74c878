"""Run in a process of its own by ``bench_http``: migrate, found a market for the benchmark, print its keys as JSON."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

from market.engine.commands import SetParams, SetTariff  # noqa: E402
from market.exchange import operations as exchange_operations  # noqa: E402
from market.exchange.exchange import Exchange  # noqa: E402
from market.households import operations as households  # noqa: E402

ACCOUNTS = 64
MONEY_E7 = 10**6 * 10**7
GRID = (exchange_operations.Area("CITY", "", "LV", 0, 0, 0),)
PARAMS = SetParams(10_000, 1, 1_000_000, 1_000_000, 360, 0, 1_000)


def main() -> None:
    """Found the market, with members who have money and keys."""
    call_command("migrate", interactive=False, verbosity=0)
    now = datetime.now(UTC)
    exchange = Exchange()
    exchange.start()
    exchange_operations.found_market(
        exchange,
        areas=GRID,
        tariff=SetTariff(4_000, 800),
        params=PARAMS,
        rulebook="# Rules of the benchmark\n",
        rulebook_version=1,
    )
    keys = []
    for number in range(ACCOUNTS):
        user = households.create_person(username=f"member{number}", password=None)
        account = households.open_account(exchange, now=now, user=user, area="CITY")
        exchange_operations.fund(exchange, account=account.index, amount_e7=MONEY_E7)
        keys.append(households.issue_key(user=user, name="bench", scopes=["read", "trade"], now=now).token)
    exchange.stop()
    print(json.dumps(keys))


if __name__ == "__main__":
    main()
