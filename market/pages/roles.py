"""Who may open a page, and what a page does when the market cannot do what was asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from market.exchange import gateway
from market.exchange.exchange import Exchange
from market.exchange.outcomes import CommitFailed, NotRunning, Overloaded
from market.grid.operations import Decision, GridError
from market.households.models import Role
from market.households.operations import HouseholdError
from market.pages.context import FRONT_PAGES
from market.pages.forms import OnceForm

View = Callable[..., HttpResponse]
T = TypeVar("T")

# The ledger's entries show what single homes did: for officials only (DESIGN section 7).
LEDGER_ROLES = (Role.REGULATOR, Role.OPERATOR, Role.STAFF)


def only_for(*roles: Role) -> Callable[[View], View]:
    """Let people in these roles in, with no role named everybody who is known.

    Others get a 403 page; who is not signed in is asked to sign in.
    """
    names = {role.value for role in roles}

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if names and request.user.role not in names:
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return decorate


def own_page(role: str) -> str:
    """Return the address of the page a person in this role comes for."""
    return reverse(FRONT_PAGES[role])


def attempt(form: Form, do: Callable[[Exchange], T]) -> T | None:
    """Return what ``do`` did with the running exchange, or None after telling the form why it could not.

    After a refusal the form gets a new token, so that corrected values may be sent; with an unknown outcome it keeps
    the old one, so that sending it again cannot do it twice.
    """
    try:
        return do(gateway.current())
    except (HouseholdError, GridError) as error:
        if isinstance(form, OnceForm):
            form.renew()
        form.add_error(error.field if error.field in form.fields else None, problem_sentence(error))
    except (NotRunning, Overloaded, CommitFailed, TimeoutError) as error:
        form.add_error(None, problem_sentence(error))
    return None


def problem_sentence(error: Exception) -> str:
    """Return what to tell a person about an error of the market."""
    if isinstance(error, HouseholdError | GridError):
        return str(error.sentence)
    if isinstance(error, NotRunning):
        return _("The market is not running at the moment. Nothing was done.")
    if isinstance(error, Overloaded):
        return _("The market is too busy at the moment. Nothing was done; try again in a moment.")
    return _("It is not certain whether this was done. Send it again: it will not be done twice.")


def tell_entry(request: HttpRequest, sentence: str, seq: int) -> None:
    """Say on the next page what was done, with the ledger entry that it made."""
    entry = format_html(
        '<a href="{}">{}</a>', reverse("ledger-entry", args=[seq]), _("Ledger entry %(seq)s") % {"seq": seq}
    )
    messages.success(request, format_html("{} {}", sentence, entry))


def decide(
    request: HttpRequest,
    form: Form,
    act: Callable[..., Decision],
    asked: Callable[[dict[str, Any]], dict[str, Any]],
    sentence: str,
) -> bool:
    """Do what a valid form asks for, once and in the reader's name, and tell of its ledger entry.

    ``asked`` makes the arguments of ``act`` (an operation of the grid) from the form's values. Returns False when the form
    is to be shown again: it then says why.
    """
    if not form.is_valid():
        return False
    values = form.cleaned_data
    decision = attempt(form, lambda exchange: act(exchange, by=request.user, once=values["once"], **asked(values)))
    if decision is None:
        return False
    tell_entry(request, sentence, decision.seq)
    return True
