"""The household's home page, and the switch of languages."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe
from django.views.i18n import set_language as django_set_language

from market.households import operations, queries
from market.households.models import Role
from market.pages import homeview
from market.pages.context import Page
from market.pages.roles import only_for
from market.settlement import statement_queries


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


@require_safe
@only_for(Role.HOUSEHOLD)
def home_now(request: HttpRequest) -> HttpResponse:
    """Answer with the content of the home page alone; the page takes the parts that changed."""
    return _home(request, "home/content.html")


def _home(request: HttpRequest, template: str) -> HttpResponse:
    page = Page(request)
    account = page.account
    if account is None:
        return render(request, "home/waiting.html", {"request_made": queries.request_of(request.user)})
    view = homeview.load(page, account, statement_queries.numbers_of(request.user, account.index))
    return render(request, template, {"home": view, "chart": homeview.day_chart(view)})


urlpatterns = [
    path("language", set_language, name="set-language"),
    path("home", home, name="home"),
    path("home/now", home_now, name="home-now"),
]
