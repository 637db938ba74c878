"""``manage.py prove_fork A B``: whether two signed heads of a log can both be true, and evidence that anybody can recheck."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ledger import keys
from ledger.core.cosign import find_cosignature
from ledger.core.forks import Evidence, Unusable, Verdict, compare, format_evidence, judge, parse_evidence
from ledger.core.note import MAX_NOTE_BYTES, NoteError, VerifierKey, parse_note, parse_vkey
from ledger.core.policy import PolicyError, parse_policy
from ledger.core.source import Missing, Source
from ledger.management.commands.verify_ledger import own_keys
from ledger.sources import SourceFailed, open_source

CONSISTENT, FORKED, UNUSABLE = 0, 1, 2
HEAD = "checkpoint"


class Command(BaseCommand):
    """Compare two heads; exit code 0 = one history, 1 = fork proven, 2 = cannot be told."""

    help = (
        "Compare two checkpoints of a log. A and B are checkpoint files, folders of an export, or web addresses (a log's, or "
        "a witness' .../checkpoint). Exit code 0: one history; 1: a fork, and the evidence is written; 2: cannot be told."
    )
    requires_migrations_checks = False
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("heads", nargs="*", metavar="A B")
        parser.add_argument("--check", type=Path, metavar="FILE", help="recheck evidence that was written before")
        parser.add_argument("--vkey", action="append", default=[], help="verifier key of the log (repeat for more)")
        parser.add_argument("--policy", type=Path, help="policy whose witnesses are looked for under both heads")
        parser.add_argument("--out", type=Path, help="file for the evidence (default fork-SIZE-SIZE.json)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare, write, report."""
        try:
            code = self._run(options)
        except (Unusable, SourceFailed, NoteError, PolicyError, keys.KeyFileError, OSError) as error:
            raise CommandError(f"this proves nothing: {error}", returncode=UNUSABLE) from error
        if code:
            sys.exit(code)

    def _run(self, options: dict[str, Any]) -> int:
        given = [parse_vkey(text.strip()) for text in options["vkey"]]
        if options["check"]:
            evidence = parse_evidence(options["check"].read_bytes())
            verdict = judge(evidence, given)
            if not given:
                self.stdout.write(
                    "signed by the keys the file itself names; compare them with the log's, or give --vkey:"
                )
                for vkey in evidence.keys:
                    self.stdout.write(f"  {vkey}")
            return self._report(verdict, evidence, options)
        if len(options["heads"]) != 2:
            raise Unusable("expected two heads, A and B, or --check FILE")
        trusted = given or own_keys()
        if not trusted:
            raise Unusable("expected the log's key: give --vkey")
        (a, tiles_a), (b, tiles_b) = map(_head, options["heads"])
        verdict, evidence = compare(a, b, _signers(trusted, a, b), tiles_a, tiles_b)
        code = self._report(verdict, evidence, options)
        if code == FORKED:
            out = options["out"] or Path(f"fork-{verdict.smaller.size}-{verdict.larger.size}.json")
            out.write_bytes(format_evidence(evidence))
            self.stdout.write(f"evidence: {out}; anybody can recheck it: manage.py prove_fork --check {out}")
        return code

    def _report(self, verdict: Verdict, evidence: Evidence, options: dict[str, Any]) -> int:
        names = f"{verdict.smaller.origin} at {verdict.smaller.size} and at {verdict.larger.size} entries"
        if not verdict.forked:
            self.stdout.write(self.style.SUCCESS(f"ONE HISTORY: {names}; {verdict.why}"))
            return CONSISTENT
        self.stdout.write(self.style.ERROR(f"FORK PROVEN: {names}; {verdict.why}"))
        self.stdout.write("whoever holds the signing key has signed both: its holder lies, or it was stolen")
        for name in _both(options["policy"], evidence):
            self.stdout.write(f"witness {name} has cosigned both: it did not do its work")
        return FORKED


def _signers(trusted: list[VerifierKey], *notes: bytes) -> list[VerifierKey]:
    """Return the trusted keys that one of the notes has a line of: the evidence is to name no others."""
    named = {(line.name, line.key_id) for note in notes for line in parse_note(note).signatures}
    return [key for key in trusted if (key.name, key.key_id) in named] or trusted


def _head(where: str) -> tuple[bytes, Source | None]:
    """Return a signed head, and where its log's tiles are read from, None where there can be none."""
    if "://" not in where and not Path(where).is_dir():
        with Path(where).open("rb") as file:
            return file.read(MAX_NOTE_BYTES + 1), None
    source = open_source(where.removesuffix(f"/{HEAD}"))
    try:
        return source(HEAD), source
    except Missing as error:
        raise Unusable(f"{where}: {error}") from error


def _both(policy: Path | None, evidence: Evidence) -> list[str]:
    """Return the policy's witnesses that have cosigned both heads."""
    if policy is None:
        return []
    notes = [parse_note(text.encode()) for text in (evidence.smaller, evidence.larger)]
    witnesses = parse_policy(policy.read_bytes()).witnesses
    return [one.name for one in witnesses if all(find_cosignature(note, one.key) is not None for note in notes)]
