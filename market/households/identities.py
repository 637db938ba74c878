"""Who is asking: the identity behind a key or session, and the short memory that keeps look-ups off the hot path."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

KEY_TTL_S = 5.0  # other processes honour a revocation after at most this long; this one at once
MAX_KNOWN = 20_000  # identities kept, about 500 bytes each
MAX_UNKNOWN = 5_000  # digests of keys that do not exist; apart, so that guessing cannot push real ones out


class Identity(NamedTuple):
    """A person, or a program with a key of that person. ``account_index`` is None for who has no open account."""

    user_id: int
    role: str
    account_index: int | None
    scopes: frozenset[str]
    area: str = ""
    language: str = ""
    key_id: int | None = None  # None: a session
    key_used_at: datetime | None = None
    device: int | None = None  # the database's number of the device whose key it is
    consent: int | None = None  # of the consent by which a third party has the key
    expires_at: datetime | None = None  # when the key ends by itself


class IdentityCache:
    """A bounded memory of identities by key digest; thread-safe.

    ``forget_*`` also voids look-ups that are under way: what such a look-up read may be older than the revocation.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic):
        self._now_s = now_s
        self._known: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._generation = 0
        self._lock = threading.Lock()

    def get(self, digest: str) -> tuple[bool, Identity | None]:
        """Return (remembered, identity); an identity of None means that no such key is valid."""
        found = self._known.get(digest)
        now = self._now_s()
        if found is not None:
            if found[0] > now:
                return True, found[1]
            return False, None
        until = self._unknown.get(digest)
        return (until is not None and until > now), None

    def generation(self) -> int:
        """Return the number to hand to ``put`` with what is looked up from now on."""
        return self._generation

    def put(self, digest: str, identity: Identity | None, generation: int, *, ttl_s: float = KEY_TTL_S) -> None:
        """Remember the result of a look-up, unless something was forgotten since it began; at most ``KEY_TTL_S``."""
        until = self._now_s() + min(ttl_s, KEY_TTL_S)
        with self._lock:
            if generation != self._generation:
                return
            if identity is None:
                self._known.pop(digest, None)
                self._unknown[digest] = until
                if len(self._unknown) > MAX_UNKNOWN:
                    self._unknown.popitem(last=False)
            else:
                self._unknown.pop(digest, None)
                self._known[digest] = (until, identity)
                self._known.move_to_end(digest)
                if len(self._known) > MAX_KNOWN:
                    self._known.popitem(last=False)

    def forget(self, digest: str) -> None:
        """Drop one key, known or unknown."""
        with self._lock:
            self._generation += 1
            self._known.pop(digest, None)
            self._unknown.pop(digest, None)

    def forget_user(self, user_id: int) -> None:
        """Drop all keys of a person."""
        with self._lock:
            self._generation += 1
            for digest in [d for d, (_, identity) in self._known.items() if identity.user_id == user_id]:
                del self._known[digest]

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._generation += 1
            self._known.clear()
            self._unknown.clear()


CACHE = IdentityCache()
