"""What is known here about a person, for the copy they may take; it all goes with the person (``settings.PERSONAL_DATA``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from market.households.models import User
from market.households.operations import HouseholdError
from market.notices import operations
from market.notices.models import ReadMark


def obstacle(accounts: Iterable[int]) -> HouseholdError | None:
    """Nothing here keeps anybody from being erased."""
    return None


def forget(accounts: Iterable[int]) -> None:
    """Nothing here hangs on an account."""


def about(user: User) -> dict[str, Any]:
    """Return what devices are told, which they are (without the keys that only they have), and how far was read."""
    wish = operations.wanted(user.pk)
    devices = operations.devices_of(user)
    return {
        "notifications": {
            **wish._asdict(),
            "kinds": sorted(wish.kinds),
            "devices": [{"name": row.name, "address": row.endpoint, "since": row.since} for row in devices],
            "read_up_to": ReadMark.objects.filter(user=user).values("at_ms", "seq").first(),
        }
    }
