"""The numbers on a bank transfer: IBAN (ISO 13616), creditor reference (ISO 11649), and the texts a bank takes."""

from __future__ import annotations

import re
import unicodedata

from stdnum import exceptions, iban, iso11649

BODY_DIGITS = 12  # of a reference of ours, after "RF" and its two check digits
MAX_IBAN = 34
HOLDER_LENGTH = 70  # what every bank of the SEPA area takes of a name

# EPC217-08: what banks carry without changing it.
_ALLOWED = re.compile(r"[A-Za-z0-9/\-?:().,'+ ]*", re.ASCII)
_OURS = re.compile(
    r"RF[0-9]{14}|SL-[0-9A-F]{12}", re.ASCII
)  # the second is of deposits announced before there were RF ones
_SPACES = re.compile(r"\s+")


def plain_iban(text: str) -> str:
    """Return an IBAN without spaces, in capitals; raise ``ValueError`` when a check digit or its length is wrong."""
    if len(text) > 2 * MAX_IBAN:
        raise ValueError(f"IBAN: expected at most {MAX_IBAN} characters, was {len(text)}")
    try:
        found: str = iban.validate(text)
    except exceptions.ValidationError as error:
        raise ValueError(f"IBAN: {error}") from None
    return found


def grouped(text: str) -> str:
    """Return an IBAN or reference as people read it: in groups of four."""
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def reference_of(number: int) -> str:
    """Return the creditor reference of a number below 10^12: "RF", two check digits, twelve digits."""
    if not 0 <= number < 10**BODY_DIGITS:
        raise ValueError(f"reference: expected 0 to 10^{BODY_DIGITS} - 1, was {number}")
    body = f"{number:0{BODY_DIGITS}d}"
    # ISO 11649: as in an IBAN, with "RF00" behind the body; letters count from 10.
    check = 98 - int(body + "2715" + "00") % 97
    found = f"RF{check:02d}{body}"
    assert iso11649.is_valid(found), f"expected a valid reference, was {found}"
    return found


def references_in(text: str) -> list[str]:
    """Return the references of ours that a remittance text names, each once; spaces and small letters don't matter."""
    found = dict.fromkeys(_OURS.findall(_SPACES.sub("", text).upper()))
    return [name for name in found if not name.startswith("RF") or iso11649.is_valid(name)]


def bank_text(text: str) -> str:
    """Return a name in letters that every bank takes ("Müller" -> "Muller"); raise ``ValueError`` where there are none."""
    special = text.replace("ß", "ss").replace("æ", "ae").replace("Æ", "AE").replace("ø", "o").replace("Ø", "O")
    folded = "".join(c for c in unicodedata.normalize("NFKD", special) if not unicodedata.combining(c))
    folded = _SPACES.sub(" ", folded).strip()
    if not folded or len(folded) > HOLDER_LENGTH or _ALLOWED.fullmatch(folded) is None:
        raise ValueError(f"name: expected 1 to {HOLDER_LENGTH} Latin letters, was {text!r}")
    return folded
