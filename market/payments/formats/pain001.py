"""Payouts for the bank: ISO 20022 pain.001.001.09, one batch of SEPA credit transfers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
CENT_E7 = 10**5
MAX_ID = 35  # characters of a message or end-to-end id
MAX_TRANSFERS = 1_000


class Payer(NamedTuple):
    """The account that pays; ``bic`` "" = the bank finds it by the IBAN."""

    holder: str
    iban: str
    bic: str


class Transfer(NamedTuple):
    """One payout, in whole cents."""

    end_to_end: str
    amount_e7: int
    holder: str
    iban: str
    text: str


def cents_text(amount_e7: int) -> str:
    """Return whole cents as a decimal text: 12500000 -> "1.25"; anything else was not rounded and is an error."""
    if amount_e7 <= 0 or amount_e7 % CENT_E7:
        raise ValueError(f"amount: expected whole cents above zero, was {amount_e7} e7")
    whole, cents = divmod(amount_e7 // CENT_E7, 100)
    return f"{whole}.{cents:02d}"


def write(
    *, message_id: str, created_at: str, execute_on: str, currency: str, payer: Payer, transfers: Sequence[Transfer]
) -> bytes:
    """Return the file: the same arguments give the same bytes. ``created_at``: ``YYYY-MM-DDThh:mm:ssZ``."""
    if not 0 < len(transfers) <= MAX_TRANSFERS:
        raise ValueError(f"transfers: expected 1 to {MAX_TRANSFERS}, was {len(transfers)}")
    for id in (message_id, *(one.end_to_end for one in transfers)):
        if not 0 < len(id) <= MAX_ID:
            raise ValueError(f"id: expected 1 to {MAX_ID} characters, was {id!r}")
    if len({one.end_to_end for one in transfers}) != len(transfers):
        raise ValueError("transfers: expected an end-to-end id of its own for each")
    count, total = str(len(transfers)), cents_text(sum(one.amount_e7 for one in transfers))
    root = Element("Document", xmlns=NAMESPACE)
    body = SubElement(root, "CstmrCdtTrfInitn")
    header = SubElement(body, "GrpHdr")
    _leaves(header, ("MsgId", message_id), ("CreDtTm", created_at), ("NbOfTxs", count), ("CtrlSum", total))
    _leaf(SubElement(header, "InitgPty"), "Nm", payer.holder)
    batch = SubElement(body, "PmtInf")
    _leaves(batch, ("PmtInfId", message_id), ("PmtMtd", "TRF"), ("NbOfTxs", count), ("CtrlSum", total))
    _leaf(SubElement(SubElement(batch, "PmtTpInf"), "SvcLvl"), "Cd", "SEPA")
    _leaf(SubElement(batch, "ReqdExctnDt"), "Dt", execute_on)
    _leaf(SubElement(batch, "Dbtr"), "Nm", payer.holder)
    _leaf(SubElement(SubElement(batch, "DbtrAcct"), "Id"), "IBAN", payer.iban)
    bank = SubElement(SubElement(batch, "DbtrAgt"), "FinInstnId")
    if payer.bic:
        _leaf(bank, "BICFI", payer.bic)
    else:
        _leaf(SubElement(bank, "Othr"), "Id", "NOTPROVIDED")
    _leaf(batch, "ChrgBr", "SLEV")
    for one in transfers:
        _transfer(batch, one, currency)
    indent(root)
    data: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return data + b"\n"


def _transfer(batch: Element, one: Transfer, currency: str) -> None:
    transfer = SubElement(batch, "CdtTrfTxInf")
    _leaf(SubElement(transfer, "PmtId"), "EndToEndId", one.end_to_end)
    amount = SubElement(SubElement(transfer, "Amt"), "InstdAmt", Ccy=currency)
    amount.text = cents_text(one.amount_e7)
    _leaf(SubElement(transfer, "Cdtr"), "Nm", one.holder)
    _leaf(SubElement(SubElement(transfer, "CdtrAcct"), "Id"), "IBAN", one.iban)
    _leaf(SubElement(transfer, "RmtInf"), "Ustrd", one.text)


def _leaf(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = text


def _leaves(parent: Element, *pairs: tuple[str, str]) -> None:
    for name, text in pairs:
        _leaf(parent, name, text)
