"""Orders signed by their owner: required once a key is registered, verified at the door, checkable from the ledger alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import call_command

from ledger import queries as ledger
from ledger.core.findings import Bundle
from market.audit.judge import Judge
from market.audit.signatures import signed_by
from market.engine.engine import Engine
from market.engine.entries import legs_of, to_command
from market.engine.replay import Divergence, replay
from market.households import signing
from market.households.models import Account
from market.households.operations import Refusal
from tests.api.conftest import City, Person

PATH = "/api/v1/orders"
MINE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = MINE.public_key().public_bytes_raw().hex()
LOW_ORDER = "01" + "00" * 31  # the neutral element


def canonical(values: dict[str, Any]) -> bytes:
    """Return JCS as a client writes it: nothing here comes from the product."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def key_text(person: Person, public: str) -> bytes:
    """Return what is signed when a key ("" = none) takes the place of the one so far, as docs/ledger.md says."""
    known = person.get("/api/v1/me/signing").json()
    fields = {"account": known["account_id"], "before": known["public_key"], "public_key": public}
    fields |= {name: known[name] for name in ("changes", "origin", "rules")}
    return b"sunledger/key/v2\n" + canonical(fields)


def register(
    person: Person, key: Ed25519PrivateKey = MINE, *, by: Ed25519PrivateKey | None = None, **changes: str
) -> Any:
    public = key.public_key().public_bytes_raw().hex()
    text = key_text(person, public)
    body = {"public_key": public, "proof": key.sign(text).hex()}
    if by is not None:
        body["approval"] = by.sign(text).hex()
    return person.request("POST", "/api/v1/me/signing", json={**body, **changes})


def signature(person: Person, fields: dict[str, Any], key: str, by: Ed25519PrivateKey = MINE, **changes: Any) -> str:
    """Sign an order's fields (integers of the ledger) as docs/ledger.md says."""
    known = person.get("/api/v1/me/signing").json()
    values = {
        "account": known["account_id"],
        "rules": known["rules"],
        "nonce": hashlib.sha256(key.encode()).hexdigest(),
        **fields,
        **changes,
    }
    return by.sign(b"sunledger/order/v1\n" + canonical(values)).hex()


def send(person: Person, body: dict[str, Any], *, sig: str = "", key: str = "", path: str = PATH) -> Any:
    headers = ({"Order-Signature": sig} if sig else {}) | ({"Idempotency-Key": key} if key else {})
    return person.request("POST", path, json=body, headers=headers)


def plain(city: City, price: str = "0.1000", energy_wh: int = 500) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a plain order as it is sent and as it is signed."""
    contract = city.market.contract(2)
    body = {"contract": contract, "side": "buy", "price": price, "energy_wh": energy_wh}
    fields = {"contract": contract, "side": "buy", "price_e4": 1000, "energy_wh": energy_wh, "kind": "order"}
    return body, fields | {"time_in_force": "gtg", "expires_at_ms": 0}


@pytest.fixture
def signer(city: City) -> Iterator[Person]:
    """Bob, whose orders are signed."""
    assert register(city.bob).status_code == 200
    yield city.bob
    known = signing.signing_of(city.exchange, account=city.bob.account, rules="0" * 64)
    signing.remove(city.exchange, account=city.bob.account, known=known, reason="lost_device")


def test_a_signed_order_is_placed_and_its_signature_is_on_the_ledger(city: City, signer: Person) -> None:
    body, fields = plain(city)
    sig = signature(signer, fields, "k-1")
    answer = send(signer, body, sig=sig, key="k-1")
    assert answer.status_code == 201, answer.text
    entry = ledger.entry(answer.json()["order"]["id"])
    assert (entry["sig"], entry["nonce"]) == (sig, hashlib.sha256(b"k-1").hexdigest())
    assert "k-1" not in json.dumps(entry), "no text of a program enters the ledger"
    again = send(signer, body, sig=sig, key="k-1")
    assert again.json() == answer.json() and again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("kind", ["iceberg", "sweep", "block", "basket"])
def test_every_kind_of_order_can_be_signed(city: City, signer: Person, kind: str) -> None:
    first, second = city.market.contract(2), city.market.contract(3)
    common = {"contract": first, "side": "buy", "energy_wh": 400}
    body: dict[str, Any] = {**common, "price": "0.1000"}
    fields: dict[str, Any] = {**common, "price_e4": 1000, "kind": kind}
    path, timed = PATH, {"time_in_force": "gtg", "expires_at_ms": 0}
    if kind == "iceberg":
        body["display_wh"], fields = 100, {**fields, **timed, "display_wh": 100}
    else:
        path = f"{PATH}/{kind}"
    if kind in ("sweep", "block"):
        body["last"] = fields["last"] = second
    if kind == "block":
        fields |= timed
    legs = [("buy", "0.5000", 5000), ("sell", "0.0100", 100)]
    if kind in ("sweep", "basket"):  # they trade at once or not at all
        city.alice.order("sell", "0.0500", contract=first)
        city.charlie.order("buy", "0.0600", contract=first)
    if kind == "basket":
        leg = {"contract": first, "energy_wh": 100}
        body = {"legs": [{**leg, "side": side, "price": price} for side, price, _ in legs]}
        fields = {"kind": kind, "legs": [{**leg, "side": side, "price_e4": e4} for side, _, e4 in legs]}
    assert send(signer, body, path=path, key=f"no-{kind}").json()["code"] == "signature_required"
    answer = send(signer, body, sig=signature(signer, fields, f"k-{kind}"), key=f"k-{kind}", path=path)
    assert answer.status_code == 201, answer.text
    check_from_entries(city)


@pytest.mark.parametrize(
    "wrong",
    [
        "none",
        "price",
        "energy",
        "key",
        "rules",
        "account",
        "domain",
        "signer",
        "no idempotency key",
        "upper case",
        "short",
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_placed(city: City, signer: Person, wrong: str) -> None:
    body, fields = plain(city)
    changes: dict[str, Any] = {
        "price": {"price_e4": 999},
        "energy": {"energy_wh": 499},
        "key": {"nonce": "0" * 64},
        "rules": {"rules": "0" * 64},
        "account": {"account": "0" * 32},
        "domain": {"kind": "iceberg"},
    }.get(wrong, {})
    sig = signature(signer, fields, "k-wrong", by=OTHER if wrong == "signer" else MINE, **changes)
    if wrong == "upper case":
        sig = sig.upper()
    before = city.state()
    answer = send(
        signer,
        body,
        sig={"none": "", "short": sig[:-2]}.get(wrong, sig),
        key="" if wrong == "no idempotency key" else "k-wrong",
    )
    code = "signature_required" if wrong == "none" else "signature_invalid"
    assert (answer.status_code, answer.json()["code"]) == (403 if wrong == "none" else 422, code), answer.text
    assert city.state() == before


def test_signed_orders_are_not_amended_but_can_be_taken_back(city: City, signer: Person) -> None:
    body, fields = plain(city)
    body["contract"] = fields["contract"] = city.market.contract(5)  # nobody else is there
    order = send(signer, body, sig=signature(signer, fields, "k-amend"), key="k-amend").json()["order"]["id"]
    changed = signer.request("PATCH", f"{PATH}/{order}", json={"price": "0.2000"})
    assert changed.json()["code"] == "signature_required"
    assert signer.request("POST", f"{PATH}/{order}/hibernate").json()["code"] == "signature_required"
    assert signer.request("DELETE", f"{PATH}/{order}").status_code == 200


def test_orders_of_others_need_no_signature_and_take_none(city: City) -> None:
    body, fields = plain(city)
    assert send(city.alice, body).status_code == 201
    refused = send(city.alice, body, sig=signature(city.alice, fields, "k"), key="k")
    assert refused.json()["code"] == "signature_invalid"


@pytest.mark.parametrize(
    "changes", [{"proof": "0" * 128}, {"public_key": LOW_ORDER}, {"public_key": "ff" * 32}, {"public_key": "x"}]
)
def test_a_key_that_nobody_has_or_that_is_none_is_not_registered(city: City, changes: dict[str, str]) -> None:
    assert register(city.charlie, **changes).status_code == 422
    assert city.charlie.get("/api/v1/me/signing").json()["public_key"] == ""


def test_a_stolen_api_key_can_neither_replace_nor_remove_the_key(city: City, signer: Person) -> None:
    assert register(signer, OTHER).status_code == 403
    assert signer.request("DELETE", "/api/v1/me/signing").status_code == 403
    assert signer.get("/api/v1/me/signing").json()["public_key"] == PUBLIC
    assert not Account.objects.get(index=signer.account).automatic
    for refused in (register(signer, OTHER, by=OTHER), register(signer, OTHER, reset="lost_device")):
        assert refused.status_code in (403, 422)
    for query in ("?reset=lost_device", "?approval=" + "0" * 128, "?reset=because", "?approval="):
        assert signer.request("DELETE", f"/api/v1/me/signing{query}").status_code in (400, 403, 422)
    assert signer.get("/api/v1/me/signing").json()["public_key"] == PUBLIC


def key_entries(city: City) -> list[dict[str, Any]]:
    leaves = (orjson.loads(leaf) for leaf in ledger.leaves(0, city.seq()))
    return [leaf for leaf in leaves if leaf.get("action") == "key"]


def test_a_lost_key_is_reset_by_a_person_and_the_ledger_says_so(city: City, signer: Person) -> None:
    session = {"cookies": signer.session(), "headers": {"X-CSRFToken": "a" * 32}}
    refused = city.request("DELETE", "/api/v1/me/signing", **session)
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
        403,
        "signature_required",
        "approval",
    )
    assert city.request("DELETE", "/api/v1/me/signing?reset=lost_device", **session).status_code == 200
    assert (key_entries(city)[-1]["reason"], "approval" in key_entries(city)[-1]) == ("lost_device", False)
    body, _fields = plain(city)
    assert send(signer, body).status_code == 201
    assert register(signer).status_code == 200


def test_a_program_replaces_and_removes_a_key_with_its_signature(city: City, signer: Person) -> None:
    before = signer.get("/api/v1/me/signing").json()
    proof = OTHER.sign(key_text(signer, OTHER.public_key().public_bytes_raw().hex())).hex()
    assert register(signer, OTHER, by=MINE).status_code == 200
    known = signer.get("/api/v1/me/signing").json()
    assert known["changes"] == before["changes"] + 1
    entry = key_entries(city)[-1]
    assert {"proof", "approval", "rules"} < entry.keys() and "reason" not in entry and entry["proof"] == proof
    approval = OTHER.sign(key_text(signer, "")).hex()
    assert signer.request("DELETE", f"/api/v1/me/signing?approval={approval}").status_code == 200
    assert signer.get("/api/v1/me/signing").json()["public_key"] == ""
    assert register(signer, OTHER, proof=proof).json()["code"] == "signature_invalid", "what was signed fits once"
    assert register(signer).status_code == 200
    judge = Judge()
    leaves = [orjson.loads(leaf) for leaf in ledger.leaves(0, city.seq())]
    rows = {leaf["seq"]: ledger.rows(leaf["seq"]) for leaf in leaves if leaf["type"] in ("readings", "settle")}
    judge.take(Bundle(0, [], leaves, rows, len(leaves), None))
    assert judge.wrong is None, str(judge.wrong)


def test_two_changes_signed_at_the_same_time_do_not_both_happen(city: City, signer: Person) -> None:
    """The second was signed for another state: on the ledger its signatures would not fit."""
    known = signing.signing_of(city.exchange, account=signer.account, rules="0" * 64)
    assert register(signer, OTHER, by=MINE).status_code == 200
    third = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32)
    public = third.public_key().public_bytes_raw().hex()
    text = known.key_text(public)
    fields = {"proof": third.sign(text).hex(), "approval": MINE.sign(text).hex()}
    with pytest.raises(Refusal, match="signature_invalid: proof"):
        signing.register(city.exchange, account=signer.account, public_key=public, known=known, **fields)


def check_from_entries(city: City) -> int:
    """Check every signature from the entries alone, as an auditor does; return how many there are."""
    leaves = [orjson.loads(leaf) for leaf in ledger.leaves(0, city.seq())]
    ids: dict[int, str] = {}
    keys: dict[int, str] = {}
    checked = 0
    for leaf in leaves:
        if leaf["type"] == "account" and leaf["action"] == "opened":
            ids[leaf["account"]] = leaf["account_id"]
        if leaf["type"] == "account" and leaf["action"] == "key":
            keys[leaf["account"]] = leaf.get("public_key", "")
        if leaf["type"] != "order" or leaf.get("leg", 1) != 1:
            continue
        if not keys.get(leaf["account"]):
            assert "sig" not in leaf
            continue
        command = to_command(leaf, legs=leaves[leaf["seq"] : leaf["seq"] + legs_of(leaf)])
        assert signed_by(command, ids[leaf["account"]], keys[leaf["account"]])
        checked += 1
    return checked


def test_an_auditor_needs_nothing_but_the_entries(city: City, signer: Person) -> None:
    body, fields = plain(city)
    answer = send(signer, body, sig=signature(signer, fields, "k-audit"), key="k-audit")
    assert check_from_entries(city) >= 1
    leaves = [orjson.loads(leaf) for leaf in ledger.leaves(0, city.seq())]
    engine = Engine()
    replay(engine, leaves)
    assert engine.state_hash() == city.exchange.read(lambda running: running.state_hash())
    judge = Judge()
    rows = {leaf["seq"]: ledger.rows(leaf["seq"]) for leaf in leaves if leaf["type"] in ("readings", "settle")}
    judge.take(Bundle(0, [], leaves, rows, len(leaves), None))
    assert judge.wrong is None, str(judge.wrong)
    call_command("check_books", verbosity=0)

    seq = answer.json()["order"]["id"]
    forged = dict(leaves[seq])
    command = to_command({**forged, "price_e4": forged["price_e4"] + 1})
    assert not signed_by(command, city.exchange.read(lambda e: e.accounts[signer.account].id), PUBLIC)
    for name in ("sig", "nonce", "rules"):  # an operator that leaves a part of it out
        cut = [*leaves[:seq], {key: value for key, value in leaves[seq].items() if key != name}]
        with pytest.raises(Divergence):
            replay(Engine(), cut)
    with pytest.raises(Divergence):
        replay(Engine(), [*leaves[:seq], {k: v for k, v in leaves[seq].items() if k not in ("sig", "nonce", "rules")}])
    call_command("verify_ledger", verbosity=0)
