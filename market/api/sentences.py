"""A sentence for every problem code, in the user's language. The first one whose parameters are all known is used."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_noop as _

SENTENCES: dict[str, tuple[str, ...]] = {
    # --- the request itself
    "malformed_json": (_("The field %(name)s stands there twice."), _("The body is not valid JSON.")),
    "unsupported_media_type": (_("Send the body as application/json, in UTF-8."),),
    "body_too_large": (_("The body is too large; at most %(limit)s bytes are read."), _("The body is too large.")),
    "unknown_field": (_("There is no field %(name)s here."),),
    "missing_field": (_("This field is missing."),),
    "invalid_type": (_("Expected %(expected)s, was %(was)s."), _("This value has the wrong type.")),
    "invalid_value": (_("This value is not allowed."),),
    "bad_request": (_("The request is not valid."),),
    "not_found": (_("There is no such thing, or it is not yours to see."),),
    "method_not_allowed": (_("This method is not allowed here."),),
    "not_acceptable": (_("This is only available as JSON."),),
    "not_authenticated": (_("Sign in, or send a key as Authorization: Bearer KEY."),),
    "invalid_key": (_("This key is not valid: it may be mistyped, expired or revoked."),),
    "csrf_failed": (_("The request did not come from a page of this site: reload the page and try again."),),
    "forbidden": (_("You are not allowed to do this."),),
    "unknown_consent": (_("There is no such consent of yours, or it has ended."),),
    "too_many_consents": (_("You have too many consents; withdraw one first."),),
    "second_factor_required": (_("People in office need a second factor. Set one up first."),),
    "reauthentication_required": (
        _("It is some time ago that you showed who you are. Do it again at /account/security/again, then repeat this."),
    ),
    "missing_scope": (_("The key lacks the scope %(scope)s."),),
    "no_account": (_("You have no open account yet."),),
    "before_account": (_("You had no open account when this interval began."),),
    "invalid_idempotency_key": (_("An Idempotency-Key has 1 to 64 visible ASCII characters."),),
    "idempotency_conflict": (_("This Idempotency-Key was used before with another value of this field."),),
    "changed_meanwhile": (
        _("This was changed elsewhere in the meantime. See what holds now, and save again if you still want to."),
    ),
    "overloaded": (_("The market has more to do than it can right now. Nothing was done; try again in a moment."),),
    "exchange_not_running": (_("The market is not open in this process. Nothing was done; try again in a moment."),),
    "outcome_unknown": (
        _("It is not certain whether this was done. Send it again with the same Idempotency-Key to find out."),
    ),
    "unavailable": (_("Something went wrong on our side; it has been noted. Try again in a moment."),),
    "batch_size": (_("A batch has 1 to %(limit)s orders."),),
    "invalid_cursor": (_("This cursor is not one of ours."),),
    "view_exists": (_("You have a view of this name."),),
    "too_many_views": (_("You have %(limit)s views: delete one first."),),
    "ledger_contradiction": (
        _("Entry %(seq)s does not follow from the rules: the book cannot be rebuilt. The ledger must be audited."),
    ),
    "out_of_range": (_("Expected a whole number from %(low)s to %(high)s."),),
    # --- orders
    "invalid_price": (_('A price is a text such as "0.2850", in currency per kWh.'),),
    "unknown_contract": (_("There is no such contract."),),
    "contract_not_open": (_("This contract is not open for trading."),),
    "gate_closed": (_("The gate of this contract has closed."),),
    "market_halted": (_("Trading is halted."),),
    "contract_halted": (_("Trading in this contract is halted."),),
    "area_halted": (_("Trading in this area is halted."),),
    "account_halted": (_("Trading of this account is halted."),),
    "unknown_account": (_("There is no such account."),),
    "account_closed": (_("This account is closed."),),
    "invalid_side": (_('The side is "buy" or "sell".'),),
    "invalid_time_in_force": (_("The time in force is gtg, gtd, ioc or fok."),),
    "price_out_of_range": (
        _("The price must be above zero and at most %(max_price)s per kWh."),
        _("The price must be above zero and not above the market's highest price."),
    ),
    "price_off_tick": (
        _("A price has at most %(decimals)s decimals."),
        _("The price must be a multiple of %(tick)s per kWh."),
        _("The price must be a multiple of the price step."),
    ),
    "energy_out_of_range": (
        _("The energy must be a whole number of Wh, above zero and at most %(max_order_wh)s."),
        _("The energy must be a whole number of Wh above zero and not above the largest order."),
    ),
    "expiry_invalid": (_("A good-till-date order expires in the future; other orders have no expiry."),),
    "insufficient_funds": (
        _("This needs %(needed)s, and %(free)s are free."),
        _("There is not enough free money for this order."),
    ),
    "in_arrears": (
        _("%(arrears)s is owed on this account. Until that is paid, it cannot buy or pay out."),
        _("Something is owed on this account. Until that is paid, it cannot buy or pay out."),
    ),
    "too_many_orders": (
        _("There are too many open orders; at most %(max_open_orders)s are allowed."),
        _("There are too many open orders."),
    ),
    "fill_or_kill_unfilled": (_("The whole quantity cannot be traded at once, so nothing was done."),),
    "display_out_of_range": (
        _("What is shown must be less than the whole energy and at least %(least_wh)s Wh, a hundredth of it."),
        _("What is shown must be less than the whole energy and at least a hundredth of it."),
    ),
    "invalid_span": (
        _("The last contract must not come before the first, and there may be at most %(most)s of them."),
        _("These contracts are no run of contracts."),
    ),
    "invalid_legs": (_("A basket has 2 to %(most)s legs."), _("A basket has two legs or more.")),
    "too_many_blocks": (
        _("%(most)s blocks wait in this contract already; no more are taken."),
        _("Too many blocks wait in this contract already."),
    ),
    "not_your_account": (_("This account is not one of yours."),),
    "position_limit": (
        _("Your grid connection can trade %(limit_wh)s Wh in this interval; for this order %(free_wh)s Wh are free."),
        _("This order is more than your grid connection can trade in this interval."),
    ),
    "throttled": (
        _("Too many orders and changes in a short time; try again in %(retry_after_s)s s."),
        _("Too many orders and changes in a short time."),
    ),
    "linked_order": (_("This order is part of a block: it cannot be changed by itself, only taken back as a whole."),),
    "order_hibernated": (_("This order is hibernating: bring it back first."),),
    "not_hibernated": (_("This order is not hibernating."),),
    "unknown_order": (_("There is no such order of yours."),),
    "order_not_open": (_("This order is not open any more."),),
    "signature_required": (
        _("Orders of this account are signed. Use the browser or program that holds its key, or take the key back."),
    ),
    "signature_invalid": (
        _("The signature does not fit: not this order, not this Idempotency-Key, another rulebook or another key."),
    ),
    "nothing_to_change": (_("This would change nothing."),),
    # --- money in and out
    "invalid_amount": (_("The amount is too small or too large."),),
    "invalid_iban": (_("This is not an IBAN: a digit or its length is wrong."),),
    "invalid_holder": (_("Write the name as the bank has it, in Latin letters, at most 70."),),
    "arrears": (_("Something is owed on this account. That has to be paid first."),),
    "orders_signed": (_("Your orders are signed in a browser; the autopilot has no key."),),
    "no_battery": (_("Your home has no battery that we know of."),),
    "too_many_payments": (_("Too many payments wait for the market operator already."),),
    # --- disputes
    "no_reading": (_("There is no reading of yours for this interval."),),
    "not_settled": (_("This interval is not settled yet."),),
    "already_contested": (_("You have contested this already."),),
    "too_many_disputes": (_("Too many of your objections wait for an answer already."),),
    "unknown_dispute": (_("There is no such objection of yours."),),
    "cannot_reopen": (_("An answer can be contested once, while it is not closed."),),
    "not_answered": (_("This has no answer yet, or is closed already."),),
    # --- operator
    "unknown_trade": (_("There is no such trade."),),
    "already_recalled": (_("This trade has been taken back already."),),
    "unknown_alert": (_("There is no such alert."),),
    "unknown_area": (_("There is no such area."),),
    "duplicate_area": (_("This area exists already."),),
    "contract_state": (_("The contract is not in the state for this."),),
    "contract_exists": (_("This contract exists already."),),
    "already_settled": (_("This has been settled already."),),
    "already_final": (_("The settlement of this interval is final."),),
    "not_shared": (_("What is left over has not been shared out yet."),),
    "unknown_agreement": (_("There is no such agreement of yours."),),
    "outside_sharing": (_("The market does not let these two homes share."),),
    "too_many_agreements": (
        _("One of the two has %(most)s agreements already; no more are taken."),
        _("One of the two has too many agreements already."),
    ),
    "not_newest": (_("This has been corrected meanwhile; look again."),),
    "not_sealed": (_("This entry is not sealed yet; ask again in a second."),),
    "too_many_readings": (_("At most %(limit)s readings at once."), _("Too many readings at once.")),
    "too_many_versions": (_("This reading has been corrected too often."),),
    "duplicate_contract": (_("There are two readings for this contract."),),
    "duplicate_reading": (_("There are two readings for this connection."),),
    "metered_by_device": (_("The meter of this connection sends its readings itself."),),
    "encoding": (_("The text must be in UTF-8."),),
    "empty": (_("There is no reading in it."),),
    "missing_column": (_("The first line must name this column."),),
    "unknown_column": (_("There is no such column."),),
    "unknown_device": (_("There is no such device, or it has been revoked before."),),
    "already_founded": (_("The market has been founded already."),),
    "conservation": (_("These transfers do not add up, so nothing was done."),),
    "insufficient_clearing": (_("What was paid in does not cover this, so nothing was done."),),
    "not_founded": (_("The market has not been founded yet."),),
}


def known_codes() -> list[str]:
    """Return every code that may stand in a problem document."""
    return sorted(SENTENCES)


def sample() -> dict[str, Any]:
    """Return one problem document, for the docs page."""
    return {
        "type": "urn:sunledger:problem:insufficient_funds",
        "title": "Unprocessable Entity",
        "status": 422,
        "code": "insufficient_funds",
        "field": "price",
        "detail": "There is not enough free money for this order.",
    }
