"""Orders: what one is, and what makes some of them more than a limit order."""

from __future__ import annotations

from market.engine.grid import PRIORITY_BITS


class Group:
    """The legs of a block, in the order of time.

    ``watched`` is the contract in which it was last seen not to trade, ``missing_wh`` what has still to come there before it
    is worth another look (-1: whatever happens).
    """

    __slots__ = ("id", "legs", "missing_wh", "watched")

    def __init__(self, id: int):
        self.id = id
        self.legs: list[Order] = []
        self.missing_wh = -1
        self.watched = ""

    @property
    def priority(self) -> int:
        """Its first leg's time priority."""
        return self.legs[0].priority


class Complex:
    """What an order has beyond a limit order's own: a hidden part, a group, or a time outside the book."""

    __slots__ = ("asleep", "display_wh", "group", "hidden_wh", "kind")

    def __init__(self, kind: str, display_wh: int = 0, group: Group | None = None):
        self.kind = kind  # as ``events.ComplexOrderPlaced``; "" of a limit order that hibernates
        self.display_wh = display_wh
        self.hidden_wh = 0  # of an iceberg: what lies behind the clip that rests
        self.asleep = False
        self.group = group


class Exposure:
    """What a grid connection will have taken from (``buy_wh``) and given to the grid if all its open orders trade.

    In one contract: position + open buys, and open sells - position. A fill turns open energy into position: it changes only
    what the other side may still be.
    """

    __slots__ = ("buy_wh", "sell_wh")

    def __init__(self) -> None:
        self.buy_wh = 0
        self.sell_wh = 0

    def add(self, is_buy: bool, energy_wh: int) -> None:
        """Count more open energy of one side."""
        if is_buy:
            self.buy_wh += energy_wh
        else:
            self.sell_wh += energy_wh

    def move(self, position_wh: int) -> None:
        """Count more position."""
        self.buy_wh += position_wh
        self.sell_wh -= position_wh


class Order:
    """A resting or arriving order. ``key`` and ``priority`` decide its place, ``node`` is its area's number.

    ``remaining_wh`` is what can be traded with: of a resting iceberg its clip, the rest is ``complex.hidden_wh``.
    """

    __slots__ = (
        "account",
        "complex",
        "contract",
        "energy_wh",
        "expires_at_ms",
        "exposure",
        "hold_e4",
        "id",
        "is_buy",
        "key",
        "node",
        "price_e4",
        "priority",
        "remaining_wh",
        "resting",
        "time_in_force",
    )

    def __init__(
        self, id: int, account: int, contract: str, node: int, is_buy: bool, price_e4: int, energy_wh: int,
        time_in_force: str, expires_at_ms: int, hold_e4: int, priority: int, exposure: Exposure,
        complex: Complex | None = None,
    ):  # fmt: skip
        self.id = id
        self.account = account
        self.contract = contract
        self.node = node
        self.is_buy = is_buy
        self.price_e4 = price_e4
        self.energy_wh = energy_wh  # in total
        self.remaining_wh = energy_wh
        self.time_in_force = time_in_force
        self.expires_at_ms = expires_at_ms
        self.hold_e4 = hold_e4  # money set aside per kWh
        self.exposure = exposure  # its connection's in its contract
        self.complex = complex
        self.resting = False  # in the book now (a halt of its area or account takes it out)
        self.queue(priority)

    def queue(self, priority: int) -> None:
        """Give it a time priority; not while it rests."""
        self.priority = priority
        self.key = ((-self.price_e4 if self.is_buy else self.price_e4) << PRIORITY_BITS) | priority

    @property
    def side(self) -> str:
        """``"buy"`` or ``"sell"``."""
        return "buy" if self.is_buy else "sell"

    @property
    def cost_e4(self) -> int:
        """Its limit as the highest cost it accepts: a seller's price counts negative."""
        return self.price_e4 if self.is_buy else -self.price_e4

    @property
    def left_wh(self) -> int:
        """All that is not traded yet, a hidden part included."""
        return self.remaining_wh if self.complex is None else self.remaining_wh + self.complex.hidden_wh

    @property
    def filled_wh(self) -> int:
        """Energy traded so far."""
        return self.energy_wh - self.left_wh

    @property
    def hold_e7(self) -> int:
        """Money set aside for what remains."""
        return self.hold_e4 * self.left_wh

    @property
    def waits(self) -> bool:
        """Whether it is open but kept out of the book: it hibernates, or is the leg of a block."""
        return self.complex is not None and (self.complex.asleep or self.complex.group is not None)

    def hide(self) -> None:
        """Show no more than a clip of what is left; not while it rests."""
        if self.complex is not None and self.complex.display_wh:
            left_wh = self.left_wh
            self.remaining_wh = min(self.complex.display_wh, left_wh)
            self.complex.hidden_wh = left_wh - self.remaining_wh

    def show_all(self) -> None:
        """Make all that is left tradable, as it is when the order arrives; not while it rests."""
        if self.complex is not None:
            self.remaining_wh += self.complex.hidden_wh
            self.complex.hidden_wh = 0
