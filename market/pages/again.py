"""Asking once more who somebody is, before what a borrowed session must not do (django-allauth's reauthentication).

How long a proof counts is ``ACCOUNT_REAUTHENTICATION_TIMEOUT``. What was being sent is not sent for them meanwhile: it is kept
sealed with the key of its person, and the page shows it again, filled in, once they have shown who they are. Where they
never do, it goes with the next thing they ask for after ``KEPT_S``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.reauthentication import is_reauthentication_required
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from market.households import keystore

View = Callable[..., HttpResponse]

KEPT = "kept_form"  # in the session: [where it was sent, when, its fields sealed]; one form a session
PLACE = "session.kept_form"  # what its sealed text is bound to
KEPT_S = 900  # later nobody remembers what they were about to do
MAX_KEPT = 8_000  # characters of all fields; the longest of these forms has some hundred
NOT_KEPT = ("csrfmiddlewaretoken", "once", "credential", "code")  # of that one filling-in
SAFE_METHODS = ("GET", "HEAD")


def freshly(
    view: View | None = None,
    *,
    back: str = "",
    changes_only: bool = False,
    keeps: bool = True,
    unless: Callable[[HttpRequest], bool] = lambda request: False,
) -> Any:
    """Let people in who have shown who they are in the last minutes; others are asked to, and come back.

    ``back``: the name of the page its form stands on, by default its own address. ``changes_only``: looking needs no proof.
    ``keeps``: what is sent is kept for the page that calls ``typed``; not where none does.
    ``unless``: requests that need none, since they only take something back.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            looks = request.method in SAFE_METHODS
            if (looks and changes_only) or not request.user.is_authenticated or unless(request):
                return view(request, *args, **kwargs)
            if not is_reauthentication_required(request, app="allauth.account"):
                return view(request, *args, **kwargs)
            methods = get_adapter().get_reauthentication_methods(request.user)
            if not methods:
                raise PermissionDenied
            if keeps and not looks:
                _keep(request)
            page = reverse(back) if back else request.get_full_path()
            return redirect(f"{methods[0]['url']}?{urlencode({'next': page})}")

        return checked

    return decorate if view is None else decorate(view)


def _keep(request: HttpRequest) -> None:
    fields = request.POST.copy()
    for name in list(fields):
        if name.rpartition("-")[2] in NOT_KEPT:
            del fields[name]
    text = fields.urlencode()
    sealed = keystore.seal(request.user.person_key, text if len(text) <= MAX_KEPT else "", PLACE)
    request.session[KEPT] = [request.path, time.time(), sealed]


def forget_old(request: HttpRequest) -> None:
    """Drop what somebody was sending and never came back to; for every request of theirs."""
    kept = request.session.get(KEPT)
    if kept is not None and time.time() - kept[1] > KEPT_S:
        del request.session[KEPT]


def typed(
    request: HttpRequest, sent_to: str, *, prefix: str = "", many: tuple[str, ...] = (), at: str = ""
) -> dict[str, Any]:
    """Return what a person had filled in when they were asked who they are, this once, and say that nothing was sent.

    ``sent_to``: the address of the form; ``prefix``: of the names of its fields; ``many``: fields with several values; ``at``:
    the id of the form's heading, where it stands far down.
    Returns {} where nothing was kept, and while they have not shown who they are.
    """
    path, _at_s, sealed = request.session.get(KEPT) or ("", 0.0, "")
    if path != sent_to or is_reauthentication_required(request, app="allauth.account"):
        return {}
    del request.session[KEPT]
    sentence = _("Thank you. Nothing was sent meanwhile: look at it once more, and send it.")
    link = format_html(' <a href="#{}">{}</a>', at, _("To the form")) if at else ""
    messages.info(request, format_html("{}{}", sentence, link))
    fields = QueryDict(keystore.unseal(sealed, PLACE))
    start = f"{prefix}-" if prefix else ""
    return {
        name.removeprefix(start): fields.getlist(name) if name.removeprefix(start) in many else fields[name]
        for name in fields
        if name.startswith(start)
    }
