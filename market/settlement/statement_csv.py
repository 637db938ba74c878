"""A statement as a CSV file (RFC 4180): every line of every interval, then what is charged, the rounding, the total.

The columns and what they add up to are documented in ``docs/statements.md``; they are a contract with other programs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from market.engine.contracts import contract_start_ms
from market.exchange.units import at_text, money_text, price_text
from market.settlement import statement_queries, statements
from market.settlement.levies import e11_text
from market.settlement.statement_queries import Statement
from market.settlement.statements import Interval

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
ESTIMATED, MEASURED = "estimated", "measured"


def columns(currency: str) -> list[str]:
    """Return the header."""
    return [
        "interval start [UTC]", "account", "state", "quality", "line", "energy [Wh]", f"price [{currency}/kWh]",
        f"grid fee [{currency}]", "ledger entry", f"amount [{currency}]", f"contained [{currency}]", "stage",
        "not delivered [Wh]", "agreement",
    ]  # fmt: skip


def render(found: Statement, currency: str) -> bytes:
    """Return the file of a statement."""
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow(columns(currency))
    for interval in statement_queries.all_intervals(found.accounts, found.period):
        writer.writerows(_rows(interval))
    writer.writerows(_end(found))
    return target.getvalue().encode()


def _rows(interval: Interval) -> Iterator[list[Any]]:
    start = at_text(contract_start_ms(interval.contract))
    settled = interval.state == statements.SETTLED
    quality = (ESTIMATED if interval.estimated else MEASURED) if settled else ""
    for line in interval.lines:
        yield [
            start,
            interval.account,
            interval.state,
            quality,
            line.kind,
            line.energy_wh,
            "" if line.price_e4 is None else price_text(line.price_e4),
            money_text(line.fee_e7),
            line.seq,
            # What is not settled has no amount yet: the column adds up to the total.
            money_text(line.money_e7) if settled else "",
            "",
            interval.stage,
            line.short_wh or "",
            line.agreement or "",
        ]


def _end(found: Statement) -> Iterator[list[Any]]:
    for one in found.total.charges:
        kind = "included" if one.charge.included else "charge"
        amounts = ["", e11_text(one.amount_e11)]
        # What prices contain is no amount of its own: it stands in the last column.
        yield _closing(f"{kind}:{one.charge.code}", *(amounts if one.charge.included else amounts[::-1]))
    yield _closing("rounding", e11_text(found.total.rounding_e11), "")
    yield _closing("total", cents_text(found.total.cents), "")


def _closing(line: str, amount: str, contained: str) -> list[Any]:
    return ["", "", "", "", line, "", "", "", "", amount, contained, "", "", ""]


def cents_text(cents: int) -> str:
    """Return cents as decimal text: -27 -> "-0.27"."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"
