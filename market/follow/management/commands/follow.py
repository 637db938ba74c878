"""``manage.py follow URL``: a verified copy of a market's ledger, and what follows from it, for whoever watches the market."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger.core.note import NoteError, VerifierKey, parse_vkey
from ledger.core.policy import PolicyError
from ledger.core.quorum import NoQuorum
from ledger.files import SourceFailed, open_files, read_policy
from ledger.mirror import stated
from market.follow import evidence
from market.follow.evidence import Mismatch
from market.follow.follower import NEWEST, Follower, Unusable, Withheld
from market.follow.model import LISTS, MAX_ROWS, listed

EVERY_S = 5.0
BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)  # waits after failures in a row, the last one from then on
ONCE_ATTEMPTS = 6
MISMATCH, NO_ANSWER = 1, 2


class Command(BaseCommand):
    """Follow until stopped; exit code 1 and evidence when the ledger is not what it must be."""

    help = "Keep a verified copy of a market's ledger and play its market along; stop with evidence on any mismatch."
    requires_migrations_checks = False
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("source", nargs="?", default="", metavar="URL|FOLDER")
        parser.add_argument("--folder", type=Path, default=Path("mirror"), help="where the copy is kept (mirror)")
        parser.add_argument("--key", default="", help="API key with the scope ledger:read (or LEDGER_KEY)")
        parser.add_argument("--vkey", action="append", default=[], help="verifier key to trust, name+id+base64")
        parser.add_argument(
            "--policy", default="", metavar="FILE",
            help="tlog-policy file: a quorum of its witnesses must have cosigned; without --vkey its log keys are trusted",
        )  # fmt: skip
        start = parser.add_mutually_exclusive_group()
        start.add_argument(
            "--from-snapshot", nargs="?", const=NEWEST, default="", metavar="FILE",
            help="start the replay from a snapshot: this file, or the newest that the log offers",
        )  # fmt: skip
        start.add_argument("--from-zero", action="store_true", help="replay from the first entry (the default)")
        parser.add_argument("--once", action="store_true", help="take in what there is and end")
        parser.add_argument("--every", type=float, default=EVERY_S, metavar="S", help="seconds between two looks")
        parser.add_argument("--show", choices=sorted(LISTS), help="list what was followed so far, newest first")
        parser.add_argument("--account", type=int, help="with --show: of this account")
        parser.add_argument("--contract", default="", help="with --show: of this contract")
        parser.add_argument("--limit", type=int, default=100, help=f"with --show: rows, at most {MAX_ROWS}")

    def handle(self, *args: Any, **options: Any) -> None:
        """Follow, or show."""
        if options["show"]:
            self._show(options)
            return
        if not options["source"]:
            raise CommandError("expected the address or folder of a ledger", returncode=NO_ANSWER)
        try:
            source = open_files(options["source"], options["key"] or os.environ.get("LEDGER_KEY", ""))
            policy = read_policy(options["policy"]) if options["policy"] else None
            keys = _keys(options["vkey"]) or list(policy.logs if policy else ())
            follower = Follower(options["folder"], source, keys, options["from_snapshot"], policy)
        except (NoteError, PolicyError, SourceFailed, Unusable, OSError) as error:
            raise CommandError(str(error), returncode=NO_ANSWER) from error
        stop = threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
        try:
            self._follow(follower, options, stop)
        except (Unusable, OSError) as error:
            raise CommandError(str(error), returncode=NO_ANSWER) from error
        except Mismatch as mismatch:
            case = evidence.keep(options["folder"], mismatch, follower.kept, follower.served)
            raise CommandError(f"{mismatch}\nThe evidence is in {case}", returncode=MISMATCH) from mismatch
        finally:
            follower.close()

    def _follow(self, follower: Follower, options: dict[str, Any], stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                moved = follower.step()
            except (SourceFailed, Withheld, NoQuorum) as error:
                wait_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                if options["once"] and failures >= ONCE_ATTEMPTS:
                    raise CommandError(str(error), returncode=NO_ANSWER) from error
                self.stderr.write(f"{error}; trying again in {wait_s:g} s")
                stop.wait(wait_s)
                continue
            failures = 0
            if moved or options["once"]:
                head = stated(follower.mirror.note())
                self.stdout.write(f"{head.size} entries, root {head.root.hex()}: verified and replayed")
                self.stdout.flush()
            if options["once"]:
                return
            stop.wait(max(0.1, options["every"]))

    def _show(self, options: dict[str, Any]) -> None:
        try:
            columns, rows = listed(options["folder"], options["show"], options, options["limit"])
        except FileNotFoundError as error:
            raise CommandError(str(error), returncode=NO_ANSWER) from error
        for row in (columns, *rows):
            self.stdout.write("\t".join(map(str, row)))


def _keys(texts: list[str]) -> list[VerifierKey]:
    return [parse_vkey(text.strip()) for text in texts]
