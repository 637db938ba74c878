"""Start-up is recovery: newest snapshot, replay of the entries after it, comparison, and only then the market opens."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from ledger.core.note import NoteError, open_checkpoint, parse_vkey
from ledger.core.tiles import TileTree, levels
from ledger.keys import KeyFileError, salt_secret
from ledger.loading import LogDamaged, edge
from ledger.operations import Log
from market.engine.engine import Engine
from market.engine.replay import Divergence, replay
from market.exchange.idempotency import Keys
from market.exchange.journal import Journal
from market.exchange.leaves import Leaves
from market.exchange.outcomes import RecoveryFailed
from market.exchange.rebuild import events_between
from market.exchange.sealer import Sealer
from market.exchange.stores import Fetches, PostgresStore, SqliteStore, Store, open_store

logger = logging.getLogger(__name__)

LEAVES_AT_ONCE = 10_000  # rows of one query, about 3 MB


class Recovered(NamedTuple):
    """Everything the writer needs, as of the last durable batch."""

    engine: Engine
    store: PostgresStore | SqliteStore
    journal: Journal
    keys: Keys
    sealer: Sealer
    snapshot_seq: int


def recover(published_file: Path) -> Recovered:
    """Take the writer's place and rebuild its state; raise ``AlreadyRunning`` or ``RecoveryFailed``."""
    store = open_store()
    try:
        return _recover(store, published_file)
    except BaseException:
        store.close()
        raise


def _recover(store: PostgresStore | SqliteStore, published_file: Path) -> Recovered:
    started_s = time.monotonic()
    try:
        log = Log.load()
    except LogDamaged as error:
        raise RecoveryFailed(f"the stored log is damaged: {error}") from error
    except KeyFileError as error:
        raise RecoveryFailed(f"the log cannot be signed: {error}") from error
    check_published(log, published_file)
    engine, snapshot_seq = load_engine(store)
    replayed = engine.seq
    try:
        replay(engine, stored_leaves(store, engine.seq, log.size), lambda seq: stored_rows(store, seq))
    except Divergence as error:
        raise RecoveryFailed(
            f"entry {error.seq}: the replay gives another event than the ledger has; expected {error.expected}, "
            f"was {error.was}"
        ) from error
    if engine.seq != log.size:
        raise RecoveryFailed(f"the replay ends after {engine.seq} entries, the ledger has {log.size}")
    check_balances(store, engine)
    keys = Keys(store, events_between)
    keys.load()
    leaves = Leaves(salt_secret())
    journal = Journal(engine, log, store, keys, leaves)
    sealer = Sealer(engine, log, journal, leaves, published_file)
    if log.size:
        seal = leaf_at(store, log.sealed_size - 1) if log.sealed_size else None
        sealer.restore(stored_leaves(store, log.sealed_size, log.size), leaf_at(store, 0), seal)
    logger.info(
        "recovered %d entries in %.1f s: snapshot after %d, %d replayed", engine.seq, time.monotonic() - started_s,
        snapshot_seq, engine.seq - replayed,
    )  # fmt: skip
    return Recovered(engine, store, journal, keys, sealer, snapshot_seq)


def check_published(log: Log, published_file: Path) -> None:
    """Compare the database with what was published last; raise ``RecoveryFailed`` when it is older or differs.

    A market that went on from an older database would sign a second history, which no verifier would forgive.
    """
    if not published_file.exists():
        if log.size:
            logger.warning("%s is missing: cannot tell whether this database is the newest", published_file)
        return
    try:
        # Signed by any key the log has ever named: it may have been published just before one was revoked.
        known = list(log.keyring.known.values()) or [parse_vkey(log.vkey)]
        published = open_checkpoint(published_file.read_bytes(), known)
    except NoteError as error:
        raise RecoveryFailed(f"{published_file}: expected a checkpoint, was: {error}") from error
    if published.size > log.size:
        raise RecoveryFailed(
            f"the database is older than the published log: it has {log.size} entries, {published_file} says "
            f"{published.size} were published. Restore the newest database; never go on from an older one."
        )
    was = root_at(published.size)
    if was != published.root:
        raise RecoveryFailed(
            f"the database holds another history than the published log: at {published.size} entries its root is "
            f"{was.hex()}, {published_file} says {published.root.hex()}"
        )


def root_at(size: int) -> bytes:
    """Return the stored log's root over its first ``size`` entries."""
    return TileTree.restore(size, [edge(size, level) for level in range(levels(size))]).root()


def stored_leaves(store: Store, first: int, size: int) -> Iterator[bytes]:
    """Yield the leaves from ``first`` to the log's end; raise ``RecoveryFailed`` when one is missing."""
    for start in range(first, size, LEAVES_AT_ONCE):
        end = min(start + LEAVES_AT_ONCE, size)
        rows = store.fetch("SELECT leaf FROM ledger_entry WHERE seq >= %s AND seq < %s ORDER BY seq", [start, end])
        if len(rows) != end - start:
            raise RecoveryFailed(f"entries {start} to {end - 1}: expected {end - start}, was {len(rows)}")
        for (leaf,) in rows:
            yield bytes(leaf)


def leaf_at(store: Store, seq: int) -> bytes:
    """Return one stored leaf."""
    return bytes(store.fetch("SELECT leaf FROM ledger_entry WHERE seq = %s", [seq])[0][0])


def stored_rows(store: Store, seq: int) -> list[bytes]:
    """Return the rows beside a readings or settle entry."""
    rows = store.fetch("SELECT data FROM ledger_row WHERE seq = %s ORDER BY number", [seq])
    return [bytes(data) for (data,) in rows]


def load_engine(store: Fetches) -> tuple[Engine, int]:
    """Return the engine of the newest snapshot that the ledger confirms and this version reads, and its sequence.

    Without any: an empty engine, into which the whole ledger is replayed.
    """
    for seq, sha256 in store.fetch("SELECT seq, sha256 FROM exchange_snapshot ORDER BY seq DESC"):
        data = bytes(store.fetch("SELECT data FROM exchange_snapshot WHERE seq = %s", [seq])[0][0])
        leaf = store.fetch("SELECT leaf FROM ledger_entry WHERE seq = %s", [seq])
        committed = orjson.loads(bytes(leaf[0][0])).get("sha256") if leaf else None
        was = hashlib.sha256(data).hexdigest()
        if was != sha256 or was != committed:
            logger.error(
                "snapshot after %d entries: expected SHA-256 %s, was %s; trying an older one", seq, committed, was
            )
            continue
        try:
            return Engine.load(data), seq
        except ValueError as error:  # of another version of this program: the entries say the same, only slower
            logger.warning("snapshot after %d entries: %s; trying an older one", seq, error)
    return Engine(), 0


def check_balances(store: Store, engine: Engine) -> None:
    """Raise ``RecoveryFailed`` unless the balances readers see are those of the recovered state."""
    stored = {
        row[0]: tuple(row[1:])
        for row in store.fetch("SELECT account, cash_e7, held_e7, arrears_e7 FROM exchange_balance")
    }
    if len(stored) != len(engine.accounts):
        raise RecoveryFailed(f"expected {len(engine.accounts)} balances, was {len(stored)}")
    for account in engine.accounts:
        expected = (account.cash_e7, account.held_e7, account.arrears_e7)
        if stored.get(account.index) != expected:
            raise RecoveryFailed(
                f"account {account.index}: the replay gives cash, held, arrears of {expected} e7, the database has "
                f"{stored.get(account.index)}"
            )
