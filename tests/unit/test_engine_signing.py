"""Accounts with a key: what needs a signature, what is signed, and that a replay from the entries gives the same."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from market.engine import commands as c
from market.engine import events as ev
from market.engine import signing
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import legs_of, signed_fields, to_command, to_leaf
from market.engine.replay import Divergence, replay
from market.exchange.idempotency import KEPT_MS
from tests.unit.engine_cast import LATER, NOON, Market

KEY, SIG, NONCE, RULES = "ab" * 32, "cd" * 64, "ef" * 32, "01" * 32
ACCOUNT = "12" * 16


def orders(account: int) -> list[Any]:
    return [
        c.PlaceOrder(account, NOON, "buy", 2_000, 10, "gtg", 0),
        c.PlaceIceberg(account, NOON, "buy", 2_000, 10, "gtg", 0, 2),
        c.PlaceSweep(account, NOON, LATER, "buy", 2_000, 10),
        c.PlaceBlock(account, NOON, LATER, "buy", 2_000, 10, "gtg", 0),
        c.PlaceBasket(account, (c.Leg(account, NOON, "buy", 2_500, 10), c.Leg(account, LATER, "buy", 2_500, 10))),
    ]


def signed(order: Any) -> c.SignedOrder:
    return c.SignedOrder(order.account, order, SIG, NONCE, RULES)


@pytest.mark.parametrize("place", range(5), ids=list(signing.KINDS.values()))
def test_an_account_with_a_key_places_nothing_unsigned(place: int) -> None:
    market = Market()
    for contract in (NOON, LATER):
        market.order(market.bob, "sell", 1_000, 50, contract=contract)
    market.do(c.SetAccountKey(market.alice, KEY))
    order = orders(market.alice)[place]
    assert market.refused(order)[0] == "signature_required"
    first = market.do(signed(order))[0]
    assert market.engine.signer == -1
    leaves = [to_leaf(event) | (signed_fields(signed(order)) if event is first else {}) for event in market.log]
    again = Engine()
    replay(again, leaves, market.rows)
    assert again.state_hash() == market.engine.state_hash()
    assert to_command(leaves[first.seq], legs=leaves[first.seq :][: legs_of(leaves[first.seq])]) == signed(order)
    with pytest.raises(Divergence, match="signature_required"):
        replay(Engine(), [to_leaf(event) for event in market.log], market.rows)
    market.do(c.SetAccountKey(market.alice, ""))
    market.do(orders(market.alice)[0])


def test_only_who_signs_is_bound_and_a_signature_needs_a_key() -> None:
    market = Market()
    assert market.refused(signed(orders(market.alice)[0])) == ("signature_invalid", "signature")
    market.do(c.SetAccountKey(market.alice, KEY))
    market.do(orders(market.bob)[0])
    assert market.refused(signed(orders(market.bob)[0]))[0] == "signature_invalid"
    assert market.refused(signed(orders(market.alice)[0])._replace(account=market.bob))[0] == "unknown_account"
    for field in ("signature", "nonce", "rules"):
        assert market.refused(signed(orders(market.alice)[0])._replace(**{field: "x"})) == ("invalid_value", field)
    assert market.refused(c.SetAccountKey(market.alice, KEY)) == ("nothing_to_change", "public_key")
    assert market.refused(c.SetAccountKey(market.alice, KEY.upper())) == ("invalid_value", "public_key")
    assert Engine.load(market.engine.dump()).accounts[market.alice].key == KEY


def test_a_signed_order_is_not_amended() -> None:
    market = Market()
    market.do(c.SetAccountKey(market.alice, KEY))
    order = market.do(signed(orders(market.alice)[0]))[0].seq
    assert market.refused(c.AmendOrder(market.alice, order, 1_500, -1)) == ("signature_required", "order")
    assert market.refused(c.AmendOrder(-1, order, 1_500, -1)) == ("signature_required", "order"), "nor by a replay"
    market.do(c.CancelOrder(market.alice, order, "owner"))


def test_what_is_signed_says_all_of_the_order_and_nothing_twice() -> None:
    texts = [signing.text(order, ACCOUNT, NONCE, RULES) for order in orders(4)]
    for text, kind in zip(texts, signing.KINDS.values(), strict=True):
        domain, _, body = text.partition(b"\n")
        assert domain == b"sunledger/order/v1"
        values = json.loads(body)
        assert (values["kind"], values["account"], values["nonce"], values["rules"]) == (kind, ACCOUNT, NONCE, RULES)
        assert json.dumps(values, sort_keys=True, separators=(",", ":")).encode() == body
    assert len(set(texts)) == 5
    for order in orders(4)[:4]:
        for name in order._fields[1:]:
            other = order._replace(**{name: 7 if type(getattr(order, name)) is int else "x"})
            assert signing.text(other, ACCOUNT, NONCE, RULES) != signing.text(order, ACCOUNT, NONCE, RULES), name
    basket = orders(4)[4]
    other = basket._replace(legs=(basket.legs[0]._replace(account=9), basket.legs[1]))
    assert signing.text(other, ACCOUNT, NONCE, RULES) != signing.text(basket, ACCOUNT, NONCE, RULES)


def test_what_is_signed_about_a_key_says_which_account_market_rulebook_and_change() -> None:
    fields = {"before": "", "changes": 0, "origin": "test/log", "rules": RULES}
    text = signing.key_text(ACCOUNT, KEY, **fields)  # type: ignore[arg-type]
    values = {**fields, "account": ACCOUNT, "public_key": KEY}
    assert text == b"sunledger/key/v2\n" + json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def test_the_documents_example_of_a_key_is_what_is_signed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
    shown = re.search(r"```\n(sunledger/key/v2\n\{.*?\})\n```", text, re.DOTALL)
    assert shown is not None
    domain, _, body = shown[1].partition("\n")
    values = json.loads(body)
    fields = {"before": "", "changes": 0, "origin": "sunledger.example/city", "rules": hashlib.sha256(b"").hexdigest()}
    signed_text = signing.key_text(values["account"], values["public_key"], **fields)  # type: ignore[arg-type]
    assert f"{domain}\n{body.replace(chr(10) + ' ', '')}".encode() == signed_text


def test_a_key_that_was_shown_is_changed_by_its_own_signature_or_by_a_reset_that_says_why() -> None:
    """Entries of older logs showed nothing. After the first proof there are no such entries any more."""
    market = Market()
    alice, other = market.alice, "ba" * 32
    shown = c.SetAccountKey(alice, KEY, SIG, "", RULES)
    for field, command in {
        "proof": shown._replace(proof=""), "approval": shown._replace(approval=SIG), "rules": shown._replace(rules=""),
        "reason": shown._replace(reason=signing.LOST),
    }.items():  # fmt: skip
        assert market.refused(command) == ("invalid_value", field)
    assert market.refused(shown._replace(changes=1)) == ("signature_invalid", "proof"), "another change came in between"
    market.do(shown._replace(changes=0))
    order = market.do(signed(orders(alice)[0]))[0].seq
    for command in (c.HibernateOrder(alice, order), c.HibernateOrder(-1, order)):
        assert market.refused(command) == ("signature_required", "order")
    for key in ("", other):
        assert market.refused(c.SetAccountKey(alice, key)) == ("signature_required", "approval")
    changed = c.SetAccountKey(alice, other, SIG, SIG, RULES)
    for field, command in {
        "reason": changed._replace(approval=""), "proof": changed._replace(proof=""),
        "rules": changed._replace(rules="x"), "approval": changed._replace(approval="x"),
    }.items():  # fmt: skip
        assert market.refused(command) == ("invalid_value", field)
    assert market.refused(changed._replace(reason=signing.LOST)) == ("invalid_value", "reason")
    assert market.refused(changed._replace(approval="", reason="because")) == ("invalid_value", "reason")
    market.do(changed)
    market.do(c.SetAccountKey(alice, "", "", SIG, RULES))
    assert market.refused(c.SetAccountKey(alice, KEY)) == ("signature_required", "proof")
    market.do(shown)
    market.do(c.SetAccountKey(alice, "", reason=signing.OPERATOR))
    entries = [to_leaf(event) for event in market.log if type(event) is ev.AccountKeySet]
    assert [entry.keys() - {"v", "seq", "type", "at", "action", "account"} for entry in entries] == [
        {"public_key", "proof", "rules"}, {"public_key", "proof", "approval", "rules"}, {"approval", "rules"},
        {"public_key", "proof", "rules"}, {"reason"},
    ]  # fmt: skip
    assert market.engine.accounts[alice].key_changes == 5
    loaded = Engine.load(market.engine.dump())
    assert (loaded.accounts[alice].key_changes, loaded.dump()) == (5, market.engine.dump())
    leaves = [
        to_leaf(event) | (signed_fields(signed(orders(alice)[0])) if event.seq == order else {}) for event in market.log
    ]
    again = Engine()
    replay(again, leaves, market.rows)
    assert again.state_hash() == market.engine.state_hash()


def test_a_nonce_is_used_once_for_as_long_as_its_contract_can_be_traded() -> None:
    """The market answers a repeated request for two days; in contracts that live longer the engine remembers it itself."""
    assert signing.ONCE_MS == KEPT_MS
    market = Market()
    alice, far, farther = market.alice, "2026-06-10T12:00Z", "2026-06-10T12:15Z"
    market.do(c.SetParams(40_000, 1, 1_000_000, 50, 7 * 24 * 60, 0, 1_000))
    market.tick(market.now_ms)
    market.do(c.SetAccountKey(alice, KEY, SIG, "", RULES))
    legs = (c.Leg(alice, far, "buy", 2_500, 10), c.Leg(alice, farther, "buy", 2_500, 10))
    kinds = [
        c.PlaceOrder(alice, far, "buy", 1_900, 10, "gtg", 0), c.PlaceIceberg(alice, far, "buy", 1_900, 10, "gtg", 0, 2),
        c.PlaceSweep(alice, far, farther, "buy", 1_900, 10), c.PlaceBlock(alice, far, farther, "buy", 1_900, 10, "gtg", 0),
        c.PlaceBasket(alice, legs),
    ]  # fmt: skip
    for contract in (far, farther):
        market.order(market.bob, "sell", 1_000, 50, contract=contract)
    placed = [signed(order)._replace(nonce=f"{number:064x}") for number, order in enumerate(kinds)]
    for command in placed:
        market.do(command)
    near = signed(orders(alice)[0])
    market.do(near)
    assert market.refused(placed[0]._replace(order=c.PlaceOrder(alice, far, "gift", 1, 1, "gtg", 0))) == (
        "signature_invalid", "nonce",
    )  # fmt: skip
    assert market.engine.nonces.keys() == {far}, "what an answer is kept for until the gate is not kept twice"
    market.tick(market.now_ms + signing.ONCE_MS + 60_000)
    market.engine = Engine.load(market.engine.dump())
    for command in placed:
        assert market.refused(command) == ("signature_invalid", "nonce")
    market.do(placed[0]._replace(nonce=NONCE))
    for odd in ((), None, (3,)):
        assert market.refused(signed(c.PlaceBasket(alice, odd)))[0] != "signature_invalid"  # type: ignore[arg-type]
    market.tick(contract_start_ms(far))
    assert not market.engine.nonces and b"nonces" not in market.engine.dump()


def test_logs_from_before_keys_were_shown_replay_as_they_are() -> None:
    market = Market()
    market.do(c.SetAccountKey(market.alice, KEY))
    order = market.do(signed(orders(market.alice)[0]))[0].seq
    market.do(c.HibernateOrder(market.alice, order))
    market.do(c.ReactivateOrder(market.alice, order))
    market.do(c.SetAccountKey(market.alice, ""))
    assert next(to_leaf(event) for event in market.log if type(event) is ev.AccountKeySet).keys() == {
        "v", "seq", "type", "at", "action", "account", "public_key",
    }  # fmt: skip
    assert b"key_changes" not in market.engine.dump()


def test_the_documents_example_is_what_is_signed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
    shown = re.search(r"```\n(sunledger/order/v1\n\{.*?\})\n```", text, re.DOTALL)
    assert shown is not None
    order = c.PlaceOrder(17, "2026-06-06T13:00Z", "sell", 2_850, 1_500, "gtg", 0)
    nonce, rules = (hashlib.sha256(data).hexdigest() for data in (b"key", b""))
    domain, _, body = shown[1].partition("\n")
    written = f"{domain}\n{body.replace(chr(10) + ' ', '')}"
    assert written.encode() == signing.text(order, "00112233445566778899aabbccddeeff", nonce, rules)
