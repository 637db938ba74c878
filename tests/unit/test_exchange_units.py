"""Texts outside, integers inside, and nothing lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.exchange import units

INTEGERS = st.integers(-units.MAX_INTEGER, units.MAX_INTEGER)


@given(INTEGERS)
def test_prices_and_money_come_back_as_they_went(value: int) -> None:
    assert units.parse_price(units.price_text(value)) == value
    assert units.parse_money(units.money_text(value)) == value


@pytest.mark.parametrize(
    ("value", "text"), [(2850, "0.2850"), (0, "0.0000"), (10_000, "1.0000"), (-1, "-0.0001"), (-12_345, "-1.2345")]
)
def test_price_text(value: int, text: str) -> None:
    assert units.price_text(value) == text


def test_money_and_energy_text() -> None:
    assert units.money_text(4_275_000) == "0.4275000"
    assert units.money_text(-20_000_001) == "-2.0000001"
    assert units.kwh_text(1_500) == "1.500"


@pytest.mark.parametrize(("text", "value"), [("0.285", 2850), ("1", 10_000), ("0.2850", 2850), ("-0.5", -5_000)])
def test_shorter_prices_are_understood(text: str, value: int) -> None:
    assert units.parse_price(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1e3",
        "0.28501",
        " 1",
        "1 ",
        "+1",
        ".5",
        "1.",
        "nan",
        "١",
        "0x1",
        "1,5",
        "9" * 17,
        "9" * 16,
        "1\n",
        1,
        0.5,
        None,
    ],
)
def test_anything_else_is_no_price(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        units.parse_price(text)  # type: ignore[arg-type]


def test_instants() -> None:
    assert units.at_text(0) == "1970-01-01T00:00:00.000Z"
    assert units.at_text(units.parse_at("2026-06-06T12:15:00.250Z")) == "2026-06-06T12:15:00.250Z"
    assert units.parse_at("2026-06-06T14:15:00+02:00") == units.parse_at("2026-06-06T12:15:00Z")
    for text in ("2026-06-06T12:15:00", "soon", "", 5):
        with pytest.raises(ValueError, match=r"expected|Invalid"):
            units.parse_at(text)  # type: ignore[arg-type]


@given(st.integers(0, 4_102_444_800_000))
def test_instants_come_back_as_they_went(at_ms: int) -> None:
    assert units.parse_at(units.at_text(at_ms)) == at_ms
