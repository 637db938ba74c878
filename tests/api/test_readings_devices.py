"""`POST /api/v1/readings` by devices: each value is judged by itself, the homes' readings follow on the ledger."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import queries as ledger
from ledger.core.encoding import decode
from market.api import shapes
from market.engine.contracts import contract_start_ms
from market.exchange.units import at_text
from market.households import devices, queries
from market.metering.committing import commit_due
from market.metering.models import Batch, DeviceValue, Reading
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/readings"
MINUTE_MS = 60_000
METER = {"kind": "meter", "name": "cellar", "rating_w": 30_000}


@pytest.fixture(scope="module")
def delivered(city: City) -> list[str]:
    """Three contracts whose energy has flowed."""
    names = [city.market.contract(ahead) for ahead in (1, 2, 3)]
    city.market.clock.advance(minutes=61)
    deadline = time.monotonic() + 10
    while any(city.exchange.read(lambda e, n=name: e.contracts[n].state) != "delivered" for name in names):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return names


class Meter:
    """A device with its key."""

    def __init__(self, person: Person, key: Ed25519PrivateKey | None = None, **fields: Any):
        self.person = person
        self.key = key
        body = METER | fields
        if key is not None:
            public = key.public_key().public_bytes_raw().hex()
            info = queries.account_at(person.account)
            body |= {"public_key": public, "proof": key.sign(devices.key_text(info.account_id, public)).hex()}
        made = shaped(person.by_hand("POST", "/api/v1/me/devices", json=body), shapes.DeviceAnswer, 201)
        self.id, self.token = made.device.device, made.token

    def post(self, *values: dict[str, Any], status: int = 200) -> Any:
        response = self.person.request("POST", PATH, key=self.token, json={"values": list(values)})
        return shaped(response, shapes.ReadingsAnswer, status)

    def sign(self, content: bytes, *, device: str = "", **headers: str) -> Any:
        """Send bytes under the device's signature."""
        signature = self.key.sign(devices.readings_text(self.id, content)).hex()
        headers = {
            "Device": device or self.id,
            "Device-Signature": signature,
            "Content-Type": "application/json",
        } | headers
        return self.person.city.request("POST", PATH, content=content, headers=headers)


def at(contract: str, minutes: int = 0) -> str:
    return at_text(contract_start_ms(contract) + minutes * MINUTE_MS)


def verdicts(answer: Any) -> list[tuple[str, int, int]]:
    return [(one.code, one.first, one.count) for one in answer.verdicts]


def reading(person: Person, contract: str) -> Reading | None:
    rows = Reading.objects.filter(account=person.account, start_ms=contract_start_ms(contract))
    return rows.order_by("-version").first()


def test_values_become_readings_on_the_ledger(city: City, delivered: list[str]) -> None:
    anna = city.person("anna", area="LV1.1")
    meter = Meter(anna)
    done = meter.post({"start": at(delivered[0]), "import_wh": 120, "export_wh": 30})
    assert (done.accepted, done.refused, verdicts(done)) == (1, 0, [("accepted", 0, 1)])
    [row] = ledger.rows(done.seq)
    fields = decode(row)
    assert (fields["account"], fields["contract"], fields["import_wh"], fields["export_wh"], fields["quality"]) == (
        anna.account, delivered[0], 120, 30, "measured",
    )  # fmt: skip
    again = meter.post({"start": at(delivered[0]), "import_wh": 120, "export_wh": 30})
    assert (again.accepted, again.duplicates, again.seq) == (0, 1, None)
    late = meter.post({"start": at(delivered[0]), "import_wh": 90, "revision": 2})
    assert (late.corrected, verdicts(late)) == (1, [("corrected", 0, 1)])
    assert late.seq is not None
    older = meter.post({"start": at(delivered[0]), "import_wh": 70, "revision": 1})
    assert (verdicts(older), older.seq) == ([("superseded", 0, 1)], None)
    found = shaped(anna.get("/api/v1/me/readings", start=at(delivered[0])), shapes.MyReadingPage).results
    assert [(one.import_wh, one.quality, one.reason, one.version) for one in found] == [(90, "corrected", "revised", 1)]


def test_each_value_is_judged_by_itself(city: City, delivered: list[str]) -> None:
    meter = Meter(city.person("bert", area="LV1.1"))
    done = meter.post(
        {"start": at(delivered[0]), "import_wh": 1},
        {"start": at(delivered[1]), "import_wh": 2},
        {"start": at(delivered[1]), "import_wh": 2},
        {"start": at(delivered[2]), "import_wh": 10**9},
        {"start": at(delivered[2], 24 * 60), "import_wh": 1},
        {"start": "2001-01-01T00:00:00Z", "import_wh": 1},
        {"start": at(delivered[2])[:-7] + "01.000Z", "import_wh": 1},
        {"start": at(delivered[2]), "import_wh": 1, "device": "0" * 32},
        {"start": at(delivered[2]), "import_wh": 3},
    )
    assert verdicts(done) == [
        ("accepted", 0, 2), ("duplicate", 2, 1), ("above_rating", 3, 1), ("clock_ahead", 4, 1), ("too_old", 5, 1),
        ("off_grid", 6, 1), ("unknown_device", 7, 1), ("accepted", 8, 1),
    ]  # fmt: skip
    assert (done.accepted, done.duplicates, done.refused) == (3, 1, 5)


def test_above_what_the_connection_may_give(city: City, olga: Person, delivered: list[str]) -> None:
    cora = city.person("cora", area="LV1.1")
    roof = Meter(cora, kind="inverter", rating_w=4_000)
    olga.request("PUT", f"/api/v1/operator/devices/{roof.id}", json={"confirmed": True})
    meter = Meter(cora)
    assert verdicts(meter.post({"start": at(delivered[0]), "import_wh": 0, "export_wh": 1_200})) == [
        ("above_connection", 0, 1)
    ]
    assert meter.post({"start": at(delivered[0]), "import_wh": 0, "export_wh": 1_000}).accepted == 1


def test_csv_by_a_device_and_counters(city: City, delivered: list[str]) -> None:
    dora = city.person("dora", area="LV1.2")
    meter = Meter(dora)
    text = "start;register;import_kwh\n" + "".join(
        f"{at(contract)};1;{kwh}\n" for contract, kwh in zip(delivered, ("10,000", "10,250", "10,600"), strict=True)
    )
    headers = {"Content-Type": "text/csv; charset=utf-8"}
    response = dora.request("POST", PATH, key=meter.token, content=text.encode(), headers=headers)
    assert shaped(response, shapes.ReadingsAnswer).accepted == 3
    assert [reading(dora, name).import_wh for name in delivered[:2]] == [250, 350]
    assert reading(dora, delivered[2]) is None
    bad = dora.request("POST", PATH, key=meter.token, content="start\n".encode("utf-16"), headers=headers)
    refused(bad, 422, "encoding")
    bad = dora.request("POST", PATH, key=meter.token, content=b"start,import_wh\nx,1\n", headers=headers)
    refused(bad, 422, "invalid_value", "line 2: start")


def test_a_home_waits_for_all_of_its_meters_and_knows_what_it_made(city: City, delivered: list[str]) -> None:
    eva = city.person("eva", area="LV1.1")
    first, second, roof = Meter(eva), Meter(eva), Meter(eva, kind="inverter", rating_w=9_000)
    first.post({"start": at(delivered[0]), "import_wh": 100})
    assert reading(eva, delivered[0]) is None
    roof.post({"start": at(delivered[0]), "import_wh": 0, "export_wh": 700})
    second.post({"start": at(delivered[0]), "import_wh": 0, "export_wh": 40})
    found = reading(eva, delivered[0])
    assert (found.import_wh, found.export_wh, found.produced_wh, found.used_wh) == (100, 40, 700, 760)


def test_an_hour_is_split_and_the_quarters_that_come_later_replace_it(city: City, delivered: list[str]) -> None:
    fritz = city.person("fritz", area="LV1.1")
    meter = Meter(fritz)
    meter.post({"start": at(delivered[0]), "import_wh": 300, "duration_s": 2_700})
    assert [(reading(fritz, n).import_wh, reading(fritz, n).quality, reading(fritz, n).reason) for n in delivered] == [
        (100, "estimated", "split")
    ] * 3
    meter.post({"start": at(delivered[1]), "import_wh": 150})
    found = [(reading(fritz, n).import_wh, reading(fritz, n).quality) for n in delivered]
    assert found == [(100, "estimated"), (150, "measured"), (100, "estimated")]


def test_who_may_send_for_whom(city: City, delivered: list[str]) -> None:
    gina, hans = city.person("gina", area="LV1.1"), city.person("hans", area="LV1.1")
    mine, other, stranger = Meter(gina), Meter(gina), Meter(hans)
    value = {"start": at(delivered[0]), "import_wh": 1}
    assert verdicts(mine.post(value | {"device": other.id})) == [("unknown_device", 0, 1)]
    assert verdicts(mine.post(value | {"device": stranger.id})) == [("unknown_device", 0, 1)]
    by_person = gina.request(
        "POST", PATH, json={"values": [value | {"device": one.id} for one in (mine, other, stranger)]}
    )
    assert verdicts(shaped(by_person, shapes.ReadingsAnswer)) == [("accepted", 0, 2), ("unknown_device", 2, 1)]
    refused(gina.request("POST", PATH, json={"readings": [{"contract": delivered[0], "import_wh": 1, "export_wh": 0}]}), 409,
            "metered_by_device", "readings")  # fmt: skip
    refused(gina.request("POST", PATH, json={}), 400, "missing_field", "readings")
    gina.by_hand("DELETE", f"/api/v1/me/devices/{other.id}")
    by_person = gina.request("POST", PATH, json={"values": [value | {"device": other.id}]})
    assert verdicts(shaped(by_person, shapes.ReadingsAnswer)) == [("unknown_device", 0, 1)]


@pytest.mark.parametrize("kind", ["charger", "inverter", "battery", "meter"])
def test_a_devices_key_never_reports_the_home(city: City, delivered: list[str], kind: str) -> None:
    iris = city.person(f"iris-{kind}", area="LV1.1")
    device = Meter(iris, kind=kind)
    whole = {"readings": [{"contract": delivered[0], "import_wh": 0, "export_wh": 9_000}]}
    refused(iris.request("POST", PATH, key=device.token, json=whole), 403, "forbidden")
    assert reading(iris, delivered[0]) is None


def test_a_signed_batch_is_kept_where_its_rows_name_it(city: City, rita: Person, delivered: list[str]) -> None:
    ida = city.person("ida", area="LV1.1")
    meter = Meter(ida, Ed25519PrivateKey.generate())
    body = b'{"values":[{"start":"%s","import_wh":12}]}' % at(delivered[0]).encode()
    done = shaped(meter.sign(body), shapes.ReadingsAnswer)
    [row] = ledger.rows(done.seq)
    source = decode(row)["source"]
    served = rita.request("GET", f"/ledger/evidence/{source}")
    assert served.status_code == 200
    evidence = served.json()
    assert (evidence["device"], evidence["account"]) == (meter.id, queries.account_at(ida.account).account_id)
    assert city.request("GET", f"/ledger/evidence/{source}").status_code in (401, 403)
    by_key = Meter(city.person("jana", area="LV1.1")).post({"start": at(delivered[0]), "import_wh": 12})
    assert "source" not in decode(ledger.rows(by_key.seq)[-1])


def test_a_signature_opens_only_what_it_was_made_for(city: City, delivered: list[str]) -> None:
    karl = city.person("karl", area="LV1.1")
    meter, other = Meter(karl, Ed25519PrivateKey.generate()), Meter(karl, Ed25519PrivateKey.generate())
    body = b'{"values":[{"start":"%s","import_wh":12}]}' % at(delivered[0]).encode()
    signed = meter.key.sign(devices.readings_text(meter.id, body)).hex()
    bare = meter.key.sign(body).hex()
    for changed, headers, field in [
        (body.replace(b"12}", b"13}"), {"Device-Signature": signed}, "Device-Signature"),
        (body + b" ", {"Device-Signature": signed}, "Device-Signature"),
        (body, {"Device-Signature": signed, "Device": other.id}, "Device-Signature"),
        (body, {"Device-Signature": bare}, "Device-Signature"),
        (body, {"Device-Signature": "00" * 64}, "Device-Signature"),
        (body, {"Device-Signature": signed.upper()}, "Device-Signature"),
    ]:
        refused(meter.sign(changed, **headers), 401, "signature_invalid", field)
    refused(meter.sign(body, device="0" * 32), 401, "unknown_device", "Device")
    assert not DeviceValue.objects.filter(account=karl.account).exists()
    karl.by_hand("DELETE", f"/api/v1/me/devices/{meter.id}")
    refused(meter.sign(body), 401, "unknown_device", "Device")


def test_what_is_not_over_yet_waits_for_its_delivery(city: City, delivered: list[str]) -> None:
    lena = city.person("lena", area="LV2.1")
    meter = Meter(lena)
    now_ms = city.exchange.now_ms()
    start_ms = now_ms - now_ms % (15 * MINUTE_MS)
    done = meter.post({"start": at_text(start_ms), "import_wh": 7, "duration_s": 60})
    assert (done.accepted, done.seq) == (1, None)
    assert Batch.objects.filter(committed_ms=None).exists()
    old = meter.post({"start": at(delivered[0], -24 * 60), "import_wh": 7})  # before the market began
    assert (old.accepted, old.seq) == (1, None)
    waiting = Batch.objects.get(committed_ms=None, device=devices.by_ids({meter.id})[meter.id].pk)
    assert waiting.due_ms == start_ms + 15 * MINUTE_MS  # and nobody looks at it before
    commit_due(exchange=city.exchange, now_ms=city.exchange.now_ms())
    waiting.refresh_from_db()
    assert waiting.committed_ms is None


def test_one_home_that_cannot_be_recorded_keeps_no_other_out(city: City, delivered: list[str]) -> None:
    plant = Meter(city.person("otto", area="LV1.1"), rating_w=10**9)  # its quarter hour is more than any connection's
    neighbour = Meter(city.person("paul", area="LV1.1"))
    old = [{"start": at(delivered[1], -24 * 60 * n), "import_wh": 1} for n in range(1, 201)]
    plant.post({"start": at(delivered[1]), "import_wh": 20_000_000}, *old)
    neighbour.post({"start": at(delivered[1]), "import_wh": 20}, *old)
    commit_due(exchange=city.exchange, now_ms=city.exchange.now_ms())
    assert reading(plant.person, delivered[1]) is None
    assert reading(neighbour.person, delivered[1]).import_wh == 20
    pks = [one.pk for one in devices.by_ids({plant.id, neighbour.id}).values()]
    assert not Batch.objects.filter(committed_ms=None, device__in=pks).exists()


def test_a_large_batch_is_taken_at_once_and_committed_after(city: City, delivered: list[str]) -> None:
    mia = city.person("mia", area="LV1.1")
    meter = Meter(mia)
    first_ms = contract_start_ms(delivered[0])
    values = [
        {"start": at_text(first_ms - n * 15 * MINUTE_MS), "import_wh": n} for n in range(250)
    ]  # fmt: skip
    done = meter.post(*values)
    assert (done.accepted, done.seq, verdicts(done)) == (250, None, [("accepted", 0, 250)])
    assert reading(mia, delivered[0]) is None
    assert commit_due(exchange=city.exchange, now_ms=city.exchange.now_ms()).readings >= 1
    assert reading(mia, delivered[0]).import_wh == 0
    refused(mia.request("POST", PATH, key=meter.token, json={"values": [values[0]] * 10_001}), 422, "too_many_readings",
            "values")  # fmt: skip
