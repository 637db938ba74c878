"""What anybody may open: the market page, manifest, service worker, icon, the page without a connection; and the bell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.template.loader import render_to_string
from django.test import override_settings
from django.utils import translation

from market.households.models import User
from market.notices import operations
from market.overview import board as overview
from market.overview.sun import LocalSun
from market.pages.marketboard import chart_of
from tests.integration.pages.conftest import Town
from tests.integration.test_push import HOST, NOW, Browser


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path) -> Iterator[None]:
    overview.KEEPER.forget()
    with override_settings(PUSH_KEY_FILE=tmp_path / "push_key"):
        yield


def test_the_market_is_open_to_everybody_and_names_no_street(town: Town) -> None:
    for visitor in (town.nobody, town.alice, town.olga):
        html = visitor.html("/market")
        assert "The market now" in html
        assert "Shown once at least ten homes take part" in html  # the town has fewer
        content = html[html.index("<main") : html.index("</main")]
        assert "LV1" not in content
        assert "alice" not in content
    assert 'href="/market"' in town.nobody.html("/")


def test_what_is_alike_for_everybody_is_made_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.pages.marketboard._rendered", {})
    made = []
    monkeypatch.setattr("market.pages.marketboard.chart_of", lambda board: made.append(board) or chart_of(board))
    for _ in range(5):
        town.nobody.html("/market")
    assert len(made) == 1
    town.nobody.client.cookies["django_language"] = "zh-hans"
    assert "市场现况" in town.nobody.html("/market")
    del town.nobody.client.cookies["django_language"]
    assert len(made) == 2
    assert made[0] is made[1]


def test_it_says_so_when_nothing_runs(closed: Town) -> None:
    assert "The market is not running at the moment" in closed.nobody.html("/market")


def test_why_there_is_no_share_of_local_sun() -> None:
    health = overview.Health(1, 1, 0, (), "none", None)
    board = overview.Board(0, "CITY", 4_000, 800, (), (), LocalSun(0, 0), 0, health)
    with translation.override("en"):
        morning = render_to_string("public/market_board.html", {"board": board})
        night = render_to_string("public/market_board.html", {"board": board._replace(settled=3)})
    assert "No interval is settled yet." in morning and "daylight" not in morning
    assert "comes back with daylight" in night and "settled yet" not in night


def test_the_chart_breaks_where_nothing_was_traded() -> None:
    behind = tuple(
        overview.Behind(f"2026-06-06T{n:02d}:00Z", price, wh, wh // 2)
        for n, (price, wh) in enumerate([(1_000, 400), (None, 0), (3_000, 200), (2_000, 100)])
    )
    health = overview.Health(1, 1, 0, (), "none", None)
    board = overview.Board(0, "CITY", 4_000, 800, (), behind, None, 0, health)
    chart = chart_of(board)
    assert chart is not None
    assert chart.line == "M0 120H240M480 0H720L720 60H960"
    assert [(bar.height, bar.near) for bar in chart.bars] == [(120, 60), (0, 0), (60, 30), (30, 15)]
    assert (board.volume_wh, board.near_permille, board.price_e4) == (
        700,
        500,
        (1_000 * 400 + 3_000 * 200 + 200_000) // 700,
    )
    assert chart_of(board._replace(behind=())) is None


# --- the app -------------------------------------------------------------------------------------------------------------
def test_the_manifest_is_complete_in_both_languages(town: Town) -> None:
    names = set()
    for language in ("en", "zh-hans"):
        answer = town.nobody.get(f"/manifest.{language}.webmanifest")
        assert answer["Content-Type"] == "application/manifest+json"
        manifest = json.loads(answer.content)
        names.add(manifest["name"])
        assert (manifest["id"], manifest["scope"], manifest["display"]) == ("/", "/", "standalone")
        assert {(icon["sizes"], icon["purpose"]) for icon in manifest["icons"]} >= {
            ("192x192", "any"), ("512x512", "any"), ("512x512", "maskable"),
        }  # fmt: skip
        for icon in manifest["icons"]:
            assert (settings.FRONTEND / icon["src"].removeprefix(settings.STATIC_URL)).is_file()
        assert [shortcut["url"] for shortcut in manifest["shortcuts"]] == ["/home", "/trade", "/money", "/market"]
    assert len(names) == 2
    assert town.nobody.get("/manifest.fr.webmanifest").status_code == 404
    assert 'rel="manifest" href="/manifest.en.webmanifest"' in town.nobody.html("/")


def test_the_service_worker_is_that_of_this_build(town: Town) -> None:
    answer = town.nobody.get("/sw.js")
    assert answer["Content-Type"].startswith("text/javascript")
    assert (answer["Cache-Control"], answer["Service-Worker-Allowed"]) == ("no-cache", "/")
    code = answer.content.decode()
    facts = json.loads(code[len("self.sunledger=") : code.index(";\n")])
    assert facts["static"] == f"/static/{settings.BUILD}/" == settings.STATIC_URL
    for address in [*facts["shell"], *facts["offline"].values()]:
        assert town.nobody.get(address).status_code == 200, address
    assert "import" not in code[code.index(";\n") :]


def test_another_text_of_the_page_without_a_connection_is_another_service_worker(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = town.nobody.get("/sw.js").content
    assert town.nobody.get("/sw.js").content == before
    monkeypatch.setattr("market.pages.installable._offline_words", lambda: {"since": "Said better"})
    assert town.nobody.get("/sw.js").content != before


def test_the_market_page_of_somebody_signed_in_is_not_kept(town: Town) -> None:
    assert "no-store" in town.alice.get("/market")["Cache-Control"]
    assert not town.nobody.get("/market").has_header("Cache-Control")


def test_only_a_device_that_tells_this_person_counts_as_told(town: Town) -> None:
    alice, bert = (User.objects.get(username=name) for name in ("alice", "bob"))
    with override_settings(PUSH_SERVICES=[HOST]):
        browser = Browser("here")
        mine = operations.add_device(user=alice, endpoint=browser.endpoint, name="", now=NOW, **browser.keys)
        town.alice.client.cookies[operations.THIS_DEVICE] = str(mine.pk)
        assert f'data-device="{mine.pk}"' in town.alice.html("/notifications")
        operations.add_device(user=bert, endpoint=browser.endpoint, name="", now=NOW, **browser.keys)
        assert 'data-device=""' in town.alice.html("/notifications")


def test_static_files_may_be_kept_for_ever(town: Town) -> None:
    html = town.nobody.html("/")
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
        answer = town.nobody.get(address)
        assert answer.status_code == 200, address
        assert "immutable" in answer["Cache-Control"], address


def test_the_page_without_a_connection_shows_nothing_of_the_market(town: Town) -> None:
    for language, title in (("en", "No connection"), ("zh-hans", "无连接")):
        answer = town.alice.get(f"/offline/{language}")
        html = answer.content.decode()
        assert title in html
        assert "alice" not in html
        assert not re.search(r"[€¥]|kWh|page-meta|csrf", html)
        assert not answer.cookies
    assert town.nobody.get("/offline/fr").status_code == 404


def test_the_icon_is_where_browsers_look(town: Town) -> None:
    answer = town.nobody.get("/favicon.ico")
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/x-icon")
    assert answer.content[:4] == b"\0\0\1\0"


# --- the bell ------------------------------------------------------------------------------------------------------------
def test_households_have_a_bell_and_others_none(town: Town) -> None:
    assert 'id="bell"' in town.alice.html("/home")
    for visitor, page in ((town.olga, "/operator"), (town.nobody, "/")):
        assert 'id="bell"' not in visitor.html(page)
        assert visitor.get("/notifications").status_code in (302, 403)


def test_the_list_its_marks_and_the_choice(town: Town) -> None:
    contract = town.market.contract(2)
    town.market.place(town.alice.account, "sell", "0.2000", 700, contract=contract)
    town.market.buys(town.bob.account, "0.2000", 700, contract=contract)
    html = town.alice.html("/notifications")
    assert "You sold energy" in html
    assert "700 Wh for" in html
    assert "You sold energy" not in town.bob.html("/notifications")
    assert 'data-unread="2"' in town.alice.html("/notifications/latest")
    mark = re.search(r'name="mark" value="([^"]+)"', html)
    assert mark is not None
    town.alice.post("/notifications/read", "/notifications", mark=mark[1])
    assert 'data-unread="0"' in town.alice.html("/notifications/latest")
    assert "Mark all as read" not in town.alice.html("/notifications")
    saved = town.alice.post(
        "/notifications/settings", "/notifications", kinds=["bought"], amounts="on", quiet_from="23", quiet_until="6"
    )
    assert saved.status_code == 302
    html = town.alice.html("/notifications")
    assert re.search(r'value="bought"[^>]*checked', html)
    assert not re.search(r'value="sold"[^>]*checked', html)
    assert '<option value="23" selected>' in html
    half = town.alice.post("/notifications/settings", "/notifications", kinds=["bought"], quiet_from="23")
    assert "Quiet hours need a beginning and an end." in half.content.decode()
