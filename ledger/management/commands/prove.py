"""``manage.py prove SEQ``: the receipt of one entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger import queries


class Command(BaseCommand):
    """Write an entry's receipt (https://c2sp.org/tlog-proof) to stdout or a file."""

    help = "Write the receipt of an entry: a c2sp.org/tlog-proof@v1 file."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("seq", type=int)
        parser.add_argument("--out", type=Path, help="file to write, by convention NAME.tlog-proof")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the receipt."""
        try:
            text = queries.receipt(options["seq"])
        except queries.NotThere as error:
            raise CommandError(f"expected a sealed entry, the log does not have this: {error}") from error
        if options["out"]:
            options["out"].write_text(text)
        else:
            self.stdout.write(text, ending="")
