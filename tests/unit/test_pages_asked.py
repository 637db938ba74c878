"""What a refused command asked for is told in words, whatever it was."""

from __future__ import annotations

import pytest

from market.engine import commands as c
from market.exchange.idempotency import content_of
from market.pages.asked import COMMAND_WORDS, COMMANDS, asked


def test_every_command_has_words() -> None:
    assert set(COMMANDS) == set(COMMAND_WORDS)


def test_fields_are_named_and_their_values_have_units() -> None:
    found = asked(content_of(c.AmendOrder(7, 190, 1273, 1500)))
    assert found is not None
    assert found.kind == "Amendment"
    names, values = [name for name, _ in found.pairs], [value for _, value in found.pairs]
    assert names == ["Order", "Price", "Energy"]
    assert values[0] == "190" and "0.1273" in values[1] and values[2] == "1.50 kWh"


def test_the_legs_of_a_basket_are_told_one_after_the_other() -> None:
    legs = tuple(c.Leg(7, "2026-06-06T12:15Z", side, 1000, 500) for side in ("buy", "sell"))
    found = asked(content_of(c.PlaceBasket(7, legs)))
    assert found is not None
    assert [value for name, value in found.pairs if name == "Side"] == ["buy", "sell"]
    assert "T12:15Z" not in str(found.pairs)


@pytest.mark.parametrize("text", ["", "7", "[]", '["Nothing"]', '["AmendOrder",1]', '[["x"]]', '["PlaceBasket",1,[7]]'])
def test_what_is_no_command_of_today_has_no_words(text: str) -> None:
    assert asked(text) is None


def test_a_value_that_does_not_fit_stands_for_itself() -> None:
    found = asked('["PlaceOrder",7,"<b>nonsense</b>","sideways",99999999999999999,-1,"gtd",9223372036854775807]')
    assert found is not None
    told = dict(found.pairs)
    assert told["Contract"] == "<b>nonsense</b>" and told["Side"] == "sideways"
    assert told["expires_at_ms"] == "9223372036854775807"
