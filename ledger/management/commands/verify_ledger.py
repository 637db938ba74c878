"""``manage.py verify_ledger [URL|FOLDER]``: believe nothing but the log's key, read everything, name the first bad place."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger import keys
from ledger.core.note import NoteError, VerifierKey, parse_vkey
from ledger.core.policy import PolicyError
from ledger.core.quorum import NoQuorum, find, under
from ledger.core.source import Missing
from ledger.core.verify import Bad, verify_log
from ledger.files import read_policy
from ledger.sources import DatabaseSource, SourceFailed, open_source


class Command(BaseCommand):
    """Verify a log from its files; exit code 1 and the place on stderr when something is wrong."""

    help = "Verify a ledger: signature, seals, roots, canonical bytes, totals, rows. Default: this database's."
    requires_migrations_checks = False
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("source", nargs="?", default="", metavar="URL|FOLDER")
        parser.add_argument("--key", default="", help="API key with the scope ledger:read (or LEDGER_KEY)")
        parser.add_argument("--vkey", action="append", default=[], help="verifier key to trust, name+id+base64")
        parser.add_argument(
            "--policy", default="", metavar="FILE",
            help="tlog-policy file: a quorum of its witnesses must have cosigned; without --vkey its log keys are trusted",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify and report."""
        where = options["source"]
        started_s = time.monotonic()
        try:
            trusted = [parse_vkey(text.strip()) for text in options["vkey"]]
            why = "given with --vkey"
            policy = read_policy(options["policy"]) if options["policy"] else None
            if not trusted and policy is not None:
                trusted, why = list(policy.logs), "given with --policy"
            if not trusted and not where:
                trusted, why = own_keys(), f"from {settings.LEDGER_SIGNER or settings.LEDGER_KEY_FILE}"
            source = open_source(where, options["key"] or os.environ.get("LEDGER_KEY", ""))
            cosigned = None if policy is None else find(source, policy)
            read = source if cosigned is None else under(cosigned.note, source)
            heads = None
            if isinstance(source, DatabaseSource):
                heads = source.heads(None if cosigned is None else cosigned.size)
            report = verify_log(read, trusted, heads)
        except NoteError as error:
            raise CommandError(f"--vkey: {error}") from error
        except (Bad, NoQuorum, Missing, PolicyError, SourceFailed, keys.KeyFileError) as error:
            raise CommandError(str(error)) from error
        seconds = time.monotonic() - started_s
        if report.trusted == "genesis":
            why = "named by the log's own first entry: trusted on first use, give --vkey to check who wrote it"
        self.stdout.write(self.style.SUCCESS(f"The ledger {report.origin} is as it must be."))
        self.stdout.write(f"entries {report.size}, blocks {report.blocks}, seconds {seconds:.1f}")
        self.stdout.write(f"root {report.root}")
        self.stdout.write(rows_told(report.rows, report.rows_missing))
        self.stdout.write(rulebooks_told(report.rulebooks, report.rulebooks_missing))
        self.stdout.write(f"key {report.vkey} ({why})")
        if cosigned is not None:
            names = ", ".join(line.told() for line in cosigned.cosignatures)
            self.stdout.write(f"witnessed by {names or 'nobody: the policy asks for no witness'}")


def rows_told(rows: int, missing: int) -> str:
    """Return what became of the rows of readings and settlements: ``rows`` verified, those of ``missing`` entries not there."""
    if not missing:
        told = f"{rows} verified, none is missing" if rows else "the ledger has none yet"
    else:
        entries = "1 entry" if missing == 1 else f"{missing} entries"
        told = f"{rows or 'none'} verified; those of {entries} are not in this source and were not checked"
    return f"rows of readings and settlements: {told}"


def rulebooks_told(texts: int, missing: int) -> str:
    """Return what became of the texts of rulebooks: ``texts`` verified, ``missing`` not there."""
    if not missing:
        told = f"{texts} verified, none is missing" if texts else "the ledger names none yet"
    else:
        are, were = ("is", "was") if missing == 1 else ("are", "were")
        told = f"{texts or 'none'} verified; {missing} {are} not in this source and {were} not checked"
    return f"rulebooks: {told}"


def own_keys() -> list[VerifierKey]:
    """Return the keys this installation signs with, [] where they are not kept."""
    if not settings.LEDGER_SIGNER and not Path(settings.LEDGER_KEY_FILE).exists():
        return []
    return [parse_vkey(vkey) for vkey in keys.signing_keys().vkeys()]
