"""The most that a tree of areas can gain from a set of orders in one interval, exactly: the measure for a market's welfare.

Welfare of a set of trades = sum of (buyer's limit - seller's limit - fees of the path) * energy. At its maximum no edge is
used both ways (swapping partners would save fees), so it is the value of the orders served less each edge's fee on its net
flow, and only net flows are bound by capacities.

Let f(x) be the most a subtree gains when it sends x Wh of net energy up (x < 0: gets them), not counting what they are
worth outside. f is concave and piecewise linear: beginning where every buyer is served from outside, each further Wh sent
up either takes energy from a buyer or comes from a seller, and costs that order's limit. So a subtree is a stack of
(price, energy) in the order of price, whoever they belong to. Putting subtrees together merges their stacks; an edge cuts
the stack to what it can carry, makes what is bought from outside worth less by its fee (price - fee) and what is sold to
the outside dearer (price + fee). At the root x = 0. Integers only: prices in 0.0001 currency/kWh (``_e4``), energy in Wh.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ENERGY_BITS = 48  # one integer a piece of the stack, (price << 48) + energy: sorting and shifting prices is then fast
ENERGY_MASK = (1 << ENERGY_BITS) - 1

Offer = tuple[int, bool, int, int]  # area, whether it buys, limit in e4, energy in Wh


def optimum_e7(
    parents: Sequence[int],
    fees_e4: Sequence[int],
    import_wh: Sequence[int],
    export_wh: Sequence[int],
    offers: Iterable[Offer],
) -> int:
    """Return the maximal welfare (e7) of the offers.

    ``parents[v]`` is the area above v, -1 for the one root; parents come before children. ``fees_e4``, ``import_wh`` (down
    into v) and ``export_wh`` (up from v) belong to the edge above v. Raises ``ValueError`` unless there is exactly one root.
    """
    if list(parents).count(-1) != 1:
        raise ValueError(f"expected one root, was {list(parents).count(-1)}")
    stacks: list[list[int]] = [[] for _ in parents]
    wanted_wh = [0] * len(stacks)  # how far the stack begins below x = 0
    gain_e7 = [0] * len(stacks)  # f at that beginning
    for area, buys, price_e4, energy_wh in offers:
        assert energy_wh > 0
        stacks[area].append((price_e4 << ENERGY_BITS) + energy_wh)
        if buys:
            wanted_wh[area] += energy_wh
            gain_e7[area] += price_e4 * energy_wh
    for area in range(len(stacks) - 1, 0, -1):
        stack, wanted, gain = stacks[area], wanted_wh[area], gain_e7[area]
        stacks[area] = []
        stack.sort()
        given_up, stack = split(stack, wanted - import_wh[area])
        gain -= cost_e7(given_up)
        wanted = min(wanted, import_wh[area])
        bought, sold = split(stack, wanted)
        sold, _ = split(sold, export_wh[area])
        fee = fees_e4[area] << ENERGY_BITS
        above = parents[area]
        stacks[above] += [piece - fee for piece in bought]
        stacks[above] += [piece + fee for piece in sold]
        wanted_wh[above] += wanted
        gain_e7[above] += gain - fees_e4[area] * wanted
    root = sorted(stacks[0])
    return gain_e7[0] - cost_e7(split(root, wanted_wh[0])[0])


def split(stack: list[int], energy_wh: int) -> tuple[list[int], list[int]]:
    """Return the cheapest so many Wh of a sorted stack, and the rest; a piece in between is cut."""
    if energy_wh <= 0:
        return [], stack
    missing_wh = energy_wh
    for place, piece in enumerate(stack):
        energy = piece & ENERGY_MASK
        if energy >= missing_wh:
            over_wh = energy - missing_wh
            rest = [piece - missing_wh] if over_wh else []
            return [*stack[:place], piece - over_wh], rest + stack[place + 1 :]
        missing_wh -= energy
    return stack, []


def cost_e7(stack: list[int]) -> int:
    """Return what a stack costs."""
    return sum((piece >> ENERGY_BITS) * (piece & ENERGY_MASK) for piece in stack)
