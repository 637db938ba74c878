"""The market operator takes a trade back before its delivery."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from ledger import queries as ledger
from market.exchange import queries
from market.exchange.queries import TradeView
from market.grid import operations as grid
from market.households import accesslog
from market.households.models import Role
from market.pages import privacy
from market.pages.forms import RecallForm
from market.pages.roles import attempt, only_for, tell_entry

RECALLABLE = ("open", "closed")  # states of a contract whose trades can be taken back: until delivery is over
MAX_SEQ = 2**53 - 1


def find(seq: int) -> TradeView | None:
    """Return the trade of a ledger entry, or None when it is none."""
    if not 0 <= seq <= MAX_SEQ:
        return None
    try:
        entry = ledger.entry(seq)
    except ledger.NotThere:
        return None
    if entry["type"] != "trade":
        return None
    found = queries.trades(contract=str(entry["contract"]), after=seq - 1, before=seq + 1, limit=1)
    return found[0] if found else None


def possible(trade: TradeView) -> bool:
    """Return whether a trade stands and may still be taken back."""
    contract = queries.contract(trade.contract)
    return not trade.recalled_seq and contract is not None and contract.state in RECALLABLE


@never_cache
@only_for(Role.STAFF)
@require_http_methods(["GET", "POST"])
def recall(request: HttpRequest, seq: int) -> HttpResponse:
    """Show a trade with the form that takes it back; what comes of it is a ledger entry."""
    trade = find(seq)
    if trade is None:
        raise Http404
    privacy.note(request, accesslog.TRADES, accounts=[trade.buyer, trade.seller])
    form = RecallForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            asked = form.cleaned_data
            decision = attempt(
                form,
                lambda exchange: grid.recall_trade(
                    exchange, by=request.user, once=asked["once"], trade=seq, reason=asked["reason"], text=asked["text"]
                ),
            )
            if decision is not None:
                tell_entry(request, _("The trade is taken back."), decision.seq)
                return redirect("ledger-entry", decision.seq)
            trade = find(seq) or trade
    context = {"trade": trade, "form": form, "possible": possible(trade)}
    return render(request, "staff/recall.html", context, status=status)


urlpatterns = [path("staff/trades/<int:seq>/recall", recall, name="recall")]
