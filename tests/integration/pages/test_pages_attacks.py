"""What somebody tries who wants in: planted sessions, passkeys without their owner, names and addresses that are told apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.cache import cache
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

from market.households import emails
from market.households.models import User
from tests.integration.pages.conftest import PASSWORD, Town, Visitor, forget_mails, sent_mails
from tests.integration.pages.test_pages_security import SECURITY, code_of, signed_in, with_app

PRESENT, VERIFIED = AuthenticatorData.FLAG.UP, AuthenticatorData.FLAG.UV
PAGES = ("/", "/sign-in", "/sign-up", "/password/reset", "/account", "/account/security", "/nowhere", "/api/v1/docs/")


@pytest.fixture(autouse=True)
def no_limits(db: None) -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


# --- sessions --------------------------------------------------------------------------------------------------------
def test_a_session_that_was_there_before_is_not_the_one_somebody_is_signed_in_by(town: Town) -> None:
    town.person("fixed")
    with_app_of = signed_in(town, "fixed")
    secret, _codes = with_app(with_app_of)
    visitor = Visitor(town, None)
    planted = visitor.client.session
    planted["planted"] = True
    planted.save()
    visitor.client.cookies["sessionid"] = planted.session_key
    visitor.html("/sign-in")
    token = visitor.client.cookies["csrftoken"].value
    visitor.post("/sign-in", username="fixed", password=PASSWORD)
    visitor.post("/sign-in/code", code=code_of(secret, 1))
    assert visitor.get("/account").status_code == 200
    assert visitor.client.cookies["sessionid"].value != planted.session_key
    assert visitor.client.cookies["csrftoken"].value != token
    thief = Visitor(town, None)
    thief.client.cookies["sessionid"] = str(planted.session_key)
    assert thief.get("/account").status_code == 302


# --- passkeys --------------------------------------------------------------------------------------------------------
class Phone:
    """An authenticator in software, which need not ask its owner anything."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = b"a credential of sixteen bytes"
        self.handle = ""

    def _data(self, kind: str, challenge: str, flags: Any, credential: Any = None) -> tuple[bytes, Any]:
        client = CollectedClientData.create(kind, websafe_decode(challenge), "https://testserver")
        rp_id = hashlib.sha256(b"testserver").digest()
        return bytes(client), AuthenticatorData.create(rp_id, flags, 0, credential or b"")

    def register(self, options: dict[str, Any], flags: Any) -> str:
        """Answer the page that adds a passkey."""
        public = options["publicKey"]
        self.handle = public["user"]["id"]
        made = AttestedCredentialData.create(b"\0" * 16, self.id, ES256.from_cryptography_key(self.key.public_key()))
        attested = flags | AuthenticatorData.FLAG.AT
        client, data = self._data("webauthn.create", public["challenge"], attested, made)
        answer = {"clientDataJSON": client, "attestationObject": bytes(AttestationObject.create("none", data, {}))}
        return self._out(answer, {"credProps": {"rk": True}})

    def sign(self, options: dict[str, Any], flags: Any) -> str:
        """Answer the page that asks for a passkey."""
        client, data = self._data("webauthn.get", options["publicKey"]["challenge"], flags)
        signature = self.key.sign(bytes(data) + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        handle = websafe_decode(self.handle)
        answer = {"clientDataJSON": client, "authenticatorData": bytes(data), "signature": signature}
        return self._out({**answer, "userHandle": handle}, {})

    def _out(self, answer: dict[str, bytes], extensions: dict[str, Any]) -> str:
        name = websafe_encode(self.id)
        response = {key: websafe_encode(value) for key, value in answer.items()}
        return json.dumps(
            {
                "id": name,
                "rawId": name,
                "type": "public-key",
                "response": response,
                "clientExtensionResults": extensions,
            }
        )


def on_page(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="passkey-data" type="application/json">(.*?)</script>', page)
    assert found
    return dict(json.loads(found[1]))


def test_a_passkey_counts_only_if_its_owner_was_asked_and_its_answer_once(town: Town) -> None:
    user = town.person("keyed").user
    owner, phone = signed_in(town, "keyed"), Phone()
    mine = Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN)
    path = f"{SECURITY}/passkey"
    for flags, taken in ((PRESENT, 0), (PRESENT | VERIFIED, 1)):
        page = owner.html(path)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert token
        credential = phone.register(on_page(page)["creation_options"], flags)
        form = {"csrfmiddlewaretoken": token[1], "name": "phone", "passwordless": "True", "credential": credential}
        owner.client.post(path, form)
        assert mine.count() == taken, flags

    def sign_in(flags: Any) -> tuple[Visitor, str]:
        visitor = Visitor(town, None)
        visitor.html("/sign-in")
        asked = visitor.client.get("/sign-in/passkey", headers={"Accept": "application/json"}).json()
        return visitor, phone.sign(asked["request_options"], flags)

    def send(visitor: Visitor, credential: str) -> bool:
        token = visitor.client.cookies["csrftoken"].value
        visitor.client.post("/sign-in/passkey", {"csrfmiddlewaretoken": token, "credential": credential})
        return visitor.get("/account").status_code == 200

    assert not send(*sign_in(PRESENT)), "a device alone, which anybody may hold"
    visitor, credential = sign_in(PRESENT | VERIFIED)
    assert send(visitor, credential)
    assert visitor.get(f"{SECURITY}/email").status_code == 200, "just shown"
    other, _unused = sign_in(PRESENT | VERIFIED)
    assert not send(other, credential), "an answer to another question"

    for flags, opens in ((PRESENT, False), (PRESENT | VERIFIED, True)):
        second = Visitor(town, None)
        second.post("/sign-in", username="keyed", password=PASSWORD)
        credential = phone.sign(on_page(second.html("/sign-in/code"))["request_options"], flags)
        token = second.client.cookies["csrftoken"].value  # opening the page once more would ask another question
        second.client.post("/sign-in/code", {"csrfmiddlewaretoken": token, "credential": credential})
        assert (second.get("/account").status_code == 200) is opens, "after the password, too"
    user.is_active = False
    user.save()
    assert not send(*sign_in(PRESENT | VERIFIED))


# --- names and addresses ---------------------------------------------------------------------------------------------
def test_a_wrong_password_costs_and_says_the_same_for_a_name_that_is_nobodys(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.person("gone")
    User.objects.filter(pk=User.objects.get(username="gone").pk).update(is_active=False)
    hashed: list[str] = []
    real = MD5PasswordHasher.encode
    monkeypatch.setattr(
        MD5PasswordHasher, "encode", lambda self, password, salt: hashed.append(password) or real(self, password, salt)
    )

    def said(name: str, password: str) -> tuple[str, int]:
        hashed.clear()
        page = Visitor(town, None).post("/sign-in", username=name, password=password).content.decode()
        page = re.sub(r'(value|content)="\w{64}"', "", page).replace(name, "NAME")
        return page, len(hashed)

    known = said("alice", "guess")
    assert known == said("nobodyhere", "guess") == said("gone", PASSWORD)
    assert known[1] == 1


def test_a_link_that_is_nobodys_says_the_same_as_one_that_is_too_old(town: Town) -> None:
    user = town.person("linked").user
    emails.confirm(token=emails.token_of(user))
    forget_mails()
    Visitor(town, None).post("/password/reset", email=user.email)
    link = re.search(r"http://localhost:8000(/password/reset/(\w+)-\S+)", str(sent_mails()[0].body))
    assert link
    known, unknown = f"/password/reset/{link[2]}-wrong-key", "/password/reset/zzzzz-wrong-key"
    pages = [Visitor(town, None).get(path) for path in (known, unknown)]
    said = [page.content.decode().replace(path, "PATH") for page, path in zip(pages, (known, unknown), strict=True)]
    said = [re.sub(r'(value|content)="\w{64}"', "", page) for page in said]
    assert said[0] == said[1] and "too old" in said[0]
    assert pages[0].status_code == pages[1].status_code


# --- what every answer carries ---------------------------------------------------------------------------------------
def test_every_page_forbids_frames_foreign_scripts_and_guessing_of_types(town: Town) -> None:
    visitor = signed_in(town, "alice")
    for path in PAGES:
        for who in (town.nobody, visitor):
            headers = who.get(path).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy and "unsafe" not in policy, path
            for part in ("object-src 'none'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"):
                assert part in policy, (path, part)
            assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "same-origin"
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_there_is_no_administration_page_beside_ours(town: Town) -> None:
    for path in ("/admin/", "/admin", "/accounts/", "/__debug__/", "/.env", "/static/../market/config/settings.py"):
        assert signed_in(town, "sam").get(path).status_code == 404, path


@pytest.mark.parametrize("path", ["/language", "/sign-out", "/account/keys", "/account/profile", "/money/withdrawals"])
def test_no_form_is_taken_from_elsewhere(town: Town, path: str) -> None:
    visitor = signed_in(town, "alice")
    assert visitor.client.post(path, {"language": "en", "next": "/"}).status_code == 403
    token = visitor.client.cookies["csrftoken"].value
    origin = {"HTTP_ORIGIN": "https://evil.example"}
    assert visitor.client.post(path, {"csrfmiddlewaretoken": token}, **origin).status_code == 403


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "http:///evil"])
def test_the_choice_of_a_language_leads_nowhere_else(town: Town, elsewhere: str) -> None:
    answer = town.nobody.post("/language", page="/", language="zh-hans", next=elsewhere)
    assert (
        answer.status_code == 302
        and answer.headers["Location"].startswith("/")
        and "evil" not in answer.headers["Location"]
    )
