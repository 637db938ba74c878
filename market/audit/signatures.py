"""What others signed: orders their owners, with the key the ledger names; batches of readings the devices. Pure.

This is what an operator cannot redo: all consequences of a changed order or reading follow from the rules, its signature
does not.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ledger.core.note import fits
from market.engine import signing
from market.engine.commands import SignedOrder
from market.engine.engine import Engine
from market.engine.entries import time_ms
from market.engine.replay import Divergence, engine_part

# The market answers the same request the same way for so long: until then one signature places one order.
ONCE_MS = 48 * 3_600_000
RULEBOOKS = 2  # the one in force, and the one before: an order may have been under way while a new one was published

Fields = Mapping[str, Any]


def signed_by(command: object, account_id: str, public_key: str) -> bool:
    """Return whether a command read back from the ledger is an order that its account's key (hex) has signed."""
    if type(command) is not SignedOrder:
        return False
    text = signing.text(command.order, account_id, command.nonce, command.rules)
    return fits(public_key, command.signature, text)


class Signatures:
    """Checks signed orders, one after the other. ``rules``: hashes of the rulebooks published so far, hex."""

    def __init__(self, engine: Engine, rules: Sequence[str] = ()):
        self._engine = engine
        self._rules = list(rules)[-RULEBOOKS:]
        self._seen: dict[str, dict[str, int]] = {}  # contract: signature: when; of contracts that are not settled

    def publish(self, sha256: str) -> None:
        """A rulebook is in force from here on."""
        self._rules = [*self._rules, sha256][-RULEBOOKS:]

    def check(self, command: SignedOrder, entry: Fields) -> None:
        """Raise ``Divergence`` unless the owner of the account has signed this order, for once and under these rules."""
        engine, index = self._engine, command.account
        if type(index) is not int or not 0 <= index < len(engine.accounts) or not engine.accounts[index].key:
            return  # the engine refuses it
        account = engine.accounts[index]
        if not signed_by(command, account.id, account.key):
            raise Divergence(engine.seq, f"an order signed with the key of account {index}", engine_part(entry))
        if command.rules not in self._rules:
            wanted = f"an order signed under the rulebook {' or '.join(reversed(self._rules))}"
            raise Divergence(engine.seq, wanted, engine_part(entry))
        at_ms = time_ms(entry["at"])
        seen = self._seen.setdefault(str(entry["contract"]), {})
        before_ms = seen.get(command.signature)
        if before_ms is not None and at_ms - before_ms < ONCE_MS:
            raise Divergence(engine.seq, "a signature that places one order", engine_part(entry))
        seen[command.signature] = at_ms

    def remember(self, entry: Fields) -> None:
        """An order that was judged before this began: its signature has placed it."""
        self._seen.setdefault(str(entry["contract"]), {})[str(entry["sig"])] = time_ms(str(entry["at"]))

    def forget(self, contract: str) -> None:
        """A contract is settled: nothing can be placed in it any more."""
        self._seen.pop(contract, None)

    def values(self) -> dict[str, Any]:
        """Return all of this as JSON can hold it."""
        return {"rules": self._rules, "seen": self._seen}

    @classmethod
    def restore(cls, engine: Engine, values: Mapping[str, Any]) -> Signatures:
        """Return what ``values`` stood for."""
        made = cls(engine, values["rules"])
        made._seen = {contract: dict(seen) for contract, seen in values["seen"].items()}
        return made


# --- readings --------------------------------------------------------------------------------------------------------
READINGS_DOMAIN = "sunledger/readings/v1\n"  # as devices sign (market.households.devices; a test holds both together)
EVIDENCE_FIELDS = frozenset(("account", "batch", "device", "key", "signature", "v"))
MAX_EVIDENCE_BYTES = 4 * 1024 * 1024


class Claim(NamedTuple):
    """A row of readings that names what a device signed. ``source``: SHA-256 of that; ``seq``: the entry."""

    source: str
    account_id: str
    contract: str
    import_wh: int
    export_wh: int
    seq: int


class Evidence(NamedTuple):
    """A signed batch that was found good: whose it is, who signed it, what it says."""

    account_id: str
    device: str
    key: str
    values: list[dict[str, Any]]


def is_sha256(text: object) -> bool:
    """Return whether this is a hash in small hex."""
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def evidence(data: bytes, sha256: str, keys: Mapping[str, str]) -> Evidence | str:
    """Return a batch that its device has signed, or what is wrong with it. ``keys``: those that are known, by device id."""
    if len(data) > MAX_EVIDENCE_BYTES or hashlib.sha256(data).hexdigest() != sha256:
        return "expected the bytes of this hash"
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict) or fields.keys() != EVIDENCE_FIELDS or fields["v"] != 1:
            return f"expected the fields {', '.join(sorted(EVIDENCE_FIELDS))}"
        body = base64.b64decode(fields["batch"], validate=True)
        account_id, device, key, signature = (fields[name] for name in ("account", "device", "key", "signature"))
        if not all(isinstance(one, str) and one.isascii() for one in (account_id, device, key, signature)):
            return "expected texts"
        values = json.loads(body)["values"]
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            return "expected a batch of values"
    except (ValueError, TypeError, KeyError, RecursionError):
        return "expected a signed batch"
    if key != keys.get(device, key):
        return f"device {device}: expected its key {keys[device]}, was {key}"
    if not fits(key, signature, f"{READINGS_DOMAIN}{device}\n".encode() + body):
        return f"expected a batch that device {device} has signed"
    return Evidence(account_id, device, key, values)


def claim_problem(claim: Claim, found: Evidence, length_ms: int) -> str:
    """Return how a row differs from the batch it names, "" if it says what the device said."""
    if claim.account_id != found.account_id:
        return f"account: expected {found.account_id}, which has signed, was {claim.account_id}"
    try:
        start_ms = _ms(claim.contract)
        said = _said(found, start_ms, start_ms + length_ms)
    except (ValueError, TypeError, KeyError):
        return "expected values that can be read"
    for name, wanted, was in zip(("import_wh", "export_wh"), said, claim[3:5], strict=True):
        if wanted != was:
            return f"{name}: expected {wanted}, which device {found.device} has signed, was {was}"
    return ""


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000


def _said(found: Evidence, start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return import and export of an interval: of each device what is for it exactly, else its parts, else its counters."""
    devices: dict[str, list[tuple[int, int, bool, int, dict[str, Any]]]] = {}
    for value in found.values:
        low = _ms(value["start"])
        register = bool(value.get("register", False))
        high = low if register else low + int(value.get("duration_s", 900)) * 1_000
        if low >= start_ms and high <= end_ms:
            name = value.get("device") or found.device
            devices.setdefault(name, []).append((low, high, register, int(value.get("revision", 0)), value))
    taken = given = 0
    for several in devices.values():
        best: dict[tuple[int, int, bool], tuple[int, dict[str, Any]]] = {}
        for low, high, register, revision, value in several:
            if (low, high, register) not in best or best[low, high, register][0] <= revision:
                best[low, high, register] = revision, value
        exact = best.get((start_ms, end_ms, False))
        parts = [exact] if exact else [one for (_low, _high, register), one in best.items() if not register]
        before, after = best.get((start_ms, start_ms, True)), best.get((end_ms, end_ms, True))
        if parts:
            taken += sum(int(one[1]["import_wh"]) for one in parts)
            given += sum(int(one[1].get("export_wh", 0)) for one in parts)
        elif before and after:
            taken += int(after[1]["import_wh"]) - int(before[1]["import_wh"])
            given += int(after[1].get("export_wh", 0)) - int(before[1].get("export_wh", 0))
        else:
            raise ValueError("nothing of this interval")
    return taken, given
