"""A city's days run through without a server: everything is settled, adds up, and is told in a summary."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from ledger import queries as ledger_queries
from market.engine.engine import Engine
from market.engine.replay import replay
from market.exchange.models import Contract, Order, SettlementLine, Trade
from market.metering.models import Reading
from market.settlement.operations import Settlement
from market.simulator import cityrun
from market.simulator.cityrun import BooksDoNotBalance, CityRun, Progress
from market.simulator.neighbourhood import STEP_MIN, STEPS_A_DAY, City, CityError, Profiles, load_city

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_checkpoint(settings, tmp_path: Path) -> None:
    settings.PUBLISHED_CHECKPOINT_FILE = tmp_path / "published_checkpoint"


def sunny() -> City:
    """Return the neighbourhood with its week turned so that it begins on Wednesday at ten: the sun is up."""
    city = load_city()
    profiles, begin = city.profiles, 2 * STEPS_A_DAY + 40
    shares = [values[begin:] + values[:begin] for values in profiles.shares]
    first = profiles.first + timedelta(minutes=begin * STEP_MIN)
    assert (first.weekday(), first.hour) == (2, 10)
    return city._replace(profiles=Profiles(first, profiles.names, shares))


def run(intervals: int, **options) -> tuple[dict, list[Progress]]:
    """Run the first intervals of the day."""
    seen: list[Progress] = []
    city_run = CityRun(sunny(), days=1, progress=seen.append, **options)
    city_run._intervals = intervals
    city_run._end_ms = city_run._first_ms + intervals * city_run._interval_ms
    return city_run.run(), seen


def test_a_morning_is_run_through_settled_and_told() -> None:
    summary, seen = run(8)
    homes, intervals = 108, 8
    assert (summary["homes"], summary["areas"], summary["intervals"]) == (homes, 8, intervals)
    assert summary["orders"] == Order.objects.count()
    assert homes * intervals * 0.9 < summary["orders"] <= homes * intervals, "one order a home and interval"
    assert summary["trades"] == Trade.objects.count() > 100
    assert summary["energy_traded_wh"] == sum(Trade.objects.values_list("energy_wh", flat=True))
    assert summary["readings"] == summary["settlement_lines"] == homes * intervals
    assert Reading.objects.count() == SettlementLine.objects.count() == homes * intervals
    assert Contract.objects.filter(state="settled").count() == intervals
    assert sum(summary["money_e7"].values()) == 0
    assert summary["money_e7"]["clearing"] == 0
    assert summary["money_e7"]["operator"] > 0
    assert 0 < summary["self_sufficiency"] < 1
    # Energy: what was used came from roofs, batteries or the supplier; what was made was used, stored or spilled.
    lines = list(
        SettlementLine.objects.values_list("import_wh", "export_wh", "position_wh", "short_wh", "topup_wh", "spill_wh")
    )
    net = sum(line[0] - line[1] for line in lines)
    assert net == summary["supplied_wh"] - summary["spilled_wh"]
    assert sum(line[2] for line in lines) == 0
    assert summary["self_sufficiency"] == round(1 - summary["supplied_wh"] / summary["used_wh"], 4)
    block = ledger_queries.blocks(1)[0]
    assert summary["ledger"] == {"entries": ledger_queries.size(), "blocks": block.height, "root": block.root}
    assert summary["refused"] == {}
    assert [progress.interval for progress in seen] == list(range(intervals + 2))
    assert seen[-1].seq <= ledger_queries.size()

    again = Engine()
    replay(again, ledger_queries.iter_leaves(), ledger_queries.rows)
    assert sum(account.cash_e7 for account in again.accounts) == 0
    assert {account.kind: account.cash_e7 for account in again.accounts if account.kind == "operator"} == {
        "operator": summary["money_e7"]["operator"]
    }


def test_the_same_seed_trades_the_same() -> None:
    fields = ("contract", "buyer", "seller", "energy_wh", "buy_e4", "sell_e4")
    told = []
    for seed in (1, 1, 2):
        call_command("flush", interactive=False, verbosity=0)
        cityrun.settings.PUBLISHED_CHECKPOINT_FILE.unlink(missing_ok=True)
        run(2, seed=seed)
        told.append(list(Trade.objects.order_by("id").values_list(*fields)))
    assert told[0] == told[1]
    assert told[0] != told[2]
    assert told[0]


def test_a_used_database_is_left_alone() -> None:
    run(1)
    entries = ledger_queries.size()
    with pytest.raises(CityError, match="empty database"):
        run(1)
    assert ledger_queries.size() <= entries + 1, "at most the seal of a clean stop"


def test_books_that_do_not_balance_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.simulator.life.Life.settle", lambda life, now_ms: Settlement(0, 0, 0, 0, 0))
    with pytest.raises(BooksDoNotBalance, match="is delivered, not settled"):
        run(2)


def test_the_command_prints_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CityRun, "_live", lambda city_run, exchange, life: None)
    monkeypatch.setattr(cityrun, "check_books", lambda exchange, until: None)
    out, err = StringIO(), StringIO()
    call_command("demo", "--until-end", "--areas", "LV1.101,LV1.201", "--homes", "20", stdout=out, stderr=err)
    summary = json.loads(out.getvalue())
    assert (summary["homes"], summary["areas"], summary["intervals"]) == (20, 6, 672)
    assert summary["money_e7"]["member"] == -summary["money_e7"]["bank"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--city", "/nowhere"], "profiles-DATE"),
        (["--areas", "LV9.9"], "LV9.9"),
        (["--week", "1999-01-01"], "profiles-1999-01-01"),
        (["--speed", "0"], "--speed"),
        (["--days", "-1"], "--days"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("demo", "--until-end", *arguments)
