"""PostgreSQL compares money while it is written: movements have a shape, and balances change by exactly what was moved.

Per statement, not per row, so that a batch of a thousand orders pays for three sums. Each insert of trades or transfers
adds to a fingerprint that lives as long as its transaction: the sum of amount times hash of the account that gets it, less
the same for the account it comes from. The statement that then sets the balances must change them by the same fingerprint,
and their sum not at all. New accounts begin with nothing. Wrong amounts, wrong accounts, balances without movement and
movements of another transaction are refused at once; a transaction that moves money and sets no balances at all is not
(recovery and ``check_books`` find that one).
"""

from django.db import migrations

MONEY = """
CREATE FUNCTION sunledger_moved(change numeric) RETURNS void LANGUAGE sql AS $$
  SELECT set_config('sunledger.moved',
    (coalesce(nullif(current_setting('sunledger.moved', true), ''), '0')::numeric + coalesce(change, 0))::text, true)
$$;
CREATE FUNCTION sunledger_check_trades() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong bigint; change numeric;
BEGIN
  SELECT min(id) FILTER (WHERE energy_wh <= 0 OR cost_e7 <= 0 OR margin_e7 < 0 OR buyer = seller OR buyer = clearing
      OR seller = clearing),
    sum(cost_e7::numeric * (hashint8(clearing)::bigint - hashint8(buyer))
      + margin_e7::numeric * (hashint8(clearing)::bigint - hashint8(seller)))
    INTO wrong, change FROM added;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'trade %: expected energy and money that move between two accounts', wrong USING ERRCODE = 'check_violation';
  END IF;
  PERFORM sunledger_moved(change);
  RETURN NULL;
END $$;
CREATE FUNCTION sunledger_check_transfers() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong bigint; change numeric;
BEGIN
  SELECT min(id) FILTER (WHERE amount <= 0 OR debit = credit),
    sum(amount::numeric * (hashint8(credit)::bigint - hashint8(debit))) INTO wrong, change FROM added;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'transfer %: expected a positive amount between two accounts', wrong USING ERRCODE = 'check_violation';
  END IF;
  PERFORM sunledger_moved(change);
  RETURN NULL;
END $$;
CREATE FUNCTION sunledger_check_opened() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM added WHERE cash_e7 <> 0 OR held_e7 <> 0 OR arrears_e7 <> 0) THEN
    RAISE EXCEPTION 'expected new accounts that begin with nothing' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION sunledger_check_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE total numeric; change numeric; wrong bigint; moved numeric;
BEGIN
  SELECT sum(is_now.cash_e7 - was.cash_e7), sum((is_now.cash_e7 - was.cash_e7)::numeric * hashint8(is_now.account)),
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
CREATE TRIGGER money_moves AFTER INSERT ON exchange_trade REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION sunledger_check_trades();
CREATE TRIGGER money_moves AFTER INSERT ON exchange_transfer REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION sunledger_check_transfers();
CREATE TRIGGER money_begins AFTER INSERT ON exchange_balance REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION sunledger_check_opened();
CREATE TRIGGER money_adds_up AFTER UPDATE ON exchange_balance REFERENCING OLD TABLE AS before NEW TABLE AS after
  FOR EACH STATEMENT EXECUTE FUNCTION sunledger_check_balances();
"""
NO_MONEY = """
DROP TRIGGER money_moves ON exchange_trade;
DROP TRIGGER money_moves ON exchange_transfer;
DROP TRIGGER money_begins ON exchange_balance;
DROP TRIGGER money_adds_up ON exchange_balance;
DROP FUNCTION sunledger_check_trades, sunledger_check_transfers, sunledger_check_opened, sunledger_check_balances,
  sunledger_moved(numeric);
"""


def run(statements):
    def on_postgres(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(statements, params=None)

    return on_postgres


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0003_complex_orders"),
    ]

    operations = [migrations.RunPython(run(MONEY), run(NO_MONEY))]
