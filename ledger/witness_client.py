"""Asking one witness for its cosignature (https://c2sp.org/tlog-witness), over one kept connection."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from ledger.core.cosign import Cosignature, find_cosignature
from ledger.core.note import MAX_NOTE_BYTES, NoteError, parse_note
from ledger.core.policy import Witness
from ledger.core.witness import SIZE_TYPE, format_request, parse_size

TIMEOUT_S = 5.0  # of one step on the socket
DEADLINE_S = 10.0  # of a whole request, however slowly its answer drips
MAX_ANSWER_BYTES = 1 << 16
MAX_RETRIES = 2  # after a 409: the second may meet another process that pushes the same log
MAX_AHEAD_S = 300  # how far a witness' clock may be ahead

Prover = Callable[[int, int], Sequence[bytes]]  # (old size, size) -> consistency proof


class WitnessFailed(Exception):
    """The witness did not cosign this time: not reached, busy, or an answer outside the protocol."""


class WitnessAhead(Exception):
    """The witness has cosigned a larger head than the one it was shown. ``size``: that head's."""

    def __init__(self, size: int):
        super().__init__(f"it has cosigned a head of {size} entries already")
        self.size = size


class WitnessRefuses(Exception):
    """The witness says that this head does not go on from what it has cosigned: the log has forked, or the witness lies."""


class WitnessClient:
    """The connection to one witness. One thread at a time, but for ``abort``."""

    def __init__(self, witness: Witness, timeout_s: float = TIMEOUT_S):
        self.witness = witness
        parts = urlsplit(witness.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        self._path = f"{parts.path.rstrip('/')}/add-checkpoint"
        self._deadline_s = 0.0

    def cosign(self, note: str, size: int, old: int, prove: Prover) -> Cosignature:
        """Return the witness' cosignature of a checkpoint, verified.

        ``old``: the size it is thought to have seen last; the witness corrects that (409). Raises ``WitnessFailed``,
        ``WitnessAhead`` or ``WitnessRefuses``.
        """
        old = min(old, size)
        for _ in range(1 + MAX_RETRIES):
            proof = list(prove(old, size)) if 0 < old < size else []
            status, kind, body = self._post(format_request(old, proof, note))
            if status == 200:
                return self._check(note, body)
            if status == 422:
                raise WitnessRefuses(f"at {size} entries, from {old}: {_text(body)}")
            if status != 409:
                raise WitnessFailed(f"status {status}: {_text(body)}")
            if kind != SIZE_TYPE:
                if old == size:
                    raise WitnessRefuses(f"it has cosigned another head at {size} entries: {_text(body)}")
                raise WitnessFailed(f"status 409 without a size: {_text(body)}")
            try:
                seen = parse_size(body)
            except NoteError as error:
                raise WitnessFailed(str(error)) from None
            if seen == old == size:
                raise WitnessRefuses(f"it has cosigned another head at {size} entries")
            if seen > size:
                raise WitnessAhead(seen)
            if seen == old:
                raise WitnessFailed(f"status 409 with the size {old} it was given")
            old = seen
        raise WitnessFailed(f"status 409 again and again, last with {old} entries")

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def abort(self) -> None:
        """From another thread: break off a request that is over its deadline."""
        sock = self._connection.sock
        if sock is not None and self._deadline_s and time.monotonic() > self._deadline_s:
            with contextlib.suppress(OSError):  # it may just have ended by itself
                sock.shutdown(socket.SHUT_RDWR)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        self._deadline_s = time.monotonic() + DEADLINE_S
        try:
            try:
                return self._once(body)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._connection.close()  # a kept connection that the server had closed in between
                return self._once(body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise WitnessFailed(f"{type(error).__name__}: {error}") from error
        finally:
            self._deadline_s = 0.0

    def _once(self, body: bytes) -> tuple[int, str, bytes]:
        self._connection.request("POST", self._path, body, {"Content-Type": "text/plain; charset=utf-8"})
        response = self._connection.getresponse()
        data = response.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            self._connection.close()
            raise WitnessFailed(f"expected an answer of at most {MAX_ANSWER_BYTES} bytes")
        return response.status, (response.getheader("Content-Type") or "").split(";")[0].strip(), data

    def _check(self, note: str, body: bytes) -> Cosignature:
        whole = note.encode() + body
        try:
            found = find_cosignature(parse_note(whole[: MAX_NOTE_BYTES + 1]), self.witness.key)
        except NoteError as error:
            raise WitnessFailed(f"an answer of status 200 without a cosignature that fits: {error}") from None
        if found is None:
            raise WitnessFailed("an answer of status 200 without a cosignature by its key")
        if found.at_s > time.time() + MAX_AHEAD_S:
            raise WitnessFailed(f"a cosignature from the future: {found.at_s}")
        return found


def _text(body: bytes) -> str:
    """Return what a witness says, short and printable: it goes into logs and alarms."""
    text = body[:200].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text).strip()
