"""Households: sign-up, accounts, keys; what the account pages and staff pages call."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import orjson
import pytest

from market.households import keys, operations, queries
from market.households.identities import Identity, IdentityCache
from market.households.models import Account, AccountRequest, ApiKey, Home, Role
from tests.api.conftest import NOW, City

PASSWORD = "a-long-enough-secret-7"


def sign_up(name: str, **changes: str) -> operations.User:
    fields = {"area": "LV1.2", "address": "Sonnenweg 3", "meter_number": f"DE{name}"} | changes
    return operations.sign_up(username=name, password=PASSWORD, **fields)


def test_from_sign_up_to_an_account_with_money(city: City) -> None:
    user = sign_up("paul", address="阳光路 3 号")
    assert user.check_password(PASSWORD)
    assert queries.account_of(user) is None
    (request,) = [row for row in queries.open_requests() if row.user_id == user.pk]

    account = operations.accept_request(city.exchange, request_id=request.pk, now=NOW)
    info = queries.account_of(user)
    assert info is not None
    assert (info.index, info.area, info.automatic, info.closed) == (account.index, "LV1.2", False, False)
    opened = city.exchange.read(lambda engine: engine.accounts[account.index])
    assert (opened.id, opened.area, opened.kind) == (account.account_id, "LV1.2", "member")
    with pytest.raises(operations.HouseholdError, match="already_decided"):
        operations.accept_request(city.exchange, request_id=request.pk, now=NOW)
    assert Account.objects.filter(user=user).count() == 1


def test_identity_is_committed_and_nowhere_on_the_ledger(city: City) -> None:
    user = sign_up("petra", address="Mondgasse 9")
    request = AccountRequest.objects.get(user=user)
    account = operations.accept_request(city.exchange, request_id=request.pk, now=NOW)
    entries = city.rita.get("/api/v1/events", limit=500).json()["results"]
    (entry,) = [e for e in entries if e["type"] == "account" and e.get("id", e.get("account_id")) == account.account_id]
    record = {"area": "LV1.2", "user": "petra", "address": "Mondgasse 9", "meter_number": "DEpetra"}
    kept = orjson.loads(Account.objects.get(pk=account.pk).identity)
    assert kept["record"] == record
    data = bytes.fromhex(kept["salt"]) + orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    assert entry["commitment"] == hashlib.sha256(data).hexdigest()
    assert not any(word in str(entries) for word in ("petra", "Mondgasse"))


def test_requests_can_be_declined(city: City) -> None:
    user = sign_up("rolf")
    request = AccountRequest.objects.get(user=user)
    operations.decline_request(request_id=request.pk, now=NOW)
    with pytest.raises(operations.HouseholdError, match="already_decided"):
        operations.accept_request(city.exchange, request_id=request.pk, now=NOW)


def test_a_request_for_an_area_that_does_not_exist_can_be_tried_again(city: City) -> None:
    user = sign_up("stine", area="NIX")
    request = AccountRequest.objects.get(user=user)
    with pytest.raises(operations.Refusal, match="unknown_area"):
        operations.accept_request(city.exchange, request_id=request.pk, now=NOW)
    AccountRequest.objects.filter(pk=request.pk).update(area="LV1.2")
    operations.accept_request(city.exchange, request_id=request.pk, now=NOW)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("alice", {}, "username"),
        ("ALICE", {}, "username"),
        ("no spaces", {}, "username"),
        ("x" * 151, {}, "username"),
        ("tina", {"password": "short"}, "password"),
        ("tina", {"password": "123456789012"}, "password"),
        ("tina", {"area": ""}, "area"),
        ("tina", {"address": "  "}, "address"),
        ("tina", {"address": "x" * 256}, "address"),
        ("tina", {"meter_number": "a\0b"}, "meter_number"),
    ],
)
def test_bad_sign_ups(city: City, name: str, changes: dict[str, str], field: str) -> None:
    fields = {"password": PASSWORD, "area": "LV1.2", "address": "Weg 1", "meter_number": "DE1"} | changes
    with pytest.raises(operations.HouseholdError) as caught:
        operations.sign_up(username=name, **fields)
    assert caught.value.field == field
    assert str(caught.value.sentence)
    assert not AccountRequest.objects.filter(user__username=name).exists()


def test_homes_get_accounts_and_people_take_them(city: City) -> None:
    homes = operations.create_homes(Home(code=f"H{n}", area="LV1.2") for n in range(3))
    opened = operations.open_accounts(city.exchange, homes=homes, now=NOW)
    assert [account.area for account in opened] == ["LV1.2"] * 3
    free = {info.index for info in queries.free_accounts()}
    assert {account.index for account in opened} <= free
    assert {account.index for account in opened} <= {info.index for info in queries.automatic_accounts()}

    user = operations.create_person(username="vera", password=None)
    token = operations.issue_key(user=user, name="k", scopes=["read"], now=NOW).token
    assert queries.identify_key(token).account_index is None
    assert operations.claim_account(user=user, account_index=opened[0].index)
    assert not operations.claim_account(user=city.bob.user, account_index=opened[0].index)
    assert queries.identify_key(token).account_index == opened[0].index
    assert queries.home_of(opened[0].index).code == "H0"
    assert not queries.account_at(opened[0].index).automatic
    operations.set_automatic(account_index=opened[0].index, automatic=True)
    assert queries.account_at(opened[0].index).automatic


def test_two_accounts_of_one_person_never_trade_with_each_other(city: City) -> None:
    user = operations.create_person(username="walter", password=None)
    one, two = (operations.open_account(city.exchange, now=NOW, user=user, area="LV1.2") for _ in range(2))
    groups = city.exchange.read(lambda engine: [engine.accounts[a.index].group for a in (one, two)])
    assert groups[0] == groups[1]
    assert groups[0] != city.exchange.read(lambda engine: engine.accounts[city.alice.account].group)


def test_a_closed_account(city: City) -> None:
    xaver = city.person("xaver", area="LV1.2")
    xaver.order("buy", "0.0100", contract=city.market.contract(2))
    operations.close_account(city.exchange, account_index=xaver.account, now=NOW)
    operations.close_account(city.exchange, account_index=xaver.account, now=NOW)
    assert queries.account_at(xaver.account).closed
    assert queries.account_of(xaver.user) is None
    response = xaver.request("POST", "/api/v1/orders", json={})
    assert response.json()["code"] == "no_account"


@pytest.mark.parametrize(
    ("role", "scopes", "allowed"),
    [
        (Role.HOUSEHOLD, {"read", "trade", "readings:write"}, True),
        (Role.HOUSEHOLD, {"ledger:read"}, False),
        (Role.HOUSEHOLD, {"operate"}, False),
        (Role.HOUSEHOLD, {"everything"}, False),
        (Role.OPERATOR, {"read", "operate", "ledger:read"}, True),
        (Role.OPERATOR, {"trade"}, False),
        (Role.REGULATOR, {"read", "ledger:read"}, True),
        (Role.REGULATOR, {"operate"}, False),
    ],
)
def test_a_key_can_do_no_more_than_its_owner(city: City, role: Role, scopes: set[str], allowed: bool) -> None:
    user = operations.create_person(username=f"{role}{len(scopes)}{allowed}{min(scopes)[:3]}", password=None, role=role)
    if allowed:
        made = operations.issue_key(user=user, name="k", scopes=scopes, now=NOW)
        assert queries.identify_key(made.token).scopes == scopes
    else:
        with pytest.raises(operations.HouseholdError, match="scope_not_allowed"):
            operations.issue_key(user=user, name="k", scopes=scopes, now=NOW)


def test_bad_keys(city: City) -> None:
    user = operations.create_person(username="yuri", password=None)
    for changes, field in (
        ({"name": ""}, "name"), ({"name": "x" * 81}, "name"), ({"name": "a\0"}, "name"), ({"scopes": []}, "scopes"),
        ({"expires_at": NOW - timedelta(seconds=1)}, "expires_at"),
    ):  # fmt: skip
        arguments = {"user": user, "name": "k", "scopes": ["read"], "now": NOW} | changes
        with pytest.raises(operations.HouseholdError) as caught:
            operations.issue_key(**arguments)
        assert caught.value.field == field
    for _ in range(operations.MAX_KEYS):
        operations.issue_key(user=user, name="k", scopes=["read"], now=NOW)
    with pytest.raises(operations.HouseholdError, match="too_many_keys"):
        operations.issue_key(user=user, name="k", scopes=["read"], now=NOW)
    operations.revoke_key(user=user, key_id=queries.keys_of(user)[0].pk, now=NOW)
    operations.issue_key(user=user, name="k", scopes=["read"], now=NOW)


def test_a_demoted_person_loses_the_scopes_of_its_keys(city: City) -> None:
    user = operations.create_person(username="zoe", password=None, role=Role.OPERATOR)
    token = operations.issue_key(user=user, name="k", scopes=["read", "operate"], now=NOW).token
    operations.set_role(user=user, role=Role.HOUSEHOLD, now=NOW)
    assert queries.identify_key(token).scopes == {"read"}
    assert ApiKey.objects.get(user=user).scopes == "read operate"


# --- the memory of identities ----------------------------------------------------------------------------------------
def identity(user_id: int = 1) -> Identity:
    return Identity(user_id, "household", 5, frozenset({"read"}))


def test_identities_are_remembered_for_a_while() -> None:
    now = [0.0]
    cache = IdentityCache(lambda: now[0])
    assert cache.get("a") == (False, None)
    cache.put("a", identity(), cache.generation())
    cache.put("b", None, cache.generation())
    assert cache.get("a") == (True, identity())
    assert cache.get("b") == (True, None)
    now[0] = 60.0
    assert cache.get("a") == (False, None)
    assert cache.get("b") == (False, None)


def test_a_revocation_beats_a_look_up_under_way() -> None:
    cache = IdentityCache(lambda: 0.0)
    begun = cache.generation()
    cache.forget("a")
    cache.put("a", identity(), begun)
    assert cache.get("a") == (False, None)
    cache.put("a", identity(), cache.generation())
    cache.forget_user(2)
    assert cache.get("a") == (True, identity())
    cache.forget_user(1)
    assert cache.get("a") == (False, None)


def test_guessing_does_not_push_real_keys_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from market.households import identities

    monkeypatch.setattr(identities, "MAX_UNKNOWN", 10)
    monkeypatch.setattr(identities, "MAX_KNOWN", 10)
    cache = IdentityCache(lambda: 0.0)
    cache.put("real", identity(), cache.generation())
    for n in range(50):
        cache.put(f"guess{n}", None, cache.generation())
    assert cache.get("real") == (True, identity())
    assert cache.get("guess0") == (False, None)
    for n in range(50):
        cache.put(f"real{n}", identity(), cache.generation())
    assert cache.get("real") == (False, None)
    assert cache.get("real49") == (True, identity())


def test_a_key_that_is_too_long_is_not_even_hashed() -> None:
    assert queries.known_key("sl_" + "x" * keys.MAX_TOKEN_LENGTH) == (True, None)
    assert queries.known_key("pw_" + "x" * 40) == (True, None)
