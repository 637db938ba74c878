"""The shapes of what ``queries`` returns, where callers find them: plain tuples in the system's integers."""

from __future__ import annotations

from typing import NamedTuple


class OrderView(NamedTuple):
    """An order with what became of it. ``reason`` says why it was cancelled.

    ``status``: open, hibernated (open, but out of the book until its owner wakes it), filled, cancelled. The fields from
    ``kind`` on are those of ``models.OrderDetail``, empty for a plain limit order.
    """

    id: int
    at_ms: int
    account: int
    area: str
    contract: str
    side: str
    price_e4: int
    energy_wh: int
    filled_wh: int
    remaining_wh: int
    status: str
    reason: str
    time_in_force: str
    expires_at_ms: int
    changed_seq: int  # the last entry that changed it
    kind: str = ""
    last: str = ""
    display_wh: int = 0
    group: int = 0
    leg: int = 0
    legs: int = 0


class TradeView(NamedTuple):
    """A trade; ``buyer`` and ``seller`` are accounts and not for the public."""

    seq: int
    at_ms: int
    contract: str
    maker: int
    taker: int
    energy_wh: int
    buy_e4: int
    sell_e4: int
    taker_side: str
    buyer: int
    seller: int
    buy_order: int
    sell_order: int
    buy_area: str
    sell_area: str
    cost_e7: int
    margin_e7: int
    recalled_seq: int = 0  # the entry that took it back; 0 = it stands


class AlertView(NamedTuple):
    """Something the grid operator must look at; see ``models.Alert``. ``detail`` is a JSON text."""

    seq: int
    at_ms: int
    kind: str
    area: str
    contract: str
    detail: str


class ChangeView(NamedTuple):
    """What was done to an order; see ``models.OrderChange``."""

    seq: int
    at_ms: int
    kind: str
    order: int
    price_e4: int
    energy_wh: int
    remaining_wh: int
    requeued: int
    reason: str


class TransferView(NamedTuple):
    """A movement of one asset: ``amount`` leaves ``debit`` and reaches ``credit``; ``n`` numbers those of one ledger
    entry.

    ``asset`` is "e7" for money (0.0000001 currency) or "wh:<contract>" for energy (Wh). ``kind`` says what for: fund,
    trade, margin, energy, recall, payout, fee, short, topup, spill, shared.
    """

    seq: int
    n: int
    at_ms: int
    kind: str
    asset: str
    debit: int
    credit: int
    amount: int


class BalanceView(NamedTuple):
    """An account's money. ``cash_e7`` is the whole wallet; ``free_e7 = cash_e7 - held_e7``."""

    account: int
    account_id: str
    kind: str
    area: str
    cash_e7: int
    held_e7: int
    arrears_e7: int

    @property
    def free_e7(self) -> int:
        """What may be spent or taken out."""
        return self.cash_e7 - self.held_e7


class ContractView(NamedTuple):
    """A delivery interval; see ``models.Contract``."""

    name: str
    state: str
    account: int
    topup_e4: int
    spill_e4: int
    opened_seq: int
    opened_at_ms: int
    changed_seq: int


class LineView(NamedTuple):
    """Settlement of one account in one contract; see ``models.SettlementLine``."""

    seq: int
    account: int
    at_ms: int
    contract: str
    area: str
    import_wh: int
    export_wh: int
    quality: str
    position_wh: int
    short_wh: int
    topup_wh: int
    spill_wh: int
    payout_e7: int
    fee_e7: int
    short_e7: int
    topup_e7: int
    spill_e7: int


class PositionView(NamedTuple):
    """What an account bought and sold in a contract, and for how much (buyer's all-in cost, seller's proceeds)."""

    contract: str
    bought_wh: int
    sold_wh: int
    paid_e7: int
    proceeds_e7: int

    @property
    def position_wh(self) -> int:
        """Bought minus sold energy."""
        return self.bought_wh - self.sold_wh


class RefusalView(NamedTuple):
    """A command that changed nothing; ``command`` and ``detail`` are JSON texts."""

    n: int
    at_ms: int
    next_seq: int
    account: int
    code: str
    field: str
    command: str
    detail: str
