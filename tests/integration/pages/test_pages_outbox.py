"""E-mails go out beside the requests: nobody waits for a mail server, and an answer tells nothing about who is known."""

from __future__ import annotations

import re
import smtplib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from market.households import emails
from market.pages import signingin
from market.pages.outbox import Outbox
from tests.integration.pages.conftest import Town, Visitor, forget_mails, sent_mails
from tests.integration.pages.test_pages_security import SECURITY, signed_in

HELD = threading.Event()


class HeldBackend(EmailBackend):
    """A mail server that takes nothing until it is let go."""

    def send_messages(self, messages: Any) -> int:
        HELD.wait(20)
        return super().send_messages(messages)


@pytest.fixture(autouse=True)
def no_limits(db: None) -> Iterator[None]:
    cache.clear()
    HELD.clear()
    yield
    HELD.set()
    sent_mails()
    cache.clear()


def confirmed(town: Town, name: str, language: str = "") -> str:
    user = town.person(name).user
    user.language = language
    user.save()
    emails.confirm(token=emails.token_of(user))
    return user.email


def asked(town: Town, email: str) -> tuple[Any, str, list[str]]:
    """Ask for a new password; return the answer, what the next page says, and what the database was asked meanwhile."""
    front = Visitor(town, None)
    front.get("/password/reset")
    with CaptureQueriesContext(connection) as queries:
        answer = front.post("/password/reset", email=email)
    statements = [query["sql"] for query in queries.captured_queries]  # the next request empties them
    said = re.sub(r'(value|content)="\w{64}"', "", front.html("/password/reset/sent"))
    return answer, said, [one for one in statements if "households_user" in one or "person" in one]


def test_who_is_known_is_told_by_neither_answer_nor_mail_server(town: Town) -> None:
    email = confirmed(town, "known")
    forget_mails()
    with override_settings(EMAIL_BACKEND=f"{__name__}.HeldBackend"):
        began_s = time.monotonic()
        known, unknown = asked(town, email), asked(town, "stranger@home.example")
        assert time.monotonic() - began_s < 15, "the mail server has not answered yet"
        assert mail.outbox == []
        assert known[0].status_code == unknown[0].status_code == 302
        assert known[0].headers["Location"] == unknown[0].headers["Location"] == "/password/reset/sent"
        assert known[1] == unknown[1]
        assert known[2] == unknown[2] == [], "nobody is looked for while somebody waits for the answer"
        HELD.set()
        (message,) = sent_mails()
    assert message.to == [email] and "“known”" in str(message.body)


def test_a_link_is_written_in_the_language_of_its_reader_and_leads_here_whatever_host_was_asked(town: Town) -> None:
    email = confirmed(town, "reader", language="zh-hans")
    forget_mails()
    front = Visitor(town, None)
    with override_settings(ALLOWED_HOSTS=["testserver", "other.example"], PUBLIC_URL="https://market.example"):
        front.client.defaults.update(HTTP_HOST="other.example", HTTP_X_FORWARDED_HOST="evil.example")
        front.post("/password/reset", email=email)
        (message,) = sent_mails()
        assert "https://market.example/password/reset/" in str(message.body)
        assert "other.example" not in str(message.body) and "evil" not in str(message.body)
        assert re.search("[\u4e00-\u9fff]", message.subject)
        front.client.defaults["HTTP_HOST"] = "evil.example"
        assert front.get("/password/reset").status_code == 400


def test_when_too_many_wait_the_answer_is_the_same_and_the_log_says_so(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    email = confirmed(town, "crowded")
    monkeypatch.setattr(signingin, "OUTBOX", Outbox(max_waiting=0))
    assert asked(town, email)[:2][0].headers["Location"] == "/password/reset/sent"
    assert "the link for a new password is not sent: 0 e-mails wait for the mail server" in caplog.text
    visitor = signed_in(town, "crowded")
    visitor.post(f"{SECURITY}/email", email="other@home.example")
    assert "The e-mail could not be sent. Try again later." in visitor.html(SECURITY)
    assert "@" not in caplog.text, "no address in the log"


def test_what_cannot_be_sent_is_tried_again_and_then_given_up_loudly(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[str] = []
    box = Outbox(tries_after_s=(0.0, 0.01, 0.01))

    def fails(name: str, times: int) -> Any:
        def send() -> None:
            tries.append(name)
            if tries.count(name) <= times:
                raise ConnectionRefusedError("secret@home.example")

        return send

    assert box.put("a notice", fails("a", 2)) and box.put("a link", fails("b", 9)) and box.put("x", fails("c", 0))
    assert box.settle(10)
    assert tries[:3] == ["a", "b", "c"] and sorted(tries) == ["a"] * 3 + ["b"] * 3 + ["c"], (
        "nobody waits for another's try"
    )
    assert "a notice could not be sent (try 2): ConnectionRefusedError" in caplog.text
    assert "a link is given up" in caplog.text and "a notice is given up" not in caplog.text
    assert "secret@home.example" not in caplog.text


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (smtplib.SMTPRecipientsRefused({"a@b.example": (550, b"no such user")}), 1),
        (smtplib.SMTPDataError(554, b"spam"), 1),
        (smtplib.SMTPRecipientsRefused({"a@b.example": (450, b"later")}), 2),
        (smtplib.SMTPServerDisconnected("gone"), 2),
        (TimeoutError(), 2),
    ],
)
def test_what_a_mail_server_refuses_for_good_is_not_tried_again(error: OSError, tries: int) -> None:
    made: list[int] = []

    def send() -> None:
        made.append(1)
        raise error

    box = Outbox(tries_after_s=(0.0, 0.01))
    box.put("a notice", send)
    assert box.settle(10) and len(made) == tries


def test_an_accident_stops_only_what_it_happened_to(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    box = Outbox(tries_after_s=(0.0,))
    box.put("broken", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    box.put("whole", lambda: done.append(1))
    assert box.settle(10) and done == [1] and "broken could not be sent" in caplog.text


def test_the_queue_is_bounded_and_emptied_when_the_market_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    gate = threading.Event()
    box = Outbox(tries_after_s=(0.0, 60.0), max_waiting=3)
    box.put("first", lambda: gate.wait(10) and None)  # type: ignore[arg-type,return-value]
    deadline = time.monotonic() + 10
    while not box._busy and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [box.put("n", lambda n=n: done.append(n)) for n in range(4)] == [True, True, True, False]
    gate.set()
    box.stop()
    assert done == [0, 1, 2]

    def away() -> None:
        raise ConnectionRefusedError

    box.put("to nobody", away)
    began_s = time.monotonic()
    box.stop()
    assert time.monotonic() - began_s < 10, "it does not wait a minute for the next try"
