"""What may still be corrected keeps a person from being erased: nobody else could be paid, or asked, for the difference."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.utils.translation import ngettext

from market.engine.contracts import MINUTE_MS, contract_name
from market.exchange import correctable, gateway
from market.exchange.models import Adjustment, SettlementLine
from market.exchange.outcomes import NotRunning
from market.households.models import Account
from market.households.operations import HouseholdError


def obstacle(accounts: Iterable[int]) -> HouseholdError | None:
    """Return what is in the way of erasing the person behind these accounts: intervals that are settled and not final."""
    names = _provisional()
    if not names:
        return None
    indexes = list(accounts)
    # Its meter ran in those that began while the account was open; in later ones it may have traded before.
    found = {name for account in Account.objects.filter(index__in=indexes) for name in names if _lived(account, name)}
    for model in (SettlementLine, Adjustment):
        rows = model.objects.filter(account__in=indexes, contract__gte=min(names)).values_list("contract", flat=True)
        found |= names.intersection(rows)
    if not found:
        return None
    sentence = ngettext(
        "%(count)s interval of this person is provisional: later readings may still correct it. Try again once it is final.",
        "%(count)s intervals of this person are provisional: later readings may still correct them. "
        "Try again once they are final.",
        len(found),
    )
    return HouseholdError("provisional", "account", sentence % {"count": len(found)})


def forget(accounts: Iterable[int]) -> None:
    """Nothing here names a person: what was settled stays, of numbers that are nobody's."""


def _lived(account: Account, contract: str) -> bool:
    closed = account.closed_at
    return _name_at(account.opened_at) <= contract and (closed is None or contract < _name_at(closed))


def _name_at(at: datetime) -> str:
    """Return the name a contract has that starts at a time, or in the first minute after it; names sort by time."""
    return contract_name(-(-int(at.timestamp() * 1_000) // MINUTE_MS) * MINUTE_MS)


def _provisional() -> set[str]:
    """Return the contracts that are settled, in part at least, and may be corrected."""
    try:
        return gateway.current().read(lambda engine: set(engine.provisional))
    except NotRunning:
        return correctable.provisional()
