"""Which readings name the batch that a device signed: those that anybody can make of that batch alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from ledger import queries as ledger
from market.engine import signedvalues
from market.engine.engine import Engine
from market.engine.signedvalues import Energies
from market.exchange.exchange import Exchange
from market.metering.models import Batch

MAX_KEPT = 10_000  # batches whose values are kept while a call goes on
IN_ONE_QUERY = 500  # batches: SQLite takes 999 values


class Made(NamedTuple):
    """A reading as it was made, and the one batch that all of it is in, 0 where there is none."""

    batch: int
    import_wh: int
    export_wh: int


class _Proof(NamedTuple):
    source: str  # SHA-256 of the signed batch, hex; "" = it was not signed
    account_id: str
    said: dict[int, Energies | None]


class Proofs:
    """Looks up what signed batches say, each once as long as it is kept."""

    def __init__(self, exchange: Exchange, length_ms: int):
        self._exchange = exchange
        self._length_ms = length_ms
        self._known: OrderedDict[int, _Proof] = OrderedDict()

    def sources(self, start_ms: int, made: Mapping[int, Made]) -> dict[int, str]:
        """Return the SHA-256 of the signed batch by account, for readings of an interval that the batch says itself."""
        proofs = self._look_up({one.batch for one in made.values() if one.batch})
        proven = {
            account: proofs[one.batch]
            for account, one in made.items()
            if one.batch and proofs[one.batch].said.get(start_ms) == (one.import_wh, one.export_wh)
        }
        if not proven:
            return {}

        def ids(engine: Engine) -> dict[int, str]:
            return {account: engine.accounts[account].id for account in proven}

        # Signed for another number of the same person, it proves nothing of this one, and would join the two.
        account_ids = self._exchange.read(ids)
        return {account: one.source for account, one in proven.items() if account_ids[account] == one.account_id}

    def _look_up(self, batches: set[int]) -> dict[int, _Proof]:
        found = {number: self._known[number] for number in batches if number in self._known}
        wanted = sorted(batches - found.keys())
        for at in range(0, len(wanted), IN_ONE_QUERY):
            some = wanted[at : at + IN_ONE_QUERY]
            names = dict(Batch.objects.filter(pk__in=some).values_list("pk", "evidence"))
            kept = ledger.evidence_of({name for name in names.values() if name})
            for number in some:
                name = names.get(number, "")
                found[number] = self._known[number] = self._read(name, kept[name]) if name in kept else _NONE
        while len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)
        return found

    def _read(self, name: str, data: bytes) -> _Proof:
        try:
            batch = signedvalues.read(data)
            said = signedvalues.said(batch.values, batch.device, self._length_ms)
        except (ValueError, TypeError, KeyError, OverflowError):
            return _NONE
        return _Proof(name, batch.account_id, said)


_NONE = _Proof("", "", {})
