"""The log in a real database: it grows, seals, starts again, exports, proves, and notices every change."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ledger import loading, queries
from ledger.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.core.note import Signer, open_checkpoint, parse_vkey
from ledger.core.receipt import parse_receipt, verify_receipt
from ledger.core.source import Missing
from ledger.core.tiles import Place
from ledger.core.verify import Bad, verify_log
from ledger.exports import export
from ledger.management.commands.verify_ledger import rows_told, rulebooks_told
from ledger.models import Checkpoint, Entry, HashTile, Row, Rulebook
from ledger.operations import Log
from ledger.signing import FileKeys
from ledger.sources import FolderSource
from tests.integration.ledger_writer import ORIGIN, RULEBOOK, Writer, flip, verify, write_log
from tests.unit.ledger_logs import span

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_keys")]


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("root", lambda old: flip(old, 5)),
        ("height", lambda old: old + 50),
        ("first", lambda old: old + 1),
        ("note", lambda old: flip(old, old.index("\n") + 1)),  # its size
        ("note", lambda old: flip(old, old.index("\n", old.index("\n") + 1) + 3)),  # its root
        ("note", lambda old: flip(old, len(old) - 9)),  # its signature
        ("note", lambda old: "nonsense"),
        ("note", lambda old: write_log_note(old)),
    ],
    ids=["root", "height", "first", "size in the note", "root in the note", "signature", "no note", "another note"],
)
def test_a_changed_checkpoint_row_is_named(field: str, changed: Callable[[Any], Any]) -> None:
    write_log(5, 300, 2)
    sizes = list(Checkpoint.objects.order_by("size").values_list("size", flat=True))
    verify()
    for size in sizes[:-1]:
        row = Checkpoint.objects.get(size=size)
        was = getattr(row, field)
        Checkpoint.objects.filter(size=size).update(**{field: changed(was)})
        with pytest.raises(CommandError, match=f"stored checkpoint {size}: {field}"):
            call_command("verify_ledger")
        Checkpoint.objects.filter(size=size).update(**{field: was})
    verify()


def write_log_note(old: str) -> str:
    """Return a note that is signed as it should be, of another seal."""
    return next(note for note in Checkpoint.objects.values_list("note", flat=True) if note != old)


def test_the_newest_row_must_have_the_root_too() -> None:
    write_log(5, 3)
    newest = queries.newest()
    Checkpoint.objects.filter(size=newest.size).update(root="0" * 64)
    with pytest.raises(Bad, match=f"stored checkpoint {newest.size}: root"):
        verify()


def test_each_seal_has_its_row_and_no_other_is_there() -> None:
    write_log(5, 3, 2)
    first, second, _ = Checkpoint.objects.order_by("size")
    Checkpoint.objects.filter(size=second.size).delete()
    with pytest.raises(Bad, match=f"stored checkpoint {second.size}: .*missing"):
        verify()
    second.save(force_insert=True)
    Checkpoint.objects.create(size=first.size + 1, height=99, first=0, at_ms=0, root=first.root, note=first.note)
    with pytest.raises(Bad, match=f"stored checkpoint {first.size + 1}: .*none is there"):
        verify()


def test_a_log_grows_over_restarts_and_verifies() -> None:
    roots = {}
    write_log(5)
    for count in (0, 1, 250, 300, 3):
        writer = Writer()
        assert writer.log.size == queries.size()
        writer.orders(count)
        writer.seal()
        writer.commit()
        roots[writer.log.size] = writer.log.root()
        assert Log.load().root() == writer.log.root()
        verify()
    for size, root in roots.items():
        assert writer.log.root_at(size) == root
        assert open_checkpoint(queries.checkpoint(size).encode(), [parse_vkey(writer.log.vkey)]).root == root
    sizes = sorted(roots)
    for old, new in itertools.pairwise(sizes):
        verify_consistency(old, new, roots[old], roots[new], queries.consistency(old, new))


def test_what_is_not_sealed_is_kept_and_not_served() -> None:
    writer = write_log(10)
    sealed = writer.log.size
    writer.orders(5)
    writer.commit()
    again = Log.load()
    assert (again.size, again.sealed_size, again.height) == (sealed + 5, sealed, 1)
    assert queries.tile(Place(0, 0, sealed))
    for place in (Place(0, 0, sealed + 1), Place(-1, 0, sealed + 1), Place(0, 1, 1)):
        with pytest.raises(queries.NotThere):
            queries.tile(place)
    with pytest.raises(queries.NotThere):
        queries.receipt(sealed)
    verify()


def test_a_seal_out_of_order_is_not_signed() -> None:
    writer = write_log(3)
    with pytest.raises(ValueError, match="block 2"):
        writer.log.sign(height=2, at_ms=0)  # nothing new
    writer.orders(1)
    with pytest.raises(ValueError, match="block 2"):
        writer.log.sign(height=3, at_ms=0)


def test_entries_blocks_and_receipts_are_found() -> None:
    writer = write_log(5, 300, 7)
    assert queries.entry(0)["type"] == "genesis"
    assert [entry["seq"] for entry in queries.entries(3, 4)] == [3, 4, 5, 6]
    assert len(list(queries.iter_leaves())) == writer.log.size
    blocks = queries.blocks(2)
    assert [block.height for block in blocks] == [3, 2]
    assert queries.blocks(9, before=2) == [queries.block(1)]
    assert queries.block_of(8) == queries.block(2) == blocks[1]
    assert (blocks[1].first, blocks[1].count, blocks[1].size) == (8, 301, 309)
    for wrong in (-1, 10**30, writer.log.size):
        for query in (queries.leaf, queries.block, queries.block_of, queries.inclusion, queries.rows_file):
            with pytest.raises(queries.NotThere):
                query(wrong)
    for seq in (0, 8, 255, 256, 308, writer.log.size - 1):
        proof = queries.inclusion(seq)
        path = [bytes.fromhex(hash_) for hash_ in proof.hashes]
        verify_inclusion(seq, proof.size, leaf_hash(queries.leaf(seq)), path, bytes.fromhex(proof.root))
        out = StringIO()
        call_command("prove", str(seq), stdout=out)
        verify_receipt(parse_receipt(out.getvalue()), queries.leaf(seq), [parse_vkey(writer.log.vkey)])
    with pytest.raises(CommandError, match="sealed entry"):
        call_command("prove", "99999")


def test_a_snapshot_entry_tells_its_hash() -> None:
    writer = write_log(1)
    seq = writer.entry("snapshot", sha256="ab" * 32)
    writer.commit()
    assert queries.snapshot_sha256(seq) == "ab" * 32
    assert queries.snapshot_sha256(0) is None
    assert queries.snapshot_sha256(seq + 1) is None


@pytest.mark.parametrize("seed", range(25))
def test_a_changed_byte_in_the_database_is_named(seed: int) -> None:
    """One bit of a leaf, a stored tile, a row or the checkpoint; leaves of the partial tile have no other witness than
    the seal that follows, so there the block is named."""
    write_log(5, 250, 20, 4, 300, 3)
    dice = random.Random(seed)
    size = queries.size()
    if seed < 12:
        seq = dice.randrange(size) if seed % 2 else dice.randrange(size // 256 * 256, size)
        change(Entry.objects.get(seq=seq), "leaf", dice)
        with pytest.raises(Bad) as caught:
            verify()
        first, last = span(caught.value.place)
        block = queries.block_of(seq)
        assert first <= seq <= last
        if seq < size // 256 * 256:
            assert first == last
        else:
            assert block.first <= first and last < block.size
    elif seed < 18:
        tile = dice.choice(list(HashTile.objects.all()))
        change(tile, "data", dice)
        assert damaged().place == f"tile/0/{tile.number:03d}"
    elif seed < 20:
        tile = dice.choice(list(HashTile.objects.all()))
        change(tile, "root", dice)
        assert damaged().place == "tile/1/000.p/2"
    elif seed < 22:
        row = dice.choice(list(Row.objects.all()))
        change(row, "data", dice)
        assert damaged().place == "rows/1"
    elif seed < 24:
        newest = queries.newest()
        body = len(newest.note.split("\n\n")[0])
        at = dice.randrange(body)
        note = newest.note[:at] + chr(ord(newest.note[at]) ^ 1) + newest.note[at + 1 :]
        Checkpoint.objects.filter(size=newest.size).update(note=note)
        assert damaged().place == "checkpoint"
    else:
        Rulebook.objects.update(text=RULEBOOK + ".")
        assert damaged().place.startswith("rulebook/")


def damaged() -> Bad:
    with pytest.raises(Bad) as caught:
        verify()
    return caught.value


def change(row: Entry | HashTile | Row, field: str, dice: random.Random) -> None:
    data = bytearray(getattr(row, field))
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    type(row).objects.filter(pk=row.pk).update(**{field: bytes(data)})


def test_a_damaged_log_is_not_written_to(tmp_path: Path) -> None:
    write_log(5, 300)
    saved = bytes(Entry.objects.get(seq=300).leaf)
    Entry.objects.filter(seq=300).update(leaf=saved.replace(b"2850", b"2851"))
    with pytest.raises(loading.LogDamaged, match="root"):
        Log.load()
    Entry.objects.filter(seq=300).delete()
    with pytest.raises(loading.LogDamaged, match="entry 300: missing"):
        Log.load()
    Entry.objects.create(seq=300, leaf=saved)
    Log.load()
    with pytest.raises(loading.LogDamaged, match="origin"):
        Log.load(FileKeys("another.example", tmp_path / "key"))
    HashTile.objects.all().delete()
    with pytest.raises(loading.LogDamaged, match="rows below"):
        Log.load()
    Entry.objects.filter(seq__gte=290).delete()
    with pytest.raises(loading.LogDamaged, match="290 stored entries"):
        Log.load()


def test_missing_entries_are_named_by_the_verifier() -> None:
    write_log(5, 300)
    Entry.objects.filter(seq=270).delete()
    bad = damaged()
    assert bad.place == "tile/entries/001.p/53"
    assert "entry 270: missing" in bad.what


def test_an_exported_folder_verifies_and_every_changed_file_is_named(tmp_path: Path) -> None:
    writer = write_log(5, 300, 200)
    folder = tmp_path / "export"
    done = export(folder)
    assert done.files == sum(path.is_file() for path in folder.rglob("*"))
    assert done.size == writer.log.size == 510
    report = verify_log(FolderSource(folder))
    assert (report.size, report.rows, report.rulebooks, report.rulebooks_missing) == (510, 4, 1, 0)
    assert parse_vkey((folder / "log.vkey").read_text().strip()) == parse_vkey(report.vkey)
    dice = random.Random(3)
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name == "log.vkey":
            continue
        saved = path.read_bytes()
        for _ in range(10):
            changed = bytearray(saved)
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(CommandError) as caught:
                call_command("verify_ledger", str(folder))
            place = str(caught.value).split(": ", 1)[0]
            assert place == name or (name.startswith("tile/entries") and place.startswith("entry ")), caught.value
        path.write_bytes(saved)
    out = StringIO()
    call_command("verify_ledger", str(folder), stdout=out)
    assert "entries 510, blocks 3, seconds" in out.getvalue()
    assert "trusted on first use" in out.getvalue()
    assert "\nrows of readings and settlements: 4 verified, none is missing\n" in out.getvalue()
    assert "\nrulebooks: 1 verified, none is missing\n" in out.getvalue()
    for beside in [*folder.glob("rows/**/*"), *folder.glob("rulebook/*")]:
        if beside.is_file():
            beside.unlink()
    call_command("verify_ledger", str(folder), stdout=out)
    assert "none verified; those of 1 entry are not in this source and were not checked\n" in out.getvalue()
    assert "rulebooks: none verified; 1 is not in this source and was not checked\n" in out.getvalue()


def test_what_was_verified_and_what_was_not_is_a_sentence() -> None:
    assert rows_told(0, 0) == "rows of readings and settlements: the ledger has none yet"
    assert rows_told(5, 1).endswith(": 5 verified; those of 1 entry are not in this source and were not checked")
    assert rulebooks_told(0, 0) == "rulebooks: the ledger names none yet"
    assert rulebooks_told(3, 2) == "rulebooks: 3 verified; 2 are not in this source and were not checked"


def test_a_folder_gives_nothing_from_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "export").mkdir()
    for path in ("../secret", "tile/../../secret", "", "tile"):
        with pytest.raises(Missing):
            FolderSource(tmp_path / "export")(path)


def test_an_export_grows_with_the_log(tmp_path: Path) -> None:
    writer = write_log(5)
    export(tmp_path / "export")
    writer.orders(300)
    writer.seal()
    writer.commit()
    out = StringIO()
    call_command("export_ledger", str(tmp_path / "export"), stdout=out)
    assert out.getvalue().startswith("309 entries in ")
    assert verify_log(FolderSource(tmp_path / "export")).size == 309


def test_nothing_sealed_means_nothing_to_export_or_verify(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no checkpoint yet"):
        call_command("export_ledger", str(tmp_path / "export"))
    with pytest.raises(CommandError, match="checkpoint"):
        call_command("verify_ledger")
    with pytest.raises(CommandError, match="expected a folder"):
        call_command("verify_ledger", str(tmp_path / "nowhere"))
    with pytest.raises(CommandError, match="--vkey"):
        call_command("verify_ledger", vkey=["x"])


def test_the_command_verifies_the_database_with_the_own_key() -> None:
    writer = write_log(5)
    out = StringIO()
    call_command("verify_ledger", stdout=out)
    assert f"key {writer.log.vkey} (from " in out.getvalue()
    with pytest.raises(CommandError, match="checkpoint: expected a signature"):
        call_command("verify_ledger", vkey=[Signer(ORIGIN, bytes(32)).vkey])
