"""Value added tax and named levies on what a statement lists: a versioned table, all integers. Pure.

The table is a JSON list of versions; ``docs/statements.md`` has its fields. A version holds from a market-local day until
the next one's. Money is e7 (0.0000001 currency), prices e4 per kWh, tax rates basis points; what a rate makes of e7 is a
whole number of e11 (0.00000000001 currency), so nothing is rounded before a statement's total.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

FEE = "fee"  # the grid's part of what was bought
# What a charge may be on: the kinds of a statement's lines, with what was bought or received split into energy and grid fee.
BASES = ("bought", FEE, "topup", "sold", "short", "spill", "given", "received")
E11 = 10_000  # e11 in one e7
FULL_BP = 10_000  # the whole, in basis points
MAX_BYTES = 256 * 1024  # of the file
MAX_VERSIONS = 200
MAX_CHARGES = 20  # of one version
MAX_RATE = 100_000  # ten currencies a kWh, or ten times the amount
MAX_NAME = 60
ENGLISH = "en"
FIELDS = {"code", "names", "on", "percent_bp", "price_e4", "included"}


class Charge(NamedTuple):
    """A tax (basis points of money) or a levy (e4 per kWh).

    ``included``: the prices contain it already; it is told apart and changes no total. Else it comes on top.
    """

    code: str
    names: tuple[tuple[str, str], ...]  # language, name
    on: tuple[str, ...]  # ``BASES``, and for a tax the codes of levies before it
    percent_bp: int  # 0: a levy
    price_e4: int  # 0: a tax
    included: bool

    def name(self, language: str) -> str:
        """Return its name in a language, else in English."""
        names = dict(self.names)
        return names.get(language, names[ENGLISH])


class Table(NamedTuple):
    """The charges from a market-local day on."""

    valid_from: date
    charges: tuple[Charge, ...]


class Charged(NamedTuple):
    """What a charge came to: into the home's pocket positive, out of it negative."""

    charge: Charge
    amount_e11: int


NO_TABLE = Table(date.min, ())


def parse(text: str | bytes) -> tuple[Table, ...]:
    """Return the versions of a table, oldest first; raise ``ValueError`` that names the field at fault."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"levies: expected at most {MAX_BYTES} bytes, was {len(text)}")
    try:
        versions = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"levies: expected JSON, {error}") from error
    if not isinstance(versions, list) or len(versions) > MAX_VERSIONS:
        raise ValueError(f"levies: expected a list of at most {MAX_VERSIONS} versions")
    tables = [_table(version, f"levies[{n}]") for n, version in enumerate(versions)]
    for n, (older, newer) in enumerate(itertools.pairwise(tables), 1):
        if newer.valid_from <= older.valid_from:
            raise ValueError(f"levies[{n}].valid_from: expected a day after {older.valid_from}")
    return tuple(tables)


def _table(version: Any, place: str) -> Table:
    if not isinstance(version, dict) or version.keys() != {"valid_from", "charges"}:
        raise ValueError(f"{place}: expected the fields valid_from and charges")
    try:
        day = date.fromisoformat(version["valid_from"])
    except (TypeError, ValueError):
        raise ValueError(f"{place}.valid_from: expected YYYY-MM-DD") from None
    listed = version["charges"]
    if not isinstance(listed, list) or len(listed) > MAX_CHARGES:
        raise ValueError(f"{place}.charges: expected a list of at most {MAX_CHARGES}")
    charges: list[Charge] = []
    for n, fields in enumerate(listed):
        charges.append(_charge(fields, charges, f"{place}.charges[{n}]"))
    return Table(day, tuple(charges))


def _charge(fields: Any, earlier: list[Charge], place: str) -> Charge:
    if not isinstance(fields, dict) or not fields.keys() <= FIELDS:
        raise ValueError(f"{place}: expected an object with the fields {', '.join(sorted(FIELDS))}")
    code = fields.get("code")
    if not isinstance(code, str) or not code.isidentifier() or not code.isascii() or code in BASES:
        raise ValueError(f"{place}.code: expected letters, digits and underscores, and no kind of line")
    if code in [charge.code for charge in earlier]:
        raise ValueError(f"{place}.code: {code} is there twice")
    names = fields.get("names")
    if not isinstance(names, dict) or ENGLISH not in names or not all(_is_name(name) for name in names.values()):
        raise ValueError(f"{place}.names: expected a name in English, at most {MAX_NAME} characters each")
    percent_bp, price_e4 = fields.get("percent_bp", 0), fields.get("price_e4", 0)
    for name, rate in (("percent_bp", percent_bp), ("price_e4", price_e4)):
        if type(rate) is not int or not 0 <= rate <= MAX_RATE:
            raise ValueError(f"{place}.{name}: expected a whole number from 0 to {MAX_RATE}")
    if (percent_bp > 0) == (price_e4 > 0):
        raise ValueError(f"{place}: expected either percent_bp or price_e4 above 0")
    included = fields.get("included", False)
    if type(included) is not bool:
        raise ValueError(f"{place}.included: expected true or false")
    # A tax may be on levies that come on top; those in the price are part of the price.
    known = {*BASES} | ({one.code for one in earlier if one.price_e4 and not one.included} if percent_bp else set())
    on = fields.get("on")
    if not isinstance(on, list) or not on or len(set(map(str, on))) != len(on) or not known.issuperset(map(str, on)):
        raise ValueError(f"{place}.on: expected some of {', '.join(sorted(known))}, each once")
    return Charge(code, tuple(sorted(names.items())), tuple(on), percent_bp, price_e4, included)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()


def table_at(tables: tuple[Table, ...], day: date) -> Table:
    """Return the version in force on a day; before the first one nothing is charged."""
    return next((table for table in reversed(tables) if table.valid_from <= day), NO_TABLE)


def charged(table: Table, amounts: Mapping[str, tuple[int, int]]) -> list[Charged]:
    """Return what the charges of a version come to. ``amounts``: energy (Wh) and money (e7, with its sign) by base.

    What comes on top is linear: the charges of sums are the sums of the charges. A levy always costs; a tax has the sign
    of what it is on. An included tax is ``money x rate / (1 + rate)``, rounded to e11: it is only told.
    """
    found: list[Charged] = []
    levied_e7: dict[str, int] = {}
    for charge in table.charges:
        if charge.price_e4:
            levied_e7[charge.code] = -charge.price_e4 * sum(amounts.get(base, (0, 0))[0] for base in charge.on)
            found.append(Charged(charge, levied_e7[charge.code] * E11))
            continue
        base_e7 = sum(levied_e7.get(base, 0) + amounts.get(base, (0, 0))[1] for base in charge.on)
        amount_e11 = base_e7 * charge.percent_bp
        if charge.included:
            amount_e11 = commercial(amount_e11 * FULL_BP, FULL_BP + charge.percent_bp)
        found.append(Charged(charge, amount_e11))
    return found


def commercial(value: int, step: int) -> int:
    """Return ``value / step`` rounded to the nearest whole number, halves away from zero (DIN 1333), as pages round."""
    whole = (2 * abs(value) + step) // (2 * step)
    return whole if value >= 0 else -whole


def e11_text(amount_e11: int) -> str:
    """Return an amount as decimal text with all its digits: 30000000 -> "0.00030000000" (currency)."""
    whole, rest = divmod(abs(amount_e11), 10**11)
    return f"{'-' if amount_e11 < 0 else ''}{whole}.{rest:011d}"
