"""Which keys may sign the log's heads: what its genesis and ``key`` entries say, and whom a reader trusts for it.

A new key is added by an entry with two signatures of one text: by the new key itself (nobody registers a key they do
not hold) and by a key that is valid already (a reader who trusts that one may go on with the new one).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ledger.core.note import SIGNATURE_BYTES, NoteError, VerifierKey, decode64, parse_vkey, verifies

MAX_KEYS = 16  # valid at a time: every head carries a signature of each
ADD = "add"
REVOKE = "revoke"
_HEADER = "sunledger-key/v1"


class KeyringError(ValueError):
    """An entry changes the keys in a way that is not allowed. ``field`` is at fault."""

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field


def key_statement(origin: str, vkey: str) -> str:
    """Return the text that a new key and an approving one sign: the header, the log's name, the new verifier key."""
    return f"{_HEADER}\n{origin}\n{vkey}\n"


class Keyring:
    """The keys of one log as its entries change them. ``trusted``: whom the reader believes; nobody = the founder."""

    def __init__(self, origin: str, trusted: Iterable[VerifierKey] = ()):
        self.origin = origin
        self.valid: dict[str, VerifierKey] = {}  # by text, oldest first
        self.known: dict[str, VerifierKey] = {}  # revoked ones, too
        self.approved: dict[str, str] = {}  # known key -> the one that approved it, "" for the founder's
        self._trusted = {str(key) for key in trusted}

    def copy(self) -> Keyring:
        """Return an independent keyring of the same state."""
        other = Keyring(self.origin)
        other.valid, other.known, other.approved = dict(self.valid), dict(self.known), dict(self.approved)
        other._trusted = set(self._trusted)
        return other

    def restore(self, valid: Iterable[str], approved: Mapping[str, str]) -> None:
        """Take over the state that ``valid`` and ``approved`` of another keyring had; raise ``KeyringError``."""
        self.known = {vkey: self._parse(vkey) for vkey in approved}
        self.approved = dict(approved)
        try:
            self.valid = {vkey: self.known[vkey] for vkey in valid}
        except KeyError as error:
            raise KeyringError("vkey", f"expected a key the log has named, was {error}") from None

    def believed(self) -> list[VerifierKey]:
        """Return the valid keys that the reader has reason to trust, oldest first."""
        reached: set[str] = set()
        for vkey, approver in self.approved.items():  # who approves comes before whom it approves
            if vkey in self._trusted or approver in reached or (not self._trusted and not approver):
                reached.add(vkey)
        return [key for text, key in self.valid.items() if text in reached]

    def found(self, vkey: str) -> VerifierKey:
        """Take the genesis entry's key; raise ``KeyringError``."""
        key = self._parse(vkey)
        self.valid[vkey] = self.known[vkey] = key
        self.approved[vkey] = ""
        return key

    def change(self, entry: Mapping[str, object]) -> None:
        """Take a ``key`` entry; raise ``KeyringError`` and stay as it was when that is not allowed."""
        action, vkey = entry.get("action"), entry.get("vkey")
        if type(vkey) is not str:
            raise KeyringError("vkey", f"expected a verifier key, was {vkey!r:.80}")
        if action == ADD:
            self._add(vkey, entry)
        elif action == REVOKE:
            self._revoke(vkey)
        else:
            raise KeyringError("action", f"expected add or revoke, was {action!r:.60}")

    def _parse(self, vkey: str) -> VerifierKey:
        try:
            key = parse_vkey(vkey)
        except NoteError as error:
            raise KeyringError("vkey", str(error)) from None
        if key.name != self.origin:
            raise KeyringError("vkey", f"expected the log's name {self.origin}, was {key.name!r:.80}")
        return key

    def _add(self, vkey: str, entry: Mapping[str, object]) -> None:
        key = self._parse(vkey)
        if any(key.public_key == other.public_key for other in self.known.values()):
            raise KeyringError("vkey", "expected a key the log has never had; a revoked one does not come back")
        if len(self.valid) >= MAX_KEYS:
            raise KeyringError("vkey", f"expected at most {MAX_KEYS} valid keys")
        message = key_statement(self.origin, vkey).encode()
        if not verifies(key.public_key, _signature(entry, "possession"), message):
            raise KeyringError("possession", "expected the new key's signature, this one does not fit")
        approval = _signature(entry, "approval")
        approver = next((text for text, old in self.valid.items() if verifies(old.public_key, approval, message)), None)
        if approver is None:
            raise KeyringError("approval", "expected the signature of a valid key, this is of none")
        self.valid[vkey] = self.known[vkey] = key
        self.approved[vkey] = approver

    def _revoke(self, vkey: str) -> None:
        if vkey not in self.valid:
            raise KeyringError("vkey", "expected a valid key of the log")
        if len(self.valid) == 1:
            raise KeyringError("vkey", "expected a valid key beside it to go on with")
        del self.valid[vkey]


def _signature(entry: Mapping[str, object], field: str) -> bytes:
    text = entry.get(field)
    if type(text) is not str:
        raise KeyringError(field, f"expected a signature in base64, was {text!r:.60}")
    try:
        data = decode64(text, "a signature")
    except NoteError as error:
        raise KeyringError(field, str(error)) from None
    if len(data) != SIGNATURE_BYTES:
        raise KeyringError(field, f"expected {SIGNATURE_BYTES} bytes, was {len(data)}")
    return data
