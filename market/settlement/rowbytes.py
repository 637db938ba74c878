"""The bytes a ``settle`` entry commits to for each account: its row and a salt, canonical JSON (RFC 8785)."""

from __future__ import annotations

from market.engine.commands import SettleRow


def settle_bytes(row: SettleRow, salt: str) -> bytes:
    """Return a settlement row as the ledger holds it: keys in code-point order, ASCII, integers, so it is JCS."""
    return (
        f'{{"account":{row.account},"export_wh":{row.export_wh},"fee_e7":{row.fee_e7},"import_wh":{row.import_wh},'
        f'"payout_e7":{row.payout_e7},"position_wh":{row.position_wh},"quality":"{row.quality}","salt":"{salt}",'
        f'"short_e7":{row.short_e7},"short_wh":{row.short_wh},"spill_e7":{row.spill_e7},"spill_wh":{row.spill_wh},'
        f'"topup_e7":{row.topup_e7},"topup_wh":{row.topup_wh}}}'
    ).encode()
