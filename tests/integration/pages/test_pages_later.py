"""What was corrected and shared, as households and the operator are shown it: every page tells the same figures."""

from __future__ import annotations

import csv
import io
import re

import pytest
from pypdfium2 import PdfDocument

from ledger.core.bundled import parse_bundle
from ledger.core.encoding import decode
from ledger.core.receipt import parse_receipt
from market.engine.commands import Agree, Propose
from market.exchange import models
from market.metering.operations import ReadingIn, record_batches
from market.pages.homeview import load
from market.settlement import queries, statement_queries
from market.settlement.operations import adjust_due, settle_due, share_due
from market.settlement.periods import DAY, parse_day, period_of
from market.settlement.waiting import DEADLINE_MS
from tests.integration.pages.conftest import Town, Visitor
from tests.integration.pages.test_pages_household import page_of

DATE = "2026-06-06"
PERIOD = period_of(DAY, parse_day(DATE))


def read(town: Town, contract: str, visitor: Visitor, area: str, import_wh: int, export_wh: int) -> None:
    batches = {area: [ReadingIn(visitor.account, import_wh, export_wh)]}  # type: ignore[arg-type]
    record_batches(exchange=town.exchange, contract=contract, batches=batches, now_ms=town.market.clock.at_ms)


@pytest.fixture(scope="module")
def later(town: Town) -> str:
    """Alice sold 600 and 400 Wh to Charlie and delivered 700, which came out late. Bob gives Charlie what he has left over:

    600 Wh, and 200 once Charlie's meter was corrected; he takes 100 Wh of them to Dora, too.
    """
    market, contract = town.market, town.market.contract()
    dora = town.person("dora", area="LV2.1")
    market.place(town.alice.account, "sell", "0.2000", 600, contract=contract)  # type: ignore[arg-type]
    market.place(town.alice.account, "sell", "0.2100", 400, contract=contract)  # type: ignore[arg-type]
    market.buys(town.charlie.account, "0.3000", 1_000, contract=contract)  # type: ignore[arg-type]
    for visitor, price_e4 in ((town.charlie, 1_000), (dora, 0)):
        command = Propose(town.bob.account, town.bob.account, visitor.account, price_e4, contract)  # type: ignore[arg-type]
        number = town.exchange.call(command).events[0].seq  # type: ignore[union-attr]
        assert town.exchange.call(Agree(visitor.account, number)).refused is None  # type: ignore[arg-type]
    market.clock.advance(minutes=30)
    market.member("LV1.2", deposit_e7=0)
    read(town, contract, town.bob, "LV1.1", 0, 900)
    read(town, contract, town.charlie, "LV2.1", 1_600, 0)
    read(town, contract, dora, "LV2.1", 100, 0)
    market.clock.advance(ms=DEADLINE_MS)
    market.member("LV1.2", deposit_e7=0)
    settle_due(exchange=town.exchange, now_ms=market.clock.at_ms)
    assert share_due(exchange=town.exchange) == 1
    read(town, contract, town.alice, "LV1.1", 0, 700)
    read(town, contract, town.charlie, "LV2.1", 1_200, 0)
    assert adjust_due(exchange=town.exchange).accounts == 2
    assert share_due(exchange=town.exchange) == 1
    town.sealed(models.SharedLine.objects.order_by("-seq")[0].seq)
    return contract


def text_of(html: str) -> str:
    """Return a page's text without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_statement_shows_a_correction_and_which_sale_is_short(town: Town, later: str) -> None:
    html = town.alice.html("/statement", date=DATE)
    (adjusted,) = queries.adjustments(town.alice.account, contracts=[later])  # type: ignore[arg-type]
    text = text_of(html)
    assert '<span class="tag warn">corrected</span>' in html
    assert "1 interval was corrected after it had been settled: −€0.1200 in all" in text
    assert "1 interval is provisional: later readings may still correct it." in text
    assert "sold 400 Wh (300 Wh of it not delivered)" in text
    assert "sold 600 Wh ·" in text, "the older sale was delivered"
    assert "corrected, on the meter +300 Wh · −€0.1200000 receipt" in text
    assert f'href="/receipts/{adjusted.seq}"' in html
    extra = parse_bundle(parse_receipt(town.alice.html(f"/receipts/{adjusted.seq}")).extra)
    assert decode(extra.proof.row)["was_export_wh"] == 1_000  # type: ignore[union-attr]


def test_the_statement_shows_what_was_given_and_received(town: Town, later: str) -> None:
    rows = list(models.SharedLine.objects.exclude(energy_wh=0).order_by("seq", "agreement"))
    assert [(row.energy_wh, row.was_wh) for row in rows] == [(600, 0), (100, 0), (200, 600), (100, 100)]
    html = town.bob.html("/statement", date=DATE)
    text = text_of(html)
    assert f"given to a neighbour 600 Wh · agreement {rows[0].agreement} · €0.10/kWh · +€0.0600000" in text
    assert f"to the grid −600 Wh · agreement {rows[0].agreement} · €0.08/kWh · −€0.0480000" in text
    assert f"given to a neighbour −400 Wh · agreement {rows[0].agreement} · €0.10/kWh · −€0.0400000" in text
    assert "300 Wh by agreement, +€0.02" in text
    for row in (rows[0], rows[1]):
        link = f"/receipts/{row.seq}?agreement={row.agreement}"
        assert f'href="{link}"' in html
        extra = parse_bundle(parse_receipt(town.bob.html(link)).extra)
        found = decode(extra.proof.row)  # type: ignore[union-attr]
        assert (found["agreement"], found["energy_wh"]) == (row.agreement, row.energy_wh)
    text = text_of(town.charlie.html("/statement", date=DATE))
    assert f"received from a neighbour 600 Wh · agreement {rows[0].agreement} · €0.13/kWh · grid fee €0.0180" in text
    assert f"from the grid −600 Wh · agreement {rows[0].agreement} · €0.40/kWh · +€0.2400000" in text
    assert "From neighbours by agreement €0.03 200 Wh" in text


def test_home_account_and_movements_agree_with_the_statement(town: Town, later: str) -> None:
    for visitor in (town.alice, town.bob, town.charlie):
        assert visitor.account is not None
        info = page_of(visitor).account
        assert info is not None
        money = load(page_of(visitor), info).money
        sums = statement_queries.statement([visitor.account], PERIOD).total.sums
        assert (money.earned_e7, money.spent_e7) == (sums.earned_e7, sums.paid_e7)
        assert money.better_e7 == sums.gain_e7
        balance = models.Balance.objects.get(account=visitor.account)
        assert money.free_e7 == balance.cash_e7 - balance.held_e7
        amounts = re.findall(r"<strong>([+−])€([\d,.]+)</strong>", visitor.html("/statement/movements"))
        moved = sum(round(float(size.replace(",", "")) * 10**7) * (1 if sign == "+" else -1) for sign, size in amounts)
        assert moved == balance.cash_e7 - balance.arrears_e7, "all that ever moved is listed"
        assert moved - sums.wallet_e7 == 10**10, "the rest is the deposit"
    html = town.alice.html("/home")
    assert '<p class="sum">€0.08</p>' in html
    assert "300 Wh sold were not delivered and cost €0.12." in html
    assert "Later readings corrected −€0.12 of it." in html
    html = town.bob.html("/home")
    assert "By agreement neighbours got 300 Wh for €0.02." in html
    assert "200 Wh by agreement" in town.charlie.html("/home")


def test_movements_name_corrections_and_sharing(town: Town, later: str) -> None:
    html = town.alice.html("/statement/movements")
    assert html.count('<span class="tag warn">corrected</span>') == 1
    assert "a later reading; the difference to what was settled" in html
    html = town.bob.html("/statement/movements")
    assert html.count('<span class="tag good">shared by agreement</span>') == 2
    assert html.count("money in or out") == 1, "the deposit"


def test_the_files_tell_it(town: Town, later: str) -> None:
    file = town.alice.get("/statement/file.csv", date=DATE).content.decode()
    rows = list(csv.DictReader(io.StringIO(file, newline="")))
    assert [(row["line"], row["stage"], row["not delivered [Wh]"]) for row in rows[:3]] == [
        ("sold", "corrected", ""),
        ("sold", "corrected", "300"),
        ("corrected", "corrected", ""),
    ]
    file = town.bob.get("/statement/file.csv", date=DATE).content.decode()
    rows = list(csv.DictReader(io.StringIO(file, newline="")))
    assert [row["line"] for row in rows if row["agreement"]] == ["given", "spill"] * 3
    pdf = PdfDocument(town.alice.get("/statement/file.pdf", date=DATE).content)
    text = "\n".join(page.get_textpage().get_text_range() for page in pdf)
    assert "Corrected since it was settled: 1 interval." in text
    assert "12:15–12:30 c p" in text
    assert "-0.1200000" in text
    pdf = PdfDocument(town.bob.get("/statement/file.pdf", date=DATE).content)
    text = "\n".join(page.get_textpage().get_text_range() for page in pdf)
    assert "of it by private agreements" in text
    assert "0.0200000" in text


def test_the_board_shows_what_was_corrected(town: Town, later: str) -> None:
    text = text_of(town.olga.html("/operator/settlement", stage="corrected"))
    assert "2 accounts not delivered +€0.12 top-up −€0.16" in text
    assert "Owed by members" in text
    rows = list(csv.reader(io.StringIO(town.olga.get("/operator/settlement.csv").content.decode(), newline="")))
    assert [later, "corrected", "LV1.1", "2", "0", "0", "1"] in rows


def test_in_chinese(town: Town, later: str) -> None:
    town.bob.client.cookies["django_language"] = "zh-hans"
    html = town.bob.html("/statement", date=DATE)
    town.bob.client.cookies["django_language"] = "en"
    for words in ("给邻居 600 Wh", "送入电网 −600 Wh", "按协议给邻居", "1 个时段为暂定"):
        assert words in html, words
