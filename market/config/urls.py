"""The URL tree of the Django side; the order endpoints and the socket stand beside it (``asgi``)."""

from django.urls import include, path

from market.api.health import healthz

urlpatterns = [
    path("healthz", healthz),
    path("", include("market.pages.urls")),
    path("api/v1/", include("market.api.urls")),
    path("ledger/", include("ledger.urls")),
]
