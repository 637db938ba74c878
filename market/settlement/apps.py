"""Settlement as a Django application: it checks its table of levies before anything starts."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register


class SettlementConfig(AppConfig):
    """See ``market.settlement``."""

    name = "market.settlement"

    def ready(self) -> None:
        """Register the check."""
        register(check_levies)


def check_levies(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Say what is wrong with the file that ``settings.LEVIES_FILE`` names: a server with it would print no statement."""
    from market.settlement.statement_queries import levy_tables

    try:
        levy_tables()
    except (OSError, ValueError) as error:
        return [Error(f"SUNLEDGER_LEVIES: {error}", id="settlement.E001")]
    return []
