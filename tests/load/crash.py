"""`make crash KILLS=50`: kill -9 the exchange at random moments under load and compare what survived.

The parent is the client: it writes orders with idempotency keys to the exchange's stdin, reads acknowledgements from
its stdout, and kills it. What was sent and not acknowledged is sent again, with the same key, to the next life. Before
a new life takes orders it is held against the client's memory and against the ledger (``crash_child``):

* every acknowledged order is there, with the content and the id it was acknowledged with; none is there twice;
* the recovered state has the hash of a full replay from the first entry;
* the books sum to zero, and the log verifies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
WINDOW = 400  # orders on their way
ORDERS_A_SECOND = 1_200  # enough to be killed in the middle of something; more would only make the full replays longer
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 60.0
LIFE_S = (0.05, 1.0)  # from the first order to the kill
MARKET_SPEED = 120  # market seconds a second, so that gates close and contracts open while it is being killed
MARKET_START_MS = 1_780_740_000_000  # 2026-06-06T10:00:00Z
INTERVAL_MS = 15 * 60_000


class Violation(Exception):
    """Something that must never happen did."""


class Client:
    """Sends orders and remembers everything; outlives the exchange."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.sent: dict[int, dict[str, Any]] = {}  # by the client's own number
        self.answers: dict[int, list[Any]] = {}  # number -> [order id, refusal code]
        self.repeated = 0
        self.began_s = time.monotonic()

    def market_ms(self) -> int:
        """Return market time; it goes on while the exchange is dead."""
        return MARKET_START_MS + int((time.monotonic() - self.began_s) * 1000 * MARKET_SPEED)

    def new_order(self, accounts: int) -> int:
        """Make up an order. Its energy carries its number, so that it can be told from all others."""
        number = len(self.sent)
        start_ms = (self.market_ms() // INTERVAL_MS + self.random.randint(1, 4)) * INTERVAL_MS
        self.sent[number] = {
            "number": number,
            "account": self.random.randrange(accounts),
            "start_ms": start_ms,
            "side": self.random.choice(("buy", "sell")),
            "price_e4": self.random.randint(1_500, 2_500),
            "energy_wh": 1_000 + number,
            "time_in_force": self.random.choices(("gtg", "ioc", "fok"), (8, 1, 1))[0],
        }
        return number

    def unanswered(self) -> list[int]:
        """Return what was sent and not acknowledged, oldest first."""
        return [number for number in self.sent if number not in self.answers]

    def answered(self, answer: dict[str, Any]) -> None:
        """Note an acknowledgement; raise ``Violation`` when a second one for the same order says something else."""
        number, result = answer["number"], [answer["order"], answer["refused"]]
        self.repeated += answer["repeated"]
        if self.answers.setdefault(number, result) != result:
            raise Violation(f"order {number}: acknowledged as {self.answers[number]} before, as {result} now")


class Life:
    """One process of the exchange."""

    def __init__(self, environment: dict[str, str], client: Client):
        self._client = client
        self._errors: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.load.crash_child", str(client.began_s)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._stdin: IO[str] = self.process.stdin
        self._stdout: IO[str] = self.process.stdout
        self._room = threading.Semaphore(WINDOW)
        self._reader: threading.Thread | None = None

    def check(self) -> dict[str, Any]:
        """Let the exchange recover and hold it against the client's memory; raise ``Violation``."""
        memory = {
            "answers": [[number, *answer] for number, answer in self._client.answers.items()],
            "sent": list(self._client.sent.values()),
        }
        self._write(memory)
        line = self._stdout.readline()
        if not line:
            raise Violation(f"the exchange did not start: exit code {self.process.wait(ANSWER_TIMEOUT_S)}")
        report: dict[str, Any] = json.loads(line)
        if report["violations"]:
            raise Violation("; ".join(report["violations"][:5]))
        return report

    def load(self, accounts: int, seconds: float) -> None:
        """Send what is unanswered, then new orders, for a while."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        began_s = time.monotonic()
        for number in self._client.unanswered():
            self._send(number)
        sent = 0
        while (since_s := time.monotonic() - began_s) < seconds and not self._errors and self.process.poll() is None:
            if sent > since_s * ORDERS_A_SECOND:
                time.sleep(0.001)
                continue
            self._send(self._client.new_order(accounts))
            sent += 1

    def kill(self) -> None:
        """End it at once, wherever it is; then take in what it had still said."""
        self.process.kill()
        self.process.wait(ANSWER_TIMEOUT_S)
        if self._reader is not None:
            self._reader.join(ANSWER_TIMEOUT_S)
        if self._errors:
            raise Violation(self._errors[0])

    def finish(self) -> None:
        """Wait for all answers and stop it in good order."""
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        while self._client.unanswered() and time.monotonic() < deadline_s and self.process.poll() is None:
            time.sleep(0.01)
        self._stdin.close()
        code = self.process.wait(ANSWER_TIMEOUT_S)
        if self._reader is not None:
            self._reader.join(ANSWER_TIMEOUT_S)
        if code or self._errors or self._client.unanswered():
            raise Violation(f"it ended with {code}, {self._errors}, {len(self._client.unanswered())} orders unanswered")

    def _send(self, number: int) -> None:
        if self._room.acquire(timeout=0.5):
            self._write(self._client.sent[number])

    def _write(self, message: dict[str, Any]) -> None:
        try:
            self._stdin.write(json.dumps(message) + "\n")
            self._stdin.flush()
        except BrokenPipeError:  # it has just been killed
            return

    def _read(self) -> None:
        for line in self._stdout:
            if not line.endswith("\n"):
                return  # cut off by the kill: an answer that nobody has read is none
            try:
                self._client.answered(json.loads(line))
            except Violation as error:
                self._errors.append(str(error))
            self._room.release()


def run(kills: int, environment: dict[str, str], seed: int) -> dict[str, Any]:
    """Kill the exchange ``kills`` times; return a summary or raise ``Violation``."""
    client = Client(seed)
    chance = random.Random(seed + 1)
    report: dict[str, Any] = {}
    for kill in range(kills):
        life = Life(environment, client)
        try:
            report = life.check()
            timer = threading.Timer(chance.uniform(*LIFE_S), life.process.kill)
            timer.start()
            life.load(report["accounts"], LIFE_S[1] + 1)
            timer.cancel()
        finally:
            life.kill()
        print(
            f"kill {kill + 1:>2}: {len(client.answers):>7} orders acknowledged, {len(client.unanswered()):>3} in doubt; "
            f"it began with {report['seq']:>8} entries, {report['replayed']:>6} of them replayed",
            flush=True,
        )
    for goodbye in (False, True):
        life = Life(environment, client)
        try:
            report = life.check()
            if goodbye:
                life.finish()
            else:
                life.load(report["accounts"], 0)
                life.finish()
        finally:
            life.kill()
    return {
        "kills": kills,
        "sent": len(client.sent),
        "acknowledged": len(client.answers),
        "repeated": client.repeated,
        "orders": report["orders"],
        "trades": report["trades"],
        "entries": report["seq"],
        "state": report["state"],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the harness; return 1 on a violation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--database", default="", help="a PostgreSQL URL; ALL its tables are dropped. SQLite by default"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        environment = {**os.environ, "SUNLEDGER_DATA": folder, "SUNLEDGER_LOG_LEVEL": "ERROR"}
        environment["DATABASE_URL"] = options.database or f"sqlite:///{folder}/crash.sqlite3"
        print(f"seed {options.seed}, database {environment['DATABASE_URL']}", flush=True)
        began_s = time.monotonic()
        try:
            subprocess.run(
                [sys.executable, "-m", "tests.load.crash_child", "prepare"], cwd=ROOT, env=environment, check=True
            )
            summary = run(options.kills, environment, options.seed)
        except Violation as error:
            print(f"VIOLATION (seed {options.seed}): {error}", file=sys.stderr)
            return 1
    print(
        f"{summary['kills']} kills in {time.monotonic() - began_s:.0f} s: "
        f"{summary['acknowledged']} of {summary['sent']} orders acknowledged, {summary['repeated']} again on a retry; "
        f"{summary['orders']} accepted, each there once; {summary['trades']} trades, {summary['entries']} entries; "
        f"state {summary['state'][:16]} equal to a full replay's, books sum to zero, log verified"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
