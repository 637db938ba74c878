"""An operator who redoes history: readings other than those a device has signed are found, whatever follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.core.merkle import EMPTY_ROOT
from ledger.core.note import Checkpoint, parse_vkey
from ledger.exports import export
from ledger.files import FolderSource
from ledger.mirror import Mirror, stated
from market.audit import signatures
from market.audit.__main__ import main
from market.engine.contracts import contract_start_ms
from market.exchange.units import at_text
from market.households import devices, operations
from market.metering import committing, intake
from market.metering.formats import jsonbatch
from market.metering.models import Batch, Reading
from market.metering.proofs import Made, Proofs
from tests.factories import Market, running_market

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_keys")]
NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw().hex()


@pytest.fixture
def market() -> Iterator[Market]:
    with running_market(seal_every_s=3_600) as running:
        yield running


def signed_batch(
    market: Market, values: list[dict[str, Any]] | None = None, *, refused: int = 0, register_digits: int = 0
) -> devices.DeviceInfo:
    """Register a signing meter, deliver two contracts, and take and commit its signed batch for both.

    Values that name "inverter" are of a device of that kind.
    """
    exchange = market.exchange
    user = operations.create_person(username="alice", password=None)
    account = operations.open_account(exchange, now=NOW, user=user, area="LV1.1")
    proof = KEY.sign(devices.key_text(account.account_id, PUBLIC)).hex()
    made = devices.register(
        user=user, kind="meter", name="m", rating_w=30_000, now=NOW, now_ms=0, public_key=PUBLIC, proof=proof,
        register_digits=register_digits,
    )  # fmt: skip
    inverter = devices.register(user=user, kind="inverter", name="i", rating_w=30_000, now=NOW, now_ms=0).device
    starts = [at_text(contract_start_ms(market.contract(ahead))) for ahead in (1, 2)]
    market.clock.advance(minutes=46)
    market.member(deposit_e7=0)
    values = [
        value | {"device": inverter.device_id} if value.get("device") == "inverter" else value for value in values or []
    ]
    body = orjson.dumps(
        {"values": values or [{"start": start, "import_wh": 100 + n, "export_wh": n} for n, start in enumerate(starts)]}
    )
    device = devices.live(pk=made.device.pk)
    assert device is not None
    proven = intake.signed(device, body, KEY.sign(devices.readings_text(device.device_id, body)).hex())
    batch = jsonbatch.parse(body, received_ms=exchange.now_ms())
    known = {"": device} | {one.device_id: one for one in devices.of_account(device.account)}
    sent = intake.Sent(batch, known, device.pk, proven)
    taken = intake.take(sent=sent, limits={}, now_ms=exchange.now_ms())
    assert taken.refused == refused
    committing.commit_due(exchange=exchange, now_ms=exchange.now_ms())
    return device


def audit(market: Market, folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    market.exchange.stop()
    export(folder)
    code = main([str(folder), *options])
    out, err = capsys.readouterr()
    return code, out + err


def test_signed_readings_pass(market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = signed_batch(market)
    code, text = audit(market, tmp_path / "log", capsys, "--device-key", f"{device.device_id}={PUBLIC}")
    assert code == 0, text
    assert "signed 2 readings are what their devices signed" in text
    code = main([str(tmp_path / "log"), "--device-key", f"{device.device_id}={OTHER}"])
    assert (code, f"expected its key {OTHER}" in capsys.readouterr().err) == (1, True)


def test_a_redone_reading_is_found(
    market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = committing.ReadingIn
    monkeypatch.setattr(committing, "ReadingIn", lambda account, taken, *rest: honest(account, taken - 5, *rest))
    device = signed_batch(market)
    code, text = audit(market, tmp_path / "log", capsys)
    assert code == 1
    assert f"import_wh: expected 100, which device {device.device_id} has signed, was 95" in text


def test_evidence_changed_or_taken_away(market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signed_batch(market)
    assert audit(market, tmp_path / "log", capsys)[0] == 0
    [file] = (tmp_path / "log" / "evidence").iterdir()
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"v":1', b'"v": 1'))
    assert main([str(tmp_path / "log")]) == 1
    assert "expected the bytes of this hash" in capsys.readouterr().err
    file.unlink()
    assert main([str(tmp_path / "log")]) == 0
    assert "1 signed batches are not in this source" in capsys.readouterr().out


def test_a_follower_takes_the_evidence_along(market: Market, tmp_path: Path) -> None:
    signed_batch(market)
    market.exchange.stop()
    export(tmp_path / "log")
    source = FolderSource(tmp_path / "log")
    note = source("checkpoint")
    key = parse_vkey(source("log.vkey").decode().strip())
    mirror = Mirror(tmp_path / "mirror")
    mirror.fetch(note, Checkpoint(stated(note).origin, 0, EMPTY_ROOT), [key], source)
    [file] = (tmp_path / "log" / "evidence").iterdir()
    assert (tmp_path / "mirror" / "evidence" / file.name).read_bytes() == file.read_bytes()


def test_quarters_made_of_finer_values_and_counters_are_what_was_signed(
    market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (contract_start_ms(market.contract(ahead)) for ahead in (1, 2))
    values: list[dict[str, Any]] = [
        {"start": at_text(first + n * 300_000), "duration_s": 300, "import_wh": n} for n in range(3)
    ]
    values += [
        {"start": at_text(second + n * 900_000), "register": True, "import_wh": 1_000 + 70 * n} for n in range(2)
    ]
    signed_batch(market, values)
    code, text = audit(market, tmp_path / "log", capsys)
    assert (code, "signed 2 readings" in text) == (0, True), text


HONEST = {
    # what is signed, what is taken for the first interval, how many values are refused
    "one signature for meter and inverter": (
        [{"import_wh": 100}, {"import_wh": 0, "export_wh": 500, "device": "inverter"}], (100, 0), 0
    ),
    "a value above the rating": ([{"import_wh": 100}, {"import_wh": 10**8, "revision": 1}], (100, 0), 1),
    "a counter that begins again": (
        [{"import_wh": 99_990, "register": True}, {"import_wh": 20, "register": True, "at": 1}], (30, 0), 0
    ),
    "one time twice": ([{"import_wh": 100}, {"import_wh": 90}], (100, 0), 0),
    "a device nobody knows": ([{"import_wh": 100}, {"import_wh": 7, "device": "f" * 32}], (100, 0), 1),
}  # fmt: skip


@pytest.mark.parametrize("named", [False, True], ids=["as it is written now", "as it was written before"])
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_batch_passes_whatever_is_in_it(
    market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str,
    named: bool,
) -> None:  # fmt: skip
    if named:

        def sources(_self: Proofs, _start_ms: int, made: Mapping[int, Made]) -> dict[int, str]:
            evidence = dict(Batch.objects.values_list("pk", "evidence"))
            return {account: evidence[one.batch] for account, one in made.items()}

        monkeypatch.setattr(Proofs, "sources", sources)
    starts = [at_text(contract_start_ms(market.contract(ahead))) for ahead in (1, 2)]
    values, energies, refused = HONEST[name]
    values = [{"start": starts[value.get("at", 0)], **value} for value in values]
    for value in values:
        value.pop("at", None)
    signed_batch(market, values, refused=refused, register_digits=5)
    reading = Reading.objects.get()
    assert (reading.import_wh, reading.export_wh, bool(reading.source)) == (*energies, named)
    code, text = audit(market, tmp_path / "log", capsys)
    assert code == 0, text
    assert ("signed 0 readings" in text and "1 are not comparable" in text) == named


def test_what_was_signed_for_another_account_is_no_proof(
    market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person has another number by the time the values of a device become readings."""
    sign = intake.signed
    monkeypatch.setattr(intake, "signed", lambda device, *rest: sign(device._replace(account_id="0" * 32), *rest))
    signed_batch(market)
    assert set(Reading.objects.values_list("source", flat=True)) == {""}
    assert audit(market, tmp_path / "log", capsys)[0] == 0


def test_both_sides_sign_the_same_text() -> None:
    assert devices.READINGS_DOMAIN.decode() == signatures.READINGS_DOMAIN
    data = orjson.dumps({"account": "a", "batch": "", "device": "d", "key": PUBLIC, "signature": "00" * 64, "v": 1})
    for changed in (b"", b"[]", b"{}", b"[" * 100_000, data):
        sha256 = signatures.hashlib.sha256(changed).hexdigest()
        assert isinstance(signatures.evidence(changed, sha256, {}), str)
