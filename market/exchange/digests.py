"""A small answer to "may this have been here before?": no is certain, yes has to be looked up."""

from __future__ import annotations

from collections.abc import Iterable

BITS = 2**27  # 16 MiB; at 6 million digests, two days of a whole city, one lookup in 100 is in vain
_MASK = BITS - 1
_SPREAD = 0x9E3779B1  # a 32-bit prime: makes a second, independent bit of a digest


class Digests:
    """A Bloom filter over 32-bit digests that forgets: what was added stays for one span of time at least, two at most.

    Two bits a digest: nearly all questions are about digests that are not there, and end at the first bit.
    """

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
        for bit in (digest & _MASK, digest * _SPREAD >> 5 & _MASK):
            self._newer[bit >> 3] |= 1 << (bit & 7)

    def held(self, digests: Iterable[int]) -> list[int]:
        """Return those of the digests that may have been added within the last span: all that were, and a few more."""
        found: list[int] = []
        for half in (self._newer, self._older):
            if half:
                found += [
                    digest
                    for digest in digests
                    if half[(digest & _MASK) >> 3] >> (digest & 7) & 1
                    and half[(digest * _SPREAD >> 5 & _MASK) >> 3] >> (digest * _SPREAD >> 5 & 7) & 1
                ]
        return found
