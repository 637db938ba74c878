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
from market.exchange import guards
from market.households import erasure
from market.households import operations as households
from market.households.models import Role
from market.households.operations import HouseholdError
from market.metering import operations as metering
from market.metering.models import Reading
from market.metering.operations import ReadingIn, record_readings
from market.settlement.operations import settle_due
from tests.bank import pay_out
from tests.factories import Market, running_market

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 6, 6, 11, tzinfo=UTC)


class Scene:
    """Mia's home in a delivered interval that another home's silent meter keeps from being settled."""

    def __init__(self, market: Market):
        self.market = market
        self.exchange = market.exchange
        self.mia = households.create_person(username="mia", password=None)
        self.olga = households.create_person(username="olga", password=None, role=Role.OPERATOR)
        self.rita = households.create_person(username="rita", password=None, role=Role.REGULATOR)
        self.account = households.open_account(self.exchange, now=NOW, user=self.mia, area="LV1.1").index
        market.member("LV1.1")
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


def test_what_metering_does_not_take_is_not_answered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scene.contest()
    assert why(scene.accept, asked, import_wh=1_000) == "nothing_to_change"
    with monkeypatch.context() as patch:

        def refuse(**_how: Any) -> None:
            raise metering.ReadingsRefused("final", "contract")

        patch.setattr(operations.metering, "record_readings", refuse)
        assert why(scene.accept, asked) == "final"
    assert [one.id for one in queries.waiting()] == [asked.pk]
    with monkeypatch.context() as patch:  # the reading was recorded, the answer was not
        patch.setattr(operations, "move", lambda *_args, **_how: (_ for _ in ()).throw(TimeoutError))
        with pytest.raises(TimeoutError):
            scene.accept(asked)
    scene.accept(asked)
    assert scene.readings() == [(0, 1_000, "measured"), (1, 700, "corrected")]


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
        erasure.erase(user=scene.mia)
    finally:
        guards.remove(connection)
    assert Step.objects.get(dispute=asked).text == ""
    assert Dispute.objects.get().state == "closed"
