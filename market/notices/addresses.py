"""Where a push message may go: a browser names the address, so it must not make the market call hosts of its own network.

Only https on its usual port, only hosts of the push services that the settings name, and, looked at once more when the
connection is made, only public addresses: the one that was looked at is the one that is called.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

TIMEOUT_S: Final = 10.0  # of one step on the socket
MAX_ENDPOINT: Final = 1_024
MAX_HOST: Final = 253
LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")  # what a name in DNS is made of (RFC 1035)
HTTPS: Final = 443


class Forbidden(OSError):
    """The address is not one that messages are sent to."""


def allowed(endpoint: str) -> bool:
    """Whether an endpoint is an https address of a push service that the settings name."""
    if len(endpoint) > MAX_ENDPOINT or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        return False
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    if parts.scheme != "https" or port not in (None, HTTPS) or "@" in parts.netloc or not parts.path.strip("/"):
        return False
    if len(host) > MAX_HOST or not all(LABEL.fullmatch(label) for label in host.split(".")):
        return False
    return any(_is_of(host, service) for service in settings.PUSH_SERVICES)


def _is_of(host: str, service: str) -> bool:
    """Whether a host is a service ("push.example") or, for "*.push.example", below it."""
    if service.startswith("*."):
        return host.endswith(service[1:]) and len(host) > len(service) - 1
    return host == service


def public_address(host: str) -> str:
    """Return the address of a host, all of whose addresses must be public; raise ``Forbidden`` or ``OSError``."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, HTTPS, type=socket.SOCK_STREAM)]
    for address in found:
        known = ipaddress.ip_address(address.partition("%")[0])
        known = getattr(known, "ipv4_mapped", None) or known  # ::ffff:127.0.0.1 is 127.0.0.1
        if not known.is_global or known.is_multicast:
            raise Forbidden(f"{host} has an address that is not public")
    if not found:
        raise Forbidden(f"{host} has no address")
    return found[0]


class _Pinned(http.client.HTTPSConnection):
    """A connection to an address that was looked at, with the certificate of the name."""

    def __init__(self, host: str, address: str):
        super().__init__(host, HTTPS, timeout=TIMEOUT_S)
        self._address = address

    def connect(self) -> None:
        raw = socket.create_connection((self._address, HTTPS), TIMEOUT_S)
        try:
            self.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=self.host)
        except OSError:
            raw.close()
            raise


def connect(endpoint: str) -> http.client.HTTPConnection:
    """Return a connection, not opened yet, to the host of an endpoint; raise ``Forbidden`` or ``OSError``."""
    if not allowed(endpoint):
        raise Forbidden("no push service that the settings name")
    host = urlsplit(endpoint).hostname or ""
    return _Pinned(host, public_address(host))
