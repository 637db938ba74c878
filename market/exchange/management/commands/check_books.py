"""``manage.py check_books``: postings, balances and ledger say the same, or the first difference is named."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from market.exchange import books


class Command(BaseCommand):
    """Compare the books with the ledger as they are at one instant; the market may go on meanwhile."""

    help = "Compare orders, trades, transfers, settlement and balances with the ledger; exit code 1 at a difference."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("--json", action="store_true", help="say it for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and report."""
        started_s = time.monotonic()
        try:
            checked = books.check()
        except books.Difference as error:
            if options["json"]:
                self.stdout.write(json.dumps({"verdict": "wrong", "place": error.place, "what": error.what}))
            raise CommandError(str(error)) from error
        seconds = round(time.monotonic() - started_s, 3)
        if options["json"]:
            self.stdout.write(json.dumps({"verdict": "passed", "seconds": seconds, **checked._asdict()}))
            return
        self.stdout.write(self.style.SUCCESS("The books are what the ledger says."))
        self.stdout.write(f"entries {checked.entries}, accounts {checked.accounts}, contracts {checked.contracts}")
        for name, count in checked.rows.items():
            self.stdout.write(f"{name} {count} rows")
        self.stdout.write(f"seconds {seconds:.1f}")
