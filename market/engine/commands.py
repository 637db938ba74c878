"""What may be asked of the market: one immutable tuple a command.

A command carries no time and no identity of its own: ``Engine.apply(command, at_ms)`` gets the time from outside, the
engine numbers what follows. Energy is in watt-hours (``_wh``), power in watts (``_w``), prices in 0.0001 currency per kWh
(``_e4``), money in 0.0000001 currency (``_e7``); ``amount_e7 = price_e4 * energy_wh`` exactly. A contract is named by its
start in UTC, ``2026-06-06T12:15Z``; an account by its dense index; an order by the ledger sequence of its entry. What an
official decides has a ``reason``, a code, and where they said more in words a ``commitment`` to these
(``households.commitments.commitment_of``).
"""

from __future__ import annotations

from typing import NamedTuple

BUY = "buy"
SELL = "sell"

GOOD_TILL_GATE = "gtg"
GOOD_TILL_DATE = "gtd"
IMMEDIATE_OR_CANCEL = "ioc"
FILL_OR_KILL = "fok"
TIMES_IN_FORCE = (GOOD_TILL_GATE, GOOD_TILL_DATE, IMMEDIATE_OR_CANCEL, FILL_OR_KILL)

MAX_CLIPS = 100  # an iceberg shows at least a hundredth of itself: what one taker sets off stays bounded
MAX_INTERVALS = 96  # contracts of a block or a sweep: a day of quarter-hours
MAX_LEGS = 100  # orders of a basket
NO_QUALITY = "none"  # of what a settlement row was where there was none


class Found(NamedTuple):
    """Found the market: the first command of every ledger. Opens the system accounts (see ``accounts.SYSTEM_KINDS``)."""

    origin: str  # the log's name, fixed for ever
    currency: str  # ISO 4217 code
    interval_min: int  # length of a delivery interval: 15, 30 or 60
    vkey: str  # the log's verifier key
    rulebook_version: int
    rulebook_sha256: str  # hex


class PublishRulebook(NamedTuple):
    """A new text of the rulebook is in force from here on."""

    version: int
    sha256: str
    reason: str = ""  # code; entries of older logs have none
    commitment: str = ""  # to what was said in words, hex or ""


class RegisterKey(NamedTuple):
    """A verifier key of the log becomes valid (``action="add"``) or stops being valid (``"revoke"``).

    A new key comes with two signatures, base64: its own (``possession``) and one of a valid key (``approval``), of the
    text that ``ledger.core.keyring`` defines. They are checked before the engine is asked.
    """

    action: str
    vkey: str
    possession: str = ""
    approval: str = ""


class SetParams(NamedTuple):
    """All limits of the market at once; see ``accounts.Params`` for their meaning and defaults."""

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
    reason: str = ""  # code; entries of older logs have none
    commitment: str = ""  # to what was said in words, hex or ""


class SetArea(NamedTuple):
    """Add a node to the grid tree. The first one is the root and has ``parent=""``; parents come before children."""

    area: str
    parent: str
    level: str  # EHV, HV, MV, LV


class SetCapacity(NamedTuple):
    """Capacity of the edge between an area and its parent, for every contract that is open or will be opened."""

    area: str
    import_w: int  # from the parent into the area
    export_w: int  # from the area to the parent
    reason: str  # code
    commitment: str = ""


class SetFee(NamedTuple):
    """Grid fee of the edge between an area and its parent, for contracts opened from now on."""

    area: str
    fee_e4: int
    reason: str = ""  # code; entries of older logs have none
    commitment: str = ""  # to what was said in words, hex or ""


class SetTariff(NamedTuple):
    """What the supplier of last resort charges and pays, for contracts opened from now on. 0 <= spill <= top-up."""

    topup_e4: int
    spill_e4: int
    reason: str = ""  # code; entries of older logs have none
    commitment: str = ""  # to what was said in words, hex or ""


class OpenAccount(NamedTuple):
    """Open a member account in an area. The engine answers with its dense index."""

    account_id: str  # 128 random bits, 32 hex digits
    area: str
    group: str  # orders within one group never trade with each other; "" = a group of its own
    connection: str  # commitment of the grid connection, hex or ""
    commitment: str  # SHA-256(salt || JCS(record)) of the owner's identity record, hex or ""


class CloseAccount(NamedTuple):
    """No orders from here on; what is open is cancelled, settlement of the past goes on."""

    account: int


class SetConnection(NamedTuple):
    """Tie an account to a grid connection and say what that connection may take and give, whoever trades for it.

    ``connection=""`` keeps the connection the account has (its own alone, if it never named one). A limit of 0 W is the
    market's (``Params.connection_import_w`` and ``connection_export_w``).
    """

    account: int
    connection: str  # commitment of the grid connection, hex or ""
    import_w: int
    export_w: int
    reason: str = ""  # code; entries of older logs have none
    commitment: str = ""  # to what was said in words, hex or ""


class SetAccountKey(NamedTuple):
    """From here on an account's orders are signed with this Ed25519 key (hex); "" ends that.

    What is signed is ``signing.key_text``. Whether keys and signatures are good takes curve arithmetic: it was checked where
    the command was made, and is again by any audit. Entries of older logs have none of the last four fields.
    """

    account: int
    public_key: str
    proof: str = ""  # signature by the new key: who registers it has it
    approval: str = ""  # signature by the key that was there before
    rules: str = ""  # SHA-256 of the rulebook that is named in what was signed
    reason: str = ""  # of a change that the key before has not signed: one of ``signing.RESETS``
    changes: int = -1  # of the key before this one, as what was signed has it; not in the entry. -1: not asked


class Fund(NamedTuple):
    """Money from outside into a wallet (positive) or out of it (negative)."""

    account: int
    amount_e7: int
    reason: str  # code: "deposit", "withdrawal", "opening"
    reference: str  # commitment of the bank reference, hex or ""


class OpenContract(NamedTuple):
    """Open a delivery interval for trading; freezes tariff and fees for it."""

    contract: str


class CloseContract(NamedTuple):
    """Close the gate: nothing trades in it any more, what rests is cancelled."""

    contract: str


class DeliverContract(NamedTuple):
    """The delivery interval is over: readings may come, settlement may begin."""

    contract: str


class SetHalt(NamedTuple):
    """Stop (``on=1``) or resume (``on=0``) trading in a scope; ``cancel=1`` is the kill switch: all open orders go, too."""

    scope: str  # "market", "contract", "area", "account"
    target: str  # "" | contract | area | str(account index)
    on: int
    reason: str  # code
    until_ms: int = 0  # of a contract's halt: when it ends by itself; 0 = when somebody ends it
    cancel: int = 0
    commitment: str = ""


class PlaceOrder(NamedTuple):
    """A limit order. The limit is all-in at the account's own meter. ``expires_at_ms`` is 0 unless good till date."""

    account: int
    contract: str
    side: str
    price_e4: int
    energy_wh: int
    time_in_force: str
    expires_at_ms: int


class PlaceIceberg(NamedTuple):
    """A limit order that shows ``display_wh`` at a time; each next clip has a new time priority. gtg or gtd only."""

    account: int
    contract: str
    side: str
    price_e4: int
    energy_wh: int  # in total
    time_in_force: str
    expires_at_ms: int
    display_wh: int


class PlaceSweep(NamedTuple):
    """Buy or sell at once, best all-in price first, over the contracts ``contract`` to ``last``, up to the limit."""

    account: int
    contract: str
    last: str
    side: str
    price_e4: int
    energy_wh: int  # in all contracts together


class PlaceBlock(NamedTuple):
    """All or none over the contiguous contracts ``contract`` to ``last``: the same energy in each, none above the limit.

    A block that cannot trade whole waits outside the book (fill or kill: is refused) and trades as a taker once it can.
    """

    account: int
    contract: str
    last: str
    side: str
    price_e4: int
    energy_wh: int  # in each contract
    time_in_force: str
    expires_at_ms: int


class Leg(NamedTuple):
    """One order of a basket."""

    account: int
    contract: str
    side: str
    price_e4: int
    energy_wh: int


class PlaceBasket(NamedTuple):
    """Linked fill-or-kill orders: all of them trade in full, one after the other, or none does.

    ``account`` is whose basket it is; each leg's account is of its account group.
    """

    account: int
    legs: tuple[Leg, ...]


class SignedOrder(NamedTuple):
    """An order of an account with a key. ``signing.text`` is what was signed; it was verified where the command was made.

    Signature and the rest go to the ledger with the order's entry, so that anybody who reads that can verify it again.
    """

    account: int
    order: PlaceOrder | PlaceIceberg | PlaceSweep | PlaceBlock | PlaceBasket
    signature: str  # hex
    nonce: str  # SHA-256 of the Idempotency-Key, hex
    rules: str  # SHA-256 of the rulebook its owner agreed to, hex


class AmendOrder(NamedTuple):
    """Change price or total quantity (filled part included) of a resting order; -1 leaves a value as it is.

    Only a smaller quantity keeps the order's time priority.
    """

    account: int
    order: int
    price_e4: int
    energy_wh: int


class HibernateOrder(NamedTuple):
    """Take an open order out of the book for a while: it keeps its number, gives up its hold and its time priority."""

    account: int
    order: int


class ReactivateOrder(NamedTuple):
    """Bring a hibernated order back, checked anew and with a new time priority; it may trade at once."""

    account: int
    order: int


class CancelOrder(NamedTuple):
    """Take an open order back; a leg takes its whole block along.

    ``account`` must own it; -1 is the market operator, with a reason of its own.
    """

    account: int
    order: int
    reason: str  # "owner" or an operator's code


class CancelAll(NamedTuple):
    """Take back all resting orders of an account, in one contract or (``contract=""``) in all."""

    account: int
    contract: str
    reason: str


class RecallTrade(NamedTuple):
    """The market operator takes a trade back before delivery: money, positions and capacity are as if it had not been.

    The two orders stay as they are.
    """

    trade: int
    reason: str  # code
    commitment: str = ""


class Expire(NamedTuple):
    """Cancel every good-till-date order whose time has come; the sequencer sends it when one is due."""


class CommitReadings(NamedTuple):
    """Commit a batch of interval readings: only its size, sums and Merkle root enter the engine and the ledger."""

    contract: str
    area: str
    count: int  # type: ignore[assignment]
    import_wh: int
    export_wh: int
    root: str  # hex


class SettleRow(NamedTuple):
    """Settlement of one account in one contract; how it comes about: ``market.settlement.rules``."""

    account: int
    import_wh: int
    export_wh: int
    quality: str  # "measured", "estimated"
    position_wh: int  # bought - sold
    short_wh: int  # sold and not delivered, charged to the margin
    topup_wh: int  # other missing energy, on the supply bill
    spill_wh: int  # left-over energy
    payout_e7: int  # clearing -> wallet: proceeds + margin - short_wh * top-up
    fee_e7: int  # clearing -> grid operator: fees of what it bought
    short_e7: int  # clearing -> supplier
    topup_e7: int  # supply bill -> supplier
    spill_e7: int  # supplier -> wallet


class Settle(NamedTuple):
    """Settle one area in one delivered contract. ``rows`` holds each account of the area with a position or reading once."""

    contract: str
    area: str
    rows: tuple[SettleRow, ...]
    root: str  # Merkle root over the salted rows, hex


class AdjustRow(NamedTuple):
    """A row of a settlement that changes: what it becomes, and what it was.

    ``was`` is a row of zeros with the quality ``NO_QUALITY`` where the account had neither traded nor been metered.
    """

    row: SettleRow
    was: SettleRow


class Adjust(NamedTuple):
    """Correct the settlement of one area in one contract by later readings. ``rows`` holds each account that changes once.

    ``corrects`` is the newest entry that settled or corrected them; who has not seen that one is refused.
    """

    contract: str
    area: str
    corrects: int
    rows: tuple[AdjustRow, ...]
    root: str  # Merkle root over the salted rows, hex


class Final(NamedTuple):
    """The time for corrections of a contract is over: its settlement stands as it is."""

    contract: str


class Propose(NamedTuple):
    """Ask for a private agreement: what ``giver`` has left over goes to ``receiver``, at a price per kWh, 0 for a gift.

    ``account`` is the party that asks; its entry is the agreement's number. ``start`` is the first contract it is for.
    """

    account: int
    giver: int
    receiver: int
    price_e4: int
    start: str


class Agree(NamedTuple):
    """The other party accepts what was proposed."""

    account: int
    agreement: int


class Revoke(NamedTuple):
    """A party ends an agreement, or takes a proposal back or turns it down: for contracts that start from now on."""

    account: int
    agreement: int


class ShareRow(NamedTuple):
    """What one agreement moves in one contract."""

    agreement: int
    left_wh: int  # left over at its giver, before any agreement: ``spill_wh`` of the settlement row
    missing_wh: int  # ordinary supply of its receiver, before any agreement: ``topup_wh``
    energy_wh: int
    was_wh: int  # what it moved before, 0 at first


class Share(NamedTuple):
    """Share out what is left over in a contract that is settled everywhere, or do so again after a correction.

    ``rows`` has each agreement that applies, in the order of their numbers; ``corrects`` is the entry before, 0 at first.
    """

    contract: str
    corrects: int
    rows: tuple[ShareRow, ...]
    root: str  # Merkle root over the salted rows, hex


class Seal(NamedTuple):
    """Close the running block. The journal adds what needs hashing (previous checkpoint, roots, totals)."""


class CommitSnapshot(NamedTuple):
    """Record that a snapshot of the engine's state with this SHA-256 exists."""

    sha256: str


Command = (
    Found | PublishRulebook | RegisterKey | SetParams | SetArea | SetCapacity | SetFee | SetTariff | OpenAccount
    | CloseAccount | SetConnection | SetAccountKey | Fund | OpenContract | CloseContract | DeliverContract | SetHalt
    | PlaceOrder | PlaceIceberg | PlaceSweep | PlaceBlock | PlaceBasket | SignedOrder | AmendOrder | HibernateOrder
    | ReactivateOrder | RecallTrade | CancelOrder | CancelAll | Expire | CommitReadings | Settle | Adjust | Final
    | Propose | Agree | Revoke | Share | Seal | CommitSnapshot
)  # fmt: skip
