"""A small answer to "may this have been here before?": no is certain, yes has to be looked up."""

from __future__ import annotations

BITS = 2**27  # 16 MiB; at 6 million digests, two days of a whole city, one lookup in 500 is in vain
PROBES = 3
_MASK = BITS - 1
_SHIFT = 27


class Digests:
    """A Bloom filter over 64-bit digests that forgets: what was added stays for one span of time at least, two at most."""

    def __init__(self, span_ms: int):
        self._span_ms = span_ms
        self._newer = bytearray()  # made when the first digest comes: most markets never need it
        self._older = bytearray()
        self._since_ms = 0  # when the newer half was begun

    def add(self, digest: int, at_ms: int) -> None:
        """Remember a digest that was in use at a time; times must not run backwards by more than the span."""
        if not self._newer:
            self._newer = bytearray(BITS // 8)
            self._since_ms = at_ms
        elif at_ms >= self._since_ms + self._span_ms:
            self._older, self._newer = self._newer, bytearray(BITS // 8)
            self._since_ms = at_ms
        step = (digest >> _SHIFT) | 1
        for _ in range(PROBES):
            bit = digest & _MASK
            self._newer[bit >> 3] |= 1 << (bit & 7)
            digest += step

    def may_hold(self, digest: int) -> bool:
        """Return False only when the digest was not added within the last span."""
        return self._holds(self._newer, digest) or self._holds(self._older, digest)

    @staticmethod
    def _holds(half: bytearray, digest: int) -> bool:
        if not half:
            return False
        step = (digest >> _SHIFT) | 1
        for _ in range(PROBES):
            bit = digest & _MASK
            if not half[bit >> 3] & 1 << (bit & 7):
                return False
            digest += step
        return True
