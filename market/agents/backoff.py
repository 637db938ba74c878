"""Whom the market keeps refusing asks less and less often: each refusal is kept for the regulator. Pure."""

from __future__ import annotations

PATIENCE = 3  # looks in a row with a refusal before a home waits at all
MAX_WAIT = 16  # intervals: whatever was wrong, four hours later it is tried again


class Backoff:
    """Counts refused looks by account. Times are numbers of intervals."""

    def __init__(self) -> None:
        self._refused: dict[int, tuple[int, int]] = {}  # account -> looks refused in a row, interval of the next one

    def __len__(self) -> int:
        return len(self._refused)

    def refused(self, account: int, interval: int) -> None:
        """Note a look of which something was refused; from the third on the wait doubles."""
        count = self._refused.get(account, (0, 0))[0] + 1
        wait = min(MAX_WAIT, 2 ** min(count - PATIENCE, MAX_WAIT)) if count >= PATIENCE else 0
        self._refused[account] = count, interval + wait + 1

    def accepted(self, account: int) -> None:
        """Forget what was refused."""
        self._refused.pop(account, None)

    def waits(self, account: int, interval: int) -> bool:
        """Whether an account does not ask in this interval."""
        count, again = self._refused.get(account, (0, 0))
        return count >= PATIENCE and again - MAX_WAIT - 1 <= interval < again  # a clock set back waits no longer
