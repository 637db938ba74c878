"""``manage.py export_ledger FOLDER``: the log as plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger import queries
from ledger.exports import export


class Command(BaseCommand):
    """Write checkpoint, tiles, entry bundles, rows and rulebooks as files; ``verify_ledger FOLDER`` reads them."""

    help = "Write the ledger as plain files: checkpoint, tile/, rows/, rulebook/, log.vkey."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("folder", type=Path)
        parser.add_argument(
            "--witnessed", action="store_true", help="as far as a quorum of the policy's witnesses has cosigned"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Export and report."""
        try:
            done = export(options["folder"], witnessed=options["witnessed"])
        except queries.NotThere as error:
            raise CommandError(f"there is no {error} yet") from error
        except OSError as error:
            raise CommandError(f"{options['folder']}: {error}") from error
        self.stdout.write(f"{done.size} entries in {done.files} files below {options['folder']}")
