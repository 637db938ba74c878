"""``manage.py check_receipt FILE --vkey KEY``: check a receipt that holds its entry, without a database or a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.core.bundled import parse_bundle, verify_bundle
from ledger.core.note import NoteError, parse_vkey
from ledger.core.quorum import NoQuorum, demand
from ledger.core.receipt import MAX_RECEIPT_BYTES, parse_receipt
from ledger.files import read_policy


class Command(BaseCommand):
    """Check a receipt against keys that its reader trusts, and print what it proves."""

    help = "Check a c2sp.org/tlog-proof@v1 file that holds its entry; prints the entry, and the row if it is of one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("file", type=Path)
        parser.add_argument("--vkey", action="append", default=[], help="verifier key you trust; may be repeated")
        parser.add_argument(
            "--policy", default="", metavar="FILE",
            help="tlog-policy file: a quorum of its witnesses must have cosigned; without --vkey its log keys are trusted",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and print; raise ``CommandError`` when anything does not fit."""
        try:
            policy = read_policy(options["policy"]) if options["policy"] else None
            keys = [parse_vkey(text) for text in options["vkey"]] or list(policy.logs if policy else ())
            if not keys:
                raise CommandError("expected a key to trust: --vkey KEY, or --policy FILE with a log line")
            with options["file"].open("rb") as file:
                receipt = parse_receipt(file.read(MAX_RECEIPT_BYTES + 1).decode())
            checkpoint = verify_bundle(receipt, keys)
            bundled = parse_bundle(receipt.extra)
            cosigned = None if policy is None else demand(receipt.checkpoint.encode(), policy)
        except (OSError, NoteError, NoQuorum, ValueError) as error:
            raise CommandError(f"not proven: {error}") from error
        self.stdout.write(bundled.leaf.decode())
        if bundled.proof is not None:
            self.stdout.write(bundled.proof.row.decode())
        what = f"entry {receipt.seq}" if bundled.proof is None else f"row {bundled.proof.number} of entry {receipt.seq}"
        self.stdout.write(f"{what} is on {checkpoint.origin}, signed at {checkpoint.size} entries")
        if cosigned is not None and cosigned.cosignatures:
            self.stdout.write(f"witnessed by {', '.join(line.told() for line in cosigned.cosignatures)}")
