"""Corrections of a settlement: differences move, what cannot be paid is owed, and in the end nothing moves any more."""

from __future__ import annotations

from typing import Any

import pytest

from market.engine import commands as c
from market.engine.accounts import BANK_INDEX, BILLING_INDEX, SUPPLIER_INDEX
from market.engine.commands import NO_QUALITY, AdjustRow, SettleRow
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.engine.replay import Divergence, replay
from market.settlement import rules
from tests.unit.engine_cast import LATER, MONEY_E7, NOON, SPILL_E4, TOPUP_E4, Market

ROOT = "a" * 64
SOLD_WH, PRICE_E4 = 400, 1_500
DAY_MIN = 24 * 60
END_MS = contract_start_ms(LATER)
FINAL_MS = END_MS + 14 * DAY_MIN * 60_000
TARIFF = rules.Tariff(TOPUP_E4, SPILL_E4)


class Corrected(Market):
    """Alice sold 400 Wh to bob, both are settled on what they traded, and both settlements are still provisional."""

    def __init__(self, final_after_min: int = 14 * DAY_MIN) -> None:
        super().__init__()
        self.do(c.SetParams(40_000, 1, 1_000_000, 5, 180, 0, 1_000, final_after_min=final_after_min))
        self.order(self.alice, "sell", PRICE_E4, SOLD_WH)
        self.order(self.bob, "buy", 2_000, SOLD_WH)
        self.tick(END_MS)
        self.newest: dict[str, int] = {}
        self.known: dict[int, SettleRow] = {}
        tallies = dict(self.engine.contracts[NOON].tallies)
        for area, account in (("LV1", self.alice), ("LV2", self.bob)):
            (row,) = rules.settle_area({account: tallies[account]}, {}, TARIFF)
            self.newest[area] = self.do(c.Settle(NOON, area, (row,), ROOT))[0].seq
            self.known[account] = row

    def change(self, account: int, import_wh: int, export_wh: int, quality: str = "measured") -> AdjustRow:
        """Return the row that corrects an account by another reading."""
        metered = {account: rules.Metered(import_wh, export_wh, quality)}
        (found,) = rules.changes(self.known, metered, TARIFF)
        return found

    def command(self, area: str, *rows: AdjustRow) -> c.Adjust:
        return c.Adjust(NOON, area, self.newest[area], rows, ROOT)

    def adjust(self, area: str, *rows: AdjustRow) -> Any:
        """Correct an area; it must be accepted."""
        (event,) = self.do(self.command(area, *rows))
        self.newest[area] = event.seq
        self.known |= {row.row.account: row.row for row in rows}
        return event

    def spend(self, account: int, left_e7: int = 0) -> None:
        """Take an account's free money out, all but so much."""
        amount_e7 = self.engine.accounts[account].free_e7 - left_e7
        self.do(c.Fund(account, -amount_e7, "withdrawal", ""))

    def owed(self, account: int) -> int:
        return self.engine.accounts[account].arrears_e7


@pytest.fixture
def market() -> Corrected:
    return Corrected()


@pytest.mark.parametrize(
    ("export_wh", "alice_e7", "supplier_e7", "sums"),
    [
        (300, -100 * TOPUP_E4, 100 * TOPUP_E4, (100 * TOPUP_E4, 0, 0)),  # 100 Wh were not delivered after all
        (0, -400 * TOPUP_E4, 400 * TOPUP_E4, (400 * TOPUP_E4, 0, 0)),
        (450, 50 * SPILL_E4, -50 * SPILL_E4, (0, 0, 50 * SPILL_E4)),
    ],
)
def test_a_correction_moves_the_difference(
    market: Corrected, export_wh: int, alice_e7: int, supplier_e7: int, sums: tuple[int, int, int]
) -> None:
    before_e7 = market.wallet(market.alice)[0]
    event = market.adjust("LV1", market.change(market.alice, 0, export_wh))
    assert (event.short_e7, event.topup_e7, event.spill_e7, event.arrears_e7) == (*sums, 0)
    assert market.wallet(market.alice)[0] - before_e7 == alice_e7
    assert market.wallet(SUPPLIER_INDEX)[0] == supplier_e7
    assert market.wallet(market.bob)[0] == MONEY_E7 - (PRICE_E4 + 200) * SOLD_WH, "nobody else is concerned"
    market.assert_replays()


def test_a_correction_is_corrected_in_its_turn_and_ends_where_the_last_reading_says(market: Corrected) -> None:
    direct = Corrected()
    direct.adjust("LV1", direct.change(direct.alice, 40, 380))
    for export_wh in (100, 900, 380):
        market.adjust("LV1", market.change(market.alice, 40 if export_wh == 380 else 0, export_wh))
    for index in range(len(market.engine.accounts)):
        assert market.engine.accounts[index].net_e7 == direct.engine.accounts[index].net_e7
    market.assert_replays()


def test_ordinary_consumption_goes_on_the_supply_bill(market: Corrected) -> None:
    event = market.adjust("LV2", market.change(market.bob, 500, 0))
    assert (event.topup_e7, event.short_e7) == (100 * TOPUP_E4, 0)
    assert (market.wallet(BILLING_INDEX)[0], market.wallet(SUPPLIER_INDEX)[0]) == (-100 * TOPUP_E4, 100 * TOPUP_E4)
    event = market.adjust("LV2", market.change(market.bob, 350, 0))
    assert (event.topup_e7, event.spill_e7) == (-100 * TOPUP_E4, 50 * SPILL_E4)
    assert market.wallet(BILLING_INDEX)[0] == 0


def test_a_home_without_a_row_gets_one(market: Corrected) -> None:
    row = market.change(market.charlie, 0, 100)
    assert (row.was.quality, row.row.quality, row.row.spill_wh) == (NO_QUALITY, "measured", 100)
    market.adjust("LV1", row)
    assert market.wallet(market.charlie)[0] == MONEY_E7 + 100 * SPILL_E4
    market.assert_replays()


def test_what_is_free_is_taken_first_and_the_rest_is_owed(market: Corrected) -> None:
    market.spend(market.alice, 500_000)
    market.order(market.alice, "sell", 2_900, 1_000, contract="2026-06-06T12:45Z")  # holds 100,000 of it
    event = market.adjust("LV1", market.change(market.alice, 0, 200))  # 600,000 are due
    assert market.wallet(market.alice) == (100_000, 100_000), "what is held stays"
    assert (event.arrears_e7, market.owed(market.alice)) == (200_000, 200_000)
    assert market.wallet(SUPPLIER_INDEX)[0] == 600_000, "the supplier does not wait"
    assert sum(account.cash_e7 - account.arrears_e7 for account in market.engine.accounts) == 0
    market.assert_replays()


def in_arrears() -> Corrected:
    """Return a market in which alice owes 300,000 and has nothing."""
    market = Corrected()
    market.spend(market.alice)
    market.adjust("LV1", market.change(market.alice, 0, 300))
    assert (market.owed(market.alice), market.wallet(market.alice)) == (300_000, (0, 0))
    return market


def test_arrears_block_buying_and_withdrawing_and_nothing_else() -> None:
    market = in_arrears()
    alice, other = market.alice, "2026-06-06T12:45Z"
    buys = (
        c.PlaceOrder(alice, other, "buy", 1, 1, "gtg", 0),
        c.PlaceIceberg(alice, other, "buy", 1, 10, "gtg", 0, 1),
        c.PlaceSweep(alice, other, other, "buy", 1, 1),
        c.PlaceBlock(alice, other, other, "buy", 1, 1, "gtg", 0),
    )
    for command in buys:
        assert market.refused(command) == ("in_arrears", "account")
    assert market.refused(c.Fund(alice, -1, "withdrawal", "")) == ("in_arrears", "account")
    market.order(alice, "sell", TOPUP_E4, 10, contract=other)
    market.do(c.Fund(alice, 300_000, "deposit", ""))
    assert (market.owed(alice), market.wallet(alice)) == (0, (0, 0))
    market.do(c.Fund(alice, 1_000, "deposit", ""))
    market.order(alice, "buy", 1, 1, contract=other)
    market.do(c.Fund(alice, -500, "withdrawal", ""))
    market.assert_replays()


def test_an_open_buy_may_shrink_but_neither_grow_nor_wake_up_in_arrears() -> None:
    market, other = Corrected(), "2026-06-06T12:45Z"
    open_id = market.order(market.alice, "buy", 100, 100, contract=other)[0].seq
    asleep = market.order(market.alice, "buy", 100, 100, contract=other)[0].seq
    market.do(c.HibernateOrder(market.alice, asleep))
    market.spend(market.alice)
    market.adjust("LV1", market.change(market.alice, 0, 300))
    assert market.refused(c.AmendOrder(market.alice, open_id, -1, 101)) == ("in_arrears", "account")
    assert market.refused(c.ReactivateOrder(market.alice, asleep)) == ("in_arrears", "account")
    market.do(c.AmendOrder(market.alice, open_id, -1, 50))


@pytest.mark.parametrize("amount_e7", [1, 299_999, 300_000, 300_001])
def test_a_deposit_pays_what_is_owed_first(amount_e7: int) -> None:
    market = in_arrears()
    bank_e7 = market.wallet(BANK_INDEX)[0]
    market.do(c.Fund(market.alice, amount_e7, "deposit", ""))
    assert market.owed(market.alice) == max(0, 300_000 - amount_e7)
    assert market.wallet(market.alice)[0] == max(0, amount_e7 - 300_000)
    assert market.wallet(BANK_INDEX)[0] == bank_e7 - amount_e7


def test_a_later_correction_and_a_later_settlement_pay_what_is_owed_first() -> None:
    market = in_arrears()
    event = market.adjust("LV1", market.change(market.alice, 0, 350))
    assert (event.arrears_e7, market.owed(market.alice), market.wallet(market.alice)[0]) == (-150_000, 150_000, 0)
    market.tick(contract_start_ms("2026-06-06T12:30Z"))
    tallies = market.engine.contracts[LATER].tallies
    (row,) = rules.settle_area(tallies, {market.alice: rules.Metered(0, 200, "measured")}, TARIFF)
    market.do(c.Settle(LATER, "LV1", (row,), ROOT))
    assert (market.owed(market.alice), market.wallet(market.alice)[0]) == (0, 200 * SPILL_E4 - 150_000)
    market.assert_replays()


def test_a_closed_account_pays_what_it_owes_and_no_more() -> None:
    market = in_arrears()
    market.do(c.CloseAccount(market.alice))
    assert market.refused(c.Fund(market.alice, 300_001, "deposit", "")) == ("account_closed", "account")
    market.do(c.Fund(market.alice, 300_000, "deposit", ""))
    assert market.owed(market.alice) == 0
    market.assert_replays()


@pytest.mark.parametrize("side", ["row", "was"])
@pytest.mark.parametrize("field", [name for name in SettleRow._fields if name != "account"])
def test_any_other_number_is_refused_by_name(market: Corrected, side: str, field: str) -> None:
    """One field changed: the row, or what it was, does not follow from the others any more."""
    good = market.change(market.alice, 0, 300)
    value = getattr(getattr(good, side), field)
    wrong: Any = "guess" if field == "quality" else value + 1
    bad = good._replace(**{side: getattr(good, side)._replace(**{field: wrong})})
    code, where = market.refused(market.command("LV1", bad))
    assert code == "conservation"
    if field not in ("import_wh", "export_wh") and side == "row":
        assert where == field
    if side == "was":
        assert where.startswith("was_") or where in ("short_wh", "position_wh", "payout_e7", "fee_e7"), where


def test_other_types_are_refused(market: Corrected) -> None:
    good = market.change(market.alice, 0, 300)
    for side in ("row", "was"):
        for field in SettleRow._fields[1:]:
            bad = good._replace(**{side: getattr(good, side)._replace(**{field: 1.5})})
            assert market.refused(market.command("LV1", bad))[0] == "conservation"


def test_rows_are_of_members_of_the_area_once_and_change_something(market: Corrected) -> None:
    good = market.change(market.alice, 0, 300)
    bob = market.change(market.bob, 500, 0)
    same = AdjustRow(market.known[market.alice], market.known[market.alice])
    nobody = AdjustRow(rules.nothing_settled(0), rules.nothing_settled(0))
    for rows in ((good, good), (bob,), (nobody,), (good._replace(was=bob.was),)):
        assert market.refused(market.command("LV1", *rows)) == ("conservation", "account")
    assert market.refused(market.command("LV1", same)) == ("conservation", "import_wh")
    assert market.refused(market.command("LV1")) == ("invalid_value", "rows")
    assert market.refused(market.command("LV1", good)._replace(root="")) == ("invalid_value", "root")


def test_only_the_newest_entry_is_corrected(market: Corrected) -> None:
    first = market.command("LV1", market.change(market.alice, 0, 300))
    assert market.refused(first._replace(corrects=first.corrects + 1)) == ("not_newest", "corrects")
    market.adjust("LV1", *first.rows)
    assert market.refused(first) == ("not_newest", "corrects")
    assert market.refused(first._replace(area="LV2")) == ("not_newest", "corrects")
    assert market.refused(first._replace(area="MV")) == ("not_settled", "area")
    assert market.refused(first._replace(area="XV")) == ("unknown_area", "area")
    assert market.refused(first._replace(contract=LATER)) == ("contract_state", "contract")
    assert market.refused(first._replace(contract="2030-01-01T00:00Z")) == ("unknown_contract", "contract")


def test_nothing_is_corrected_once_its_time_is_over(market: Corrected) -> None:
    row = market.change(market.alice, 0, 300)
    assert market.refused(c.Final(NOON)) == ("contract_state", "contract")
    assert market.refused(c.Final(LATER)) == ("contract_state", "contract")
    market.now_ms = FINAL_MS - 1
    market.do(c.CommitReadings(NOON, "LV1", 1, 0, 300, ROOT))
    market.adjust("LV1", row)
    market.now_ms = FINAL_MS
    assert market.refused(c.CommitReadings(NOON, "LV1", 1, 0, 300, ROOT)) == ("already_final", "contract")
    market.adjust("LV1", market.change(market.alice, 0, 250))  # by a reading that came in time
    again = market.command("LV1", market.change(market.alice, 0, 200))
    market.do(c.Final(NOON))
    assert market.refused(c.Final(NOON)) == ("already_final", "contract")
    assert market.refused(again) == ("already_final", "contract")
    assert market.refused(c.CommitReadings(NOON, "LV1", 1, 0, 300, ROOT)) == ("already_final", "contract")
    assert not market.engine.provisional
    market.assert_replays()


def test_a_contract_is_not_final_before_it_is_settled_everywhere() -> None:
    market = Corrected()
    market.tick(contract_start_ms("2026-06-06T12:30Z"))
    market.do(c.Settle(LATER, "LV1", (), ROOT))
    market.now_ms = FINAL_MS + DAY_MIN * 60_000
    assert market.refused(c.Final(LATER)) == ("contract_state", "contract")
    market.do(c.Settle(LATER, "LV2", (), ROOT))
    market.do(c.Final(LATER))


def test_without_a_time_for_corrections_a_settlement_is_final_at_once_and_the_state_is_written_as_before() -> None:
    market = Corrected(final_after_min=0)
    assert market.refused(market.command("LV1", market.change(market.alice, 0, 300))) == ("already_settled", "contract")
    assert market.refused(c.Final(NOON)) == ("already_settled", "contract")
    assert not {b"provisional", b"finals", b"final_after_min"} & set(market.engine.dump().split(b'"'))
    market.assert_replays()


def test_a_loaded_state_corrects_alike(market: Corrected) -> None:
    row = market.change(market.alice, 0, 300)
    again = Engine.load(market.engine.dump())
    assert again.dump() == market.engine.dump()
    command = market.command("LV1", row)
    assert again.apply(command, market.now_ms) == market.do(command)
    assert again.state_hash() == market.engine.state_hash()


@pytest.mark.parametrize("field", ["short_e7", "topup_e7", "spill_e7", "arrears_e7", "corrects", "count"])
def test_replay_names_the_correction_that_does_not_follow(field: str) -> None:
    market = in_arrears()
    leaves = [dict(to_leaf(event)) for event in market.log]
    adjust = next(leaf for leaf in leaves if leaf["type"] == "adjust")
    adjust[field] = int(adjust[field]) + 1
    with pytest.raises(Divergence) as caught:
        replay(Engine(), leaves, market.rows)
    assert caught.value.seq == adjust["seq"]
