"""Python order books from PyPI, on their part of the engine's work: one area, limit orders, cancellations, takers.

They have neither accounts, money, areas, fees, capacities nor a record of what happened. They live in a virtual environment of
their own (``build/peers``, pinned in ``peers.txt``) and run as subprocesses (``peer_child.py``). Where one can't be installed
the benchmark says so and goes on.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from market.engine import commands as c
from tests.load.bare_book import BareBook
from tests.load.grid_mix import CHUNK, resting_order, taker

HERE = Path(__file__).parent
PINS = HERE / "peers.txt"
BUILD = HERE.parents[1] / "build"
FOLDER = BUILD / "peers"
INSTALL_TIMEOUT_S = 300
RUN_TIMEOUT_S = 120


class Size(NamedTuple):
    """What a peer is given: the same mix, on as many resting orders as it can cope with in reasonable time."""

    package: str
    resting: int
    commands: int


PEERS = {
    "lightmatchingengine": Size("lightmatchingengine", 20_000, 40_000),
    "pyorderbook": Size("pyorderbook", 20_000, 40_000),
    "order-matching": Size("order-matching[polars]", 1_000, 300),  # each command walks through all orders
}


def provide() -> dict[str, str]:
    """Install the peers unless they are; return what went wrong by name, nothing if all is well."""
    stamp = FOLDER / "installed"
    wanted = hashlib.sha256(PINS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return {}
    failed: dict[str, str] = {}
    try:
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True, capture_output=True, text=True
        )
    except subprocess.CalledProcessError as error:
        return dict.fromkeys(PEERS, f"no virtual environment: {told(error.stderr or error.stdout)}")
    for name, size in PEERS.items():
        command = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--retries", "1"]
        try:
            subprocess.run(
                [*command, "--constraint", str(PINS), size.package],
                check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            failed[name] = f"not installed within {INSTALL_TIMEOUT_S} s"
        except subprocess.CalledProcessError as error:
            failed[name] = f"not installed: {told(error.stderr)}"
    if not failed:
        stamp.write_text(wanted)
    return failed


def told(text: str) -> str:
    """Return the line of an output that says most: pip's first error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no message")


def script(seed: int, resting: int, count: int) -> dict[str, Any]:
    """Return the mix for a book of one area: ``resting`` and ``chunks``, of commands [kind, number, side, price, energy].

    ``number`` counts the orders; of a ``cancel`` it names the order, which rests then. A chunk has the commands to be timed
    and those that bring the book back to its size. ``traded_wh`` is what must trade in all.
    """
    draw, book = random.Random(seed), BareBook()
    live: list[int] = []  # orders that rest, and some that have been filled

    def place(kind: str, order: c.PlaceOrder) -> list[Any]:
        number = book.next
        book.place(order.side, order.price_e4, order.energy_wh, kind == "add")
        if kind == "add":
            live.append(number)
        return [kind, number, order.side, order.price_e4, order.energy_wh]

    def cancel() -> list[Any]:
        while True:
            index = draw.randrange(len(live))
            live[index], live[-1] = live[-1], live[index]
            number = live.pop()
            if book.orders[number][2]:
                book.cancel(number)
                return ["cancel", number, "", 0, 0]

    def command() -> list[Any]:
        kind = draw.random()
        if kind < 0.60:
            return place("add", resting_order(draw, [0]))
        return cancel() if kind < 0.85 else place("take", taker(draw, [0]))

    rests = [place("add", resting_order(draw, [0])) for _ in range(resting)]
    chunks = []
    for _ in range(count // CHUNK):
        commands, trim = [command() for _ in range(CHUNK)], []
        live[:] = [number for number in live if book.orders[number][2]]
        while len(live) > resting:
            trim.append(cancel())
        while len(live) < resting:
            trim.append(place("add", resting_order(draw, [0])))
        chunks.append([commands, trim])
    return {"resting": rests, "chunks": chunks, "traded_wh": book.traded_wh}


def rate(name: str, seed: int) -> float | str:
    """Return a peer's commands a CPU second on one script, or in words why there is no figure."""
    size = PEERS[name]
    BUILD.mkdir(exist_ok=True)
    file = BUILD / f"peer-{name}.json"
    wanted = script(seed, size.resting, size.commands)
    file.write_text(json.dumps(wanted))
    command = [str(FOLDER / "bin" / "python"), "-I", str(HERE / "peer_child.py"), name, str(file)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"took longer than {RUN_TIMEOUT_S} s"
    finally:
        file.unlink()
    if run.returncode:
        return f"failed: {told(run.stderr)}"
    answer = json.loads(run.stdout)
    if answer["traded_wh"] != wanted["traded_wh"]:
        return f"traded {answer['traded_wh']:,} Wh of {wanted['traded_wh']:,}"
    return float(answer["rate"])
