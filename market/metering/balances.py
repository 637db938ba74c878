"""The balance of areas, from the readings of homes and of substation meters; the rules are in ``balance``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from django.db.models import Count, Exists, F, OuterRef, Q, Sum

from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.exchange.exchange import Exchange
from market.exchange.models import Contract
from market.households import devices
from market.metering import balance, intake, validation
from market.metering.balance import Balance, Interval, Verdict
from market.metering.formats.values import Value
from market.metering.models import Quality, Reading

MINUTE_MS = 60_000
MAX_INTERVALS = 96  # of a window: a day of quarter hours
WINDOW = 16  # by default: four hours
SETTLES_MS = 15 * MINUTE_MS  # what is younger is still coming in


class AreaBalance(NamedTuple):
    """An area with a measured edge, or with homes: what is left over, and the likely cause."""

    area: str
    parent: str
    homes: int
    metered: bool  # whether its edge has a meter
    verdict: Verdict
    rows: list[Balance]


class _Grid(NamedTuple):
    length_ms: int
    parents: dict[str, str]
    homes: dict[str, int]


def _look(engine: Engine) -> _Grid:
    areas = engine.grid.areas
    parents = {area.name: areas[area.parent].name if area.parent >= 0 else "" for area in areas}
    return _Grid(engine.interval_min * MINUTE_MS, parents, dict(engine.members_by_area))


def window_of(exchange: Exchange, *, end_ms: int | None = None, intervals: int = WINDOW) -> tuple[int, int, int]:
    """Return start, end and length of intervals (ms) of a window that ends at the last whole interval before ``end_ms``."""
    length_ms = exchange.read(lambda engine: engine.interval_min) * MINUTE_MS
    until = exchange.now_ms() - SETTLES_MS if end_ms is None else end_ms
    end = until - until % length_ms
    return end - min(intervals, MAX_INTERVALS) * length_ms, end, length_ms


def since_opening(start_ms: int, end_ms: int) -> int:
    """Return the start of a window (ms) that does not begin before the market's first interval; ``end_ms`` where all is."""
    first = Contract.objects.order_by("name").values_list("name", flat=True).first()
    return end_ms if first is None else min(end_ms, max(start_ms, contract_start_ms(first)))


def of_areas(exchange: Exchange, *, start_ms: int, end_ms: int) -> list[AreaBalance]:
    """Return the balances of all areas over the intervals of [start_ms, end_ms), those with most left unexplained first."""
    grid = exchange.read(_look)
    starts = range(start_ms, end_ms, grid.length_ms)[:MAX_INTERVALS]
    exchanged = _exchanged(starts, grid.length_ms)
    sums = _sums(start_ms, end_ms)
    below: dict[str, list[str]] = {}
    for name, parent in grid.parents.items():
        below.setdefault(parent, []).append(name)
    found = []
    for area, parent in grid.parents.items():
        homes, metered = grid.homes.get(area, 0), area in exchanged
        if not homes and not metered:
            continue
        window = [_interval(area, at, homes, exchanged, below.get(area, ()), sums) for at in starts]
        rows, verdict = balance.judge(window)
        found.append(AreaBalance(area, parent, homes, metered, verdict, rows))
    return sorted(found, key=lambda one: (not one.metered, -abs(one.verdict.residual_wh), one.area))


def _interval(
    area: str,
    start_ms: int,
    homes: int,
    exchanged: Mapping[str, Mapping[int, int]],
    below: list[str] | tuple[()],
    sums: Mapping[tuple[int, str], tuple[int, int, int]],
) -> Interval:
    net_wh, flow_wh, good = sums.get((start_ms, area), (0, 0, 0))
    down: int | None = 0
    for name in below:
        through = exchanged.get(name, {}).get(start_ms)
        if through is None:
            down = None
            break
        assert down is not None
        down += through
        flow_wh += abs(through)
    through = exchanged.get(area, {}).get(start_ms)
    return Interval(start_ms, through, net_wh, down, flow_wh, homes, max(0, homes - good))


def _exchanged(starts: range, length_ms: int) -> dict[str, dict[int, int]]:
    """Return import - export over the edges of areas by start; several meters of one edge count together."""
    meters = [one for one in devices.substations() if one.revoked_ms is None or one.revoked_ms > starts.start]
    if not meters or not starts:
        return {}
    span = validation.MAX_SPAN_MS
    values: dict[int, list[Value]] = {}
    for pk, _batch, value in intake.stored([one.pk for one in meters], starts.start - span, starts.stop + span):
        values.setdefault(pk, []).append(value)
    found: dict[str, dict[int, int]] = {}
    silent: set[tuple[str, int]] = set()
    for one in meters:
        of_area = found.setdefault(one.area, {})
        for at in starts:
            said = validation.of_device(
                values.get(one.pk, ()), start_ms=at, end_ms=at + length_ms, rating_w=one.rating_w,
                register_digits=one.register_digits,
            )  # fmt: skip
            if isinstance(said, validation.Missing):
                silent.add((one.area, at))
            else:
                of_area[at] = of_area.get(at, 0) + said.import_wh - said.export_wh
    for area, at in silent:
        found[area].pop(at, None)
    return found


def _sums(start_ms: int, end_ms: int) -> dict[tuple[int, str], tuple[int, int, int]]:
    """Return net, flow (Wh) and how many homes are measured, by interval and area, of the newest readings."""
    newer = Reading.objects.filter(
        start_ms=OuterRef("start_ms"), account=OuterRef("account"), version__gt=OuterRef("version")
    )
    rows = Reading.objects.filter(start_ms__gte=start_ms, start_ms__lt=end_ms).filter(~Exists(newer))
    measured = Count("account", filter=~Q(quality=Quality.ESTIMATED))
    found = rows.values("start_ms", "area").annotate(
        net=Sum(F("import_wh") - F("export_wh")), flow=Sum(F("import_wh") + F("export_wh")), good=measured
    )
    return {(row["start_ms"], row["area"]): (row["net"], row["flow"], row["good"]) for row in found.iterator()}
