"""Computing views under the writer's lock: bounded in time, one bad channel alone fails. Runs in a worker thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from market.streaming import access
from market.streaming.channels import StateChannel
from market.streaming.views import View

log = logging.getLogger(__name__)

READ_BUDGET_S: Final = 0.005  # the writer waits that long at most, plus one view

Computed = tuple[StateChannel, View | str, frozenset[str] | None]  # channel, view or refusal code, audience


def reading(
    picked: list[tuple[StateChannel, set[str] | None]], unheard: Callable[[], set[str] | None]
) -> Callable[[Any], tuple[int, list[Computed]]]:
    """Return the function for ``Exchange.read``: (seq, views of as many of the picked channels as time allows).

    The engine may be ahead of what the channels were marked for. A part of a view is complete for the seq it is labelled
    with only if it also covers what ``unheard`` returns, the contracts touched since.
    """

    def read(engine: Any) -> tuple[int, list[Computed]]:
        stop = time.perf_counter() + READ_BUDGET_S
        computed: list[Computed] = []
        newer = unheard()
        for channel, touched in picked:
            part = None if touched is None or newer is None or not channel.ready else touched | newer
            computed.append(_compute(engine, channel, part))
            if time.perf_counter() > stop:
                break
        return engine.seq - 1, computed

    return read


def _compute(engine: Any, channel: StateChannel, touched: Iterable[str] | None) -> Computed:
    try:
        refusal = channel.kind.refusal(engine, channel.args)
        if refusal is not None:
            return channel, refusal, None
        audience = channel.audience if channel.ready else access.audience(engine, channel.args[0])
        return channel, channel.kind.view(engine, channel.args, touched), audience
    except Exception:  # one channel's fault stays its own
        log.exception("the view of %s failed", channel.name)
        return channel, "unavailable", None
