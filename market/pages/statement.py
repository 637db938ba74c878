"""A household's statement: every movement of its money, each with the ledger entry that proves it."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_safe

from market.exchange import queries as exchange
from market.exchange.queries import LineView, TransferView
from market.households import queries as households
from market.households.models import Role
from market.pages.roles import only_for

PAGE_ENTRIES = 40
MOVES_AN_ENTRY = 5  # of one account in one entry: two of a trade, up to five of a settlement
MONEY = "e7"


@dataclass(frozen=True)
class Line:
    """What one ledger entry did to an account. ``kind``: bought, sold, recalled, settled, fund."""

    seq: int
    at_ms: int
    kind: str
    contract: str
    energy_wh: int
    amount_e7: int  # into the wallet; negative: out of it
    settled: LineView | None

    @property
    def size_e7(self) -> int:
        """The amount without its sign."""
        return abs(self.amount_e7)


def _line(account: int, moves: list[TransferView], settled: LineView | None) -> Line:
    amount_e7 = energy_wh = 0
    contract, kind = "", "fund" if settled is None else "settled"
    for move in moves:
        into = move.credit == account
        if move.kind == "recall":
            kind = "recalled"
        if move.asset == MONEY:
            amount_e7 += move.amount if into else -move.amount
        elif kind == "recalled":
            contract, energy_wh = move.asset.partition(":")[2], move.amount
        elif settled is None:
            contract, energy_wh = move.asset.partition(":")[2], move.amount
            kind = "bought" if into else "sold"
    if settled is not None:
        contract, energy_wh = settled.contract, abs(settled.position_wh)
    return Line(moves[0].seq, moves[0].at_ms, kind, contract, energy_wh, amount_e7, settled)


def lines(account: int, before: int | None) -> tuple[list[Line], int | None]:
    """Return a page of lines, newest first, and the entry before which the next page begins (None = that was all)."""
    limit = PAGE_ENTRIES * MOVES_AN_ENTRY
    moves = exchange.transfers(account=account, before=before, limit=limit)
    settled = {row.seq: row for row in exchange.settlement_lines(account=account, before=before, limit=limit)}
    by_entry: dict[int, list[TransferView]] = {}
    for move in moves:
        by_entry.setdefault(move.seq, []).append(move)
    entries = list(by_entry)
    more = len(moves) == limit or len(entries) > PAGE_ENTRIES
    if len(moves) == limit and len(entries) > 1:
        entries.pop()  # the last one may be cut in the middle
    entries = entries[:PAGE_ENTRIES]
    found = [_line(account, by_entry[seq], settled.get(seq)) for seq in entries]
    # Energy that comes back to where it came from at settlement moves no money; it would be a line about nothing.
    shown = [line for line in found if line.amount_e7 or line.kind != "settled"]
    return shown, entries[-1] if more and entries else None


@require_safe
@only_for(Role.HOUSEHOLD)
def statement(request: HttpRequest) -> HttpResponse:
    """Show the movements of a household's money."""
    account = households.account_of(request.user)
    if account is None:
        return redirect("home")
    text = request.GET.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
    found, older = lines(account.index, before)
    context = {"lines": found, "older": older, "balance": exchange.balance(account.index), "newest": before is None}
    return render(request, "home/statement.html", context)


urlpatterns = [path("statement", statement, name="statement")]
