"""What makes the pages an app: manifest, service worker, the page without a connection, the icon at its old address."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import path, reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from market.pages.context import NAVIGATION

A_DAY_S: Final = 86_400
SHORTCUTS: Final = ("home", "trade", "money")
LANGUAGES: Final = tuple(code for code, _name in settings.LANGUAGES)
# What the page without a connection is made of; all else comes into the cache as it is used.
SHELL: Final = ("app.css", "offline.js", "favicon.svg", "figtree-latin-wght-normal.woff2")


@require_safe
def manifest(request: HttpRequest, language: str) -> HttpResponse:
    """Return the web app manifest in a language."""
    if language not in LANGUAGES:
        raise Http404
    with translation.override(language):
        content = _manifest(language)
    response = JsonResponse(
        content, content_type="application/manifest+json", json_dumps_params={"ensure_ascii": False}
    )
    response["Cache-Control"] = f"public, max-age={A_DAY_S}"
    return response


def _manifest(language: str) -> dict[str, Any]:
    def icon(name: str, size: str, kind: str = "image/png", purpose: str = "any") -> dict[str, str]:
        return {"src": static(name), "sizes": size, "type": kind, "purpose": purpose}

    def shortcut(name: str, url: str) -> dict[str, Any]:
        return {"name": name, "url": url, "icons": [icon("icon-192.png", "192x192")]}

    return {
        "id": "/",
        "name": _("Sunledger: sun from the neighbours"),
        "short_name": "Sunledger",
        "description": _("Households sell solar surplus to each other."),
        "lang": translation.to_locale(language).replace("_", "-"),
        "dir": "ltr",
        "start_url": "/?from=app",
        "scope": "/",
        "display": "standalone",
        "background_color": "#f2f5f0",
        "theme_color": "#0f2c22",
        "categories": ["utilities", "finance"],
        "icons": [
            icon("icon.svg", "any", "image/svg+xml"),
            icon("icon-192.png", "192x192"),
            icon("icon-512.png", "512x512"),
            icon("icon-maskable-512.png", "512x512", purpose="maskable"),
        ],
        "shortcuts": [
            *(shortcut(str(label), reverse(name)) for name, label in NAVIGATION["household"] if name in SHORTCUTS),
            shortcut(_("The market now"), reverse("market")),
        ],
    }


@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """Return the service worker with what it must know of this build in front: another build is another worker."""
    facts = {
        "build": _build(),
        "static": settings.STATIC_URL,
        "shell": [static(name) for name in SHELL],
        "offline": {language: reverse("offline", args=[language]) for language in LANGUAGES},
        "icon": static("icon-192.png"),
    }
    code = (settings.FRONTEND / "sw.js").read_text()
    text = f"self.sunledger={orjson.dumps(facts).decode()};\n{code}"
    response = HttpResponse(text, content_type="text/javascript; charset=utf-8")
    response["Cache-Control"] = "no-cache"
    response["Service-Worker-Allowed"] = "/"
    return response


def _build() -> str:
    """Return what the worker's files and its page without a connection are kept under: their content's digest."""
    pages = "".join(_offline(language).content.decode() for language in LANGUAGES)
    return hashlib.sha256(f"{settings.BUILD}{pages}".encode()).hexdigest()[:12]


@require_safe
def offline(request: HttpRequest, language: str) -> HttpResponse:
    """Return the page that stands in when there is no connection: the same for everybody, with nothing of the market."""
    if language not in LANGUAGES:
        raise Http404
    response = _offline(language)
    response["Cache-Control"] = "no-cache"
    return response


def _offline(language: str) -> HttpResponse:
    with translation.override(language):
        return render(None, "public/offline.html", {"language": language, "words": _offline_words()})  # type: ignore[arg-type]


def _offline_words() -> dict[str, str]:
    return {
        "since": _("The last answer from the market came at {time}, {minutes} min ago."),
        "now": _("The last answer from the market came at {time}, less than a minute ago."),
        "unknown": _("This device has not reached the market since the app was installed or its storage was cleared."),
        "trying": _("Trying again…"),
        "waiting": _("Still no connection. The next try is in {seconds} s."),
    }


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Return the icon at the address that browsers ask for on pages which name none."""
    response = HttpResponse((settings.FRONTEND / "favicon.ico").read_bytes(), content_type="image/x-icon")
    response["Cache-Control"] = f"public, max-age={A_DAY_S}"
    return response


urlpatterns = [
    path("manifest.<str:language>.webmanifest", manifest, name="manifest"),
    path("sw.js", service_worker, name="service-worker"),
    path("offline/<str:language>", offline, name="offline"),
    path("favicon.ico", favicon, name="favicon"),
]
