"""What a device signed is kept where something of it is taken, and nowhere else."""

from __future__ import annotations

import pytest

from ledger.models import Evidence
from market.metering import intake
from market.metering.formats.values import MEASURED, Value
from tests.factories import Market
from tests.integration.test_audit_devices import market as market
from tests.integration.test_audit_devices import signed_batch

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_keys")]


def test_a_signed_batch_of_which_nothing_is_taken_is_not_kept(market: Market) -> None:
    device = signed_batch(market)
    assert Evidence.objects.count() == 1
    now_ms = market.exchange.now_ms()
    value = Value("", now_ms + 365 * intake.DAY_MS, 900_000, 1, 0, False, MEASURED, 0, now_ms)
    sent = intake.Sent([value], {"": device}, device.pk, b"a signed batch of the next year")
    taken = intake.take(sent=sent, limits={}, now_ms=now_ms)
    assert (taken.batch, taken.refused) == (None, 1)
    assert Evidence.objects.count() == 1
