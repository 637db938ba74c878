"""Notices: what counts as news, what is one of them, when devices stay silent, where messages may go."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from django.test import override_settings

from market.notices import addresses, kinds
from market.notices.addresses import Forbidden, allowed, public_address
from market.notices.kinds import Notice, mark_of, together
from market.notices.operations import Wanted
from market.notices.words import text, title

NOON, LATER = "2026-06-06T10:00Z", "2026-06-06T10:15Z"


def notice(kind: str, what: str, seq: int, contract: str = NOON, energy_wh: int = 100, amount_e7: int = 7) -> Notice:
    return Notice(kind, what, 1_000 + seq, seq, contract, energy_wh, amount_e7)


def test_alike_things_of_an_interval_are_one_notice() -> None:
    first, second = notice(kinds.SOLD, "", 1), notice(kinds.SOLD, "", 3)
    other = notice(kinds.SOLD, "", 2, LATER)
    found = together([other, first, second])
    assert [(one.seq, one.energy_wh, one.amount_e7, one.count) for one in found] == [(3, 200, 14, 2), (2, 100, 7, 1)]


def test_money_of_a_day_is_one_notice_and_what_has_no_interval_stays_alone() -> None:
    money = [notice(kinds.MONEY, "settled", 1), notice(kinds.MONEY, "settled", 2, LATER)]
    halts = [notice(kinds.CONNECTION, "halted", 3, ""), notice(kinds.CONNECTION, "halted", 4, "")]
    assert [(one.seq, one.amount_e7) for one in together(money + halts)] == [(4, 7), (3, 7), (2, 14)]


@pytest.mark.parametrize(
    ("reason", "what"),
    [("owner", ""), ("ioc", ""), ("gate", "expired"), ("expired", "expired"), ("self_trade", "self_trade"),
     ("kill", "taken_back"), ("operator", "taken_back")],
)  # fmt: skip
def test_which_cancellations_are_news(reason: str, what: str) -> None:
    assert kinds.cancelled(reason) == what


@pytest.mark.parametrize("mark", ["", "5", "5.", ".5", "5.x", "-1.5", "5.5.5", "٣.4", f"{2**53}.0", "1" * 41 + ".1"])
def test_what_is_no_mark(mark: str) -> None:
    with pytest.raises(ValueError, match="expected a mark"):
        mark_of(mark)
    assert mark_of(notice(kinds.SOLD, "", 9).mark) == (1_009, 9)


@pytest.mark.parametrize(
    ("quiet", "hour", "silent"),
    [((None, None), 3, False), ((22, 7), 23, True), ((22, 7), 6, True), ((22, 7), 7, False), ((22, 7), 12, False),
     ((12, 14), 13, True), ((12, 14), 14, False), ((8, 8), 8, False)],
)  # fmt: skip
def test_quiet_hours(quiet: tuple[int | None, int | None], hour: int, silent: bool) -> None:
    assert Wanted(frozenset(), False, *quiet).quiet_at(hour) is silent


def test_without_amounts_no_number_is_said() -> None:
    sold = Notice(kinds.SOLD, "", 1, 1, NOON, 3_240, 9_000_000)
    assert title(sold) == "You sold energy"
    assert text(sold) == "3.24 kWh for 12:00–12:15, €0.90."
    assert text(sold, amounts=False) == "For 12:00–12:15."
    for kind, what in [(kinds.MONEY, "settled"), (kinds.MONEY, "deposit"), (kinds.CORRECTION, "settled")]:
        said = title(Notice(kind, what, 1, 1, NOON, 3_240, 9_000_000)) + text(
            Notice(kind, what, 1, 1, NOON, 3_240, 9_000_000), amounts=False
        )
        assert "0.9" not in said and "3.24" not in said


def test_money_says_when_security_is_in_it() -> None:
    sold, left_over = (Notice(kinds.MONEY, "settled", 1, 1, NOON, sold_wh, 9_000_000) for sold_wh in (100, 0))
    assert text(sold) == "€0.90 for Sat, 6 Jun, security given back included."
    assert text(left_over) == "€0.90 for Sat, 6 Jun."


# --- where messages may go -----------------------------------------------------------------------------------------------
@override_settings(PUSH_SERVICES=["push.example", "*.push.example"])
@pytest.mark.parametrize(
    ("endpoint", "may"),
    [
        ("https://push.example/send/abc", True),
        ("https://push.example:443/send/abc", True),
        ("https://eu.push.example/x", True),
        ("http://push.example/send/abc", False),
        ("https://push.example:8443/x", False),
        ("https://push.example/", False),
        ("https://evilpush.example/x", False),
        ("https://push.example.evil/x", False),
        ("https://user@push.example/x", False),
        ("https://push.example@127.0.0.1/x", False),
        ("https://127.0.0.1/x", False),
        ("https://[::1]/x", False),
        ("https://localhost/x", False),
        ("https://.push.example/x", False),
        ("https://push.example/a b", False),
        ("https://push.example:99999/x", False),
        ("https://push.example/" + "x" * 1_024, False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_only_push_services_that_the_settings_name(endpoint: str, may: bool) -> None:
    assert allowed(endpoint) is may


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["192.168.0.9"], ["::1"], ["fd00::1"], ["fe80::1%eth0"],
     ["::ffff:127.0.0.1"], ["100.64.0.1"], ["0.0.0.0"], ["224.0.0.1"], ["8.8.8.8", "127.0.0.1"], []],
)  # fmt: skip
def test_a_name_that_leads_into_the_own_network(answers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*args: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in answers]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Forbidden):
        public_address("push.example")
    with override_settings(PUSH_SERVICES=["push.example"]), pytest.raises(Forbidden):
        addresses.connect("https://push.example/x")


def test_the_address_that_was_looked_at_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []

    def look_up(*args: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.4.4", 443))]

    def create(address: tuple[str, int], timeout: float) -> Any:
        called.append(address)
        raise OSError("no network in a test")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", create)
    with override_settings(PUSH_SERVICES=["push.example"]), pytest.raises(OSError, match="no network"):
        addresses.connect("https://push.example/x").request("POST", "/x")
    assert called == [("8.8.4.4", 443)]
