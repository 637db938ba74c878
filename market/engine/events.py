"""What happened: one immutable tuple an event, numbered by the ledger.

Every event but ``Refused`` becomes exactly one ledger entry; ``seq`` is that entry's index. Fields beyond those of the
entry (accounts of a trade, its amounts) spare readers a look-up and are derived by the engine. Units as in ``commands``.
"""

from __future__ import annotations

from typing import NamedTuple

from market.engine.commands import AdjustRow, SettleRow, ShareRow


class Refused(NamedTuple):
    """Nothing happened. ``code`` is stable, ``field`` names the input at fault ("" = none), ``detail`` fills the sentence."""

    code: str
    field: str
    detail: tuple[tuple[str, int | str], ...] = ()


class Founded(NamedTuple):
    seq: int
    at_ms: int
    origin: str
    currency: str
    interval_min: int
    vkey: str
    rulebook_version: int
    rulebook_sha256: str


class RulebookPublished(NamedTuple):
    seq: int
    at_ms: int
    version: int
    sha256: str
    reason: str = ""
    commitment: str = ""


class KeyRegistered(NamedTuple):
    seq: int
    at_ms: int
    action: str
    vkey: str
    possession: str = ""
    approval: str = ""


class ParamsSet(NamedTuple):
    seq: int
    at_ms: int
    max_price_e4: int
    tick_e4: int
    max_order_wh: int
    max_open_orders: int
    horizon_min: int
    lead_min: int
    netting_permille: int
    collar_e4: int = 0
    collar_period_s: int = 0
    collar_halt_s: int = 0
    throttle_per_min: int = 0
    throttle_burst: int = 0
    throttle_credit: int = 0
    connection_import_w: int = 0
    connection_export_w: int = 0
    final_after_min: int = 0
    sharing_scope: int = 0
    reason: str = ""
    commitment: str = ""


class AreaSet(NamedTuple):
    seq: int
    at_ms: int
    area: str
    parent: str
    level: str


class CapacitySet(NamedTuple):
    seq: int
    at_ms: int
    area: str
    import_w: int
    export_w: int
    reason: str
    commitment: str = ""


class FeeSet(NamedTuple):
    seq: int
    at_ms: int
    area: str
    fee_e4: int
    reason: str = ""
    commitment: str = ""


class TariffSet(NamedTuple):
    seq: int
    at_ms: int
    topup_e4: int
    spill_e4: int
    reason: str = ""
    commitment: str = ""


class AccountOpened(NamedTuple):
    seq: int
    at_ms: int
    account: int  # dense index
    account_id: str
    kind: str  # "member" or a system kind
    area: str
    group: str
    connection: str
    commitment: str


class AccountClosed(NamedTuple):
    seq: int
    at_ms: int
    account: int


class ConnectionSet(NamedTuple):
    seq: int
    at_ms: int
    account: int
    connection: str
    import_w: int
    export_w: int
    reason: str = ""
    commitment: str = ""


class AccountKeySet(NamedTuple):
    """The account's orders are signed with this key from here on; "" = they need no signature."""

    seq: int
    at_ms: int
    account: int
    public_key: str
    proof: str = ""
    approval: str = ""
    rules: str = ""
    reason: str = ""


class Funded(NamedTuple):
    seq: int
    at_ms: int
    account: int
    amount_e7: int
    reason: str
    reference: str


class ContractOpened(NamedTuple):
    seq: int
    at_ms: int
    contract: str
    account: int  # dense index of its clearing account
    account_id: str
    topup_e4: int
    spill_e4: int


class ContractClosed(NamedTuple):
    seq: int
    at_ms: int
    contract: str


class ContractDelivered(NamedTuple):
    seq: int
    at_ms: int
    contract: str


class HaltSet(NamedTuple):
    seq: int
    at_ms: int
    scope: str
    target: str
    on: int
    reason: str
    until_ms: int = 0
    cancel: int = 0
    commitment: str = ""


class OrderPlaced(NamedTuple):
    seq: int  # the order's id
    at_ms: int
    account: int
    area: str
    contract: str
    side: str
    price_e4: int
    energy_wh: int
    time_in_force: str
    expires_at_ms: int


ICEBERG = "iceberg"
SWEEP = "sweep"
BLOCK = "block"
BASKET = "basket"


class ComplexOrderPlaced(NamedTuple):
    """An order that is more than ``OrderPlaced`` says, or one leg of a block or basket (then ``group`` is leg 1's id)."""

    seq: int  # the order's id
    at_ms: int
    account: int
    area: str
    contract: str
    side: str
    price_e4: int
    energy_wh: int
    time_in_force: str
    expires_at_ms: int
    kind: str  # iceberg, sweep, block, basket
    last: str  # the last contract of a sweep, else ""
    display_wh: int  # of an iceberg, else 0
    group: int
    leg: int  # 1 to ``legs``; 0 without legs
    legs: int


class OrderHibernated(NamedTuple):
    seq: int
    at_ms: int
    order: int
    account: int
    contract: str
    remaining_wh: int


class OrderReactivated(NamedTuple):
    seq: int
    at_ms: int
    order: int
    account: int
    contract: str
    remaining_wh: int


class OrderAmended(NamedTuple):
    seq: int
    at_ms: int
    order: int
    account: int
    contract: str
    price_e4: int  # from now on
    energy_wh: int  # total, filled part included, from now on
    requeued: int  # 1: lost its time priority


class OrderCancelled(NamedTuple):
    """``reason``: owner, ioc, expired, gate, self_trade, account_closed, kill, or an operator's code."""

    seq: int
    at_ms: int
    order: int
    account: int
    contract: str
    remaining_wh: int
    reason: str


class Traded(NamedTuple):
    seq: int
    at_ms: int
    contract: str
    maker: int  # order ids
    taker: int
    energy_wh: int
    buy_e4: int  # all-in price the buyer pays
    sell_e4: int  # price the seller gets; buy_e4 - sell_e4 = fees of the path
    # derived
    taker_side: str
    buyer: int  # accounts
    seller: int
    buy_order: int
    sell_order: int
    buy_area: str
    sell_area: str
    cost_e7: int  # buyer's wallet -> clearing
    margin_e7: int  # seller's wallet -> clearing


class TradeRecalled(NamedTuple):
    seq: int
    at_ms: int
    trade: int  # seq of the trade's entry
    contract: str
    reason: str
    # derived
    energy_wh: int
    buyer: int
    seller: int
    cost_e7: int  # clearing -> buyer's wallet
    margin_e7: int  # clearing -> seller's wallet
    commitment: str = ""  # of the entry, though it stands last


class ReadingsCommitted(NamedTuple):
    seq: int
    at_ms: int
    contract: str
    area: str
    count: int  # type: ignore[assignment]
    import_wh: int
    export_wh: int
    root: str


class Settled(NamedTuple):
    seq: int
    at_ms: int
    contract: str
    area: str
    count: int  # type: ignore[assignment]
    payout_e7: int
    fee_e7: int
    short_e7: int
    topup_e7: int
    spill_e7: int
    root: str
    # derived
    rows: tuple[SettleRow, ...]
    complete: int  # 1: the last area of the contract, its clearing account is at zero


class Adjusted(NamedTuple):
    """A settlement was corrected. The sums are differences: what more is short, topped up and spilled than before."""

    seq: int
    at_ms: int
    contract: str
    area: str
    corrects: int  # the entry before: the area's settle entry, or the last that corrected it
    count: int  # type: ignore[assignment]
    short_e7: int  # wallets -> supplier
    topup_e7: int  # supply bills -> supplier
    spill_e7: int  # supplier -> wallets
    arrears_e7: int  # how much more the accounts owe than before
    root: str
    # derived
    rows: tuple[AdjustRow, ...]


class Finalized(NamedTuple):
    """A contract's settlement is final."""

    seq: int
    at_ms: int
    contract: str


class AgreementProposed(NamedTuple):
    seq: int  # the agreement's number
    at_ms: int
    account: int  # who proposes it
    giver: int
    receiver: int
    price_e4: int
    fee_e4: int  # grid fee of the path between them, as it was then; the receiver pays it
    start: str


class AgreementAccepted(NamedTuple):
    seq: int
    at_ms: int
    agreement: int
    account: int
    # derived
    giver: int
    receiver: int


class AgreementRevoked(NamedTuple):
    seq: int
    at_ms: int
    agreement: int
    account: int
    # derived
    giver: int
    receiver: int


class Shared(NamedTuple):
    """What was left over in a contract went to neighbours. The sums are differences to the entry before."""

    seq: int
    at_ms: int
    contract: str
    corrects: int  # the entry before, 0 at first
    count: int  # type: ignore[assignment]
    energy_wh: int
    price_e7: int  # supply bills -> givers
    fee_e7: int  # supply bills -> grid operator
    topup_e7: int  # supplier -> supply bills: what was not its energy
    spill_e7: int  # givers -> supplier: what it did not get
    arrears_e7: int  # how much more givers owe than before
    root: str
    # derived
    rows: tuple[ShareRow, ...]
    parties: tuple[tuple[int, int, int, int], ...]  # giver, receiver, price and fee (e4) of each row
    topup_e4: int
    spill_e4: int


class Sealed(NamedTuple):
    seq: int
    at_ms: int
    height: int  # the first block has 1
    first: int  # seq of the block's first entry
    count: int  # type: ignore[assignment]  # entries in the block, the seal included


class SnapshotCommitted(NamedTuple):
    seq: int
    at_ms: int
    sha256: str


Event = (
    Founded
    | RulebookPublished
    | KeyRegistered
    | ParamsSet
    | AreaSet
    | CapacitySet
    | FeeSet
    | TariffSet
    | AccountOpened
    | AccountClosed
    | ConnectionSet
    | AccountKeySet
    | Funded
    | ContractOpened
    | ContractClosed
    | ContractDelivered
    | HaltSet
    | OrderPlaced
    | ComplexOrderPlaced
    | OrderAmended
    | OrderHibernated
    | OrderReactivated
    | OrderCancelled
    | Traded
    | TradeRecalled
    | ReadingsCommitted
    | Settled
    | Adjusted
    | Finalized
    | AgreementProposed
    | AgreementAccepted
    | AgreementRevoked
    | Shared
    | Sealed
    | SnapshotCommitted
)
