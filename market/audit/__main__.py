"""``python -m market.audit URL|FOLDER``: believe nothing, play the market again, name the first entry that is not right.

Exit code 0: the log is whole and follows from the rules; 1: it is not or does not; 2: there was nothing to judge.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from string import hexdigits
from typing import TextIO

from ledger.core.cosign import Cosignature, parse_witness_key
from ledger.core.findings import Bad, Bundle, Position, Report
from ledger.core.note import Checkpoint, NoteError, VerifierKey, parse_checkpoint, parse_note, parse_vkey
from ledger.core.policy import Policy, PolicyError
from ledger.core.quorum import Cosigned, NoQuorum, find, under
from ledger.core.source import Missing, Source
from ledger.core.verify import CHECKPOINT, verify_log
from ledger.files import SourceFailed, open_files, read_policy
from market.audit import decisions, resume, stating
from market.audit.clock import SETTLED_WITHIN_MS, Lateness
from market.audit.judge import Figures, Judge, Wrong
from market.audit.older import Kept, Unusable, any_of
from market.audit.parallel import COLLECT_AFTER, SignaturePool, verify_beside
from market.audit.signatures import Claim, Evidence, Unsigned, claim_problem, evidence
from market.audit.statement_file import Checked, Differs, Unreadable

PASSED, FOUND, UNUSABLE = 0, 1, 2
MARK_EVERY = 500_000  # entries between two positions that are kept: some ten seconds, writing one takes about one
MAX_JOBS = 64  # one judges, one verifies, the others check signatures of orders
MAX_EVIDENCE = 20  # signed batches kept at hand: rows of many intervals name the same one
MAX_KEPT_BYTES = 1 << 20  # of a checkpoint or receipt
TICK_S = 0.2
MAX_NAMED = 20  # accounts, and changes of one, that are told of
BESIDE = 2  # processes that judge and verify
ID_DIGITS, KEY_DIGITS = 32, 64


class Progress:
    """A line on the terminal that says how far the audit is."""

    def __init__(self, out: TextIO):
        self._out = out if out.isatty() else None
        self._started_s = self._shown_s = time.monotonic()
        self._first = -1

    def show(self, done: int, size: int) -> None:
        """Show that so many of all entries are done, now and then."""
        now_s = time.monotonic()
        if self._first < 0:
            self._first = done
        if self._out is None or now_s - self._shown_s < TICK_S:
            return
        self._shown_s = now_s
        rate = (done - self._first) / (now_s - self._started_s)
        left = f", {(size - done) / rate:,.0f} s left" if rate else ""
        bar = "#" * (30 * done // size)
        self._out.write(f"\r[{bar:<30}] {done:,} of {size:,} entries, {rate:,.0f}/s{left}\x1b[K")
        self._out.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._out is not None:
            self._out.write("\r\x1b[K")
            self._out.flush()


class Audit:
    """One run over one log."""

    def __init__(self, where: str, key: str, vkeys: list[VerifierKey], jobs: int, mark_every: int = 0):
        self._where, self._key, self._vkeys, self._jobs = where, key, vkeys, jobs
        self._mark_every = mark_every
        self._resume: Path | None = None
        self._start: Position | None = None
        self._last: bytes | None = None  # what is kept once the log has passed
        self._progress = Progress(sys.stderr)
        self.judge = Judge()
        self.device_keys: dict[str, str] = {}
        self.checked: list[Checked] = []  # downloaded statements that follow from the ledger
        self.signed = self.unsigned = 0  # readings held against their devices' batches; batches this source lacks
        self.not_comparable = 0  # readings whose batches have more than one figure for them
        self._evidence: OrderedDict[str, Evidence | None] = OrderedDict()
        self.held: dict[str, list[str]] = {}  # keys that accounts are held to, by their ids
        self.began = 0  # entries an earlier run has judged
        self.cosignatures: tuple[Cosignature, ...] = ()  # under the head, of the policy that was demanded

    def go_on(self, file: Path) -> None:
        """Go on from this file if it is there, and keep positions in it; raise ``resume.Refused``."""
        self._resume = file
        self._mark_every = self._mark_every or MARK_EVERY
        if file.exists():
            self._start, self.judge = resume.read(file.read_bytes())
            self.began = self._start.size

    def run(self, kept: list[Kept], policy: Policy | None, demanded: bool = False) -> tuple[Report, Figures]:
        """Verify and judge; raise ``Bad``, ``Wrong``, ``Unusable``, ``NoQuorum`` or ``SourceFailed``.

        ``policy``: whose cosignatures count under what was kept; ``demanded``: and must be a quorum under the head. Without
        one the newest head is looked at all the same where something was kept: it may show worse.
        """
        source = open_files(self._where, self._key)
        missing: NoQuorum | None = None
        newest = b""  # where a smaller head is taken, because it has a quorum
        try:
            note = source(CHECKPOINT)
            if demanded and policy is not None:
                try:
                    found = self._demand(source, policy)
                    newest, note, self.cosignatures = note, found.note, found.cosignatures
                except NoQuorum as error:
                    if not kept:
                        raise
                    missing = error
        except Missing as error:
            raise SourceFailed(f"{self._where}: expected a ledger: {error}") from None
        source = under(note, source)
        signatures = SignaturePool(self._jobs - BESIDE) if self._jobs > BESIDE else None
        if signatures is not None:
            self.judge.verify_with(signatures)
        try:
            if self._jobs > 1:
                each = (self._where, self._key, note, self._vkeys, self._take)
                report = verify_beside(*each, start=self._start, mark_every=self._mark_every)
            else:
                report = verify_log(
                    source, self._vkeys, each=self._take, start=self._start, mark_every=self._mark_every
                )
            self.judge.wait()
        finally:
            self._progress.clear()
            if signatures is not None:
                signatures.close()
        figures = self.judge.end(report.size)
        for account, named in self.held.items():
            self.judge.hold(account, named)
        head = Checkpoint(report.origin, report.size, bytes.fromhex(report.root))
        # Every key the log has ever named may have signed what was kept then.
        keys = list(dict.fromkeys((*self._vkeys, *map(parse_vkey, report.keys))))
        for one in kept:
            if newest and head.size < one.opened(keys, policy).size <= size_of(newest):
                raise NoQuorum(
                    f"{one.name}: no quorum has cosigned more than {head.size} entries yet, and it is of more"
                )
            one.check(source, head, keys, policy)
        if missing is not None:
            raise missing
        if self._last is not None:
            self._keep(self._last)
        return report, figures

    def _demand(self, source: Source, policy: Policy) -> Cosigned:
        found = find(source, policy)
        if found.size < self.began:
            raise NoQuorum(
                f"no quorum has cosigned more than {found.size} entries yet, and {self.began} were judged before"
            )
        return found

    def _take(self, bundle: Bundle) -> None:
        position, judge = bundle.position, self.judge
        if position is not None and judge.wrong is None:
            # The position lies behind a seal, most often within the bundle.
            split = position.size - bundle.first
            judge.take(bundle._replace(entries=bundle.entries[:split]))
            judge.wait()  # what is kept was judged in full
            self._hold()
            if judge.wrong is None:
                data = resume.written(position, judge)
                if position.size == bundle.size:
                    self._last = data
                else:
                    self._keep(data)
            bundle = bundle._replace(first=position.size, entries=bundle.entries[split:])
        judge.take(bundle)
        self._hold()
        self._progress.show(bundle.first + len(bundle.entries), bundle.size)

    def _hold(self) -> None:
        """Hold readings that name a signed batch against it; raise ``Wrong``."""
        for claim in self.judge.take_claims():
            if claim.source not in self._evidence:
                self._evidence[claim.source] = self._fetch(claim)
                if len(self._evidence) > MAX_EVIDENCE:
                    self._evidence.popitem(last=False)
            found = self._evidence[claim.source]
            if found is None:
                continue
            problem = claim_problem(claim, found, self.judge.length_ms())
            if problem:
                raise Wrong(f"entry {claim.seq} (readings)", f"{claim.contract}: {problem}")
            if problem is None:
                self.not_comparable += 1
            else:
                self.signed += 1

    def _fetch(self, claim: Claim) -> Evidence | None:
        try:
            data = open_files(self._where, self._key)(f"evidence/{claim.source}")
        except Missing:
            self.unsigned += 1
            return None
        found = evidence(data, claim.source, self.device_keys)
        if isinstance(found, str):
            raise Wrong(f"evidence/{claim.source}", found)
        return found

    def _keep(self, data: bytes) -> None:
        """Put a position in its place, whole or not at all."""
        assert self._resume is not None
        draft = self._resume.with_name(self._resume.name + ".new")
        draft.write_bytes(data)
        draft.replace(self._resume)


def money(amount_e7: int, currency: str) -> str:
    """Return an amount of 0.0000001 as a decimal number with its currency."""
    whole, part = divmod(abs(amount_e7), 10**7)
    return f"{'-' if amount_e7 < 0 else ''}{whole}.{part:07d} {currency}"


def size_of(note: bytes) -> int:
    """Return how many entries a checkpoint says it covers, 0 for one that cannot be read."""
    try:
        return parse_checkpoint(parse_note(note).text).size
    except NoteError:
        return 0


def by_whom(one: Kept) -> str:
    """Return which witnesses have cosigned what was kept, and when."""
    lines = ", ".join(line.told() for line in one.cosignatures)
    return f"cosigned {one.name} by {lines}: {'a quorum' if one.quorum else 'no quorum'}"


def clock_told(late: Lateness) -> list[str]:
    """Return what an audit says about times: how late gates were, how long nothing was written, what is not settled."""
    gate_s, delivery_s, gap_s = (ms / 1000 for ms in late[:3])
    lines = [f"clock gates closed up to {gate_s:.1f} s late, intervals ended {delivery_s:.1f} s, gaps of {gap_s:.1f} s"]
    if late.settled_late or late.unsettled:
        named = ", ".join(late.unsettled[:MAX_NAMED]) + (", …" if len(late.unsettled) > MAX_NAMED else "")
        lines.append(
            f"overdue {late.settled_late} areas were settled later than {SETTLED_WITHIN_MS // 3_600_000} hours after delivery,"
            f" {len(late.unsettled)} contracts still are not" + (f": {named}" if named else "")
        )
    return lines


def signing_told(figures: Figures) -> list[str]:
    """Return what an audit says about accounts that sign: how many, and what happened to them without their signature."""
    f = figures
    lines = (
        [f"signing {f.signing} accounts sign their orders, keys changed {f.key_changes} times"] if f.key_changes else []
    )
    for one in f.unsigned[:MAX_NAMED]:
        what = [f"key changed in entry {change.seq} ({change.reason})" for change in one.changes[:MAX_NAMED]]
        if len(one.changes) > MAX_NAMED:
            what.append(f"and {len(one.changes) - MAX_NAMED} times more")
        if one.slept:
            what.append(f"signed orders put to sleep or woken {one.slept} times, first in entry {one.slept_first}")
        lines.append(f"unsigned account {one.account}: {', '.join(what)}")
    if len(f.unsigned) > MAX_NAMED:
        lines.append(f"unsigned {len(f.unsigned) - MAX_NAMED} more accounts, which --json names")
    return lines


def unsigned_values(one: Unsigned) -> dict[str, object]:
    """Return what happened to an account without its signature, for programs."""
    return one._asdict() | {"changes": [change._asdict() for change in one.changes]}


def told(
    report: Report, figures: Figures, audit: Audit, kept: list[Kept], seconds: float, held: Iterable[str] = ()
) -> str:
    """Return what an audit that passed ends with."""
    f, began = figures, audit.began
    entries = f.entries - began
    trusted = {"given": "given with --vkey or --policy"}.get(
        report.trusted, "named by the log's own first entry: give --vkey to check who wrote it"
    )
    lines = [
        f"The ledger {report.origin} is whole, and every entry of it follows from the rules.",
        f"entries {f.entries}, blocks {report.blocks}, trades {f.types.get('trade', 0)} ({f.types.get('recall', 0)} recalled)",
        f"energy {f.energy_wh} Wh traded in {f.contracts} contracts by {f.accounts} accounts",
        f"money {money(f.paid_e7, f.currency)} paid, of it {money(f.fee_e7, f.currency)} grid fees",
        f"settled {f.settled_rows} rows by {f.readings} readings"
        + (f", corrected {f.corrected_rows} of them" if f.corrected_rows else "")
        + (f", {f.passed_over} without a reading that had only just come in" if f.passed_over else "")
        + (
            f"; {f.readings_missing} readings entries are not in this source: what was settled by them was held against"
            " tally and tariff only"
            if f.readings_missing
            else ""
        ),
        f"rulebooks {report.rulebooks} verified, {report.rulebooks_missing} not in this source",
        *clock_told(f.lateness),
        *signing_told(f),
        *decisions.told(f.decided),
        f"time {f.first_at} to {f.last_at}",
        f"root {report.root}",
        f"key {report.vkey} ({trusted})",
    ]
    if audit.judge.statements is not None:
        statements = audit.judge.statements
        lines += stating.lines_of(statements.count, statements.zone, audit.checked, f.currency)
    if audit.cosignatures:
        lines.append(f"witnessed by {', '.join(line.told() for line in audit.cosignatures)}")
    lines += [f"account {account}: no key but those given" for account in held]
    if kept:
        lines.append(f"kept {len(kept)} older checkpoints and receipts: the log still holds them")
    lines += [by_whom(one) for one in kept if one.cosignatures]
    if began:
        lines.append(f"resumed {began} entries were judged before")
    rate = f"{entries / seconds:.0f}" if seconds else "-"
    lines.append(f"seconds {seconds:.1f}, entries a second {rate}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m market.audit",
        description="Verify a ledger and play its market again: every trade, fee, hold and balance must come out the same.",
        epilog="Exit code 0: passed; 1: something is wrong, and it is named; 2: nothing could be judged.",
    )
    made.add_argument("source", metavar="URL|FOLDER", help="a running market, or what export_ledger wrote")
    made.add_argument("--key", default="", help="API key with the scope ledger:read (or LEDGER_KEY)")
    made.add_argument(
        "--vkey", action="append", default=[], help="verifier key to trust, name+id+base64; may be repeated"
    )
    made.add_argument(
        "--from-checkpoint", "--receipt", dest="kept", action="append", default=[], metavar="FILE",
        help="a checkpoint, cosigned or not, or a receipt (.tlog-proof) kept from earlier; may be repeated",
    )  # fmt: skip
    witnesses = made.add_mutually_exclusive_group()
    witnesses.add_argument(
        "--witness", action="append", default=[], metavar="KEY",
        help="verifier key of a witness whose cosignature under what was kept counts; may be repeated",
    )  # fmt: skip
    witnesses.add_argument(
        "--policy", default="", metavar="FILE",
        help="tlog-policy file: a quorum of its witnesses must have cosigned the checkpoint, and counts under what was kept",
    )  # fmt: skip
    made.add_argument(
        "--device-key", action="append", default=[], metavar="DEVICE=KEY",
        help="the key (hex) of a device you know: readings it signed must be signed with this one; may be repeated",
    )  # fmt: skip
    made.add_argument(
        "--account-key", dest="account_keys", action="append", default=[], metavar="ID:KEY",
        help="id and key (hex) of an account whose orders are signed: it must never have had another key; may be repeated",
    )  # fmt: skip
    made.add_argument("--resume", default="", metavar="FILE", help="go on from this file, and keep the position in it")
    made.add_argument(
        "--resume-every", type=int, default=MARK_EVERY, metavar="N", help="entries between two positions kept"
    )
    made.add_argument(
        "--jobs", type=int, choices=range(1, MAX_JOBS + 1), default=1, metavar="N",
        help="2: hashes are verified in a process beside, where a core is idle; more: signatures of orders in N - 2 others",
    )  # fmt: skip
    made.add_argument(
        "--allow-missing-rows", action="store_true",
        help="pass a source without the rows of some readings: what was settled by them is held against tally and tariff only",
    )  # fmt: skip
    stating.add_options(made)
    made.add_argument("--json", default="", metavar="FILE", help="write the verdict and the figures there, too")
    return made


def witnesses_of(options: argparse.Namespace) -> Policy | None:
    """Return whose cosignatures count, None when nobody was named; raise ``NoteError`` or ``PolicyError``."""
    if options.policy:
        return read_policy(options.policy)
    keys = [parse_witness_key(text.strip()) for text in options.witness]
    return any_of(keys) if keys else None


def _device_key(text: str) -> tuple[str, str]:
    device, _, key = text.partition("=")
    if len(device) != 32 or len(key) != 64:
        raise Unusable(f"--device-key: expected DEVICE=KEY, was {text!r:.120}")
    return device, key


def held_to(texts: list[str]) -> dict[str, list[str]]:
    """Return the keys that accounts are held to by their ids; raise ``Unusable``."""
    found: dict[str, list[str]] = {}
    for text in texts:
        account, _, key = text.strip().lower().partition(":")
        if (len(account), len(key)) != (ID_DIGITS, KEY_DIGITS) or not set(account + key) <= set(hexdigits):
            raise Unusable(
                f"--account-key: expected {ID_DIGITS} hex digits, a colon and {KEY_DIGITS}, was {text!r:.120}"
            )
        found.setdefault(account, []).append(key)
    return found


def audited(
    options: argparse.Namespace, audit: Audit, kept: list[Kept], policy: Policy | None
) -> tuple[Report, Figures]:
    """Run the audit and what it is asked about statements; raise what ``Audit.run`` does, ``Differs`` or ``Unreadable``."""
    wanted = stating.asked(options)
    if wanted is None:
        return audit.run(kept, policy, bool(options.policy))
    audit.judge = stating.judge_of(wanted.statements)
    audit.judge.allow_missing_rows = options.allow_missing_rows
    if wanted.file is None:
        report, figures = audit.run(kept, policy, bool(options.policy))
    else:
        with stating.Written(wanted.file) as written:
            wanted.statements.write = written.write
            report, figures = audit.run(kept, policy, bool(options.policy))
            written.passed()
    audit.checked = stating.held(wanted, audit.judge, figures.currency)
    return report, figures


def judged(options: argparse.Namespace) -> tuple[int, str, dict[str, object]]:
    """Run the audit the options ask for; return exit code, text and the same for programs."""
    started_s = time.monotonic()
    try:
        vkeys = [parse_vkey(text.strip()) for text in options.vkey]
        policy = witnesses_of(options)
        if policy is not None and not vkeys:
            vkeys = list(policy.logs)
        held = held_to(options.account_keys)
        kept = [Kept(name, Path(name).read_bytes()[: MAX_KEPT_BYTES + 1]) for name in options.kept]
        key = options.key or os.environ.get("LEDGER_KEY", "")
        audit = Audit(options.source, key, vkeys, options.jobs, max(1, options.resume_every) if options.resume else 0)
        audit.device_keys = dict(_device_key(text) for text in options.device_key)
        if options.resume:
            audit.go_on(Path(options.resume))
        audit.held = held
        audit.judge.allow_missing_rows = options.allow_missing_rows
        report, figures = audited(options, audit, kept, policy)
    except (Bad, Wrong, Differs) as wrong:
        return FOUND, str(wrong), {"verdict": "wrong", "place": wrong.place, "what": wrong.what}
    except resume.Refused as error:
        return UNUSABLE, f"{options.resume}: {error}", {"verdict": "unusable", "what": str(error)}
    except (NoteError, PolicyError, NoQuorum, Unusable, Unreadable, SourceFailed, OSError) as error:
        return UNUSABLE, str(error), {"verdict": "unusable", "what": str(error)}
    seconds = time.monotonic() - started_s
    values: dict[str, object] = {"verdict": "passed", "seconds": round(seconds, 3), "resumed": audit.began}
    values |= figures._asdict() | {"unsigned": [unsigned_values(one) for one in figures.unsigned]}
    values |= {"held": len(held), "lateness": figures.lateness._asdict(), "decided": figures.decided._asdict()}
    values |= {"blocks": report.blocks, "origin": report.origin, "root": report.root}
    values |= {"vkey": report.vkey, "trusted": report.trusted, "kept": len(kept)}
    values |= {"cosigned": sum(one.quorum for one in kept), "witnesses": [line.key.name for line in audit.cosignatures]}
    values |= {"signed_readings": audit.signed, "signed_missing": audit.unsigned}
    if audit.judge.statements is not None:
        values |= {"statement_days": audit.judge.statements.count, "statements_held": len(audit.checked)}
    text = told(report, figures, audit, kept, seconds, held)
    if audit.signed or audit.unsigned or audit.not_comparable:
        text += f"\nsigned {audit.signed} readings are what their devices signed"
        text += f", {audit.unsigned} signed batches are not in this source" if audit.unsigned else ""
        if audit.not_comparable:
            text += f", {audit.not_comparable} are not comparable: their batches have more than one figure for them"
    values |= {"signed_not_comparable": audit.not_comparable}
    return PASSED, text, values


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parser().parse_args(arguments)
    code, text, values = judged(options)
    print(text, file=sys.stdout if code == PASSED else sys.stderr)
    if options.json:
        Path(options.json).write_text(json.dumps(values, indent=2) + "\n")
    return code


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)
    sys.exit(main())
