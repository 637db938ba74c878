"""Details of complex orders, recalls, alerts; and the view of all movements knows the energy that a recall moves back.

1048576 is ``models.TRANSFERS_AN_ENTRY``; ``transfers.of_trade`` and ``energy_of_recall`` say the same of one trade.
"""

from django.db import migrations, models

import ledger.fields

BEFORE = """
CREATE VIEW exchange_movement AS
SELECT id / 1048576 AS seq, id % 1048576 AS n, at_ms, kind, 'e7' AS asset, debit, credit, amount FROM exchange_transfer
UNION ALL
SELECT id, 0, at_ms, 'trade', 'e7', buyer, clearing, cost_e7 FROM exchange_trade
UNION ALL
SELECT id, 1, at_ms, 'energy', 'wh:' || contract, seller, buyer, energy_wh FROM exchange_trade
UNION ALL
SELECT id, 2, at_ms, 'margin', 'e7', seller, clearing, margin_e7 FROM exchange_trade WHERE margin_e7 > 0
"""
AFTER = (
    BEFORE
    + """UNION ALL
SELECT seq, 1, at_ms, 'recall', 'wh:' || contract, buyer, seller, energy_wh FROM exchange_recall
"""
)
DROP = "DROP VIEW exchange_movement"


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0002_movement"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("seq", ledger.fields.SequenceField(primary_key=True, serialize=False)),
                ("at_ms", models.BigIntegerField()),
                ("kind", models.CharField(max_length=8)),
                ("area", models.CharField(max_length=64)),
                ("contract", models.CharField(max_length=17)),
                ("detail", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="OrderDetail",
            fields=[
                ("order", ledger.fields.SequenceField(primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=7)),
                ("last", models.CharField(max_length=17)),
                ("display_wh", models.BigIntegerField()),
                ("group", models.BigIntegerField()),
                ("leg", models.IntegerField()),
                ("legs", models.IntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Recall",
            fields=[
                ("trade", ledger.fields.SequenceField(primary_key=True, serialize=False)),
                ("seq", models.BigIntegerField(unique=True)),
                ("at_ms", models.BigIntegerField()),
                ("contract", models.CharField(max_length=17)),
                ("reason", models.TextField()),
                ("energy_wh", models.BigIntegerField()),
                ("buyer", models.BigIntegerField()),
                ("seller", models.BigIntegerField()),
                ("cost_e7", models.BigIntegerField()),
                ("margin_e7", models.BigIntegerField()),
            ],
        ),
        migrations.RunSQL([DROP, AFTER], [DROP, BEFORE]),
    ]
