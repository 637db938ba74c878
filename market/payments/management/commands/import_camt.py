"""`manage.py import_camt FILE`: read a bank statement and lay it before the staff; nothing is booked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from market.exchange.units import money_text
from market.households.models import Role, User
from market.payments import bank
from market.payments.booking import PaymentError


class Command(BaseCommand):
    """Take a camt.053 file, say what booking it would do, and leave the decision to the staff page."""

    help = (
        "Read a bank statement (ISO 20022 camt.053, version 08 or 02), print what booking it would do, and put it on the "
        "staff page, where a member of staff books or discards it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--by", metavar="USER", default="", help="member of staff who reads it")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        by = None
        if options["by"]:
            by = User.objects.filter(username=options["by"], role=Role.STAFF, is_active=True).first()
            if by is None:
                raise CommandError(f"there is no member of staff who signs in as {options['by']!r}")
        try:
            bank.check_size(path.stat().st_size)
            file = bank.take(data=path.read_bytes(), by=by, now=timezone.now())
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        except PaymentError as error:
            raise CommandError(f"{path}: {error.code}: {error.sentence}") from error
        counts: Counter[str] = Counter()
        for line in bank.look(file):
            counts[line.outcome] += 1
            target = f"account {line.account}" if line.account is not None else "-"
            amount = f"{money_text(line.item.amount_e7)} {line.item.currency}"
            self.stdout.write("  ".join([line.item.booked_on or "-", amount, line.outcome, target, line.why]).rstrip())
        total = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no payments"
        self.stdout.write(f"Statement {file.message_id}: {total}. Book or discard it on the staff page.")
