"""Leaves formatted by hand are the canonical bytes of the entry, whatever it holds."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.core.encoding import decode, encode
from ledger.keys import salt
from market.engine.entries import to_leaf
from market.engine.events import Event, Funded, OrderCancelled, OrderPlaced, Sealed, Traded
from market.exchange.leaves import Leaves, Salts

SECRET = bytes(range(32))
INTEGERS = st.integers(0, 2**53 - 1)
TIMES = st.integers(0, 4_102_444_800_000)
TEXTS = st.text(st.characters(max_codepoint=126), min_size=1, max_size=12)
CONTRACTS = st.just("2026-06-06T12:15Z")
SIDES = st.sampled_from(("buy", "sell"))

ORDERS = st.builds(
    OrderPlaced, INTEGERS, TIMES, INTEGERS, TEXTS, CONTRACTS, SIDES, INTEGERS, INTEGERS,
    st.sampled_from(("gtg", "gtd", "ioc", "fok")), st.one_of(st.just(0), TIMES),
)  # fmt: skip
TRADES = st.builds(
    Traded, INTEGERS, TIMES, CONTRACTS, INTEGERS, INTEGERS, INTEGERS, INTEGERS, INTEGERS, SIDES, INTEGERS, INTEGERS,
    INTEGERS, INTEGERS, TEXTS, TEXTS, INTEGERS, INTEGERS,
)  # fmt: skip
CANCELS = st.builds(OrderCancelled, INTEGERS, TIMES, INTEGERS, INTEGERS, CONTRACTS, INTEGERS, TEXTS)


def expected(event: Event) -> bytes:
    """Return the leaf by the plain way."""
    return encode({**to_leaf(event), "salt": salt(SECRET, event.seq)})  # type: ignore[union-attr]


@given(st.lists(st.one_of(ORDERS, TRADES, CANCELS), max_size=4))
def test_leaves_by_hand_are_canonical(events: list[Event]) -> None:
    leaves = Leaves(SECRET)
    by_hand = {OrderPlaced: leaves.order, Traded: leaves.trade, OrderCancelled: leaves.cancel}
    for event in events:
        leaf = by_hand[type(event)](event)  # type: ignore[index]
        assert leaf == leaves.leaf(event) == expected(event)
        assert decode(leaf)["seq"] == event.seq  # type: ignore[union-attr]


@given(INTEGERS)
def test_salts_are_the_ledgers(seq: int) -> None:
    assert Salts(SECRET).salt(seq) == salt(SECRET, seq)


def test_other_entries_and_what_the_journal_adds() -> None:
    leaves = Leaves(SECRET)
    assert leaves.leaf(Funded(5, 0, 4, -7, "withdrawal", "")) == expected(Funded(5, 0, 4, -7, "withdrawal", ""))
    seal = leaves.leaf(Sealed(9, 0, 1, 0, 10), {"rules": "ab", "totals": "EUR:0"})
    assert decode(seal)["rules"] == "ab" and b'"seq":9,"totals":"EUR:0"' in seal
