"""The front door: what this is, sign in, sign up, sign out; in the demo one click signs in as anybody."""

from __future__ import annotations

import threading

from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from allauth.core.internal import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from ledger import queries as ledger_queries
from market.exchange import queries as exchange_queries
from market.exchange.figures import figures as memory
from market.grid import queries as grid_queries
from market.households import emails, sessions
from market.households import operations as households
from market.households.demo import PEOPLE, SECOND, demo_person, ensure_demo_people
from market.households.models import NAME_LENGTH, Role
from market.households.operations import HouseholdError
from market.households.sealed import login_of
from market.notices import operations as notices
from market.pages.context import running_exchange
from market.pages.forms import SignInForm, SignUpForm
from market.pages.roles import only_for, own_page
from market.pages.signingin import (
    client_address,
    mails_go_out,
    may_send_link,
    remember_language,
    send_confirmation,
    within_limit,
)

BACKEND = "django.contrib.auth.backends.ModelBackend"
FIGURES_KEPT_S = 5  # how old the figures of the front page may be: counting is not for every visitor


# --- the front page --------------------------------------------------------------------------------------------------
@require_safe
def front(request: HttpRequest) -> HttpResponse:
    """Say what this is in three lines; send who is signed in to where they work."""
    if request.user.is_authenticated:
        return redirect(own_page(request.user.role))
    return render(request, "public/front.html", {"figures": _figures(), "people": _demo_roles()})


@require_safe
def figures(request: HttpRequest) -> HttpResponse:
    """Return the front page's figures alone, for its refresh."""
    return render(request, "public/figures.html", {"figures": _figures()})


class Totals:
    """All trades so far, counted on from the last look: a long past is summed once in the life of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trades = self._energy_wh = 0
        self._last = -1

    def look(self) -> tuple[int, int]:
        """Return the number of trades and their energy in Wh."""
        with self._lock:
            trades, energy_wh, self._last = exchange_queries.trade_totals(after=self._last)
            self._trades += trades
            self._energy_wh += energy_wh
            return self._trades, self._energy_wh


totals = Totals()


def _figures() -> dict[str, int]:
    return memory.get_or_set("pages.figures", _count, FIGURES_KEPT_S)


def _count() -> dict[str, int]:
    trades, energy_wh = totals.look()
    newest = ledger_queries.blocks(1)
    return {
        "trades": trades,
        "energy_wh": energy_wh,
        "height": newest[0].height if newest else 0,
        "entries": newest[0].size if newest else 0,
    }


# --- in and out ------------------------------------------------------------------------------------------------------
@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign a person in by name and password."""
    if request.user.is_authenticated:
        return redirect(_next(request) or own_page(request.user.role))
    form = SignInForm(request, data=request.POST or None)
    status = 200
    if request.method == "POST":
        # Counted before it is known to be wrong: many at once are not all let through. A right one is taken off again.
        attempt = ratelimit.consume(request, app="allauth.account", action="sign_in", key=_tried(request))
        if attempt is None:
            form = SignInForm(request, initial={"username": request.POST.get("username", "")})
            messages.error(request, _("Too many wrong passwords. Wait five minutes and try again."))
            status = 429
        elif form.is_valid():
            attempt.rollback()
            person = form.get_user()
            # A password just typed counts as shown again: who comes to add a passkey is not asked twice.
            record_authentication(request, person, "password", reauthenticated=True)
            return perform_login(request, Login(user=person, redirect_url=_next(request) or None))
    context = {"form": form, "next": _next(request), "people": _demo_roles()}
    return render(request, "auth/sign_in.html", context, status=status)


@never_cache
@require_POST
def demo_sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in as the demo's person in a role. There is no such page outside the demo."""
    if not settings.DEMO:
        raise Http404
    role = request.POST.get("role", "")
    if role not in {*PEOPLE, SECOND}:
        raise Http404
    person = demo_person(role)
    if person is None:
        ensure_demo_people()
        person = demo_person(role)
    if person is None:
        raise Http404
    login(request, person, backend=BACKEND)
    # The door stands for what these people would have shown.
    record_authentication(request, person, "password", reauthenticated=True)
    response = redirect(_next(request) or own_page(person.role))
    remember_language(response, person)
    return response


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Sign out."""
    person = request.user
    if person.is_authenticated:
        # Who signs out here does not want the next person at this browser to see what happens.
        device = notices.told_here(user=person, cookie=request.COOKIES.get(notices.THIS_DEVICE, ""))
        if device is not None:
            notices.remove_device(user=person, device=device)
    key = request.session.session_key or ""
    logout(request)
    if person.pk is not None:
        sessions.signed_out(user=person, session_key=key)  # other tabs of this browser hear nothing any more
    return redirect("front")


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """Take a household's wish for an account; the market operator decides on it."""
    if request.user.is_authenticated:
        return redirect(own_page(request.user.role))
    areas, status = _home_areas(), 200
    form = SignUpForm(request.POST or None, areas=areas)
    if request.method == "POST" and not within_limit(request, "signup"):
        typed = {name: value for name, value in request.POST.items() if name != "password"}
        form = SignUpForm(initial=typed, areas=areas)
        messages.error(request, _("Too many tries to sign up from where you are. Try again in an hour."))
        status = 429
    elif request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            person = households.sign_up(**values, language=get_language() or "")
        except HouseholdError as error:
            form.add_error(error.field if error.field in form.fields else None, str(error.sentence))
        else:
            login(request, person, backend=BACKEND)
            record_authentication(request, person, "password", reauthenticated=True)
            if person.email and mails_go_out() and may_send_link(request, person):
                send_confirmation(person, emails.token_of(person))
            messages.success(request, _("Welcome. The market operator opens your account next."))
            return redirect("account")
    return render(request, "auth/sign_up.html", {"form": form}, status=status)


@sensitive_post_parameters()
@never_cache
@only_for()
@require_http_methods(["GET", "POST"])
def change_password(request: HttpRequest) -> HttpResponse:
    """Let a person change the password; other sessions of theirs end."""
    if not request.user.has_usable_password():
        raise Http404
    status = 200
    form = PasswordChangeForm(request.user, request.POST or None)
    if request.method == "POST" and not within_limit(request, "change_password"):
        form = PasswordChangeForm(request.user)
        messages.error(request, _("Too many attempts. Wait five minutes and try again."))
        status = 429
    elif request.method == "POST" and form.is_valid():
        form.save()
        sessions.end_others(user=form.user, session_key=request.session.session_key or "")
        update_session_auth_hash(request, form.user)
        messages.success(request, _("The password is changed. Other devices have been signed out."))
        return redirect("account")
    return render(request, "auth/password.html", {"form": form}, status=status)


def _next(request: HttpRequest) -> str:
    """Return the page of ours a person wanted to open before, or ""."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if safe else ""


def _tried(request: HttpRequest) -> str:
    """Return what wrong passwords are counted for: a name, as tried from one address."""
    # As the name is looked up: another spelling of it, or a space before it, is no fresh start.
    name = login_of(request.POST.get("username", "").strip()[:NAME_LENGTH])
    return f"{name}|{client_address(request)}"


def _demo_roles() -> list[tuple[str, str, str]]:
    if not settings.DEMO:
        return []
    return [
        (Role.HOUSEHOLD.value, _("A household"), _("A home with panels on its roof: sell, buy, see what it earned.")),
        (Role.OPERATOR.value, _("The grid operator"), _("Flows against capacity, fees, halts, settlement.")),
        (Role.REGULATOR.value, _("The regulator"), _("Every entry of the ledger, checked in your own browser.")),
        (Role.STAFF.value, _("The market operator"), _("Accounts, money, limits and the rulebook.")),
    ]


def _home_areas() -> list[tuple[str, str]]:
    """Return the lowest areas of the grid, where homes are; [] while nobody can say."""
    exchange = running_exchange()
    if exchange is None:
        return []
    areas = grid_queries.areas(exchange)
    parents = {area.parent for area in areas}
    return [(area.area, area.area) for area in areas if area.area not in parents]


urlpatterns = [
    path("", front, name="front"),
    path("figures", figures, name="figures"),
    path("sign-in", sign_in, name="sign-in"),
    path("sign-in", sign_in, name="account_login"),
    path("sign-out", sign_out, name="sign-out"),
    path("sign-up", sign_up, name="sign-up"),
    path("sign-up", sign_up, name="account_signup"),
    path("demo/sign-in", demo_sign_in, name="demo-sign-in"),
    path("account/password", change_password, name="change-password"),
]
