"""A real server from outside: what it writes while a person signs up and is refused, and what is left when they are erased."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser.conftest import ROOT, Market
from tests.integration.test_privacy_erasure import NAME, PASSWORD, TEXTS, file_leaks

OTHER = {"username": "Somebody.Else", "email": "else@post.example", "address": "Elsewhere 1", "meter_number": "X-1"}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Market]:
    """A demo whose log, database and keys lie in one folder; everything is logged that can be."""
    running = Market(tmp_path / "market")
    running.settings["SUNLEDGER_LOG_LEVEL"] = "DEBUG"
    running.start()
    yield running
    running.stop()


def manage(market: Market, *arguments: str) -> str:
    """Run a command on the market's data and return what it says; what it logs goes where the server's log goes."""
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    environment |= {"SUNLEDGER_DATA": str(market.folder / "data"), "SUNLEDGER_LOG_LEVEL": "DEBUG"}
    with (market.folder / "server.log").open("ab") as log:
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, timeout=240
        )
    assert ran.returncode == 0, (arguments, (market.folder / "server.log").read_text()[-2000:])
    return ran.stdout.decode()


def post(browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Send a form of the page at this path."""
    page = browser.get(path)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None, path
    headers = {"Referer": str(browser.base_url), "Origin": str(browser.base_url).rstrip("/")}
    return browser.post(path, data={"csrfmiddlewaretoken": token[1], **fields}, headers=headers)


def test_a_servers_log_database_and_export_name_nobody(demo: Market) -> None:
    with httpx.Client(base_url=demo.url, timeout=20) as browser:
        assert post(browser, "/sign-in", username=NAME, password="wrong").status_code == 200  # nobody yet
        assert post(browser, "/sign-up", **TEXTS, password="short", area="LV1.101").status_code == 200  # refused
        area = re.search(r'<option value="(LV[^"]+)"', browser.get("/sign-up").text)
        assert area is not None
        assert post(browser, "/sign-up", **TEXTS, password=PASSWORD, area=area[1]).status_code == 302
        assert NAME in browser.get("/account").text
        token = browser.cookies["csrftoken"]
        headers = {"X-CSRFToken": token, "Origin": demo.url, "Referer": demo.url}
        for path, data in (
            ("/api/v1/orders", {"contract": NAME, "side": TEXTS["address"], "price": "x", "energy_wh": 1}),
            ("/api/v1/me/signing", {"public_key": NAME, "proof": TEXTS["meter_number"]}),
        ):
            assert browser.post(path, json=data, headers=headers).status_code >= 400
        assert browser.post("/sign-out", data={"username": NAME}).status_code == 403  # without the page's token
        assert browser.get("/statement", params={"q": TEXTS["address"]}).status_code < 500
        assert browser.get("/staff", params={"q": NAME}).status_code in (302, 403)
        for key in (NAME, TEXTS["meter_number"]):
            assert browser.get("/api/v1/me", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    with httpx.Client(base_url=demo.url, timeout=20) as stranger:
        assert post(stranger, "/sign-in", username=NAME, password="not this one").status_code == 200
        taken = {**OTHER, "username": NAME}
        assert post(stranger, "/sign-up", **taken, password=PASSWORD, area=area[1]).status_code == 200
    log = (demo.folder / "server.log").read_text(errors="replace")
    assert "INFO" in log and "/sign-out" in log, "refusals are logged"
    assert file_leaks(demo.folder) == {}, "sealed from the first second: a backup of these files names nobody"

    demo.stop()
    assert file_leaks(demo.folder) == {}
    said = manage(demo, "manage.py", "erase_person", NAME, "--yes")
    assert "Erased." in said
    export = str(demo.folder / "export")
    manage(demo, "manage.py", "verify_ledger")
    manage(demo, "manage.py", "check_books")
    manage(demo, "manage.py", "export_ledger", export)
    manage(demo, "manage.py", "verify_ledger", export)
    manage(demo, "-m", "market.audit", export, "--json", str(demo.folder / "audit.json"))
    manage(demo, "manage.py", "follow", export, "--folder", str(demo.folder / "mirror"), "--once")
    assert file_leaks(demo.folder) == {}
    assert {path.suffix for path in (demo.folder / "data").iterdir()} >= {".sqlite3"}

    demo.start()  # and it goes on without the person
    with httpx.Client(base_url=demo.url, timeout=20) as browser:
        page = post(browser, "/sign-in", username=NAME, password=PASSWORD)
        assert page.status_code == 200, "nobody of this name"
    demo.stop()
    assert file_leaks(demo.folder) == {}
