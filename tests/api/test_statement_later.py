"""Corrections and sharing in REST: the statement's lines with their receipts, the board with what was corrected."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db.models import F

from ledger.core.bundled import parse_bundle
from ledger.core.encoding import decode
from ledger.core.receipt import parse_receipt
from market.api import shapes
from market.engine.commands import Agree, Propose
from market.exchange import models
from market.metering.operations import ReadingIn, record_batches
from market.settlement.operations import adjust_due, settle_due, share_due
from market.settlement.waiting import DEADLINE_MS
from tests.api.conftest import City, Person, shaped
from tests.api.test_statement import of

BOARD = "/api/v1/operator/settlement"


def read(city: City, contract: str, area: str, person: Person, import_wh: int, export_wh: int) -> None:
    batches = {area: [ReadingIn(person.account, import_wh, export_wh)]}
    record_batches(exchange=city.exchange, contract=contract, batches=batches, now_ms=city.market.clock.at_ms)


@pytest.fixture(scope="module")
def later(city: City) -> str:
    """Bob has 900 Wh left over for Alice and for Charlie; Alice's meter answers late, and Charlie lacks 300 Wh."""
    market, contract = city.market, city.market.contract()
    for person in (city.alice, city.charlie):
        number = city.exchange.call(Propose(city.bob.account, city.bob.account, person.account, 500, contract))
        agreed = city.exchange.call(Agree(person.account, number.events[0].seq))  # type: ignore[union-attr]
        assert agreed.refused is None
    market.clock.advance(minutes=30)
    market.member("LV1.2", deposit_e7=0)
    read(city, contract, "LV1.1", city.bob, 0, 900)
    read(city, contract, "LV2.1", city.charlie, 300, 0)
    market.clock.advance(ms=DEADLINE_MS)
    market.member("LV1.2", deposit_e7=0)
    settle_due(exchange=city.exchange, now_ms=market.clock.at_ms)
    share_due(exchange=city.exchange)
    read(city, contract, "LV1.1", city.alice, 200, 0)
    adjust_due(exchange=city.exchange)
    share_due(exchange=city.exchange)
    return contract


def proved(person: Person, path: str) -> dict[str, object]:
    """Return the row that a receipt holds."""
    for _ in range(100):
        response = person.request("GET", path)
        if response.status_code != 409:
            break
    assert response.status_code == 200, path
    bundled = parse_bundle(parse_receipt(response.text).extra)
    assert bundled.proof is not None
    return decode(bundled.proof.row)


def test_lines_of_corrections_and_sharing_are_proved_by_their_rows(city: City, later: str) -> None:
    found = of(city.alice, "day")
    (row,) = [row for row in found.results if row.name == later]
    assert (row.state, row.stage) == ("settled", "corrected")
    assert [(line.line, line.energy_wh, line.amount, line.agreement is not None) for line in row.lines] == [
        ("corrected", 200, "-0.0800000", False),
        ("received", 200, "-0.0100000", True),
        ("topup", -200, "0.0800000", True),
    ]
    assert (row.sums.corrected, row.sums.corrected_intervals, row.sums.provisional) == ("-0.0800000", 1, 1)
    assert (row.sums.topup.amount, row.sums.received.amount, row.sums.net) == ("0.0000000",) + ("-0.0100000",) * 2
    corrected, received, _ = row.lines
    assert (corrected.receipt, received.receipt) != (None, None)
    assert proved(city.alice, str(corrected.receipt))["import_wh"] == 200
    assert proved(city.alice, str(received.receipt))["agreement"] == received.agreement


def test_each_of_a_giver_s_agreements_has_its_own_row(city: City, later: str) -> None:
    (row,) = [row for row in of(city.bob, "day").results if row.name == later]
    given = [line for line in row.lines if line.line == "given"]
    assert [line.energy_wh for line in given] == [300, 200]
    assert len({line.agreement for line in given}) == 2
    for line in given:
        assert proved(city.bob, str(line.receipt))["agreement"] == line.agreement
    assert Decimal(row.sums.net) == sum(Decimal(line.amount) for line in row.lines)
    assert (row.sums.given.energy_wh, row.sums.spill.energy_wh, row.stage) == (500, 400, "provisional")


def test_the_board_tells_what_was_corrected_and_what_is_outstanding(city: City, later: str) -> None:
    page = shaped(city.olga.get(BOARD, stage="corrected"), shapes.SettlementPage)
    (row,) = page.results
    assert (row.contract, row.stage) == (later, "corrected")
    assert row.corrected is not None
    assert (row.corrected.entries, row.corrected.accounts, row.corrected.topup) == (1, 1, "0.0800000")
    billing = models.Balance.objects.get(kind="billing").cash_e7
    assert Decimal(page.outstanding.supply_bills) * 10**7 == -billing
    assert (page.outstanding.arrears, page.outstanding.members_in_arrears) == ("0.0000000", 0)
    charlie, owed_e7 = models.Balance.objects.filter(account=city.charlie.account), 1_230_000
    charlie.update(arrears_e7=F("arrears_e7") + owed_e7, cash_e7=F("cash_e7") + owed_e7)  # the sum of all stays zero
    page = shaped(city.olga.get(BOARD), shapes.SettlementPage)
    charlie.update(arrears_e7=F("arrears_e7") - owed_e7, cash_e7=F("cash_e7") - owed_e7)
    assert (page.outstanding.arrears, page.outstanding.members_in_arrears) == ("0.1230000", 1)
