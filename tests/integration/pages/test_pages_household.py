"""The household's pages as they are served: home, trade, statement."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client, RequestFactory

from market.engine.accounts import UNLIMITED_WH
from market.engine.commands import CancelAll, PlaceOrder, SetHalt
from market.exchange import gateway
from market.households import queries as households
from market.metering import operations as metering
from market.metering.queries import Power
from market.pages import positions, tradeview
from market.pages.context import Page
from market.pages.homeview import MIN_OFFER_WH, load
from market.pages.tradeview import ORDERS
from tests.integration.pages.conftest import Town, Visitor

PAGES = ("/home", "/home/now", "/trade", "/statement", "/statement/movements")
_numbers = count(1)


class Street:
    """Alice and Bob in one street, Charlie across town; new ones for each test, in an empty book."""

    def __init__(self, town: Town):
        number = next(_numbers)
        self.market = town.market
        self.alice = town.person(f"alice-{number}", area="LV1.1")
        self.bob = town.person(f"bob-{number}", area="LV1.1")
        self.charlie = town.person(f"charlie-{number}", area="LV2.1")

    def leave(self) -> None:
        """Take all orders back."""
        for visitor in (self.alice, self.bob, self.charlie):
            assert visitor.account is not None
            self.market.exchange.call(CancelAll(visitor.account, "", "owner"))


@pytest.fixture
def street(town: Town) -> Iterator[Street]:
    """A street of this test's own."""
    made = Street(town)
    yield made
    made.leave()


def page_of(visitor: Visitor) -> Page:
    """Return the shell's view of a visitor's request."""
    request = RequestFactory().get("/home")
    request.user = visitor.user or AnonymousUser()
    return Page(request)


def offer(html: str) -> tuple[str, int, str]:
    """Return contract, energy and price of what the button would sell."""
    found = re.search(r'data-contract="([^"]*)" data-energy="(\d+)" data-price="([\d.]+)"', html)
    assert found, "no offer on the page"
    return found[1], int(found[2]), found[3]


def shine(street: Street, produced_w: int, used_w: int) -> None:
    """Let the sun shine on Alice's roof."""
    now_ms = street.market.clock.at_ms
    metering.note_power(powers={street.alice.account: Power(now_ms, produced_w, used_w, 0)})


def test_the_surplus_goes_to_who_pays_most(street: Street) -> None:
    shine(street, 2_400, 400)  # 2 kW left over: 500 Wh in a quarter of an hour
    contract = street.market.contract()
    street.market.buys(street.bob.account, "0.2000", 300)
    street.market.buys(street.bob.account, "0.1500", 400)
    street.market.buys(street.bob.account, "0.0700", 400)  # below what the grid pays: no use to anybody
    html = street.alice.html("/home")
    assert offer(html) == (contract, 500, "0.1500")
    assert "<strong>€0.09</strong>" in html  # 300 Wh at 0.20 and 200 Wh at 0.15
    assert "The grid would pay €0.04." in html


def test_what_nobody_buys_yet_is_offered_between_the_grids_prices(street: Street) -> None:
    shine(street, 2_400, 400)
    street.market.buys(street.bob.account, "0.0700", 400)
    assert offer(street.alice.html("/home"))[1:] == (500, "0.2400")


def test_what_is_sold_or_waits_is_not_offered_again(street: Street) -> None:
    shine(street, 2_400, 400)
    street.market.place(street.alice.account, "sell", "0.3000", 300)
    assert offer(street.alice.html("/home"))[1] == 200
    street.market.place(street.alice.account, "sell", "0.3100", 200 - MIN_OFFER_WH + 10)
    html = street.alice.html("/home")
    assert offer(html)[1] == 0
    assert "All of it is sold or on offer: 460 Wh" in html


def test_no_sun_no_offer(street: Street) -> None:
    shine(street, 100, 400)
    html = street.alice.html("/home")
    assert offer(html)[1] == 0
    assert "300 W come in from the street." in html


def test_money_and_trades_are_today_s_own(street: Street) -> None:
    street.market.place(street.alice.account, "sell", "0.2000", 1_000)
    street.market.buys(street.bob.account, "0.2000", 1_000)
    html = street.alice.html("/home")
    assert '<p class="sum">€0.20</p>' in html
    assert "Neighbours paid €0.20 for 1.00 kWh." in html
    assert "in your street" in html
    assert '<p class="sum">€0.00</p>' in street.charlie.html("/home")


def test_the_switch_hands_trading_over(street: Street) -> None:
    for on in (True, False):
        fields = {"automatic": "on"} if on else {}
        assert street.alice.post("/home/automatic", page="/home", **fields)["Location"] == "/home"
        info = households.account_at(street.alice.account)
        assert info is not None and info.automatic is on


def test_the_ladder_marks_own_orders(street: Street) -> None:
    contract = street.market.contract(3)
    street.market.place(street.alice.account, "sell", "0.3000", 300, contract=contract)
    street.market.place(street.bob.account, "sell", "0.3100", 300, contract=contract)
    html = street.alice.html(f"/trade/{contract}")
    asks = re.findall(r'<tr class="ask">.*?</tr>', html)
    assert [("0.3100" in row, "mine" in row) for row in asks] == [(True, False), (False, True)]
    data = json.loads(re.search(r'<script id="trade-data" type="application/json">(.*?)</script>', html)[1])  # type: ignore[index]
    assert data["contract"] == contract
    assert [row["price"] for row in data["orders"]] == ["0.3000"]
    assert data["book"]["asks"] == [["0.3000", 300, "0.0000"], ["0.3100", 300, "0.0000"]]
    assert "mine" not in "".join(re.findall(r'<tr class="ask">.*?</tr>', street.bob.html("/trade")))


def test_an_old_open_order_stays_on_the_trade_page(street: Street) -> None:
    contract, account = street.market.contract(3), street.alice.account
    old = street.market.place(account, "sell", "0.3000", 300, contract=contract).events[0].seq
    again = [(PlaceOrder(account, contract, "buy", 100, 100, "ioc", 0), None)] * 210
    assert all(outcome.refused is None for outcome in street.market.exchange.submit_many(again).result(30))
    html = street.alice.html(f"/trade/{contract}")
    data = json.loads(re.search(r'<script id="trade-data" type="application/json">(.*?)</script>', html)[1])  # type: ignore[index]
    assert [row["id"] for row in data["orders"] if row["status"] == "open"] == [old]
    assert (data["orders"][0]["id"], len(data["orders"])) == (old, ORDERS)
    assert "mine" in "".join(re.findall(r'<tr class="ask">.*?</tr>', html))


@pytest.mark.parametrize("name", ["2026-06-06T10:07Z", "2031-01-01T00:00Z", "tomorrow", "%00"])
def test_there_is_no_page_for_an_interval_that_is_not(street: Street, name: str) -> None:
    assert street.alice.get(f"/trade/{name}").status_code == 404
    assert street.alice.get("/trade", contract=name).status_code == 404


def test_the_statement_leads_to_the_ledger(street: Street) -> None:
    street.market.place(street.alice.account, "sell", "0.2000", 1_000)
    sold = street.market.buys(street.bob.account, "0.2000", 1_000).events[-1].seq  # type: ignore[union-attr]
    html = street.bob.html("/statement/movements")
    assert f'href="/receipts/{sold}"' in html
    assert "−€0.2000" in html
    assert f"/receipts/{sold}" not in street.charlie.html("/statement/movements")
    assert f"/receipts/{sold}" not in street.bob.html("/statement/movements", before=str(sold))
    for nonsense in ("x", "-1", "9" * 30, "１２"):
        assert street.bob.get("/statement/movements", before=nonsense).status_code == 200
    # A page of movements is found where it was.
    assert street.bob.get("/statement", before="7&x")["Location"] == "/statement/movements?before=7%26x"


@pytest.mark.parametrize("path", PAGES)
def test_only_households_come_in(town: Town, path: str) -> None:
    assert town.olga.get(path).status_code == 403
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("path", PAGES)
def test_pages_outlive_the_exchange(street: Street, path: str) -> None:
    running = gateway.current()
    gateway.disconnect()
    try:
        html = street.alice.html(path)
    finally:
        gateway.connect(running)
    if path != "/home/now":
        assert "The market is not running at the moment." in html


def test_who_has_no_account_yet_is_told(town: Town) -> None:
    newcomer = town.person("nina", area="")
    assert "You have no open account in this market." in newcomer.html("/home")
    assert newcomer.get("/statement")["Location"] == "/home"
    assert newcomer.get("/trade").status_code == 200


def test_no_other_home_s_data_is_on_a_page(street: Street) -> None:
    shine(street, 2_400, 400)
    page = page_of(street.alice)
    account = page.account
    assert account is not None
    view = load(page, account)
    assert view.account.index == street.alice.account
    assert view.power is not None and view.power.left_w == 2_000
    bob = page_of(street.bob)
    assert bob.account is not None
    assert load(bob, bob.account).power is None


def test_positions_say_what_was_traded_what_waits_and_what_the_connection_has_left(street: Street) -> None:
    contract, alice, bob = street.market.contract(3), street.alice.account, street.bob.account
    assert alice is not None and bob is not None
    street.market.place(bob, "sell", "0.2000", 400, contract=contract)
    street.market.place(alice, "buy", "0.2000", 400, contract=contract)
    street.market.place(alice, "buy", "0.1500", 300, contract=contract)
    row = re.search(
        rf"<tr><th scope=\"row\"><a href=\"/trade/{contract}\">.*?</tr>", street.alice.html("/trade/positions")
    )
    assert row is not None
    cells = [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<td.*?</td>", row[0])]
    assert [" ".join(cell) for cell in cells[:4]] == ["400 Wh at 0.2000", "0 Wh", "+400 Wh", "buy 300 Wh"]
    page = page_of(street.alice)
    assert page.account is not None and page.exchange is not None
    found = positions.load(page, page.account)
    assert found is not None
    assert found.held_e7 == 300 * 1_500
    limits = page.exchange.read(lambda engine: (engine.accounts[alice].import_wh, engine.accounts[alice].export_wh))
    expected = [
        None if limit >= UNLIMITED_WH else limit - used for limit, used in zip(limits, (700, -400), strict=True)
    ]
    standing = next(row for row in found.rows if row.contract == contract)
    assert [standing.import_left_wh, standing.export_left_wh] == expected
    assert f'"net": {{"{contract}": 400}}' in street.alice.html("/trade")


def test_a_halted_account_is_told_before_it_orders(street: Street) -> None:
    account = street.alice.account
    assert 'data-halt=""' in street.alice.html("/trade/positions")
    street.market.exchange.call(SetHalt("account", str(account), 1, "maintenance"))
    assert 'data-halt="account_halted"' in street.alice.html("/trade/positions")
    assert '"halt": "account_halted"' in street.alice.html("/trade")
    assert 'data-halt=""' in street.bob.html("/trade/positions")
    street.market.exchange.call(SetHalt("account", str(account), 0, "maintenance"))


def test_the_strip_is_shaded_as_the_script_shades_it() -> None:
    def line(name: str, bid: int | None, ask: int | None) -> tradeview.Line:
        return tradeview.Line(name, bid, ask, None, 0, "open")

    # The same prices as in frontend/tests/trade.test.ts.
    lines = [line("a", 1000, None), line("b", None, None), line("c", 1699, 1702), line("d", None, 1350)]
    assert tradeview.shades_of(lines) == {"a": 1, "b": 0, "c": 8, "d": 4}
