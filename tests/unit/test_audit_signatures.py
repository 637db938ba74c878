"""Orders of households that sign, in the hands of an operator who redoes every consequence and signs the log anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.core.findings import Bundle
from ledger.core.note import parse_vkey
from ledger.core.verify import verify_log
from market.audit.judge import Judge, Wrong
from market.audit.signatures import ONCE_MS, Signatures
from market.engine import commands as c
from market.engine import signing
from market.engine.engine import Engine
from market.engine.replay import Divergence, replay
from tests.market_log import RULES, SIGNER, lie
from tests.unit.audit_market import LATER, NOON, Town, audited, of_type, place
from tests.unit.ledger_logs import source

MINE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
NEWER, NEWEST = "1" * 64, "2" * 64  # rulebooks
Change = Callable[[Any], Any]


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


class SigningTown(Town):
    """The town, in which bob's orders are signed. ``put`` is what the operator does with an order before it is placed."""

    def __init__(self, put: Change = lambda command: command) -> None:
        super().__init__()
        self._put = put
        self.do(c.SetAccountKey(self.bob, public(MINE)))

    def signed(self, order: Any, request: str, rules: str = RULES, by: Ed25519PrivateKey = MINE) -> c.SignedOrder:
        nonce = hashlib.sha256(request.encode()).hexdigest()
        text = signing.text(order, self.engine.accounts[order.account].id, nonce, rules)
        return c.SignedOrder(order.account, order, by.sign(text).hex(), nonce, rules)

    def place(self, order: Any, request: str, rules: str = RULES, by: Ed25519PrivateKey = MINE) -> int:
        self.at_ms += 10
        seq: int = self.do(self._put(self.signed(order, request, rules, by)))[0].seq
        return seq


def a_signed_day(put: Change = lambda command: command) -> SigningTown:
    """Return a log in which bob signs an order of every kind; the first trades with alice's."""
    town = SigningTown(put)
    bob = town.bob
    town.order(town.alice, c.SELL, 1_500, 1_000)
    town.order(town.alice, c.SELL, 1_500, 1_000, LATER)
    town.order(town.dora, c.BUY, 1_600, 1_000, LATER)
    town.place(c.PlaceOrder(bob, NOON, c.BUY, 1_900, 700, "gtg", 0), "plain")
    town.seal()
    town.place(c.PlaceOrder(bob, NOON, c.BUY, 1_100, 300, "gtd", town.at_ms + 60_000), "until")
    town.place(c.PlaceIceberg(bob, NOON, c.BUY, 1_200, 1_000, "gtg", 0, 200), "iceberg")
    town.place(c.PlaceSweep(bob, LATER, LATER, c.BUY, 1_900, 50), "sweep")
    town.place(c.PlaceBlock(bob, NOON, LATER, c.BUY, 1_300, 100, "gtg", 0), "block")
    legs = (c.Leg(bob, LATER, c.BUY, 2_000, 50), c.Leg(bob, LATER, c.SELL, 100, 20))
    town.place(c.PlaceBasket(bob, legs), "basket")
    town.seal()
    return town


def wrong_of(files: dict[str, bytes]) -> Wrong:
    """Return what the audit says; the log itself is whole and signed."""
    verify_log(source(files), [parse_vkey(SIGNER.vkey)])
    with pytest.raises(Wrong) as caught:
        audited(files)
    return caught.value


def test_an_honest_day_of_signed_orders_passes() -> None:
    town = a_signed_day()
    assert sum("sig" in entry for entry in town.entries) == 6
    assert audited(town.files())[1].entries == len(town.entries)


CHANGES: dict[str, tuple[str, Change]] = {
    "price": ("plain", lambda order: order._replace(price_e4=order.price_e4 + 1)),
    "energy": ("plain", lambda order: order._replace(energy_wh=order.energy_wh - 1)),
    "side": ("until", lambda order: order._replace(side=c.SELL, price_e4=3_000)),
    "contract": ("plain", lambda order: order._replace(contract=LATER)),
    "expiry": ("until", lambda order: order._replace(expires_at_ms=order.expires_at_ms + 60_000)),
    "time in force": ("plain", lambda order: order._replace(time_in_force="ioc")),
    "display": ("iceberg", lambda order: order._replace(display_wh=order.display_wh + 10)),
    "sweep": ("sweep", lambda order: order._replace(energy_wh=order.energy_wh + 1)),
    "block": ("block", lambda order: order._replace(price_e4=order.price_e4 + 1)),
    "first leg": ("basket", lambda order: order._replace(legs=(order.legs[0]._replace(price_e4=2_001), order.legs[1]))),
    "last leg": ("basket", lambda order: order._replace(legs=(order.legs[0], order.legs[1]._replace(energy_wh=19)))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_order_is_named_by_its_signature_though_all_consequences_were_redone(name: str) -> None:
    request, change = CHANGES[name]
    nonce = hashlib.sha256(request.encode()).hexdigest()

    def put(command: Any) -> Any:
        return command._replace(order=change(command.order)) if command.nonce == nonce else command

    town = a_signed_day(put)
    replay(Engine(), town.entries)  # everything follows from the rules, and the seals have the balances
    order = of_type(town.entries, "order", nonce=nonce)
    wrong = wrong_of(town.files())
    assert wrong.place == place(order)
    assert wrong.what.startswith(f"expected an order signed with the key of account {town.bob}, was order ")


@pytest.mark.parametrize("change", [{"nonce": "0" * 64}, {"rules": NEWER}, {"signature": "0" * 128}])
def test_another_request_rulebook_or_signature_is_named(change: dict[str, str]) -> None:
    town = a_signed_day(lambda command: command._replace(**change))
    wrong = wrong_of(town.files())
    assert wrong.place == place(of_type(town.entries, "order", account=town.bob))
    assert wrong.what.startswith(f"expected an order signed with the key of account {town.bob}")


def test_an_order_made_up_by_the_operator_is_named() -> None:
    town = SigningTown()
    seq = town.place(c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 700, "gtg", 0), "made up", by=OTHER)
    town.seal()
    assert wrong_of(town.files()).place == place(town.entries[seq])


def test_an_order_of_another_account_under_bobs_signature_is_named() -> None:
    town = SigningTown()
    town.do(c.SetAccountKey(town.dora, public(MINE)))  # one person, two accounts, one key
    command = town.signed(c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 700, "gtg", 0), "plain")
    seq = town.do(command._replace(account=town.dora, order=command.order._replace(account=town.dora)))[0].seq
    town.seal()
    assert wrong_of(town.files()).place == place(town.entries[seq])


@pytest.mark.parametrize("fields", [("sig", "nonce", "rules"), ("sig",), ("nonce",), ("rules",)])
def test_a_signature_that_was_taken_away_is_named(fields: tuple[str, ...]) -> None:
    town = a_signed_day()
    order = of_type(town.entries, "order", account=town.bob)
    wrong = wrong_of(lie(town, lambda entries, rows: [entries[order["seq"]].pop(name) for name in fields]))
    assert wrong.place.startswith(f"entry {order['seq']}")


def test_signature_fields_where_no_key_asks_for_them_are_named() -> None:
    town = a_signed_day()
    signed, other = of_type(town.entries, "order", account=town.bob), of_type(town.entries, "order", account=town.alice)
    extra = {name: signed[name] for name in ("sig", "nonce", "rules")}
    assert wrong_of(lie(town, lambda entries, rows: entries[other["seq"]].update(extra))).place == place(other)
    trade = of_type(town.entries, "trade")
    assert wrong_of(lie(town, lambda entries, rows: entries[trade["seq"]].update(extra))).place == place(trade)


def test_a_signed_order_that_is_placed_twice_is_named() -> None:
    town = SigningTown()
    order = c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 100, "gtg", 0)
    town.place(order, "once")
    town.seal()
    seq = town.place(order, "once")
    town.seal()
    wrong = wrong_of(town.files())
    assert wrong.place == place(town.entries[seq])
    assert wrong.what.startswith("expected a signature that places one order, was order ")


def test_a_request_that_the_market_has_forgotten_may_place_its_order_again() -> None:
    town = SigningTown()
    command = town.signed(c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 100, "gtg", 0), "again")
    entry = {"contract": NOON, "at": "2026-06-06T10:10:00.000Z"}
    found = Signatures(town.engine, [RULES])
    found.check(command, entry)
    found = Signatures.restore(town.engine, json.loads(json.dumps(found.values())))
    assert ONCE_MS == 2 * 86_400_000
    with pytest.raises(Divergence):
        found.check(command, entry | {"at": "2026-06-08T10:09:59.999Z"})
    found.check(command, entry | {"at": "2026-06-08T10:10:00.000Z"})


@pytest.mark.parametrize(("rules", "passes"), [(RULES, False), (NEWER, True), (NEWEST, True), ("3" * 64, False)])
@pytest.mark.parametrize("resumed", [False, True])
def test_the_rulebook_is_the_one_in_force_or_the_one_before(rules: str, passes: bool, resumed: bool) -> None:
    town = SigningTown()
    town.do(c.PublishRulebook(3, NEWER))
    town.seal()
    town.do(c.PublishRulebook(4, NEWEST))
    town.seal()
    half = len(town.entries)
    seq = town.place(c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 100, "gtg", 0), "rules", rules)
    town.seal()
    judge = Judge()
    judge.take(Bundle(0, [], town.entries[:half], town.rows, len(town.entries), None))
    if resumed:
        judge = Judge.restore(Engine.load(judge.engine.dump()), json.loads(json.dumps(judge.values())))
    judge.take(Bundle(half, [], town.entries[half:], town.rows, len(town.entries), None))
    assert (judge.wrong is None) == passes
    if judge.wrong is not None:
        assert judge.wrong.place == place(town.entries[seq])
        assert judge.wrong.what.startswith(
            f"expected an order signed under the rulebook {NEWEST} or {NEWER}, was order "
        )
