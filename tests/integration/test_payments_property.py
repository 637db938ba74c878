"""Whatever members, staff and the bank do, in whatever order, and wherever it is cut: no cent is lost, none paid twice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import queries as ledger
from market.exchange import operations as exchange_operations
from market.exchange import queries as exchange_queries
from market.households import operations as households
from market.households.models import Role
from market.households.operations import HouseholdError
from market.payments import bank, operations, payouts
from market.payments.formats import camt053
from market.payments.models import BankFile, BankItem, Direction, Payment, PayoutFile, State
from market.payments.reasons import DEPOSIT_REASONS, WITHDRAWAL_REASONS
from tests.bank import BANK, entry, statement
from tests.factories import Market, running_market

NOW = datetime(2026, 6, 6, 10, tzinfo=UTC)
EUR = 10**7
LIMIT = 100
NUMBERS = st.integers(0, 5)
ARRIVED = st.one_of(st.integers(1, 300), st.sampled_from([50, 150, 150_000]))  # as announced, or not
TRANSFERS = st.lists(st.tuples(NUMBERS, ARRIVED, st.integers(0, 2)), max_size=4)
FILES = st.tuples(st.just("file"), TRANSFERS, st.booleans())
CUT_FILES = st.tuples(st.just("cut_file"), TRANSFERS, st.integers(1, 8))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("deposit"), st.integers(1, 300), NUMBERS),
        st.tuples(st.just("withdraw"), st.integers(1, 300), NUMBERS),
        st.tuples(st.just("confirm"), NUMBERS, st.booleans()),
        st.tuples(st.just("refuse"), NUMBERS, st.booleans()),
        FILES,
        CUT_FILES,
        st.tuples(st.just("two_files"), TRANSFERS, TRANSFERS),
        st.tuples(st.just("book"), NUMBERS, st.booleans()),
        st.tuples(st.just("discard"), NUMBERS, st.booleans()),
        st.tuples(st.just("assign"), NUMBERS, st.booleans()),
        st.tuples(st.just("payout"), st.booleans(), st.booleans()),
        st.tuples(st.just("void"), NUMBERS, st.booleans()),
        st.tuples(st.just("forget"), NUMBERS, st.booleans()),
    ),
    min_size=5,
    max_size=25,
)


class Cut(Exception):
    """The process ends here."""


class World:
    """A member's payments, and what the wallet must hold by what was decided."""

    def __init__(self, market: Market, n: int):
        self.exchange = market.exchange
        self.user = households.create_person(username=f"member{n}", password=None)
        self.account = households.open_account(self.exchange, now=NOW, user=self.user, area="LV1.1").index
        self.staff = [households.create_person(username=f"staff{n}{m}", password=None, role=Role.STAFF) for m in (0, 1)]
        self.n = n
        self.sent: Counter[str] = Counter()
        self.files: dict[int, list[tuple[str, str, int]]] = {}  # what the bank says has come: transfers by file

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

    def take(self, transfers: list[tuple[int, int, int]], name: str = "") -> BankFile:
        """Read a statement with transfers that name payments (or nobody's), some sent before."""
        entries = []
        for number, euros, ref in transfers:
            payment = self.pick(number) if number else None
            text = payment.reference if payment is not None else "hello"
            entries.append(entry(f"{euros}.00", text, ref=f"R{self.n}-{ref}"))
        data = statement(*entries or [entry("1.00", direction="DBIT")], id=f"S{self.n}{name}")
        file = bank.take(data=data, by=self.staff[0], now=NOW)
        items = [item for one in camt053.read(data).statements for item in one.items if item.credit]
        self.files[file.pk] = [(item.key, item.like, item.amount_e7) for item in items]
        return file

    def waiting(self) -> list[BankFile]:
        return list(BankFile.objects.filter(pk__in=self.files, state=BankFile.PREVIEW).order_by("pk"))

    def book(self, number: int, second: bool) -> None:
        if found := self.waiting():
            file = found[number % len(found)]
            bank.book(self.exchange, file_id=file.pk, by=self.staff[second], now=NOW)

    def discard(self, number: int, _second: bool) -> None:
        if found := self.waiting():
            file = found[number % len(found)]
            bank.discard(file_id=file.pk)
            del self.files[file.pk]

    def file(self, transfers: list[tuple[int, int, int]], second: bool) -> None:
        """A statement that is booked at once, and again."""
        file = self.take(transfers)
        for _ in range(2):
            bank.book(self.exchange, file_id=file.pk, by=self.staff[second], now=NOW)

    def cut_file(self, transfers: list[tuple[int, int, int]], step: int) -> None:
        """Booking a statement ends before or after some step of some transfer."""
        file = self.take(transfers)
        left = step

        def cutting(call: Any) -> Any:
            def cut(*args: Any, **how: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Cut
                done = call(*args, **how)
                left -= 1
                if left == 0:
                    raise Cut
                return done

            return cut

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(operations, "confirm", cutting(operations.confirm))
            patch.setattr(exchange_operations, "fund", cutting(exchange_operations.fund))
            try:
                bank.book(self.exchange, file_id=file.pk, by=self.staff[0], now=NOW)
            except Cut:
                return

    def two_files(self, transfers: list[tuple[int, int, int]], others: list[tuple[int, int, int]]) -> None:
        """Between looking at a statement and booking it, somebody books another one."""
        file, other = self.take(transfers, "a"), self.take(others, "b")
        looked, meanwhile = bank._lines, [other]

        def look(items: list[camt053.Item], file: BankFile) -> list[bank.Line]:
            lines = looked(items, file)
            if meanwhile:
                bank.book(self.exchange, file_id=meanwhile.pop().pk, by=self.staff[1], now=NOW)
            return lines

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bank, "_lines", look)
            bank.book(self.exchange, file_id=file.pk, by=self.staff[0], now=NOW)

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

    def void(self, _number: int, handed: bool) -> None:
        """The bank did not take the newest file, or has it."""
        if (file := PayoutFile.objects.order_by("-pk").first()) is None:
            return
        ids = re.findall("<EndToEndId>(.*?)</EndToEndId>", payouts.content(file).decode())
        if handed:
            payouts.hand_over(file_id=file.pk, by=self.staff[0], now=NOW)
        else:
            payouts.void(file_id=file.pk, by=self.staff[1], now=NOW)
            self.sent.subtract(ids)

    def forget(self, number: int, _other: bool) -> None:
        """A crash between the ledger and the row."""
        if (payment := self.pick(number)) is not None and payment.seq is not None and payment.state != State.SENT:
            Payment.objects.filter(pk=payment.pk).update(seq=None)
            if payment.returned_seq is not None:
                Payment.objects.filter(pk=payment.pk).update(seq=payment.seq, returned_seq=None)

    def check(self) -> None:
        """Compare wallet and ledger with what was decided."""
        self.check_arrived()
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
        assert sum(file.sum_e7 for file in PayoutFile.objects.exclude(state=PayoutFile.VOID)) == sum(
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

    def check_arrived(self) -> None:
        """Compare what the bank says has come with where it is: each transfer in one place, as what it is worth."""
        for file in self.waiting():
            bank.book(self.exchange, file_id=file.pk, by=self.staff[0], now=NOW)
        items = {item.key: item for item in BankItem.objects.filter(file__in=self.files).select_related("payment")}
        # A transfer is the number the bank gave it and what it is like: the same number for another one hides nothing.
        said = {(key, like): amount_e7 for transfers in self.files.values() for key, like, amount_e7 in transfers}
        keys = {key for key, _ in said}
        whose = {key if key in items and items[key].like == like else camt053.another_key(key, like): amount_e7
                 for (key, like), amount_e7 in said.items()}  # fmt: skip
        assert keys <= set(items) and set(items) == set(whose), "nothing that came is lost, nothing came from nowhere"
        used: Counter[int] = Counter()
        for key, item in items.items():
            assert item.amount_e7 == whose[key]
            if item.state != BankItem.BOOKED:
                assert item.payment is None
                continue
            assert item.payment is not None and item.payment.direction == Direction.IN
            assert item.payment.state != State.REFUSED, "money that came is booked, waits, or is to be placed"
            assert item.payment.amount_e7 == item.amount_e7, "booked as what arrived"
            used[item.payment.pk] += 1
        assert max(used.values(), default=1) == 1, "each transfer has its payment"


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
    BankFile.objects.filter(state=BankFile.PREVIEW).update(state=BankFile.BOOKED)
    for name, first, second in [("deposit", 50, 6), ("deposit", 150, 7), *actions]:
        try:
            getattr(world, name)(first, second)
        except HouseholdError as error:
            assert error.sentence, error.code
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
