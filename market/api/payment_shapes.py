"""The JSON of deposits and withdrawals; see ``shapes``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from market.api.shaping import Instant, Money, Next, Seq, Shape

Amount = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,7})?$",
        max_length=17,
        description="currency, at most seven decimals",
        examples=["25.00"],
    ),
]
Reason = Annotated[str | None, Meta(description="code, where it was refused")]


class DepositIn(Shape):
    """Money I am about to send."""

    amount: Amount


class Deposit(Shape):
    """Money on its way in. ``announced``: what I said, ``amount``: what counts, which is what arrived."""

    id: int
    state: Literal["requested", "second", "confirmed", "refused"]
    announced: Money
    amount: Money
    reference: Annotated[
        str, Meta(description="to put on the transfer: a creditor reference (ISO 11649)", examples=["RF18539007547034"])
    ]
    pay_to: Annotated[str | None, Meta(description="IBAN of the market's bank account; null when it is not set")]
    requested_at: Instant
    decided_at: Instant | None
    reason: Reason
    seq: Annotated[Seq | None, Meta(description="the ledger's entry, once it is booked")]


class DepositPage(Shape):
    """Deposits, newest first."""

    results: list[Deposit]
    next: Next


class WithdrawalIn(Shape):
    """Money I want at my bank."""

    amount: Amount
    iban: Annotated[str, Meta(max_length=68, examples=["NL91 ABNA 0417 1643 00"])]
    holder: Annotated[str, Meta(max_length=70, description="name the bank account is in, in Latin letters")]


class Withdrawal(Shape):
    """Money on its way out. ``amount`` is ``asked`` in whole cents; ``kept`` is what stayed in the wallet."""

    id: int
    state: Literal["requested", "second", "confirmed", "refused", "sent"]
    asked: Money
    amount: Money
    kept: Money
    iban: Annotated[str, Meta(description="empty once its owner was erased")]
    holder: str
    requested_at: Instant
    decided_at: Instant | None
    reason: Reason
    seq: Annotated[Seq | None, Meta(description="the ledger's entry that set it aside")]
    returned_seq: Annotated[Seq | None, Meta(description="the entry that gave it back after a refusal")]


class WithdrawalPage(Shape):
    """Withdrawals, newest first."""

    results: list[Withdrawal]
    next: Next
