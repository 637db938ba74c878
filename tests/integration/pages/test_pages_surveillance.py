"""The regulator's searches, lives of orders, books of the past, exports and own log, as pages that need no script."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator
from datetime import date
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from django.test import override_settings

from market.engine.commands import AmendOrder, CancelOrder, HibernateOrder, PlaceIceberg, ReactivateOrder
from market.exchange import queries
from market.exchange.operations import recall_trade
from market.pages.orderlife import life_of
from market.surveillance import concentration, past
from market.surveillance.past import Past
from tests.integration.pages.conftest import Town

PAGES = ("find", "book", "charts", "exports", "accesses")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("exports")
    with override_settings(EXPORTS_DIR=path):
        yield path


@pytest.fixture(scope="module")
def trade(town: Town) -> int:
    """Alice offers 2 kWh, Bob takes one; the trade's entry."""
    town.market.place(town.alice.account, "sell", "0.1500", 2_000, contract=town.market.contract(3))
    events = town.market.buys(town.bob.account, "0.2000", 1_000, contract=town.market.contract(3)).events
    return events[1].seq


def steps(order_id: int) -> list[tuple[str, int, int]]:
    found = queries.order(order_id)
    assert found is not None
    return [(step.kind, step.energy_wh, step.remaining_wh) for step in life_of(found)]


def test_the_life_of_an_iceberg_clip_by_clip(town: Town) -> None:
    contract, market = town.market.contract(4), town.market
    order = PlaceIceberg(town.alice.account, contract, "sell", 1_500, 1_000, "gtg", 0, 300)
    iceberg = town.exchange.call(order).events[0].seq
    market.buys(town.bob.account, "0.2000", 100, contract=contract)
    market.buys(town.charlie.account, "0.2000", 300, contract=contract)
    town.exchange.call(HibernateOrder(town.alice.account, iceberg))
    town.exchange.call(ReactivateOrder(town.alice.account, iceberg))
    town.exchange.call(AmendOrder(town.alice.account, iceberg, -1, 900))
    town.exchange.call(CancelOrder(town.alice.account, iceberg, "owner"))
    told = steps(iceberg)
    assert told[:2] == [("placed", 1_000, 1_000), ("traded", 100, 900)]
    # 200 Wh were left of the first clip; the second buyer took them and 100 Wh of the next.
    assert told[2:5] == [("traded", 200, 700), ("clip", 300, 700), ("traded", 100, 600)]
    assert [kind for kind, _, _ in told[5:]] == ["hibernated", "reactivated", "amended", "cancelled"]
    assert told[-1] == ("cancelled", 500, 0)
    book = town.rita.html("/regulator/book", contract=contract, area="LV1.1", seq=str(iceberg))
    assert "300 Wh" in book and "1.00 kWh" in book  # shown, and left


def test_an_order_that_expired_says_so_and_a_trade_taken_back_too(town: Town) -> None:
    contract, market = town.market.contract(5), town.market
    at_ms = market.clock.at_ms + 60_000
    order = market.place(
        town.alice.account, "sell", "0.1500", 500, contract=contract, time_in_force="gtd", expires_at_ms=at_ms
    ).events[0].seq  # fmt: skip
    taken = market.buys(town.bob.account, "0.2000", 200, contract=contract).events[1].seq
    recall_trade(town.exchange, trade=taken, reason="error")
    market.clock.advance(minutes=2)
    town.sealed(market.place(town.charlie.account, "sell", "0.9000", contract=contract).events[0].seq)
    assert steps(order) == [("placed", 500, 500), ("traded", 200, 300), ("recall", 200, 300), ("ran_out", 300, 0)]
    html = town.rita.html(f"/regulator/orders/{order}")
    assert "expired" in html and f"Account {town.bob.account}" in html
    assert f"seq={taken}" in html and f"/regulator/entries/{taken}#check" in html


def test_a_search_finds_says_what_it_adds_up_to_and_stands_in_the_address(town: Town, trade: int) -> None:
    html = town.rita.html("/regulator/find", account=str(town.bob.account), contract=town.market.contract(3))
    assert f'<a href="/regulator/entries/{trade}">' in html
    assert "<dd>1</dd>" in html
    assert f'name="query" value="kind=trades&amp;account={town.bob.account}&amp;contract=' in html
    for kind in ("orders", "entries"):
        assert f"/regulator/entries/{trade - 1}" in town.rita.html("/regulator/find", kind=kind, order=str(trade - 1))
    wrong = town.rita.html("/regulator/find", price_from="cheap", area="LV1.1")
    assert 'name="price_from" type="text" value="cheap"' in wrong and 'aria-invalid="true"' in wrong
    assert 'value="LV1.1"' in wrong and "A price per kWh with at most four decimals, like 0.1850." in wrong
    assert "like 2026-06-06T12:15Z." in town.rita.html("/regulator/find", contract="today")
    assert "no such type" in town.rita.html("/regulator/find", kind="orders", type="halt")
    assert "before where the range begins" in town.rita.html("/regulator/find", wh_from="2", wh_to="1")
    assert "A whole number, like 4711." in town.rita.html("/regulator/find", wh_to="much")
    local = town.rita.html("/regulator/find", **{"from": "2026-06-06T11:00"})
    assert 'value="2026-06-06T11:00:00"' in local


def test_views_are_kept_renamed_and_deleted(town: Town) -> None:
    query = "kind=orders&side=sell"
    town.rita.post("/regulator/views", "/regulator/find", name="For sale", query=query)
    html = town.rita.html("/regulator/find")
    assert "/regulator/find?kind=orders&amp;side=sell" in html and "For sale" in html
    view = re.search(r'name="view" value="(\d+)"', html)
    assert view
    town.rita.post("/regulator/views", "/regulator/find", name="On offer", view=view[1], query="")
    assert "On offer" in town.rita.html("/regulator/find")
    assert "On offer" not in town.sam.html("/regulator/find")
    for more in ({"delete": "1"}, {"name": "Mine now"}):
        response = town.sam.post("/regulator/views", "/regulator/find", view=view[1], query="", **more)
        assert response.status_code == 404, "what is somebody else's is not said to be done"
    assert "On offer" in town.rita.html("/regulator/find")
    town.rita.post("/regulator/views", "/regulator/find", view=view[1], delete="1", query="")
    town.rita.html("/regulator/find")  # where it says that it is deleted
    assert "On offer" not in town.rita.html("/regulator/find")


def test_a_book_stands_in_the_address_and_leads_on(town: Town, trade: int) -> None:
    contract = town.market.contract(3)
    html = town.rita.html("/regulator/book", contract=contract, area="LV1.1", seq=str(trade))
    assert f"After entries {trade - 1} to {trade}" in html
    assert '<span class="tag warn">less</span>' in html
    before = re.search(r'rel="prev" href="([^"]+)"', html)
    assert before
    earlier = town.rita.client.get("/regulator/book" + unescape(before[1])).content.decode()
    assert '<span class="tag warn">new</span>' in earlier


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("contract", "tomorrow", "A contract is named by its start in UTC, like 2026-06-06T12:15Z."),
        ("contract", "2031-01-01T00:00Z", "There is no such contract: none starts then."),
        ("area", "X", "There was no such area at that time."),
        ("seq", "99999999", "The ledger has no such entry: the newest is "),
        ("seq", "x", "A number, like 4711."),
    ],
)
def test_what_is_wrong_with_a_book_stands_at_its_field(
    town: Town, trade: int, field: str, value: str, sentence: str
) -> None:
    asked = {"contract": town.market.contract(3), "area": "CITY", "seq": str(trade)} | {field: value}
    html = town.rita.html("/regulator/book", **asked)
    place = html.index(f'id="book-{field}-wrong" role="alert">{sentence}')
    assert f'aria-describedby="book-{field}-wrong"' in html and html.count('aria-invalid="true"') == 1
    assert html.rindex("<input", 0, place) == html.index(f'<input id="book-{field}"')
    assert f'value="{value}"' in html, "what was typed is still there"
    assert 'id="lately"' in html, "and there is a way on"


def test_a_book_is_a_tap_away(town: Town, trade: int) -> None:
    html = town.rita.html("/regulator/book")
    newest = town.exchange.read(lambda engine: engine.seq) - 1
    seq = re.search(r'name="seq" type="number" min="0" value="(\d+)"', html)
    assert seq and newest - 5 <= int(seq[1]) <= newest, "the newest, but for seals meanwhile"
    offered = re.findall(r'<th scope="row" data-label="Contract"><a href="([^"]+)">', html)
    assert len(offered) == len(set(offered)) > 1
    contract = town.market.contract(3)
    (tap,) = (link for link in offered if quote(contract, "") in link)
    page = town.rita.client.get("/regulator/book" + unescape(tap)).content.decode()
    last = queries.trades(contract=contract, newest_first=True, limit=1)[0].seq
    assert re.search(rf"After entr(y|ies \d+ to) {last}\b", page) and 'id="lately"' not in page
    assert page.count("<h2") == 4 and "Orders that rested" in page


def test_an_entry_leads_to_both_orders_and_to_the_book(town: Town, trade: int) -> None:
    found = queries.trades(contract=town.market.contract(3), after=trade - 1, before=trade + 1, limit=1)[0]
    html = town.rita.html(f"/regulator/entries/{trade}")
    for order in (found.buy_order, found.sell_order):
        assert f'<a href="/regulator/orders/{order}">The ' in html
    then = f"area=LV1.1&amp;seq={trade}"
    assert then in html
    assert then not in town.olga.html(f"/regulator/entries/{trade}"), "books of the past are not hers"


def test_what_is_far_says_how_far_it_is(town: Town, trade: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "NEAR", 2)
    rebuilt = Past(at_once=3)
    monkeypatch.setattr(past, "PAST", rebuilt)
    address = f"/regulator/book?contract={quote(town.market.contract(3))}&area=LV1.1&seq={trade}"
    html = town.rita.client.get(address).content.decode()
    assert "are being replayed" in html and "data-again" in html
    rebuilt.wait(20)
    assert f"After entries {trade - 1} to {trade}" in town.rita.client.get(address).content.decode()


def test_an_export_shows_the_hash_of_its_bytes(town: Town, trade: int) -> None:
    town.rita.post("/regulator/exports", "/regulator/find", query=f"kind=trades&trade={trade}", format="csv")
    html = town.rita.html("/regulator/exports")
    found = re.search(r'<a href="(/regulator/exports/\d+)" download>(sunledger-trades-\d+\.csv)', html)
    assert found
    content = b"".join(town.rita.get(found[1]).streaming_content)  # type: ignore[attr-defined]
    digest = hashlib.sha256(content).hexdigest()
    assert f"<code>{digest}</code>" in html
    assert town.rita.get(f"{found[1]}.sha256").content.decode() == f"{digest}  {found[2]}\n"
    assert town.sam.get(found[1]).status_code == 404
    log = town.rita.html("/regulator/accesses")
    assert f"kind=trades&amp;trade={trade}" in log and f"SHA-256 {digest}" in log


def test_prices_and_concentration_of_a_day(town: Town, trade: int) -> None:
    html = town.rita.html("/regulator/charts", day="2026-06-06")
    assert 'class="price-days"' in html and "10,000" in html and "0.1500" in html
    table = html[: html.index("</table></div></details>")].rpartition("<details>")[2]
    assert "As a table</summary>" in table and "0.1500" in table, "folded below the chart"
    assert "tall" not in table, "and whole, without a scroll box that cuts its rows"
    hours = re.findall(r'<text class="hour" x="([\d.]+)"[^>]*>(\d\d:\d\d)</text>', html)
    assert [hour for _, hour in hours] == [f"{hour % 24:02d}:00" for hour in range(0, 25, 3)]
    assert "Nothing was traded" in town.rita.html("/regulator/charts", day="2026-06-01")
    assert town.rita.get("/regulator/charts", day="x").status_code == 200


def test_a_day_is_added_up_once_until_its_trades_change(
    town: Town, trade: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, made, day = concentration._added_up, [], date(2026, 6, 6)

    def counted(asked: date) -> list[concentration.Hands]:
        made.append(asked)
        return genuine(asked)

    monkeypatch.setattr(concentration, "_added_up", counted)
    monkeypatch.setattr(concentration, "_known", OrderedDict())
    before = concentration.by_day(last=day, days=7)
    assert concentration.by_day(last=day, days=7) == before and made == [day]
    contract = town.market.contract(3)
    town.market.place(town.alice.account, "sell", "0.1500", 500, contract=contract)
    newer = town.market.buys(town.bob.account, "0.2000", 500, contract=contract).events[1].seq
    assert concentration.by_day(last=day)[0].energy_wh == before[0].energy_wh + 500
    recall_trade(town.exchange, trade=newer, reason="error")
    assert concentration.by_day(last=day) == before[: len(before)] and made == [day] * 3


def test_who_asks_while_others_wait_for_a_sum_is_told_so(town: Town, trade: int) -> None:
    with concentration._room, concentration._room:
        response = town.rita.get("/regulator/charts", day="2026-06-06")
    assert response.status_code == 503 and "try again in a moment" in response.content.decode()
    assert town.rita.get("/regulator/charts", day="2026-06-06").status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_nobody_else_comes_in(town: Town, page: str) -> None:
    path = f"/regulator/{page}"
    assert town.sam.get(path).status_code == 200
    for visitor in (town.alice, town.olga):
        assert visitor.get(path).status_code == 403
    assert town.nobody.get(path).status_code == 302
