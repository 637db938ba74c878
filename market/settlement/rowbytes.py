"""The bytes a ``settle`` or ``adjust`` entry commits to for each account: row and salt, canonical JSON (RFC 8785)."""

from __future__ import annotations

from market.engine.commands import AdjustRow, SettleRow, ShareRow


def settle_bytes(row: SettleRow, salt: str) -> bytes:
    """Return a settlement row as the ledger holds it: keys in code-point order, ASCII, integers, so it is JCS."""
    return (
        f'{{"account":{row.account},"export_wh":{row.export_wh},"fee_e7":{row.fee_e7},"import_wh":{row.import_wh},'
        f'"payout_e7":{row.payout_e7},"position_wh":{row.position_wh},"quality":"{row.quality}","salt":"{salt}",'
        f'"short_e7":{row.short_e7},"short_wh":{row.short_wh},"spill_e7":{row.spill_e7},"spill_wh":{row.spill_wh},'
        f'"topup_e7":{row.topup_e7},"topup_wh":{row.topup_wh}}}'
    ).encode()


def adjust_bytes(change: AdjustRow, salt: str) -> bytes:
    """Return a correction's row as the ledger holds it: the row as it becomes, and ``was_…`` of what it was."""
    row, was = change
    return (
        settle_bytes(row, salt)[:-1]
        + (
            f',"was_export_wh":{was.export_wh},"was_fee_e7":{was.fee_e7},"was_import_wh":{was.import_wh},'
            f'"was_payout_e7":{was.payout_e7},"was_position_wh":{was.position_wh},"was_quality":"{was.quality}",'
            f'"was_short_e7":{was.short_e7},"was_short_wh":{was.short_wh},"was_spill_e7":{was.spill_e7},'
            f'"was_spill_wh":{was.spill_wh},"was_topup_e7":{was.topup_e7},"was_topup_wh":{was.topup_wh}}}'
        ).encode()
    )


def share_bytes(row: ShareRow, salt: str) -> bytes:
    """Return what an agreement moves as the ledger holds it."""
    return (
        f'{{"agreement":{row.agreement},"energy_wh":{row.energy_wh},"left_wh":{row.left_wh},'
        f'"missing_wh":{row.missing_wh},"salt":"{salt}","was_wh":{row.was_wh}}}'
    ).encode()
