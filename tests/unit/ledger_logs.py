"""A small log made without a database: its files in a dict, for tests of what reads them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable

from ledger.core.blocks import first_prev, seal_fields
from ledger.core.encoding import encode
from ledger.core.keyring import key_statement
from ledger.core.merkle import leaf_hashes
from ledger.core.note import Signer, body_hash
from ledger.core.rows import join_rows, rows_root
from ledger.core.source import Missing, Source
from ledger.core.tiles import TILE_WIDTH, Tile, TileTree, encode_bundle, entries_path, levels, tile_path, widths

ORIGIN = "sunledger.example/test"
SEED = bytes(range(32))
RULES = "f" * 64
STATE = b"\x07" * 32
SALT = "00112233445566778899aabbccddeeff"


def time_text(step: int) -> str:
    """Return a time that grows with the step, one millisecond each."""
    minutes, ms = divmod(step, 60_000)
    return f"2026-06-06T12:{minutes:02d}:{ms // 1000:02d}.{ms % 1000:03d}Z"


class LogMaker:
    """Writes a log as the market does, entry by entry; ``files()`` is what it would export."""

    def __init__(self, origin: str = ORIGIN, seed: bytes = SEED):
        self.signer = Signer(origin, seed)
        self.leaves: list[bytes] = []
        self.tree = TileTree()
        self.tiles: list[Tile] = []
        self.height = 0
        self.first = 0
        self.prev = first_prev(origin)
        self.rules = RULES
        self.extra: dict[str, bytes] = {}
        self.head: tuple[int, bytes, str] = (0, b"", "")
        self.edges: list[list[bytes]] = []

    def add(self, type_: str, **fields: int | str) -> int:
        """Append an entry and return its index; fields override the usual ones."""
        seq = len(self.leaves)
        self.add_leaf(encode({"v": 1, "seq": seq, "type": type_, "at": time_text(seq), "salt": SALT, **fields}))
        return seq

    def add_leaf(self, leaf: bytes) -> None:
        self.leaves.append(leaf)
        self.tiles += self.tree.extend(leaf_hashes([leaf]))

    def found(self, **fields: int | str) -> None:
        base: dict[str, int | str] = {
            "origin": self.signer.name,
            "currency": "EUR",
            "vkey": self.signer.vkey,
            "rulebook_sha256": self.rules,
        }
        self.add("genesis", **(base | fields))

    def add_key(self, new: Signer, approver: Signer | None = None, **fields: int | str) -> int:
        """Add a key as it must be; fields override."""
        statement = key_statement(self.signer.name, new.vkey)
        made: dict[str, int | str] = {
            "action": "add",
            "vkey": new.vkey,
            "possession": base64.b64encode(new.sign_raw(statement)).decode(),
            "approval": base64.b64encode((approver or self.signer).sign_raw(statement)).decode(),
        }
        return self.add("key", **(made | fields))

    def orders(self, count: int) -> None:
        for _ in range(count):
            self.add("order", account=len(self.leaves) % 7, price_e4=2850, energy_wh=1500, side="buy")

    def readings(self, rows: list[bytes], **fields: int | str) -> int:
        seq = self.add("readings", **({"count": len(rows), "root": rows_root(rows).hex()} | fields))
        self.extra[f"rows/{seq}"] = join_rows(rows)
        return seq

    def seal(self, **fields: int | str) -> None:
        """Close the block; fields override what a seal must say."""
        seq = len(self.leaves)
        made: dict[str, int | str] = {
            "height": self.height + 1,
            "first": self.first,
            "count": seq + 1 - self.first,
            **seal_fields(
                prev=self.prev,
                root_before=self.tree.root(),
                state=STATE,
                totals={"EUR": 0, "Wh": 0},
                rules=self.rules,
            ),
        }
        self.add("seal", **(made | fields))
        self.height += 1
        self.first = seq + 1
        self.sign()

    def sign(self) -> None:
        """Sign the log as it is."""
        size, root = len(self.leaves), self.tree.root()
        self.head = (size, root, self.signer.sign_checkpoint(size, root))
        self.prev = body_hash(self.signer.name, size, root).hex()
        self.edges = [list(edge) for edge in self.tree.edges]

    def files(self) -> dict[str, bytes]:
        """Return the files of the log at its newest checkpoint."""
        size, _, note = self.head
        files = {"checkpoint": note.encode(), **self.extra}
        for tile in self.tiles:
            files[tile_path(tile.level, tile.number)] = tile.data
        for level in range(levels(size)):
            full, partial = widths(size, level)
            if partial:
                files[tile_path(level, full, partial)] = b"".join(self.edges[level])
        full, partial = widths(size, 0)
        for number in range(full + (partial > 0)):
            width = TILE_WIDTH if number < full else partial
            start = number * TILE_WIDTH
            files[entries_path(number, width)] = encode_bundle(self.leaves[start : start + width])
        return files


def make_log(blocks: Iterable[int] = (3, 250, 5, 300), rows: bool = True) -> LogMaker:
    """Return a log with this many orders a block, readings with rows in the second."""
    maker = LogMaker()
    for number, count in enumerate(blocks):
        if number == 0:
            maker.found()
        maker.orders(count)
        if number == 1 and rows:
            maker.readings([encode({"account": n, "import_wh": 10 * n, "salt": SALT}) for n in range(5)])
        maker.seal()
    return maker


def source(files: dict[str, bytes]) -> Source:
    """Return a source over a dict of files."""

    def read(path: str) -> bytes:
        try:
            return files[path]
        except KeyError:
            raise Missing(path) from None

    return read


def rewritten(change: Callable[[LogMaker], None]) -> dict[str, bytes]:
    """Return the files of a log whose operator did something wrong in its second block and signed it all the same."""
    maker = LogMaker()
    maker.found()
    maker.orders(3)
    maker.seal()
    change(maker)
    return maker.files()


def span(place: str) -> tuple[int, int]:
    """Return the first and last entry a place names."""
    first, _, last = place.removeprefix("entry ").removeprefix("entries ").partition(" to ")
    return int(first), int(last or first)
