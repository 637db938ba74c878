"""What a person who is erased leaves behind here: codes and values; texts lose their key (``settings.PERSONAL_DATA``)."""

from __future__ import annotations

from collections.abc import Iterable

from market.disputes.models import Dispute, State
from market.households.operations import HouseholdError


def obstacle(accounts: Iterable[int]) -> HouseholdError | None:
    """Nothing here keeps anybody from being erased."""
    return None


def forget(accounts: Iterable[int]) -> None:
    """Close what is open: nobody is left to answer."""
    Dispute.objects.filter(account__index__in=list(accounts)).update(state=State.CLOSED)
