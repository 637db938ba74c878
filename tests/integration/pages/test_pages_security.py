"""Passkeys' forms, authenticator app, recovery codes, e-mail, password by link, sessions, second factor in office."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from market.households import emails, keystore, sessions
from market.households.models import Role, SignIn, User
from market.pages import signingin
from market.pages.outbox import Outbox
from tests.integration.pages.conftest import PASSWORD, Town, Visitor, forget_mails, sent_mails

SECURITY = "/account/security"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(autouse=True)
def no_limits(db: None) -> Iterator[None]:
    """Let no test stand in the way of the next: attempts are counted in the cache."""
    cache.clear()
    yield
    cache.clear()


def signed_in(town: Town, name: str, **headers: str) -> Visitor:
    """Return a browser in which somebody signed in by name and password."""
    visitor = Visitor(town, None)
    visitor.client.defaults.update(headers)
    answer = visitor.post("/sign-in", username=name, password=PASSWORD)
    assert answer.status_code == 302, answer.content
    return visitor


def code_of(secret: str, steps: int = 0) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))


def with_app(visitor: Visitor) -> tuple[str, list[str]]:
    """Set an authenticator app up; return its secret and the recovery codes."""
    page = visitor.html(f"{SECURITY}/app")
    found = re.search(r'<code class="token">([A-Z2-7]+)</code>', page)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found and token and "data:image/svg+xml;base64," in page
    sent = {"csrfmiddlewaretoken": token[1], "code": code_of(found[1])}
    answer = visitor.client.post(f"{SECURITY}/app", sent)
    assert answer.headers["Location"] == f"{SECURITY}/codes"
    codes = re.findall(r"<li><code>(\d{8})</code></li>", visitor.html(f"{SECURITY}/codes"))
    assert len(codes) == 10
    return found[1], codes


def test_an_app_is_asked_for_its_code_and_a_recovery_code_opens_once(town: Town) -> None:
    user = town.person("totti", area="LV1.1").user
    secret, codes = with_app(signed_in(town, "totti"))
    stored = Authenticator.objects.filter(user=user).values_list("data", flat=True)
    assert secret not in str(list(stored)) and all(keystore.PREFIX in str(data) for data in stored), "sealed"

    for code, opens in (
        ("000000", False), (codes[0], True), (codes[0], False), (codes[1], True), (code_of(secret, 1), True),
    ):  # fmt: skip
        device = Visitor(town, None)
        answer = device.post("/sign-in", username="totti", password=PASSWORD, next="/trade")
        assert answer.headers["Location"] == "/sign-in/code"
        assert device.get("/account").status_code == 302, "not signed in by the password alone"
        answer = device.post("/sign-in/code", code=code)
        if opens:
            assert answer.headers["Location"] == "/trade"
            assert device.get("/account").status_code == 200
        else:
            assert "This code is not right, or it has been used." in answer.content.decode()
            assert device.get("/account").status_code == 302
    with_codes = signed_in(town, "alice")
    assert with_codes.get(f"{SECURITY}/codes").status_code == 404, "nobody else's codes"


def test_codes_cannot_be_tried_without_end(town: Town) -> None:
    town.person("guessed")
    with_app(signed_in(town, "guessed"))
    device = Visitor(town, None)
    device.post("/sign-in", username="guessed", password=PASSWORD)
    said = [device.post("/sign-in/code", code=f"{n:06}").content.decode() for n in range(12)]
    assert "This code is not right" in said[0] and "Too many attempts." in said[-1]


def test_what_could_lock_out_asks_for_the_password_again(town: Town) -> None:
    visitor = town.person("again")  # signed in, but not just now
    for path in (f"{SECURITY}/app", f"{SECURITY}/passkey", f"{SECURITY}/email", "/account/export"):
        answer = visitor.get(path)
        assert answer.headers["Location"] == f"{SECURITY}/again?next={path.replace('/', '%2F')}"
    answer = visitor.post(f"{SECURITY}/again", page=f"{SECURITY}/again?next={SECURITY}/email", password="wrong")
    assert "This is not your password." in answer.content.decode()
    answer = visitor.post(f"{SECURITY}/again", password=PASSWORD, next=f"{SECURITY}/email")
    assert answer.headers["Location"] == f"{SECURITY}/email"
    assert visitor.get(f"{SECURITY}/email").status_code == 200


def test_a_passkey_that_is_none_is_refused_and_its_page_carries_what_the_browser_needs(town: Town) -> None:
    town.person("keyless")
    visitor = signed_in(town, "keyless")
    page = visitor.html(f"{SECURITY}/passkey")
    assert '<script id="passkey-data" type="application/json">' in page and '"residentKey"' in page
    assert '"userVerification": "required"' in page and "Sunledger" in page
    for credential in ("", "{}", "[]", '{"id": "x"}', "x" * 30_000):
        answer = visitor.post(f"{SECURITY}/passkey", name="phone", passwordless="True", credential=credential)
        assert answer.status_code == 200, "the form again"
    assert not Authenticator.objects.filter(user__login=User.objects.get(username="keyless").login).exists()
    front = Visitor(town, None)
    asked = front.client.get("/sign-in/passkey", headers={"Accept": "application/json"}).json()
    assert asked["request_options"]["publicKey"]["userVerification"] == "required"
    for credential in ("", "[]", '{"response": {"userHandle": "MQ"}}'):
        answer = front.post("/sign-in/passkey", page="/sign-in", credential=credential)
        assert answer.headers["Location"] == "/sign-in"
    assert "No passkey was used." in front.html("/sign-in")


def test_only_the_pages_of_ours_are_there(town: Town) -> None:
    visitor = signed_in(town, "alice")
    for path in ("/accounts/login/", "/accounts/email/", "/account/email/", "/2fa/", "/accounts/signup/"):
        assert visitor.get(path).status_code == 404


def test_an_address_is_confirmed_by_its_link_and_then_brings_a_password_back(town: Town) -> None:
    person = town.person("lost")
    visitor = signed_in(town, "lost")
    forget_mails()
    answer = visitor.post(f"{SECURITY}/email", email="no address")
    assert answer.status_code == 422 and "Enter a valid email address." in answer.content.decode()
    visitor.post(f"{SECURITY}/email", email="Lost@New.example")
    front = Visitor(town, None)
    front.post("/password/reset", email="lost@new.example")
    assert [message.to for message in sent_mails()] == [["Lost@New.example"]], (
        "a link, and no password before it is followed"
    )

    link = re.search(r"http://localhost:8000(/confirm-email/\S+)", str(sent_mails()[0].body))
    assert link
    assert "not confirmed" in visitor.html(SECURITY)
    visitor.html(link[1])
    assert "not confirmed" in visitor.html(SECURITY), "opening it confirms nothing: programs open links, too"
    visitor.post(link[1])
    assert '<span class="tag good">confirmed</span>' in visitor.html(SECURITY)
    assert not EmailAddress.objects.exists(), "addresses are kept sealed, beside the person"

    forget_mails()
    front.post("/password/reset", email="lost@new.EXAMPLE")
    assert front.post("/password/reset", email="stranger@new.example").headers["Location"] == "/password/reset/sent"
    (message,) = sent_mails()
    link = re.search(r"http://localhost:8000(/password/reset/\S+)", str(message.body))
    assert link and "“lost”" in str(message.body)
    page = front.get(link[1])
    assert page.headers["Location"].endswith("-set-password")
    weak = front.post(page.headers["Location"], password1="short", password2="short")
    assert "too short" in weak.content.decode()
    unlike = front.post(page.headers["Location"], password1="moon over the barn", password2="moon over the bar")
    assert "The two are not the same." in unlike.content.decode()
    done = front.post(page.headers["Location"], password1="moon over the barn", password2="moon over the barn")
    assert done.headers["Location"] == "/password/reset/done"
    assert visitor.get("/account").status_code == 302 and person.get("/account").status_code == 302, "signed out"
    assert not SignIn.objects.filter(user=person.user).exists()
    assert "too old, or it has been used" in Visitor(town, None).client.get(link[1]).content.decode()
    again = Visitor(town, None)
    assert again.post("/sign-in", username="lost", password="moon over the barn").status_code == 302


def test_a_new_address_counts_when_it_is_confirmed_and_the_old_one_hears_of_it(town: Town) -> None:
    user = town.person("mover").user
    emails.change(user=user, email="old@home.example")
    emails.confirm(token=emails.token_of(user))
    old_link = emails.token_of(user)
    visitor = signed_in(town, "mover")
    forget_mails()
    visitor.post(f"{SECURITY}/email", email="new@home.example")
    assert [message.to[0] for message in sent_mails()] == ["old@home.example", "new@home.example"]
    assert [found.pk for found in emails.people_with("old@home.example")] == [user.pk]
    assert emails.people_with("new@home.example") == []
    assert emails.owner_of(old_link) is None, "a link means the address it was sent to"
    user.refresh_from_db()
    emails.confirm(token=emails.token_of(user))
    assert emails.people_with("old@home.example") == []
    assert visitor.get("/confirm-email/forged:token").status_code == 404


def test_links_are_not_sent_without_end(town: Town) -> None:
    town.person("spammed")
    visitor = signed_in(town, "spammed")
    forget_mails()
    for _ in range(12):
        visitor.post(f"{SECURITY}/email/link", page=SECURITY)
    assert 0 < len(sent_mails()) < 4
    front = Visitor(town, None)
    statuses = [front.post("/password/reset", email="x@y.example").status_code for _ in range(25)]
    assert statuses[0] == 302 and statuses[-1] == 429


def test_sessions_are_listed_in_words_and_end(town: Town) -> None:
    user = town.person("roamer").user
    SignIn.objects.filter(user=user).delete()
    here = signed_in(town, "roamer", HTTP_USER_AGENT=FIREFOX)
    there = signed_in(
        town, "roamer", HTTP_USER_AGENT="Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Version/18.0 Safari/604.1"
    )
    third = signed_in(town, "roamer", HTTP_USER_AGENT="curl/8")
    page = here.html(SECURITY)
    assert page.index("Firefox on Linux") < page.index("this device") < page.index("Safari on iPhone")
    assert page.count("this device") == 1 and "An unknown browser or program" in page
    row = SignIn.objects.get(session_key=there.client.cookies["sessionid"].value)
    assert SignIn.objects.filter(user=user).count() == 3
    stranger = signed_in(town, "alice")
    stranger.post(f"{SECURITY}/sessions/{row.pk}/end", page=SECURITY)
    assert there.get("/account").status_code == 200, "nobody else's"
    here.post(f"{SECURITY}/sessions/{row.pk}/end", page=SECURITY)
    assert there.get("/account").status_code == 302 and third.get("/account").status_code == 200
    mine = SignIn.objects.get(session_key=here.client.cookies["sessionid"].value)
    assert here.post(f"{SECURITY}/sessions/{mine.pk}/end", page=SECURITY).status_code == 404
    here.post(f"{SECURITY}/sessions/end", page=SECURITY)
    assert third.get("/account").status_code == 302 and here.get("/account").status_code == 200
    here.post("/sign-out", page="/account")
    assert not SignIn.objects.filter(user=user).exists()


def test_a_changed_password_keeps_this_session_in_the_list_and_ends_the_others(town: Town) -> None:
    user = town.person("changer").user
    here, there = signed_in(town, "changer"), signed_in(town, "changer")
    new = {"old_password": PASSWORD, "new_password1": "rain behind the hill", "new_password2": "rain behind the hill"}
    here.post("/account/password", **new)
    assert there.get("/account").status_code == 302
    assert here.get(SECURITY).status_code == 200
    (row,) = SignIn.objects.filter(user=user)
    assert row.session_key == here.client.cookies["sessionid"].value


def test_sessions_are_bounded_and_those_that_ran_out_are_not_shown(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SIGN_INS", 3)
    user = town.person("many").user
    SignIn.objects.filter(user=user).delete()
    browsers = [signed_in(town, "many") for _ in range(5)]
    assert [browser.get("/account").status_code for browser in browsers] == [302, 302, 200, 200, 200]
    assert SignIn.objects.filter(user=user).count() == 3
    Session.objects.filter(session_key=browsers[2].client.cookies["sessionid"].value).update(
        expire_date=timezone.now() - timedelta(days=1)
    )
    shown = sessions.sign_ins_of(user, session_key="", now=timezone.now())
    assert len(shown) == 2 == SignIn.objects.filter(user=user).count()


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36 Edg/142.0",
            ("Edge", "Windows"),
        ),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/142.0 Mobile Safari/537.36", ("Chrome", "Android")),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 Safari/605.1.15", ("Safari", "Mac")),
        ("", ("", "")),
        ("x" * 10_000 + "Firefox/1", ("", "")),
    ],
)
def test_browsers_have_names(agent: str, words: tuple[str, str]) -> None:
    assert sessions.words_of(agent) == words


def test_in_office_a_second_factor_may_be_required(town: Town) -> None:
    olga = town.person("oona", role=Role.OPERATOR)
    with override_settings(STAFF_SECOND_FACTOR=True):
        visitor = signed_in(town, "oona")
        assert visitor.get("/operator").headers["Location"] == SECURITY
        assert visitor.get("/account").headers["Location"] == SECURITY
        refused: Any = visitor.get("/api/v1/operator/alerts")
        assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_required")
        orders: Any = visitor.get("/api/v1/me")
        assert orders.status_code == 403
        assert town.bob.get("/account").status_code == 200, "households choose for themselves"
        with_app(visitor)
        assert visitor.get("/operator").status_code == 200
        answer = visitor.post(f"{SECURITY}/app/remove")
        assert "People in office need a second factor: add another one first." in answer.content.decode()
        assert Authenticator.objects.filter(user=olga.user, type=Authenticator.Type.TOTP).exists()
    answer = visitor.post(f"{SECURITY}/app/remove")
    assert answer.status_code == 302 and not Authenticator.objects.filter(user=olga.user).exists()


def test_a_notice_is_sent_when_a_factor_comes_or_goes(town: Town) -> None:
    town.person("noticed")
    visitor = signed_in(town, "noticed")
    forget_mails()
    with_app(visitor)
    visitor.post(f"{SECURITY}/app/remove")
    bodies = [str(message.body) for message in sent_mails()]
    assert [message.to for message in sent_mails()] == [["noticed@sunledger.example"]] * 2
    assert "was added" in bodies[0] and "was removed" in bodies[1]


def test_a_mail_server_that_is_away_stops_nobody(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signingin, "OUTBOX", Outbox(tries_after_s=(0.0, 0.01)))
    with override_settings(
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", EMAIL_HOST="127.0.0.1", EMAIL_PORT=9
    ):
        town.person("mailless")
        visitor = signed_in(town, "mailless")
        visitor.post(f"{SECURITY}/email", email="new@mailless.example")
        assert "A link is on its way to your address." in visitor.html(SECURITY)
        assert User.objects.get(username="mailless").email == "new@mailless.example"
        with_app(visitor)
        assert signingin.OUTBOX.settle(20)
    assert "account/email/confirm is given up: the mail server does not take it" in caplog.text
    assert "new@mailless.example" not in caplog.text


def test_what_is_the_same_for_all_stays_cacheable(town: Town) -> None:
    for visitor in (town.nobody, town.alice):
        answer = visitor.get("/ledger/checkpoint")
        assert answer.status_code == 200 and "Cookie" not in answer.headers.get("Vary", "")


def test_who_lost_every_factor_is_let_in_by_the_market_operator(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    town.person("locked")
    visitor = signed_in(town, "locked")
    with_app(visitor)
    with pytest.raises(CommandError, match="nobody who signs in as 'nobody'"):
        call_command("forget_factors", "nobody")
    call_command("forget_factors", "locked")
    assert "Removed: 2; sessions ended: 1." in capsys.readouterr().out
    assert visitor.get("/account").status_code == 302
    assert signed_in(town, "locked").get("/account").status_code == 200, "by the password alone"
