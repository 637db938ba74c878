"""Settlement rows are applied only when they follow from the tallies; money is conserved (rulebook, chapter 8)."""

from __future__ import annotations

from typing import Any

import pytest

from market.engine import commands as c
from market.engine.accounts import BILLING_INDEX, OPERATOR_INDEX, SUPPLIER_INDEX
from market.engine.commands import SettleRow
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.engine.replay import Divergence, replay
from tests.unit.engine_cast import FEE_E4, MONEY_E7, NOON, SPILL_E4, TOPUP_E4, Market

ROOT = "a" * 64
SOLD_WH, PRICE_E4 = 400, 1_500


@pytest.fixture
def market() -> Market:
    """Alice sold 400 Wh to bob, and the interval is over."""
    market = Market()
    market.order(market.alice, "sell", PRICE_E4, SOLD_WH)
    market.order(market.bob, "buy", 2_000, SOLD_WH)
    market.tick(contract_start_ms("2026-06-06T12:15Z"))
    return market


def row(account: int, import_wh: int, export_wh: int, position_wh: int, **amounts: int) -> SettleRow:
    """Return a settlement row, its money fields by name."""
    imbalance_wh = import_wh - export_wh - position_wh
    short_wh = min(max(imbalance_wh, 0), max(-position_wh, 0))
    topup_wh, spill_wh = max(imbalance_wh, 0) - short_wh, max(-imbalance_wh, 0)
    values: dict[str, Any] = {
        "account": account, "import_wh": import_wh, "export_wh": export_wh, "quality": "measured",
        "position_wh": position_wh, "short_wh": short_wh, "topup_wh": topup_wh, "spill_wh": spill_wh, "payout_e7": 0,
        "fee_e7": 0, "short_e7": short_wh * TOPUP_E4, "topup_e7": topup_wh * TOPUP_E4, "spill_e7": spill_wh * SPILL_E4,
    }  # fmt: skip
    return SettleRow(**{**values, **amounts})


def alice_delivers(market: Market, export_wh: int) -> SettleRow:
    """Return alice's row when she delivers so much of what she sold."""
    margin_e7 = (TOPUP_E4 - PRICE_E4) * SOLD_WH
    short_e7 = max(0, SOLD_WH - export_wh) * TOPUP_E4
    return row(market.alice, 0, export_wh, -SOLD_WH, payout_e7=PRICE_E4 * SOLD_WH + margin_e7 - short_e7)


def bob_uses(market: Market, import_wh: int) -> SettleRow:
    """Return bob's row when he uses so much."""
    return row(market.bob, import_wh, 0, SOLD_WH, fee_e7=2 * FEE_E4 * SOLD_WH)


def settle(market: Market, area: str, *rows: SettleRow) -> list[Any]:
    return market.do(c.Settle(NOON, area, rows, ROOT))


@pytest.mark.parametrize(
    ("export_wh", "import_wh", "alice_e7", "bob_e7", "supplier_e7", "billing_e7"),
    [
        (400, 400, 600_000, -680_000, 0, 0),
        # 100 Wh not delivered: 100 * top-up out of proceeds and margin
        (300, 400, 600_000 - 300_000, -680_000, 300_000, 0),
        # nothing delivered: the margin covers all of it
        (0, 400, 600_000 - 1_200_000, -680_000, 1_200_000, 0),
        # 50 Wh too much is spilled; bob uses 100 Wh more, on his supply bill
        (450, 500, 600_000 + 40_000, -680_000, 300_000 - 40_000, -300_000),
        # bob uses nothing of what he bought: spilled for him
        (400, 0, 600_000, -680_000 + 320_000, -320_000, 0),
    ],
)
def test_money_after_settlement(
    market: Market, export_wh: int, import_wh: int, alice_e7: int, bob_e7: int, supplier_e7: int, billing_e7: int
) -> None:
    first = settle(market, "LV1", alice_delivers(market, export_wh))
    second = settle(market, "LV2", bob_uses(market, import_wh))
    assert (first[0].complete, second[0].complete) == (0, 1)
    assert market.wallet(market.alice) == (MONEY_E7 + alice_e7, 0)
    assert market.wallet(market.bob) == (MONEY_E7 + bob_e7, 0)
    assert market.wallet(OPERATOR_INDEX)[0] == 2 * FEE_E4 * SOLD_WH
    assert market.wallet(SUPPLIER_INDEX)[0] == supplier_e7
    assert market.wallet(BILLING_INDEX)[0] == billing_e7
    assert sum(account.cash_e7 for account in market.engine.accounts) == 0
    assert NOON not in market.engine.contracts
    assert market.refused(c.Settle(NOON, "LV1", (), ROOT)) == ("already_settled", "contract")
    market.assert_replays()


@pytest.mark.parametrize("field", [name for name in SettleRow._fields if name not in ("account", "quality")])
def test_any_other_number_is_refused(market: Market, field: str) -> None:
    good = alice_delivers(market, 350)
    bad = good._replace(**{field: getattr(good, field) + 1})
    code, where = market.refused(c.Settle(NOON, "LV1", (bad,), ROOT))
    assert code == "conservation"
    if field not in ("import_wh", "export_wh"):
        assert where == field


def test_rows_name_each_account_of_the_area_once(market: Market) -> None:
    alice, bob = alice_delivers(market, 400), bob_uses(market, 400)
    for rows in ((), (alice, alice), (alice, bob), (alice._replace(account=0),), (alice._replace(account=-1),)):
        assert market.refused(c.Settle(NOON, "LV1", rows, ROOT)) == ("conservation", "account")
    assert market.refused(c.Settle(NOON, "MV", (), ROOT)) == ("unknown_area", "area")
    assert market.refused(c.Settle(NOON, "LV1", (alice._replace(quality="guess"),), ROOT))[1] == "quality"
    assert market.refused(c.Settle(NOON, "LV1", (alice,), "")) == ("invalid_value", "root")
    settle(market, "LV1", alice, row(market.charlie, 10, 0, 0))
    assert market.refused(c.Settle(NOON, "LV1", (alice,), ROOT)) == ("already_settled", "area")


def test_settlement_waits_for_delivery() -> None:
    market = Market()
    assert market.refused(c.Settle(NOON, "LV1", (), ROOT)) == ("contract_state", "contract")
    assert market.refused(c.CommitReadings(NOON, "LV1", 0, 0, 0, ROOT)) == ("contract_state", "contract")
    assert market.refused(c.Settle("2030-01-01T00:00Z", "LV1", (), ROOT)) == ("unknown_contract", "contract")


def test_readings_are_committed_by_their_sums(market: Market) -> None:
    event = market.do(c.CommitReadings(NOON, "LV1", 2, 10, 400, ROOT))[0]
    assert (event.count, event.import_wh, event.export_wh, event.root) == (2, 10, 400, ROOT)
    assert market.refused(c.CommitReadings(NOON, "LV1", 2, -1, 400, ROOT)) == ("invalid_value", "import_wh")
    assert market.refused(c.CommitReadings(NOON, "nowhere", 2, 1, 400, ROOT)) == ("unknown_area", "area")


def test_replay_names_the_entry_that_does_not_follow(market: Market) -> None:
    settle(market, "LV1", alice_delivers(market, 300))
    leaves = [to_leaf(event) for event in market.log]
    for seq, field, value in (
        (next(leaf["seq"] for leaf in leaves if leaf["type"] == "trade"), "energy_wh", SOLD_WH - 1),
        (next(leaf["seq"] for leaf in leaves if leaf["type"] == "settle"), "payout_e7", 1),
        (next(leaf["seq"] for leaf in leaves if leaf["type"] == "order"), "price_e4", 1_501),
        (3, "level", "XV"),
        (5, "type", "gift"),
    ):
        changed = [dict(leaf) for leaf in leaves]
        changed[int(seq)][field] = value
        with pytest.raises(Divergence) as caught:
            replay(Engine(), changed, market.rows)
        # a changed order shows where its first consequence differs
        assert caught.value.seq == seq if field != "price_e4" else caught.value.seq > int(seq)
    with pytest.raises(Divergence):
        trade = next(leaf["seq"] for leaf in leaves if leaf["type"] == "trade")
        replay(Engine(), leaves[: int(trade)], market.rows)
