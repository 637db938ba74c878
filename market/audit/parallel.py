"""The verifier in a process of its own, so that hashes and the auction are worked through side by side on two cores; and
signatures of orders in others, for a core checks some 15,000 a second.

It hands over the bytes it has verified: what is judged is what was hashed, whatever the source answers to another request.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

import orjson

from ledger.core.findings import Bad, Bundle, Position, Report
from ledger.core.note import VerifierKey, fits
from ledger.core.quorum import under
from ledger.core.verify import verify_log
from ledger.files import SourceFailed, open_files
from market.audit.signatures import SignedText

# Orders, accounts and tallies live on, and what does not has no cycles: at Python's default of 700 new objects the collector
# would walk over all of them again and again and find nothing.
COLLECT_AFTER = (200_000, 50, 100)
STOPPED_S = 10.0  # how long a process that has sent its last word may take to end


CLAIMS = 512  # signatures a process is given at once: some 30 ms of work
MAX_SENT = 64  # such parts under way; then the judge waits for the oldest


def _unfit(claims: list[tuple[str, str, bytes]]) -> list[int]:
    """Return which of the signatures do not fit: key, signature, text."""
    return [number for number, claim in enumerate(claims) if not fits(*claim)]


class SignaturePool:
    """Processes that check signatures, started when the first part is full. Answers are read in the order of the questions."""

    def __init__(self, processes: int):
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._part: list[SignedText] = []
        self._sent: deque[tuple[Future[list[int]], list[SignedText]]] = deque()
        self._wrong: SignedText | None = None

    def take(self, claim: SignedText) -> None:
        """Have this checked."""
        self._part.append(claim)
        if len(self._part) >= CLAIMS:
            self._send()

    def _send(self) -> None:
        part, self._part = self._part, []
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._processes, multiprocessing.get_context("spawn"))
        try:
            answer = self._pool.submit(_unfit, _plain(part))
        except BrokenProcessPool:
            answer = Future()
            answer.set_result(_unfit(_plain(part)))
        self._sent.append((answer, part))
        if len(self._sent) > MAX_SENT:
            self._read()

    def _read(self) -> None:
        answer, part = self._sent.popleft()
        try:
            unfit = answer.result()
        except BrokenProcessPool:  # somebody has ended a process: what it was asked is answered here
            unfit = _unfit(_plain(part))
        if unfit and self._wrong is None:
            self._wrong = part[unfit[0]]

    def found(self) -> bool:
        """Return whether something is known not to fit, without waiting."""
        while self._sent and self._sent[0][0].done():
            self._read()
        return self._wrong is not None

    def first_wrong(self) -> SignedText | None:
        """Wait for all that was taken, and return the first that does not fit."""
        while self._sent:
            self._read()
        part, self._part = self._part, []
        for number in _unfit(_plain(part))[:1]:  # not worth a process
            self._wrong = self._wrong or part[number]
        return self._wrong

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _plain(part: list[SignedText]) -> list[tuple[str, str, bytes]]:
    return [(claim.public_key, claim.signature, claim.text) for claim in part]


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
