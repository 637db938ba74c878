"""`manage.py erase_person`: forget a household; every verification passes as before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from market.exchange.exchange import Exchange, wall_clock_ms
from market.exchange.outcomes import ExchangeError
from market.exchange.units import money_text
from market.households import erasure
from market.households.models import User
from market.households.operations import HouseholdError


class Command(BaseCommand):
    """Erase identity, salts, device links and sessions, and destroy the person's key."""

    help = (
        "Erase a household for good: name, e-mail, address, meter number, sessions, API keys, what opened the commitment on "
        "the ledger; and destroy the key that what lies in backups is encrypted with. Refused while the account is open, "
        "holds money or has unsettled intervals. The staff page does the same while the market runs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", nargs="?", metavar="USER", help="name the person signs in with")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--close", action="store_true", help="close and pay out the accounts first; only while no market runs"
        )
        parser.add_argument("--iban", default="", help="with --close: where what is left in the wallet goes")
        parser.add_argument("--holder", default="", help="with --close: whose bank account that is")
        parser.add_argument(
            "--restored", action="store_true", help="after a backup was restored: erase again who was erased since"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["restored"]:
            self.stdout.write(f"Erased again: {erasure.erase_again()}.")
            return
        if not options["user"]:
            raise CommandError("expected the name of a person, or --restored")
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"there is nobody who signs in as {options['user']!r}")
        if not options["yes"] and input(f"Erase {user.username} for good? Type the name again: ") != user.username:
            raise CommandError("nothing was erased")
        try:
            if options["close"]:
                self._close(user, options["iban"], options["holder"])
            done = erasure.erase(user=user)
        except HouseholdError as error:
            raise CommandError(str(error.sentence)) from error
        numbers = ", ".join(map(str, done.accounts)) or "none"
        self.stdout.write(f"Erased. Accounts that are nobody's now: {numbers}; sessions ended: {done.sessions}.")

    def _close(self, user: User, iban: str, holder: str) -> None:
        exchange = Exchange(wall_clock_ms)
        try:
            exchange.start()
            try:
                now = datetime.fromtimestamp(exchange.now_ms() / 1_000, UTC)
                paid = erasure.close_and_pay_out(exchange, user=user, now=now, iban=iban, holder=holder)
            finally:
                exchange.stop()
        except ExchangeError as error:
            raise CommandError(str(error)) from error
        for one in paid:
            amount = money_text(one.amount_e7)
            self.stdout.write(f"Withdrawn from account {one.account}: {amount} (entry {one.seq}); the staff send it.")
