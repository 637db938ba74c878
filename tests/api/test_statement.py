"""`GET /api/v1/me/statement?period=…`: a day, month or year as JSON, CSV and PDF; each line leads to its receipt."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal

import pytest
from pypdfium2 import PdfDocument

from ledger.core.bundled import parse_bundle
from ledger.core.receipt import parse_receipt
from market.api import shapes
from market.metering.operations import ReadingIn, record_batches
from market.settlement.operations import settle_due
from market.settlement.waiting import DEADLINE_MS
from tests.api.conftest import City, Person, refused, shaped

PATH = "/api/v1/me/statement"
DATE = "2026-06-06"
HEADER = [
    "interval start [UTC]", "account", "state", "quality", "line", "energy [Wh]", "price [EUR/kWh]", "grid fee [EUR]",
    "ledger entry", "amount [EUR]", "contained [EUR]", "stage", "not delivered [Wh]", "agreement",
]  # fmt: skip


@pytest.fixture(scope="module")
def settled(city: City) -> str:
    """Alice sells 900 Wh to Charlie across the city and delivers 700; a later trade waits for its delivery."""
    market = city.market
    contract, later = market.contract(), market.contract(7)
    city.alice.order("sell", "0.2000", 400, contract=contract)
    city.alice.order("sell", "0.2100", 600, contract=contract)
    city.charlie.order("buy", "0.3000", 900, contract=contract)
    city.alice.order("sell", "0.2000", 100, contract=later)
    city.bob.order("buy", "0.2000", 100, contract=later)
    market.clock.advance(minutes=31)
    market.member("LV1.2", deposit_e7=0)  # any command makes the timetable follow
    readings = {
        "LV1.1": [ReadingIn(city.alice.account, 0, 700, 1_000, 300), ReadingIn(city.bob.account, 333, 0)],
        "LV2.1": [ReadingIn(city.charlie.account, 1_000, 0)],
    }
    record_batches(exchange=city.exchange, contract=contract, batches=readings, now_ms=market.clock.at_ms)
    market.clock.advance(ms=DEADLINE_MS)
    market.member("LV1.2", deposit_e7=0)
    settle_due(exchange=city.exchange, now_ms=market.clock.at_ms)
    assert contract in city.exchange.read(lambda engine: engine.settled)
    return contract


def of(person: Person, period: str, date: str = DATE) -> shapes.StatementOfPeriod:
    return shaped(person.get(PATH, period=period, date=date), shapes.StatementOfPeriod)


def test_a_day_with_its_lines(city: City, settled: str) -> None:
    found = of(city.alice, "day")
    assert (found.name, found.start, found.end) == (DATE, "2026-06-05T22:00:00.000Z", "2026-06-06T22:00:00.000Z")
    assert (found.currency, found.accounts, found.next) == ("EUR", [city.alice.account], None)
    rows = {row.name: row for row in found.results}
    lines = rows[settled].lines
    assert [(line.line, line.energy_wh, line.price, line.amount) for line in lines] == [
        ("own", 300, None, "0.0000000"),
        ("sold", 400, "0.2000", "0.0800000"),
        ("sold", 500, "0.2100", "0.1050000"),
        ("short", 200, "0.4000", "-0.0800000"),
    ]
    sums = rows[settled].sums
    assert (sums.net, sums.without_market, sums.own_wh) == ("0.1050000", "0.0560000", 300)
    assert Decimal(sums.net) == sum(Decimal(line.amount) for line in lines)
    assert found.waiting == 1
    (waiting,) = [row for row in found.results if row.state == "waiting"]
    assert [(line.line, line.amount) for line in waiting.lines] == [("sold", "0.0200000")]
    assert (waiting.sums.net, waiting.seq) == ("0.0000000", None)
    total = found.total
    assert Decimal(total.net) == sum(Decimal(row.sums.net) for row in found.results)
    assert Decimal(total.total) == Decimal(total.net) + Decimal(total.rounding)
    assert (total.total, total.rounding, total.gain) == ("0.11", "0.00500000000", "0.04900000000")


def test_fees_and_taxes_stand_apart(city: City, settled: str) -> None:
    total = of(city.charlie, "day").total
    assert total.sums.bought == shapes.StatementPart(energy_wh=900, fee="0.0270000", amount="-0.2120000")
    assert total.sums.topup == shapes.StatementPart(energy_wh=100, fee="0.0000000", amount="-0.0400000")
    assert (total.wallet, total.supply_bill) == ("-0.2120000", "-0.04000000000")
    assert [(one.code, one.percent, one.price, one.included, one.amount) for one in total.charges] == [
        ("electricity_tax", None, "0.0205", True, "-0.00205000000"),
        ("vat", "19.00", None, True, "-0.01069747899"),
    ]
    names = [one["name"] for one in city.charlie.request(
        "GET", PATH, params={"period": "day", "date": DATE}, headers={"Accept-Language": "zh-Hans"}
    ).json()["total"]["charges"]]  # fmt: skip
    assert names == ["电力税", "增值税"]


def test_every_line_s_receipt_is_there(city: City, settled: str) -> None:
    lines = [line for row in of(city.alice, "day").results for line in row.lines]
    assert len(lines) == 5
    for line in lines:
        assert line.receipt is not None
        for _ in range(100):
            response = city.alice.request("GET", line.receipt)
            if response.status_code != 409:
                break
        assert response.status_code == 200, line
        row = parse_bundle(parse_receipt(response.text).extra).proof
        assert (row is None) == (line.line == "sold"), "a settlement is proved by the home's own row"


def test_months_and_years_are_sums(city: City, settled: str) -> None:
    day, month, year = (of(city.alice, period) for period in ("day", "month", "year"))
    assert day.total == month.total == year.total
    assert ([row.name for row in month.results], [row.name for row in year.results]) == ([DATE], ["2026-06"])
    assert day.total.sums == month.results[0].sums == year.results[0].sums
    assert (month.name, year.name, year.end) == ("2026-06", "2026", "2026-12-31T23:00:00.000Z")
    empty = of(city.alice, "day", "2026-06-05")
    assert (empty.results, empty.total.total, empty.waiting) == ([], "0.00", 0)


def test_without_a_date_it_is_today(city: City, settled: str) -> None:
    assert shaped(city.alice.get(PATH, period="day"), shapes.StatementOfPeriod).name == DATE


def test_the_movements_are_what_they_were(city: City, settled: str) -> None:
    page = shaped(city.alice.get(PATH), shapes.StatementPage)
    assert {line.kind for line in page.results} == {"fund", "margin", "payout"}


def test_the_csv_file_adds_up_to_the_total(city: City, settled: str) -> None:
    for period, name in (("day", DATE), ("month", "2026-06"), ("year", "2026")):
        response = city.alice.get(PATH, period=period, date=DATE, format="csv")
        assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert response.headers["content-disposition"] == f'attachment; filename="statement-{name}.csv"'
        assert response.headers["cache-control"] == "no-store"
        text = response.content.decode()
        assert text.count("\r\n") == text.count("\n") > 5
        head, *rows = csv.reader(io.StringIO(text, newline=""))
        assert head == HEADER
        assert {len(row) for row in rows} == {len(head)}
        *listed, total = rows
        amounts = [Decimal(row[9]) for row in listed if row[9]]
        assert (total[4], Decimal(total[9])) == ("total", sum(amounts))
        assert rows[0][:4] == ["2026-06-06T10:15:00.000Z", str(city.alice.account), "settled", "measured"]
        waiting = [row for row in listed if row[2] == "waiting"]
        assert [(row[4], row[5], row[6], row[9]) for row in waiting] == [("sold", "100", "0.2000", "")]
        assert all(row[8] for row in listed if row[0])


def test_the_pdf_file_can_be_read_and_searched(city: City, settled: str) -> None:
    for language, words in (
        ("en", ("Statement", "You get 0.11 EUR", "Rounding to cents", "not counted: 1 interval.", "Ledger entries")),
        ("zh-Hans", ("账单", "您收入 0.11 EUR", "舍入到分", "未计入：1 个时段。", "账本条目")),
    ):
        for period in ("day", "month", "year"):
            response = city.alice.request(
                "GET", PATH, params={"period": period, "date": DATE, "format": "pdf"},
                headers={"Accept-Language": language},
            )  # fmt: skip
            assert response.headers["content-type"] == "application/pdf"
            document = PdfDocument(response.content)
            text = "\n".join(page.get_textpage().get_text_range() for page in document)
            for word in words if period == "day" else words[:4]:
                assert word in text, (word, text)
            assert "0.1050000" in text
            document.close()
            names = set(re.findall(rb"/BaseFont /([\w+-]+)", response.content))
            assert names and all(b"NotoSans" in name for name in names), "all that is written is embedded"
            assert response.content.count(b"/FontFile3") == 1


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"period": "week"}, "period"),
        ({"period": ""}, "period"),
        ({"period": "day", "date": "06.06.2026"}, "date"),
        ({"period": "day", "date": "1999-12-31"}, "date"),
        ({"period": "year", "date": "9999-01-01"}, "date"),
        ({"period": "day", "format": "xml"}, "format"),
    ],
)
def test_what_cannot_be_is_refused(city: City, params: dict[str, str], field: str) -> None:
    refused(city.alice.get(PATH, **params), 400, "invalid_value", field)


def test_fields_belong_together(city: City) -> None:
    refused(city.alice.get(PATH, date=DATE), 400, "unknown_field", "date")
    refused(city.alice.get(PATH, period="day", limit=5), 400, "unknown_field", "limit")
    refused(city.nora.get(PATH, period="day"), 403, "no_account")
    refused(city.request("GET", PATH, params={"period": "day"}), 401, "not_authenticated")
    refused(city.olga.get(PATH, period="day"), 403, "no_account")


def test_nobody_sees_another_home(city: City, settled: str) -> None:
    assert of(city.bob, "day").accounts == [city.bob.account]
    assert settled in [row.name for row in of(city.bob, "day").results]
    newcomer = city.person("statement-newcomer", area="LV1.1")
    assert of(newcomer, "day").results == []
