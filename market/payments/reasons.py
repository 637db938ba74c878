"""Why a payment was refused or an incoming transfer left aside: a code that is kept, a word for the screen."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

DEPOSIT_REASONS = {
    "not_received": _("It never came"),
    "returned": _("Sent back to the payer"),
    "request": _("At the member's request"),
}
WITHDRAWAL_REASONS = {
    "wrong_account": _("The bank account is not the member's"),
    "suspicion": _("Under examination"),
    "request": _("At the member's request"),
}
ASIDE_REASONS = {
    "not_ours": _("Not meant for a member"),
    "returned": _("Sent back to the payer"),
    "duplicate": _("The same transfer again"),
    "settled": _("Settled with the member"),
}
PAYOUT_RETURNED = "payout_returned"
TAKEN_BACK = "taken_back"  # the bank had credited it before; no account gets it a second time
# Why an incoming transfer was not booked by itself.
WHY = {
    "no_reference": _("It names no reference of ours."),
    "unknown_reference": _("Its reference is none of ours."),
    "several_references": _("It names several references."),
    "other_currency": _("It is in another currency."),
    "possible_duplicate": _("The bank has sent the same transfer in another statement."),
    "same_number": _("The bank has sent another transfer under the same number."),
    "too_large": _("It is more than a payment may be."),
    "refused": _("Somebody of the staff refused the deposit it was tied to."),
    "reversal": _("The bank takes a booking back."),
    TAKEN_BACK: _("The bank takes it away again. If it was booked, it is in a wallet all the same."),
    "booked_by_hand": _("Its deposit was confirmed by hand with another amount."),
    "account_closed": _("Its account is closed."),
    PAYOUT_RETURNED: _("A payout came back."),
}
OTHER_ACCOUNT = "other_account"  # somebody of the staff said to which one
_BY_THE_MARKET = {
    OTHER_ACCOUNT: _("To another bank account"),
    "insufficient_funds": _("Too little free money"),
    "account_closed": _("The account is closed"),
    "file_void": _("Its file is void"),
    PAYOUT_RETURNED: _("It came back from the bank"),
}
REASONS = {**DEPOSIT_REASONS, **WITHDRAWAL_REASONS, **ASIDE_REASONS, **_BY_THE_MARKET}


def reason_text(code: str) -> str:
    """Return the word for a reason's code; an unknown code stands for itself."""
    return str(REASONS.get(code, code))


def why_text(code: str) -> str:
    """Return why a transfer waits for somebody to place it."""
    return str(WHY.get(code, code))
