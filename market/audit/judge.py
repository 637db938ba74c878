"""The judge: plays a market again from its entries and says which is the first that does not follow from the rules.

What is whole and signed is the log verifier's business (``ledger.core.verify``); this is about what is right. Pure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ledger.core.accounts import AccountVector, account_leaf
from ledger.core.blocks import totals_text
from ledger.core.encoding import EncodingError, decode_many
from ledger.core.findings import Bundle
from market.audit.clock import Clock, Lateness
from market.audit.decisions import DECIDED, Decided, Decisions
from market.audit.meters import Meters
from market.audit.signatures import Claim, Signatures, SignedText, Unsigned
from market.audit.statements import Statements
from market.engine import contracts as states
from market.engine.accounts import MEMBER
from market.engine.contracts import MINUTE_MS, Contract, contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import EXPIRED, time_ms
from market.engine.events import Refused
from market.engine.replay import Divergence, Replayer, engine_part

ENERGY = "Wh"
NO_READINGS = "expected the readings that are settled by, was missing"
# Entries at which more is looked at than what the engine answers.
LOOKED_AT = frozenset(("genesis", "rulebook", "contract", "readings", "settle", "adjust", "final", "seal", "snapshot"))
# And of these types only those with such an action: there are many others.
ACTIONS = {"account": frozenset(("key",)), "amend": frozenset(("hibernated", "reactivated"))}
SPLIT_AT = LOOKED_AT | ACTIONS.keys()

Fields = Mapping[str, Any]


class Wrong(Exception):
    """An entry does not follow from the rules. ``place`` names it, ``what`` says what was expected and what it was."""

    def __init__(self, place: str, what: str):
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


class Elsewhere(Protocol):
    """Checks signatures beside the judge, in the order in which they are given."""

    def take(self, claim: SignedText) -> None:
        """Have this checked."""

    def found(self) -> bool:
        """Return whether something is known not to fit, without waiting."""

    def first_wrong(self) -> SignedText | None:
        """Wait for all that was taken, and return the first that does not fit."""


class Figures(NamedTuple):
    """What a market did, in sums. Money in 0.0000001 of the currency, energy in Wh."""

    entries: int
    types: dict[str, int]  # entries by type
    currency: str
    accounts: int  # members
    contracts: int  # opened
    energy_wh: int  # traded, without what was recalled
    paid_e7: int  # by buyers, grid fees included
    fee_e7: int  # grid fees
    readings: int  # rows of readings
    settled_rows: int
    corrected_rows: int
    passed_over: int  # rows settled without a reading that had only just come in
    readings_missing: int  # readings entries whose rows this source lacks
    signing: int  # accounts whose orders are signed at the end
    key_changes: int  # how often such an account's key was registered, replaced or removed
    lateness: Lateness
    decided: Decided
    unsigned: list[Unsigned]  # what happened to accounts that sign without their signature
    first_at: str
    last_at: str


class Judge:
    """Takes a log's entries bundle by bundle. ``wrong`` is the first fault; from then on nothing more is looked at.

    ``each`` sees every event of the replay. ``allow_missing_rows``: readings whose rows the source lacks are counted instead of
    being a fault; what was settled by them is then held against tally and tariff only.
    """

    def __init__(self, engine: Engine | None = None, each: Callable[[Any], None] | None = None):
        self.engine = Engine() if engine is None else engine
        self.wrong: Wrong | None = None
        self.allow_missing_rows = False
        self._elsewhere: Elsewhere | None = None
        self.statements: Statements | None = None  # works out what every statement comes to; None: nobody asks
        self._signatures = Signatures(self.engine)
        self._replayer = Replayer(
            self.engine, self._rows_of, each, self._begin, lambda command, entry: self._signatures.check(command, entry)
        )
        self._meters = Meters()
        self._clock = Clock(self.engine)
        self._decisions = Decisions()
        self._types: Counter[str] = Counter()
        self._currency = ""
        self._first_at = self._last_at = ""
        self._sums = (0, 0, 0)  # Wh, paid e7, fee e7 of delivered contracts
        self._rows: list[dict[str, int | str]] = []  # of the settle entry under way
        self._vector = AccountVector()
        self._net: list[int] = []
        self._money_e7 = 0  # sum of all accounts, less what they owe
        self.engine.take_dirty()
        self._note_accounts(range(len(self.engine.accounts)))

    def verify_with(self, elsewhere: Elsewhere) -> None:
        """Have the signatures of orders checked by somebody who answers later. What is found is the same."""
        self._elsewhere = elsewhere
        self._signatures.verify = elsewhere.take

    def wait(self) -> None:
        """Wait until all signatures so far are checked: the first that does not fit comes before any other fault."""
        first = None if self._elsewhere is None else self._elsewhere.first_wrong()
        if first is not None:
            self.wrong = described(first.divergence())

    # --- taking entries ----------------------------------------------------------------------------------------------

    def take(self, bundle: Bundle) -> None:
        """Judge the next entries; the first that is wrong is kept in ``wrong``."""
        if self.wrong is not None:
            return
        try:
            self._take(bundle.entries, bundle.rows)
        except Divergence as divergence:
            self.wrong = described(divergence)
        except Wrong as wrong:
            self.wrong = wrong
        except Exception as error:  # entries that nobody who follows the rules writes: the engine was not made for them
            self.wrong = Wrong(f"entry {self.engine.seq}", f"expected an entry the rules know, was {error!r:.200}")
        if self._elsewhere is not None and self._elsewhere.found():
            self.wait()

    def _take(self, entries: list[dict[str, int | str]], rows: Mapping[int, list[bytes]]) -> None:
        if not entries:
            return
        kinds = [entry["type"] for entry in entries]
        take, start = self._replayer.take, 0
        if not SPLIT_AT.isdisjoint(kinds):
            for at, kind in enumerate(kinds):
                if kind in LOOKED_AT or (kind in ACTIONS and entries[at].get("action") in ACTIONS[str(kind)]):
                    take(entries[start:at])
                    self._look_at(entries[at], str(kind), rows)
                    start = at + 1
        take(entries[start:] if start else entries)
        self._types.update(kinds)  # type: ignore[arg-type]
        if not DECIDED.isdisjoint(kinds):
            self._decisions.take(entries)
        self._first_at = self._first_at or str(entries[0]["at"])
        self._last_at = str(entries[-1]["at"])

    def _look_at(self, entry: dict[str, int | str], kind: str, rows: Mapping[int, list[bytes]]) -> None:
        if (
            not self._replayer.idle
        ):  # it is not the turn of an entry that starts something: the replay says what was due
            self._replayer.take([entry])
            raise Wrong(placed(entry), "expected what follows from the entries before, was something new")
        getattr(self, f"_before_{kind}")(entry, rows)
        self._replayer.take([entry])
        if kind == "seal":
            self._check_seal(entry)
            if due := self._clock.seal():
                raise Wrong(placed(entry), f"expected nothing that is due and not done, was {due}")
        elif kind == "settle" and entry["contract"] not in self.engine.contracts:
            self._signatures.forget(str(entry["contract"]))
            if entry["contract"] not in self.engine.provisional:
                self._forget(str(entry["contract"]))
        elif kind == "final":
            self._forget(str(entry["contract"]))
        elif kind == "contract" and entry.get("action") == states.DELIVERED:
            self._close_books(entry)

    def _forget(self, contract: str) -> None:
        """A contract is settled, and final."""
        self._meters.forget(contract)
        if self.statements is not None:
            self.statements.pass_on(self.engine)

    def end(self, size: int) -> Figures:
        """The log ends after so many entries: raise ``Wrong`` for the first fault, else return the figures."""
        self.wait()
        if self.wrong is None:
            try:
                self._replayer.end()
                self._check_end(size)
            except Divergence as divergence:
                self.wrong = described(divergence)
            except Wrong as wrong:
                self.wrong = wrong
        if self.wrong is not None:
            raise self.wrong
        if self.statements is not None:
            self.statements.end(self.engine)
        return self._figures(size)

    def hold(self, account_id: str, keys: Sequence[str]) -> None:
        """Raise ``Wrong`` unless an account (id) has one of its owner's keys (hex), and never had another."""
        change = self._signatures.not_held(account_id, keys)
        if change is not None:
            place = f"account {account_id}" if change.seq < 0 else f"entry {change.seq} (account {account_id})"
            raise Wrong(place, f"public_key: expected {' or '.join(keys)}, was {change.public_key or 'none'}")

    # --- entries that are looked at ----------------------------------------------------------------------------------

    def _begin(self, at_ms: int, entry: Fields) -> None:
        """A new time: what has expired by then is cancelled before anything else happens (rulebook, 4.3)."""
        engine = self.engine
        if not engine.expiries or engine.expiries[0][0] > at_ms:
            return
        due_ms = engine.due_ms()
        if due_ms is None or due_ms > at_ms or (entry.get("type") == "cancel" and entry.get("reason") == EXPIRED):
            return
        raise Divergence(engine.seq, "orders whose time has come to be cancelled first", engine_part(entry))

    def _before_genesis(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        self._currency = str(entry.get("currency", ""))
        self._signatures.origin = str(entry.get("origin", ""))
        self._signatures.publish(str(entry.get("rulebook_sha256", "")))

    def _before_rulebook(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        self._signatures.publish(str(entry.get("sha256", "")))

    def _before_account(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        self._signatures.check_key(entry)

    def _before_amend(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        self._signatures.note_sleep(entry)

    def _before_contract(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        """The clock opens and closes (rulebook, 3.1 and 3.2); the engine itself would let anybody do so earlier."""
        engine, action = self.engine, entry.get("action")
        try:
            at_ms, start_ms = time_ms(str(entry["at"])), contract_start_ms(str(entry.get("contract")))
        except ValueError:
            return  # the engine refuses it
        if action == "opened" and start_ms > at_ms + engine.params.horizon_min * MINUTE_MS:
            raise Wrong(placed(entry), f"expected a contract within {engine.params.horizon_min} minutes, was later")
        self._clock.contract(str(entry.get("contract")), action, at_ms)
        found = engine.contracts.get(str(entry.get("contract")))
        if action == states.CLOSED and found is not None and at_ms < found.gate_ms:
            raise Wrong(placed(entry), "expected a gate that closes at its time, was closed before")

    def _before_readings(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        found = rows.get(self.engine.seq) if entry.get("count") else []
        if found is None and not self.allow_missing_rows:
            raise Wrong(f"rows/{self.engine.seq}", NO_READINGS)
        decoded = None if found is None else self._decoded(entry, found)
        problem = self._meters.take(entry, decoded, self.engine)
        if problem:
            raise Wrong(placed(entry), problem)

    def _before_settle(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        self._check_rows(entry, rows, self._meters.settle)
        if self.statements is not None:
            self.statements.settle(entry, self._rows, self.engine)

    def _before_adjust(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        shared = entry.get("action") == "shared"
        self._check_rows(entry, rows, self._meters.share if shared else self._meters.adjust)
        if self.statements is not None:
            (self.statements.share if shared else self.statements.adjust)(entry, self._rows, self.engine)

    def _check_rows(
        self, entry: Fields, rows: Mapping[int, list[bytes]], check: Callable[[Fields, Sequence[Fields], Engine], str]
    ) -> None:
        seq = self.engine.seq
        found = rows.get(seq) if entry.get("count") else []
        if found is None:
            raise Wrong(f"rows/{seq}", "expected the rows that were settled, was missing")
        self._rows = self._decoded(entry, found)
        if entry["type"] == "settle":
            self._clock.settle(str(entry.get("contract")), time_ms(str(entry["at"])))
        problem = check(entry, self._rows, self.engine)
        if problem:
            raise Wrong(placed(entry), problem)

    def _before_final(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        """Nothing: whether its time has come the engine knows."""

    @staticmethod
    def _decoded(entry: Fields, rows: list[bytes]) -> list[dict[str, int | str]]:
        try:
            return decode_many(rows)
        except EncodingError as error:
            raise Wrong(placed(entry), f"rows: {error}") from None

    def _rows_of(self, seq: int) -> Iterable[Fields]:
        return self._rows

    def _before_snapshot(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        expected = hashlib.sha256(self.engine.dump()).hexdigest()
        if entry.get("sha256") != expected:
            raise Wrong(placed(entry), f"sha256: expected {expected} (of the state here), was {entry.get('sha256')}")

    def _before_seal(self, entry: Fields, rows: Mapping[int, list[bytes]]) -> None:
        """Nothing: what it says is checked once the engine has sealed."""

    def take_claims(self) -> list[Claim]:
        """Return the readings taken since the last call whose rows name what a device signed."""
        claims, self._meters.claims = self._meters.claims, []
        return claims

    def length_ms(self) -> int:
        """Return the length of a delivery interval."""
        return self.engine.interval_min * MINUTE_MS

    # --- accounts ----------------------------------------------------------------------------------------------------

    def _note_accounts(self, indexes: Iterable[int]) -> None:
        """Take the balances of accounts, new ones in the order of their indexes, into the vector and the sum."""
        accounts, net, put = self.engine.accounts, self._net, self._vector.set
        for index in indexes:
            account = accounts[index]
            put(index, account_leaf(index, account.id, account.cash_e7, account.held_e7, account.arrears_e7))
            if index == len(net):
                net.append(0)
            net_e7 = account.net_e7
            self._money_e7 += net_e7 - net[index]
            net[index] = net_e7

    def state(self) -> str:
        """Return the root over all accounts as they are now, hex."""
        self._note_accounts(sorted(self.engine.take_dirty()))
        return self._vector.root().hex()

    def _check_seal(self, entry: Fields) -> None:
        """Compare the root over all accounts and the sum of their money with what a seal says."""
        totals: dict[str, int] = {}
        state = self.state()
        # Every trade of the replay gives one account the energy it takes from another: positions are summed up
        # contract by contract when they are final, which is cheaper than at each seal.
        totals[self._currency], totals[ENERGY] = self._money_e7, 0
        for field, expected in (("state", state), ("totals", totals_text(totals))):
            if entry.get(field) != expected:
                raise Wrong(placed(entry), f"{field}: expected {expected}, was {entry.get(field)}")

    def _close_books(self, entry: Fields) -> None:
        """A contract is delivered: add what was traded in it to the sums."""
        contract = self.engine.contracts.get(str(entry["contract"]))
        if contract is not None:
            self._sums = _added(self._sums, contract, placed(entry))

    def _check_end(self, size: int) -> None:
        engine, end = self.engine, f"entry {size - 1}"
        if engine.seq != size:
            raise Wrong(end, f"expected {engine.seq} entries, was {size}")
        vector = AccountVector()
        for account in engine.accounts:
            leaf = account_leaf(account.index, account.id, account.cash_e7, account.held_e7, account.arrears_e7)
            vector.set(account.index, leaf)
        if vector.root().hex() != self.state():
            raise Wrong(end, f"state: expected {vector.root().hex()} over all accounts, was {self.state()}")
        total_e7 = sum(account.net_e7 for account in engine.accounts)
        if total_e7:
            raise Wrong(end, f"totals: expected {self._currency}:0, was {total_e7}")

    def _figures(self, size: int) -> Figures:
        sums, types, engine, meters = self._sums, self._types, self.engine, self._meters
        for contract in engine.contracts.values():
            if contract.state in (states.OPEN, states.CLOSED):
                sums = _added(sums, contract, f"entry {size - 1}")
        members = sum(account.kind == MEMBER for account in engine.accounts)
        contracts = sum(account.kind == "clearing" for account in engine.accounts)
        return Figures(
            size, dict(sorted(types.items())), self._currency, members, contracts, *sums, meters.readings, meters.rows,
            meters.corrected, meters.passed_over, meters.unseen, sum(bool(account.key) for account in engine.accounts),
            self._signatures.changes, self._clock.lateness(), self._decisions.found, self._signatures.unsigned(),
            self._first_at, self._last_at,
        )  # fmt: skip

    # --- stopping and going on ---------------------------------------------------------------------------------------

    @classmethod
    def begin(
        cls,
        engine: Engine,
        currency: str,
        rules: Sequence[str],
        readings: Iterable[tuple[Fields, list[bytes]]],
        signed: Iterable[Fields] = (),
        each: Callable[[Any], None] | None = None,
        origin: str = "",
    ) -> Judge:
        """Return a judge that begins with a state instead of with the first entry.

        ``rules``: hashes of the rulebooks published before it. ``readings``: the ``readings`` entries before it, with their
        rows, of contracts that are still to be settled. ``signed``: the signed orders in these contracts before it. Raises
        ``Wrong``.
        """
        judge = cls(engine, each)
        judge._currency = currency
        judge._signatures = Signatures(engine, rules, origin)
        judge._meters.begin(engine.provisional)
        for entry in signed:
            judge._signatures.remember(entry)
        for entry, rows in readings:
            problem = judge._meters.take(entry, judge._decoded(entry, rows), engine)
            if problem:
                raise Wrong(placed(entry), problem)
        return judge

    def values(self) -> dict[str, Any]:
        """Return everything but the engine as JSON can hold it; only behind a seal."""
        return {
            "types": dict(self._types),
            "currency": self._currency,
            "first_at": self._first_at,
            "last_at": self._last_at,
            "sums": list(self._sums),
            "meters": self._meters.values(),
            "clock": self._clock.values(),
            "decisions": list(self._decisions.found),
            "signatures": self._signatures.values(),
        }

    @classmethod
    def restore(cls, engine: Engine, values: Mapping[str, Any], each: Callable[[Any], None] | None = None) -> Judge:
        """Return the judge that ``values`` and its engine stood for."""
        judge = cls(engine, each)
        judge._types.update(values["types"])
        judge._currency = values["currency"]
        judge._first_at, judge._last_at = values["first_at"], values["last_at"]
        energy_wh, paid_e7, fee_e7 = values["sums"]
        judge._sums = energy_wh, paid_e7, fee_e7
        judge._meters = Meters.restore(values["meters"])
        judge._clock = Clock.restore(engine, values["clock"])
        judge._decisions = Decisions.restore(values["decisions"])
        judge._signatures = Signatures.restore(engine, values["signatures"])
        return judge


def _added(sums: tuple[int, int, int], contract: Contract, place: str) -> tuple[int, int, int]:
    """Return the sums with a contract's: Wh bought, e7 paid, e7 of it grid fees; its positions must add up to 0."""
    energy_wh, paid_e7, fee_e7 = sums
    sold_wh = bought_wh = 0
    for tally in contract.tallies.values():
        bought_wh += tally.bought_wh
        sold_wh += tally.sold_wh
        paid_e7 += tally.paid_e7
        fee_e7 += tally.fee_e7
    if bought_wh != sold_wh:
        raise Wrong(place, f"totals: expected {ENERGY}:0 in {contract.name}, was {bought_wh - sold_wh}")
    return energy_wh + bought_wh, paid_e7, fee_e7


def placed(entry: Fields, seq: object = None) -> str:
    """Return what an entry is called: ``entry 412 (trade, 2026-06-06T12:15:00.000Z)``."""
    number = entry.get("seq") if seq is None else seq
    return f"entry {number} ({entry.get('type')}, {entry.get('at')})"


def described(divergence: Divergence) -> Wrong:
    """Return a divergence as a sentence: where both are entries of one type, only the fields that differ."""
    expected, was, seq = divergence.expected, divergence.was, divergence.seq
    if not isinstance(was, Mapping):
        return Wrong(f"entry {seq}", f"expected {shown(expected)}, was {shown(was)}")
    place = placed(was, seq)
    if isinstance(expected, Mapping) and expected.get("type") == was.get("type"):
        fields = [name for name in (*expected, *(was.keys() - expected.keys())) if expected.get(name) != was.get(name)]
        return Wrong(
            place,
            "; ".join(
                f"{name}: expected {expected.get(name, 'nothing')}, was {was.get(name, 'nothing')}" for name in fields
            ),
        )
    return Wrong(place, f"expected {shown(expected)}, was {shown(was)}")


def shown(value: object) -> str:
    """Return an entry, a refusal or a text in few words."""
    if isinstance(value, Refused):
        return "a refusal (" + ", ".join(filter(None, (value.code, value.field))) + ")"
    if isinstance(value, Mapping):
        told = " ".join(f"{name}={item}" for name, item in value.items() if name not in ("v", "seq", "type", "at"))
        return f"{value.get('type')} {told}"[:400]
    return str(value)[:400]
