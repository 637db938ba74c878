"""A household's statement as it is served: its own day, month and year, and the files of it."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from django.test import override_settings

from market.exchange import queries as exchange
from market.metering.operations import ReadingIn, record_batches
from market.notices import kinds, queries
from market.settlement.operations import settle_due
from market.settlement.waiting import DEADLINE_MS
from tests.integration.pages.conftest import Town

DATE = "2026-06-06"
ON_TOP = [
    {
        "valid_from": "2026-06-01",
        "charges": [{"code": "vat", "names": {"en": "VAT <b>"}, "on": ["topup", "fee"], "percent_bp": 725}],
    }
]


@pytest.fixture(scope="module")
def settled(town: Town) -> str:
    """Alice sold 1,000 Wh to Charlie and delivered 900; Bob used 300 and Charlie 950. A trade of hers waits."""
    market = town.market
    contract, later = market.contract(), market.contract(7)
    market.place(town.alice.account, "sell", "0.2000", 1_000, contract=contract)
    market.buys(town.charlie.account, "0.3000", 1_000, contract=contract)
    market.place(town.alice.account, "sell", "0.2000", 100, contract=later)
    market.buys(town.bob.account, "0.2000", 100, contract=later)
    market.clock.advance(minutes=31)
    market.member("LV1.2", deposit_e7=0)
    batches = {
        "LV1.1": [ReadingIn(town.alice.account, 0, 900, 1_000, 100), ReadingIn(town.bob.account, 300, 0)],
        "LV2.1": [ReadingIn(town.charlie.account, 950, 0)],
    }
    record_batches(exchange=town.exchange, contract=contract, batches=batches, now_ms=market.clock.at_ms)
    market.clock.advance(ms=DEADLINE_MS)
    market.member("LV1.2", deposit_e7=0)
    settle_due(exchange=town.exchange, now_ms=market.clock.at_ms)
    return contract


def test_money_first_and_every_line_with_its_receipt(town: Town, settled: str) -> None:
    html = town.alice.html("/statement")
    assert "<strong>€0.16</strong>" in html
    assert "You earned €0.16 and paid €0.00." in html
    assert "The market saved you €0.09" in html
    assert "100 Wh not delivered, −€0.04" in html
    assert "1 interval you traded in is not settled yet; it is not counted." in html
    assert html.index("You earned") < html.index("By interval")
    for seq in (row["ledger entry"] for row in rows(town, settled) if row["ledger entry"]):
        assert f'href="/receipts/{seq}"' in html, seq
    town.sealed(max(int(row["ledger entry"]) for row in rows(town, settled) if row["ledger entry"]))
    for seq in (row["ledger entry"] for row in rows(town, settled) if row["ledger entry"]):
        assert town.alice.get(f"/receipts/{seq}").status_code == 200


@pytest.mark.usefixtures("settled")
def test_the_security_of_a_sale_is_named_until_it_comes_back(town: Town) -> None:
    html = town.alice.html("/statement/movements")
    assert "with your security back · 100 Wh sold were not delivered" in html
    security = re.search(r"Security until delivery</dt><dd>(€[\d.]+)</dd>", html)
    assert security is not None
    assert f"{security[1]}</dd>" in town.alice.html("/money")
    assert f"and {security[1]} as security until delivery" in town.alice.html("/home")
    assert "Security until delivery" not in town.bob.html("/money")
    # Of the 0.20 that came for 1,000 Wh, 100 Wh were missing; with the security that is what the wallet got, once.
    (line,) = exchange.settlement_lines(account=town.alice.account)
    money = [one for one in queries.told(town.alice.user).notices if one.kind == kinds.MONEY and one.contract]
    assert [one.amount_e7 for one in money] == [line.payout_e7 + line.spill_e7]


def rows(town: Town, settled: str) -> list[dict[str, str]]:
    """Return Alice's day as its file has it."""
    response = town.alice.get("/statement/file.csv", period="day", date=DATE)
    assert response["Content-Disposition"] == f'attachment; filename="statement-{DATE}.csv"'
    return list(csv.DictReader(io.StringIO(response.content.decode(), newline="")))


def test_what_was_bought_names_the_grid_fee(town: Town, settled: str) -> None:
    html = town.charlie.html("/statement")
    assert "€0.03 of it grid fee" in html
    assert "To pay" in html and "<strong>€0.23</strong>" in html
    assert "grid fee €0.0300" in html


def test_levies_on_top_change_the_total(town: Town, settled: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "levies.json"
    path.write_text(json.dumps(ON_TOP))
    with override_settings(LEVIES_FILE=str(path)):
        html = town.bob.html("/statement")
        file = town.bob.get("/statement/file.csv", date=DATE).content.decode()
    assert "VAT &lt;b&gt; 7.25 %" in html
    assert "−€0.0087" in html, "7.25 % of 300 Wh at 0.40"
    assert "<strong>−€0.13</strong>" in html
    charges = [row for row in csv.DictReader(io.StringIO(file, newline="")) if row["line"] == "charge:vat"]
    assert [(row["amount [EUR]"], row["contained [EUR]"]) for row in charges] == [("-0.00870000000", "")]


def test_months_lead_to_days_and_years_to_months(town: Town, settled: str) -> None:
    month = town.alice.html("/statement", period="month", date=DATE)
    assert "June 2026" in month
    assert "?period=day&amp;date=2026-06-06" in month
    year = town.alice.html("/statement", period="year", date=DATE)
    assert "?period=month&amp;date=2026-06-01" in year
    assert "?period=year&amp;date=2025-01-01" in year
    for html in (month, year):
        assert "<strong>€0.16</strong>" in html


@pytest.mark.parametrize(
    "asked",
    [{"period": "week"}, {"date": "x"}, {"date": "1999-01-01"}, {"date": "9999-12-31"}, {"date": "\0"}, {"period": ""}],
)
def test_what_makes_no_sense_is_today(town: Town, settled: str, asked: dict[str, str]) -> None:
    assert 'value="2026-06-06"' in town.alice.html("/statement", **asked)


def test_the_edges_of_the_calendar_lead_no_further(town: Town, settled: str) -> None:
    assert 'rel="prev"' not in town.alice.html("/statement", period="year", date="2000-01-01")
    assert 'rel="next"' not in town.alice.html("/statement", period="day", date="2199-12-31")


def test_a_statement_is_its_household_s(town: Town, settled: str) -> None:
    for visitor in (town.olga, town.rita, town.sam):
        assert visitor.get("/statement").status_code == 403
        assert visitor.get("/statement/file.pdf").status_code == 403
    assert town.nobody.get("/statement/file.csv").status_code == 302
    assert town.alice.get("/statement/file.xml").status_code == 404
    newcomer = town.person("statement-newcomer")
    assert newcomer.get("/statement/file.pdf")["Location"] == "/home"
    assert "Nothing is settled here yet." in town.person("statement-neighbour", area="LV1.1").html("/statement")


def test_it_can_be_read_while_the_market_is_closed(town: Town, settled: str, closed: Town) -> None:
    html = town.alice.html("/statement", date=DATE)
    assert "<strong>€0.16</strong>" in html
    response = town.alice.get("/statement/file.pdf", date=DATE)
    assert response["Content-Type"] == "application/pdf"
    assert response.content.startswith(b"%PDF-")
