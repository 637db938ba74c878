"""The grid: a tree of areas, each tied to its parent by an edge with a fee and a capacity in each direction.

``Topology`` is the tree as a book needs it: binary, so that a walk to the root looks at one sibling a step. Areas keep their
numbers; free virtual nodes between a parent and its children have no fee, no limit and no orders.
"""

from __future__ import annotations

from typing import NamedTuple

PRIORITY_BITS = 40
MAX_AREAS = 65_536
PATHS_CACHED = 65_536  # paths remembered by one topology: a city's pairs that trade, not all pairs


class Area:
    """A node of the grid. The root's edge carries nothing."""

    __slots__ = ("export_w", "fee_e4", "halted", "halted_above", "import_w", "index", "level", "name", "parent")

    def __init__(self, name: str, index: int, parent: int, level: str):
        self.name = name
        self.index = index
        self.parent = parent  # index, -1 for the root
        self.level = level
        self.fee_e4 = 0
        self.import_w = 0  # from the parent into the area
        self.export_w = 0
        self.halted = False
        self.halted_above = False  # it or an area above it is halted


class EdgeFlow(NamedTuple):
    """What a contract's trades use of the edge between an area and its parent, and what the edge could carry, in Wh."""

    import_wh: int
    export_wh: int
    import_capacity_wh: int
    export_capacity_wh: int
    import_residual_wh: int
    export_residual_wh: int


class Topology:
    """The tree made binary, with the fees of one moment. Never changed after it was made."""

    __slots__ = (
        "_paths",
        "areas",
        "below",
        "depth",
        "fee_keys",
        "fees_e4",
        "left",
        "nodes",
        "parent",
        "real_parents",
        "right",
        "sibling",
    )

    def __init__(self, parents: list[int], fees_e4: list[int]):
        self.areas = len(parents)
        self.real_parents = parents
        self.fees_e4 = fees_e4
        self.parent = list(parents)
        self.fee_keys = [fee_e4 << PRIORITY_BITS for fee_e4 in fees_e4]
        self.left = [-1] * self.areas
        self.right = [-1] * self.areas
        children: list[list[int]] = [[] for _ in parents]
        for node, parent in enumerate(parents):
            if parent >= 0:
                children[parent].append(node)
        self.below = [tuple(nodes) for nodes in children]
        for node, below in enumerate(children):
            self._hang(node, below)
        self.nodes = len(self.parent)
        self.sibling = [-1] * self.nodes
        for node in range(self.nodes):
            left, right = self.left[node], self.right[node]
            if left >= 0 and right >= 0:
                self.sibling[left], self.sibling[right] = right, left
        self.depth = [0] * self.nodes
        for node in range(self.nodes):
            step = node
            while self.parent[step] >= 0:
                step = self.parent[step]
                self.depth[node] += 1
        self._paths: dict[tuple[int, int], tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def _hang(self, node: int, below: list[int]) -> None:
        """Hang children under a node, two at the most, by virtual nodes that halve the rest."""
        if not below:
            return
        middle = len(below) // 2
        for side, part in ((self.right, below[middle:]), (self.left, below[:middle])):
            if not part:
                continue
            if len(part) == 1:
                child = part[0]
            else:
                child = len(self.parent)
                self.parent.append(node)
                self.fee_keys.append(0)
                self.left.append(-1)
                self.right.append(-1)
                self._hang(child, part)
            self.parent[child] = node
            side[node] = child

    def path(self, source: int, sink: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the areas whose edge energy climbs and those whose edge it descends on its way from source to sink."""
        found = self._paths.get((source, sink))
        if found is not None:
            return found
        up: list[int] = []
        down: list[int] = []
        a, b = source, sink
        while a != b:
            if self.depth[a] >= self.depth[b]:
                if a < self.areas:
                    up.append(a)
                a = self.parent[a]
            else:
                if b < self.areas:
                    down.append(b)
                b = self.parent[b]
        if len(self._paths) >= PATHS_CACHED:
            self._paths.clear()
        self._paths[source, sink] = found = (tuple(up), tuple(down))
        return found

    def fee_e4(self, source: int, sink: int) -> int:
        """Return the grid fee per kWh from source to sink."""
        up, down = self.path(source, sink)
        return sum(self.fee_keys[node] for node in up + down) >> PRIORITY_BITS


class Grid:
    """All areas, in the order they were added; parents before children."""

    __slots__ = ("_topology", "areas", "index")

    def __init__(self) -> None:
        self.areas: list[Area] = []
        self.index: dict[str, int] = {}
        self._topology: Topology | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.index

    @property
    def parent(self) -> dict[str, str]:
        """Every area's parent by name, "" for the root."""
        return {area.name: self.areas[area.parent].name if area.parent >= 0 else "" for area in self.areas}

    def get(self, name: str) -> Area | None:
        """Return the area of that name, if there is one."""
        index = self.index.get(name)
        return None if index is None else self.areas[index]

    def add(self, name: str, parent: str, level: str) -> Area:
        """Add an area; the caller has checked that the name is new and the parent is there."""
        area = Area(name, len(self.areas), self.index[parent] if parent else -1, level)
        area.halted_above = area.parent >= 0 and self.areas[area.parent].halted_above
        self.areas.append(area)
        self.index[name] = area.index
        self._topology = None
        return area

    def set_fee(self, area: Area, fee_e4: int) -> None:
        """Set the fee for contracts opened from now on."""
        area.fee_e4 = fee_e4
        self._topology = None

    def topology(self) -> Topology:
        """Return the tree with the fees of now; the same object until either changes."""
        if self._topology is None:
            self._topology = Topology([area.parent for area in self.areas], [area.fee_e4 for area in self.areas])
        return self._topology

    @staticmethod
    def past_topology(parents: tuple[int, ...], fees_e4: tuple[int, ...]) -> Topology:
        """Return the tree of an earlier moment, as a contract that opened then still has it."""
        return Topology(list(parents), list(fees_e4))

    def set_halted(self, area: Area, on: bool) -> None:
        """Halt or resume an area with all below it."""
        area.halted = on
        self.spread_halts()

    def spread_halts(self) -> None:
        """Tell every area whether it is halted by itself or from above."""
        for area in self.areas:
            area.halted_above = area.halted or (area.parent >= 0 and self.areas[area.parent].halted_above)
