"""Before what a borrowed session must not do people are asked again who they are, and come back to what they were doing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from market.households import consents
from market.households.models import ApiKey, Consent, Device, User
from market.pages import again
from market.payments.models import Payment
from tests.integration.pages.conftest import PASSWORD, Town, Visitor
from tests.integration.pages.test_pages_consents import day
from tests.integration.pages.test_pages_security import SECURITY, signed_in

AGAIN = f"{SECURITY}/again"
IBAN = "DE02120300000000202051"


@pytest.fixture(autouse=True)
def no_limits(db: None) -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def asked(answer: Any) -> str:
    """Return where somebody comes back to who is asked who they are."""
    assert answer.status_code == 302, answer.content.decode()
    url = urlsplit(answer.headers["Location"])
    assert url.path == AGAIN
    return parse_qs(url.query)["next"][0]


def come_back(visitor: Visitor, answer: Any) -> str:
    """Show who they are, and return the page they come back to."""
    back = asked(answer)
    shown = visitor.post(AGAIN, page=f"{AGAIN}?next={back}", password=PASSWORD, next=back)
    assert shown.headers["Location"] == back
    return visitor.html(back)


def keys(user: User) -> int:
    return ApiKey.objects.filter(user=user).count()


def checked(page: str) -> list[str]:
    boxes = re.findall(r"<input[^>]*type=\"checkbox\"[^>]*>", page)
    return [re.search(r'value="([^"]*)"|id="(\w+)"', box)[0] for box in boxes if " checked" in box]  # type: ignore[index]


def test_a_key_is_made_by_who_has_just_shown_who_they_are(town: Town) -> None:
    visitor = town.person("stale", area="LV1.1")
    sent = {"once": "k1", "name": "My <own> script", "scopes": ["read", "trade"]}
    answer = visitor.post("/account/keys", page="/account", **sent)
    page = come_back(visitor, answer)
    assert keys(visitor.user) == 0, "nothing is sent for them"
    assert 'value="My &lt;own&gt; script"' in page and "Nothing was sent meanwhile" in page
    assert '<a href="#make-key">To the form</a>' in page
    assert len([box for box in checked(page) if "read" in box or "trade" in box]) == 2
    once = re.search(r'name="once" value="([0-9a-f]{32})"[^>]*>\s*<div class="field">\s*<label for="id_name"', page)
    assert once, "the token of this showing"
    assert "Nothing was sent meanwhile" not in visitor.html("/account"), "once"
    made = visitor.post("/account/keys", page="/account", **sent)
    assert "Your new key" in made.content.decode() and keys(visitor.user) == 1


def test_a_proof_counts_for_the_time_the_settings_name(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = town.person("timed", area="LV1.1").prove()
    real, late_s = time.time, settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
    for n, (ahead_s, makes) in enumerate([(late_s - 10, True), (late_s + 10, False)]):
        monkeypatch.setattr(time, "time", lambda ahead_s=ahead_s: real() + ahead_s)
        answer = visitor.post("/account/keys", page="/account", once=f"t{n}", name="n", scopes=["read"])
        assert (answer.status_code == 200) is makes
    assert keys(visitor.user) == 1


def test_what_waits_is_sealed_and_not_for_ever(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = town.person("sealed", area="LV1.1")
    out = {"out-once": "w1", "out-amount": "12.50", "out-iban": IBAN, "out-holder": "Secret Holder"}
    answer = visitor.post("/money/withdrawals", page="/money", **out)
    kept = str(dict(visitor.client.session.items()))
    assert "Secret" not in kept and IBAN not in kept and visitor.client.cookies["csrftoken"].value not in kept
    page = come_back(visitor, answer)
    assert f'value="{IBAN}"' in page and 'value="12.50"' in page and 'value="Secret Holder"' in page
    assert not Payment.objects.filter(account__index=visitor.account).exists()
    visitor.post("/money/withdrawals", page="/money", **out)
    assert Payment.objects.get(account__index=visitor.account).iban == IBAN

    other = town.person("slowly", area="LV1.1")
    answer = other.post("/money/withdrawals", page="/money", **out)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + again.KEPT_S + 1)
    assert IBAN not in come_back(other, answer)


def test_what_nobody_comes_back_to_does_not_stay(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = town.person("gone", area="LV1.1")
    visitor.post("/money/withdrawals", page="/money", **{"out-amount": "1", "out-iban": IBAN, "out-holder": "Me"})
    visitor.get("/home")
    assert again.KEPT in visitor.client.session, "they may only be looking something up"
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + again.KEPT_S + 1)
    visitor.get("/home")
    assert again.KEPT not in visitor.client.session


@pytest.mark.parametrize("path", ["/account/export", f"{SECURITY}/app", f"{SECURITY}/codes/new"])
def test_nothing_is_kept_for_a_page_that_would_not_show_it(town: Town, path: str) -> None:
    visitor = town.person(f"unkept{len(path)}", area="LV1.1")
    answer = visitor.post(path, page="/account", format="json", secret="s")
    assert asked(answer) == path
    assert again.KEPT not in visitor.client.session


def test_what_was_typed_is_not_shown_to_who_does_not_prove(town: Town) -> None:
    visitor = town.person("left", area="LV1.1")
    visitor.post("/money/withdrawals", page="/money", **{"out-amount": "1", "out-iban": IBAN, "out-holder": "Me"})
    assert IBAN not in visitor.html("/money")


def test_a_consent_and_its_extension_wait_for_a_proof_but_refusing_does_not(town: Town) -> None:
    visitor = town.person("giver", area="LV1.1")
    link = "/consent?name=Sun+Co&scopes=read+trade"
    assert "Somebody asks to act for you" in visitor.html(link), "to read what is asked needs none"
    assert visitor.post(link, page=link, decision="no").headers["Location"] == "/account/consents"
    sent = {"once": "c1", "party": "Moon Co", "scopes": ["trade"], "until": day(12), "decision": "yes"}
    answer = visitor.post(link, page=link, **sent)
    assert asked(answer) == link, "with all that the link asked for"
    page = come_back(visitor, answer)
    assert "we have not checked it" in page and 'value="Moon Co"' in page and f'value="{day(12)}"' in page
    assert checked(page) == ['value="trade"'] and not Consent.objects.exists()
    assert "sl_" in visitor.post(link, page=link, **sent).content.decode()

    stale = town.person("extender", area="LV1.1")
    now = timezone.now()
    end = now + timezone.timedelta(days=3)
    row = consents.grant(user=stale.user, party="Sun", scopes=["read"], expires_at=end, now=now).consent
    path = f"/account/consents/{row.id}"
    page = come_back(stale, stale.post(path, page="/account/consents", until=day(99)))
    assert f'value="{day(99)}"' in page, "what was chosen stands there"
    assert ApiKey.objects.get(user=stale.user).expires_at == end, "and is not in force"
    fresh = town.person("ender", area="LV1.1")
    row = consents.grant(user=fresh.user, party="Sun", scopes=["read"], expires_at=end, now=now).consent
    fresh.post(f"/account/consents/{row.id}", page="/account/consents", decision="withdraw")
    assert consents.consents_of(fresh.user, now=now)[0].state == consents.WITHDRAWN, "ending waits for nothing"


def test_erasure_is_asked_for_by_who_proves_it_and_taken_back_by_anybody_in_the_session(town: Town) -> None:
    visitor = town.person("tired", area="LV1.1")
    page = come_back(visitor, visitor.post("/account/erasure", decision="ask", sure="on"))
    assert 'id="sure" required checked' in page
    assert User.objects.get(pk=visitor.user.pk).erasure_requested_at is None
    visitor.post("/account/erasure", decision="ask", sure="on")
    assert User.objects.get(pk=visitor.user.pk).erasure_requested_at is not None
    later = Visitor(town, visitor.user)
    later.post("/account/erasure", page="/account", decision="withdraw")
    assert User.objects.get(pk=visitor.user.pk).erasure_requested_at is None


def test_devices_get_keys_from_who_has_just_shown_who_they_are(town: Town) -> None:
    visitor = town.person("wired", area="LV1.1")
    form = {"once": "d1", "kind": "inverter", "name": "roof", "rating_w": "8.5", "register_digits": "0"}
    page = come_back(visitor, visitor.post("/account/devices/register", page="/account/devices", **form))
    assert not Device.objects.filter(user=visitor.user).exists()
    assert 'value="roof"' in page and 'value="8.5"' in page and '<option value="inverter" selected>' in page
    visitor.post("/account/devices/register", page="/account/devices", **form)
    device = Device.objects.get(user=visitor.user)
    stale = Visitor(town, visitor.user)
    answer = stale.post(f"/account/devices/{device.device_id}/key", page="/account/devices")
    page = come_back(stale, answer)
    assert "Nothing was sent meanwhile" in page and keys(visitor.user) == 1
    meter = {"once": "s1", "area": "LV1.1", "name": "edge", "rating_w": "400"}
    page = come_back(town.olga, town.olga.post("/operator/substations", page="/operator/devices", **meter))
    assert 'value="edge"' in page and 'value="400"' in page and not Device.objects.filter(user=town.olga.user).exists()


@pytest.mark.parametrize("path", [f"{SECURITY}/email", f"{SECURITY}/app", f"{SECURITY}/codes/new"])
def test_a_proof_that_ran_out_on_a_form_leads_back_to_it(
    town: Town, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    name = f"dawdler-{path.count('a')}-{len(path)}"
    town.person(name)
    visitor = signed_in(town, name)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.html("/account"))
    assert token
    if path.endswith("email"):
        assert visitor.get(path).status_code == 200
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + settings.ACCOUNT_REAUTHENTICATION_TIMEOUT + 1)
    answer = visitor.client.post(path, {"csrfmiddlewaretoken": token[1], "email": "typed@home.example", "code": "1"})
    assert asked(answer) == path
    if path.endswith("email"):
        assert 'value="typed@home.example"' in come_back(visitor, answer)


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example/", "https://evil.example/account", "/\\evil.example", "javascript:1"]
)
def test_nobody_is_led_elsewhere_after_showing_who_they_are(town: Town, elsewhere: str) -> None:
    name = f"led{len(elsewhere)}{elsewhere.count('/')}"
    visitor = town.person(name)
    page = f"{AGAIN}?next={elsewhere}"
    answer = visitor.post(AGAIN, page=page, password=PASSWORD, next=elsewhere)
    assert answer.headers["Location"] == "/home"
