"""A member's new account number: money, home and limits come along; numbers do not add up to more than one connection."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from ledger import keys
from ledger import queries as ledger
from ledger.core.bundled import parse_bundle, verify_bundle
from ledger.core.encoding import decode
from ledger.core.note import parse_vkey
from ledger.core.receipt import parse_receipt
from market.engine.commands import BUY, SELL
from market.exchange import operations as exchange_operations
from market.exchange import queries as queries_of_exchange
from market.exchange.concerns import concerns
from market.exchange.exchange import Exchange
from market.exchange.models import IdempotencyKey
from market.exchange.receipts import own_receipt
from market.households import erasure, operations, queries, renewal
from market.households.models import Account, Home, Renewal, User
from market.households.operations import HouseholdError
from market.metering.operations import ReadingIn, record_batches
from market.settlement.operations import settle_due
from tests.bank import pay_out
from tests.factories import DEPOSIT_E7, Market, running_market
from tests.integration.witness_http import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

OPENED = datetime(2026, 4, 1, tzinfo=UTC)
NOW = OPENED + timedelta(days=60)
LIMIT_W = 8_000  # 2,000 Wh in a quarter of an hour


def member(market: Market, name: str = "nora", **fields: Any) -> tuple[User, Account]:
    user = operations.create_person(username=name, password=None)
    account = operations.open_account(market.exchange, now=OPENED, user=user, area="LV1.1", **fields)
    exchange_operations.fund(market.exchange, account=account.index, amount_e7=DEPOSIT_E7)
    return user, account


def cash(market: Market, account: int) -> int:
    return market.exchange.read(lambda engine: engine.accounts[account].cash_e7)


def connection(market: Market, account: int) -> tuple[str, int]:
    return market.exchange.read(lambda engine: (engine.accounts[account].connection, engine.accounts[account].import_w))


def test_money_home_connection_and_limits_come_along() -> None:
    with running_market(seal_every_s=0.05) as market:
        home = Home.objects.create(code="H7", area="LV1.1")
        user, old = member(market, home=home)
        exchange_operations.set_connection(
            market.exchange, account=old.index, import_w=LIMIT_W, export_w=0, reason="planning"
        )
        new = renewal.renew_account(market.exchange, user=user, now=NOW)
        assert new.index != old.index and new.account_id != old.account_id
        assert (cash(market, old.index), cash(market, new.index)) == (0, DEPOSIT_E7)
        assert connection(market, new.index) == connection(market, old.index)
        assert connection(market, new.index)[1] == LIMIT_W
        old.refresh_from_db()
        assert old.closed_at is not None and old.home is None and new.home == home
        assert queries.account_of(user).index == new.index

        moved = Renewal.objects.get()
        for seq, account, amount_e7 in (
            (moved.out_seq, old.index, -DEPOSIT_E7),
            (moved.in_seq, new.index, DEPOSIT_E7),
        ):
            entry = ledger.entry(seq)
            assert (entry["type"], entry["account"], entry["amount_e7"], entry["reason"]) == (
                "fund", account, amount_e7, "renewal",
            )  # fmt: skip
            assert concerns(entry, queries.account_indexes(user.pk)), "the member may see both"
        opened = ledger.entry(new.opened_seq)
        assert queries.commitment_holds(new.index, str(opened["commitment"]))
        assert opened["commitment"] != ledger.entry(old.opened_seq)["commitment"], "a salt of its own"
    call_command("verify_ledger", verbosity=0)


def test_numbers_of_one_meter_share_its_limits() -> None:
    with running_market() as market:
        user, old = member(market, meter_number="1ESY-7")
        exchange_operations.set_connection(
            market.exchange, account=old.index, import_w=LIMIT_W, export_w=0, reason="planning"
        )
        new = renewal.renew_account(market.exchange, user=user, now=NOW)
        other, third = member(market, "otto", meter_number="1ESY-7")
        assert len({connection(market, one.index) for one in (old, new, third)}) == 1
        assert market.buys(new.index, "0.2000", 1_500).refused is None
        refused = market.buys(third.index, "0.2000", 600).refused
        assert refused is not None and refused.code == "position_limit"
        assert market.buys(third.index, "0.2000", 500).refused is None
        assert market.buys(old.index, "0.2000", 1).refused.code == "account_closed"
        del user, other


@pytest.mark.parametrize("trouble", ["too_soon", "open_orders", "unsettled", "no_account"])
def test_what_is_in_the_way_is_said_and_nothing_changes(trouble: str) -> None:
    with running_market() as market:
        user, account = member(market)
        now = OPENED + timedelta(days=27) if trouble == "too_soon" else NOW
        if trouble == "open_orders":
            market.buys(account.index, "0.0100", 100)
        if trouble == "unsettled":
            market.place(market.alice, SELL, "0.2000", 500)
            market.place(account.index, BUY, "0.2500", 500)
        if trouble == "no_account":
            operations.close_account(market.exchange, account_index=account.index, now=NOW)
        before = market.exchange.read(lambda engine: (len(engine.accounts), engine.accounts[account.index].closed))
        with pytest.raises(HouseholdError, match=trouble):
            renewal.renew_account(market.exchange, user=user, now=now)
        after = market.exchange.read(lambda engine: (len(engine.accounts), engine.accounts[account.index].closed))
        assert before == after and not Renewal.objects.exists()


@pytest.mark.parametrize("cut", ["close", "out", "in"])
def test_a_change_that_was_cut_short_is_finished_once(cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends before the account is closed, before money leaves, or between the two money entries."""
    with running_market() as market:
        user, old = member(market)
        with monkeypatch.context() as broken:
            if cut == "close":
                broken.setattr(renewal, "close_account", _cut)
            else:
                broken.setattr(exchange_operations, "fund", _cut_at(1 if cut == "out" else 2))
            with pytest.raises(KeyboardInterrupt):
                renewal.renew_account(market.exchange, user=user, now=NOW)
        if cut == "close":
            new = renewal.renew_account(market.exchange, user=user, now=NOW)
        else:
            renewal.fetch_left(market.exchange, user=user)
            new = Account.objects.get(user=user, closed_at=None)
        assert (cash(market, old.index), cash(market, new.index)) == (0, DEPOSIT_E7)
        assert Account.objects.filter(user=user).count() == 2


def _cut(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def _cut_at(call: int) -> Any:
    real, calls = exchange_operations.fund, []

    def fund(exchange: Exchange, **kwargs: Any) -> Any:
        calls.append(kwargs)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(exchange, **kwargs)

    return fund


def test_two_who_renew_at_once_open_one_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second click comes at every step of the first one's way."""
    for step in ("_begin", "_open_again", "close_account", "fetch_left", "_move"):
        with running_market() as market:
            user, old = member(market, name=f"nora{step}")
            first = _with_another_inside(getattr(renewal, step), market, user)
            with monkeypatch.context() as patched:
                patched.setattr(renewal, step, first)
                try:
                    renewal.renew_account(market.exchange, user=user, now=NOW)
                except HouseholdError as error:
                    assert error.code == "too_soon", step
            (new,) = Account.objects.filter(user=user, closed_at=None)
            assert Account.objects.filter(user=user).count() == 2, step
            assert (cash(market, old.index), cash(market, new.index)) == (0, DEPOSIT_E7), step
            assert renewal.fetch_left(market.exchange, user=user) == 0, step
            assert market.exchange.read(lambda engine: len(engine.accounts)) == new.index + 1, (
                "no account without an owner"
            )


def _with_another_inside(step: Any, market: Market, user: User) -> Any:
    inside: list[int] = []

    def first(*args: Any, **kwargs: Any) -> Any:
        if not inside:
            inside.append(1)
            with contextlib.suppress(HouseholdError):  # it may find the new number young
                renewal.renew_account(market.exchange, user=user, now=NOW)
        return step(*args, **kwargs)

    return first


def test_two_who_fetch_at_once_move_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_market() as market:
        user, old = member(market)
        with monkeypatch.context() as broken:
            broken.setattr(renewal, "fetch_left", lambda *args, **kwargs: 0)
            new = renewal.renew_account(market.exchange, user=user, now=NOW)
        real, inside = queries_of_exchange.balance, []

        def balance(index: int) -> Any:
            found = real(index)  # read before the other one moves it
            if index == old.index and not inside:
                inside.append(1)
                assert renewal.fetch_left(market.exchange, user=user) == DEPOSIT_E7
            return found

        with monkeypatch.context() as patched:
            patched.setattr(queries_of_exchange, "balance", balance)
            assert renewal.fetch_left(market.exchange, user=user) == 0
        assert cash(market, new.index) == DEPOSIT_E7
        assert renewal.fetch_left(market.exchange, user=user) == 0 and Renewal.objects.count() == 1


def test_what_was_booked_is_not_booked_again_days_later(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends between the ledger's entry and the note of it; the idempotency keys are forgotten meanwhile."""
    with running_market() as market:
        user, old = member(market)
        booked = exchange_operations.fund
        for cut in (1, 2):
            calls: list[int] = []

            def fund(exchange: Exchange, *, calls: list[int] = calls, cut: int = cut, **kwargs: Any) -> Any:
                outcome = booked(exchange, **kwargs)
                calls.append(1)
                if len(calls) == cut:
                    raise KeyboardInterrupt
                return outcome

            with monkeypatch.context() as broken:
                broken.setattr(exchange_operations, "fund", fund)
                with contextlib.suppress(KeyboardInterrupt):
                    if cut == 1:
                        renewal.renew_account(market.exchange, user=user, now=NOW)
                    else:
                        renewal.fetch_left(market.exchange, user=user)
            IdempotencyKey.objects.all().delete()
            monkeypatch.setattr(exchange_operations, "fund", _without_key(booked))
        new = Account.objects.get(user=user, closed_at=None)
        assert renewal.fetch_left(market.exchange, user=user) in (0, DEPOSIT_E7)
        assert (cash(market, old.index), cash(market, new.index)) == (0, DEPOSIT_E7)


def _without_key(fund: Any) -> Any:
    def forgetful(exchange: Exchange, **kwargs: Any) -> Any:
        return fund(exchange, **(kwargs | {"key": None}))

    return forgetful


def test_what_comes_to_an_old_number_later_can_be_fetched() -> None:
    with running_market() as market:
        user, old = member(market)
        new = renewal.renew_account(market.exchange, user=user, now=NOW)
        assert renewal.fetch_left(market.exchange, user=user) == 0
        # A deposit confirmed late would be refused; a settlement pays like this, into a closed wallet.
        market.exchange.read(lambda engine: setattr(engine.accounts[old.index], "closed", False))
        exchange_operations.fund(market.exchange, account=old.index, amount_e7=7)
        market.exchange.read(lambda engine: setattr(engine.accounts[old.index], "closed", True))
        assert renewal.fetch_left(market.exchange, user=user) == 7
        assert cash(market, new.index) == DEPOSIT_E7 + 7


def test_receipts_of_all_numbers_are_handed_out_after_a_renewal() -> None:
    """Orders, trades, money and rows of an earlier number stay the person's own; nobody else gets them."""
    with running_market(seal_every_s=0.05) as market:
        user, old = member(market)
        contract = market.contract()
        market.place(market.alice, SELL, "0.2000", 1_000, contract=contract)
        bought = [event.seq for event in market.place(old.index, BUY, "0.3000", 1_000, contract=contract).events]
        homes = market.exchange.read(lambda engine: [a.index for a in engine.accounts if a.area == "LV1.1"])
        market.clock.advance(minutes=30)
        market.member("LV1.2", deposit_e7=0)  # the market's timetable follows
        readings = [ReadingIn(index, 0 if index == market.alice else 900, 0) for index in homes]
        now_ms = market.clock.at_ms
        record_batches(exchange=market.exchange, contract=contract, batches={"LV1.1": readings}, now_ms=now_ms)
        settle_due(exchange=market.exchange, now_ms=now_ms)
        stranger, _ = member(market, "otto")
        new = renewal.renew_account(market.exchange, user=user, now=NOW)
        moved = Renewal.objects.get()
        again = market.place(new.index, BUY, "0.0100", 500, contract=market.contract(3)).events[0].seq
        wait_for(lambda: ledger.sealed_size() > again)

        numbers = queries.account_indexes(user.pk)
        assert set(numbers) == {old.index, new.index}
        entries = ledger.entries(0, 1_000)
        settled = next(e["seq"] for e in entries if e["type"] == "settle" and e["contract"] == contract)
        mine = [old.opened_seq, *bought, settled, moved.out_seq, moved.in_seq, new.opened_seq, again]
        browser, other = Client(), Client()
        browser.force_login(user)
        other.force_login(stranger)
        key = [parse_vkey(keys.verifier_key())]
        for seq in mine:
            text = own_receipt(seq, numbers)
            receipt = parse_receipt(text)
            assert verify_bundle(receipt, key).size > seq == receipt.seq
            proof = parse_bundle(receipt.extra).proof
            assert (proof is not None) == (seq == settled)
            if proof is not None:
                assert decode(proof.row)["account"] == old.index, "the row of the number that traded"
            answer = browser.get(f"/receipts/{seq}")
            assert verify_bundle(parse_receipt(answer.content.decode()), key).size > seq
            assert other.get(f"/receipts/{seq}").status_code == 404
        for seq in (settled, *bought):
            with pytest.raises(ledger.NotThere):
                own_receipt(seq, [new.index])  # the new number alone has no part in it
        theirs = next(e["seq"] for e in entries if e["type"] == "order" and e["account"] == market.alice)
        assert browser.get(f"/receipts/{theirs}").status_code == 404


def test_both_numbers_go_when_the_person_is_erased() -> None:
    with running_market() as market:
        user, old = member(market, meter_number="1ESY-7")
        new = renewal.renew_account(market.exchange, user=user, now=NOW)
        begun = datetime(2026, 6, 6, 10, 16, tzinfo=UTC)  # delivery of the contract of 10:15 runs
        pay_out(market.exchange, user=user, now=begun)
        # Intervals that began before the account was closed may still cost or bring something.
        with pytest.raises(HouseholdError, match="unsettled"):
            erasure.erase(user=user)
        Account.objects.filter(index__in=(old.index, new.index)).update(closed_at=OPENED)
        pay_out(market.exchange, user=user, now=NOW)
        assert erasure.erase(user=user).accounts == [old.index, new.index]
        assert not Renewal.objects.exists()
