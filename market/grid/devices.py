"""What an inverter may give: confirmed by the grid operator, then the limit of its connection on the ledger."""

from __future__ import annotations

import secrets
import threading
from datetime import datetime

from market.exchange.exchange import Exchange
from market.grid.models import Decision
from market.grid.operations import GridError, set_connection
from market.households import devices
from market.households.models import Device, User
from market.households.operations import HouseholdError

# A limit is the sum of what is confirmed: two at once would each miss the other. Only the exchange's process sets limits.
_deciding = threading.Lock()


def confirm(exchange: Exchange, *, by: User, device_id: str, now: datetime) -> Decision | None:
    """Let an inverter give: the connection's export limit becomes the sum of all confirmed ratings.

    The limit comes first and the note second: cut short in between, the inverter waits as before, and confirming it again
    finds the limit. One that is confirmed while another limit is in force can be confirmed again. None when that limit is in
    force already. Raise ``HouseholdError`` (decided, no_account), ``GridError``, and what ``Exchange.submit`` raises.
    """
    with _deciding:
        device, account, export_w = devices.inverter(device_id=device_id)
        import_w, before_w = exchange.read(
            lambda engine: (engine.accounts[account].import_w, engine.accounts[account].export_w)
        )
        if device.decided_at is not None and before_w == export_w:
            raise devices.already_decided()
        made = _limit(exchange, by=by, account=account, import_w=import_w, export_w=export_w)
        if device.decided_at is None:
            try:
                devices.decide(device_id=device_id, by=by, confirmed=True, now=now)
            except HouseholdError:  # turned down or revoked elsewhere meanwhile
                _limit(exchange, by=by, account=account, import_w=import_w, export_w=before_w)
                raise
        return made


def _limit(exchange: Exchange, *, by: User, account: int, import_w: int, export_w: int) -> Decision | None:
    # What is in force decides whether there is something to do, so no two calls need to be told apart.
    once = secrets.token_hex(16)
    try:
        return set_connection(
            exchange, by=by, once=once, account=account, import_w=import_w, export_w=export_w, reason="device"
        )
    except GridError as error:
        if error.code == "nothing_to_change":
            return None
        raise


def refuse(*, by: User, device_id: str, now: datetime) -> Device:
    """Turn an inverter down; the connection's limits stay. Raise ``HouseholdError``."""
    with _deciding:
        return devices.decide(device_id=device_id, by=by, confirmed=False, now=now)
