"""What others signed: orders their owners, with the key the ledger names; batches of readings the devices. Pure.

This is what an operator cannot redo: all consequences of a changed order or reading follow from the rules, its signature
does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ledger.core.note import fits
from market.engine import signedvalues, signing
from market.engine.commands import SignedOrder
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.replay import Divergence, engine_part
from market.engine.signedvalues import Energies, SignedBatch

RULEBOOKS = 2  # the one in force, and the one before: an order may have been under way while a new one was published

UNSHOWN = "no proof"  # a key that nobody has shown, or the end of one without a reason: entries of older logs

Fields = Mapping[str, Any]


class KeyChange(NamedTuple):
    """An account's key became this one ("" = none). ``reason``: why the key before has not signed for it, "" if it has."""

    seq: int
    public_key: str
    reason: str


class Unsigned(NamedTuple):
    """What happened to an account that signs without its signature."""

    account: str  # id
    changes: tuple[KeyChange, ...]  # of its key
    slept: int  # how often signed orders of it were put to sleep or woken
    slept_first: int  # the first entry that did so, -1 if none


class SignedText(NamedTuple):
    """A text is signed by a key: to be checked. ``wanted`` says what the entry should have been if it is not."""

    seq: int
    public_key: str
    signature: str
    text: bytes
    wanted: str
    entry: Fields

    def divergence(self) -> Divergence:
        """Return what is said when it is not so."""
        return Divergence(self.seq, self.wanted, engine_part(self.entry))


def at_once(claim: SignedText) -> None:
    """Check a claim here and now; raise ``Divergence`` when it is not so."""
    if not fits(claim.public_key, claim.signature, claim.text):
        raise claim.divergence()


def signed_by(command: object, account_id: str, public_key: str) -> bool:
    """Return whether a command read back from the ledger is an order that its account's key (hex) has signed."""
    if type(command) is not SignedOrder:
        return False
    text = signing.text(command.order, account_id, command.nonce, command.rules)
    return fits(public_key, command.signature, text)


class Signatures:
    """Checks signed orders and changes of keys, one after the other.

    ``rules``: hashes of the rulebooks published so far, hex; ``origin``: the log's name. ``verify`` is given what signatures of
    orders claim; it may answer later, as long as it tells of the first that is not so.
    """

    def __init__(self, engine: Engine, rules: Sequence[str] = (), origin: str = ""):
        self.origin = origin
        self.verify: Callable[[SignedText], None] = at_once
        self._engine = engine
        self._rules = list(rules)[-RULEBOOKS:]
        self._keys: dict[int, list[KeyChange]] = {}  # by account
        self._slept: dict[int, tuple[int, int]] = {}  # account: how often, and the first entry
        self._seen: dict[str, set[str]] = {}  # accounts and nonces, by contracts that are not settled

    def publish(self, sha256: str) -> None:
        """A rulebook is in force from here on."""
        self._rules = [*self._rules, sha256][-RULEBOOKS:]

    def check(self, command: SignedOrder, entry: Fields) -> None:
        """Raise ``Divergence`` unless the owner of the account has signed this order, for once and under these rules."""
        engine, index = self._engine, command.account
        if type(index) is not int or not 0 <= index < len(engine.accounts) or not engine.accounts[index].key:
            return  # the engine refuses it
        account = engine.accounts[index]
        text = signing.text(command.order, account.id, command.nonce, command.rules)
        wanted = f"an order signed with the key of account {index}"
        self.verify(SignedText(engine.seq, account.key, command.signature, text, wanted, entry))
        self._check_rules("an order", command.rules, entry)
        # Its first contract is named in what was signed: when that is settled, nothing can be placed with it any more.
        seen, nonce = self._seen.setdefault(str(entry["contract"]), set()), f"{index} {command.nonce}"
        if nonce in seen:
            raise Divergence(engine.seq, "a signature that places one order", engine_part(entry))
        seen.add(nonce)

    def _check_rules(self, what: str, rules: object, entry: Fields) -> None:
        if rules not in self._rules:
            wanted = f"{what} signed under the rulebook {' or '.join(reversed(self._rules))}"
            raise Divergence(self._engine.seq, wanted, engine_part(entry))

    def check_key(self, entry: Fields) -> None:
        """Raise ``Divergence`` when a signature under a change of an account's key does not fit; note what is not signed.

        Which signatures there must be the engine knows.
        """
        engine, index = self._engine, entry.get("account")
        if type(index) is not int or not 0 <= index < len(engine.accounts):
            return  # the engine refuses it
        account = engine.accounts[index]
        key, rules = str(entry.get("public_key", "")), str(entry.get("rules", ""))
        text = signing.key_text(
            account.id, key, before=account.key, changes=account.key_changes, origin=self.origin, rules=rules
        )
        signed = [(name, by) for name, by in (("proof", key), ("approval", account.key)) if name in entry]
        for name, by in signed:
            if not fits(by, str(entry[name]), text):
                wanted = f"a change of keys whose {name} is signed with {by or 'a key'}"
                raise Divergence(engine.seq, wanted, engine_part(entry))
        if signed:
            self._check_rules("a change of keys", rules, entry)
        shown = "approval" in entry if account.key else "proof" in entry
        reason = "" if shown else str(entry.get("reason", UNSHOWN))
        self._keys.setdefault(index, []).append(KeyChange(engine.seq, key, reason))

    def note_sleep(self, entry: Fields) -> None:
        """An order is put to sleep or woken: note it where the account signs, for nobody has signed that."""
        order = self._engine.orders.get(entry.get("order"))  # type: ignore[arg-type]
        if order is not None and self._engine.accounts[order.account].key:
            count, first = self._slept.get(order.account, (0, self._engine.seq))
            self._slept[order.account] = (count + 1, first)

    @property
    def changes(self) -> int:
        """How often keys were registered, replaced or removed."""
        return sum(map(len, self._keys.values()))

    def unsigned(self) -> list[Unsigned]:
        """Return what happened to accounts without their signature, by account."""
        found = []
        for index in sorted(self._keys.keys() | self._slept.keys()):
            changes = tuple(change for change in self._keys.get(index, ()) if change.reason)
            slept, first = self._slept.get(index, (0, -1))
            if changes or slept:
                found.append(Unsigned(self._engine.accounts[index].id, changes, slept, first))
        return found

    def not_held(self, account_id: str, keys: Collection[str]) -> KeyChange | None:
        """Return the first change that gave an account another key than these (hex), or none without its signature.

        ``None``: it has had no other, and has one of them now. Where it has not, and no change is to blame, ``seq`` is -1.
        """
        accounts = self._engine.accounts
        index = next((account.index for account in accounts if account.id == account_id), -1)
        for change in self._keys.get(index, ()):
            if change.reason if not change.public_key else change.public_key not in keys:
                return change
        now = accounts[index].key if index >= 0 else ""
        return None if now in keys else KeyChange(-1, now, "")

    def remember(self, entry: Fields) -> None:
        """An order that was judged before this began: its signature has placed it."""
        self._seen.setdefault(str(entry["contract"]), set()).add(f"{entry['account']} {entry['nonce']}")

    def forget(self, contract: str) -> None:
        """A contract is settled: nothing can be placed in it any more."""
        self._seen.pop(contract, None)

    def values(self) -> dict[str, Any]:
        """Return all of this as JSON can hold it."""
        keys = [[index, [list(change) for change in changes]] for index, changes in self._keys.items()]
        slept = [[index, *noted] for index, noted in self._slept.items()]
        seen = {contract: sorted(nonces) for contract, nonces in self._seen.items()}
        return {"rules": self._rules, "seen": seen, "origin": self.origin, "keys": keys, "slept": slept}

    @classmethod
    def restore(cls, engine: Engine, values: Mapping[str, Any]) -> Signatures:
        """Return what ``values`` stood for."""
        made = cls(engine, values["rules"], values["origin"])
        made._keys = {index: [KeyChange(*change) for change in changes] for index, changes in values["keys"]}
        made._slept = {index: (count, first) for index, count, first in values["slept"]}
        made._seen = {contract: set(seen) for contract, seen in values["seen"].items()}
        return made


# --- readings --------------------------------------------------------------------------------------------------------
READINGS_DOMAIN = "sunledger/readings/v1\n"  # as devices sign (market.households.devices; a test holds both together)
MAX_EVIDENCE_BYTES = 4 * 1024 * 1024


class Claim(NamedTuple):
    """A row of readings that names what a device signed. ``source``: SHA-256 of that; ``seq``: the entry."""

    source: str
    account_id: str
    contract: str
    import_wh: int
    export_wh: int
    seq: int


class Evidence:
    """A signed batch that was found good: whose it is, who signed it, what it says."""

    def __init__(self, batch: SignedBatch):
        self.account_id, self.device, self.key = batch.account_id, batch.device, batch.key
        self._values = batch.values
        self._said: dict[int, dict[int, Energies | None]] = {}  # by length of intervals, ms

    def said(self, length_ms: int) -> dict[int, Energies | None]:
        """Return what it says of intervals, by their start; errors as ``signedvalues.said``."""
        if length_ms not in self._said:
            self._said[length_ms] = signedvalues.said(self._values, self.device, length_ms)
        return self._said[length_ms]


def is_sha256(text: object) -> bool:
    """Return whether this is a hash in small hex."""
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def evidence(data: bytes, sha256: str, keys: Mapping[str, str]) -> Evidence | str:
    """Return a batch that its device has signed, or what is wrong with it. ``keys``: those that are known, by device id."""
    if len(data) > MAX_EVIDENCE_BYTES or hashlib.sha256(data).hexdigest() != sha256:
        return "expected the bytes of this hash"
    try:
        batch = signedvalues.read(data)
    except ValueError as error:
        return str(error)
    device, key = batch.device, batch.key
    if key != keys.get(device, key):
        return f"device {device}: expected its key {keys[device]}, was {key}"
    if not fits(key, batch.signature, f"{READINGS_DOMAIN}{device}\n".encode() + batch.body):
        return f"expected a batch that device {device} has signed"
    return Evidence(batch)


def claim_problem(claim: Claim, found: Evidence, length_ms: int) -> str | None:
    """Return how a row differs from the batch it names, "" if it says what the device said.

    ``None``: what the batch says of the interval is not one figure, so that a row cannot be held against it.
    """
    if claim.account_id != found.account_id:
        return f"account: expected {found.account_id}, which has signed, was {claim.account_id}"
    try:
        start_ms, said = contract_start_ms(claim.contract), found.said(length_ms)
    except (ValueError, TypeError, KeyError, OverflowError):
        return "expected values that can be read"
    if start_ms not in said:
        return f"expected values of this interval in the batch of device {found.device}"
    figures = said[start_ms]
    if figures is None:
        return None
    for name, wanted, was in zip(("import_wh", "export_wh"), figures, claim[3:5], strict=True):
        if wanted != was:
            return f"{name}: expected {wanted}, which device {found.device} has signed, was {was}"
    return ""
