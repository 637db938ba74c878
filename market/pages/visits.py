"""What every request of somebody who is signed in brings along: their time zone, a trace in the list of their sessions, an end
to what they never came back to send, and the second factor that people in office may have to have.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from market.households import queries, sessions
from market.pages import again, zones

NOTED = "sign_in"  # in the session: [number of the row, key of the session, when it was noted]
# What somebody who still needs a second factor may open: where it is set up, and the way out.
OPEN_PATHS = ("/account/security", "/sign-out", "/language", "/api/")  # programs are told in their own words
SAME_FOR_ALL = ("/ledger/", "/healthz")  # public files, which caches may keep
# Their days are the market's: a statement is a bill, and its day, as that of the history, begins and ends with the market's.
MARKET_TIME = ("/statement", "/history")


class Visits:
    """The middleware; last in the line, so that the session and its person are known."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or request.path.startswith(SAME_FOR_ALL):
            response = self._get_response(request)
        else:
            response = self._known(request)
        # Asked only where somebody has asked already: looking at a session makes an answer one for this reader alone.
        session = getattr(request, "session", None)
        if session is not None and session.accessed and session.session_key and request.user.is_authenticated:
            _note(request)
        return response

    def _known(self, request: HttpRequest) -> HttpResponse:
        user = request.user
        if not user.is_authenticated:
            return self._get_response(request)
        again.forget_old(request)
        if not request.path.startswith(OPEN_PATHS) and queries.lacks_factor(user):
            messages.warning(request, _("People in office need a second factor. Set one up first."))
            return redirect("security")
        zone = "" if request.path.startswith(MARKET_TIME) else user.time_zone
        with zones.shown_in(zone):
            return self._get_response(request)


def _note(request: HttpRequest) -> None:
    """Note that this browser was seen, every few minutes or when its session got another key."""
    now, key = timezone.now(), request.session.session_key
    number, noted_key, noted_s = request.session.get(NOTED, (0, "", 0.0))
    if key == noted_key and not sessions.due(noted_s, now):
        return
    agent = request.headers.get("User-Agent", "")
    number = sessions.note(user=request.user, session_key=key, sign_in=number, agent=agent, now=now)
    request.session[NOTED] = [number, key, now.timestamp()]
