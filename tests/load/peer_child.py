"""One peer plays one script: ``python peer_child.py NAME SCRIPT.json`` prints ``{"rate", "traded_wh"}``.

Runs in the peers' own environment, so it imports nothing of the product. See ``peers.py`` for the script.
"""

import gc
import json
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

COLLECT_AFTER = (50_000, 20, 50)  # as our engine is measured


class LightMatchingEngine:
    """lightmatchingengine. It knows no immediate-or-cancel: what a taker leaves is cancelled."""

    def __init__(self) -> None:
        from lightmatchingengine.lightmatchingengine import LightMatchingEngine as Engine
        from lightmatchingengine.lightmatchingengine import Side

        self.engine = Engine()
        self.sides = {"buy": Side.BUY, "sell": Side.SELL}
        self.ids: dict[int, int] = {}
        self.traded_wh = 0

    def add(self, number: int, side: str, price: int, energy_wh: int) -> None:
        order, _ = self.engine.add_order("contract", price, energy_wh, self.sides[side])
        self.ids[number] = order.order_id

    def take(self, number: int, side: str, price: int, energy_wh: int) -> None:
        order, _ = self.engine.add_order("contract", price, energy_wh, self.sides[side])
        self.traded_wh += energy_wh - order.leaves_qty
        if order.leaves_qty:
            self.engine.cancel_order(order.order_id, "contract")

    def cancel(self, number: int, side: str, price: int, energy_wh: int) -> None:
        self.engine.cancel_order(self.ids[number], "contract")


class PyOrderBook:
    """pyorderbook. It knows no immediate-or-cancel either."""

    def __init__(self) -> None:
        from pyorderbook import Book, ask, bid

        self.book = Book()
        self.makers: dict[str, Any] = {"buy": bid, "sell": ask}
        self.orders: dict[int, Any] = {}
        self.traded_wh = 0

    def add(self, number: int, side: str, price: int, energy_wh: int) -> None:
        order = self.orders[number] = self.makers[side]("contract", price, energy_wh)
        self.book.match(order)

    def take(self, number: int, side: str, price: int, energy_wh: int) -> None:
        order = self.makers[side]("contract", price, energy_wh)
        self.book.match(order)
        self.traded_wh += energy_wh - order.quantity
        if order.quantity:
            self.book.cancel(order)

    def cancel(self, number: int, side: str, price: int, energy_wh: int) -> None:
        self.book.cancel(self.orders[number])


class OrderMatching:
    """order-matching, its log switched off. It matches what was placed when told to: after each order here."""

    def __init__(self) -> None:
        from loguru import logger
        from order_matching.enums import Side
        from order_matching.matching_engine import MatchingEngine
        from order_matching.order import LimitOrder
        from order_matching.orders import Orders

        logger.remove()
        self.engine = MatchingEngine(seed=1)
        self.new_order, self.orders = LimitOrder, Orders
        self.sides = {"buy": Side.BUY, "sell": Side.SELL}
        self.at = datetime(2026, 6, 6, 10)
        self.traded_wh = 0

    def _place(self, number: int, side: str, price: int, energy_wh: int) -> Any:
        self.at += timedelta(microseconds=1)
        order = self.new_order(
            side=self.sides[side], price=price, size=energy_wh, timestamp=self.at, order_id=str(number), trader_id="t"
        )
        self.engine.place(orders=self.orders([order]))
        self.engine.match(timestamp=self.at)
        return order

    def add(self, number: int, side: str, price: int, energy_wh: int) -> None:
        self._place(number, side, price, energy_wh)

    def take(self, number: int, side: str, price: int, energy_wh: int) -> None:
        order = self._place(number, side, price, energy_wh)
        self.traded_wh += energy_wh - int(order.size)
        if order.size:
            self.engine.cancel_order(str(number))

    def cancel(self, number: int, side: str, price: int, energy_wh: int) -> None:
        self.engine.cancel_order(str(number))


BOOKS: dict[str, type] = {
    "lightmatchingengine": LightMatchingEngine,
    "pyorderbook": PyOrderBook,
    "order-matching": OrderMatching,
}


def main(name: str, file: str) -> None:
    """Fill the book, time the commands, print the answer."""
    book = BOOKS[name]()
    script = json.loads(Path(file).read_text())
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    for _, *order in script["resting"]:
        book.add(*order)
    spent, count = 0.0, 0
    for commands, trim in script["chunks"]:
        steps = [(getattr(book, kind), order) for kind, *order in commands]
        started = time.process_time()
        for step, order in steps:
            step(*order)
        spent += time.process_time() - started
        count += len(steps)
        for kind, *order in trim:
            getattr(book, kind)(*order)
    print(json.dumps({"rate": count / spent, "traded_wh": book.traded_wh}))


if __name__ == "__main__":
    main(*sys.argv[1:])
