"""The rows the ledger commits to are the canonical bytes of their fields."""

from __future__ import annotations

from ledger.core.encoding import decode, encode
from market.engine.commands import AdjustRow, SettleRow
from market.engine.entries import adjust_row
from market.metering.rowbytes import reading_bytes, row_salt
from market.settlement.rowbytes import adjust_bytes, settle_bytes


def test_settlement_rows_are_canonical() -> None:
    row = SettleRow(*(f"{i}" if name == "quality" else i * 7_919 - 20_000 for i, name in enumerate(SettleRow._fields)))
    salt = row_salt(b"secret", "settle:2026-06-06T12:15Z:7")
    data = settle_bytes(row, salt)
    assert data == encode({**row._asdict(), "salt": salt})
    assert decode(data) == {**row._asdict(), "salt": salt}


def test_reading_rows_are_canonical() -> None:
    fields = {
        "account": 7,
        "contract": "2026-06-06T12:15Z",
        "import_wh": 120,
        "export_wh": 0,
        "quality": "measured",
        "salt": row_salt(b"secret", "a"),
    }
    assert reading_bytes(**fields) == encode(fields)


def test_salts_repeat_for_the_same_row_only() -> None:
    salts = [row_salt(b"secret", "a"), row_salt(b"secret", "b"), row_salt(b"other", "a")]
    assert len(set(salts)) == 3
    assert all(len(salt) == 32 and int(salt, 16) >= 0 for salt in salts)
    assert row_salt(b"secret", "a") == salts[0]


def test_rows_of_corrections_are_canonical() -> None:
    row = SettleRow(*(f"{i}" if name == "quality" else i * 7_919 - 20_000 for i, name in enumerate(SettleRow._fields)))
    was = SettleRow(row.account, *(f"{i}" if name == "quality" else i for i, name in enumerate(SettleRow._fields[1:])))
    salt = row_salt(b"secret", "adjust:2026-06-06T12:15Z:9:7")
    data = adjust_bytes(AdjustRow(row, was), salt)
    old = {f"was_{name}": value for name, value in was._asdict().items() if name != "account"}
    assert data == encode({**row._asdict(), **old, "salt": salt})
    assert adjust_row(data) == AdjustRow(row, was)
