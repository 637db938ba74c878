"""Objections: answered once each, contested once, and nothing is ever overwritten."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import override_settings

from ledger import queries as ledger
from market.disputes import operations, queries
from market.disputes.models import Dispute, Step
from market.engine.contracts import contract_start_ms
from market.exchange import books, guards
from market.households import devices, erasure
from market.households import operations as households
from market.households.models import Role
from market.households.operations import HouseholdError
from market.metering import committing, intake
from market.metering import operations as metering
from market.metering.formats.values import Value
from market.metering.models import Reading
from market.metering.operations import ReadingIn, record_readings
from market.settlement import queries as settlement
from market.settlement.operations import FINAL_GRACE_MS, adjust_due, finalise_due, settle_due
from tests.bank import pay_out
from tests.factories import PARAMS, Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 6, 6, 11, tzinfo=UTC)
JOINED = datetime(2026, 6, 1, tzinfo=UTC)


class Scene:
    """Mia's home in a delivered interval that another home's silent meter keeps from being settled."""

    def __init__(self, market: Market):
        self.market = market
        self.exchange = market.exchange
        self.mia = households.create_person(username="mia", password=None)
        self.olga = households.create_person(username="olga", password=None, role=Role.OPERATOR)
        self.rita = households.create_person(username="rita", password=None, role=Role.REGULATOR)
        self.account = households.open_account(self.exchange, now=JOINED, user=self.mia, area="LV1.1").index
        self.other = market.member("LV1.1")
        self.contract = market.contract()
        market.clock.advance(minutes=30)
        market.member("LV1.2", deposit_e7=0)
        self.meter(1_000, 200)

    def meter(self, import_wh: int, export_wh: int) -> None:
        reading = ReadingIn(self.account, import_wh, export_wh, 300, 1_100)
        record_readings(
            exchange=self.exchange, contract=self.contract, area="LV1.1", readings=[reading],
            now_ms=self.market.clock.at_ms,
        )  # fmt: skip

    def contest(self, **asked: Any) -> Dispute:
        wanted = {"kind": "reading", "contract": self.contract, "code": "meter_shows_other", "text": "It shows 700."}
        return operations.contest(account_index=self.account, now=NOW, **wanted | asked)

    def accept(self, dispute: Dispute, **how: Any) -> Dispute:
        wanted = {
            "by": self.olga,
            "code": "meter_read_again",
            "text": "You are right.",
            "import_wh": 700,
            "export_wh": 200,
        }
        return operations.accept(self.exchange, dispute_id=dispute.pk, now=NOW, **wanted | how)

    def decline(self, dispute: Dispute, **how: Any) -> Dispute:
        wanted = {"by": self.olga, "code": "reading_confirmed", "text": "We looked."}
        return operations.decline(dispute_id=dispute.pk, now=NOW, **wanted | how)

    def reopen(self, dispute: Dispute, text: str = "Look at the photo.") -> Dispute:
        return operations.reopen(dispute_id=dispute.pk, account_index=self.account, text=text, now=NOW)

    def close(self, dispute: Dispute) -> Dispute:
        return operations.close(dispute_id=dispute.pk, account_index=self.account, now=NOW)

    def readings(self) -> list[tuple[int, int, str]]:
        rows = Reading.objects.filter(account=self.account).order_by("version")
        return [(row.version, row.import_wh, row.quality) for row in rows]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with override_settings(PERSON_KEYS_FILE=tmp_path / "keys"), running_market(cast=False) as market:
        yield Scene(market)


def why(call: Any, *args: Any, **how: Any) -> str:
    """Return the code something is refused with."""
    with pytest.raises(HouseholdError) as caught:
        call(*args, **how)
    assert str(caught.value.sentence)
    return caught.value.code


def test_what_is_accepted_becomes_a_corrected_version_beside_the_old_one(scene: Scene) -> None:
    asked = scene.contest(import_wh=700)
    assert [one.id for one in queries.waiting()] == [asked.pk]
    done = scene.accept(asked)
    assert scene.readings() == [(0, 1_000, "measured"), (1, 700, "corrected")]
    entry = ledger.entry(done.corrected_seq or 0)
    assert (entry["type"], entry["contract"], entry["import_wh"]) == ("readings", scene.contract, 700)
    assert queries.answered(scene.account) == 1 and queries.waiting() == []
    assert why(scene.accept, asked) == "already_decided"
    assert why(scene.decline, asked) == "already_decided"
    scene.close(asked)
    assert queries.answered(scene.account) == 0
    (view,) = queries.disputes_of(scene.account)
    assert [(step.after, step.who, step.code, step.text, step.import_wh) for step in view.steps] == [
        ("open", "", "meter_shows_other", "It shows 700.", 700),
        ("accepted", "olga", "meter_read_again", "You are right.", 700),
        ("closed", "", "agreed", "", None),
    ]
    # The corrected value is another value: it may be contested, the old one not again.
    assert scene.contest().pk != asked.pk
    assert why(scene.contest) == "already_contested"


def test_what_was_decided_outlives_what_the_device_says_later(scene: Scene) -> None:
    """Until another decision. The meter's own values are all kept, and looking at them again changes nothing."""
    meter = devices.register(user=scene.mia, kind="meter", name="hall", rating_w=20_000, now=NOW, now_ms=0)
    (info,) = devices.of_account(scene.account)
    assert info.pk == meter.device.pk

    def send(import_wh: int, revision: int) -> None:
        start_ms, now_ms = contract_start_ms(scene.contract), scene.market.clock.at_ms
        value = Value("", start_ms, 15 * 60_000, import_wh, 200, False, "measured", revision, now_ms)
        intake.take(sent=intake.Sent([value], {"": info}, info.pk), limits={}, now_ms=now_ms)
        committing.commit_due(exchange=scene.exchange, now_ms=now_ms)

    send(900, 1)
    assert scene.readings()[-1] == (1, 900, "corrected")
    scene.accept(scene.contest())
    decided = Reading.objects.get(account=scene.account, version=2)
    assert (decided.import_wh, decided.quality, decided.reason) == (700, "corrected", "decided")
    send(950, 2)
    scene.meter(960, 200)
    assert scene.readings()[-1] == (2, 700, "corrected")
    scene.accept(scene.contest(), import_wh=650)
    assert scene.readings()[-1] == (3, 650, "corrected")


def test_a_value_the_device_corrected_meanwhile_is_decided_all_the_same(scene: Scene) -> None:
    asked = scene.contest()
    scene.meter(700, 200)
    scene.accept(asked)
    newest = Reading.objects.filter(account=scene.account).latest("version")
    assert (newest.version, newest.import_wh, newest.reason) == (2, 700, "decided")


def test_an_objection_to_a_settled_interval_moves_its_money(scene: Scene) -> None:
    """From contesting to the ``adjust`` entry and the statement; when it is final, nothing is taken any more."""
    scene.market.clock.advance(minutes=120)
    settle_due(exchange=scene.exchange, now_ms=scene.market.clock.at_ms)
    assert adjust_due(exchange=scene.exchange).areas == 0
    start_ms = contract_start_ms(scene.contract)
    before = settlement.result(scene.account, start_ms=start_ms, end_ms=start_ms + 60_000)
    asked = scene.contest(kind="line", import_wh=700)
    done = scene.accept(asked)
    assert adjust_due(exchange=scene.exchange).accounts == 1
    (line,) = settlement.adjustments(scene.account, contracts=[scene.contract])
    entry = ledger.entry(line.seq)
    assert (entry["type"], entry["contract"], entry["corrects"]) == ("adjust", scene.contract, asked.seq)
    assert (line.was.import_wh, line.row.import_wh) == (1_000, 700)
    assert line.was.topup_e7 - line.row.topup_e7 == 300 * 4_000
    assert (done.corrected_seq or 0) < line.seq
    after = settlement.result(scene.account, start_ms=start_ms, end_ms=start_ms + 60_000)
    assert (before.topup_e7, after.topup_e7) == (800 * 4_000, 500 * 4_000), "what it takes less what it gives"
    assert scene.exchange.read(lambda engine: sum(account.net_e7 for account in engine.accounts)) == 0
    books.check()
    asked = scene.contest(kind="reading")
    scene.market.clock.advance(minutes=PARAMS.final_after_min + 60)
    scene.market.member("LV1.2", deposit_e7=0)
    assert finalise_due(exchange=scene.exchange, now_ms=scene.market.clock.at_ms) == 1
    assert why(scene.accept, asked, import_wh=600) == "already_final"


def test_an_answer_is_contested_once(scene: Scene) -> None:
    asked = scene.contest()
    assert why(scene.reopen, asked) == "cannot_reopen"
    assert why(scene.close, asked) == "not_answered"
    scene.decline(asked)
    assert why(scene.reopen, asked, "  ") == "invalid_value"
    scene.reopen(asked)
    assert [one.reopened for one in queries.waiting()] == [True]
    scene.decline(asked)
    assert why(scene.reopen, asked) == "cannot_reopen"
    scene.close(asked)
    assert why(scene.close, asked) == "not_answered"
    assert why(scene.contest) == "already_contested"
    assert scene.readings() == [(0, 1_000, "measured")]


def test_of_two_who_answer_at_the_same_moment_one_does(scene: Scene) -> None:
    asked = scene.contest()
    stale = Dispute.objects.select_related("account__user").get(pk=asked.pk)
    scene.decline(asked)
    scene.reopen(asked)
    how: dict[str, Any] = {"now": NOW, "by": scene.olga.pk, "code": "rule", "text": ""}
    assert why(operations.move, stale, operations.State.DECLINED, **how) == "already_decided"
    assert [one.state for one in queries.waiting()] == ["open"]


def test_a_line_of_the_statement_can_be_contested_once_it_is_settled(scene: Scene) -> None:
    assert why(scene.contest, kind="line") == "not_settled"
    scene.market.clock.advance(minutes=120)
    settle_due(exchange=scene.exchange, now_ms=scene.market.clock.at_ms)
    asked = scene.contest(kind="line")
    assert ledger.entry(asked.seq)["type"] == "settle"
    assert (asked.import_wh, asked.export_wh) == (1_000, 200)
    assert scene.contest(kind="reading").pk != asked.pk


def test_a_line_can_be_contested_anew_once_it_was_corrected(scene: Scene) -> None:
    scene.market.clock.advance(minutes=120)
    settle_due(exchange=scene.exchange, now_ms=scene.market.clock.at_ms)
    asked = scene.contest(kind="line")
    scene.accept(asked)
    assert why(scene.contest, kind="line") == "already_contested"
    assert adjust_due(exchange=scene.exchange).accounts == 1
    again = scene.contest(kind="line")
    assert (ledger.entry(again.seq)["type"], again.import_wh) == ("adjust", 700)
    assert why(scene.contest, kind="line") == "already_contested"


def test_a_line_that_begins_with_a_correction_can_be_contested(scene: Scene) -> None:
    scene.market.clock.advance(minutes=120)
    # Without an estimate a home that neither traded nor answered has no row.
    settle_due(exchange=scene.exchange, now_ms=scene.market.clock.at_ms)
    other = households.create_person(username="lea", password=None)
    late = scene.other
    assert settlement.line(late, scene.contract) is None
    households.Account.objects.create(
        index=late,
        account_id="0" * 32,
        user=other,
        area="LV1.1",
        salt=b"",
        identity="",
        connection="",
        opened_at=JOINED,
    )
    reading = ReadingIn(late, 900, 0)
    record_readings(
        exchange=scene.exchange, contract=scene.contract, area="LV1.1", readings=[reading],
        now_ms=scene.market.clock.at_ms,
    )  # fmt: skip
    assert adjust_due(exchange=scene.exchange).accounts == 1
    asked = operations.contest(
        account_index=late, now=NOW, kind="line", contract=scene.contract, code="meter_shows_other", text=""
    )
    assert ledger.entry(asked.seq)["type"] == "adjust"


def test_what_metering_does_not_take_is_not_answered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scene.contest()
    assert why(scene.accept, asked, import_wh=1_000) == "nothing_to_change"
    with monkeypatch.context() as patch:

        def refuse(**_how: Any) -> None:
            raise metering.ReadingsRefused("final", "contract")

        patch.setattr(operations.metering, "record_batches", refuse)
        assert why(scene.accept, asked) == "final"
    assert [one.id for one in queries.waiting()] == [asked.pk]
    with monkeypatch.context() as patch:  # the reading was recorded, the answer was not
        patch.setattr(operations, "move", lambda *_args, **_how: (_ for _ in ()).throw(TimeoutError))
        with pytest.raises(TimeoutError):
            scene.accept(asked)
    scene.accept(asked)
    assert scene.readings() == [(0, 1_000, "measured"), (1, 700, "corrected")]


def test_while_it_is_being_accepted_it_cannot_be_declined(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scene.contest()
    record, refused = metering.record_batches, []

    def meanwhile(**how: Any) -> metering.Recorded:
        refused.append(why(scene.decline, asked))
        done = record(**how)
        refused.append(why(operations.move, stale, operations.State.DECLINED, **late))
        return done

    stale = Dispute.objects.select_related("account__user").get(pk=asked.pk)
    late: dict[str, Any] = {"now": NOW, "by": scene.olga.pk, "code": "reading_confirmed", "text": ""}
    monkeypatch.setattr(metering, "record_batches", meanwhile)
    scene.accept(asked)
    assert refused == ["already_decided"] * 2
    asked.refresh_from_db()
    assert (asked.state, asked.steps) == ("accepted", 2)
    assert [reading[:2] for reading in scene.readings()] == [(0, 1_000), (1, 700)]


@pytest.mark.parametrize("recorded", [False, True])
def test_an_acceptance_that_was_cut_short_can_only_be_finished(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    asked = scene.contest()
    record = metering.record_batches

    def cut(**how: Any) -> None:
        if recorded:
            record(**how)
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(metering, "record_batches", cut)
        with pytest.raises(TimeoutError):
            scene.accept(asked)
    assert why(scene.decline, asked) == "already_decided"
    with pytest.raises(HouseholdError) as caught:
        scene.accept(asked, import_wh=650)
    assert caught.value.code == "already_decided"
    assert "700 Wh" in str(caught.value.sentence)
    assert "200 Wh" in str(caught.value.sentence)
    assert [one.id for one in queries.waiting()] == [asked.pk]
    done = scene.accept(asked)
    assert (done.state, done.steps) == ("accepted", 2)
    assert [reading[:2] for reading in scene.readings()] == [(0, 1_000), (1, 700)]
    assert scene.readings()[-1][2] == "corrected"


def test_an_acceptance_that_metering_refuses_leaves_every_answer_open(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scene.contest()

    def refuse(**_how: Any) -> None:
        raise metering.ReadingsRefused("already_final", "contract")

    with monkeypatch.context() as patch:
        patch.setattr(metering, "record_batches", refuse)
        assert why(scene.accept, asked) == "already_final"
    assert why(scene.accept, asked, import_wh=1_000) == "nothing_to_change"
    assert scene.decline(asked).state == "declined"


def test_only_operators_answer_and_only_owners_ask(scene: Scene) -> None:
    asked = scene.contest()
    for person in (scene.mia, scene.rita):
        assert why(scene.accept, asked, by=person) == "forbidden"
        assert why(scene.decline, asked, by=person) == "forbidden"
    stranger = households.create_person(username="eve", password=None)
    other = households.open_account(scene.exchange, now=NOW, user=stranger, area="LV1.1").index
    for call in (operations.close, operations.reopen):
        how = {"text": "mine"} if call is operations.reopen else {}
        assert why(call, dispute_id=asked.pk, account_index=other, now=NOW, **how) == "unknown_dispute"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"code": "because"}, "invalid_value"),
        ({"text": "x" * 1_001}, "invalid_value"),
        ({"text": "a\0b"}, "invalid_value"),
        ({"kind": "order"}, "invalid_value"),
        ({"contract": "yesterday"}, "unknown_contract"),
        ({"contract": "2020-01-01T00:00Z"}, "no_reading"),
        ({"import_wh": -1}, "energy_out_of_range"),
        ({"export_wh": 10**9}, "energy_out_of_range"),
    ],
)
def test_what_cannot_be_contested(scene: Scene, asked: dict[str, Any], code: str) -> None:
    assert why(scene.contest, **asked) == code
    assert not Dispute.objects.exists()


def test_texts_are_sealed_committed_to_and_never_changed(scene: Scene) -> None:
    asked = scene.contest()
    step = Step.objects.get(dispute=asked)
    assert step.commitment == hashlib.sha256(step.text.encode()).hexdigest() and step.text.endswith(":It shows 700.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT text FROM disputes_step")
        assert "shows" not in str(cursor.fetchall())
    guards.install(connection)
    try:
        for change in (lambda: Step.objects.update(code="other"), lambda: Step.objects.all().delete()):
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                change()
        households.close_account(scene.exchange, account_index=scene.account, now=NOW)
        scene.market.clock.advance(minutes=180)
        scene.market.member("LV1.2", deposit_e7=0)
        settle_due(exchange=scene.exchange, now_ms=scene.market.clock.at_ms)
        pay_out(scene.exchange, user=scene.mia, now=NOW)
        assert why(erasure.erase, user=scene.mia) == "provisional"
        scene.market.clock.advance(ms=PARAMS.final_after_min * 60_000 + FINAL_GRACE_MS)
        assert finalise_due(exchange=scene.exchange, now_ms=scene.market.clock.at_ms) > 0
        erasure.erase(user=scene.mia)
    finally:
        guards.remove(connection)
    assert Step.objects.get(dispute=asked).text == ""
    assert Dispute.objects.get().state == "closed"
