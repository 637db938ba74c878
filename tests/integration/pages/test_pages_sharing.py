"""Sharing on the account page: proposed by one neighbour, accepted and ended by the other."""

from __future__ import annotations

import re

import pytest

from tests.integration.pages.conftest import Town, Visitor

PATH = "/account/sharing"


def code_of(visitor: Visitor) -> str:
    found = re.search(
        r"Your sharing code:</?[^<]*<code>([0-9a-f]{32})</code>|Your sharing code: <code>(\w{32})", html(visitor)
    )
    assert found
    return found[1] or found[2]


def html(visitor: Visitor) -> str:
    return visitor.html("/account")


def section(visitor: Visitor) -> str:
    page = html(visitor)
    return page[page.index('id="sharing"') :].partition("</section>")[0]


def propose(by: Visitor, to: Visitor, *, refused: bool = False, **changes: str) -> str:
    """Send the form and return the page that follows, or, ``refused``, the page that says what is wrong."""
    once = re.search(r'action="/account/sharing".*?name="once" value="([^"]+)"', html(by), re.DOTALL)
    assert once
    fields = {"side": "give", "neighbour": code_of(to), "price": "0.1000", "once": once[1]} | changes
    answer = by.post(PATH, page="/account", **fields)
    assert answer.status_code == (422 if refused else 302)
    return answer.content.decode() if refused else html(by)


def test_a_neighbour_accepts_and_ends_what_was_proposed(town: Town) -> None:
    assert "Proposed. It holds once" in propose(town.alice, town.bob)
    assert "waits for your neighbour" in section(town.alice)
    shown = section(town.bob)
    assert "waits for you" in shown and "comes from my neighbour" in shown
    number = re.search(r'action="/account/sharing/(\d+)"', shown)
    assert number
    path = f"{PATH}/{number[1]}"
    town.charlie.post(path, page="/account", decision="accept")
    assert "There is no such agreement of yours." in html(town.charlie)
    town.bob.post(path, page="/account", decision="accept")
    assert "Agreed. It holds" in html(town.bob)
    assert '<span class="tag good">agreed</span>' in section(town.alice)
    town.alice.post(path, page="/account", decision="end")
    assert "Ended. Intervals that have begun" in html(town.alice)
    assert '<span class="tag good">agreed</span>' not in section(town.bob)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"neighbour": "0" * 32}, "No other home has this sharing code."),
        ({"neighbour": "bob"}, "A sharing code has 32 digits"),
        ({"price": "-1"}, "greater than or equal to 0"),
        ({"side": "take"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_said_at_its_field_and_kept(town: Town, changes: dict[str, str], sentence: str) -> None:
    before = town.exchange.read(lambda engine: len(engine.agreements))
    page = propose(town.alice, town.bob, refused=True, **({"price": "0.2345"} | changes))
    (field, value), *_ = changes.items()
    errors = re.search(rf'id="id_{field}_error">(.*?)</ul>', page, re.DOTALL)
    assert errors and sentence in errors[1], "the sentence stands at the field it is about"
    assert field == "side" or f'name="{field}" value="{value}"' in page, "what was typed is still there"
    assert field == "price" or 'value="0.2345"' in page
    assert town.exchange.read(lambda engine: len(engine.agreements)) == before


def test_a_form_sent_twice_proposes_once(town: Town) -> None:
    once = re.search(r'action="/account/sharing".*?name="once" value="([^"]+)"', html(town.alice), re.DOTALL)
    assert once
    before = town.exchange.read(lambda engine: len(engine.agreements))
    for _ in range(2):
        propose(town.alice, town.bob, once=once[1])
    assert town.exchange.read(lambda engine: len(engine.agreements)) == before + 1


def test_only_households_share(town: Town) -> None:
    assert 'id="sharing"' not in html(town.rita)
    assert town.rita.post(PATH, page="/account", side="give").status_code in (302, 403)
