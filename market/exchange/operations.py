"""What may be done to the market, as one call each: the commands of the engine with their usual arguments filled in.

Every function takes the exchange it acts on, waits until the outcome is durable and returns it; a refusal is an
outcome, not an error. Orders go through ``Exchange.aexecute`` directly: they are the hot path.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from django.conf import settings

from ledger import operations as ledger_operations
from market.engine import commands
from market.engine.events import AccountOpened, Refused
from market.engine.reasons import OPENING
from market.exchange.exchange import Exchange
from market.exchange.models import IdempotencyKey
from market.exchange.outcomes import ExchangeError, Outcome


class Area(NamedTuple):
    """A node of the grid to found the market with; parents come before children, the root has ``parent=""``."""

    area: str
    parent: str
    level: str  # EHV, HV, MV, LV
    import_w: int  # from the parent; of no meaning for the root
    export_w: int  # to the parent
    fee_e4: int  # per kWh on the edge to the parent


class FoundingRefused(ExchangeError):
    """The engine refused a command that the market needs in order to begin."""

    def __init__(self, command: commands.Command, refused: Refused):
        super().__init__(f"{command}: {refused.code} {refused.field} {dict(refused.detail)}")
        self.refused = refused


def is_founded(exchange: Exchange) -> bool:
    """Return whether the ledger has its first entry."""
    return exchange.read(lambda engine: engine.seq > 0)


def found_market(
    exchange: Exchange,
    *,
    areas: Iterable[Area],
    tariff: commands.SetTariff,
    params: commands.SetParams | None = None,
    rulebook: str,
    rulebook_version: int,
    interval_min: int | None = None,
) -> bool:
    """Found the market with its grid, tariff and limits; return False, doing nothing, when that has been done already.

    A founding that was cut short goes on where it stopped. Raises ``FoundingRefused``.
    """
    sha256 = ledger_operations.publish_rulebook(rulebook)
    todo: list[commands.Command] = []
    areas = list(areas)
    have = exchange.read(lambda engine: (engine.seq > 0, {area.area for area in areas if area.area in engine.areas}))
    done = exchange.read(lambda engine: engine.topup_e4 >= 0)  # -1: no tariff yet
    founded, known = have
    if founded and done and len(known) == len(areas):
        return False
    if not founded:
        todo.append(
            commands.Found(
                origin=settings.LEDGER_ORIGIN,
                currency=settings.MARKET_CURRENCY,
                interval_min=settings.MARKET_INTERVAL_MIN if interval_min is None else interval_min,
                vkey=ledger_operations.verifier_key(),
                rulebook_version=rulebook_version,
                rulebook_sha256=sha256,
            )
        )
    if params is not None:
        todo.append(params._replace(reason=OPENING))
    for area in areas:
        if area.area not in known:
            todo.append(commands.SetArea(area.area, area.parent, area.level))
            if area.parent:
                todo.append(commands.SetCapacity(area.area, area.import_w, area.export_w, OPENING))
                todo.append(commands.SetFee(area.area, area.fee_e4, OPENING))
    todo.append(tariff._replace(reason=OPENING))  # last: contracts open once there is a tariff
    for start in range(0, len(todo), 1_000):
        chunk = todo[start : start + 1_000]
        for command, outcome in zip(chunk, exchange.submit_many([(c, None) for c in chunk]).result(60), strict=True):
            if outcome.refused is not None:
                raise FoundingRefused(command, outcome.refused)
    return True


def new_account_id() -> str:
    """Return 128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def open_account(
    exchange: Exchange,
    *,
    area: str,
    account_id: str | None = None,
    group: str = "",
    connection: str = "",
    commitment: str = "",
    key: str | None = None,
) -> Outcome:
    """Open a member account; ``opened_account(outcome)`` is its index."""
    command = commands.OpenAccount(account_id or new_account_id(), area, group, connection, commitment)
    return exchange.call(command, key=key)


def opened_account(outcome: Outcome) -> int:
    """Return the dense index an ``open_account`` outcome carries; raise ``ValueError`` when it was refused."""
    for event in outcome.events:
        if isinstance(event, AccountOpened):
            return event.account
    raise ValueError(f"no account was opened: {outcome.refused}")


def close_account(exchange: Exchange, *, account: int, key: str | None = None) -> Outcome:
    """Cancel what is open and take no further orders."""
    return exchange.call(commands.CloseAccount(account), key=key)


def forget_keys(*, accounts: Iterable[int]) -> None:
    """Drop the idempotency keys of closed accounts: their owners' programs chose the text."""
    IdempotencyKey.objects.filter(scope__in=list(accounts)).delete()


def fund(
    exchange: Exchange,
    *,
    account: int,
    amount_e7: int,
    reason: str = "deposit",
    reference: str = "",
    key: str | None = None,
) -> Outcome:
    """Book money from outside into a wallet, or out of it when negative. ``reference``: commitment, hex, or ""."""
    return exchange.call(commands.Fund(account, amount_e7, reason, reference), key=key)


def set_capacity(
    exchange: Exchange,
    *,
    area: str,
    import_w: int,
    export_w: int,
    reason: str,
    commitment: str = "",
    key: str | None = None,
) -> Outcome:
    """Set what the edge between an area and its parent can carry, in W each way.

    Here and below ``reason`` is the code of why, ``commitment`` that of what was said in words (hex, "" for none).
    """
    return exchange.call(commands.SetCapacity(area, import_w, export_w, reason, commitment), key=key)


def set_fee(
    exchange: Exchange, *, area: str, fee_e4: int, reason: str, commitment: str = "", key: str | None = None
) -> Outcome:
    """Set the grid fee of the edge between an area and its parent, for contracts opened from now on."""
    return exchange.call(commands.SetFee(area, fee_e4, reason, commitment), key=key)


def set_tariff(
    exchange: Exchange, *, topup_e4: int, spill_e4: int, reason: str, commitment: str = "", key: str | None = None
) -> Outcome:
    """Set the prices of the supplier of last resort, for contracts opened from now on."""
    return exchange.call(commands.SetTariff(topup_e4, spill_e4, reason, commitment), key=key)


def set_params(
    exchange: Exchange,
    *,
    params: commands.SetParams,
    reason: str,
    commitment: str = "",
    key: str | None = None,
) -> Outcome:
    """Set all limits of the market at once."""
    return exchange.call(params._replace(reason=reason, commitment=commitment), key=key)


def propose_agreement(
    exchange: Exchange,
    *,
    account: int,
    giver: int,
    receiver: int,
    price_e4: int,
    start: str,
    key: str | None = None,
) -> Outcome:
    """Ask for a private agreement: ``account`` is the one of the two that asks, ``start`` the first contract."""
    return exchange.call(commands.Propose(account, giver, receiver, price_e4, start), key=key)


def accept_agreement(exchange: Exchange, *, account: int, agreement: int, key: str | None = None) -> Outcome:
    """Accept what the other party has proposed."""
    return exchange.call(commands.Agree(account, agreement), key=key)


def revoke_agreement(exchange: Exchange, *, account: int, agreement: int, key: str | None = None) -> Outcome:
    """End an agreement, take a proposal back or turn it down."""
    return exchange.call(commands.Revoke(account, agreement), key=key)


def publish_rulebook(
    exchange: Exchange, *, text: str, version: int, reason: str, commitment: str = "", key: str | None = None
) -> Outcome:
    """Store a new text of the rulebook and put it in force."""
    sha256 = ledger_operations.publish_rulebook(text)
    return exchange.call(commands.PublishRulebook(version, sha256, reason, commitment), key=key)


def set_halt(
    exchange: Exchange,
    *,
    scope: str,
    target: str = "",
    on: bool,
    reason: str,
    until_ms: int = 0,
    cancel: bool = False,
    commitment: str = "",
    key: str | None = None,
) -> Outcome:
    """Stop or resume trading; scope "market" (target ""), "contract", "area" or "account" (target: index as text).

    ``until_ms``: when a contract's halt ends by itself, 0 = when somebody ends it. ``cancel``: all open orders in the scope
    are taken back, too (kill switch).
    """
    command = commands.SetHalt(scope, target, int(on), reason, until_ms, int(cancel), commitment)
    return exchange.call(command, key=key)


def set_connection(
    exchange: Exchange,
    *,
    account: int,
    connection: str = "",
    import_w: int,
    export_w: int,
    reason: str,
    commitment: str = "",
    key: str | None = None,
) -> Outcome:
    """Say what an account's grid connection may take and give, in W (0: the market's limit).

    ``connection``: the commitment of another connection to tie the account to, hex; "" keeps the one it has.
    """
    command = commands.SetConnection(account, connection, import_w, export_w, reason, commitment)
    return exchange.call(command, key=key)


def set_account_key(
    exchange: Exchange,
    *,
    account: int,
    public_key: str,
    proof: str = "",
    approval: str = "",
    rules: str = "",
    reason: str = "",
    changes: int = -1,
    key: str | None = None,
) -> Outcome:
    """Have an account's orders signed with a key (hex), or ("") no longer signed; the signatures were checked.

    ``changes``: how often its key had been changed when they were made. Refused when it has been since.
    """
    command = commands.SetAccountKey(account, public_key, proof, approval, rules, reason, changes)
    return exchange.call(command, key=key)


def recall_trade(
    exchange: Exchange, *, trade: int, reason: str, commitment: str = "", key: str | None = None
) -> Outcome:
    """Take a trade back before delivery, by the ledger sequence of its entry."""
    return exchange.call(commands.RecallTrade(trade, reason, commitment), key=key)


def rulebook_sha256(text: str) -> str:
    """Return the hex SHA-256 by which the ledger names a rulebook."""
    return hashlib.sha256(text.encode()).hexdigest()
