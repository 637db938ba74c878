"""Deposits whose transfer is known are worth what arrived; transfers of deposits that were refused are to be placed."""

from typing import Any

from django.db import migrations


def correct(apps: Any, schema_editor: Any) -> None:
    """Bring payments and transfers together that booking cut short, or a refusal, had left apart."""
    alias = schema_editor.connection.alias
    BankItem = apps.get_model("payments", "BankItem").objects.using(alias)
    Payment = apps.get_model("payments", "Payment").objects.using(alias)
    tied = BankItem.filter(state="booked")
    freed = {"state": "open", "payment": None, "why": "refused", "decided_at": None, "decided_by": None}
    for payment_id, amount_e7 in tied.filter(payment__state="requested").values_list("payment", "amount_e7"):
        Payment.filter(pk=payment_id).update(amount_e7=amount_e7)
    tied.filter(payment__state="refused").update(**freed)
    # Who paid what was placed or set aside long ago.
    BankItem.filter(state="aside").update(details="")
    BankItem.filter(state="booked", payment__seq__isnull=False).update(details="")


class Migration(migrations.Migration):
    dependencies = [("payments", "0002_deposits")]

    operations = [migrations.RunPython(correct, migrations.RunPython.noop)]
