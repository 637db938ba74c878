"""The household's home page, and the switch of languages."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_POST, require_safe
from django.views.i18n import set_language as django_set_language

from market.households import operations, queries
from market.households.models import Role
from market.pages import homeview
from market.pages.context import Page
from market.pages.roles import only_for
from market.settlement import statement_queries

GUIDE_COOKIE = "sunledger_guide"
GUIDE_KEPT_S = 365 * 24 * 3_600
MAX_MS_DIGITS = 14


@require_POST
def set_language(request: HttpRequest) -> HttpResponse:
    """Switch the language of the pages, and remember it for the person."""
    response = django_set_language(request)
    language = request.POST.get("language", "")
    if request.user.is_authenticated and language in dict(settings.LANGUAGES):
        operations.set_language(user=request.user, language=language)
    return response


@require_safe
@only_for(Role.HOUSEHOLD)
def home(request: HttpRequest) -> HttpResponse:
    """Show a household its money, its energy and the one thing to do."""
    return _home(request, "home/home.html")


@gzip_page  # asked for every few seconds; what is secret in it (the form's token) is masked anew each time
@require_safe
@only_for(Role.HOUSEHOLD)
def home_now(request: HttpRequest) -> HttpResponse:
    """Answer with the content of the home page alone; the page takes the parts that changed.

    ``?part=power``: only what the home makes and uses at this moment, which changes most often and costs half.
    """
    if request.GET.get("part") == "power":
        page = Page(request)
        if page.account is not None:
            numbers = statement_queries.numbers_of(request.user, page.account.index)
            now = homeview.load_now(page.account, numbers, page.now_ms)
            return render(request, "home/power.html", {"home": now})
    return _home(request, "home/content.html")


def _home(request: HttpRequest, template: str) -> HttpResponse:
    page = Page(request)
    account = page.account
    if account is None:
        return render(request, "home/waiting.html", {"request_made": queries.request_of(request.user)})
    numbers = statement_queries.numbers_of(request.user, account.index)
    view = homeview.load(page, account, numbers, _hour(request))
    guide = bool(view.steps) and GUIDE_COOKIE not in request.COOKIES
    return render(request, template, {"home": view, "chart": homeview.day_chart(view), "guide": guide})


def _hour(request: HttpRequest) -> int:
    """Return the start of the hour that was chosen in the price strip, ms; 0 for none or nonsense."""
    text = request.GET.get("hour", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_MS_DIGITS else 0


@require_POST
@only_for(Role.HOUSEHOLD)
def dismiss_guide(request: HttpRequest) -> HttpResponse:
    """Put the first steps away, in this browser: who has taken them does not see them anywhere."""
    response = redirect("home")
    response.set_cookie(
        GUIDE_COOKIE,
        "seen",
        max_age=GUIDE_KEPT_S,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )
    return response


urlpatterns = [
    path("language", set_language, name="set-language"),
    path("home", home, name="home"),
    path("home/now", home_now, name="home-now"),
    path("home/guide", dismiss_guide, name="home-guide"),
]
