"""`manage.py forget_factors`: let somebody in again who lost telephone, passkeys and recovery codes."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError, CommandParser

from market.households import sessions
from market.households.models import User


class Command(BaseCommand):
    """Remove the second factors of one person; the password alone lets in again."""

    help = (
        "Remove passkeys, authenticator app and recovery codes of one person and end their sessions, so that the password "
        "alone lets in again. Make sure first, by a way that is not e-mail, that it is them who ask."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="name the person signs in with")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"there is nobody who signs in as {options['user']!r}")
        removed = Authenticator.objects.filter(user_id=user.pk).delete()[0]
        ended = sessions.end_others(user=user, session_key="")
        self.stdout.write(f"Removed: {removed}; sessions ended: {ended}.")
