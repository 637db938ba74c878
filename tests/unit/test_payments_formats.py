"""Bank files: what public samples say, what hostile ones get, and that ours are what the schema wants."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import sepaxml
import xmlschema

from market.payments.formats import camt053, pain001, references, safexml
from tests.bank import entry, statement

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "camt053"
SCHEMAS = Path(sepaxml.__file__).parent / "schemas"
IBAN = "DE75512108001245126199"


# --- references ------------------------------------------------------------------------------------------------------
def test_a_reference_has_the_check_digits_of_iso_11649() -> None:
    assert references.reference_of(539007547034) == "RF18539007547034"  # the standard's own example
    assert references.reference_of(0).startswith("RF") and len(references.reference_of(0)) == 16
    for bad in (-1, 10**12):
        with pytest.raises(ValueError):
            references.reference_of(bad)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RF18539007547034", ["RF18539007547034"]),
        ("rf18 5390 0754 7034", ["RF18539007547034"]),
        ("Sunledger RF18 5390 0754 7034 Mia", ["RF18539007547034"]),
        ("RF19539007547034", []),  # a digit is wrong
        ("RF18 5390 0754 7034 and RF18 5390 0754 7034", ["RF18539007547034"]),
        ("SL-0A1B2C3D4E5F thanks", ["SL-0A1B2C3D4E5F"]),
        ("", []),
        ("RF18", []),
    ],
)
def test_references_are_found_in_what_people_write(text: str, found: list[str]) -> None:
    assert references.references_in(text) == found


@pytest.mark.parametrize(
    "bad", ["", "DE75512108001245126198", "DE7551210800124512619", "XX00", "X" * 100, "DE75 5121\0"]
)
def test_an_iban_with_a_wrong_digit_is_none(bad: str) -> None:
    with pytest.raises(ValueError):
        references.plain_iban(bad)


def test_names_are_written_as_banks_take_them() -> None:
    assert references.plain_iban("de75 5121 0800 1245 1261 99") == IBAN
    assert references.bank_text(" Zoë  Müller-Groß ") == "Zoe Muller-Gross"
    for bad in ("", "米娅", "A" * 71, "Robert'); <x>"):
        with pytest.raises(ValueError):
            references.bank_text(bad)


# --- statements ------------------------------------------------------------------------------------------------------
def test_the_public_sample_of_version_8() -> None:
    found = camt053.read((VECTORS / "camt053.v8.xml").read_bytes())
    assert (found.message_id, found.version) == ("CAMT053RIB000000000001", "08")
    (one,) = found.statements
    assert (one.id, one.account) == ("253EURNL26VAYB8060476890", "NL26VAYB8060476890")
    (item,) = one.items
    # Its details say 0 SEK: they don't add up to the entry, so the entry counts.
    assert (item.amount_e7, item.currency, item.credit, item.booked) == (88_500_000, "EUR", True, True)
    assert (item.payer, item.payer_iban, item.text) == ("NAME NAME", "NL56AGDH9619008421", "4654654654654654")
    assert (item.end_to_end, item.booked_on, item.references) == ("MUELL/FINP/RA12345", "2014-12-31", ())


def test_the_public_sample_of_version_2() -> None:
    found = camt053.read((VECTORS / "camt053.v2.multi.statement.xml").read_bytes())
    assert found.version == "02"
    items = [item for one in found.statements for item in one.items]
    assert [(item.amount_e7, item.credit, item.booked, item.text) for item in items] == [
        (88_500_000, True, True, "Transaction Description 1"),
        (70_000_000, False, True, "Transaction Description 2"),
    ]
    assert len({item.key for item in items}) == 2 == len({item.like for item in items} - {""})


def test_a_batch_entry_is_as_many_items_as_it_has_payments() -> None:
    parts = [("10.00", "RF18539007547034"), ("2.50", "a gift")]
    (one,) = camt053.read(statement(entry("12.50", parts=parts))).statements
    assert [(item.amount_e7, item.references) for item in one.items] == [
        (10 * 10**7, ("RF18539007547034",)),
        (25 * 10**6, ()),
    ]
    (one,) = camt053.read(statement(entry("12.51", parts=parts))).statements
    assert [item.amount_e7 for item in one.items] == [125_100_000], "what does not add up is not taken apart"


def test_a_transfer_keeps_its_key_when_it_is_sent_again_and_two_alike_have_two() -> None:
    first = camt053.read(statement(entry("5.00", ref="B1"), entry("5.00", ref="B1"), id="S1")).statements[0].items
    again = (
        camt053.read(statement(entry("5.00", ref="B1"), entry("5.00", ref="B1"), id="S1", message="M2"))
        .statements[0]
        .items
    )
    other = camt053.read(statement(entry("5.00", ref="B1"), id="S2")).statements[0].items
    assert [item.key for item in first] == [item.key for item in again]
    assert first[0].key != first[1].key
    assert other[0].key != first[0].key and other[0].like == first[0].like


@pytest.mark.parametrize("amount", ["-5.00", "1,00", "1.000000", "NaN", "", "1e3", "99999999999999"])
def test_an_amount_that_is_none_is_refused(amount: str) -> None:
    with pytest.raises(safexml.UnreadableFile) as caught:
        camt053.read(statement(entry(amount)))
    assert caught.value.code == "file_malformed"


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08">&c;</Document>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><Document>&f;</Document>"""
HOSTILE: list[Any] = [
    pytest.param(BOMB, "file_entities", id="bomb"),
    pytest.param(OUTSIDE, "file_entities", id="outside"),
    pytest.param(b"<!DOCTYPE x><Document/>", "file_entities", id="doctype"),
    pytest.param(b"", "file_malformed", id="empty"),
    pytest.param(b"not xml", "file_malformed", id="text"),
    pytest.param(b"<a><b></a>", "file_malformed", id="open"),
    pytest.param(b"<a>&nope;</a>", "file_malformed", id="undeclared"),
    pytest.param(b"<Document/>", "file_kind", id="no-namespace"),
    pytest.param(statement().replace(b"camt.053.001.08", b"camt.054.001.08"), "file_kind", id="other-message"),
    pytest.param(statement().replace(b"UTF-8", b"ISO-8859-1"), "file_encoding", id="latin"),
    pytest.param(statement().decode().encode("utf-16"), "file_encoding", id="utf-16"),
    pytest.param(statement().replace(b"Mia Sun", b"Mi\xe4"), "file_encoding", id="not-utf-8"),
    pytest.param(b"<a>" * 60 + b"</a>" * 60, "file_too_large", id="deep"),
    pytest.param(b"<x>" + b"<a/>" * (safexml.MAX_ELEMENTS + 1) + b"</x>", "file_too_large", id="wide"),
    pytest.param(statement(*[entry("1.00")] * (camt053.MAX_ITEMS + 1)), "file_too_large", id="entries"),
]


@pytest.mark.parametrize(("data", "code"), HOSTILE)
def test_hostile_files_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(safexml.UnreadableFile) as caught:
        camt053.read(data)
    assert caught.value.code == code, caught.value


def test_a_file_of_100_mb_is_refused_before_it_is_read() -> None:
    data = bytes(100 * 1024 * 1024)
    start = time.perf_counter()
    with pytest.raises(safexml.UnreadableFile) as caught:
        camt053.read(data)
    assert caught.value.code == "file_too_large" and time.perf_counter() - start < 0.05


# --- payouts ---------------------------------------------------------------------------------------------------------
def payout(count: int = 2, bic: str = "") -> bytes:
    return pain001.write(
        message_id="SL-20260606-0123456789ABCDEF",
        created_at="2026-06-06T10:00:00Z",
        execute_on="2026-06-06",
        currency="EUR",
        payer=pain001.Payer("Sunledger", IBAN, bic),
        transfers=[
            pain001.Transfer(references.reference_of(n), (n + 1) * 12_300_000, "Mia & Co", "NL91ABNA0417164300", "out")
            for n in range(count)
        ],
    )


@pytest.mark.parametrize("bic", ["", "SOGEDEFF"])
def test_a_payout_file_is_what_the_schema_wants(bic: str, tmp_path: Path) -> None:
    file = tmp_path / "out.xml"
    file.write_bytes(payout(bic=bic))
    schema = xmlschema.XMLSchema(str(SCHEMAS / "pain.001.001.09.xsd"))
    schema.validate(str(file))
    said: Any = schema.to_dict(str(file))
    header, (batch,) = said["CstmrCdtTrfInitn"]["GrpHdr"], said["CstmrCdtTrfInitn"]["PmtInf"]
    amounts = [one["Amt"]["InstdAmt"]["$"] for one in batch["CdtTrfTxInf"]]
    assert (header["NbOfTxs"], header["CtrlSum"], batch["CtrlSum"]) == ("2", sum(amounts), sum(amounts))
    assert sum(amounts) * 100 == 369, "1.23 and 2.46"
    broken = file.read_bytes().replace(b"<ChrgBr>SLEV", b"<ChrgBr>FREE")
    assert not schema.is_valid(broken.decode().split("?>", 1)[1])


def test_only_whole_cents_and_ids_of_their_own_go_to_the_bank() -> None:
    assert payout() == payout()
    with pytest.raises(ValueError, match="whole cents"):
        pain001.cents_text(12_345_678)
    for amount in (0, -100_000):
        with pytest.raises(ValueError):
            pain001.cents_text(amount)
    with pytest.raises(ValueError, match="transfers"):
        payout(0)
    with pytest.raises(ValueError, match="transfers"):
        payout(pain001.MAX_TRANSFERS + 1)
    one = pain001.Transfer("E1", 100_000, "Mia", IBAN, "out")
    with pytest.raises(ValueError, match="of its own"):
        pain001.write(
            message_id="M", created_at="2026-06-06T10:00:00Z", execute_on="2026-06-06", currency="EUR",
            payer=pain001.Payer("Sunledger", IBAN, ""), transfers=[one, one],
        )  # fmt: skip
