"""Whatever members, staff and the bank do, in whatever order: money is conserved, nothing is paid twice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import queries as ledger
from market.exchange import queries as exchange_queries
from market.households import operations as households
from market.households.models import Role
from market.households.operations import HouseholdError
from market.payments import bank, operations, payouts
from market.payments.models import BankFile, BankItem, Direction, Payment, PayoutFile, State
from market.payments.reasons import DEPOSIT_REASONS, WITHDRAWAL_REASONS
from tests.bank import BANK, entry, statement
from tests.factories import Market, running_market

NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
EUR = 10**7
LIMIT = 100
NUMBERS = st.integers(0, 5)
FILES = st.tuples(
    st.just("file"), st.lists(st.tuples(NUMBERS, st.integers(1, 300), st.integers(0, 2)), max_size=4), st.booleans()
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("deposit"), st.integers(1, 300), NUMBERS),
        st.tuples(st.just("withdraw"), st.integers(1, 300), NUMBERS),
        st.tuples(st.just("confirm"), NUMBERS, st.booleans()),
        st.tuples(st.just("refuse"), NUMBERS, st.booleans()),
        FILES,
        FILES,
        st.tuples(st.just("assign"), NUMBERS, st.booleans()),
        st.tuples(st.just("payout"), st.booleans(), st.booleans()),
        st.tuples(st.just("forget"), NUMBERS, st.booleans()),
    ),
    min_size=5,
    max_size=25,
)


class World:
    """A member's payments, and what the wallet must hold by what was decided."""

    def __init__(self, market: Market, n: int):
        self.exchange = market.exchange
        self.user = households.create_person(username=f"member{n}", password=None)
        self.account = households.open_account(self.exchange, now=NOW, user=self.user, area="LV1.1").index
        self.staff = [households.create_person(username=f"staff{n}{m}", password=None, role=Role.STAFF) for m in (0, 1)]
        self.n = n
        self.sent: Counter[str] = Counter()
        self.arrived: dict[tuple[int, int], int] = {}  # what the bank says has come, each transfer once

    def payments(self) -> list[Payment]:
        return list(Payment.objects.filter(account__index=self.account).order_by("pk"))

    def pick(self, number: int) -> Payment | None:
        found = self.payments()
        return found[-1 - number % len(found)] if found else None

    def deposit(self, euros: int, token: int) -> None:
        operations.request_deposit(
            account_index=self.account, amount_e7=euros * EUR, now=NOW, once=f"d{token}"
        )  # fmt: skip

    def withdraw(self, euros: int, token: int) -> None:
        operations.request_withdrawal(
            self.exchange, account_index=self.account, amount_e7=euros * EUR + 1_234, iban=BANK, holder="Mia", now=NOW,
            once=f"w{token}",
        )  # fmt: skip

    def confirm(self, number: int, second: bool) -> None:
        if (payment := self.pick(number)) is not None:
            operations.confirm(self.exchange, payment_id=payment.pk, by=self.staff[second], now=NOW)

    def refuse(self, number: int, second: bool) -> None:
        if (payment := self.pick(number)) is not None:
            reasons = DEPOSIT_REASONS if payment.direction == Direction.IN else WITHDRAWAL_REASONS
            operations.refuse(
                self.exchange, payment_id=payment.pk, by=self.staff[second], reason=next(iter(reasons)), now=NOW
            )

    def file(self, transfers: list[tuple[int, int, int]], second: bool) -> None:
        """A statement with transfers that name payments (or nobody's), some sent before."""
        entries = []
        places: Counter[int] = Counter()
        for number, euros, ref in transfers:
            payment = self.pick(number) if number else None
            text = payment.reference if payment is not None else "hello"
            entries.append(entry(f"{euros}.00", text, ref=f"R{self.n}-{ref}"))
            places[ref] += 1
            self.arrived.setdefault((ref, places[ref]), euros * EUR)
        data = statement(*entries or [entry("1.00", direction="DBIT")], id=f"S{self.n}")
        file = bank.take(data=data, by=self.staff[second], now=NOW)
        for _ in range(2):
            bank.book(self.exchange, file_id=file.pk, by=self.staff[second], now=NOW)

    def assign(self, number: int, second: bool) -> None:
        found = list(BankItem.objects.filter(state=BankItem.OPEN).order_by("pk"))
        if found:
            bank.assign(
                self.exchange, item_id=found[number % len(found)].pk, account_index=self.account,
                by=self.staff[second], now=NOW,
            )  # fmt: skip

    def payout(self, _one: bool, _other: bool) -> None:
        data = payouts.content(payouts.make(by=self.staff[0], now=NOW)).decode()
        self.sent.update(re.findall("<EndToEndId>(.*?)</EndToEndId>", data))

    def forget(self, number: int, _other: bool) -> None:
        """A crash between the ledger and the row."""
        if (payment := self.pick(number)) is not None and payment.seq is not None and payment.state != State.SENT:
            Payment.objects.filter(pk=payment.pk).update(seq=None)
            if payment.returned_seq is not None:
                Payment.objects.filter(pk=payment.pk).update(seq=payment.seq, returned_seq=None)

    def check(self) -> None:
        """Compare wallet and ledger with what was decided."""
        assert sum(exchange_queries.money_by_kind().values()) == 0
        balance = exchange_queries.balance(self.account)
        assert balance is not None and balance.free_e7 >= 0 and balance.held_e7 == 0
        expected = 0
        for payment in self.payments():
            if payment.direction == Direction.IN:
                expected += payment.amount_e7 * (payment.state == State.CONFIRMED)
            else:
                expected -= payment.amount_e7 * (payment.state != State.REFUSED)
        assert balance.cash_e7 == expected
        entries = [ledger.entry(seq) for seq in exchange_queries.fund_entries(account=self.account, since=0)]
        assert max(Counter(one["reference"] for one in entries).values(), default=1) == 1
        assert max(self.sent.values(), default=1) == 1
        assert sum(file.sum_e7 for file in PayoutFile.objects.all()) == sum(
            payment.amount_e7 for payment in Payment.objects.filter(state=State.SENT)
        )
        for payment in self.payments():
            steps = list(payment.transitions.order_by("n"))
            assert [step.n for step in steps] == list(range(payment.steps))
            assert [step.before for step in steps[1:]] == [step.after for step in steps[:-1]]
            confirmed = next((step for step in steps if step.after == State.CONFIRMED), None)
            if confirmed is not None and payment.amount_e7 > LIMIT * EUR:
                first = next(step for step in steps if step.after == State.SECOND)
                assert first.by is not None and confirmed.by not in (None, first.by)
        items = BankItem.objects.filter(payment__account__index=self.account).exclude(payment=None)
        booked = Counter(item.payment_id for item in items)
        assert max(booked.values(), default=1) == 1, "each transfer has its payment"
        by_bank = [payment for payment in self.payments() if payment.pk in booked and payment.state == State.CONFIRMED]
        assert sum(payment.amount_e7 for payment in by_bank) <= sum(self.arrived.values()), "only what has come"
        assert len(booked) <= len(self.arrived)


@pytest.fixture
def market(transactional_db: None, tmp_path: Path) -> Iterator[Market]:
    files = {"PERSON_KEYS_FILE": tmp_path / "person_keys", "BANK_IBAN": BANK, "ONE_PERSON_LIMIT": LIMIT}
    with override_settings(**files), running_market(cast=False) as running:
        yield running


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_money_is_conserved_and_nothing_is_paid_twice(
    market: Market, actions: list[tuple[str, object, object]]
) -> None:
    world = World(market, households.User.objects.count())
    BankItem.objects.filter(state=BankItem.OPEN).update(state=BankItem.ASIDE)
    for name, first, second in [("deposit", 50, 6), ("deposit", 150, 7), *actions]:
        try:
            getattr(world, name)(first, second)
        except HouseholdError as error:
            assert error.sentence, error.code
        BankFile.objects.filter(state=BankFile.PREVIEW).update(state=BankFile.BOOKED)
    # Whatever was cut short is finished by trying again.
    for payment in world.payments():
        for again in (world.confirm, world.refuse):
            if payment.seq is None or (payment.state == State.REFUSED and payment.returned_seq is None):
                try:
                    number = [one.pk for one in reversed(world.payments())].index(payment.pk)
                    again(number, True)
                except HouseholdError:
                    continue
    world.check()
