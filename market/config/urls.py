"""The URL tree of the Django side; the order endpoints and the socket stand beside it (``asgi``)."""

from django.urls import include, path, re_path

from market.api.health import healthz
from market.api.problems import not_found

urlpatterns = [
    path("healthz", healthz),
    path("", include("market.pages.urls")),
    path("api/v1/", include("market.api.urls")),
    re_path(r"^api(?P<path>(?:/.*)?)$", not_found),
    path("ledger/", include("ledger.urls")),
]
