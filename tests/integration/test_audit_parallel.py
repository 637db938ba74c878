"""Signatures checked in processes beside the judge: what is found is what one process finds, whatever answers first."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.core.findings import Bundle
from market.audit import parallel
from market.audit.__main__ import main
from market.audit.judge import Judge
from market.audit.parallel import SignaturePool
from market.engine import commands as c
from tests.integration.test_audit_command import write
from tests.market_log import lie
from tests.unit.audit_market import FIRST, NOON, place
from tests.unit.test_audit_signatures import MINE, OTHER, SigningTown

Lies = tuple[int, ...]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CLAIMS", 3)
    monkeypatch.setattr(parallel, "MAX_SENT", 2)


@pytest.fixture
def pool() -> Iterator[SignaturePool]:
    made = SignaturePool(2)
    yield made
    made.close()


def signed_town(lies: Lies) -> tuple[SigningTown, list[int]]:
    """Return a log of 31 signed orders (no whole number of parts) and their entries; some by another key."""
    town, seqs = SigningTown(), []
    for number in range(31):
        by = OTHER if number in lies else MINE
        seqs.append(town.place(c.PlaceOrder(town.bob, NOON, c.BUY, 1_000 + number, 10, "gtg", 0), f"{number}", by=by))
        if number % 7 == 0:
            town.seal()
    town.seal()
    return town, seqs


def judged(town: SigningTown, pool: SignaturePool | None, entries: list[Any] | None = None) -> Judge:
    judge = Judge()
    if pool is not None:
        judge.verify_with(pool)
    entries = town.entries if entries is None else entries
    for first in range(0, len(entries), 5):
        judge.take(Bundle(first, [], entries[first : first + 5], town.rows, len(entries), None))
    judge.wait()
    return judge


@pytest.mark.parametrize("lies", [(), (0,), (30,), (17, 4, 5), tuple(range(31))])
def test_the_first_that_does_not_fit_is_named_whoever_checks(lies: Lies, pool: SignaturePool) -> None:
    town, seqs = signed_town(lies)
    alone, beside = judged(town, None).wrong, judged(town, pool).wrong
    assert str(alone) == str(beside)
    assert (beside is None) == (lies == ())
    if beside is not None:
        assert beside.place == place(town.entries[seqs[min(lies)]])


@pytest.mark.parametrize("lies", [(), (2,), (28,)])
def test_another_fault_is_named_unless_a_signature_before_it_does_not_fit(lies: Lies, pool: SignaturePool) -> None:
    town, seqs = signed_town(lies)
    entries = [dict(entry) for entry in town.entries]
    entries[seqs[20]]["area"] = "LV1"  # bob lives elsewhere
    wrong = judged(town, pool, entries).wrong
    assert wrong is not None and str(wrong) == str(judged(town, None, entries).wrong)
    assert wrong.place == place(entries[seqs[2 if lies == (2,) else 20]])


def test_a_process_that_is_ended_by_somebody_takes_no_answer_with_it(pool: SignaturePool) -> None:
    town, seqs = signed_town((25,))
    judge = Judge()
    judge.verify_with(pool)
    half = seqs[12]
    judge.take(Bundle(0, [], town.entries[:half], town.rows, len(town.entries), None))
    assert pool._pool is not None
    for process in list(pool._pool._processes):
        os.kill(process, signal.SIGKILL)
    judge.take(Bundle(half, [], town.entries[half:], town.rows, len(town.entries), None))
    judge.wait()
    assert judge.wrong is not None and judge.wrong.place == place(town.entries[seqs[25]])


@pytest.mark.parametrize("jobs", [1, 2, 3, 4])
def test_the_command_says_the_same_with_any_number_of_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    town, seqs = signed_town((17, 21))
    town.order(town.alice, c.SELL, 1_500, 10, FIRST)
    town.seal()
    folder = write(tmp_path / "wrong", lie(town, lambda entries, rows: entries[seqs[29]].update(energy_wh=9)))
    assert main([str(folder), "--jobs", str(jobs)]) == 1
    assert capsys.readouterr().err.startswith(f"{place(town.entries[seqs[17]])}: expected an order signed with the key")
    good, _ = signed_town(())
    folder = write(tmp_path / "good", good.files())
    verdict, kept = tmp_path / "verdict", tmp_path / "resume"
    options = ["--jobs", str(jobs), "--json", str(verdict), "--resume", str(kept), "--resume-every", "1"]
    assert main([str(folder), *options]) == 0
    assert json.loads(verdict.read_text())["types"]["order"] == 31
    assert kept.exists()
    (tmp_path / "resume").unlink()
    assert main([str(tmp_path / "wrong"), *options]) == 1
    assert not kept.exists(), "no position is kept behind a signature that was not checked in full"
