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
from market.engine.contracts import contract_start_ms
from market.exchange import gateway
from market.exchange import operations as exchange_operations
from market.households import operations as household_operations
from market.households import queries as households
from market.households.models import Account, Home
from market.metering import operations as metering
from market.metering.models import Reading
from market.metering.queries import Outlook, Power
from market.pages import positions, tradeview
from market.pages.context import Page
from market.pages.homeview import load
from market.pages.tradeview import ORDERS
from tests.integration.pages.conftest import NOW, Town, Visitor

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


def plan(html: str, side: str = "sell") -> list[tuple[str, int, str]]:
    """Return contract, energy and price of each order that a button would send."""
    found = re.search(rf'id="{side}-plan" data-live="{side}-plan" data-legs="([^"]*)"', html)
    assert found, f"no {side} card on the page"
    legs = [part.split() for part in found[1].split(";") if part]
    return [(contract, int(energy), price) for contract, energy, price in legs]


def offer(html: str) -> tuple[str, int, str]:
    """Return the first of the orders that "Sell my surplus" would send."""
    return plan(html)[0]


def blocked(html: str, side: str = "sell") -> str:
    """Return the code of what keeps a button from being pressed."""
    found = re.search(rf'id="{side}-plan"[^>]* data-blocked="([^"]*)"', html)
    assert found, f"no {side} card on the page"
    return found[1]


def shine(street: Street, produced_w: int, used_w: int) -> None:
    """Let the sun shine on Alice's roof."""
    now_ms = street.market.clock.at_ms
    metering.note_power(powers={street.alice.account: Power(now_ms, produced_w, used_w, 0)})


def test_the_surplus_goes_to_who_pays_most(street: Street) -> None:
    shine(street, 2_400, 400)  # 2 kW left over: 500 Wh in a quarter of an hour, of which nine tenths are offered
    contract = street.market.contract()
    street.market.buys(street.bob.account, "0.2000", 300)
    street.market.buys(street.bob.account, "0.1500", 400)
    street.market.buys(street.bob.account, "0.0700", 400)  # below what the grid pays: no use to anybody
    html = street.alice.html("/home")
    # Nobody forecasts: it may stay like this for an hour.
    later = [(street.market.contract(ahead), 450, "0.2400") for ahead in (2, 3, 4)]
    assert plan(html) == [(contract, 450, "0.1500"), *later]
    amounts = "about <strong>€0.08</strong> now, up to <strong>€0.41</strong>"
    assert f"<strong>1.80 kWh</strong> between 12:15 and 13:15, {amounts}" in html
    assert "The grid would pay €0.14." in html
    assert "Neighbours buy 450 Wh at once; 1.35 kWh wait for one who pays €0.24 per kWh or more." in html
    assert "If it stays as it is now, 2.00 kWh are left over; a part is kept back for clouds." in html
    assert "For this surplus that is €0.14." in html


def test_what_nobody_buys_yet_is_offered_between_the_grids_prices(street: Street) -> None:
    shine(street, 2_400, 400)
    street.market.buys(street.bob.account, "0.0700", 400)
    html = street.alice.html("/home")
    assert offer(html)[1:] == (450, "0.2400")
    assert "<strong>1.80 kWh</strong> between 12:15 and 13:15, up to <strong>€0.43</strong>" in html


def test_what_neighbours_take_at_once_has_one_amount(street: Street) -> None:
    shine(street, 2_400, 400)
    for ahead in (1, 2, 3, 4):
        street.market.buys(street.bob.account, "0.2000", 450, contract=street.market.contract(ahead))
    assert "13:15, about <strong>€0.36</strong></p>" in street.alice.html("/home")


def test_what_is_sold_or_waits_is_not_offered_again(street: Street) -> None:
    shine(street, 2_400, 400)
    street.market.place(street.alice.account, "sell", "0.3000", 300)
    assert offer(street.alice.html("/home"))[1] == 150
    for ahead in (1, 2, 3, 4):
        street.market.place(street.alice.account, "sell", "0.3100", 450, contract=street.market.contract(ahead))
    html = street.alice.html("/home")
    assert plan(html) == []
    assert "All of it is sold or on offer: 2.10 kWh." in html
    assert "2.10 kWh wait for a buyer." in html


def test_no_sun_no_offer(street: Street) -> None:
    shine(street, 100, 400)
    html = street.alice.html("/home")
    assert plan(html) == []
    assert "300 W come in from the street." in html
    # What is lacking can be bought: nine tenths of 75 Wh in each quarter of the hour.
    assert [energy for _, energy, _ in plan(html, "buy")] == [60, 60, 60, 60]
    assert "<strong>240 Wh</strong> between 12:15 and 13:15, up to <strong>€0.06</strong>" in html
    assert "The grid would charge €0.10." in html
    assert "If you do nothing, the grid delivers what you lack and charges €0.40 per kWh." in html


def test_a_forecast_goes_before_what_is_now(street: Street) -> None:
    shine(street, 0, 400)
    first = contract_start_ms(street.market.contract(1))
    made = (0, 0, 0, 0, 400, 400, 800, 0)
    metering.note_outlook(outlooks={street.alice.account: Outlook(first, made, (100,) * len(made))})
    html = street.alice.html("/home")
    assert plan(html) == [
        (street.market.contract(5), 220, "0.2400"),  # 300 Wh left, three quarters of it so far ahead
        (street.market.contract(6), 220, "0.2400"),
        (street.market.contract(7), 520, "0.2400"),
    ]
    assert "The forecast says 1.30 kWh will be left over" in html
    assert [energy for _, energy, _ in plan(html, "buy")] == [90, 90, 90, 90, 70]


def test_the_home_s_own_days_are_a_forecast(street: Street) -> None:
    account, first = street.alice.account, contract_start_ms(street.market.contract(1))
    rows = []
    for quarters in range(1, 2 * 96 + 1):
        start_ms = first - quarters * 900_000
        rows.append(
            Reading(
                account=account,
                start_ms=start_ms,
                area="LV1.1",
                import_wh=0,
                export_wh=200,
                produced_wh=300,
                used_wh=100,
                quality="measured",
                version=0,
                received_ms=first,
                seq=1,
                n=quarters,
            )
        )
    Reading.objects.bulk_create(rows)
    html = street.alice.html("/home")
    assert "The forecast says 1.60 kWh will be left over" in html  # as far as the market is open: two hours
    assert [energy for _, energy, _ in plan(html)] == [180] * 4 + [150] * 4


def test_an_hour_of_the_strip_is_for_both_buttons(street: Street) -> None:
    shine(street, 2_400, 400)
    hour_ms = contract_start_ms(street.market.contract(4)) // 3_600_000 * 3_600_000  # 13:00, of which a quarter counts
    street.market.place(street.bob.account, "sell", "0.2500", 300, contract=street.market.contract(5))
    street.market.buys(street.bob.account, "0.2100", 300, contract=street.market.contract(4))
    html = street.alice.html("/home", hour=str(hour_ms))
    assert plan(html) == [(street.market.contract(4), 450, "0.2100")]
    assert f'?hour={hour_ms}" data-hour="{hour_ms}" aria-current="true"' in html
    assert "13:00–14:00: neighbours pay up to €0.21 and ask from €0.25." in html
    assert "Both buttons are now for this hour." in html
    assert "Your home will probably need nothing from outside between 13:00 and 14:00." in html
    assert html.count('aria-current="true"') == 1
    for nonsense in ("x", "-1", "9" * 30, "１２"):
        assert 'aria-current="true"' not in street.alice.html("/home", hour=nonsense)


HALTS = {
    "market_halted": ("market", "", "The whole market rests at the moment."),
    "area_halted": ("area", "MV1", "The grid operator has stopped trading in your part of the grid."),
    "account_halted": ("account", "", "Trading is stopped for your account."),
}


@pytest.mark.parametrize("code", HALTS)
def test_a_halt_is_said_before_anybody_presses(street: Street, code: str) -> None:
    scope, target, sentence = HALTS[code]
    if scope == "account":
        target = str(street.alice.account)
    shine(street, 2_400, 400)
    street.market.exchange.call(SetHalt(scope, target, 1, "emergency"))
    try:
        html = street.alice.html("/home")
        assert (blocked(html), blocked(html, "buy")) == (code, code)
        assert plan(html) == plan(html, "buy") == []
        assert html.count(sentence) == 2
        other = blocked(street.charlie.html("/home"))
        assert other == ("market_halted" if scope == "market" else "")
    finally:
        street.market.exchange.call(SetHalt(scope, target, 0, "emergency"))
    assert blocked(street.alice.html("/home")) == ""


def test_halted_intervals_are_left_out_until_none_is_left(street: Street) -> None:
    shine(street, 2_400, 400)
    names = [street.market.contract(ahead) for ahead in (1, 2, 3, 4)]
    done: list[str] = []
    try:
        for name in names:
            street.market.exchange.call(SetHalt("contract", name, 1, "emergency"))
            done.append(name)
            html = street.alice.html("/home")
            assert [contract for contract, _, _ in plan(html)] == names[len(done) :]
        assert blocked(html) == "contract_halted"
        assert "These hours cannot be traded at the moment." in html
    finally:
        for name in done:
            street.market.exchange.call(SetHalt("contract", name, 0, "emergency"))


def test_who_cannot_set_money_aside_is_told_before(town: Town) -> None:
    poor = town.person(f"poor-{next(_numbers)}")
    area = household_operations.open_account(town.exchange, now=NOW, user=poor.user, area="LV1.1")
    metering.note_power(powers={area.index: Power(town.market.clock.at_ms, 2_400, 400, 0)})
    html = poor.html("/home")
    assert blocked(html) == "no_money"
    assert plan(html) == []
    assert "Selling 1.80 kWh sets €0.29 aside until it is delivered; €0.00 is free." in html


def test_the_house_divides_what_crosses_the_meter(street: Street) -> None:
    running = street.market.contract(1)
    street.market.place(street.alice.account, "sell", "0.2000", 300)
    street.market.buys(street.bob.account, "0.2000", 300)
    page = page_of(street.alice)
    assert page.account is not None
    shine(street, 2_400, 400)
    vars(page)["now_ms"] = contract_start_ms(running) + 60_000  # seen from within; the market's own clock stands still
    house = load(page, page.account).power
    assert house is not None
    assert (house.neighbours_w, house.grid_w, house.total_w) == (-1_200, -800, 2_400)


def test_the_picture_of_the_house_can_be_had_alone(street: Street) -> None:
    alice = street.alice
    metering.note_power(powers={alice.account: Power(0, 2_310, 420, 0)})
    whole = alice.html("/home/now")
    part = alice.html("/home/now", part="power")
    assert re.findall(r'data-live="([^"]+)"', part) == ["power"]
    assert len(part) * 4 < len(whole)
    assert part.strip() in whole
    assert "2.31" in part


def test_first_steps_go_one_by_one_and_can_be_put_away(street: Street) -> None:
    html = street.alice.html("/home")
    assert "First steps" in html
    assert "Let your meter report." in html
    shine(street, 2_400, 400)
    html = street.alice.html("/home")
    assert "Let your meter report." not in html
    assert "Press “Buy cheap”." in html  # no roof is known of this home
    street.market.place(street.alice.account, "sell", "0.3000", 300)
    html = street.alice.html("/home")
    assert "Press “" not in html
    assert "Come back after the delivery" in html
    answer = street.alice.post("/home/guide", page="/home")
    assert answer["Location"] == "/home"
    assert "First steps" not in street.alice.html("/home")
    assert "First steps" in street.bob.html("/home")


def test_a_home_without_roof_and_money_pays_in_first_and_buys(town: Town) -> None:
    new = town.person(f"new-{next(_numbers)}")
    account = household_operations.open_account(town.exchange, now=NOW, user=new.user, area="LV1.1")
    html = new.html("/home")
    assert re.findall(r"<li>(\S+)", html[html.index('data-live="guide"') :])[:3] == ["Pay", "Let", "Press"]
    assert 'from your wallet. <a href="/money">' in html
    assert re.findall(r'<section class="card (sell|guide|buy)', html) == ["buy", "guide", "sell"]
    assert html.count('class="paused-note"') == html.count("To sell or buy from this page") == 1
    exchange_operations.fund(town.exchange, account=account.index, amount_e7=10_000_000)
    assert "Pay money in" not in new.html("/home")


def test_a_home_with_a_roof_sells_first(street: Street) -> None:
    [home] = household_operations.create_homes([Home(code=f"R{next(_numbers)}", area="LV1.1", pv_w=5_000)])
    Account.objects.filter(index=street.alice.account).update(home=home)
    html = street.alice.html("/home")
    assert re.findall(r'<section class="card (sell|guide|buy)', html) == ["sell", "guide", "buy"]
    assert "Pay money in" not in html


def test_money_and_trades_are_today_s_own(street: Street) -> None:
    street.market.place(street.alice.account, "sell", "0.2000", 1_000)
    street.market.buys(street.bob.account, "0.2000", 1_000)
    html = street.alice.html("/home")
    assert '<p class="sum">€0.20</p>' in html
    assert "Neighbours bought 1.00 kWh for €0.20. €0.20 of it arrives after delivery." in html
    assert "in your street" in html
    assert "what is not delivered yet is counted in" in html  # the statement has it after delivery
    other = street.charlie.html("/home")
    assert '<p class="sum">€0.00</p>' in other
    assert "is counted in" not in other


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
