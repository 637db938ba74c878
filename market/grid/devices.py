"""What an inverter may give: confirmed by the grid operator, then the limit of its connection on the ledger."""

from __future__ import annotations

from datetime import datetime

from market.exchange.exchange import Exchange
from market.grid.models import Decision
from market.grid.operations import GridError, set_connection
from market.households import devices
from market.households.models import Device, User


def confirm(exchange: Exchange, *, by: User, once: str, device_id: str, now: datetime) -> Decision | None:
    """Let an inverter give: the connection's export limit becomes the sum of all confirmed ratings.

    None when that limit is in force already. Raise ``HouseholdError`` (unknown or decided), ``GridError``, and what
    ``Exchange.submit`` raises; then the inverter waits as before.
    """
    device, account, export_w = devices.decide(device_id=device_id, by=by, confirmed=True, now=now)
    try:
        import_w = exchange.read(lambda engine: engine.accounts[account].import_w)
        return set_connection(exchange, by=by, once=once, account=account, import_w=import_w, export_w=export_w)
    except GridError as error:
        if error.code == "nothing_to_change":
            return None
        devices.undecide(device)
        raise
    except BaseException:
        devices.undecide(device)
        raise


def refuse(*, by: User, device_id: str, now: datetime) -> Device:
    """Turn an inverter down; the connection's limits stay. Raise ``HouseholdError``."""
    return devices.decide(device_id=device_id, by=by, confirmed=False, now=now)[0]
