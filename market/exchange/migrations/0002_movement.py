"""The view of all movements, of money and of energy, for whoever reads the database without this program.

1048576 is ``models.TRANSFERS_AN_ENTRY``; ``transfers.of_trade`` says the same of one trade.
"""

from django.db import migrations

MOVEMENTS = """
CREATE VIEW exchange_movement AS
SELECT id / 1048576 AS seq, id % 1048576 AS n, at_ms, kind, 'e7' AS asset, debit, credit, amount FROM exchange_transfer
UNION ALL
SELECT id, 0, at_ms, 'trade', 'e7', buyer, clearing, cost_e7 FROM exchange_trade
UNION ALL
SELECT id, 1, at_ms, 'energy', 'wh:' || contract, seller, buyer, energy_wh FROM exchange_trade
UNION ALL
SELECT id, 2, at_ms, 'margin', 'e7', seller, clearing, margin_e7 FROM exchange_trade WHERE margin_e7 > 0
"""


class Migration(migrations.Migration):
    dependencies = [("exchange", "0001_initial")]

    operations = [migrations.RunSQL(MOVEMENTS, "DROP VIEW exchange_movement")]
