"""`GET /api/v1/me`, `/me/positions`, `/me/balance`, `/me/statement`."""

from __future__ import annotations

import pytest

from market.api import shapes
from market.api.me import page_end
from tests.api.conftest import City, Person, refused, shaped

ME = "/api/v1/me"


def test_who_am_i(city: City, alice: Person, rita: Person) -> None:
    me = shaped(alice.get(ME), shapes.Me)
    assert (me.user, me.role, me.account, me.area, me.home) == ("alice", "household", alice.account, "LV1.1", None)
    assert me.scopes == ["read", "readings:write", "trade"]
    assert shaped(alice.request("GET", ME, key=alice.key_for("read")), shapes.Me).scopes == ["read"]
    regulator = shaped(rita.get(ME), shapes.Me)
    assert (regulator.role, regulator.account, regulator.scopes) == ("regulator", None, ["ledger:read", "read"])
    assert shaped(city.request("GET", ME, cookies=alice.session()), shapes.Me).user == "alice"


def test_money_is_set_aside_paid_and_listed(city: City) -> None:
    buyer, seller = city.person("buyer", area="LV1.1"), city.person("seller", area="LV1.1")
    contract = city.market.contract(2)
    buyer.order("buy", "0.2000", 1_000, contract=contract)
    held = shaped(buyer.get(ME + "/balance"), shapes.Balance)
    assert (held.cash, held.held, held.free) == ("1000.0000000", "0.2000000", "999.8000000")
    assert (held.currency, held.arrears, held.account) == ("EUR", "0.0000000", buyer.account)

    trade = seller.order("sell", "0.1500", 400, contract=contract)["trades"][0]
    paid = shaped(buyer.get(ME + "/balance"), shapes.Balance)
    assert (paid.cash, paid.held) == ("999.9200000", "0.1200000")

    bought = shaped(buyer.get(ME + "/positions"), shapes.PositionPage).results
    assert [(p.contract, p.bought_wh, p.sold_wh, p.position_wh, p.paid) for p in bought] == [
        (contract, 400, 0, 400, "0.0800000")
    ]
    sold = shaped(seller.get(ME + "/positions"), shapes.PositionPage).results
    assert [(p.sold_wh, p.position_wh, p.proceeds) for p in sold] == [(400, -400, "0.0800000")]

    lines = shaped(buyer.get(ME + "/statement"), shapes.StatementPage).results
    assert [(line.kind, line.amount) for line in lines] == [("trade", "-0.0800000"), ("fund", "1000.0000000")]
    assert lines[0].seq == trade["seq"]
    margin = shaped(seller.get(ME + "/statement"), shapes.StatementPage).results[0]
    assert (margin.kind, margin.amount) == ("margin", "-0.0800000")


def test_a_statement_in_pages_loses_no_line(city: City) -> None:
    eve, adam = city.person("eve", area="LV1.1"), city.person("adam", area="LV1.1")
    contract = city.market.contract(3)
    for _ in range(5):
        eve.order("sell", "0.2000", 100, contract=contract)
        adam.order("buy", "0.2000", 100, contract=contract)
    whole = shaped(eve.get(ME + "/statement"), shapes.StatementPage)
    assert (len(whole.results), whole.next) == (6, None)
    seen, cursor = [], None
    for _ in range(7):
        page = shaped(
            eve.get(ME + "/statement", limit=1, **({"cursor": cursor} if cursor else {})), shapes.StatementPage
        )
        seen += page.results
        cursor = page.next
        if cursor is None:
            break
    assert seen == whole.results


@pytest.mark.parametrize(
    ("seqs", "limit", "end"),
    [([], 2, 0), ([5], 2, 1), ([9, 8, 7], 2, 2), ([9, 8, 8, 7], 2, 3), ([9, 9, 9], 1, 3), ([9, 8, 8], 1, 1)],
)
def test_a_page_never_ends_within_an_entry(seqs: list[int], limit: int, end: int) -> None:
    assert page_end(seqs, limit) == end


def test_without_an_account(city: City) -> None:
    assert shaped(city.nora.get(ME), shapes.Me).account is None
    for path in ("positions", "balance", "statement"):
        refused(city.nora.get(f"{ME}/{path}"), 403, "no_account")
