"""Corrections of settlements, and that a settlement is final. What an account cannot pay it owes: balances are compared net.

Movements change what an account has less what it owes (cash - arrears); 0004_guards compared cash alone, when nobody could
owe anything yet. Which part of a movement was owed is the engine's to say; the seal's root over the accounts has both.
"""

from django.db import migrations, models

import ledger.fields

CHECK = """
CREATE OR REPLACE FUNCTION sunledger_check_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE total numeric; change numeric; wrong bigint; moved numeric;
BEGIN
  SELECT sum({is_now} - {was}), sum(({is_now} - {was})::numeric * hashint8(is_now.account)),
    min(is_now.account) FILTER (WHERE is_now.held_e7 < 0 OR is_now.arrears_e7 < 0
      OR (is_now.kind = 'member' AND is_now.cash_e7 < is_now.held_e7))
    INTO total, change, wrong FROM after AS is_now JOIN before AS was USING (account);
  moved := coalesce(nullif(current_setting('sunledger.moved', true), ''), '0')::numeric;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'account %: expected a wallet of at least what it holds', wrong USING ERRCODE = 'check_violation';
  END IF;
  IF coalesce(total, 0) <> 0 OR coalesce(change, 0) <> moved THEN
    RAISE EXCEPTION 'expected balances that change by what was moved, was a difference (sum %)', total
      USING ERRCODE = 'check_violation';
  END IF;
  PERFORM set_config('sunledger.moved', '0', true);
  RETURN NULL;
END $$;
"""
NET = CHECK.replace("{is_now}", "(is_now.cash_e7 - is_now.arrears_e7)").replace(
    "{was}", "(was.cash_e7 - was.arrears_e7)"
)
CASH = CHECK.replace("{is_now}", "is_now.cash_e7").replace("{was}", "was.cash_e7")


def run(statements):
    def on_postgres(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(statements, params=None)

    return on_postgres


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0004_guards"),
    ]

    operations = [
        migrations.CreateModel(
            name="Final",
            fields=[
                ("seq", ledger.fields.SequenceField(primary_key=True, serialize=False)),
                ("at_ms", models.BigIntegerField()),
                ("contract", models.CharField(max_length=17, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Adjustment",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "seq", "account", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.BigIntegerField()),
                ("account", models.BigIntegerField()),
                ("n", models.IntegerField()),
                ("at_ms", models.BigIntegerField()),
                ("contract", models.CharField(max_length=17)),
                ("area", models.CharField(max_length=64)),
                ("corrects", models.BigIntegerField()),
                ("import_wh", models.BigIntegerField()),
                ("export_wh", models.BigIntegerField()),
                ("quality", models.CharField(max_length=9)),
                ("position_wh", models.BigIntegerField()),
                ("short_wh", models.BigIntegerField()),
                ("topup_wh", models.BigIntegerField()),
                ("spill_wh", models.BigIntegerField()),
                ("payout_e7", models.BigIntegerField()),
                ("fee_e7", models.BigIntegerField()),
                ("short_e7", models.BigIntegerField()),
                ("topup_e7", models.BigIntegerField()),
                ("spill_e7", models.BigIntegerField()),
                ("was_import_wh", models.BigIntegerField()),
                ("was_export_wh", models.BigIntegerField()),
                ("was_quality", models.CharField(max_length=9)),
                ("was_position_wh", models.BigIntegerField()),
                ("was_short_wh", models.BigIntegerField()),
                ("was_topup_wh", models.BigIntegerField()),
                ("was_spill_wh", models.BigIntegerField()),
                ("was_payout_e7", models.BigIntegerField()),
                ("was_fee_e7", models.BigIntegerField()),
                ("was_short_e7", models.BigIntegerField()),
                ("was_topup_e7", models.BigIntegerField()),
                ("was_spill_e7", models.BigIntegerField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["account", "seq"], name="adjustment_account"),
                    models.Index(fields=["contract", "seq"], name="adjustment_contract"),
                ],
            },
        ),
        migrations.RunPython(run(NET), run(CASH)),
    ]
