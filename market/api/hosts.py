"""Requests for another host than ours: refused before anything else looks at them."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse

from market.api.problems import Problem, response

MACHINE_PATHS = ("/api/", "/healthz", "/ledger/")


class HostCheck:
    """The middleware that answers 400 to a foreign Host header: a problem document where programs call.

    Left to Django, an error with a traceback would stand in the log for every scanner that comes by.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, or pass on."""
        try:
            request.get_host()
        except DisallowedHost:
            if request.path.startswith(MACHINE_PATHS):
                return response(Problem(400, "bad_request", "Host"))
            return HttpResponse("Bad request: this host is not served here.\n", status=400, content_type="text/plain")
        return self._get_response(request)
