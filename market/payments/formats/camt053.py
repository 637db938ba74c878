"""Bank statements: ISO 20022 camt.053.001.08, and .02 as many banks still send it.

One ``Item`` for each payment in an entry: a bank may book many transfers as one entry with details. Where the details don't
add up to the entry, the entry as a whole is the item, so that no cent comes from nowhere.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import NamedTuple
from xml.etree.ElementTree import Element

from market.payments.formats.references import references_in
from market.payments.formats.safexml import UnreadableFile, parse

NAMESPACE = re.compile(r"\{urn:iso:std:iso:20022:tech:xsd:camt\.053\.001\.(02|08)\}Document")
MAX_ITEMS = 10_000
MAX_TEXT = 1_000  # characters of a remittance text that are kept
MAX_AMOUNT_E7 = 2**53 - 1
NO_REFERENCE = ("", "NONREF", "NOTPROVIDED")  # what banks write where they have none
_AMOUNT = re.compile(r"[0-9]{1,13}(?:\.([0-9]{1,5}))?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Item(NamedTuple):
    """One payment on a statement. ``key`` is the same whenever the bank sends it again, ``like`` in any statement.

    Banks use a statement's number again and give entries no reference: the same ``key`` with another ``like`` is another one.
    ``old_key`` and ``old_like`` are what rows have that were kept before pages counted, and before NONREF was no reference.
    """

    key: str  # 64 hex digits: account, statement and page, servicer's reference, entry
    like: str  # 64 hex digits: account, amount, date and servicer's reference, or else end-to-end id, IBAN and text
    old_key: str
    old_like: str
    entry: str  # the key of the entry's first transfer, its own if it has no other
    amount_e7: int
    currency: str
    credit: bool
    booked: bool  # False: announced only, it comes again once it is booked
    reversal: bool  # a booking taken back
    booked_on: str  # date, YYYY-MM-DD; "" when the bank says none
    end_to_end: str
    references: tuple[str, ...]  # of ours, in structured and free text
    payer: str
    payer_iban: str
    text: str
    statement: str  # its number and page


class Statement(NamedTuple):
    """One account's statement."""

    id: str
    account: str  # IBAN, or the bank's own number
    currency: str
    items: tuple[Item, ...]


class BankFile(NamedTuple):
    """A message: one or several statements."""

    message_id: str
    version: str  # "02" or "08"
    statements: tuple[Statement, ...]


def read(data: bytes) -> BankFile:
    """Return what a camt.053 file says; raise ``UnreadableFile``."""
    root = parse(data)
    kind = NAMESPACE.fullmatch(root.tag)
    if kind is None:
        raise UnreadableFile("file_kind", f"expected camt.053.001.08 or .02, was {root.tag[:120]}")
    _strip_namespace(root)
    body = root.find("BkToCstmrStmt")
    if body is None:
        raise UnreadableFile("file_kind", "there is no bank-to-customer statement in it")
    page = _text(body, "GrpHdr/MsgPgntn/PgNb")
    statements = tuple(_statement(found, page) for found in body.findall("Stmt"))
    if not statements:
        raise UnreadableFile("file_malformed", "there is no statement in it")
    if sum(len(one.items) for one in statements) > MAX_ITEMS:
        raise UnreadableFile("file_too_large", f"more than {MAX_ITEMS} payments")
    return BankFile(_text(body, "GrpHdr/MsgId"), kind[1], statements)


def _strip_namespace(root: Element) -> None:
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]


def _text(parent: Element, path: str) -> str:
    found = parent.find(path)
    return "" if found is None or found.text is None else found.text.strip()[:MAX_TEXT]


def _amount(element: Element | None) -> tuple[int, str]:
    """Return (e7, currency) of an amount: at most five decimals, exactly; never a sign."""
    text = "" if element is None or element.text is None else element.text.strip()
    match = _AMOUNT.fullmatch(text)
    if element is None or match is None:
        raise UnreadableFile("file_malformed", f"expected an amount, was {text[:40]!r}")
    whole, _, fraction = text.partition(".")
    amount_e7 = int(whole) * 10**7 + int((fraction or "0").ljust(7, "0"))
    if amount_e7 > MAX_AMOUNT_E7:
        raise UnreadableFile("file_malformed", f"the amount {text[:40]} is too large")
    return amount_e7, element.get("Ccy", "")


def _statement(stmt: Element, page: str) -> Statement:
    id = _text(stmt, "Id")
    account = _text(stmt, "Acct/Id/IBAN").replace(" ", "").upper() or _text(stmt, "Acct/Id/Othr/Id")
    if not id or not account:
        raise UnreadableFile("file_malformed", "a statement has no id or no account")
    # A long one comes in pages of one number (a message each, or each a statement), and each counts its entries anew.
    page = (_text(stmt, "StmtPgntn/PgNb") or page).lstrip("0")
    number = id if page in ("", "1") else f"{id}/{page}"
    items: list[Item] = []
    seen: Counter[tuple[str, str]] = Counter()
    for entry in stmt.findall("Ntry"):
        items += _items(entry, id, number, account, seen)
    return Statement(id, account, _text(stmt, "Acct/Ccy"), tuple(items))


def another_key(key: str, like: str) -> str:
    """Return the key of a transfer whose own one was another's before."""
    return _digest(key, like)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def _items(entry: Element, id: str, statement: str, account: str, seen: Counter[tuple[str, str]]) -> list[Item]:
    total_e7, currency = _amount(entry.find("Amt"))
    direction = _text(entry, "CdtDbtInd")
    if direction not in ("CRDT", "DBIT"):
        raise UnreadableFile("file_malformed", f"expected CRDT or DBIT, was {direction[:40]!r}")
    status = _text(entry, "Sts/Cd") or _text(entry, "Sts")
    date = _text(entry, "BookgDt/Dt") or _text(entry, "BookgDt/DtTm")[:10]
    servicer, own = _text(entry, "AcctSvcrRef"), _text(entry, "NtryRef")
    # Some banks give several entries of a day one reference: which of them it is counts, too.
    seen[servicer, own] += 1
    place = seen[servicer, own]
    details = entry.findall("NtryDtls/TxDtls")
    parts = [_part(detail, currency, direction) for detail in details]
    known = [part for part in parts if part is not None]
    if len(details) < 2 or len(known) != len(parts) or sum(known) != total_e7:
        parts, details = [total_e7], [details[0]] if len(details) == 1 else []
    found = []
    for n, amount_e7 in enumerate(parts):
        assert amount_e7 is not None
        detail = details[n] if details else Element("TxDtls")
        text = " ".join(filter(None, (one.text for one in detail.findall("RmtInf/Ustrd"))))[:MAX_TEXT]
        end_to_end = _text(detail, "Refs/EndToEndId")
        structured = [one.text or "" for one in detail.findall("RmtInf/Strd/CdtrRefInf/Ref")]
        named = [name for part in (*structured, text, end_to_end) for name in references_in(part)]
        payer = _text(detail, "RltdPties/Dbtr/Pty/Nm") or _text(detail, "RltdPties/Dbtr/Nm")
        payer_iban = _text(detail, "RltdPties/DbtrAcct/Id/IBAN")
        said = text or " ".join(structured)[:MAX_TEXT] or _text(entry, "AddtlNtryInf")
        # A bank that gives no reference may send a transfer of the day again in the statement of the week.
        named_like = _digest(account, servicer, amount_e7, date, n)
        unnamed_like = _digest(account, "", amount_e7, date, end_to_end, payer_iban, said)
        found.append(
            Item(
                key=_digest(account, statement, servicer, own, place, n),
                like=unnamed_like if servicer in NO_REFERENCE else named_like,
                old_key=_digest(account, id, servicer, own, place, n),
                old_like=named_like if servicer else unnamed_like,
                entry=_digest(account, statement, servicer, own, place, 0),
                amount_e7=amount_e7,
                currency=currency,
                credit=direction == "CRDT",
                booked=status in ("BOOK", ""),
                reversal=_text(entry, "RvslInd") in ("true", "1"),
                booked_on=date if _DATE.fullmatch(date) else "",
                end_to_end=end_to_end,
                references=tuple(dict.fromkeys(named)),
                payer=payer,
                payer_iban=payer_iban,
                text=said,
                statement=statement,
            )
        )
    return found


def _part(detail: Element, currency: str, direction: str) -> int | None:
    """Return what one transfer of an entry is worth in the entry's currency and direction, None when that is not said."""
    amount = detail.find("Amt")
    if amount is None:
        amount = detail.find("AmtDtls/TxAmt/Amt")
    if amount is None or _text(detail, "CdtDbtInd") not in ("", direction):
        return None
    value_e7, said = _amount(amount)
    return value_e7 if said == currency else None
