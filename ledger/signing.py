"""Who signs for the log: keys in a file of this process, or a signer in a process (and, better, a user) of its own.

The signer speaks JSON, one object a line, over a Unix socket. It signs heads of its log and statements about keys that it
holds, and nothing else; it hands out no secret and destroys none.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
import time
from collections.abc import Container
from pathlib import Path
from typing import Any, Protocol

from ledger.core.keyring import key_statement
from ledger.core.note import NoteError, Signer, parse_checkpoint, parse_vkey, verifies
from ledger.secretfiles import MAX_SECRETS, SECRET_BYTES, KeyFileError, load_all, rewrite

TIMEOUT_S = 5.0
ATTEMPTS = 3  # of one request: the signer may be restarting
PAUSE_S = 0.5
MAX_LINE = 8_192


class SigningKeys(Protocol):
    """Some keys of one log."""

    origin: str

    def vkeys(self) -> list[str]:
        """Return their verifier keys, oldest first."""

    def sign(self, vkey: str, text: str) -> bytes:
        """Return one key's bare signature of a text; raise ``KeyFileError`` when it cannot."""

    def make(self) -> str:
        """Make one more key and return its verifier key; it is on the disk."""

    def drop(self, vkey: str) -> None:
        """Destroy a key; raise ``KeyFileError`` for the last one."""


def may_sign(origin: str, text: str, held: Container[str]) -> bool:
    """Return whether a text is one that a log's key signs: a head of the log, or a statement that adds a key of ``held``.

    A key from elsewhere is never approved: an intruder would carry the approval away and fork the log with it at leisure.
    """
    try:
        return parse_checkpoint(text).origin == origin
    except NoteError:
        pass
    lines = text.split("\n")
    try:
        if len(lines) != 4 or lines[2] not in held or parse_vkey(lines[2]).name != origin:
            return False
    except NoteError:
        return False
    return text == key_statement(origin, lines[2])


class FileKeys:
    """The keys in a file, a secret a line."""

    def __init__(self, origin: str, path: Path):
        self.origin = origin
        self._path = path
        self._signers = {signer.vkey: signer for signer in map(self._signer, load_all(path))}

    def _signer(self, secret: bytes) -> Signer:
        return Signer(self.origin, secret)

    def vkeys(self) -> list[str]:
        """See ``SigningKeys``."""
        return list(self._signers)

    def sign(self, vkey: str, text: str) -> bytes:
        """See ``SigningKeys``."""
        if vkey not in self._signers:
            raise KeyFileError(f"{self._path}: does not hold {vkey}")
        if not may_sign(self.origin, text, self._signers):
            raise KeyFileError("expected a head of the log or a statement about a key held here")
        return self._signers[vkey].sign_raw(text)

    def make(self) -> str:
        """See ``SigningKeys``."""
        kept = load_all(self._path)
        if len(kept) >= MAX_SECRETS:
            raise KeyFileError(f"{self._path}: expected at most {MAX_SECRETS} secrets")
        secret = secrets.token_bytes(SECRET_BYTES)
        rewrite(self._path, [*kept, secret])
        signer = self._signer(secret)
        self._signers[signer.vkey] = signer
        return signer.vkey

    def drop(self, vkey: str) -> None:
        """See ``SigningKeys``."""
        kept = [secret for secret in load_all(self._path) if self._signer(secret).vkey != vkey]
        if not kept:
            raise KeyFileError(f"{self._path}: expected another key beside {vkey}")
        rewrite(self._path, kept)
        self._signers.pop(vkey, None)


class SocketKeys:
    """The keys that a signer holds. What it signs is verified before it is used."""

    def __init__(self, origin: str, path: Path):
        self.origin = origin
        self._path = path
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        if self._ask({"op": "origin"}).get("origin") != origin:
            raise KeyFileError(f"{path}: expected a signer for {origin}")

    def vkeys(self) -> list[str]:
        """See ``SigningKeys``."""
        return [str(vkey) for vkey in self._ask({"op": "keys"})["vkeys"]]

    def sign(self, vkey: str, text: str) -> bytes:
        """See ``SigningKeys``."""
        signature = base64.b64decode(self._ask({"op": "sign", "vkey": vkey, "text": text})["signature"])
        if not verifies(parse_vkey(vkey).public_key, signature, text.encode()):
            raise KeyFileError(f"{self._path}: the signer gave a signature that does not fit")
        return signature

    def make(self) -> str:
        """See ``SigningKeys``."""
        return str(self._ask({"op": "make"})["vkey"])

    def drop(self, vkey: str) -> None:
        """Never: whoever can reach the socket must not be able to destroy a key."""
        raise KeyFileError(f"the signer keeps {vkey}: stop it and run ledger_signer --drop {vkey}")

    def _ask(self, request: dict[str, str]) -> dict[str, Any]:
        line = json.dumps(request).encode() + b"\n"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._lock:
                    answer = self._exchange(line)
                break
            except (OSError, ValueError) as error:
                if attempt == ATTEMPTS:
                    raise KeyFileError(f"{self._path}: the signer does not answer: {error}") from error
                time.sleep(PAUSE_S)
        if "error" in answer:
            raise KeyFileError(f"{self._path}: the signer refuses: {answer['error']}")
        return answer

    def _exchange(self, line: bytes) -> dict[str, Any]:
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(TIMEOUT_S)
                self._socket.connect(str(self._path))
            self._socket.sendall(line)
            data = b""
            while not data.endswith(b"\n") and len(data) <= MAX_LINE:
                part = self._socket.recv(MAX_LINE)
                if not part:
                    raise ConnectionError("the connection was closed")
                data += part
            found = json.loads(data)
            if type(found) is not dict:
                raise ValueError("expected an object")
            return found
        except BaseException:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            raise


def answer(keys: SigningKeys, line: bytes) -> dict[str, Any]:
    """Return a signer's answer to one request line."""
    try:
        request = json.loads(line)
        op = request["op"]
        if op == "origin":
            return {"origin": keys.origin}
        if op == "keys":
            return {"vkeys": keys.vkeys()}
        if op == "sign":
            signature = keys.sign(str(request["vkey"]), str(request["text"]))
            return {"signature": base64.b64encode(signature).decode()}
        if op == "make":
            return {"vkey": keys.make()}
    except KeyFileError as error:
        return {"error": str(error)}
    except (ValueError, KeyError, TypeError):
        return {"error": "expected an object with op and its fields"}
    return {"error": f"unknown op {op!r:.40}"}
