"""Missing, late, corrected and doubled readings, in two orders: the end is one, and clean where the truth came in."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.core.management import call_command

from market.engine.commands import BUY, SELL
from market.exchange import books
from market.metering.operations import ReadingIn, record_readings
from market.settlement import operations, queries
from market.settlement.operations import adjust_due, run_due, share_due
from market.settlement.waiting import DEADLINE_MS
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
AREAS = ("LV1.1", "LV1.2", "LV2.1")
HOMES, CONTRACTS = 4, 3
DEAD = 2  # a home whose meter never answers


def lived(order: int | None) -> tuple[list[Any], list[int]]:
    """Trade, meter and settle; readings come in dirty, in an order of their own, or (None) all at once and true.

    Returns the rows as they stand, and what everybody has less what it owes.
    """
    with running_market(cast=False) as market:
        homes = [(market.member(area), area) for area in AREAS for _ in range(HOMES)]
        contracts = [market.contract(ahead) for ahead in range(1, CONTRACTS + 1)]
        for number, contract in enumerate(contracts):
            for at, (account, _) in enumerate(homes):
                side, price = (SELL, "0.2000") if at % 2 else (BUY, "0.3000")
                market.place(account, side, price, 400 + 10 * number, contract=contract)
        sent: list[tuple[str, int, str, int]] = []  # contract, account, area, Wh
        chance = random.Random(7)
        for number, contract in enumerate(contracts):
            for at, (account, area) in enumerate(homes):
                energy_wh = 300 + (at * 37 + number * 110) % 300
                if at == DEAD and order is not None:
                    continue
                if order is not None and chance.random() < 0.2:
                    sent.append((contract, account, area, energy_wh + 40))  # wrong at first
                sent.append((contract, account, area, energy_wh))
        market.clock.advance(minutes=15 * (CONTRACTS + 2))
        market.member("LV1.2", deposit_e7=0)
        if order is not None:
            sent = arriving(sent, random.Random(order))
        half = len(sent) if order is None else len(sent) // 2
        for contract, account, area, energy_wh in sent[:half]:
            record(market, contract, account, area, energy_wh, homes)
        settle(market)
        market.clock.advance(ms=DEADLINE_MS)
        settle(market)
        for number, (contract, account, area, energy_wh) in enumerate(sent[half:]):
            record(market, contract, account, area, energy_wh, homes)
            if number % 5 == 0:
                adjust_due(exchange=market.exchange)
                assert market.exchange.read(lambda engine: sum(account.net_e7 for account in engine.accounts)) == 0
        settle(market)
        rows = []
        for contract in contracts:
            newest = market.exchange.read(lambda engine, name=contract: operations._open(engine, name).newest)
            for area, found in sorted(queries.newest_rows(contract, newest).items()):
                rows += [(contract, area, row) for _, row in sorted(found.items())]
        net = market.exchange.read(lambda engine: [account.net_e7 for account in engine.accounts])
        books.check()
    return rows, net


def arriving(sent: list[tuple[str, int, str, int]], chance: random.Random) -> list[tuple[str, int, str, int]]:
    """Return readings in another order, some of them twice; of one home and contract the right one stays the last."""
    keyed = [(chance.random(), number, reading) for number, reading in enumerate(sent)]
    shuffled = [reading for _, _, reading in sorted(keyed)]
    places: dict[tuple[str, int], list[int]] = {}
    for place, reading in enumerate(shuffled):
        places.setdefault(reading[:2], []).append(place)
    for reading in sent:
        shuffled[places[reading[:2]].pop(0)] = reading
    return [reading for one in shuffled for reading in ([one, one] if chance.random() < 0.1 else [one])]


def record(market: Market, contract: str, account: int, area: str, energy_wh: int, homes: list[Any]) -> None:
    exports = [account for account, _ in homes].index(account) % 2
    reading = ReadingIn(account, 0, energy_wh) if exports else ReadingIn(account, energy_wh, 0)
    record_readings(
        exchange=market.exchange, contract=contract, area=area, readings=[reading], now_ms=market.clock.at_ms
    )


def settle(market: Market) -> None:
    run_due(exchange=market.exchange, now_ms=market.clock.at_ms)
    share_due(exchange=market.exchange)


def test_two_orders_of_arrival_come_to_the_same_and_to_the_truth_where_it_came_in() -> None:
    outcomes = []
    for order in (None, 1, 2):
        call_command("flush", verbosity=0, interactive=False)
        outcomes.append(lived(order))
    clean, one, other = outcomes
    assert one == other
    true = {(contract, row.account): row for contract, _, row in clean[0]}
    dead = {row.account for _, _, row in one[0] if row.quality == "estimated"}
    assert len(dead) == 1
    for contract, _, row in one[0]:
        if row.account not in dead:
            assert row == true[contract, row.account]
        else:
            assert (row.short_wh, row.topup_wh, row.spill_wh) == (0, 0, 0), "taken to have done what it traded"
    assert sum(one[1]) == 0
