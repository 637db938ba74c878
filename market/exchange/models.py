"""What the writer keeps for readers: append-only rows without foreign keys, indexed only for the queries there are.

The journal writes them with COPY or multi-row inserts beside the ledger's entries, in the same transaction; nothing
else writes here. An order's status is derived: its row, its trades and its changes (``queries``), so that a fill or a
cancellation never updates a row. ``Balance`` and ``Contract`` are the two small tables that are updated in place.
"""

from __future__ import annotations

from django.db import models

from ledger.fields import SequenceField

NAME_LENGTH = 64  # of an area; the engine's bound
CONTRACT_LENGTH = 17  # 2026-06-06T12:15Z
TRANSFERS_AN_ENTRY = (
    2**20
)  # numbers set aside for the transfers of one ledger entry; a settled area has five a home at most


class Order(models.Model):
    """An accepted order as it was placed. ``id`` is the sequence of its ledger entry.

    The columns stand in the order of ``events.OrderPlaced``: the event is the row.
    """

    id = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    account = models.BigIntegerField()
    area = models.CharField(max_length=NAME_LENGTH)
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    side = models.CharField(max_length=4)
    price_e4 = models.BigIntegerField()
    energy_wh = models.BigIntegerField()
    time_in_force = models.CharField(max_length=3)
    expires_at_ms = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["account", "id"], name="order_account"),
            models.Index(fields=["contract", "id"], name="order_contract"),  # the regulator's search and replay
        ]


class Trade(models.Model):
    """A trade with what the ledger leaves to be derived: accounts, areas, amounts. ``id`` is its ledger sequence.

    The columns stand in the order of ``events.Traded``: the event, and its contract's clearing account, is the row.
    """

    id = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    maker = models.BigIntegerField()
    taker = models.BigIntegerField()
    energy_wh = models.BigIntegerField()
    buy_e4 = models.BigIntegerField()
    sell_e4 = models.BigIntegerField()
    taker_side = models.CharField(max_length=4)
    buyer = models.BigIntegerField()
    seller = models.BigIntegerField()
    buy_order = models.BigIntegerField()
    sell_order = models.BigIntegerField()
    buy_area = models.CharField(max_length=NAME_LENGTH)
    sell_area = models.CharField(max_length=NAME_LENGTH)
    cost_e7 = models.BigIntegerField()
    margin_e7 = models.BigIntegerField()
    clearing = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["contract", "id"], name="trade_contract"),
            models.Index(fields=["buyer", "id"], name="trade_buyer"),
            models.Index(fields=["seller", "id"], name="trade_seller"),
        ]


class OrderDetail(models.Model):
    """What an order has beyond a limit order, in a row of its own so that plain orders stay cheap.

    The legs of a block or basket are ``group`` (the first one's id), ``group + 1``, … ``group + legs - 1``.
    """

    order = SequenceField(primary_key=True)
    kind = models.CharField(max_length=7)  # iceberg, sweep, block, basket
    last = models.CharField(max_length=CONTRACT_LENGTH)  # of a sweep, else ""
    display_wh = models.BigIntegerField()
    group = models.BigIntegerField()
    leg = models.IntegerField()
    legs = models.IntegerField()


class OrderChange(models.Model):
    """An amendment, a cancellation, or that an order went to sleep or woke up.

    All but an amendment have ``energy_wh`` 0; ``remaining_wh`` is then what was taken back, put aside or brought back.
    """

    seq = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    kind = models.CharField(max_length=6)  # amend, cancel, sleep, wake
    order = models.BigIntegerField()
    account = models.BigIntegerField()
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    price_e4 = models.BigIntegerField()
    energy_wh = models.BigIntegerField()
    remaining_wh = models.BigIntegerField()
    requeued = models.SmallIntegerField()
    reason = models.TextField()

    class Meta:
        indexes = [
            models.Index(fields=["account", "seq"], name="orderchange_account"),
            models.Index(fields=["contract", "seq"], name="orderchange_contract"),  # the regulator's search and replay
        ]


class Recall(models.Model):
    """A trade that the market operator took back; the trade's own row stays. ``seq`` is the recall's ledger entry.

    The money that went back is in ``Transfer``; the energy is here and in the view of all movements.
    """

    trade = SequenceField(primary_key=True)
    seq = models.BigIntegerField(unique=True)
    at_ms = models.BigIntegerField()
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    reason = models.TextField()
    energy_wh = models.BigIntegerField()
    buyer = models.BigIntegerField()
    seller = models.BigIntegerField()
    cost_e7 = models.BigIntegerField()
    margin_e7 = models.BigIntegerField()


class Alert(models.Model):
    """Something the grid operator must look at, written with the ledger entry that caused it: ``seq``.

    ``kind``: capacity (an edge may carry less than is allocated; ``area`` is its lower end, "" when there are several) or
    collar (the price collar halted ``contract``). ``detail`` is a JSON object, see ``alerts``.
    """

    seq = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    kind = models.CharField(max_length=8)
    area = models.CharField(max_length=NAME_LENGTH)
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    detail = models.TextField()


class Transfer(models.Model):
    """A movement of money between two accounts that no trade made: ``amount`` e7 leaves ``debit`` and reaches
    ``credit``.

    ``kind`` says what for: fund, recall, payout, fee, short, topup, spill, shared. ``id = seq * TRANSFERS_AN_ENTRY + n``
    numbers the transfers of one ledger entry. What a trade moves (money of the buyer and the seller into clearing, energy
    from one to the other) is in its own row: stored once more as three transfers it would be the largest part of what a
    trade costs. The view ``exchange_movement`` (see ``transfers.MOVEMENTS``) has both: every movement, of money and of
    energy.
    """

    id = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    kind = models.CharField(max_length=8)
    debit = models.BigIntegerField()
    credit = models.BigIntegerField()
    amount = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["debit", "id"], name="transfer_debit"),
            models.Index(fields=["credit", "id"], name="transfer_credit"),
        ]


class Balance(models.Model):
    """An account and its money. ``cash_e7`` is the whole wallet, ``held_e7`` of it is set aside for open orders."""

    account = SequenceField(primary_key=True)
    account_id = models.CharField(max_length=32)
    kind = models.CharField(max_length=8)
    area = models.CharField(max_length=NAME_LENGTH)
    cash_e7 = models.BigIntegerField()
    held_e7 = models.BigIntegerField()
    arrears_e7 = models.BigIntegerField()


class Contract(models.Model):
    """A delivery interval. ``account`` is its clearing account; the prices are those frozen at its opening."""

    name = models.CharField(max_length=CONTRACT_LENGTH, primary_key=True)
    state = models.CharField(max_length=9)  # open, closed, delivered, settled
    account = models.BigIntegerField()
    topup_e4 = models.BigIntegerField()
    spill_e4 = models.BigIntegerField()
    opened_seq = models.BigIntegerField()
    opened_at_ms = models.BigIntegerField()  # with opened_seq: a sparse index from time to sequence
    changed_seq = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["state", "name"], name="contract_state")]


class SettlementLine(models.Model):
    """Settlement of one account in one contract; the fields are those of ``commands.SettleRow``."""

    pk = models.CompositePrimaryKey("seq", "account")
    seq = models.BigIntegerField()
    account = models.BigIntegerField()
    at_ms = models.BigIntegerField()
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    area = models.CharField(max_length=NAME_LENGTH)
    import_wh = models.BigIntegerField()
    export_wh = models.BigIntegerField()
    quality = models.CharField(max_length=9)
    position_wh = models.BigIntegerField()
    short_wh = models.BigIntegerField()
    topup_wh = models.BigIntegerField()
    spill_wh = models.BigIntegerField()
    payout_e7 = models.BigIntegerField()
    fee_e7 = models.BigIntegerField()
    short_e7 = models.BigIntegerField()
    topup_e7 = models.BigIntegerField()
    spill_e7 = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["account", "seq"], name="settlementline_account")]


class Adjustment(models.Model):
    """A correction of a settlement line: what it becomes (the fields of ``commands.SettleRow``) and what it was (``was_…``).

    The line itself stays. ``seq`` is the ledger's adjust entry, ``n`` the row in it, ``corrects`` the settle or adjust entry
    of the area before it.
    """

    pk = models.CompositePrimaryKey("seq", "account")
    seq = models.BigIntegerField()
    account = models.BigIntegerField()
    n = models.IntegerField()
    at_ms = models.BigIntegerField()
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    area = models.CharField(max_length=NAME_LENGTH)
    corrects = models.BigIntegerField()
    import_wh = models.BigIntegerField()
    export_wh = models.BigIntegerField()
    quality = models.CharField(max_length=9)
    position_wh = models.BigIntegerField()
    short_wh = models.BigIntegerField()
    topup_wh = models.BigIntegerField()
    spill_wh = models.BigIntegerField()
    payout_e7 = models.BigIntegerField()
    fee_e7 = models.BigIntegerField()
    short_e7 = models.BigIntegerField()
    topup_e7 = models.BigIntegerField()
    spill_e7 = models.BigIntegerField()
    was_import_wh = models.BigIntegerField()
    was_export_wh = models.BigIntegerField()
    was_quality = models.CharField(max_length=9)
    was_position_wh = models.BigIntegerField()
    was_short_wh = models.BigIntegerField()
    was_topup_wh = models.BigIntegerField()
    was_spill_wh = models.BigIntegerField()
    was_payout_e7 = models.BigIntegerField()
    was_fee_e7 = models.BigIntegerField()
    was_short_e7 = models.BigIntegerField()
    was_topup_e7 = models.BigIntegerField()
    was_spill_e7 = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["account", "seq"], name="adjustment_account"),
            models.Index(fields=["contract", "seq"], name="adjustment_contract"),
        ]


class Final(models.Model):
    """A contract whose settlement is final; ``seq`` is the ledger's entry that says so."""

    seq = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    contract = models.CharField(max_length=CONTRACT_LENGTH, unique=True)


class AgreementChange(models.Model):
    """A private agreement was proposed, accepted or revoked; ``seq`` is the ledger's entry, ``agreement`` the proposal's.

    A proposal has its terms here; the others repeat who the parties are and leave price, fee and start empty.
    """

    seq = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    agreement = models.BigIntegerField()
    action = models.CharField(max_length=8)  # proposed, accepted, revoked
    account = models.BigIntegerField()  # whose consent, or end, this is
    giver = models.BigIntegerField()
    receiver = models.BigIntegerField()
    price_e4 = models.BigIntegerField()
    fee_e4 = models.BigIntegerField()
    start = models.CharField(max_length=CONTRACT_LENGTH)

    class Meta:
        indexes = [
            models.Index(fields=["giver", "seq"], name="agreement_giver"),
            models.Index(fields=["receiver", "seq"], name="agreement_receiver"),
        ]


class SharedLine(models.Model):
    """What an agreement moves in a contract (``energy_wh``) and moved before (``was_wh``); the newest ``seq`` stands.

    ``n`` is the row in the ledger's entry ``seq``.
    """

    pk = models.CompositePrimaryKey("seq", "agreement")
    seq = models.BigIntegerField()
    agreement = models.BigIntegerField()
    n = models.IntegerField()
    at_ms = models.BigIntegerField()
    contract = models.CharField(max_length=CONTRACT_LENGTH)
    giver = models.BigIntegerField()
    receiver = models.BigIntegerField()
    price_e4 = models.BigIntegerField()
    fee_e4 = models.BigIntegerField()
    left_wh = models.BigIntegerField()
    missing_wh = models.BigIntegerField()
    energy_wh = models.BigIntegerField()
    was_wh = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["giver", "seq"], name="sharedline_giver"),
            models.Index(fields=["receiver", "seq"], name="sharedline_receiver"),
        ]


class IdempotencyKey(models.Model):
    """What a key was used for and which entries answered it.

    ``content`` is a JSON list: command type, its fields; "" for an accepted order, whose content is in its own row.
    """

    n = SequenceField(primary_key=True)  # counts up, so that the oldest can be found and dropped
    at_ms = models.BigIntegerField()
    lookup = models.BigIntegerField()  # digest of scope and key: a small index, whatever the keys look like
    scope = models.BigIntegerField()
    key = models.TextField()
    content = models.TextField()
    first_seq = models.BigIntegerField()
    count = models.IntegerField()
    refused = models.TextField()  # JSON list: code, field, detail; "" when it was accepted

    class Meta:
        indexes = [models.Index(fields=["lookup"], name="idempotencykey_lookup")]


class Refusal(models.Model):
    """A command that changed nothing, for the regulator; beside the ledger, dropped after a while."""

    n = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    next_seq = models.BigIntegerField()  # the ledger's size when it was refused
    account = models.BigIntegerField()  # -1: no account
    code = models.TextField()
    field = models.TextField()
    command = models.TextField()  # JSON list: command type, its fields
    detail = models.TextField()  # JSON object

    class Meta:
        indexes = [models.Index(fields=["account", "n"], name="refusal_account")]


class Snapshot(models.Model):
    """The engine's whole state after ``seq`` entries; entry ``seq`` of the ledger carries its SHA-256."""

    seq = SequenceField(primary_key=True)
    at_ms = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    data = models.BinaryField()
