"""The front door and the household's home page."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe
from django.views.i18n import set_language as django_set_language

from market.households import operations
from market.pages.context import FRONT_PAGES


@require_safe
def front(request: HttpRequest) -> HttpResponseRedirect:
    """Send everyone to where they work; who is not signed in, to the sign-in."""
    if not request.user.is_authenticated:
        return redirect("sign-in")
    return redirect(FRONT_PAGES.get(request.user.role, "home"))


@require_POST
def set_language(request: HttpRequest) -> HttpResponse:
    """Switch the language of the pages, and remember it for the person."""
    response = django_set_language(request)
    language = request.POST.get("language", "")
    if request.user.is_authenticated and language in ("en", "zh-hans"):
        operations.set_language(user=request.user, language=language)
    return response


@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Show a household its money, its energy and the one thing to do."""
    return render(request, "home/home.html")


urlpatterns = [
    path("", front, name="front"),
    path("language", set_language, name="set-language"),
    path("home", home, name="home"),
]
