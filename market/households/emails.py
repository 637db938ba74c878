"""E-mail addresses: one a person, sealed. Once a link sent to it was followed, it can bring back a lost password.

The address itself cannot be searched for, so a keyed digest stands beside it, of the address that was confirmed last: until
a new one is, the old one still counts.
"""

from __future__ import annotations

from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

from market.households import keystore
from market.households.models import User
from market.households.operations import HouseholdError

SALT = "households.email"
LINK_HOURS = 72  # how long a link in an e-mail confirms
MAX_SHARED = 5  # people who may have one address, as families do


def digest(email: str) -> str:
    """Return under which an address is found again; capital letters make no difference."""
    return keystore.lookup("email", email.strip().casefold())


def change(*, user: User, email: str) -> bool:
    """Give a person another address, or none; return whether it is one to be confirmed. Raise ``HouseholdError``."""
    email = email.strip()
    if email:
        try:
            validate_email(email)
        except ValidationError as error:
            raise HouseholdError("invalid_value", "email", _("This is not an e-mail address.")) from error
    user.email = email
    if not email:
        user.email_lookup = ""
    user.save(update_fields=["email", "email_lookup"])
    return bool(email) and not confirmed(user)


def confirmed(user: User) -> bool:
    """Return whether a person's present address was confirmed."""
    return bool(user.email) and user.email_lookup == digest(user.email)


def token_of(user: User) -> str:
    """Return what a link carries that confirms a person's present address."""
    return signing.dumps([user.pk, digest(user.email)], salt=SALT)


def owner_of(token: str) -> User | None:
    """Return whose present address a link confirms, or None for a link that is too old or meant another address."""
    try:
        pk, wanted = signing.loads(token, salt=SALT, max_age=LINK_HOURS * 3_600)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    user = User.objects.filter(pk=pk, is_active=True).first()
    return user if user is not None and user.email and digest(user.email) == wanted else None


def confirm(*, token: str) -> User | None:
    """Note that somebody who reads the mail of an address followed the link; return whose it is."""
    user = owner_of(token)
    if user is not None:
        user.email_lookup = digest(user.email)
        user.save(update_fields=["email_lookup"])
    return user


def people_with(email: str) -> list[User]:
    """Return the people who confirmed this address and may sign in."""
    rows = User.objects.filter(email_lookup=digest(email), is_active=True).exclude(email_lookup="").order_by("pk")
    return list(rows[:MAX_SHARED])
