"""One Web Push message (RFC 8030): encrypted for one browser (RFC 8291), signed with the market's key (VAPID, RFC 8292)."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Callable
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import http_ece
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from py_vapid import Vapid02

from ledger.secretfiles import load_or_make
from market.notices import addresses
from market.notices.operations import decoded

TTL_S: Final = 12 * 3_600  # a message that waited longer than that is no news
TOKEN_S: Final = 12 * 3_600  # the longest that push services take is 24 hours
MAX_PAYLOAD: Final = 2_000  # bytes; services take 4,096 of ciphertext
MAX_ANSWER: Final = 4_096
GONE: Final = frozenset({404, 410})
LATER: Final = frozenset({429, 500, 502, 503, 504})
UNREACHED: Final = 0
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256

Connect = Callable[[str], http.client.HTTPConnection]


class Address(NamedTuple):
    """Where a browser is reached, and the keys it reads with (base64url)."""

    endpoint: str
    p256dh: str
    auth: str


@lru_cache(1)
def _key(path: str) -> tuple[Vapid02, str]:
    secret = load_or_make(Path(path))
    private = ec.derive_private_key(int.from_bytes(secret, "big") % (ORDER - 1) + 1, ec.SECP256R1())
    raw = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return Vapid02(private), base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public_key() -> str:
    """Return the market's key as browsers want it (base64url); made at the first call. Raises ``KeyFileError``."""
    return _key(str(settings.PUSH_KEY_FILE))[1]


def encrypt(message: dict[str, str], address: Address) -> bytes:
    """Return a message that only the browser can read."""
    data = orjson.dumps(message)
    assert len(data) <= MAX_PAYLOAD, "messages are short"
    body: bytes = http_ece.encrypt(
        data,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=decoded(address.p256dh),
        auth_secret=decoded(address.auth),
        version="aes128gcm",
    )
    return body


def headers(endpoint: str, topic: str) -> dict[str, str]:
    """Return what the push service wants to know: who sends, how long to keep it, what it replaces."""
    parts = urlsplit(endpoint)
    claims = {
        "aud": f"{parts.scheme}://{parts.netloc}",
        "sub": f"mailto:{parseaddr(settings.DEFAULT_FROM_EMAIL)[1]}",
        "exp": int(time.time()) + TOKEN_S,
    }
    signed: dict[str, str] = _key(str(settings.PUSH_KEY_FILE))[0].sign(claims)
    return signed | {
        "Content-Type": "application/octet-stream",
        "Content-Encoding": "aes128gcm",
        "TTL": str(TTL_S),
        "Topic": topic,
        "Urgency": "normal",
    }


def send(message: dict[str, str], address: Address, *, topic: str, connect: Connect = addresses.connect) -> int:
    """Send a message; return the push service's status, ``UNREACHED`` when there was none. A redirect is not followed."""
    parts = urlsplit(address.endpoint)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = None
    try:
        connection = connect(address.endpoint)
        connection.request("POST", path, encrypt(message, address), headers(address.endpoint, topic))
        response = connection.getresponse()
        response.read(MAX_ANSWER)
        return response.status
    except (OSError, http.client.HTTPException):
        return UNREACHED
    finally:
        if connection is not None:
            connection.close()
