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
from market.audit.signatures import UNSHOWN, KeyChange, Unsigned
from market.engine import commands as c
from market.engine import signing
from market.engine.engine import Engine
from market.engine.replay import replay
from market.engine.trading import MARKET_OPERATOR
from tests.market_log import ORIGIN, RULES, SIGNER, lie
from tests.unit.audit_market import FIRST, LATER, NOON, Town, audited, of_type, place
from tests.unit.ledger_logs import source

MINE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
THIRD = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32)
NEWER, NEWEST = "1" * 64, "2" * 64  # rulebooks
FAR = "2026-06-10T12:00Z"  # more than two days away
Change = Callable[[Any], Any]


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


class SigningTown(Town):
    """The town, in which bob's orders are signed. ``put`` is what the operator does with an order before it is placed."""

    def __init__(self, put: Change = lambda command: command) -> None:
        super().__init__()
        self._put = put
        self.do(self.change(self.bob, MINE))

    def change(
        self,
        account: int,
        key: Ed25519PrivateKey | None,
        by: Ed25519PrivateKey | None = None,
        reason: str = "",
        **changes: Any,
    ) -> c.SetAccountKey:
        """Return the command that gives an account another key: shown by its holder, and let go by who holds the one before."""
        found, new = self.engine.accounts[account], public(key) if key else ""
        fields = {"before": found.key, "changes": found.key_changes, "origin": ORIGIN, "rules": self.rules} | changes
        text = signing.key_text(found.id, new, **fields)
        proof, approval = (one.sign(text).hex() if one else "" for one in (key, by))
        return c.SetAccountKey(account, new, proof, approval, fields["rules"] if key or by else "", reason)

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
    town.do(town.change(town.dora, MINE))  # one person, two accounts, one key
    command = town.signed(c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 700, "gtg", 0), "plain")
    seq = town.do(command._replace(account=town.dora, order=command.order._replace(account=town.dora)))[0].seq
    town.seal()
    assert wrong_of(town.files()).place == place(town.entries[seq])


# --- keys -------------------------------------------------------------------------------------------------------------


def changed_twice(town: SigningTown) -> list[int]:
    """Bob has another key, let go by the first, then loses his device; return the entries of both changes."""
    changes = [town.change(town.bob, OTHER, by=MINE)]
    town.do(changes[0])
    town.place(c.PlaceOrder(town.bob, NOON, c.BUY, 1_900, 10, "gtg", 0), "with the other", by=OTHER)
    town.do(town.change(town.bob, MINE, reason=signing.LOST))
    town.seal()
    return [entry["seq"] for entry in town.entries if entry.get("action") == "key"][1:]


def test_keys_that_change_hands_are_counted_and_a_reset_is_named() -> None:
    town = SigningTown()
    _, reset = changed_twice(town)
    figures = audited(town.files())[1]
    assert (figures.signing, figures.key_changes) == (1, 3)
    bob = town.engine.accounts[town.bob].id
    assert figures.unsigned == [Unsigned(bob, (KeyChange(reset, public(MINE), signing.LOST),), 0, -1)]
    assert audited(a_signed_day().files())[1].unsigned == []


KEY_LIES: dict[str, Callable[[SigningTown], c.SetAccountKey]] = {
    "nobody has shown it": lambda town: town.change(town.bob, OTHER, by=MINE)._replace(proof="0" * 128),
    "shown by another": lambda town: town.change(town.bob, OTHER, by=MINE)._replace(public_key=public(THIRD)),
    "let go by another": lambda town: town.change(town.bob, OTHER, by=THIRD),
    "removed by another": lambda town: town.change(town.bob, None, by=OTHER),
    "for another account": lambda town: town.change(town.dora, OTHER)._replace(account=town.charlie),
    "for another market": lambda town: town.change(town.bob, OTHER, by=MINE, origin="elsewhere.example"),
    "once before": lambda town: town.change(town.bob, OTHER, by=MINE, changes=0),
    "after another key": lambda town: town.change(town.bob, OTHER, by=MINE, before=""),
    "under another rulebook": lambda town: town.change(town.bob, OTHER, by=MINE, rules=NEWER),
}


@pytest.mark.parametrize("name", KEY_LIES)
def test_a_key_whose_owner_has_not_signed_for_it_is_named(name: str) -> None:
    town = SigningTown()
    seq = town.do(KEY_LIES[name](town))[0].seq
    town.seal()
    wrong = wrong_of(town.files())
    assert wrong.place == place(town.entries[seq])
    assert wrong.what.startswith("expected a change of keys ")


def test_an_operator_cannot_put_the_key_back_after_an_order_in_its_owners_name() -> None:
    """Neither without a trace nor with what its owner signed when it was registered."""
    for between in (None, THIRD):
        town = SigningTown()
        town.order(town.alice, c.SELL, 1_500, 1_000)
        registered = of_type(town.entries, "account", action="key")
        reset = town.do(town.change(town.bob, between, reason=signing.OPERATOR))[0].seq
        if between is None:
            town.order(town.bob, c.BUY, 39_000, 1_000)
        else:
            town.place(c.PlaceOrder(town.bob, FIRST, c.BUY, 39_000, 1_000, "gtg", 0), "made up", by=between)
        reason = signing.OPERATOR if between else ""
        town.seal()
        assert [one.changes[0].seq for one in audited(town.files())[1].unsigned] == [reset]
        back = town.do(c.SetAccountKey(town.bob, public(MINE), registered["proof"], "", RULES, reason))[0].seq
        town.seal()
        assert wrong_of(town.files()).place == place(town.entries[back])


def test_a_log_whose_operator_left_the_proofs_out_is_told_as_such() -> None:
    """As in logs from before there were any: nothing in them shows who changed the key, and the audit says that."""
    town = Town()
    changes = [c.SetAccountKey(town.bob, key) for key in (public(MINE), "", public(MINE))]
    seqs = [town.do(change)[0].seq for change in changes]
    town.seal()
    (bob,) = audited(town.files())[1].unsigned
    assert [(change.seq, change.reason) for change in bob.changes] == [(seq, UNSHOWN) for seq in seqs]


def test_signed_orders_that_nobody_signed_to_sleep_are_counted_in_older_logs() -> None:
    town = Town()
    town.do(c.SetAccountKey(town.bob, public(MINE)))
    town.order(town.alice, c.SELL, 1_900, 10, NOON)
    order = c.PlaceOrder(town.bob, NOON, c.BUY, 1_100, 100, "gtg", 0)
    nonce, account = "5" * 64, town.engine.accounts[town.bob]
    signature = MINE.sign(signing.text(order, account.id, nonce, RULES)).hex()
    seq = town.do(c.SignedOrder(town.bob, order, signature, nonce, RULES))[0].seq
    asleep = town.do(c.HibernateOrder(MARKET_OPERATOR, seq))[0].seq
    town.do(c.ReactivateOrder(MARKET_OPERATOR, seq))
    other = town.order(town.alice, c.SELL, 2_900, 10, NOON)
    town.do(c.HibernateOrder(MARKET_OPERATOR, other))  # alice signs nothing
    town.seal()
    (bob,) = audited(town.files())[1].unsigned
    assert (bob.account, bob.slept, bob.slept_first) == (account.id, 2, asleep)
    judge = Judge()
    judge.take(Bundle(0, [], town.entries, town.rows, len(town.entries), None))
    again = Judge.restore(Engine.load(judge.engine.dump()), json.loads(json.dumps(judge.values())))
    assert again.end(len(town.entries)).unsigned == [bob]


@pytest.mark.parametrize("resumed", [False, True])
def test_an_account_is_held_to_the_keys_its_owner_knows(resumed: bool) -> None:
    town = SigningTown()
    changed_twice(town)
    registered, replaced, _ = (entry["seq"] for entry in town.entries if entry.get("action") == "key")
    bob, mine, other = town.engine.accounts[town.bob].id, public(MINE), public(OTHER)
    judge = Judge()
    judge.take(Bundle(0, [], town.entries, town.rows, len(town.entries), None))
    if resumed:
        judge = Judge.restore(Engine.load(judge.engine.dump()), json.loads(json.dumps(judge.values())))
    judge.hold(bob, [mine, other])
    for key, seq, was in ((mine, replaced, other), (other, registered, mine), (public(THIRD), registered, mine)):
        with pytest.raises(Wrong) as caught:
            judge.hold(bob, [key])
        assert caught.value.place == f"entry {seq} (account {bob})"
        assert caught.value.what == f"public_key: expected {key}, was {was}"
    for account in (town.engine.accounts[town.alice].id, "f" * 32):
        with pytest.raises(Wrong) as caught:
            judge.hold(account, [mine])
        assert (caught.value.place, caught.value.what) == (
            f"account {account}",
            f"public_key: expected {mine}, was none",
        )
    for how, passes in (
        (town.change(town.bob, None, by=MINE), True),
        (town.change(town.bob, None, reason=signing.LOST), False),
    ):
        again = SigningTown()
        again.do(how._replace(approval=again.change(again.bob, None, by=MINE).approval) if how.approval else how)
        again.do(again.change(again.bob, OTHER))
        again.seal()
        judge = Judge()
        judge.take(Bundle(0, [], again.entries, again.rows, len(again.entries), None))
        assert judge.wrong is None
        if passes:
            judge.hold(bob, [mine, other])
        else:
            with pytest.raises(Wrong, match="was none"):
                judge.hold(bob, [mine, other])


# --- orders -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("resumed", [False, True])
def test_a_signature_places_one_order_for_as_long_as_its_contract_lives(resumed: bool) -> None:
    """Also after the market has forgotten the request. In a log from before keys were shown the engine does not see it."""
    town = Town()
    town.do(c.SetAccountKey(town.bob, public(MINE)))
    town.do(c.SetParams(40_000, 1, 1_000_000, 50, 7 * 24 * 60, 0, 1_000))
    town.due(town.at_ms)
    order, nonce = c.PlaceOrder(town.bob, FAR, c.BUY, 1_900, 100, "gtg", 0), "5" * 64
    text = signing.text(order, town.engine.accounts[town.bob].id, nonce, RULES)
    command = c.SignedOrder(town.bob, order, MINE.sign(text).hex(), nonce, RULES)
    town.do(command)
    town.seal()
    half = len(town.entries)
    town.due(town.at_ms + signing.ONCE_MS + 1_000)
    seq = town.do(command)[0].seq
    town.seal()
    judge = Judge()
    judge.take(Bundle(0, [], town.entries[:half], town.rows, len(town.entries), None))
    if resumed:
        judge = Judge.restore(Engine.load(judge.engine.dump()), json.loads(json.dumps(judge.values())))
    judge.take(Bundle(half, [], town.entries[half:], town.rows, len(town.entries), None))
    assert judge.wrong is not None
    assert judge.wrong.place == place(town.entries[seq])
    assert judge.wrong.what.startswith("expected a signature that places one order, was order ")


def test_one_request_may_have_the_same_name_in_two_accounts() -> None:
    town = SigningTown()
    town.do(town.change(town.dora, OTHER))
    for account, key in ((town.bob, MINE), (town.dora, OTHER)):
        town.place(c.PlaceOrder(account, NOON, c.BUY, 1_900, 100, "gtg", 0), "order 1", by=key)
    town.seal()
    audited(town.files())


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
