"""Numbers as people read them: nothing earned looks like nothing, nothing gains a digit."""

from __future__ import annotations

import pytest

from market.pages.templatetags import market as filters


@pytest.mark.parametrize(
    ("amount_e7", "text"),
    [
        (0, "€0.00"),
        (4_275_000, "€0.43"),
        (-4_275_000, "−€0.43"),
        (12_345_678_900_000, "€1,234,567.89"),
        (49_999, "€0.0050"),
        (50_000, "€0.01"),
        (1, "€0.0000"),
        (-1, "€0.0000"),
    ],
)
def test_money(amount_e7: int, text: str) -> None:
    assert filters.money(amount_e7) == text


@pytest.mark.parametrize(("price_e4", "text"), [(2_850, "€0.2850"), (2_800, "€0.28"), (2_858, "€0.2858"), (0, "€0.00")])
def test_unit_price(price_e4: int, text: str) -> None:
    assert filters.unit_price(price_e4) == text


@pytest.mark.parametrize(
    ("energy_wh", "text"),
    [(0, "0 Wh"), (999, "999 Wh"), (1_000, "1.00 kWh"), (3_244, "3.24 kWh"), (32_449, "32.4 kWh"), (-500, "−500 Wh"),
     (1_234_567, "1,234.6 kWh")],
)  # fmt: skip
def test_energy_and_power(energy_wh: int, text: str) -> None:
    assert filters.energy(energy_wh) == text
    assert filters.power(energy_wh) == text.replace("Wh", "W")


def test_intervals_stand_in_the_markets_time_zone() -> None:
    assert filters.slot("2026-06-06T10:00Z") == "12:00–12:15"
    assert filters.slot("2026-12-06T22:45Z") == "23:45–00:00"


@pytest.mark.parametrize(
    ("amount_e7", "digits", "text"),
    [
        (1_050_000, 4, "+€0.1050"),
        (-800_000, 4, "−€0.0800"),
        (0, 4, "€0.0000"),
        (1, 4, "€0.0000"),
        (1, 7, "+€0.0000001"),
    ],
)
def test_what_comes_and_goes_has_a_sign(amount_e7: int, digits: int, text: str) -> None:
    assert filters.signed_money(amount_e7, digits) == text


@pytest.mark.parametrize(
    ("amount_e11", "text"),
    [(0, "€0.00"), (-371_000_000, "−€0.00371"), (1, "+€0.00000000001"), (2_000 * 10**11, "+€2,000.00")],
)
def test_what_is_added_up_has_every_digit(amount_e11: int, text: str) -> None:
    assert filters.exact_e11(amount_e11) == text


@pytest.mark.parametrize(("cents", "text"), [(0, "€0.00"), (-1, "−€0.01"), (123_456, "€1,234.56")])
def test_a_total_is_not_rounded_again(cents: int, text: str) -> None:
    assert filters.cents(cents) == text
    assert filters.cents_of_e11(-cents * 10**9) == text.replace("−", "")
