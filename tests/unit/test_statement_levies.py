"""Taxes and levies of a statement: what they come to, which version holds, and what a wrong table is told."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from market.settlement import levies, statements
from market.settlement.statement_queries import DEFAULT_LEVIES
from market.settlement.statements import CENT_E11, Sums

TAX = {"code": "tax", "names": {"en": "Tax", "zh-hans": "税"}, "on": ["topup"], "percent_bp": 1900}
LEVY = {"code": "levy", "names": {"en": "Levy"}, "on": ["topup", "bought"], "price_e4": 205}
DAY = date(2026, 6, 6)
# 1,000 Wh bought at 0.2300 with 0.0300 of grid fee in it, 500 Wh of top-up at 0.4000, 2,000 Wh spilled at 0.0800
SUMS = Sums(
    bought_wh=1_000, bought_e7=2_300_000, fee_e7=300_000, topup_wh=500, topup_e7=2_000_000, spill_wh=2_000,
    spill_e7=1_600_000, import_wh=1_500, export_wh=2_000, plain_topup_e7=6_000_000, plain_spill_e7=1_600_000,
)  # fmt: skip


def table(*charges: dict[str, Any], valid_from: str = "2026-01-01") -> tuple[levies.Table, ...]:
    return levies.parse(json.dumps([{"valid_from": valid_from, "charges": list(charges)}]))


@pytest.mark.parametrize(
    ("charges", "amounts"),
    [
        ([TAX], [-2_000_000 * 1_900]),
        ([TAX | {"on": ["fee"]}], [-300_000 * 1_900]),
        ([TAX | {"on": ["bought"]}], [-2_000_000 * 1_900]),  # without the fee, which is a base of its own
        ([TAX | {"on": ["bought", "fee", "spill"]}], [(-2_300_000 + 1_600_000) * 1_900]),
        ([LEVY], [-205 * 1_500 * 10_000]),
        ([LEVY, TAX | {"on": ["topup", "levy"]}], [-205 * 1_500 * 10_000, -(2_000_000 + 205 * 1_500) * 1_900]),
        ([TAX | {"percent_bp": 2_500, "included": True}], [-2_000_000 * 2_000]),  # a fifth of the price
        ([LEVY | {"included": True, "on": ["topup"]}], [-205 * 500 * 10_000]),
    ],
)
def test_what_charges_come_to(charges: list[dict[str, Any]], amounts: list[int]) -> None:
    (version,) = table(*charges)
    assert [one.amount_e11 for one in levies.charged(version, SUMS.by_base())] == amounts


def test_what_comes_on_top_changes_the_total_and_what_is_included_does_not() -> None:
    plain = statements.total({DAY: SUMS}, ())
    assert plain.net_e11 == -2_700_000 * 10_000
    assert (plain.cents, plain.rounding_e11) == (-27, 0)
    assert plain.gain_e11 == (-2_700_000 + 4_400_000) * 10_000
    included = statements.total({DAY: SUMS}, table(TAX | {"included": True}))
    assert (included.net_e11, included.gain_e11) == (plain.net_e11, plain.gain_e11)
    assert len(included.charges) == 1
    on_top = statements.total({DAY: SUMS}, table(TAX))
    assert on_top.net_e11 == plain.net_e11 - 2_000_000 * 1_900
    # Without the market all 1,500 Wh would have borne the tax, not 500 of them.
    assert on_top.gain_e11 == plain.gain_e11 + (6_000_000 - 2_000_000) * 1_900
    assert on_top.cents * CENT_E11 == on_top.net_e11 + on_top.rounding_e11


def test_the_version_of_the_day_holds() -> None:
    tables = (*table(TAX, valid_from="2025-01-01"), *table(LEVY, valid_from="2026-06-06"))
    assert levies.table_at(tables, date(2024, 12, 31)).charges == ()
    assert levies.table_at(tables, date(2026, 6, 5)).charges[0].code == "tax"
    assert levies.table_at(tables, DAY).charges[0].code == "levy"
    both = statements.total({date(2026, 6, 5): SUMS, DAY: SUMS}, tables)
    assert [one.charge.code for one in both.charges] == ["tax", "levy"]


@pytest.mark.parametrize(
    ("value", "cents"),
    [(0, 0), (4, 0), (5, 1), (15, 2), (25, 3), (-4, 0), (-5, -1), (-15, -2), (-25, -3), (14, 1), (16, 2), (-14, -1)],
)
def test_halves_go_away_from_zero(value: int, cents: int) -> None:
    assert levies.commercial(value, 10) == cents


def test_names_follow_the_language() -> None:
    tax = table(TAX)[0].charges[0]
    assert [tax.name(language) for language in ("zh-hans", "en", "fr")] == ["税", "Tax", "Tax"]


def test_the_table_that_is_shipped_is_a_table() -> None:
    (version,) = levies.parse(DEFAULT_LEVIES.read_bytes())
    assert {charge.included for charge in version.charges} == {True}, "the demo's prices are what a household pays"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "levies: expected JSON"),
        ("[" * 100_000, "levies: expected JSON"),
        ("{}", "levies: expected a list"),
        ("[1]", r"levies\[0\]: expected the fields"),
        ('[{"valid_from": 1, "charges": []}]', r"levies\[0\]\.valid_from"),
        ('[{"valid_from": "2026-13-01", "charges": []}]', r"levies\[0\]\.valid_from"),
        ('[{"valid_from": "2026-01-01", "charges": {}}]', r"levies\[0\]\.charges"),
        ('[{"valid_from": "2026-01-01", "charges": []}, {"valid_from": "2026-01-01", "charges": []}]', r"levies\[1\]"),
        (" " * (levies.MAX_BYTES + 1), "at most"),
    ],
)
def test_a_wrong_file_is_told_where(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        levies.parse(text)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": "a b"}, "code"),
        ({"code": "topup"}, "code"),
        ({"code": None}, "code"),
        ({"names": {"zh-hans": "税"}}, "names"),
        ({"names": {"en": ""}}, "names"),
        ({"names": {"en": "x" * 61}}, "names"),
        ({"percent_bp": 19.0}, "percent_bp"),
        ({"percent_bp": True}, "percent_bp"),
        ({"percent_bp": -1}, "percent_bp"),
        ({"price_e4": 1}, "either"),
        ({"percent_bp": 0}, "either"),
        ({"included": 1}, "included"),
        ({"on": []}, "on"),
        ({"on": ["own"]}, "on"),
        ({"on": ["topup", "topup"]}, "on"),
        ({"on": [["topup"]]}, "on"),
        ({"on": ["levy"]}, "on"),
        ({"colour": "red"}, "fields"),
    ],
)
def test_a_wrong_charge_is_told_where(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"levies\[0\]\.charges\[0\].*{field}"):
        table(TAX | change)


def test_a_charge_is_there_once() -> None:
    with pytest.raises(ValueError, match="there twice"):
        table(TAX, TAX)


def test_a_server_does_not_start_with_a_wrong_table(tmp_path: Any) -> None:
    path = tmp_path / "levies.json"
    path.write_text("[1]")
    for name in (str(path), str(tmp_path / "none.json")):
        with override_settings(LEVIES_FILE=name):
            assert "settlement.E001" in [error.id for error in run_checks()]
    assert "settlement.E001" not in [error.id for error in run_checks()]
