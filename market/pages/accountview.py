"""The account page: profile, money, keys, sharing, data; the modules that take its forms show it again with their errors."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import translation

from market.exchange import queries as exchange_queries
from market.households import emails, operations, queries
from market.households.models import ApiKey
from market.pages import privacy, shareview
from market.pages.again import typed
from market.pages.forms import SCOPE_WORDS, KeyForm, ProfileForm
from market.pages.shareview import ShareForm
from market.settlement import subscriptions


def profile_form(*args: Any, **kwargs: Any) -> ProfileForm:
    """Return the form of the profile, with the time zones that are known here."""
    return ProfileForm(*args, zones=operations.time_zones(), market_zone=settings.MARKET_TIME_ZONE, **kwargs)


def show(
    request: HttpRequest,
    *,
    profile: ProfileForm | None = None,
    key_form: KeyForm | None = None,
    new_key: operations.NewKey | None = None,
    share_form: ShareForm | None = None,
) -> HttpResponse:
    """Show the account page, with a form that could not be taken as it was sent."""
    user = request.user
    mine = queries.account_of(user)
    wrong = any(form is not None for form in (profile, key_form, share_form))
    initial = {
        "first_name": user.first_name,
        "time_zone": user.time_zone,
        "colours": user.colours,
        "language": user.language or translation.get_language() or "en",
    }
    context: dict[str, Any] = {
        "profile": profile or profile_form(initial=initial),
        "confirmed": emails.confirmed(user),
        "key_form": key_form
        or KeyForm(role=user.role, initial=typed(request, reverse("make-key"), many=("scopes",), at="make-key")),
        "new_key": new_key,
        "keys": [(key, _scope_words(key)) for key in queries.keys_of(user)],
        "account": mine,
        "balance": exchange_queries.balance(mine.index) if mine is not None else None,
        "account_request": queries.request_of(user),
        "summary_on": subscriptions.is_subscribed(user),
        **shareview.context_of(mine, form=share_form),
        **privacy.context_of(user),
    }
    return render(request, "account/account.html", context, status=422 if wrong else 200)


def _scope_words(key: ApiKey) -> list[str]:
    return [str(SCOPE_WORDS.get(scope, scope)) for scope in key.scopes.split()]
