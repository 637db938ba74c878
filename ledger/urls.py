"""Paths below the log's prefix, ``/ledger/``."""

from django.urls import path

from ledger import views

app_name = "ledger"
urlpatterns = [
    path("checkpoint", views.checkpoint, name="checkpoint"),
    path("witnessed", views.witnessed, name="witnessed"),
    path("keys", views.keys, name="keys"),
    path("witnesses", views.witnesses, name="witnesses"),
    path("tile/<path:rest>", views.tile, name="tile"),
    path("rows/<str:seq>", views.rows, name="rows"),
    path("evidence/<str:sha256>", views.evidence, name="evidence"),
    path("snapshot/<str:sha256>", views.snapshot, name="snapshot"),
    path("rulebook/<str:sha256>", views.rulebook, name="rulebook"),
    path("<path:path>", views.nothing),
]
