"""The market operator erases what an official said beside a decision, where it names somebody."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from ledger import queries as ledger
from market.grid import operations as grid
from market.grid.queries import Told
from market.grid.words import BESIDE, DIFFERS, MATCHES
from market.households.models import Role, User
from market.pages.context import market_now
from market.pages.roles import only_for

MAX_SEQ = 2**53 - 1
HAS_WORDS = frozenset((MATCHES, DIFFERS, BESIDE))


def possible(user: User, decision: Told | None) -> bool:
    """Return whether a person may erase the words beside a decision, and there are some."""
    said = None if decision is None else decision.said
    return user.role == Role.STAFF and said is not None and said.state in HAS_WORDS


@never_cache
@only_for(Role.STAFF)
@require_POST
def erase(request: HttpRequest, seq: int) -> HttpResponse:
    """Erase the words beside the decision of a ledger entry."""
    if seq > MAX_SEQ:
        raise Http404
    try:
        erased = grid.erase_words(by=request.user, seq=seq, at_ms=round(market_now().timestamp() * 1_000))
    except ledger.NotThere as error:
        raise Http404 from error
    if erased:
        messages.success(request, _("The words are erased. What the ledger has stays on it."))
    return redirect("ledger-entry", seq)


urlpatterns = [path("staff/decisions/<int:seq>/erase", erase, name="erase-words")]
