"""Asking witnesses while the market's own side fails: its database, for a moment."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError

from ledger import cosigning, queries, witnessing
from ledger.models import Alarm
from ledger.witness_client import WitnessAhead, WitnessClient, WitnessRefuses
from tests.integration.ledger_writer import write_log
from tests.integration.test_witnesses import asking, log_key, policy
from tests.integration.witness_http import Station, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_keys")]


class Locked:
    """Stands for a function of the database: the first calls from a thread of this name fail as they do when it is locked."""

    def __init__(self, function: Callable[..., object], thread: str, times: int = 2):
        self._function, self._thread, self.left = function, thread, times

    def __call__(self, *arguments: object, **options: object) -> object:
        if threading.current_thread().name.startswith(self._thread) and self.left > 0:
            self.left -= 1
            raise OperationalError("database is locked")
        return self._function(*arguments, **options)


@pytest.mark.parametrize("says", [WitnessRefuses("another history"), WitnessAhead(10**6)], ids=["refuses", "ahead"])
def test_a_database_that_fails_neither_ends_a_witness_thread_nor_loses_the_fork_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Exception
) -> None:
    monkeypatch.setattr(witnessing, "REFUSED_PAUSE_S", 0.05)
    monkeypatch.setattr(witnessing, "FIRST_PAUSE_S", 0.01)
    station = Station(tmp_path / "w", [log_key()])
    write_log(5)
    failing = [Locked(cosigning.raise_alarm, "witness-"), Locked(queries.newest, "witness-")]
    monkeypatch.setattr(cosigning, "raise_alarm", failing[0])
    monkeypatch.setattr(queries, "newest", failing[1])

    def answers(*_: object) -> None:
        raise says

    cosign = WitnessClient.cosign
    monkeypatch.setattr(WitnessClient, "cosign", answers)
    with policy(tmp_path, station), asking() as asker:
        alarm = wait_for(lambda: Alarm.objects.filter(kind="fork").first())
        assert failing[0].left == 0
        assert failing[1].left == (0 if isinstance(says, WitnessAhead) else 2)
        assert asker.status().state == "refused"
        time.sleep(0.3)
        assert Alarm.objects.count() == 1  # once it is kept, not again
        with station.open():
            monkeypatch.setattr(WitnessClient, "cosign", cosign)
            wait_for(lambda: asker.status().state == "ok")  # the thread goes on asking
    assert json.loads(alarm.detail)["reason"] == "refused"


def test_a_database_that_fails_does_not_lose_the_lag_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Locked(cosigning.raise_alarm, "witnesses")
    monkeypatch.setattr(cosigning, "raise_alarm", failing)
    station = Station(tmp_path / "w", [log_key()])
    write_log(5)
    with policy(tmp_path, station), asking(lag_s=0.1):
        wait_for(lambda: Alarm.objects.filter(kind="quorum").first())
        assert failing.left == 0
        time.sleep(0.3)
        assert Alarm.objects.count() == 1


@pytest.mark.parametrize("text", ["# another word\n{}", "nonsense\n", None], ids=["changed", "broken", "gone"])
def test_a_policy_that_changes_while_the_market_runs_waits_for_the_next_start(tmp_path: Path, text: str | None) -> None:
    """Who asks the witnesses and who tells what is witnessed go by the same policy."""
    station = Station(tmp_path / "w", [log_key()])
    writer = write_log(5)
    with policy(tmp_path, station), station.open():
        file = Path(settings.LEDGER_POLICY_FILE)
        assert witnessing.begin(lambda: 1_000) is not None
        try:
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)
            if text is None:
                file.unlink()
            else:
                file.write_text(text.format(file.read_text()))
            assert cosigning.witnessed_size() == writer.log.sealed_size
            assert cosigning.witness_keys() == [station.vkey]
            writer.orders(3)
            writer.seal()
            writer.commit()
            wait_for(lambda: cosigning.witnessed_size() == writer.log.sealed_size)
        finally:
            witnessing.end()
        assert cosigning.witnessed_size() == (0 if text and "{}" in text else None)  # what readers of the file see
