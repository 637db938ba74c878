"""Whoever lost what a socket was opened with stops hearing at once, not at the next look a minute later."""

from __future__ import annotations

from market.streaming import hub


def recheck(user_id: int) -> None:
    """Look again at what the sockets of a person were opened with; for any thread.

    For those of this process: others hear of it by ``households.endings``. Should that fail, all look by themselves within a
    minute (``delivery.RECHECK_HEARTBEATS``).
    """
    running = hub.current()
    if running is not None and not running.loop.is_closed():
        running.loop.call_soon_threadsafe(running.delivery.recheck, user_id)
