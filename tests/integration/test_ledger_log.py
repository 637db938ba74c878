"""The log in a real database: it grows, seals, starts again, serves, exports, proves, and notices every change."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import random
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.management import CommandError, call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections, transaction
from django.test import Client, override_settings

from ledger import keys, loading, queries
from ledger.core.encoding import encode
from ledger.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.core.note import Signer, open_checkpoint, parse_vkey
from ledger.core.receipt import parse_receipt, verify_receipt
from ledger.core.rows import rows_root
from ledger.core.source import Missing
from ledger.core.tiles import Place
from ledger.core.verify import Bad, verify_log
from ledger.exports import export
from ledger.models import Checkpoint, Entry, HashTile, Row, Rulebook
from ledger.operations import Log, publish_rulebook
from ledger.sources import DatabaseSource, FolderSource, HttpSource, SourceFailed
from market.households.operations import issue_key
from tests.unit.ledger_logs import SALT, STATE, span, time_text

pytestmark = pytest.mark.django_db
ORIGIN = "sunledger.example/test"
RULEBOOK = "# Rules\n\nBe kind.\n"


@pytest.fixture(autouse=True)
def own_keys(tmp_path: Path) -> Iterator[None]:
    """Give every test keys of its own and a closed ledger."""
    files = {"LEDGER_KEY_FILE": tmp_path / "keys" / "key", "LEDGER_SALT_FILE": tmp_path / "keys" / "salt"}
    with override_settings(**files, LEDGER_ORIGIN=ORIGIN, LEDGER_OPEN=False):
        yield


class Writer:
    """Does to the log what the exchange does: leaves and seals, all rows of a batch in one transaction."""

    def __init__(self) -> None:
        self.log = Log.load()
        self.rules = publish_rulebook(RULEBOOK)

    def entry(self, type_: str, **fields: int | str) -> int:
        seq = self.log.size
        made = {"v": 1, "seq": seq, "type": type_, "at": time_text(seq), "salt": SALT, **fields}
        self.log.append(encode(made))
        return seq

    def found(self) -> None:
        self.entry("genesis", origin=ORIGIN, currency="EUR", vkey=self.log.vkey, rulebook_sha256=self.rules)

    def orders(self, count: int) -> None:
        for number in range(count):
            self.entry("order", account=number, price_e4=2850)

    def readings(self, count: int) -> int:
        rows = [encode({"account": n, "import_wh": n, "salt": SALT}) for n in range(count)]
        seq = self.entry("readings", count=count, root=rows_root(rows).hex())
        self.log.add_rows(seq, rows)
        return seq

    def seal(self) -> None:
        first, height = self.log.sealed_size, self.log.height + 1
        fields = self.log.seal_fields(state=STATE, totals={"EUR": 0, "Wh": 0}, rules=self.rules)
        self.entry("seal", height=height, first=first, count=self.log.size + 1 - first, **fields)
        self.log.sign(height=height, at_ms=self.log.size)

    def commit(self) -> None:
        with transaction.atomic():
            for model, rows in self.log.take_rows():
                names = [field.attname for field in model._meta.concrete_fields if field.column]
                model.objects.bulk_create([model(**dict(zip(names, row, strict=True))) for row in rows])


def write_log(*blocks: int) -> Writer:
    """Return a writer that has written a founding, blocks of so many orders, and readings in the first."""
    writer = Writer()
    writer.found()
    for number, count in enumerate(blocks):
        if number == 0:
            writer.readings(4)
        writer.orders(count)
        writer.seal()
        writer.commit()
    return writer


def verify() -> None:
    source = DatabaseSource()
    verify_log(source, [parse_vkey(keys.verifier_key())], source.heads())


def flip(text: str, at: int) -> str:
    """Return the text with one character changed to another of its kind."""
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


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


def test_a_damaged_log_is_not_written_to() -> None:
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
        Log.load(Signer("another.example", bytes(32)))
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
    with pytest.raises(CommandError, match="nothing is sealed"):
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


# --- the web ----------------------------------------------------------------------------------------------------------


def new_key(user: object, scopes: list[str]) -> str:
    """Return the secret of a new API key."""
    return issue_key(user=user, name="verifier", scopes=scopes, now=datetime.now(UTC)).token


def test_heads_and_hash_tiles_are_public_entries_and_rows_are_not(client: Client) -> None:
    write_log(5, 300)
    response = client.get("/ledger/checkpoint")
    assert response.content.decode() == queries.checkpoint()
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Cache-Control"] == "public, max-age=1"
    tile = client.get("/ledger/tile/0/000")
    assert (len(tile.content), tile["Content-Type"]) == (8192, "application/octet-stream")
    assert tile["Cache-Control"] == "public, max-age=31536000, immutable"
    assert client.get("/ledger/tile/0/000.p/7").content == tile.content[: 7 * 32]
    assert client.get("/ledger/tile/1/000.p/1").status_code == 200
    assert "immutable" not in client.get("/ledger/tile/0/001.p/52")["Cache-Control"]
    rulebook = client.get(f"/ledger/rulebook/{queries.entry(0)['rulebook_sha256']}")
    assert rulebook.content.decode() == RULEBOOK
    for path in ("tile/entries/000", "tile/entries/001.p/52", "rows/1", "rows/x", "tile/entries/007"):
        response = client.get(f"/ledger/{path}")
        assert (response.status_code, response["Content-Type"]) == (401, "application/problem+json")
        assert (response.json()["code"], response["WWW-Authenticate"]) == ("not_authenticated", "Bearer")
        assert response.json()["type"] == "urn:sunledger:problem:not_authenticated"
    with override_settings(LEDGER_OPEN=True):
        response = client.get("/ledger/tile/entries/000")
        assert response["Cache-Control"] == "private, max-age=31536000, immutable"
        assert response.content == queries.tile(Place(-1, 0, 256))
        assert client.get("/ledger/rows/1").content == queries.rows_file(1)


@pytest.mark.parametrize(
    ("role", "status"), [("regulator", 200), ("operator", 200), ("staff", 200), ("household", 403)]
)
def test_entries_are_for_those_who_watch_the_market(role: str, status: int, django_user_model: type) -> None:
    write_log(5)
    client = Client()
    client.force_login(django_user_model.objects.create(username="rita", role=role))
    assert client.get("/ledger/tile/entries/000.p/8").status_code == status
    assert client.get("/ledger/rows/1").status_code == status


@pytest.mark.parametrize(
    ("role", "scopes", "status"),
    [("regulator", ["ledger:read"], 200), ("operator", ["operate"], 403), ("household", ["read"], 403)],
)
def test_keys_with_the_scope_open_entries(
    client: Client, role: str, scopes: list[str], status: int, django_user_model: type
) -> None:
    write_log(5)
    user = django_user_model.objects.create(username="rita", role=role)
    path = "/ledger/tile/entries/000.p/8"
    token = new_key(user, scopes)
    assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == status
    assert client.get("/ledger/rows/1", headers={"Authorization": f"bearer {token}"}).status_code == status
    for wrong in (f"Bearer {token}x", f"Basic {token}", "Bearer", "Bearer \x00"):
        assert client.get(path, headers={"Authorization": wrong}).status_code == 401
    with override_settings(LEDGER_ACCESS=""):
        assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 401


@override_settings(LEDGER_OPEN=True)
def test_what_the_log_does_not_have_is_a_problem_with_a_code(client: Client) -> None:
    for path in ("checkpoint", "tile/0/000.p/1"):
        assert client.get(f"/ledger/{path}").status_code == 404
    write_log(5)
    for path in (
        "tile/0/000", "tile/0/000.p/9", "tile/0/000.p/256", "tile/0/000.p/0", "tile/0/001.p/1", "tile/1/000.p/1",
        "tile/0/0", "tile/x/000", "tile/9/000", "tile/entries/000", "tile/entries/000.p/9",
        "tile/0/x999/x999/x999/x999/x999/999", "tile/0/../0/000", "rows/0", "rows/-1", "rows/%F0%9F%98%80",
        "rows/99999999999999999999", "rows/9223372036854775807", "rulebook/abc", "rulebook/" + "0" * 64, "nix",
    ):  # fmt: skip
        response = client.get(f"/ledger/{path}")
        assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json"), path
        assert response.json()["code"] == "not_found"
        assert "(" not in response.json()["detail"]
    assert "tile/0/000.p/9." in client.get("/ledger/tile/0/000.p/9").json()["detail"]
    response = Client(enforce_csrf_checks=True).put("/ledger/checkpoint")
    assert (response.status_code, response["Allow"], response.json()["code"]) == (
        405,
        "GET, HEAD",
        "method_not_allowed",
    )
    assert client.head("/ledger/checkpoint").status_code == 200


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.mark.django_db(transaction=True)
def test_a_running_server_is_verified_with_a_key(monkeypatch: pytest.MonkeyPatch, django_user_model: type) -> None:
    write_log(5, 300)
    token = new_key(django_user_model.objects.create(username="rita", role="regulator"), ["ledger:read"])
    app = get_wsgi_application()

    def serve(environ: dict, start_response: object) -> object:
        try:
            return app(environ, start_response)
        finally:
            connections.close_all()

    server = make_server("127.0.0.1", 0, serve, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        with override_settings(ALLOWED_HOSTS=["127.0.0.1"]):
            out = StringIO()
            call_command("verify_ledger", url, key=token, stdout=out)
            assert "entries 309, blocks 2" in out.getvalue()
            monkeypatch.setenv("LEDGER_KEY", token)
            call_command("verify_ledger", f"{url}/ledger/", vkey=[keys.verifier_key()], stdout=out)
            assert "(given with --vkey)" in out.getvalue()
            monkeypatch.delenv("LEDGER_KEY")
            with pytest.raises(CommandError, match="ledger:read"):
                call_command("verify_ledger", url)
            with pytest.raises(CommandError, match="404"):
                call_command("verify_ledger", f"{url}/elsewhere")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(SourceFailed, match="refused"):
        HttpSource(url)("checkpoint")
    with pytest.raises(SourceFailed, match="web address"):
        HttpSource("ftp://127.0.0.1")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    made = keys.load_or_make(path)
    assert keys.load_or_make(path) == made != bytes(32)
    assert len(made) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    for mode in (0o640, 0o604, 0o620, 0o700 | 0o004):
        path.chmod(mode)
        with pytest.raises(keys.KeyFileError, match="0600"):
            keys.load_or_make(path)


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 31, "00" * 33, "00" * 32 + "x"])
def test_a_key_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(keys.KeyFileError, match="hex"):
        keys.load_or_make(path)


def test_many_starters_make_one_key(tmp_path: Path) -> None:
    path, seen, gate = tmp_path / "new" / "key", [], threading.Barrier(8)

    def start() -> None:
        gate.wait()
        seen.append(keys.load_or_make(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert list(path.parent.iterdir()) == [path]


def test_salts_are_hmacs_and_differ() -> None:
    secret = keys.salt_secret()
    assert keys.salt(secret, 412) == hmac.new(secret, b"412", hashlib.sha256).hexdigest()[:32]
    assert len({keys.salt(secret, seq) for seq in range(1000)}) == 1000
    assert secret == keys.salt_secret()
