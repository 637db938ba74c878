"""A log in a real database, written as the exchange writes it."""

from __future__ import annotations

from django.db import transaction

from ledger import keys
from ledger.core.encoding import encode
from ledger.core.note import parse_vkey
from ledger.core.rows import rows_root
from ledger.core.verify import verify_log
from ledger.operations import Log, publish_rulebook
from ledger.sources import DatabaseSource
from tests.unit.ledger_logs import SALT, STATE, time_text

ORIGIN = "sunledger.example/test"
RULEBOOK = "# Rules\n\nBe kind.\n"


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
        self.log.note_founder(self.log.vkey)

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
