"""What the state channels show: pure functions from the engine to a mapping of keys to values, and to JSON.

They run under the writer's lock (``Exchange.read``), so each is bounded: a book shows ``BOOK_LEVELS`` levels a side, a
ticker only the contracts it is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from market.exchange.units import price_text

if TYPE_CHECKING:
    from market.engine.engine import Engine

BOOK_LEVELS = 25  # a side: more than a ladder shows; a deeper look is one REST call
SHOWN_STATES = ("open", "closed")  # a delivered contract has left the market's screens

Key = Any
View = tuple[dict[Key, Any], Iterable[Key] | None]  # values, and the keys they are complete for (None: all)


def book_view(engine: Engine, args: Sequence[str], touched: Iterable[str] | None) -> View:
    """Executable depth of one contract seen from an area: (side, price_e4) -> (energy_wh, fee_e4 a kWh)."""
    area, contract = args
    bids, asks = engine.depth(area, contract, BOOK_LEVELS)
    view = {}
    for side, levels in (("bids", bids), ("asks", asks)):
        for level in levels:
            view[side, level.price_e4] = (level.energy_wh, level.fee_wh_e4 // level.energy_wh)
    return view, None


def book_data(args: Sequence[str], entries: Mapping[Key, Any]) -> dict[str, Any]:
    """A book or a part of one as JSON: levels are [price, energy_wh, grid fee a kWh within the price]."""
    sides: dict[str, list[list[Any]]] = {"bids": [], "asks": []}
    for (side, price_e4), value in sorted(entries.items(), key=lambda entry: entry[0]):
        energy_wh, fee_e4 = value or (0, 0)
        sides[side].append([price_text(price_e4), energy_wh, price_text(fee_e4)])
    sides["bids"].reverse()
    return {"contract": args[1], "area": args[0], **sides}


def book_refusal(engine: Engine, args: Sequence[str]) -> str | None:
    """Return the error code for a book that cannot exist, else ``None``."""
    return ticker_refusal(engine, args) or (None if args[1] in engine.contracts else "unknown_contract")


def ticker_view(engine: Engine, args: Sequence[str], touched: Iterable[str] | None) -> View:
    """Best all-in prices seen from an area, by contract: (bid_e4, ask_e4, last_e4, volume_wh, state)."""
    area = args[0]
    wanted = None if touched is None else set(touched)
    view = {}
    for name in engine.contracts if wanted is None else wanted:
        contract = engine.contracts.get(name)
        if contract is None or contract.state not in SHOWN_STATES:
            continue
        bid, ask = engine.best(area, name)
        state = "halted" if contract.halted and contract.state == "open" else contract.state
        view[name] = (bid, ask, contract.last_e4 or None, contract.volume_wh, state)
    return view, wanted


def ticker_data(args: Sequence[str], entries: Mapping[Key, Any]) -> dict[str, Any]:
    """A ticker or a part of one as JSON; ``null`` for a contract that has left the market."""
    contracts: dict[str, Any] = {}
    for name in sorted(entries):
        line = entries[name]
        if line is None:
            contracts[name] = None
            continue
        bid, ask, last, volume_wh, state = line
        contracts[name] = {
            "bid": None if bid is None else price_text(bid),
            "ask": None if ask is None else price_text(ask),
            "last": None if last is None else price_text(last),
            "volume_wh": volume_wh,
            "state": state,
        }
    return {"area": args[0], "contracts": contracts}


def flow_data(args: Sequence[str], entries: Mapping[Key, Any]) -> dict[str, Any]:
    """A home's numbers, or those that changed, as JSON: ``power`` in W; ``readings`` and ``halts`` are ledger sequences."""
    return dict(entries)


def ticker_refusal(engine: Engine, args: Sequence[str]) -> str | None:
    """Return the error code for an area that does not exist, else ``None``."""
    return None if args[0] in engine.areas else "unknown_area"
