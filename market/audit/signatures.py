"""Orders that their owners signed: the key the ledger names for the account, the very order, a rulebook in force. Pure.

This is what an operator cannot redo: all consequences of a changed order follow from the rules, its signature does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.core.note import fits
from market.engine import signing
from market.engine.commands import SignedOrder
from market.engine.engine import Engine
from market.engine.entries import time_ms
from market.engine.replay import Divergence, engine_part

# The market answers the same request the same way for so long: until then one signature places one order.
ONCE_MS = 48 * 3_600_000
RULEBOOKS = 2  # the one in force, and the one before: an order may have been under way while a new one was published

Fields = Mapping[str, Any]


def signed_by(command: object, account_id: str, public_key: str) -> bool:
    """Return whether a command read back from the ledger is an order that its account's key (hex) has signed."""
    if type(command) is not SignedOrder:
        return False
    text = signing.text(command.order, account_id, command.nonce, command.rules)
    return fits(public_key, command.signature, text)


class Signatures:
    """Checks signed orders, one after the other. ``rules``: hashes of the rulebooks published so far, hex."""

    def __init__(self, engine: Engine, rules: Sequence[str] = ()):
        self._engine = engine
        self._rules = list(rules)[-RULEBOOKS:]
        self._seen: dict[str, dict[str, int]] = {}  # contract: signature: when; of contracts that are not settled

    def publish(self, sha256: str) -> None:
        """A rulebook is in force from here on."""
        self._rules = [*self._rules, sha256][-RULEBOOKS:]

    def check(self, command: SignedOrder, entry: Fields) -> None:
        """Raise ``Divergence`` unless the owner of the account has signed this order, for once and under these rules."""
        engine, index = self._engine, command.account
        if type(index) is not int or not 0 <= index < len(engine.accounts) or not engine.accounts[index].key:
            return  # the engine refuses it
        account = engine.accounts[index]
        if not signed_by(command, account.id, account.key):
            raise Divergence(engine.seq, f"an order signed with the key of account {index}", engine_part(entry))
        if command.rules not in self._rules:
            wanted = f"an order signed under the rulebook {' or '.join(reversed(self._rules))}"
            raise Divergence(engine.seq, wanted, engine_part(entry))
        at_ms = time_ms(entry["at"])
        seen = self._seen.setdefault(str(entry["contract"]), {})
        before_ms = seen.get(command.signature)
        if before_ms is not None and at_ms - before_ms < ONCE_MS:
            raise Divergence(engine.seq, "a signature that places one order", engine_part(entry))
        seen[command.signature] = at_ms

    def remember(self, entry: Fields) -> None:
        """An order that was judged before this began: its signature has placed it."""
        self._seen.setdefault(str(entry["contract"]), {})[str(entry["sig"])] = time_ms(str(entry["at"]))

    def forget(self, contract: str) -> None:
        """A contract is settled: nothing can be placed in it any more."""
        self._seen.pop(contract, None)

    def values(self) -> dict[str, Any]:
        """Return all of this as JSON can hold it."""
        return {"rules": self._rules, "seen": self._seen}

    @classmethod
    def restore(cls, engine: Engine, values: Mapping[str, Any]) -> Signatures:
        """Return what ``values`` stood for."""
        made = cls(engine, values["rules"])
        made._seen = {contract: dict(seen) for contract, seen in values["seen"].items()}
        return made
