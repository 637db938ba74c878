"""Web Push: a local push service decrypts what devices would read; what it answers decides about the device."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import http_ece
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import override_settings

from market.disputes.models import Dispute, Step
from market.engine.commands import BUY, SELL
from market.engine.events import TradeRecalled
from market.exchange import operations as exchange_operations
from market.exchange.outcomes import Committed
from market.grid import operations as grid
from market.households import operations as households
from market.households import renewal
from market.households.models import Account, Role, User
from market.notices import addresses, operations, queries, webpush
from market.notices.kinds import CONNECTION, CORRECTION, KINDS, MONEY, SOLD
from market.notices.models import PushDevice, ReadMark
from market.notices.operations import NoticeError, Wanted
from market.notices.service import MAX_FAILURES, PushService
from tests.factories import DEPOSIT_E7, Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)  # 12:00 in the market's zone
HOST = "push.example"


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Browser:
    """A device with keys of its own: it alone can read."""

    def __init__(self, name: str):
        self.endpoint = f"https://{HOST}/send/{name}"
        self._private = ec.generate_private_key(ec.SECP256R1())
        self._auth = b"0123456789abcdef"
        point = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.keys = {"p256dh": text_of(point), "auth": text_of(self._auth)}

    def read(self, body: bytes) -> dict[str, str]:
        plain = http_ece.decrypt(body, private_key=self._private, auth_secret=self._auth, version="aes128gcm")
        found: dict[str, str] = json.loads(plain)
        return found


class Service:
    """A push service on this machine: keeps what it was sent and answers ``status``."""

    def __init__(self) -> None:
        self.status = 201
        self.sent: list[tuple[str, dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.sent.append((self.path, dict(self.headers), body))
                self.send_response(service.status)
                self.send_header("Location", "http://127.0.0.1:9/inside")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def connect(self, endpoint: str) -> http.client.HTTPConnection:
        assert urlsplit(endpoint).hostname == HOST
        return http.client.HTTPConnection("127.0.0.1", self._server.server_port, timeout=5)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service()
    with override_settings(PUSH_SERVICES=[HOST], PUSH_KEY_FILE=tmp_path / "push_key"):
        yield running
    running.close()


class Street:
    """A market with Anna, who has a device, and a push service that runs when it is told."""

    def __init__(self, market: Market, service: Service):
        self.market = market
        self.service = service
        self.now = NOW
        self.anna = households.create_person(username="anna", password=None, language="zh-hans")
        self.account = households.open_account(market.exchange, now=NOW, user=self.anna, area="LV1.1").index
        exchange_operations.fund(market.exchange, account=self.account, amount_e7=DEPOSIT_E7)
        self.browser = Browser("anna")
        self.push = PushService(gather_s=3_600, connect=service.connect, now=lambda: self.now)

    def device(self) -> PushDevice:
        return operations.add_device(
            user=self.anna, endpoint=self.browser.endpoint, name="Phone", now=NOW, **self.browser.keys
        )

    def trade(self, energy_wh: int = 1_000) -> None:
        self.market.place(self.account, SELL, "0.2000", energy_wh)
        self.market.place(self.market.bob, BUY, "0.2000", energy_wh)

    def round(self) -> int:
        with ThreadPoolExecutor(1) as senders:
            return self.push.round(senders)

    def read(self) -> list[dict[str, str]]:
        return [self.browser.read(body) for _, _, body in self.service.sent]


@pytest.fixture
def street(service: Service) -> Iterator[Street]:
    with running_market() as market:
        made = Street(market, service)
        made.device()
        made.push.start()
        yield made
        made.push.stop()


def test_a_sale_reaches_the_device_without_amounts_and_nobody_else_can_read_it(street: Street) -> None:
    street.trade(600)
    street.trade(400)
    assert street.round() == 1  # two trades of a moment are one message
    path, headers, body = street.service.sent[0]
    assert path == "/send/anna"
    assert (headers["Content-Encoding"], headers["Topic"]) == ("aes128gcm", "sold")
    assert int(headers["TTL"]) > 0
    assert street.read() == [{"title": "您卖出了电量", "body": "12:15–12:30 时段。", "url": "/home", "tag": "sold"}]
    with pytest.raises(http_ece.ECEException):
        Browser("eve").read(body)
    assert street.round() == 0


def test_it_is_signed_by_the_market_for_this_service(street: Street) -> None:
    street.trade()
    street.round()
    scheme, _, rest = street.service.sent[0][1]["Authorization"].partition(" ")
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    assert (scheme, fields["k"]) == ("vapid", webpush.public_key())
    signed, _, signature = fields["t"].rpartition(".")
    raw = operations.decoded(signature) or b""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), operations.decoded(fields["k"]) or b"")
    pair = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(pair, signed.encode(), ec.ECDSA(hashes.SHA256()))
    claims = json.loads(operations.decoded(signed.split(".")[1]) or b"")
    assert claims["aud"] == f"https://{HOST}"
    assert claims["sub"].startswith("mailto:")
    assert 0 < claims["exp"] - time.time() <= 24 * 3_600


def test_what_a_person_chose_is_kept_to(street: Street) -> None:
    operations.choose(user=street.anna, wish=Wanted(frozenset({SOLD}), True, 22, 7))
    exchange_operations.fund(street.market.exchange, account=street.account, amount_e7=10**7)
    assert street.round() == 0  # money is none of the kinds
    street.trade()
    street.now = datetime(2026, 6, 6, 21, tzinfo=UTC)  # 23:00 in the market's zone
    assert street.round() == 0
    street.now = NOW
    street.trade(500)
    assert street.round() == 1
    assert street.read()[0]["body"] == "12:15–12:30 时段 500 Wh，€0.10。"


def test_a_halt_is_told_to_those_it_concerns(street: Street) -> None:
    for scope, target in (("area", "LV2.1"), ("account", str(street.market.bob)), ("area", "LV1.1"), ("market", "")):
        exchange_operations.set_halt(street.market.exchange, scope=scope, target=target, on=True, reason="operator")
        street.round()
    assert [message["tag"] for message in street.read()] == [CONNECTION, CONNECTION]


def test_new_limits_are_told(street: Street) -> None:
    olga = households.create_person(username="olga", password=None, role=Role.OPERATOR)
    grid.set_connection(
        street.market.exchange,
        by=olga,
        once="one",
        account=street.account,
        import_w=5_000,
        export_w=5_000,
        reason="planning",
    )
    assert street.round() == 1
    assert street.read()[0]["title"] == "您的并网点有新的限值"


@pytest.mark.parametrize("status", [404, 410])
def test_a_device_that_is_gone_is_forgotten(street: Street, status: int) -> None:
    street.service.status = status
    street.trade()
    street.round()
    assert not PushDevice.objects.exists()
    street.trade()
    assert street.round() == 0


def test_a_busy_service_is_asked_again_and_a_redirect_is_not_followed(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.service.status = 503
    street.trade()
    assert street.round() == 1
    assert street.round() == 0  # not at once
    street.service.status = 201
    later = time.monotonic() + 60
    monkeypatch.setattr("market.notices.service.time.monotonic", lambda: later)
    assert street.round() == 1
    assert PushDevice.objects.get().failures == 0
    street.service.status = 302
    street.trade()
    street.round()
    assert PushDevice.objects.get().failures == 1
    assert len(street.service.sent) == 3


def test_a_device_that_never_takes_anything_is_forgotten(street: Street) -> None:
    street.service.status = 400
    for n in range(MAX_FAILURES):
        assert PushDevice.objects.exists(), n
        street.trade()
        street.round()
    assert not PushDevice.objects.exists()


def test_a_push_service_that_hangs_does_not_delay_trading(street: Street) -> None:
    waiting, go = threading.Event(), threading.Event()

    def hang(endpoint: str) -> http.client.HTTPConnection:
        waiting.set()
        go.wait(20)
        raise OSError("never answered")

    street.push._connect = hang
    street.trade()
    told = threading.Thread(target=street.round)
    told.start()
    try:
        assert waiting.wait(10)
        began = time.monotonic()
        for _ in range(20):
            street.trade(10)
        assert time.monotonic() - began < 5
        assert told.is_alive()
    finally:
        go.set()
        told.join(10)


def test_without_devices_nothing_is_kept(street: Street) -> None:
    PushDevice.objects.all().delete()
    street.push._loaded_s = -1e9
    street.round()
    street.trade()
    assert not street.push._incoming


# --- devices and marks ---------------------------------------------------------------------------------------------------
def test_a_browser_belongs_to_who_asked_last_and_nothing_readable_is_stored(street: Street) -> None:
    bert = households.create_person(username="bert", password=None)
    operations.add_device(user=bert, endpoint=street.browser.endpoint, name="Bert", now=NOW, **street.browser.keys)
    row = PushDevice.objects.get()
    assert (row.user, row.endpoint) == (bert, street.browser.endpoint)
    stored = json.dumps(
        list(PushDevice.objects.extra(select={"e": "endpoint", "n": "name"}).values("e", "n", "digest"))
    )
    assert HOST not in stored
    assert "Bert" not in stored


def test_the_key_is_made_once_and_private(street: Street, tmp_path: Path) -> None:
    first = webpush.public_key()
    webpush._key.cache_clear()
    assert webpush.public_key() == first
    assert (tmp_path / "push_key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [({"endpoint": "https://127.0.0.1/x"}, "endpoint"), ({"p256dh": "AAAA"}, "p256dh"),
     ({"p256dh": text_of(b"\x04" + b"\x01" * 64)}, "p256dh"), ({"auth": "AAAA"}, "auth"), ({"auth": "%"}, "auth")],
)  # fmt: skip
def test_what_is_no_browser_is_refused(street: Street, change: dict[str, str], field: str) -> None:
    asked = {"endpoint": f"https://{HOST}/send/new", **street.browser.keys, **change}
    with pytest.raises(NoticeError) as refused:
        operations.add_device(user=street.anna, name="", now=NOW, **asked)
    assert refused.value.field == field


def test_devices_are_bounded(street: Street) -> None:
    for n in range(operations.MAX_DEVICES - 1):
        browser = Browser(str(n))
        operations.add_device(user=street.anna, endpoint=browser.endpoint, name="", now=NOW, **browser.keys)
    with pytest.raises(NoticeError) as refused:
        operations.add_device(
            user=street.anna, endpoint=Browser("one more").endpoint.replace(" ", "-"), name="", now=NOW,
            **street.browser.keys,
        )  # fmt: skip
    assert refused.value.code == "too_many_devices"
    street.device()  # the same one again takes no other place


def test_a_mark_only_moves_forward(street: Street) -> None:
    street.trade()
    found = queries.told(street.anna)
    assert [notice.kind for notice in found.notices] == [SOLD, MONEY]
    assert found.unread == 2
    operations.read_up_to(user=street.anna, mark=found.notices[0].mark)
    assert queries.told(street.anna).unread == 0
    operations.read_up_to(user=street.anna, mark=found.notices[1].mark)
    assert queries.told(street.anna).unread == 0
    street.market.clock.advance(ms=5)
    street.trade()
    assert queries.told(street.anna).unread == 1


def test_all_of_it_goes_with_the_person(street: Street) -> None:
    operations.read_up_to(user=street.anna, mark="5.5")
    operations.choose(user=street.anna, wish=operations.DEFAULTS)
    pk = street.anna.pk
    Account.objects.filter(user=street.anna).update(user=None)
    User.objects.filter(pk=pk).delete()
    assert not PushDevice.objects.exists()
    assert not ReadMark.objects.exists()
    assert operations.wanted(pk) == operations.DEFAULTS


# --- whose, what and in which order -------------------------------------------------------------------------------------
def test_who_changes_the_number_is_told_of_no_money_and_of_no_limits(street: Street) -> None:
    street.market.clock.advance(minutes=1)
    operations.choose(user=street.anna, wish=Wanted(frozenset(KINDS)))
    street.round()
    street.service.sent.clear()
    before = [notice.what for notice in queries.told(street.anna).notices]
    with override_settings(RENEWAL_DAYS=1):
        renewal.renew_account(street.market.exchange, user=street.anna, now=NOW + timedelta(days=2))
    assert [notice.what for notice in queries.told(street.anna).notices] == before == ["deposit"]
    street.round()
    assert street.read() == []


def test_what_happens_under_an_earlier_number_is_told_too_and_a_halt_once(street: Street) -> None:
    with override_settings(RENEWAL_DAYS=1):
        renewal.renew_account(street.market.exchange, user=street.anna, now=NOW + timedelta(days=2))
    street.push._loaded_s = -1e9
    street.round()
    street.service.sent.clear()
    exchange_operations.set_halt(street.market.exchange, scope="market", target="", on=True, reason="operator")
    assert street.round() == 1
    contract = street.market.contract()
    recalled = TradeRecalled(900, 1, 899, contract, "meter", 500, street.market.bob, street.account, 0, 0)
    street.push._heard(Committed(900, 901, 1, [recalled], None))
    assert street.round() == 1
    assert street.read()[-1]["tag"] == CORRECTION


def test_one_message_a_kind_says_the_newest_or_all_of_it(street: Street) -> None:
    operations.choose(user=street.anna, wish=Wanted(frozenset({SOLD, CONNECTION}), amounts=True))
    for on in (True, False):
        exchange_operations.set_halt(street.market.exchange, scope="market", target="", on=on, reason="operator")
    for ahead in (2, 3):
        contract = street.market.contract(ahead)
        street.market.place(street.account, SELL, "0.2000", 1_000, contract=contract)
        street.market.place(street.market.bob, BUY, "0.2000", 1_000, contract=contract)
    assert street.round() == 2
    told = {message["tag"]: message for message in street.read()}
    assert told[CONNECTION]["title"] == "交易恢复"
    assert told[SOLD]["body"] == "2.00 kWh，€0.40。"


def test_one_bad_address_takes_nothing_from_the_others(street: Street) -> None:
    with override_settings(PUSH_SERVICES=[HOST, "*.push.example"]):
        for name in ("a" * 64, "a.", "a" * 300):
            assert not addresses.allowed(f"https://{name}.push.example/x"), name

    def connect(endpoint: str) -> http.client.HTTPConnection:
        if endpoint.endswith("bad"):
            raise ValueError("what nobody thought of")
        return street.service.connect(endpoint)

    bert = households.create_person(username="bert", password=None)
    households.open_account(street.market.exchange, now=NOW, user=bert, area="LV1.1")
    bad = Browser("bad")
    operations.add_device(user=bert, endpoint=bad.endpoint, name="", now=NOW, **bad.keys)
    street.push._connect = connect
    street.push._loaded_s = -1e9
    street.round()
    exchange_operations.set_halt(street.market.exchange, scope="market", target="", on=True, reason="operator")
    assert street.round() == 2
    assert [message["tag"] for message in street.read()] == [CONNECTION]


def test_a_device_that_was_removed_gets_no_second_try(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    street.service.status = 503
    street.trade()
    assert street.round() == 1
    PushDevice.objects.all().delete()
    later = time.monotonic() + 60
    monkeypatch.setattr("market.notices.service.time.monotonic", lambda: later)
    assert street.round() == 0


def test_who_stops_does_not_wait_for_push_services(street: Street) -> None:
    street.push._stopping.set()
    street.trade()
    street.round()
    assert street.service.sent == []


def test_a_device_is_not_told_of_answers_from_before_it_was_there(street: Street) -> None:
    contract = street.market.contract()
    street.trade()
    account = Account.objects.get(index=street.account)
    dispute = Dispute.objects.create(
        account=account, kind="line", contract=contract, seq=1, opened_at=NOW, steps=2, state="accepted"
    )
    at = datetime.fromtimestamp(street.market.clock.at_ms / 1000, UTC) + timedelta(seconds=1)

    def answer(n: int) -> None:
        Step.objects.create(dispute=dispute, n=n, before="open", after="accepted", at=at, code="accepted")

    street.round()
    PushDevice.objects.all().delete()
    street.push._loaded_s = -1e9
    street.round()
    answer(1)
    street.round()
    street.device()
    street.push._loaded_s = -1e9
    street.service.sent.clear()
    assert street.round() == 0
    answer(2)
    assert street.round() == 1
    assert street.read()[0]["tag"] == "objection"
    assert street.round() == 0


def test_a_second_try_does_not_follow_what_has_happened_since(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    street.service.status = 503
    exchange_operations.set_halt(street.market.exchange, scope="market", target="", on=True, reason="operator")
    assert street.round() == 1
    street.service.status = 201
    exchange_operations.set_halt(street.market.exchange, scope="market", target="", on=False, reason="operator")
    assert street.round() == 1
    later = time.monotonic() + 60
    monkeypatch.setattr("market.notices.service.time.monotonic", lambda: later)
    assert street.round() == 0
    assert street.read()[-1]["title"] == "交易恢复"
