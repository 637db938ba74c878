"""What must not open by a side door: sessions from before a factor, links that went astray, limits that are pushed aside."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import ip_network

import pytest
from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.cache import cache
from django.test import override_settings
from django.utils import timezone, translation
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

from market.households import emails
from market.households.models import Role, User
from market.pages import context as page_context
from market.pages.context import market_now
from market.pages.templatetags.market import moment, when
from tests.integration.pages.conftest import NOW, PASSWORD, Town, Visitor, forget_mails, sent_mails
from tests.integration.pages.test_pages_security import SECURITY, signed_in, with_app

NEW_PASSWORD = "rain behind the hill"


@pytest.fixture(autouse=True)
def no_limits(db: None) -> Iterator[None]:
    """Let no test stand in the way of the next: attempts are counted in the cache."""
    cache.clear()
    yield
    cache.clear()


def test_whoever_signed_in_before_the_required_factor_was_there_signs_in_again(town: Town) -> None:
    town.person("olaf", role=Role.OPERATOR)
    with override_settings(STAFF_SECOND_FACTOR=True):
        thief = signed_in(town, "olaf")  # knows the password, and waits
        owner = signed_in(town, "olaf")
        with_app(owner)
        assert owner.get("/operator").status_code == 200
        assert thief.get("/operator").headers["Location"].startswith("/sign-in"), "no factor was ever asked of it"


def made_passkey(page: str) -> str:
    """Return what a browser sends that made the passkey a page asks for."""
    found = re.search(r'<script id="passkey-data" type="application/json">(.+?)</script>', page)
    assert found
    options = json.loads(found[1])["creation_options"]["publicKey"]
    key = ES256.from_cryptography_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    credential = AttestedCredentialData.create(bytes(16), b"a passkey of a test", key)
    flags = AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.UV | AuthenticatorData.FLAG.AT
    shown = AuthenticatorData.create(hashlib.sha256(options["rp"]["id"].encode()).digest(), flags, 0, credential)
    origin = f"https://{options['rp']['id']}"
    client = CollectedClientData.create(CollectedClientData.TYPE.CREATE, options["challenge"], origin)
    response = {
        "clientDataJSON": client.b64,
        "attestationObject": websafe_encode(AttestationObject.create("none", shown, {})),
    }
    name = websafe_encode(credential.credential_id)
    extensions = {"credProps": {"rk": True}}
    sent = {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": extensions}
    return json.dumps(sent)


def age_proofs(visitor: Visitor, by_s: float) -> None:
    """Let what somebody has shown in this session be older."""
    session = visitor.client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= by_s
    session.save()


@pytest.mark.parametrize("factor", ["passkey", "app"])
def test_a_demo_household_sees_the_codes_of_the_factor_it_just_made(town: Town, factor: str) -> None:
    with override_settings(DEMO=True, ALLOWED_HOSTS=["localhost"]):
        Authenticator.objects.all().delete()
        visitor = Visitor(town, None)
        visitor.client.defaults["SERVER_NAME"] = "localhost"
        assert visitor.post("/demo/sign-in", page="/sign-in", role="household").status_code == 302
        age_proofs(visitor, settings.ACCOUNT_REAUTHENTICATION_TIMEOUT + 1)  # it looked around first
        if factor == "app":
            with_app(visitor)  # to the codes themselves
            return
        credential = made_passkey(visitor.html(f"{SECURITY}/passkey"))
        token = visitor.client.cookies["csrftoken"].value
        sent = {"csrfmiddlewaretoken": token, "name": "phone", "passwordless": "True", "credential": credential}
        answer = visitor.client.post(f"{SECURITY}/passkey", sent)
        assert answer.headers.get("Location") == f"{SECURITY}/codes", answer.content.decode()
        codes = re.findall(r"<li><code>(\d{8})</code></li>", visitor.html(f"{SECURITY}/codes"))
        assert len(codes) == 10
        age_proofs(visitor, settings.ACCOUNT_REAUTHENTICATION_TIMEOUT + 1)
        assert visitor.get(f"{SECURITY}/codes").headers["Location"].startswith(f"{SECURITY}/again/passkey"), (
            "later it is"
        )


def test_real_time_says_so_where_the_market_has_another_clock(town: Town) -> None:
    household = signed_in(town, "alice")
    town.rita.html("/regulator/find")
    pages = ((household, SECURITY), (town.rita, "/regulator/accesses"))
    for visitor, path in pages:
        assert "real time" not in visitor.html(path), path
    with override_settings(DEMO=True):
        assert abs(market_now() - timezone.now()) > timedelta(days=1), "a market of another day"
        with translation.override("en"):
            assert "real time" in moment(NOW) and "real time" not in when(round(NOW.timestamp() * 1000))
        for visitor, path in pages:
            assert re.search(r"\d\d:\d\d \(real time\)<", visitor.html(path)), path
        household.client.cookies["django_language"] = "zh-hans"
        assert re.search(r"\d\d:\d\d（真实时间）<", household.html(SECURITY))


@pytest.mark.parametrize("differ", [False, True])
def test_only_a_demo_whose_clock_differs_says_so(monkeypatch: pytest.MonkeyPatch, differ: bool) -> None:
    shift = timedelta(hours=7) if differ else timedelta()
    monkeypatch.setattr(page_context, "market_now", lambda: timezone.now() + shift)
    assert not page_context.clocks_differ()
    with override_settings(DEMO=True):
        assert page_context.clocks_differ() is differ


def test_a_household_that_adds_a_factor_stays_signed_in_elsewhere(town: Town) -> None:
    town.person("homely")
    phone, computer = signed_in(town, "homely"), signed_in(town, "homely")
    with_app(computer)
    assert phone.get("/account").status_code == 200


def test_a_link_to_a_mistyped_address_gives_the_account_to_nobody(town: Town) -> None:
    user = town.person("typo").user
    emails.change(user=user, email="somebody@else.example")
    link = f"/confirm-email/{emails.token_of(user)}"
    finder = Visitor(town, None)  # whoever reads that mailbox
    assert finder.get(link).headers["Location"].startswith("/sign-in?next=/confirm-email/")
    other = signed_in(town, "alice")
    assert other.get(link).status_code == 404
    other.post(link, page="/account")
    assert emails.people_with("somebody@else.example") == []
    owner = signed_in(town, "typo")
    owner.post(link)
    assert [found.pk for found in emails.people_with("somebody@else.example")] == [user.pk]


def test_signing_up_again_and_again_fills_nobodys_mailbox(town: Town) -> None:
    forget_mails()
    for n in range(4):
        form = {"username": f"flood{n}", "password": PASSWORD, "area": "LV1.1", "address": "Sun Street 1"}
        front = Visitor(town, None)
        answer = front.post("/sign-up", **form, meter_number=f"M{n}", email="Victim@else.example")
        assert answer.status_code == 302, answer.content.decode()
    assert User.objects.filter(email_lookup="").count() >= 4
    assert [message.to for message in sent_mails()] == [["Victim@else.example"]]


def test_the_old_password_cannot_be_guessed_in_a_borrowed_session(town: Town) -> None:
    town.person("guessme")
    visitor = signed_in(town, "guessme")
    new = {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    statuses = [visitor.post("/account/password", old_password=f"wrong {n}", **new).status_code for n in range(8)]
    assert statuses[0] == 200 and statuses[-1] == 429
    answer = visitor.post("/account/password", old_password=PASSWORD, **new)
    assert answer.status_code == 429 and "Too many attempts" in answer.content.decode()
    cache.clear()
    assert visitor.post("/account/password", old_password=PASSWORD, **new).status_code == 302


def test_another_spelling_of_a_name_is_no_new_attempt(town: Town) -> None:
    town.person("spelled")
    spellings = ["spelled", " spelled", "spelled  ", "SPELLED", "ｓpelled", "\tspelled", "ſpelled"]
    for n in range(10):
        Visitor(town, None).post("/sign-in", username=spellings[n % len(spellings)], password=f"guess {n}")
    for name in spellings:
        assert Visitor(town, None).post("/sign-in", username=name, password="guess").status_code == 429, name
    assert Visitor(town, None).post("/sign-in", username="somebody else", password="guess").status_code == 200


def test_many_strangers_do_not_push_an_attempt_out_of_memory(town: Town) -> None:
    cache.set("counted", 9, 300)
    for n in range(2_000):
        cache.set(f"stranger-{n}", 1, 300)
    assert cache.get("counted") == 9


def test_behind_a_proxy_attempts_are_counted_for_each_client(town: Town) -> None:
    sent: list[str] = []

    def reset(address: str) -> int:
        sent.append(address)
        front = Visitor(town, None)
        front.client.defaults["HTTP_X_FORWARDED_FOR"] = address
        return front.post("/password/reset", email=f"{len(sent)}@y.example").status_code

    assert [reset(f"192.0.2.{n}") for n in range(21)][-1] == 429, "nobody believes it unless a proxy is known to say it"
    cache.clear()
    assert settings.TRUSTED_PROXIES == [], "none by default"
    with override_settings(TRUSTED_PROXIES=[ip_network("127.0.0.0/8")]):
        flood = [reset(f"192.0.2.{n}, 198.51.100.7") for n in range(21)]
        assert flood[0] == 302 and flood[-1] == 429, "what the client claims does not count"
        assert reset("198.51.100.8") == 302


def test_the_old_address_is_not_written_into_the_log_of_a_market_without_mail(
    town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    user = town.person("unlogged").user
    emails.change(user=user, email="private@home.example")
    emails.confirm(token=emails.token_of(user))
    visitor = signed_in(town, "unlogged")
    with override_settings(EMAIL_BACKEND="django.core.mail.backends.console.EmailBackend"):
        visitor.post(f"{SECURITY}/email", email="")
    assert "private@home.example" not in capsys.readouterr().out


def test_a_link_for_a_new_password_is_too_old_after_a_day(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    user = town.person("slow").user
    emails.confirm(token=emails.token_of(user))
    forget_mails()
    front = Visitor(town, None)
    front.post("/password/reset", email=user.email)
    link = re.search(r"http://localhost:8000(/password/reset/\S+)", str(sent_mails()[0].body))
    assert link
    for hours, opens in ((23, True), (25, False)):
        later = datetime.now() + timedelta(hours=hours)
        monkeypatch.setattr(PasswordResetTokenGenerator, "_now", lambda _self, at=later: at)
        assert (Visitor(town, None).get(link[1]).status_code == 302) is opens
