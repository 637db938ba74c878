"""`/api/v1/me/devices` and the grid operator's side: a device's key opens its readings only, and is void at once when lost."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import override_settings

from market.api import shapes
from market.grid import devices as grid_devices
from market.households import devices, erasure, keys, queries, renewal
from market.households.models import ApiKey, Device
from market.households.operations import HouseholdError
from tests.api.conftest import NOW, City, Person, refused, shaped
from tests.bank import pay_out

PATH = "/api/v1/me/devices"
INVERTER = {"kind": "inverter", "name": "roof", "rating_w": 8_000}
METER = {"kind": "meter", "name": "cellar", "rating_w": 30_000}
LOW_ORDER = "0100000000000000000000000000000000000000000000000000000000000000"  # the neutral element
NOT_REDUCED = "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"  # y = p, another spelling of 0


class Killed(BaseException):
    """A process that ends in the middle."""


def register(person: Person, status: int = 201, **fields: Any) -> Any:
    return shaped(person.by_hand("POST", PATH, json=METER | fields), shapes.DeviceAnswer, status)


def signer(person: Person) -> tuple[Ed25519PrivateKey, dict[str, str]]:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    info = queries.account_at(person.account)
    return key, {"public_key": public, "proof": key.sign(devices.key_text(info.account_id, public)).hex()}


def test_a_devices_key_opens_nothing_but_its_readings(city: City, alice: Person) -> None:
    made = register(alice)
    assert made.token.startswith(keys.PREFIX)
    for method, path in (("GET", "/api/v1/me"), ("GET", PATH), ("POST", PATH), ("POST", "/api/v1/orders"),
                         ("DELETE", f"{PATH}/{made.device.device}"), ("GET", "/api/v1/orders")):  # fmt: skip
        response = alice.request(method, path, key=made.token, json=METER)
        assert response.status_code == 403, (method, path, response.text)
    assert queries.identify_key(made.token).scopes == {"readings:write"}
    listed = shaped(alice.get(PATH), shapes.DevicePage).results
    assert made.device in listed
    assert made.token not in alice.get(PATH).text
    assert not any(key.device_id for key in queries.keys_of(alice.user))


def test_a_lost_device_is_shut_out_at_once(city: City, alice: Person) -> None:
    made = register(alice)
    assert queries.identify_key(made.token) is not None
    gone = shaped(alice.by_hand("DELETE", f"{PATH}/{made.device.device}"), shapes.Device)
    assert gone.revoked
    assert queries.identify_key(made.token) is None
    refused(alice.request("POST", "/api/v1/readings", key=made.token, json={}), 401, "invalid_key")
    refused(alice.by_hand("DELETE", f"{PATH}/{made.device.device}"), 404, "unknown_device", "device")


def test_a_new_key_voids_the_old_one(city: City, alice: Person) -> None:
    made = register(alice)
    path = f"{PATH}/{made.device.device}/key"
    again = shaped(alice.by_hand("POST", path, json={}), shapes.DeviceAnswer)
    assert again.token and again.token != made.token
    assert queries.identify_key(made.token) is None
    assert queries.identify_key(again.token).device == Device.objects.get(device_id=made.device.device).pk
    signed = shaped(alice.by_hand("POST", path, json=signer(alice)[1]), shapes.DeviceAnswer)
    assert signed.token is None and signed.device.public_key
    assert queries.identify_key(again.token) is None


def test_the_same_request_registers_once(city: City, alice: Person) -> None:
    first, second = (
        shaped(
            alice.by_hand("POST", PATH, json=METER, headers={"Idempotency-Key": "one-meter"}), shapes.DeviceAnswer, 201
        )
        for _ in range(2)
    )
    assert first.device == second.device
    assert first.token and second.token is None
    assert Device.objects.filter(user=alice.user, once="one-meter").count() == 1


@pytest.mark.parametrize(
    "change",
    [{"kind": "inverter"}, {"name": "attic"}, {"rating_w": 9_999}, {"register_digits": 6}],
    ids=lambda change: next(iter(change)),
)
def test_another_request_under_the_same_name_is_a_conflict(city: City, alice: Person, change: dict[str, Any]) -> None:
    [field] = change
    headers = {"Idempotency-Key": f"meter-{field}"}
    shaped(alice.by_hand("POST", PATH, json=METER, headers=headers), shapes.DeviceAnswer, 201)
    other = alice.by_hand("POST", PATH, json=METER | change, headers=headers)
    refused(other, 409, "idempotency_conflict", field)
    signed = alice.by_hand("POST", PATH, json=METER | signer(alice)[1], headers=headers)
    refused(signed, 409, "idempotency_conflict", "public_key")


def test_a_key_mints_no_keys(city: City, alice: Person) -> None:
    made = register(alice)
    path, before = f"{PATH}/{made.device.device}", ApiKey.objects.count()
    for key in (alice.key, alice.key_for("readings:write")):
        refused(alice.request("POST", PATH, json=METER, key=key), 403, "forbidden")
        refused(alice.request("POST", f"{path}/key", json={}, key=key), 403, "forbidden")
        refused(alice.request("DELETE", path, key=key), 403, "forbidden")
    assert ApiKey.objects.count() == before + 1  # the one with a single scope, made here
    assert queries.identify_key(made.token) is not None


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"name": " "}, "invalid_value", "name"),
        ({"name": "x" * 81}, "invalid_value", "name"),
        ({"rating_w": 0}, "invalid_value", "rating_w"),
        ({"rating_w": 10**12}, "invalid_value", "rating_w"),
        ({"register_digits": 16}, "invalid_value", "register_digits"),
        ({"public_key": "00"}, "invalid_value", "public_key"),
        ({"public_key": LOW_ORDER, "proof": "00" * 64}, "invalid_value", "public_key"),
        ({"public_key": NOT_REDUCED, "proof": "00" * 64}, "invalid_value", "public_key"),
    ],
)
def test_what_cannot_be_registered(city: City, alice: Person, change: dict[str, Any], code: str, field: str) -> None:
    before = Device.objects.count()
    refused(alice.by_hand("POST", PATH, json=METER | change), 422, code, field)
    assert Device.objects.count() == before


def test_a_key_needs_its_proof_and_belongs_to_one_device(city: City, alice: Person, bob: Person) -> None:
    _key, fields = signer(alice)
    other = signer(bob)[1]
    refused(
        alice.by_hand("POST", PATH, json=METER | fields | {"proof": other["proof"]}), 422, "signature_invalid", "proof"
    )
    refused(alice.by_hand("POST", PATH, json=METER | {**fields, "public_key": fields["public_key"].upper()}), 422,
            "invalid_value", "public_key")  # fmt: skip
    made = register(alice, **fields)
    assert made.token is None and made.device.public_key == fields["public_key"]
    refused(alice.by_hand("POST", PATH, json=METER | fields), 422, "key_taken", "public_key")


def test_who_may_not(city: City, olga: Person) -> None:
    refused(city.nora.by_hand("POST", PATH, json=METER), 403, "no_account")
    refused(olga.by_hand("POST", PATH, json=METER), 403, "missing_scope")
    refused(city.alice.request("POST", PATH, json=METER, key=city.alice.key_for("trade")), 403, "forbidden")
    refused(city.alice.by_hand("POST", PATH, json=METER | {"kind": "substation"}), 422, "invalid_value", "kind")
    refused(city.alice.by_hand("DELETE", f"{PATH}/x"), 404, "unknown_device", "device")
    stranger = register(city.alice).device.device
    refused(city.bob.by_hand("DELETE", f"{PATH}/{stranger}"), 404, "unknown_device", "device")


def export_w(city: City, person: Person) -> int:
    return city.exchange.read(lambda engine: engine.accounts[person.account].export_w)


def test_an_inverters_rating_is_confirmed_and_becomes_the_connections_limit(city: City, olga: Person) -> None:
    ivan = city.person("ivan", area="LV1.2")
    first = register(ivan, **INVERTER).device.device
    waiting = shaped(olga.get("/api/v1/operator/devices"), shapes.WaitingDevicePage).results
    assert [(one.account, one.area, one.rating_w) for one in waiting if one.device == first] == [
        (ivan.account, "LV1.2", 8_000)
    ]
    refused(ivan.get("/api/v1/operator/devices"), 403, "forbidden")
    refused(ivan.request("PUT", f"/api/v1/operator/devices/{first}", json={"confirmed": True}), 403, "forbidden")
    assert export_w(city, ivan) == 0
    put = olga.request("PUT", f"/api/v1/operator/devices/{first}", json={"confirmed": True})
    assert shaped(put, shapes.DeviceDecision).seq is not None
    assert export_w(city, ivan) == 8_000
    refused(olga.request("PUT", f"/api/v1/operator/devices/{first}", json={"confirmed": True}), 409, "already_decided",
            "device")  # fmt: skip
    second = register(ivan, **INVERTER | {"rating_w": 2_000}).device.device
    olga.request("PUT", f"/api/v1/operator/devices/{second}", json={"confirmed": True})
    assert export_w(city, ivan) == 10_000
    third = register(ivan, **INVERTER).device.device
    put = olga.request("PUT", f"/api/v1/operator/devices/{third}", json={"confirmed": False})
    assert shaped(put, shapes.DeviceDecision).seq is None
    assert export_w(city, ivan) == 10_000
    states = {one.device: one.confirmed for one in shaped(ivan.get(PATH), shapes.DevicePage).results}
    assert states == {first: True, second: True, third: False}


def waiting_inverters(person: Person, *ratings_w: int) -> list[str]:
    return [register(person, **INVERTER | {"rating_w": rating_w}).device.device for rating_w in ratings_w]


def test_two_inverters_confirmed_at_once_both_count(city: City, olga: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    zoe = city.person("zoe", area="LV1.1")
    paths = [f"/api/v1/operator/devices/{one}" for one in waiting_inverters(zoe, 5_000, 3_000)]
    other = threading.Thread(target=olga.request, args=("PUT", paths[1]), kwargs={"json": {"confirmed": True}})
    honest = grid_devices.set_connection

    def slow(*args: Any, **how: Any) -> Any:
        if other.ident is None:
            other.start()
            other.join(0.5)
        return honest(*args, **how)

    monkeypatch.setattr(grid_devices, "set_connection", slow)
    shaped(olga.request("PUT", paths[0], json={"confirmed": True}), shapes.DeviceDecision)
    other.join(30)
    assert export_w(city, zoe) == 8_000


@pytest.mark.parametrize("step", ["set_connection", "decide"])
def test_a_decision_that_was_cut_short_is_made_again(city: City, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    person = city.person(f"cut-{step}", area="LV1.1")
    [device] = waiting_inverters(person, 4_000)

    def killed(*_args: Any, **_how: Any) -> None:
        raise Killed

    def confirm() -> Any:
        return grid_devices.confirm(city.exchange, by=city.olga.user, device_id=device, now=NOW)

    with monkeypatch.context() as patch:
        patch.setattr(grid_devices if step == "set_connection" else devices, step, killed)
        with pytest.raises(Killed):
            confirm()
    assert device in [one.device_id for one, _account, _area in devices.waiting()]
    confirm()
    assert (export_w(city, person), Device.objects.get(device_id=device).confirmed) == (4_000, True)
    with pytest.raises(HouseholdError, match="already_decided"):
        confirm()


def test_what_is_confirmed_without_its_limit_can_be_confirmed_again(city: City, olga: Person) -> None:
    ruth = city.person("ruth", area="LV1.1")
    [device] = waiting_inverters(ruth, 4_000)
    path = f"/api/v1/operator/devices/{device}"
    Device.objects.filter(device_id=device).update(decided_at=NOW, confirmed=True)
    assert shaped(olga.request("PUT", path, json={"confirmed": True}), shapes.DeviceDecision).seq is not None
    assert export_w(city, ruth) == 4_000
    refused(olga.request("PUT", path, json={"confirmed": True}), 409, "already_decided", "device")
    refused(olga.request("PUT", path, json={"confirmed": False}), 409, "already_decided", "device")


def test_what_is_turned_down_meanwhile_leaves_the_limit_as_it_was(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    uwe = city.person("uwe", area="LV1.1")
    [device] = waiting_inverters(uwe, 4_000)
    honest = devices.decide

    def second(**how: Any) -> Any:
        honest(**how | {"confirmed": False})
        return honest(**how)

    monkeypatch.setattr(devices, "decide", second)
    with pytest.raises(HouseholdError, match="already_decided"):
        grid_devices.confirm(city.exchange, by=city.olga.user, device_id=device, now=NOW)
    assert export_w(city, uwe) == 0


def test_substation_meters_are_the_operators(city: City, olga: Person) -> None:
    body = {"area": "LV1.1", "name": "street", "rating_w": 400_000}
    refused(city.alice.request("POST", "/api/v1/operator/substations", json=body), 403, "forbidden")
    refused(
        olga.by_hand("POST", "/api/v1/operator/substations", json=body | {"area": "LV9"}), 422, "unknown_area", "area"
    )
    refused(olga.request("POST", "/api/v1/operator/substations", json=body), 403, "forbidden")
    assert not devices.substations("LV1.1"), "a key makes no keys"
    made = shaped(olga.by_hand("POST", "/api/v1/operator/substations", json=body), shapes.DeviceAnswer, 201)
    assert made.device.kind == "substation"
    assert queries.identify_key(made.token).scopes == {"readings:write"}
    assert [one.area for one in devices.substations("LV1.1")] == ["LV1.1"]
    path = f"/api/v1/operator/substations/{made.device.device}"
    refused(city.alice.request("DELETE", path), 403, "forbidden")
    refused(city.sam.request("DELETE", path), 403, "forbidden")
    assert shaped(city.sam.by_hand("DELETE", path), shapes.Device).revoked
    assert queries.identify_key(made.token) is None
    refused(olga.by_hand("DELETE", path), 404, "unknown_device", "device")


def test_too_many(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MAX_DEVICES", 2)
    mia = city.person("mia", area="LV1.1")
    register(mia)
    register(mia)
    refused(mia.by_hand("POST", PATH, json=METER), 422, "too_many_devices", "device")


def test_what_an_erased_person_had_is_gone(city: City) -> None:
    emil = city.person("emil", area="LV1.1")
    made = register(emil)
    pay_out(city.exchange, user=emil.user, now=NOW)
    erasure.erase(user=emil.user)
    assert not Device.objects.filter(device_id=made.device.device).exists()
    assert not ApiKey.objects.filter(prefix=made.token[: keys.SHOWN_LENGTH]).exists()
    assert queries.identify_key(made.token) is None


def test_a_new_account_number_takes_the_devices_along_but_not_their_keys_names(city: City) -> None:
    rosa = city.person("rosa", area="LV1.1")
    token = register(rosa).token
    signed = register(rosa, **signer(rosa)[1]).device
    assert signed.public_key
    with override_settings(RENEWAL_DAYS=1):
        new = renewal.renew_account(city.exchange, user=rosa.user, now=NOW + timedelta(days=2))
    assert queries.identify_key(token).account_index == new.index
    assert devices.by_ids({signed.device})[signed.device].public_key == ""
