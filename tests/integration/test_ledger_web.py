"""The log as it is served: what is public, what is not, and a running server that is verified."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from io import StringIO
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.management import CommandError, call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import Client, override_settings

from ledger import keys, queries
from ledger.core.source import Missing
from ledger.core.tiles import Place
from ledger.sources import DatabaseSource, HttpSource, SourceFailed
from market.households.operations import issue_key
from tests.integration.ledger_writer import RULEBOOK, write_log

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_keys")]


def new_key(user: object, scopes: list[str]) -> str:
    """Return the secret of a new API key."""
    return issue_key(user=user, name="verifier", scopes=scopes, now=datetime.now(UTC)).token


def test_heads_and_hash_tiles_are_public_entries_and_rows_are_not(client: Client) -> None:
    write_log(5, 300)
    response = client.get("/ledger/checkpoint")
    assert response.content.decode() == queries.checkpoint()
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Cache-Control"] == "public, max-age=1"
    tile = client.get("/ledger/tile/0/000")
    assert (len(tile.content), tile["Content-Type"]) == (8192, "application/octet-stream")
    assert tile["Cache-Control"] == "public, max-age=31536000, immutable"
    assert client.get("/ledger/tile/0/000.p/7").content == tile.content[: 7 * 32]
    assert client.get("/ledger/tile/1/000.p/1").status_code == 200
    assert "immutable" not in client.get("/ledger/tile/0/001.p/52")["Cache-Control"]
    rulebook = client.get(f"/ledger/rulebook/{queries.entry(0)['rulebook_sha256']}")
    assert rulebook.content.decode() == RULEBOOK
    for path in ("tile/entries/000", "tile/entries/001.p/52", "rows/1", "rows/x", "tile/entries/007"):
        response = client.get(f"/ledger/{path}")
        assert (response.status_code, response["Content-Type"]) == (401, "application/problem+json")
        assert (response.json()["code"], response["WWW-Authenticate"]) == ("not_authenticated", "Bearer")
        assert response.json()["type"] == "urn:sunledger:problem:not_authenticated"
    with override_settings(LEDGER_OPEN=True):
        response = client.get("/ledger/tile/entries/000")
        assert response["Cache-Control"] == "private, max-age=31536000, immutable"
        assert response.content == queries.tile(Place(-1, 0, 256))
        assert client.get("/ledger/rows/1").content == queries.rows_file(1)


def test_rows_are_served_once_a_checkpoint_covers_their_entry(client: Client) -> None:
    writer = write_log(5)
    pinned = DatabaseSource()
    seq = writer.readings(3)
    writer.commit()
    with override_settings(LEDGER_OPEN=True):
        assert client.get(f"/ledger/rows/{seq}").status_code == 404  # stored, and not sealed
        writer.seal()
        writer.commit()
        assert client.get(f"/ledger/rows/{seq}").content.count(b"\n") == 3
    with pytest.raises(Missing):
        pinned(f"rows/{seq}")  # it stays at its checkpoint
    assert DatabaseSource()(f"rows/{seq}")


@pytest.mark.parametrize(
    ("role", "status"), [("regulator", 200), ("operator", 200), ("staff", 200), ("household", 403)]
)
def test_entries_are_for_those_who_watch_the_market(role: str, status: int, django_user_model: type) -> None:
    write_log(5)
    client = Client()
    client.force_login(django_user_model.objects.create(username="rita", role=role))
    assert client.get("/ledger/tile/entries/000.p/8").status_code == status
    assert client.get("/ledger/rows/1").status_code == status


@pytest.mark.parametrize(
    ("role", "scopes", "status"),
    [("regulator", ["ledger:read"], 200), ("operator", ["operate"], 403), ("household", ["read"], 403)],
)
def test_keys_with_the_scope_open_entries(
    client: Client, role: str, scopes: list[str], status: int, django_user_model: type
) -> None:
    write_log(5)
    user = django_user_model.objects.create(username="rita", role=role)
    path = "/ledger/tile/entries/000.p/8"
    token = new_key(user, scopes)
    assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == status
    assert client.get("/ledger/rows/1", headers={"Authorization": f"bearer {token}"}).status_code == status
    for wrong in (f"Bearer {token}x", f"Basic {token}", "Bearer", "Bearer \x00"):
        assert client.get(path, headers={"Authorization": wrong}).status_code == 401
    with override_settings(LEDGER_ACCESS=""):
        assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 401


@override_settings(LEDGER_OPEN=True)
def test_what_the_log_does_not_have_is_a_problem_with_a_code(client: Client) -> None:
    for path in ("checkpoint", "tile/0/000.p/1"):
        assert client.get(f"/ledger/{path}").status_code == 404
    write_log(5)
    for path in (
        "tile/0/000", "tile/0/000.p/9", "tile/0/000.p/256", "tile/0/000.p/0", "tile/0/001.p/1", "tile/1/000.p/1",
        "tile/0/0", "tile/x/000", "tile/9/000", "tile/entries/000", "tile/entries/000.p/9",
        "tile/0/x999/x999/x999/x999/x999/999", "tile/0/../0/000", "rows/0", "rows/-1", "rows/%F0%9F%98%80",
        "rows/99999999999999999999", "rows/9223372036854775807", "rulebook/abc", "rulebook/" + "0" * 64, "nix",
    ):  # fmt: skip
        response = client.get(f"/ledger/{path}")
        assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json"), path
        assert response.json()["code"] == "not_found"
        assert "(" not in response.json()["detail"]
    assert "tile/0/000.p/9." in client.get("/ledger/tile/0/000.p/9").json()["detail"]
    response = Client(enforce_csrf_checks=True).put("/ledger/checkpoint")
    assert (response.status_code, response["Allow"], response.json()["code"]) == (
        405,
        "GET, HEAD",
        "method_not_allowed",
    )
    assert client.head("/ledger/checkpoint").status_code == 200


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.mark.django_db(transaction=True)
def test_a_running_server_is_verified_with_a_key(monkeypatch: pytest.MonkeyPatch, django_user_model: type) -> None:
    write_log(5, 300)
    token = new_key(django_user_model.objects.create(username="rita", role="regulator"), ["ledger:read"])
    app = get_wsgi_application()

    def serve(environ: dict, start_response: object) -> object:
        try:
            return app(environ, start_response)
        finally:
            connections.close_all()

    server = make_server("127.0.0.1", 0, serve, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        with override_settings(ALLOWED_HOSTS=["127.0.0.1"]):
            out = StringIO()
            call_command("verify_ledger", url, key=token, stdout=out)
            assert "entries 309, blocks 2" in out.getvalue()
            monkeypatch.setenv("LEDGER_KEY", token)
            call_command("verify_ledger", f"{url}/ledger/", vkey=[keys.verifier_key()], stdout=out)
            assert "(given with --vkey)" in out.getvalue()
            monkeypatch.delenv("LEDGER_KEY")
            with pytest.raises(CommandError, match="ledger:read"):
                call_command("verify_ledger", url)
            with pytest.raises(CommandError, match="404"):
                call_command("verify_ledger", f"{url}/elsewhere")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(SourceFailed, match="refused"):
        HttpSource(url)("checkpoint")
    with pytest.raises(SourceFailed, match="web address"):
        HttpSource("ftp://127.0.0.1")
