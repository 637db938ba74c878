"""A bank for tests: statements by the message definition of camt.053.001.08, and who leaves is paid."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

from django.test import override_settings

from market.exchange.exchange import Exchange
from market.households import erasure
from market.households.models import Role, User
from market.households.operations import create_person
from market.payments import operations, payouts, queries
from market.payments.models import Direction

BANK = "DE75512108001245126199"


def entry(
    amount: str,
    text: str = "",
    *,
    structured: str = "",
    ref: str = "",
    currency: str = "EUR",
    direction: str = "CRDT",
    status: str = "BOOK",
    reversal: bool = False,
    end_to_end: str = "",
    parts: Sequence[tuple[str, str]] = (),
) -> str:
    """Return an entry: one transfer with a free or a structured text, or a batch of (amount, text)."""
    details = "".join(_details(text=what, currency=currency, amount=size) for size, what in parts)
    details = details or _details(text=text, structured=structured, end_to_end=end_to_end)
    return (
        f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd>'
        + ("<RvslInd>true</RvslInd>" if reversal else "")
        + f"<Sts><Cd>{status}</Cd></Sts><BookgDt><Dt>2026-06-06</Dt></BookgDt>"
        + (f"<AcctSvcrRef>{ref}</AcctSvcrRef>" if ref else "")
        + f"<BkTxCd/><NtryDtls>{details}</NtryDtls></Ntry>"
    )


def _details(*, text: str, structured: str = "", end_to_end: str = "", amount: str = "", currency: str = "EUR") -> str:
    free = f"<Ustrd>{text}</Ustrd>" if text else ""
    strict = f"<Strd><CdtrRefInf><Ref>{structured}</Ref></CdtrRefInf></Strd>" if structured else ""
    return (
        "<TxDtls>"
        + (f"<Refs><EndToEndId>{end_to_end}</EndToEndId></Refs>" if end_to_end else "")
        + (f'<Amt Ccy="{currency}">{amount}</Amt>' if amount else "")
        + "<RltdPties><Dbtr><Pty><Nm>Mia Sun</Nm></Pty></Dbtr><DbtrAcct><Id><IBAN>NL91ABNA0417164300</IBAN></Id></DbtrAcct>"
        + f"</RltdPties><RmtInf>{free}{strict}</RmtInf></TxDtls>"
    )


def statement(*entries: str, id: str = "STMT-1", message: str = "MSG-1", account: str = BANK) -> bytes:
    """Return a file with one statement."""
    entries = entries or (entry("1.00", "hello"),)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>'
        f"<GrpHdr><MsgId>{message}</MsgId><CreDtTm>2026-06-06T18:00:00Z</CreDtTm></GrpHdr>"
        f"<Stmt><Id>{id}</Id><Acct><Id><IBAN>{account}</IBAN></Id><Ccy>EUR</Ccy></Acct>{''.join(entries)}</Stmt>"
        "</BkToCstmrStmt></Document>"
    ).encode()


def pay_out(exchange: Exchange, *, user: User, now: datetime) -> list[erasure.Paid]:
    """Close a person's accounts and bring what is left to the bank, as two of the staff would."""
    paid = erasure.close_and_pay_out(exchange, user=user, now=now, iban=BANK, holder="A Member")
    staff = [create_person(username=f"staff-{secrets.token_hex(4)}", password=None, role=Role.STAFF) for _ in range(2)]
    for payment in queries.waiting(Direction.OUT):
        for one in staff[: 1 + operations.needs_two(payment.amount_e7)]:
            operations.confirm(exchange, payment_id=payment.pk, by=one, now=now)
    if paid:
        with override_settings(BANK_IBAN=BANK):
            file = payouts.make(by=staff[0], now=now)
            payouts.hand_over(file_id=file.pk, by=staff[0], now=now)
    for one in staff:
        one.delete()
    return paid
