"""A household's receipts as files, and the page on which a browser checks one without asking us."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ledger import queries as ledger
from market.exchange import receipts
from market.households import queries as households
from market.households.models import Role
from market.pages.roles import only_for

MAX_SEQ = 2**53 - 1


@never_cache
@only_for(Role.HOUSEHOLD)
@require_safe
def receipt(request: HttpRequest, seq: int) -> HttpResponse:
    """Hand out the receipt of an entry that concerns the household: of a settlement, that of its own row."""
    accounts = households.account_indexes(request.user.pk)  # earlier numbers of the same person, too
    if not accounts or seq > MAX_SEQ:
        raise Http404
    if ledger.sealed_size() <= seq < ledger.size():
        if request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate":  # a script asks again by itself
            messages.info(
                request, _("This is not sealed yet; it takes a second or two. Then ask for the receipt again.")
            )
        return redirect("statement")
    try:
        text = receipts.own_receipt(seq, accounts, _agreement(request))
    except ledger.NotThere as error:
        raise Http404 from error
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="receipt-{seq}.tlog-proof"'
    return response


def _agreement(request: HttpRequest) -> int:
    """Return the private agreement whose row is asked for, 0: any."""
    text = request.GET.get("agreement", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_SEQ)) - 1 else 0


@require_safe
def check(request: HttpRequest) -> HttpResponse:
    """Show the page that checks a receipt; all of it happens in the browser."""
    return render(request, "ledger/check.html")


urlpatterns = [
    path("receipts/<int:seq>", receipt, name="receipt"),
    path("ledger/check", check, name="check-receipt"),
]
