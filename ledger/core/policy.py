"""Policies of https://c2sp.org/tlog-policy: which logs, which witnesses, and how many of them make a quorum."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from ledger.core.cosign import Cosignature, WitnessKey, find_cosignature, parse_witness_key
from ledger.core.note import Note, NoteError, VerifierKey, parse_vkey

MAX_POLICY_BYTES = 1 << 16
MAX_LOGS = 32
MAX_WITNESSES = 32
MAX_GROUPS = 32
NONE = "none"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE = re.compile(r"[ \t]+")
_NUMBER = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


class PolicyError(ValueError):
    """A policy is not what it must be; the message names the line."""


@dataclass(frozen=True)
class Witness:
    """A witness of the policy. ``name`` counts in this file only; ``url`` "" = cannot be asked from here."""

    name: str
    key: WitnessKey
    url: str


@dataclass(frozen=True)
class Group:
    """``threshold`` of these witnesses and groups must have cosigned."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """What a checkpoint needs to be believed. ``quorum`` names a witness or a group; "none": the log's signature is enough."""

    logs: tuple[VerifierKey, ...]
    witnesses: tuple[Witness, ...]
    groups: dict[str, Group]
    quorum: str

    def satisfied(self, cosigned: Set[str]) -> bool:
        """Return whether the witnesses of these names, having cosigned one checkpoint, are a quorum."""
        reached = set(cosigned)
        for name, group in self.groups.items():  # in the file's order: members come before their groups
            if sum(member in reached for member in group.members) >= group.threshold:
                reached.add(name)
        return self.quorum == NONE or self.quorum in reached

    def cosignatures(self, note: Note) -> dict[str, Cosignature]:
        """Return the cosignatures of the policy's witnesses under a note, by their names in the policy.

        Raises ``NoteError`` when a line names one of them and does not fit: somebody changed it.
        """
        found = {witness.name: find_cosignature(note, witness.key) for witness in self.witnesses}
        return {name: line for name, line in found.items() if line is not None}


def parse_policy(data: bytes) -> Policy:
    """Return the policy a file holds; raise ``PolicyError`` on anything the format does not allow."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyError(f"expected at most {MAX_POLICY_BYTES} bytes, was {len(data)}")
    text = data.decode("latin-1")  # octets: nothing but equality of names matters
    if _CONTROL.search(text):
        raise PolicyError("expected no control characters but tabs and newlines")
    if text and not text.endswith("\n"):
        raise PolicyError("expected a last line that ends in a newline")
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), 1):
        words = [word for word in _SPACE.split(line) if word]
        if not words or words[0].startswith("#"):
            continue
        try:
            reader.take(words)
        except (PolicyError, NoteError) as error:
            raise PolicyError(f"line {number}: {error}") from None
    return reader.policy()


class _Reader:
    def __init__(self) -> None:
        self._logs: list[VerifierKey] = []
        self._witnesses: list[Witness] = []
        self._groups: dict[str, Group] = {}
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._quorum = ""

    def take(self, words: list[str]) -> None:
        """Take in one line."""
        what, *rest = words
        if what == "log" and len(rest) in (1, 2):
            self._log(_utf8(rest[0]))
        elif what == "witness" and len(rest) in (2, 3):
            self._witness(rest[0], _utf8(rest[1]), _utf8(rest[2]) if len(rest) == 3 else "")
        elif what == "group" and len(rest) >= 3:
            self._group(rest[0], rest[1], rest[2:])
        elif what == "quorum" and len(rest) == 1:
            if self._quorum:
                raise PolicyError("expected one quorum, was a second one")
            if rest[0] != NONE and rest[0] not in self._names:
                raise PolicyError(f"expected the name of a witness or group above, was {rest[0]!r:.80}")
            self._quorum = rest[0]
        else:
            raise PolicyError(f"expected a log, witness, group or quorum line, was {' '.join(words)!r:.80}")

    def policy(self) -> Policy:
        """Return what was read."""
        if not self._quorum:
            raise PolicyError("expected a quorum line, was none")
        return Policy(tuple(self._logs), tuple(self._witnesses), self._groups, self._quorum)

    def _log(self, vkey: str) -> None:
        key = parse_vkey(vkey)
        if any(key.public_key == other.public_key for other in self._logs):
            raise PolicyError("expected each log once")
        if len(self._logs) == MAX_LOGS:
            raise PolicyError(f"expected at most {MAX_LOGS} logs")
        self._logs.append(key)

    def _name(self, name: str) -> None:
        if name == NONE or name in self._names:
            raise PolicyError(f"expected a name that is not taken, was {name!r:.80}")
        self._names.add(name)

    def _witness(self, name: str, vkey: str, url: str) -> None:
        key = parse_witness_key(vkey)
        if any(key.public_key == other.key.public_key for other in self._witnesses):
            raise PolicyError("expected each witness once")
        if len(self._witnesses) == MAX_WITNESSES:
            raise PolicyError(f"expected at most {MAX_WITNESSES} witnesses")
        if url and not url.startswith(("http://", "https://")):
            raise PolicyError(f"expected a web address, was {url!r:.80}")
        self._name(name)
        self._witnesses.append(Witness(name, key, url.rstrip("/")))

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        if len(self._groups) == MAX_GROUPS:
            raise PolicyError(f"expected at most {MAX_GROUPS} groups")
        for member in members:
            if member not in self._names:
                raise PolicyError(f"expected the name of a witness or group above, was {member!r:.80}")
            if member in self._members:
                raise PolicyError(f"expected {member!r:.80} in one group once")
            self._members.add(member)
        if threshold not in ("any", "all") and _NUMBER.fullmatch(threshold) is None:
            raise PolicyError(f"expected any, all or a number, was {threshold!r:.20}")
        needed = {"any": 1, "all": len(members)}.get(threshold) or int(threshold)
        if needed > len(members):
            raise PolicyError(f"expected at most {len(members)} of {len(members)} members, was {needed}")
        self._name(name)
        self._groups[name] = Group(needed, tuple(members))


def _utf8(word: str) -> str:
    try:
        return word.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise PolicyError("expected UTF-8 in keys and addresses") from None
