"""The weekly summary by e-mail: written in each person's language, sent once, stopped by a link in it.

At most once: a week's summary is claimed in the database before it goes to the mail server (``subscriptions.claim``). A run
that is killed leaves at most one person of its batch without it; a second e-mail about the same money would be worse.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from smtplib import SMTPRecipientsRefused, SMTPResponseException
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import messages
from django.core.mail import EmailMultiAlternatives, get_connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone, translation
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from market.households import queries as households
from market.households.models import Role, User
from market.pages.roles import only_for
from market.settlement import statement_queries, subscriptions
from market.settlement.levies import commercial
from market.settlement.periods import Period, start_ms
from market.settlement.statement_queries import Statement
from market.settlement.statements import CENT_E11

log = logging.getLogger(__name__)

BATCH = 200  # people of one connection to the mail server
MAX_PEOPLE = 1_000_000  # of one run; a city's households several times over


class Sent(NamedTuple):
    """What a run did."""

    sent: int
    before: int  # had it, or may have had it, already
    nothing: int  # no account, no address, or nothing settled in that week
    refused: int  # by the mail server; the next run tries again


def send_week(*, week: Period, now: datetime, limit: int = MAX_PEOPLE) -> Sent:
    """Send the summaries of a week to all who asked for them; return what was done.

    Safe to repeat and to kill. ``limit``: e-mails at most. Raises ``OSError`` when the mail server cannot be reached, or is
    lost in the middle: whose e-mail was under way then may have it and gets no second one, all others get it in the next run.
    """
    sent = before = nothing = refused = 0
    for batch in _batches():
        with get_connection() as connection:
            for user in batch:
                if sent + refused >= limit:
                    return Sent(sent, before, nothing, refused)
                message = message_of(user, week)
                if message is None:
                    nothing += 1
                elif not subscriptions.claim(user=user, week=week.name, now=now):
                    before += 1
                elif _deliver(message, connection):
                    subscriptions.note(user=user, week=week.name, sent=True)
                    sent += 1
                else:
                    subscriptions.note(user=user, week=week.name, sent=False)
                    refused += 1
    return Sent(sent, before, nothing, refused)


def _batches() -> Iterator[list[User]]:
    after, left = 0, MAX_PEOPLE
    while left > 0 and (batch := subscriptions.subscribers(after=after, limit=min(BATCH, left))):
        after, left = batch[-1].pk, left - len(batch)
        yield batch


def _deliver(message: EmailMultiAlternatives, connection: Any) -> bool:
    """Hand a message to the mail server; False when it said no, an error when nobody knows. The log names nobody."""
    message.connection = connection
    try:
        return bool(message.send())
    except (SMTPResponseException, SMTPRecipientsRefused) as error:
        log.warning("a summary was refused: %s", type(error).__name__)
        return False


def message_of(user: User, week: Period) -> EmailMultiAlternatives | None:
    """Return a person's summary of a week in their language; None when there is nothing to say or nowhere to send it."""
    account = households.account_of(user)
    if account is None or not user.email:
        return None
    found = statement_queries.statement(statement_queries.numbers_of(user, account.index), week)
    if not found.total.sums.intervals:
        return None
    with translation.override(user.language or settings.LANGUAGE_CODE):
        context = _context(user, found)
        stop = context["stop"]
        message = EmailMultiAlternatives(
            subject=_("Your week on Sunledger, %(week)s") % {"week": week.name},
            body=render_to_string("email/summary.txt", context),
            to=[user.email],
            headers={"List-Unsubscribe": f"<{stop}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        )
        message.attach_alternative(render_to_string("email/summary.html", context), "text/html")
    return message


def _context(user: User, found: Statement) -> dict[str, Any]:
    zone = statement_queries.market_zone()
    base = settings.PUBLIC_URL
    last = found.period.days()[-1]
    return {
        "found": found,
        "sums": found.total.sums,
        "total": found.total,
        "gain_cents": commercial(found.total.gain_e11, CENT_E11),
        "first_ms": start_ms(found.period.first, zone),
        "last_ms": start_ms(last, zone),
        "days": [(start_ms(day, zone), sums) for day, sums in found.days.items()],
        "statement": f"{base}{reverse('statement')}?period=month&date={last.isoformat()}",
        "stop": f"{base}{reverse('stop-summary', args=[subscriptions.token_of(user)])}",
    }


# --- asking for it, and no longer ------------------------------------------------------------------------------------
@never_cache
@only_for(Role.HOUSEHOLD)
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Begin or stop to send the weekly summary to the person who is signed in."""
    if request.POST.get("summary") == "on":
        subscriptions.subscribe(user=request.user, now=timezone.now())
        if not request.user.email:  # type: ignore[union-attr]
            sentence = _("You asked for the summary, but nothing can be sent yet: your profile has no e-mail address.")
            link = format_html('<a href="{}">{}</a>', reverse("security"), _("Enter it under “Sign-in and security”"))
            messages.warning(request, format_html("{} {}", sentence, link))
    else:
        subscriptions.unsubscribe(user_id=request.user.pk)
    return redirect(f"{reverse('account')}#summary")


@never_cache
@csrf_exempt  # the token is the permission: mail programs send the one-click form of RFC 8058 without a session
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether to stop the summaries (GET: mail scanners open every link), and stop them (POST)."""
    user_id = subscriptions.user_of(token)
    if user_id is None:
        raise Http404
    if request.method == "POST":
        subscriptions.unsubscribe(user_id=user_id)
    return render(request, "email/stop.html", {"stopped": request.method == "POST", "token": token})


urlpatterns = [
    path("account/summary", choose, name="choose-summary"),
    path("summary/stop/<str:token>", stop, name="stop-summary"),
]
