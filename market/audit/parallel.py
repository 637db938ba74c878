"""The verifier in a process of its own, so that hashes and the auction are worked through side by side on two cores.

It hands over the bytes it has verified: what is judged is what was hashed, whatever the source answers to another request.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import orjson

from ledger.core.findings import Bad, Bundle, Position, Report
from ledger.core.note import VerifierKey
from ledger.core.quorum import under
from ledger.core.verify import verify_log
from ledger.files import SourceFailed, open_files

# Orders, accounts and tallies live on, and what does not has no cycles: at Python's default of 700 new objects the collector
# would walk over all of them again and again and find nothing.
COLLECT_AFTER = (200_000, 50, 100)
STOPPED_S = 10.0  # how long a process that has sent its last word may take to end


def _verify(
    pipe: Connection,
    where: str,
    key: str,
    note: bytes,
    vkeys: Sequence[VerifierKey],
    start: Position | None,
    mark_every: int,
) -> None:
    """Verify and send what is found: bundles without their decoded entries, then a report or what is wrong."""

    gc.set_threshold(*COLLECT_AFTER)

    def send(bundle: Bundle) -> None:
        pipe.send(bundle._replace(entries=[]))

    try:
        last: object = verify_log(
            under(note, open_files(where, key)), vkeys, each=send, start=start, mark_every=mark_every
        )
    except Bad as bad:
        last = ("bad", bad.place, bad.what)
    except SourceFailed as error:
        last = ("failed", str(error))
    except (BrokenPipeError, KeyboardInterrupt):
        return  # nobody listens any more
    pipe.send(last)
    pipe.close()


def verify_beside(
    where: str,
    key: str,
    note: bytes,
    vkeys: Sequence[VerifierKey],
    each: Callable[[Bundle], None],
    start: Position | None,
    mark_every: int,
) -> Report:
    """Do what ``verify_log`` does under a head, in another process; raise ``Bad`` or ``SourceFailed`` as it would."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_verify, args=(there, where, key, note, vkeys, start, mark_every), daemon=True)
    process.start()
    there.close()
    try:
        while True:
            try:
                said = here.recv()
            except EOFError:
                raise SourceFailed("expected the verifying process to end with a report, it ended without") from None
            if isinstance(said, Bundle):
                each(said._replace(entries=list(map(orjson.loads, said.leaves))))
            elif isinstance(said, Report):
                process.join(STOPPED_S)
                return said
            elif said[0] == "bad":
                raise Bad(said[1], said[2])
            else:
                raise SourceFailed(said[1])
    finally:
        here.close()
        if process.is_alive():
            process.terminate()
            process.join(STOPPED_S)
