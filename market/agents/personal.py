"""What a person who is erased leaves behind here: nothing; limits go with the person (``settings.PERSONAL_DATA``)."""

from __future__ import annotations

from collections.abc import Iterable

from market.agents.models import PlacedOrder
from market.households.operations import HouseholdError


def obstacle(accounts: Iterable[int]) -> HouseholdError | None:
    """Nothing here keeps anybody from being erased."""
    return None


def forget(accounts: Iterable[int]) -> None:
    """Drop which orders the autopilot placed."""
    PlacedOrder.objects.filter(account__in=list(accounts)).delete()
