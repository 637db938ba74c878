"""The weekly summary: asked for and stopped by its reader, in their language, and never sent twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from market.households import operations as households
from market.metering.operations import ReadingIn, record_batches
from market.pages.summaries import Sent, send_week
from market.settlement import statement_queries, subscriptions
from market.settlement.models import Subscription, Summary
from market.settlement.operations import settle_due
from market.settlement.periods import parse_week
from market.settlement.waiting import DEADLINE_MS
from tests.integration.pages.conftest import Town, Visitor

WEEK = parse_week("2026-W23")
NOW = datetime(2026, 6, 8, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def settled(town: Town) -> Town:
    """Alice sold 1,000 Wh to Bob and delivered it; Bob used 1,500."""
    market = town.market
    contract = market.contract()
    market.place(town.alice.account, "sell", "0.2000", 1_000, contract=contract)
    market.buys(town.bob.account, "0.2000", 1_000, contract=contract)
    market.clock.advance(minutes=31)
    market.member("LV1.2", deposit_e7=0)
    readings = [ReadingIn(town.alice.account, 0, 1_000), ReadingIn(town.bob.account, 1_500, 0)]
    record_batches(exchange=town.exchange, contract=contract, batches={"LV1.1": readings}, now_ms=market.clock.at_ms)
    market.clock.advance(ms=DEADLINE_MS)
    market.member("LV1.2", deposit_e7=0)
    settle_due(exchange=town.exchange, now_ms=market.clock.at_ms)
    return town


@pytest.fixture(autouse=True)
def nobody(town: Town) -> Iterator[None]:
    """Every test begins without subscribers and with an empty outbox."""
    Subscription.objects.all().delete()
    Summary.objects.all().delete()
    mail.outbox.clear()
    yield


def ask(*visitors: Visitor) -> None:
    for visitor in visitors:
        assert visitor.post("/account/summary", page="/account", summary="on")["Location"] == "/account#summary"


def test_only_who_asked_gets_it(settled: Town) -> None:
    assert send_week(week=WEEK, now=NOW) == Sent(0, 0, 0, 0)
    ask(settled.alice, settled.alice)
    assert "Stop the summaries" in settled.alice.html("/account")
    assert send_week(week=WEEK, now=NOW) == Sent(1, 0, 0, 0)
    (message,) = mail.outbox
    assert message.to == ["alice@sunledger.example"]
    assert message.subject == "Your week on Sunledger, 2026-W23"
    html = message.alternatives[0][0]
    for text in (message.body, html):
        assert "Earned on balance: €0.20" in text
        assert "You earned €0.20 and paid €0.00." in text
        assert "The market saved you €0.12" in text
        assert "http://localhost:8000/statement?period=month&" in text
    assert "Mon, 1 Jun to Sun, 7 June 2026" in message.body
    settled.alice.post("/account/summary", page="/account", summary="off")
    assert "Send me the summary" in settled.alice.html("/account")
    assert send_week(week=WEEK, now=NOW) == Sent(0, 0, 0, 0)


def test_each_in_their_own_language(settled: Town) -> None:
    ask(settled.alice, settled.bob)
    households.set_language(user=settled.bob.user, language="zh-hans")
    send_week(week=WEEK, now=NOW)
    alice, bob = sorted(mail.outbox, key=lambda message: message.to)
    assert "You earned €0.20" in alice.body
    assert bob.subject == "您在 Sunledger 的一周，2026-W23"
    assert "应付: €0.40" in bob.body
    assert "您收入 €0.00，支出 €0.40。" in bob.body
    assert 'lang="zh-hans"' in bob.alternatives[0][0]


def test_the_same_week_never_goes_twice(settled: Town) -> None:
    ask(settled.alice, settled.bob)
    assert send_week(week=WEEK, now=NOW).sent == 2
    assert send_week(week=WEEK, now=NOW) == Sent(0, 2, 0, 0)
    assert len(mail.outbox) == 2
    assert send_week(week=parse_week("2026-W22"), now=NOW) == Sent(0, 0, 2, 0), "nothing was settled then"


@pytest.mark.parametrize("after", [False, True], ids=["before the server has it", "after"])
def test_a_run_killed_in_the_middle_sends_nothing_twice(
    settled: Town, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    ask(settled.alice, settled.bob)
    real = EmailBackend.send_messages

    def killed(self: EmailBackend, messages: list[mail.EmailMessage]) -> int:
        if after:
            real(self, messages)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EmailBackend, "send_messages", killed)
        with pytest.raises(KeyboardInterrupt):
            send_week(week=WEEK, now=NOW)
    assert send_week(week=WEEK, now=NOW) == Sent(1, 1, 0, 0), "the other one gets it"
    assert [message.to for message in mail.outbox].count(["alice@sunledger.example"]) == int(after)
    assert send_week(week=WEEK, now=NOW).sent == 0


def test_what_the_mail_server_refused_is_tried_again(settled: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(settled.alice, settled.bob)
    real = EmailBackend.send_messages

    def refuse(self: EmailBackend, messages: list[mail.EmailMessage]) -> int:
        if messages[0].to == ["alice@sunledger.example"]:
            raise SMTPRecipientsRefused({})
        return real(self, messages)

    with monkeypatch.context() as patch:
        patch.setattr(EmailBackend, "send_messages", refuse)
        assert send_week(week=WEEK, now=NOW) == Sent(1, 0, 0, 1)
    assert send_week(week=WEEK, now=NOW) == Sent(1, 1, 0, 0)
    assert len(mail.outbox) == 2


def test_a_lost_mail_server_ends_the_run_and_takes_nobody_along(settled: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(settled.alice, settled.bob)

    def lost(self: EmailBackend, messages: list[mail.EmailMessage]) -> int:
        raise SMTPServerDisconnected

    with monkeypatch.context() as patch:
        patch.setattr(EmailBackend, "send_messages", lost)
        patch.setattr(statement_queries, "market_now_ms", lambda: round(NOW.timestamp() * 1000))
        with pytest.raises(CommandError, match="mail server"):
            call_command("send_summaries")
    assert send_week(week=WEEK, now=NOW).sent == 1, "one may have gone; the other had not begun"


def test_the_command_says_what_it_did(settled: Town, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    ask(settled.alice, settled.bob)
    monkeypatch.setattr(statement_queries, "market_now_ms", lambda: round(NOW.timestamp() * 1000))
    call_command("send_summaries", limit=1)
    call_command("send_summaries", week="2026-W23")
    assert "2026-W23: 1 sent, 0 had been sent before" in capsys.readouterr().out
    assert len(mail.outbox) == 2
    for week, said in (("2026-W24", "not over"), ("2026-23", "YYYY-Www"), ("2026-W60", "--week")):
        with pytest.raises(CommandError, match=said):
            call_command("send_summaries", week=week)
    with pytest.raises(CommandError, match="--limit"):
        call_command("send_summaries", limit=0)


def test_the_link_in_it_stops_it_and_only_that(settled: Town) -> None:
    ask(settled.alice, settled.bob)
    send_week(week=WEEK, now=NOW)
    message = next(message for message in mail.outbox if message.to == ["alice@sunledger.example"])
    link = re.search(r"http://localhost:8000(/summary/stop/\S+)", message.body)
    assert link
    assert message.extra_headers["List-Unsubscribe"] == f"<http://localhost:8000{link[1]}>"
    browser = Client(enforce_csrf_checks=True)
    assert "Shall we stop" in browser.get(link[1]).content.decode()
    assert subscriptions.is_subscribed(settled.alice.user), "looking at a link changes nothing"
    # As a mail program does it (RFC 8058): no session, no token of a form.
    response = browser.post(link[1], {"List-Unsubscribe": "One-Click"})
    assert "You get no more summaries." in response.content.decode()
    assert not subscriptions.is_subscribed(settled.alice.user)
    assert subscriptions.is_subscribed(settled.bob.user)
    for bad in (link[1][:-1], "/summary/stop/x", "/summary/stop/" + "x" * 300):
        assert browser.post(bad).status_code == 404


def test_no_address_lies_in_the_clear(settled: Town) -> None:
    ask(settled.alice)
    send_week(week=WEEK, now=NOW)
    with connection.cursor() as cursor:
        for table in ("settlement_subscription", "settlement_summary", "households_user"):
            cursor.execute(f"SELECT * FROM {table}")
            assert "alice" not in str(cursor.fetchall())


def test_only_households_are_asked(town: Town) -> None:
    assert town.olga.post("/account/summary", page="/account", summary="on").status_code == 403
    assert "Weekly summary" not in town.olga.html("/account")


def test_without_an_address_it_says_what_is_missing_and_where(town: Town) -> None:
    eve = town.person("eve-without-mail", area="LV1.1")
    assert eve.user is not None
    eve.user.email = ""
    eve.user.save(update_fields=["email"])
    assert "your profile has no e-mail address" in eve.html("/account")
    assert eve.post("/account/summary", page="/account", summary="on").status_code == 302
    html = eve.html("/account")
    assert "You asked for the summary, but nothing can be sent yet" in html
    assert '<a href="/account/security">Enter it under “Sign-in and security”</a>' in html
    assert "nothing can be sent yet" not in eve.html("/account"), "said once; the card goes on saying it"
    assert "Nothing can be sent yet" in eve.html("/account")
    eve.user.email = "eve@sunledger.example"
    eve.user.save(update_fields=["email"])
    assert "an be sent yet" not in eve.html("/account")
