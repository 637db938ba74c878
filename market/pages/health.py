"""How well the market is: every figure with what is normal and what to do when it is not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ledger import witnessing
from market.agents import members
from market.exchange.exchange import MAX_QUEUE, Exchange
from market.grid import queries as grid_queries
from market.grid.queries import Health
from market.households.models import Role
from market.pages.context import running_exchange
from market.pages.roles import only_for
from market.streaming import hub

OPERATORS = (Role.OPERATOR, Role.STAFF)
QUEUE_WARN = 1_000  # one batch: more than that waits longer than one commit
COMMIT_WARN_MS = 200
SEAL_WARN_S = 65  # an idle market seals once a minute
PING_WARN_MS = 50
DISK_WARN_PERCENT = 10  # free
GIB = 1 << 30
MIB = 1 << 20


class Figure(NamedTuple):
    """One figure: what it says, whether that is well, what is normal, and what to do when it is not."""

    name: str
    value: str
    detail: str
    well: bool
    normal: str
    todo: str


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many per cent of the values do not exceed; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def figures(exchange: Exchange, health: Health) -> list[Figure]:
    """Return all figures, the market's first."""
    return [*_market(exchange, health), *_autopilots(), *_sockets(), *_storage()]


def _market(exchange: Exchange, health: Health) -> list[Figure]:
    times = exchange.commit_times()
    p50, p99 = (percentile(times, percent) * 1000 for percent in (50, 99))
    sealed_s = health.sealed_ago_s
    rate = health.entries_a_s
    return [
        Figure(
            _("Commands waiting"), f"{health.queue:,}", _("at most %(most)s") % {"most": f"{MAX_QUEUE:,}"},
            health.queue < QUEUE_WARN, _("Below %(most)s.") % {"most": f"{QUEUE_WARN:,}"},
            _("If it keeps growing: look at the time of a commit. When it is full, orders are refused with “try again”."),
        ),
        Figure(
            _("Time of a commit"), _("%(p50)s ms, 99 %% below %(p99)s ms") % {"p50": f"{p50:.1f}", "p99": f"{p99:.1f}"},
            _("the newest %(count)s batches") % {"count": f"{len(times):,}"}, p99 < COMMIT_WARN_MS,
            _("99 %% below %(most)s ms.") % {"most": COMMIT_WARN_MS},
            _("Look at the database and its disk: every order waits for this."),
        ),
        Figure(
            _("Entries a second"), "–" if rate is None else f"{rate:,.1f}",
            _("%(count)s entries in all") % {"count": f"{health.seq:,}"}, True,
            _("Follows the day: nobody trades, nothing is written."), _("Nothing, by itself."),
        ),
        Figure(
            _("Last seal"), "–" if sealed_s is None else _("%(seconds)s s ago") % {"seconds": f"{sealed_s:.1f}"},
            _("block %(height)s") % {"height": f"{health.height:,}"}, sealed_s is None or sealed_s < SEAL_WARN_S,
            _("Every second while there is trade, every minute without."),
            _("Trading goes on, but receipts wait: look at the server's log, and at the signer if it runs by itself."),
        ),
        *_witnesses(health.witnesses, health.sealed),
    ]  # fmt: skip


def _witnesses(status: witnessing.Status, sealed: int) -> list[Figure]:
    if status.state == witnessing.NONE:
        return [
            Figure(
                _("Witnesses"), _("none"), "", True, _("None is set up."),
                _("Set up witnesses, so that others can prove that history was not changed."),
            )
        ]  # fmt: skip
    found = [
        Figure(
            _("Quorum of the witnesses"),
            _("%(size)s entries witnessed") % {"size": f"{status.witnessed or 0:,}"},
            _("the oldest head without it is %(seconds)s s old") % {"seconds": f"{status.lag_s:.0f}"},
            status.state == witnessing.OK,
            _("Within %(most)s s.") % {"most": f"{witnessing.LAG_S:.0f}"},
            _("Trading goes on. Ask those who run the witnesses that lag."),
        )
    ]
    for one in status.witnesses:
        behind = max(0, sealed - one.size)
        found.append(
            Figure(
                _("Witness %(name)s") % {"name": one.name},
                _("refuses to sign") if one.refused else _("signed up to %(size)s") % {"size": f"{one.size:,}"},
                one.trouble or _("%(count)s entries behind") % {"count": f"{behind:,}"},
                not one.refused and not one.trouble, _("Signs every head within seconds."),
                _("If it refuses: stop the market and compare the two histories. If it is silent: ask who runs it."),
            )
        )  # fmt: skip
    return found


def _autopilots() -> list[Figure]:
    found = members.report()
    if found is None:  # none run in this process
        return []
    took = _("in the last interval their looks took %(busy)s s, the longest %(longest)s s")
    return [
        Figure(
            _("Autopilots"), f"{found.homes:,}",
            took % {"busy": f"{found.busy_s:.1f}", "longest": f"{found.longest_s:.1f}"}, not found.missed,
            _("Each looks at the market in every interval."),
            _("%(count)s had no turn in the last interval and came first in this one: the machine is too slow for so many.")
            % {"count": f"{found.missed:,}"},
        )
    ]  # fmt: skip


def _sockets() -> list[Figure]:
    running = hub.current()
    if running is None:
        return [
            Figure(
                _("Live streams"), _("do not run"), "", False, _("They run whenever the market does."),
                _("Restart the server; pages still work, prices do not move by themselves."),
            )
        ]  # fmt: skip
    status = running.status()
    return [
        Figure(
            _("Browsers and programs connected"), f"{status['sockets']:,}",
            _("%(count)s channels with readers") % {"count": f"{status['channels']:,}"},
            status["sockets"] < hub.MAX_SOCKETS, _("At most %(most)s.") % {"most": f"{hub.MAX_SOCKETS:,}"},
            _("Add a web process when it comes near that."),
        ),
        Figure(
            _("Readers told to catch up"), f"{status['resyncs']:,}", _("since the start"), True,
            _("A few, from people on weak networks."),
            _("If it jumps: this process did not keep up. Look at its load."),
        ),
        Figure(
            _("Slow readers dropped"), f"{status['dropped']:,}",
            _("since the start; %(count)s are slow now") % {"count": f"{status['stalled']:,}"}, True,
            _("A few."), _("They come back by themselves. If many are slow at once, it is our network."),
        ),
    ]  # fmt: skip


def _storage() -> list[Figure]:
    started_s = time.monotonic()
    try:
        size = _database_bytes()
    except DatabaseError:
        return [
            Figure(
                _("Database"), _("does not answer"), "", False, _("Answers within milliseconds."),
                _("The market stops without it. Look at the database server."),
            )
        ]  # fmt: skip
    ping_ms = (time.monotonic() - started_s) * 1000
    disk = shutil.disk_usage(settings.DATA_DIR if Path(settings.DATA_DIR).exists() else settings.BASE_DIR)
    free_percent = 100 * disk.free // disk.total
    return [
        Figure(
            _("Database"), _("answers in %(time)s ms") % {"time": f"{ping_ms:.1f}"},
            _("%(kind)s, %(size)s MiB") % {"kind": connection.vendor, "size": f"{size / MIB:,.0f}"},
            ping_ms < PING_WARN_MS, _("Below %(most)s ms.") % {"most": PING_WARN_MS},
            _("Look for what else uses it: backups, long questions."),
        ),
        Figure(
            _("Disk"), _("%(free)s GiB free") % {"free": f"{disk.free / GIB:,.1f}"},
            _("%(percent)s %% of it") % {"percent": free_percent}, free_percent >= DISK_WARN_PERCENT,
            _("At least %(least)s %% free.") % {"least": DISK_WARN_PERCENT},
            _("Make room: when the disk is full the market stops. The ledger only grows."),
        ),
    ]  # fmt: skip


def _database_bytes() -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
        else:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        return int(cursor.fetchone()[0])


@never_cache
@only_for(*OPERATORS)
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Show how well the market is."""
    exchange = running_exchange()
    if exchange is None:
        return render(request, "operator/closed.html", {"decisions": []})
    found = grid_queries.health(exchange)
    shown = figures(exchange, found)
    context: dict[str, Any] = {
        "tab": "health",
        "health": found,
        "halts": grid_queries.halts(exchange),
        "figures": sorted(shown, key=lambda figure: figure.well),
        "unwell": sum(not figure.well for figure in shown),
    }
    return render(request, "operator/health_page.html", context)


urlpatterns = [path("operator/health", health, name="operator-health")]
