"""A new account number leaves nothing behind: what is owed under an earlier one, and the say about what was settled there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client, override_settings

from market.disputes import operations as disputes
from market.disputes import queries as dispute_queries
from market.engine.commands import BUY, SELL
from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.households import operations as households
from market.households import renewal
from market.households.models import Account, Renewal, Role
from market.households.operations import HouseholdError
from market.metering.operations import ReadingIn, record_batches
from market.pages.templatetags.market import money
from market.payments import operations as payments
from market.payments.formats import references
from market.settlement.operations import adjust_due, settle_due
from market.settlement.waiting import DEADLINE_MS
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)
OPENED = datetime(2026, 4, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 6, 11, tzinfo=UTC)
IBAN = "NL91ABNA0417164300"
EUR = 10**7
SOLD_WH = 100_000


class Scene:
    """Mia sold and was paid under a number she has changed since; she contests the reading, or the line, of then."""

    def __init__(self, market: Market):
        self.market, self.exchange = market, market.exchange
        self.mia = households.create_person(username="mia", password=None)
        self.olga = households.create_person(username="olga", password=None, role=Role.OPERATOR)
        self.old = households.open_account(self.exchange, now=OPENED, user=self.mia, area="LV1.1").index
        exchange_operations.fund(self.exchange, account=self.old, amount_e7=100 * EUR)
        self.contract = market.contract()
        market.place(self.old, SELL, "0.2000", SOLD_WH, contract=self.contract)
        market.place(market.member("LV1.1"), BUY, "0.3000", SOLD_WH, contract=self.contract)
        market.clock.advance(minutes=30)
        market.member("LV1.2", deposit_e7=0)
        record_batches(
            exchange=self.exchange, contract=self.contract, now_ms=market.clock.at_ms,
            batches={"LV1.1": [ReadingIn(self.old, 0, SOLD_WH)]},
        )  # fmt: skip
        market.clock.advance(ms=DEADLINE_MS)
        settle_due(exchange=self.exchange, now_ms=market.clock.at_ms)
        self.new = self.renew()

    def renew(self, days: int = 0) -> int:
        now = datetime.fromtimestamp(self.market.clock.at_ms / 1_000, UTC) + timedelta(days=days)
        with override_settings(RENEWAL_DAYS=1):
            return renewal.renew_account(self.exchange, user=self.mia, now=now).index

    def owe(self) -> int:
        """Have it found that nothing was delivered; return what the old number owes."""
        made = disputes.contest(account_index=self.new, now=NOW, **self.claim())
        disputes.accept(
            self.exchange, dispute_id=made.pk, by=self.olga, code="meter_read_again", text="", import_wh=0,
            export_wh=0, now=NOW,
        )  # fmt: skip
        adjust_due(exchange=self.exchange)
        owed_e7 = self.balance(self.old).arrears_e7
        assert owed_e7 > 0
        return owed_e7

    def claim(self, **changes: Any) -> dict[str, Any]:
        wanted = {"kind": "reading", "contract": self.contract, "code": "meter_shows_other", "text": "It shows 0."}
        return wanted | changes

    def withdraw(self, amount_e7: int) -> Any:
        return payments.request_withdrawal(
            self.exchange, account_index=self.new, amount_e7=amount_e7, iban=IBAN, holder="Mia Sun", now=NOW
        )

    def balance(self, account: int) -> Any:
        assert sum(exchange_queries.money_by_kind().values()) == 0
        return exchange_queries.balance(account)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with override_settings(PERSON_KEYS_FILE=tmp_path / "keys"), running_market(cast=False) as market:
        yield Scene(market)


def why(call: Any, *args: Any, **how: Any) -> str:
    with pytest.raises(HouseholdError) as caught:
        call(*args, **how)
    return caught.value.code


def test_who_owes_under_an_earlier_number_takes_nothing_out_until_it_is_paid(scene: Scene) -> None:
    owed_e7, before_e7 = scene.owe(), scene.balance(scene.new).free_e7
    assert why(scene.withdraw, EUR) == "arrears"
    assert why(scene.renew, days=2) == "arrears"
    assert renewal.fetch_left(scene.exchange, user=scene.mia) == 0
    assert (scene.balance(scene.old).arrears_e7, scene.balance(scene.new).free_e7) == (0, before_e7 - owed_e7)
    assert renewal.fetch_left(scene.exchange, user=scene.mia) == 0
    assert scene.balance(scene.new).free_e7 == before_e7 - owed_e7
    assert scene.withdraw(EUR).seq is not None
    assert not renewal.under_way(scene.mia)


def test_payments_and_debts_of_an_earlier_number_are_shown(scene: Scene, client: Client) -> None:
    asked = payments.request_deposit(account_index=scene.new, amount_e7=EUR, now=NOW)
    scene.new = scene.renew(days=2)
    client.force_login(scene.mia)
    html = client.get("/money").content.decode()
    assert references.grouped(asked.reference) in html and ">Owed<" not in html
    listed = client.get("/api/v1/me/deposits").json()["results"]
    assert [one["reference"] for one in listed] == [asked.reference]
    owed_e7 = scene.owe()
    assert scene.balance(scene.new).arrears_e7 == 0
    html = client.get("/money").content.decode()
    assert f'Owed</dt><dd class="bad">{money(owed_e7)}' in html
    assert "Pay what is owed under an earlier number" in html


def test_a_debt_is_paid_as_far_as_the_money_goes(scene: Scene) -> None:
    owed_e7, free_e7 = scene.owe(), scene.balance(scene.new).free_e7
    exchange_operations.fund(scene.exchange, account=scene.new, amount_e7=EUR - free_e7)
    renewal.fetch_left(scene.exchange, user=scene.mia)
    assert (scene.balance(scene.old).arrears_e7, scene.balance(scene.new).free_e7) == (owed_e7 - EUR, 0)


@pytest.mark.parametrize("cut", ["out_seq", "in_seq"])
def test_a_payment_of_a_debt_that_was_cut_short_is_finished_once(
    scene: Scene, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owed_e7, before_e7 = scene.owe(), scene.balance(scene.new).free_e7
    honest = exchange_operations.fund

    def broken(exchange: Any, *, amount_e7: int, **how: Any) -> Any:
        done = honest(exchange, amount_e7=amount_e7, **how) if (cut, amount_e7 > 0) != ("out_seq", True) else None
        if (amount_e7 > 0) == (cut == "in_seq"):
            raise TimeoutError(cut)
        return done

    monkeypatch.setattr(renewal.exchange_operations, "fund", broken)
    with pytest.raises(TimeoutError):
        renewal.fetch_left(scene.exchange, user=scene.mia)
    monkeypatch.setattr(renewal.exchange_operations, "fund", honest)
    renewal.fetch_left(scene.exchange, user=scene.mia)
    assert (scene.balance(scene.old).arrears_e7, scene.balance(scene.new).free_e7) == (0, before_e7 - owed_e7)
    assert not Renewal.objects.filter(in_seq=None).exists()


def test_money_for_a_debt_that_is_gone_comes_back(scene: Scene) -> None:
    scene.owe()
    free_e7 = scene.balance(scene.new).free_e7
    old, new = (Account.objects.get(index=one) for one in (scene.old, scene.new))
    more_e7 = scene.balance(scene.old).arrears_e7 + 1
    made = Renewal.objects.create(old=new, new=old, amount_e7=more_e7, at=NOW)  # as of when it owed more
    assert renewal.finish(scene.exchange, user=scene.mia) == 0
    made.refresh_from_db()
    assert made.out_seq is not None and made.in_seq is not None
    assert scene.balance(scene.new).free_e7 == free_e7
    Renewal.objects.filter(pk=made.pk).update(in_seq=None)  # booked, not noted: and it owes as much again
    Renewal.objects.filter(pk=made.pk).update(amount_e7=more_e7 - 1)
    assert renewal.finish(scene.exchange, user=scene.mia) == 0
    assert (scene.balance(scene.old).arrears_e7, scene.balance(scene.new).free_e7) == (more_e7 - 1, free_e7)


@pytest.mark.parametrize("kind", ["reading", "line"])
def test_a_home_keeps_its_say_about_what_was_under_an_earlier_number(scene: Scene, kind: str) -> None:
    made = disputes.contest(account_index=scene.new, now=NOW, **scene.claim(kind=kind))
    assert made.account.index == scene.old
    assert why(disputes.contest, account_index=scene.new, now=NOW, **scene.claim(kind=kind)) == "already_contested"
    disputes.decline(dispute_id=made.pk, by=scene.olga, code="reading_confirmed", text="", now=NOW)
    assert dispute_queries.answered(scene.new) == 1
    assert [one.id for one in dispute_queries.disputes_of(scene.new)] == [made.pk]
    disputes.reopen(dispute_id=made.pk, account_index=scene.new, text="No.", now=NOW)
    disputes.decline(dispute_id=made.pk, by=scene.olga, code="reading_confirmed", text="", now=NOW)
    stranger = scene.market.member("LV1.1")
    assert why(disputes.close, dispute_id=made.pk, account_index=stranger, now=NOW) == "unknown_dispute"
    disputes.close(dispute_id=made.pk, account_index=scene.new, now=NOW)
