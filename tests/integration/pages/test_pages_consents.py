"""Consents on their pages, the link that asks for one, and the copy of everything about a person."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.core.cache import cache
from django.test import override_settings
from django.utils import timezone

from market.agents import operations as agents
from market.agents.queries import Limits
from market.disputes.models import Dispute
from market.engine.commands import BUY, SELL
from market.households import consents, operations, queries
from market.households.models import Access, Account, Consent, Role
from market.notices import operations as notices
from market.notices.operations import Wanted
from market.pages import export, zones
from market.settlement import subscriptions
from tests.integration.pages.conftest import Town, Visitor
from tests.integration.pages.test_pages_security import signed_in
from tests.integration.test_push import HOST, NOW, Browser

PAGE = "/account/consents"


def day(ahead: int) -> str:
    return f"{timezone.now().astimezone(zones.market_zone()).date() + timedelta(days=ahead):%Y-%m-%d}"


def once(page: str) -> str:
    found = re.search(r'name="once" value="([^"]+)"', page)
    assert found
    return found[1]


def allow(visitor: Visitor, **changes: Any) -> Any:
    fields = {"party": "Sun & Sons", "scopes": ["read"], "until": day(30), "decision": "yes"} | changes
    return visitor.prove().post("/consent", once=once(visitor.html("/consent")), **fields)


def test_a_link_asks_and_the_household_decides(town: Town) -> None:
    link = f"/consent?name=%3Cb%3ESun%3C/b%3E+%26+Sons&scopes=read+trade+operate&until={day(60)}"
    stranger = Visitor(town, None)
    assert stranger.get(link).headers["Location"].startswith("/sign-in?next=/consent"), "after signing in it goes on"
    assert town.olga.get(link).status_code == 403
    page = town.alice.html(link)
    assert "we have not checked it" in page and "&lt;b&gt;Sun&lt;/b&gt; &amp; Sons" in page and "<b>Sun" not in page
    assert len(re.findall(r"<input[^>]* checked", page)) == 2 and f'value="{day(60)}"' in page, (
        "a scope no household can give is left out"
    )
    assert not Consent.objects.exists(), "a link alone allows nothing"
    town.alice.post("/consent", page=link, decision="no")
    assert not Consent.objects.exists(), "and to refuse nobody is asked who they are"
    town.alice.prove()

    sent = {"once": once(page), "party": "Sun & Sons", "scopes": ["read"], "until": day(5), "decision": "yes"}
    answer = town.alice.post("/consent", page=link, **sent)
    token = re.search(r"sl_[\w-]{40,}", answer.content.decode())
    assert token and answer.headers["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    identity = queries.identify_key(token[0])
    assert identity is not None and identity.scopes == {"read"} and identity.account_index == town.alice.account
    town.alice.post("/consent", page=link, **sent)
    assert Consent.objects.count() == 1, "sent twice, allowed once"
    assert "sl_" not in town.alice.html(PAGE).replace(token[0][:10], "")
    assert "Sun &amp; Sons" in town.alice.html(PAGE)


@pytest.mark.parametrize(
    "query", ["name=x&until=never", "name=x&until=2026-02-31", "name=&scopes=", "name=x&until=2999-01-01"]
)
def test_a_crooked_link_is_only_a_proposal(town: Town, query: str) -> None:
    page = town.alice.html(f"/consent?{query}")
    until = re.search(r'name="until" value="(\d{4}-\d\d-\d\d)"', page)
    assert until and day(0) <= until[1] <= day(consents.MAX_DAYS)


def test_a_consent_is_moved_and_withdrawn(town: Town) -> None:
    allow(town.bob)
    row = Consent.objects.get(user=town.bob.user)
    path = f"{PAGE}/{row.pk}"
    for until, sentence in (("", "Choose a day."), ("2999-01-01", "at most a year"), ("2020-01-01", "in the past")):
        answer = town.bob.post(path, page=PAGE, until=until)
        assert answer.status_code == 422 and sentence in answer.content.decode()
    town.bob.post(path, page=PAGE, until=day(90))
    assert f'value="{day(90)}"' in town.bob.html(PAGE)
    town.alice.post(path, page="/account", decision="withdraw")
    assert consents.consents_of(town.bob.user, now=timezone.now())[0].state == consents.HOLDS
    town.bob.post(path, page=PAGE, decision="withdraw")
    page = town.bob.html(PAGE)
    assert "withdrawn" in page and f'action="{path}"' not in page


def test_the_last_day_ends_where_the_household_is(town: Town) -> None:
    far = town.person("far", area="LV1.1")
    far.user.time_zone = "Pacific/Auckland"
    far.user.save()
    tomorrow = (timezone.now().astimezone(zones.ZoneInfo("Pacific/Auckland")) + timedelta(days=1)).date()
    allow(far, until=f"{tomorrow}")
    (row,) = consents.consents_of(far.user, now=timezone.now())
    end = row.expires_at.astimezone(zones.ZoneInfo("Pacific/Auckland"))
    assert (end.date(), end.hour, end.minute) == (tomorrow + timedelta(days=1), 0, 0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"party": ""}, "party"), ({"scopes": []}, "scopes"), ({"until": day(-1)}, "until"), ({"until": "x"}, "until")],
)
def test_what_is_missing_is_said_at_its_field(town: Town, changes: dict[str, Any], field: str) -> None:
    answer = allow(town.charlie, **changes)
    assert answer.status_code == 422 and f'id="id_{field}_error"' in answer.content.decode()


def test_what_a_link_asked_for_keeps_its_warning_while_the_form_is_put_right(town: Town) -> None:
    link = "/consent?name=Sun&scopes=trade"
    page = town.alice.html(link)
    action = re.search(r'<form method="post"(?: action="([^"]*)")? class="card"', page)
    assert action
    sent = {"once": once(page), "party": "Sun", "scopes": ["trade"], "until": "never", "decision": "yes"}
    answer = town.alice.post(action[1] or link, page=link, **sent)
    assert answer.status_code == 422 and "we have not checked it" in answer.content.decode()


def test_a_day_at_the_end_of_the_calendar_is_too_far_and_no_accident(town: Town) -> None:
    for until in ("9999-12-31", "9999-12-30"):
        answer = allow(town.charlie, until=until)
        assert answer.status_code == 422 and 'id="id_until_error"' in answer.content.decode()


def test_a_consent_that_holds_is_listed_however_many_ended_since(town: Town) -> None:
    user, now = town.person("careful").user, timezone.now()
    end = now + timedelta(days=9)
    first = consents.grant(user=user, party="The first", scopes=["trade"], expires_at=end, now=now).consent
    for n in range(consents.SHOWN + 1):
        row = consents.grant(user=user, party=f"Tried {n}", scopes=["read"], expires_at=end, now=now).consent
        consents.withdraw(user=user, consent_id=row.id, now=now)
    rows = consents.consents_of(user, now=now)
    assert (rows[0].id, rows[0].state, len(rows)) == (first.id, consents.HOLDS, consents.SHOWN)
    assert [row.id for row in rows[1:]] == sorted((row.id for row in rows[1:]), reverse=True)


def test_a_consent_ends_when_who_gave_it_comes_into_office(town: Town) -> None:
    user, now = town.person("rising", area="LV1.1").user, timezone.now()
    granted = consents.grant(
        user=user, party="Sun & Sons", scopes=["read"], expires_at=now + timedelta(days=9), now=now
    )
    assert queries.identify_key(granted.token) is not None
    operations.set_role(user=user, role=Role.REGULATOR, now=now)
    assert queries.identify_key(granted.token) is None, "what a household allowed opens nothing of an office"
    assert consents.consents_of(user, now=timezone.now())[0].state == consents.WITHDRAWN


# --- the copy -------------------------------------------------------------------------------------------------------
def test_a_copy_has_all_of_mine_and_nothing_of_others(town: Town) -> None:
    cache.clear()
    name = town.market.contract(1)
    town.market.place(town.alice.account, SELL, "0.2000", 1_000, contract=name)
    town.market.place(town.bob.account, BUY, "0.3000", 400, contract=name)
    bob = signed_in(town, "bob")
    notices.choose(user=town.bob.user, wish=Wanted(frozenset({"sold"}), quiet_from=22, quiet_until=7))
    notices.read_up_to(user=town.bob.user, mark="5.7")
    browser = Browser("bob")
    with override_settings(PUSH_SERVICES=[HOST]):
        notices.add_device(user=town.bob.user, endpoint=browser.endpoint, name="Phone", now=NOW, **browser.keys)
    assert "Load the copy" in bob.html("/account/export")
    answer: Any = bob.post("/account/export")
    assert answer["Content-Type"] == "application/zip" and answer.streaming
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    assert archive.testzip() is None
    for line in archive.read("SHA256SUMS").decode().splitlines():
        digest, _, file = line.partition("  ")
        assert hashlib.sha256(archive.read(file)).hexdigest() == digest
    names = set(archive.namelist())
    assert len(names) == len(archive.read("SHA256SUMS").decode().splitlines()) + 1
    folder = f"account-{town.bob.account}"
    assert {"README.txt", "profile.json", "keys.json", f"{folder}/events.jsonl", f"{folder}/readings.csv"} <= names
    profile = orjson.loads(archive.read("profile.json"))
    assert (profile["name"], profile["email"]) == ("bob", "bob@sunledger.example")
    told = orjson.loads(archive.read("choices.json"))["notifications"]
    assert (told["kinds"], told["quiet_from"], told["read_up_to"]) == (["sold"], 22, {"at_ms": 5, "seq": 7})
    assert [device["name"] for device in told["devices"]] == ["Phone"]
    assert browser.keys["auth"].encode() not in archive.read("choices.json")
    events = [orjson.loads(line) for line in archive.read(f"{folder}/events.jsonl").splitlines()]
    assert [event["energy_wh"] for event in events if event["type"] == "trade"] == [400]
    everything = b"".join(archive.read(file) for file in names)
    assert b"alice" not in everything and town.bob.user.password.encode() not in everything
    statements = [file for file in names if file.startswith("statements/")]
    assert (
        statements and next(csv.reader(io.StringIO(archive.read(statements[0]).decode())))[0] == "interval start [UTC]"
    )
    assert Access.objects.filter(person=town.bob.user.pk, kind="export").count() == 1
    assert "A copy of everything about you" in bob.html("/account")

    assert bob.post("/account/export").status_code == 429, "not again at once"
    long_ago = Visitor(town, town.alice.user)
    assert long_ago.get("/account/export").status_code == 302, "who was signed in long ago is asked again"
    assert signed_in(town, "olga").get("/account/export").status_code == 403


def test_a_copy_has_what_was_chosen_and_what_was_objected_to_before_leaving(town: Town) -> None:
    user, now = town.person("leaver", area="LV1.1").user, timezone.now()
    account = Account.objects.get(user=user)
    agents.change(None, account=account.index, limits=Limits(sell_from_e4=1_234))
    notices.choose(user=user, wish=notices.Wanted(frozenset({"sold"}), quiet_from=22, quiet_until=6))
    notices.PushDevice.objects.create(
        user=user, digest="d", endpoint="https://push.example/secret", p256dh="p", auth="a", name="Telephone", since=now
    )
    subscriptions.subscribe(user=user, now=now)
    subscriptions.claim(user=user, week="2026-W23", now=now)
    Dispute.objects.create(account=account, kind="reading", contract="c", seq=1, state="closed", opened_at=now)
    Account.objects.filter(pk=account.pk).update(closed_at=now)
    archive = zipfile.ZipFile(io.BytesIO(b"".join(export.packed(user, now))))
    chosen = orjson.loads(archive.read("choices.json"))
    assert chosen["autopilot"]["sell_from_e4"] == 1_234
    assert (chosen["notifications"]["kinds"], chosen["notifications"]["quiet_from"]) == (["sold"], 22)
    assert [device["name"] for device in chosen["notifications"]["devices"]] == ["Telephone"]
    assert chosen["weekly_summary"]["since"] and chosen["weekly_summary"]["sent"][0]["week"] == "2026-W23"
    assert b"push.example" not in archive.read("choices.json"), "with its address anybody could send to the device"
    (objection,) = orjson.loads(archive.read("objections.json"))
    assert (objection["account"], objection["state"]) == (account.index, "closed")


def test_copies_made_at_once_are_bounded_and_places_come_back(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    alice, bob = signed_in(town, "alice"), signed_in(town, "bob")
    monkeypatch.setattr(export, "_making", export.threading.BoundedSemaphore(1))
    first: Any = alice.post("/account/export")
    assert bob.post("/account/export").status_code == 429
    first.close()  # the browser went away
    assert bob.post("/account/export").status_code == 200, "and was not held against who waited"


# --- time zones -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("zone", "contract", "slot"),
    [
        ("", "2026-06-06T22:00Z", "00:00–00:15"),
        ("Asia/Shanghai", "2026-06-06T22:00Z", "06:00–06:15"),
        ("UTC", "2026-06-06T22:00Z", "22:00–22:15"),
        ("Asia/Kathmandu", "2026-06-06T22:00Z", "03:45–04:00"),
        ("Europe/Berlin", "2026-10-25T00:45Z", "02:45–02:00"),  # the hour from two to three comes twice
        ("Europe/Berlin", "2026-10-25T01:00Z", "02:00–02:15"),
        ("Europe/Berlin", "2026-03-29T00:45Z", "01:45–03:00"),  # and is left out in spring
        ("America/New_York", "2026-11-01T05:45Z", "01:45–01:00"),
        ("Gone/Away", "2026-06-06T22:00Z", "00:00–00:15"),
    ],
)
def test_an_interval_reads_in_its_readers_zone(zone: str, contract: str, slot: str) -> None:
    from market.pages.templatetags import market as filters

    with override_settings(MARKET_TIME_ZONE="Europe/Berlin"), zones.shown_in(zone):
        assert filters.slot(contract) == slot
    assert zones.shown_zone().key == "Europe/Berlin"


def test_pages_show_the_readers_time_and_statements_the_markets(town: Town) -> None:
    visitor = town.person("traveller", area="LV1.1")
    visitor.user.time_zone = "Asia/Shanghai"
    visitor.user.save()
    for path, zone in (("/account", "Asia/Shanghai"), ("/trade", "Asia/Shanghai"), ("/statement", "Europe/Berlin")):
        assert f'"time_zone": "{zone}", "market_time_zone": "Europe/Berlin"' in visitor.html(path)
    assert '"time_zone": "Europe/Berlin"' in town.alice.html("/account"), "nobody else's"
    assert '<small title="Asia/Shanghai">UTC+8</small>' in visitor.html("/account") and "title=" not in town.alice.html(
        "/account"
    )
