"""Deposits that were announced before payments had a package of their own."""

from typing import Any

from django.db import migrations


def take_over(apps: Any, schema_editor: Any) -> None:
    """Copy deposits with their references, states and ledger entries."""
    alias = schema_editor.connection.alias  # the tables' owner may migrate, and the application's role not be there yet
    Deposit = apps.get_model("households", "Deposit").objects.using(alias)
    Payment = apps.get_model("payments", "Payment").objects.using(alias)
    Transition = apps.get_model("payments", "Transition").objects.using(alias)
    for deposit in Deposit.order_by("pk").iterator():
        state = "requested" if deposit.decided_at is None else "confirmed" if deposit.accepted else "refused"
        payment = Payment.create(
            account_id=deposit.account_id,
            direction="in",
            asked_e7=deposit.amount_e7,
            amount_e7=deposit.amount_e7,
            reference=deposit.reference[:25],
            once=f"deposit:{deposit.pk}",
            state=state,
            steps=1 if state == "requested" else 2,
            reason="not_received" if state == "refused" else "",
            requested_at=deposit.requested_at,
            decided_at=deposit.decided_at,
            decided_by=deposit.decided_by_id,
            since_seq=0,
            seq=deposit.seq,
        )
        Transition.create(payment=payment, n=0, before="", after="requested", at=deposit.requested_at)
        if state != "requested":
            Transition.create(
                payment=payment, n=1, before="requested", after=state, at=deposit.decided_at, by=deposit.decided_by_id,
                reason=payment.reason,
            )  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [("payments", "0001_initial"), ("households", "0006_one_login")]

    operations = [migrations.RunPython(take_over, migrations.RunPython.noop)]
