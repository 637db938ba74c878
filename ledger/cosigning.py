"""Cosignatures as they are stored: what witnesses have signed, how far their quorum has come, and what went wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import IntegrityError, transaction

from ledger.core.cosign import Cosignature as Checked
from ledger.core.policy import Policy, PolicyError, parse_policy
from ledger.models import Alarm, Checkpoint, Cosignature, Quorum

MAX_LINES = 32  # of one checkpoint: as many as a policy has witnesses
MAX_ALARMS = 1_000  # of one page
MAX_SHIFT = 100  # seals an alarm may have to go back to find one that has no alarm yet

SEALED = "sealed"
WITNESSED = "witnessed"
ACCEPTED = "accepted"


class LoadedPolicy(NamedTuple):
    """The policy in force and the SHA-256 of its file, under which its quorums are kept."""

    policy: Policy
    sha256: str


def load_policy() -> LoadedPolicy | None:
    """Return the policy of the setting ``LEDGER_POLICY_FILE``, None without one; raise ``PolicyError``."""
    where = settings.LEDGER_POLICY_FILE
    if not where:
        return None
    try:
        data = Path(where).read_bytes()
    except OSError as error:
        raise PolicyError(f"{where}: {error}") from error
    try:
        return LoadedPolicy(parse_policy(data), hashlib.sha256(data).hexdigest())
    except PolicyError as error:
        raise PolicyError(f"{where}: {error}") from error


_asked_by: LoadedPolicy | None = None  # the policy by which this process asks witnesses


def ask_by(loaded: LoadedPolicy | None) -> None:
    """Tell readers in this process by which policy witnesses are asked (None: none are): a new file waits for a start."""
    global _asked_by
    _asked_by = loaded


def policy_in_force() -> LoadedPolicy | None:
    """Return the policy for readers: the one witnesses are asked by here, and else the file's.

    One that cannot be read counts as none, the client of the witnesses says so loudly.
    """
    if _asked_by is not None:
        return _asked_by
    try:
        return load_policy()
    except PolicyError:
        return None


def witness_keys() -> list[str]:
    """Return the verifier keys of the policy's witnesses; [] without a policy."""
    loaded = policy_in_force()
    return [] if loaded is None else [str(witness.key) for witness in loaded.policy.witnesses]


def witnessed_size() -> int | None:
    """Return how many entries the newest checkpoint with a quorum covers, 0 before the first; None without witnesses."""
    loaded = policy_in_force()
    if loaded is None or not loaded.policy.witnesses:
        return None
    newest = Quorum.objects.filter(policy=loaded.sha256).order_by("-size").values_list("size", flat=True).first()
    return newest or 0


def state_of(seq: int, sealed_size: int, witnessed: int | None) -> str:
    """Return how far an entry has come: ``accepted`` (durable), ``sealed`` (signed) or ``witnessed`` (cosigned)."""
    if seq < (witnessed or 0):
        return WITNESSED
    return SEALED if seq < sealed_size else ACCEPTED


def lines_at(size: int) -> list[str]:
    """Return the cosignature lines of the checkpoint at exactly this size."""
    found = Cosignature.objects.filter(size=size).order_by("pk").values_list("line", flat=True)
    return list(found[:MAX_LINES])


def with_cosignatures(size: int, note: str) -> str:
    """Return a checkpoint's note with the lines of its witnesses behind the log's own."""
    return note + "".join(lines_at(size))


def cosigners(size: int) -> set[str]:
    """Return the keys of the witnesses that have cosigned the checkpoint at exactly this size."""
    return set(Cosignature.objects.filter(size=size).values_list("witness", flat=True))


def newest_of(witness: str) -> int:
    """Return the size of the newest checkpoint that a witness (the text of its key) has cosigned, 0 for none."""
    found = Cosignature.objects.filter(witness=witness).order_by("-size").values_list("size", flat=True).first()
    return found or 0


def keep(size: int, cosignature: Checked, loaded: LoadedPolicy, now_ms: int) -> bool:
    """Store a checked cosignature, and the quorum when it completes one; return whether there is a quorum at this size.

    Not one transaction: of two witnesses that sign at the same moment neither would see the other's row. This way whoever
    looks last sees both. What a crash leaves out in between is made up for when the newest head is asked for again.
    """
    policy = loaded.policy
    Cosignature.objects.get_or_create(
        size=size,
        witness=str(cosignature.key),
        defaults={"at_s": cosignature.at_s, "line": cosignature.line},
    )
    there = cosigners(size)
    reached = policy.satisfied({witness.name for witness in policy.witnesses if str(witness.key) in there})
    if reached:
        Quorum.objects.get_or_create(size=size, policy=loaded.sha256, defaults={"at_ms": now_ms})
    return reached


# --- alarms ----------------------------------------------------------------------------------------------------------
def raise_alarm(kind: str, size: int, at_ms: int, detail: dict[str, Any]) -> int | None:
    """Keep an alarm about the checkpoint at ``size`` entries; return its number, None when there is no place for it."""
    seals = Checkpoint.objects.filter(size__lte=size).order_by("-size").values_list("size", flat=True)[:MAX_SHIFT]
    taken = set(Alarm.objects.filter(seq__in=[size - 1 for size in seals]).values_list("seq", flat=True))
    for seal in [size - 1 for size in seals]:
        if seal in taken:
            continue
        try:
            with transaction.atomic():
                Alarm.objects.create(seq=seal, at_ms=at_ms, kind=kind, detail=json.dumps(detail))
        except IntegrityError:  # another thread took it meanwhile
            continue
        return seal
    return None


def alarms(*, before: int | None = None, limit: int = 100, among: Any = None, without: bool = False) -> list[Alarm]:
    """Return alarms, newest first; ``before`` (a sequence) is left out.

    ``among``: only those whose ``seq`` a query gives (``without``: only the others).
    """
    found = Alarm.objects.order_by("-seq")
    if before is not None:
        found = found.filter(seq__lt=before)
    if among is not None:
        found = found.exclude(seq__in=among) if without else found.filter(seq__in=among)
    return list(found[: min(limit, MAX_ALARMS)])


def alarm_count() -> int:
    """Return how many alarms there are."""
    return Alarm.objects.count()


def alarm(seq: int) -> Alarm | None:
    """Return the alarm of this number, or None."""
    return Alarm.objects.filter(seq=seq).first()
