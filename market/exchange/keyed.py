"""What was placed under the keys of one scope: who sent it and never saw the answer finds it here again.

A key's first use is written in the transaction of the order it placed, so that neither is there without the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from market.exchange.idempotency import KEPT_MS, lookup_of
from market.exchange.models import IdempotencyKey, Order

ROWS_AT_ONCE = 500  # keys and orders of one query


class Keyed(NamedTuple):
    """An accepted order and the key it was placed under."""

    key: str
    order: int
    account: int
    contract: str
    at_ms: int


def is_kept(*, scope: int, key: str, now_ms: int) -> bool:
    """Return whether a key has been used and still answers as it did then, at a market time."""
    rows = IdempotencyKey.objects.filter(lookup=lookup_of(scope, key), at_ms__gt=now_ms - KEPT_MS)
    return rows.filter(scope=scope, key=key).exists()


def orders_placed(*, scope: int, since_ms: int) -> Iterator[Keyed]:
    """Yield the orders that keys of a scope placed from a market time on, newest first; keys are kept for 48 h.

    All newer keys are looked at: there is no index by scope, which every order would pay for and only a restart uses.
    """
    before = None
    while True:
        rows = IdempotencyKey.objects.order_by("-n")
        if before is not None:
            rows = rows.filter(n__lt=before)
        found = list(rows.values_list("n", "at_ms", "scope", "key", "first_seq")[:ROWS_AT_ONCE])
        keys = {seq: key for _, at_ms, of, key, seq in found if of == scope and seq >= 0 and at_ms >= since_ms}
        for order in Order.objects.filter(id__in=keys).order_by("-id") if keys else ():
            yield Keyed(keys[order.id], order.id, order.account, order.contract, order.at_ms)
        if len(found) < ROWS_AT_ONCE or found[-1][1] < since_ms:  # times of keys do not run backwards
            return
        before = found[-1][0]
