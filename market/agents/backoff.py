"""Whom the market keeps refusing asks less and less often: each refusal is kept for the regulator. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

PATIENCE = 3  # looks in a row with a refusal before a home waits at all
MAX_WAIT = 16  # intervals: whatever was wrong, four hours later it is tried again
# Refusals that say something of the market's moment, not of the home: an order was taken, a gate closed, it went too fast.
PASSING = frozenset(
    {
        "unknown_order",
        "gate_closed",
        "contract_not_open",
        "market_halted",
        "contract_halted",
        "area_halted",
        "throttled",
    }
)
POOR = frozenset({"insufficient_funds", "in_arrears"})  # refusals that more money ends
NOT_MONEY = -1


class Look:
    """What came of one look at the market, however many batches it was sent in.

    ``revisions``: of what the homes that asked may do, by account; nothing is counted of others.
    """

    def __init__(self, interval: int = 0, revisions: Mapping[int, int] | None = None) -> None:
        self.interval = interval
        self.revisions = revisions or {}
        self.refused: dict[int, set[str]] = {}  # account -> codes, passing ones left out
        self.answered: set[int] = set()

    @property
    def poor(self) -> list[int]:
        """The accounts that were refused for want of money and for nothing else."""
        return [account for account, codes in self.refused.items() if codes <= POOR]

    def take(self, account: int, code: str) -> None:
        """Note an answer; ``code`` of the refusal, "" for none."""
        if account in self.revisions:
            self.answered.add(account)
            if code and code not in PASSING:
                self.refused.setdefault(account, set()).add(code)


class _Refused(NamedTuple):
    looks: int  # in a row
    again: int  # interval of the next one
    revision: int
    money_e7: int  # what the account had, where money was all that it lacked


class Backoff:
    """Counts refused looks by account. Times are numbers of intervals.

    ``revision``: another one after every change of what the home may do. ``money_e7``: what its account has. A wait ends when
    the one differs, and one for want of money when there is more.
    """

    def __init__(self) -> None:
        self._refused: dict[int, _Refused] = {}

    def __len__(self) -> int:
        return len(self._refused)

    def among(self, accounts: Iterable[int]) -> list[int]:
        """Return those of the accounts of which something was refused."""
        return [account for account in accounts if account in self._refused]

    def keep(self, accounts: Collection[int]) -> None:
        """Forget all others."""
        self._refused = {account: one for account, one in self._refused.items() if account in accounts}

    def count(self, look: Look, money_e7: Mapping[int, int]) -> None:
        """Note a look of which all answers are there. ``money_e7``: of those who were too ``poor``."""
        for account in look.answered - look.refused.keys():
            self.accepted(account)
        for account in look.refused:
            self.refused(account, look.interval, look.revisions[account], money_e7.get(account, NOT_MONEY))

    def refused(self, account: int, interval: int, revision: int = 0, money_e7: int = NOT_MONEY) -> None:
        """Note a look of which something was refused; from the third on the wait doubles."""
        before = self._refused.get(account)
        looks = 1 if before is None or _changed(before, revision, money_e7) else before.looks + 1
        wait = min(MAX_WAIT, 2 ** min(looks - PATIENCE, MAX_WAIT)) if looks >= PATIENCE else 0
        self._refused[account] = _Refused(looks, interval + wait + 1, revision, money_e7)

    def accepted(self, account: int) -> None:
        """Forget what was refused."""
        self._refused.pop(account, None)

    def waits(self, account: int, interval: int, revision: int = 0, money_e7: int = NOT_MONEY) -> bool:
        """Whether an account does not ask in this interval."""
        found = self._refused.get(account)
        if found is None or found.looks < PATIENCE or _changed(found, revision, money_e7):
            return False
        return found.again - MAX_WAIT - 1 <= interval < found.again  # a clock set back waits no longer


def _changed(found: _Refused, revision: int, money_e7: int) -> bool:
    return revision != found.revision or money_e7 > found.money_e7 != NOT_MONEY
