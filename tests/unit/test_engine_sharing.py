"""Private agreements: both must consent, and what is left over goes from one to the other before the supplier is asked."""

from __future__ import annotations

from typing import Any

import pytest

from market.engine import commands as c
from market.engine.accounts import BILLING_INDEX, OPERATOR_INDEX, SHARING_AREA, SHARING_SUBSTATION, SUPPLIER_INDEX
from market.engine.commands import ShareRow
from market.engine.contracts import contract_start_ms
from market.engine.engine import Engine
from market.engine.entries import to_leaf
from market.engine.replay import Divergence, replay
from market.engine.sharing import MAX_AGREEMENTS
from market.settlement import rules
from tests.unit.engine_cast import FEE_E4, LATER, MONEY_E7, NOON, OPENING_MS, SPILL_E4, TOPUP_E4, Market

ROOT = "a" * 64
TARIFF = rules.Tariff(TOPUP_E4, SPILL_E4)
FINAL_MIN = 60


class Shared(Market):
    """Four homes that trade nothing; alice and charlie live in LV1, bob and dora in LV2."""

    def __init__(self, scope: int = 3) -> None:
        super().__init__()
        self.limits(scope)
        self.settled: dict[int, c.SettleRow] = {}
        self.newest: dict[str, int] = {}

    def limits(self, scope: int) -> None:
        values = c.SetParams(40_000, 1, 1_000_000, 5, 180, 0, 1_000, final_after_min=FINAL_MIN, sharing_scope=scope)
        self.do(values)

    def agreement(self, giver: int, receiver: int, price_e4: int = 0, start: str = NOON) -> int:
        """Make an agreement that both have consented to; return its number."""
        seq: int = self.do(c.Propose(giver, giver, receiver, price_e4, start))[0].seq
        self.do(c.Agree(receiver, seq))
        return seq

    def deliver(self, nets: dict[int, tuple[int, int]]) -> None:
        """Let noon pass and settle both streets by these readings."""
        self.tick(contract_start_ms(LATER))
        for area in ("LV1", "LV2"):
            metered = {
                account: rules.Metered(*sides, "measured")
                for account, sides in nets.items()
                if self.engine.accounts[account].area == area
            }
            rows = rules.settle_area({}, metered, TARIFF)
            self.newest[area] = self.do(c.Settle(NOON, area, rows, ROOT))[0].seq
            self.settled |= {row.account: row for row in rows}

    def share(self, before: dict[int, int] | None = None) -> c.Share:
        """Return the command that shares noon out."""
        rows = rules.shared(self.engine.agreements_of(NOON), self.settled, before or {})
        return c.Share(NOON, self.engine.provisional[NOON].shared, rows, ROOT)

    def net(self) -> list[int]:
        return [account.net_e7 for account in self.engine.accounts]


@pytest.fixture
def market() -> Shared:
    return Shared()


@pytest.mark.parametrize("price_e4", [0, 1_200])
@pytest.mark.parametrize(
    ("giver", "receiver", "fee_e4"), [("alice", "charlie", 0), ("alice", "bob", 2 * FEE_E4)], ids=["street", "city"]
)
def test_what_is_left_over_goes_to_the_neighbour(
    market: Shared, giver: str, receiver: str, fee_e4: int, price_e4: int
) -> None:
    one, other = getattr(market, giver), getattr(market, receiver)
    market.agreement(one, other, price_e4)
    market.deliver({one: (0, 500), other: (300, 0)})
    bill_e7 = -300 * TOPUP_E4
    assert (market.wallet(one)[0], market.wallet(BILLING_INDEX)[0]) == (MONEY_E7 + 500 * SPILL_E4, bill_e7)
    (event,) = market.do(market.share())
    assert (event.energy_wh, event.price_e7, event.fee_e7) == (300, 300 * price_e4, 300 * fee_e4)
    assert (event.topup_e7, event.spill_e7, event.arrears_e7) == (300 * TOPUP_E4, 300 * SPILL_E4, 0)
    assert market.wallet(one)[0] == MONEY_E7 + 200 * SPILL_E4 + 300 * price_e4, "it keeps what the supplier took"
    assert market.wallet(other)[0] == MONEY_E7, "what it pays is on its supply bill"
    assert market.wallet(BILLING_INDEX)[0] == -300 * (price_e4 + fee_e4)
    assert market.wallet(OPERATOR_INDEX)[0] == 300 * fee_e4
    assert market.wallet(SUPPLIER_INDEX)[0] == -200 * SPILL_E4
    assert sum(market.net()) == 0
    market.assert_replays()


@pytest.mark.parametrize(
    ("alice_wh", "charlie_wh", "shared_wh"),
    [(300, 100, [200, 100, 100, 0]), (500, 200, [200, 200, 50, 0])],
    ids=["the giver runs out", "the receiver has enough"],
)
def test_the_oldest_agreement_comes_first(market: Shared, alice_wh: int, charlie_wh: int, shared_wh: list[int]) -> None:
    """Alice gives to three, dora has two givers: numbers decide, and nobody gives more than it has."""
    market.agreement(market.alice, market.bob)
    market.agreement(market.charlie, market.dora)
    market.agreement(market.alice, market.dora)
    market.agreement(market.alice, market.charlie)
    market.deliver(
        {market.alice: (0, alice_wh), market.bob: (200, 0), market.charlie: (0, charlie_wh), market.dora: (250, 0)}
    )
    (event,) = market.do(market.share())
    assert [row.energy_wh for row in event.rows] == shared_wh
    market.assert_replays()


def test_what_was_sold_and_not_delivered_stays_short(market: Shared) -> None:
    tally = rules.contracts.Tally.restore([0, 400, 0, 400 * TOPUP_E4, 0, 0])
    row = rules.settle_account(market.bob, tally, rules.Metered(100, 0, "measured"), TARIFF)
    assert (row.short_wh, row.topup_wh) == (400, 100)
    given = rules.settle_account(market.alice, None, rules.Metered(0, 900, "measured"), TARIFF)
    number = market.agreement(market.alice, market.bob)
    agreement = market.engine.agreements[number]
    (found,) = rules.shared([agreement], {market.alice: given, market.bob: row}, {})
    assert found == ShareRow(number, 900, 100, 100, 0)


def test_both_must_agree(market: Shared) -> None:
    seq = market.do(c.Propose(market.bob, market.alice, market.bob, 0, NOON))[0].seq
    assert market.refused(c.Agree(market.bob, seq)) == ("nothing_to_change", "agreement")
    assert market.refused(c.Agree(market.charlie, seq)) == ("not_your_account", "account")
    assert market.engine.agreements_of(NOON) == []
    market.do(c.Agree(market.alice, seq))
    assert market.refused(c.Agree(market.alice, seq)) == ("nothing_to_change", "agreement")
    assert [one.id for one in market.engine.agreements_of(NOON)] == [seq]
    market.do(c.Revoke(market.bob, seq))
    assert market.engine.agreements_of(NOON) == []
    assert market.refused(c.Revoke(market.alice, seq)) == ("unknown_agreement", "agreement")
    assert market.refused(c.Agree(market.alice, seq)) == ("unknown_agreement", "agreement")
    market.assert_replays()


@pytest.mark.parametrize("end", ["agree", "revoke", "start"])
@pytest.mark.parametrize("by_ms", [-1, 0, 1])
def test_an_agreement_holds_for_contracts_that_start_while_it_stands(end: str, by_ms: int) -> None:
    market = Shared()
    noon_ms = contract_start_ms(NOON)
    start = LATER if end == "start" and by_ms > 0 else NOON
    seq = market.do(c.Propose(market.alice, market.alice, market.bob, 0, start))[0].seq
    if end == "agree":
        market.tick(noon_ms + by_ms)
    market.do(c.Agree(market.bob, seq))
    if end == "revoke":
        market.tick(noon_ms + by_ms)
        market.do(c.Revoke(market.alice, seq))
    applies = {"agree": by_ms <= 0, "revoke": by_ms > 0, "start": by_ms <= 0}[end]
    assert bool(market.engine.agreements_of(NOON)) == applies


def test_a_closed_account_shares_no_more(market: Shared) -> None:
    market.agreement(market.alice, market.bob)
    market.do(c.CloseAccount(market.alice))
    assert market.engine.agreements_of(NOON) == []
    market.assert_replays()


def test_who_may_share_is_a_limit_of_the_market() -> None:
    nobody = Shared(0)
    street = c.Propose(nobody.alice, nobody.alice, nobody.charlie, 0, NOON)
    across = c.Propose(nobody.alice, nobody.alice, nobody.bob, 0, NOON)
    assert nobody.refused(street) == ("outside_sharing", "receiver")
    nobody.limits(SHARING_AREA)
    assert nobody.refused(across) == ("outside_sharing", "receiver")
    nobody.do(street)
    nobody.limits(SHARING_SUBSTATION)
    seq = nobody.do(across)[0].seq
    nobody.limits(SHARING_AREA)
    assert nobody.refused(c.Agree(nobody.bob, seq)) == ("outside_sharing", "agreement")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"account": "charlie"}, ("not_your_account", "account")),
        ({"giver": 0}, ("unknown_account", "giver")),
        ({"receiver": 10**6}, ("unknown_account", "receiver")),
        ({"receiver": "alice"}, ("invalid_value", "receiver")),
        ({"price_e4": -1}, ("price_out_of_range", "price")),
        ({"price_e4": 40_001}, ("price_out_of_range", "price")),
        ({"start": "2026-06-06T12:01Z"}, ("invalid_value", "start")),
        ({"start": "tomorrow"}, ("invalid_value", "start")),
    ],
)
def test_terms_that_cannot_be(market: Shared, changes: dict[str, Any], refusal: tuple[str, str]) -> None:
    named = {
        name: getattr(market, value) if value in ("alice", "charlie") else value for name, value in changes.items()
    }
    good = c.Propose(market.alice, market.alice, market.bob, 0, NOON)
    assert market.refused(good._replace(**named)) == refusal


def test_an_account_has_so_many_agreements(market: Shared) -> None:
    for _ in range(MAX_AGREEMENTS):
        market.do(c.Propose(market.alice, market.alice, market.bob, 0, NOON))
    one_more = c.Propose(market.dora, market.dora, market.bob, 0, NOON)
    assert market.refused(one_more) == ("too_many_agreements", "account")
    market.do(c.Revoke(market.bob, max(market.engine.agreements)))
    market.do(one_more)
    assert len(market.engine.agreements) == MAX_AGREEMENTS, "a proposal that was turned down is forgotten"


def test_a_correction_is_shared_out_again(market: Shared) -> None:
    number = market.agreement(market.alice, market.bob)
    market.deliver({market.alice: (0, 500), market.bob: (300, 0)})
    market.do(market.share())
    assert market.refused(market.share({number: 300})) == ("nothing_to_change", "contract")
    (change,) = rules.changes(market.settled, {market.alice: rules.Metered(0, 100, "measured")}, TARIFF)
    market.do(c.Adjust(NOON, "LV1", market.newest["LV1"], (change,), ROOT))
    market.settled[market.alice] = change.row
    market.now_ms += (FINAL_MIN + 60) * 60_000
    assert market.refused(c.Final(NOON)) == ("not_shared", "contract")
    (event,) = market.do(market.share({number: 300}))
    assert (event.energy_wh, event.rows[0].energy_wh, event.rows[0].was_wh) == (-200, 100, 300)
    market.do(c.Final(NOON))
    market.assert_replays()
    direct = Shared()
    direct.agreement(direct.alice, direct.bob)
    direct.deliver({direct.alice: (0, 100), direct.bob: (300, 0)})
    direct.do(direct.share())
    assert market.net() == direct.net()


def test_a_giver_that_has_spent_what_the_supplier_paid_owes_it(market: Shared) -> None:
    market.agreement(market.alice, market.bob)
    market.deliver({market.alice: (0, 500), market.bob: (300, 0)})
    market.do(c.Fund(market.alice, -market.wallet(market.alice)[0], "withdrawal", ""))
    (event,) = market.do(market.share())
    assert event.arrears_e7 == market.engine.accounts[market.alice].arrears_e7 == 300 * SPILL_E4
    assert sum(market.net()) == 0
    market.assert_replays()


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("energy_wh", 299, "energy_wh"), ("energy_wh", 301, "energy_wh"), ("left_wh", 299, "energy_wh"),
        ("missing_wh", 301, "energy_wh"), ("was_wh", 1, "was_wh"), ("agreement", 1, "agreement"),
        ("left_wh", -1, "energy_wh"), ("left_wh", 500.0, "energy_wh"),
    ],
)  # fmt: skip
def test_any_other_number_is_refused(market: Shared, field: str, value: Any, where: str) -> None:
    market.agreement(market.alice, market.bob)
    market.deliver({market.alice: (0, 500), market.bob: (300, 0)})
    good = market.share()
    bad = good._replace(rows=(good.rows[0]._replace(**{field: value}),))
    assert market.refused(bad) == ("conservation", where)


def test_a_share_follows_from_the_state_of_its_contract(market: Shared) -> None:
    market.agreement(market.alice, market.bob)
    market.agreement(market.alice, market.dora)
    market.tick(contract_start_ms(LATER))
    early = c.Share(NOON, 0, (), ROOT)
    assert market.refused(early) == ("contract_state", "contract")
    market.deliver({market.alice: (0, 500), market.bob: (300, 0)})
    good = market.share()
    assert market.refused(good._replace(rows=good.rows[:1])) == ("conservation", "agreement")
    assert market.refused(good._replace(rows=good.rows[::-1])) == ("conservation", "agreement")
    assert market.refused(good._replace(corrects=1)) == ("not_newest", "corrects")
    assert market.refused(good._replace(root="")) == ("invalid_value", "root")
    two = (good.rows[0], good.rows[1]._replace(left_wh=900))
    assert market.refused(good._replace(rows=two)) == ("conservation", "energy_wh"), "one giver has one figure"
    market.do(good)
    assert market.refused(good) == ("not_newest", "corrects")


def test_without_agreements_the_state_is_written_as_before() -> None:
    market = Shared(0)
    market.limits(0)
    assert not {b"agreements", b"sharing_scope"} & set(market.engine.dump().split(b'"'))


def test_a_loaded_state_shares_alike(market: Shared) -> None:
    market.agreement(market.alice, market.bob, 700)
    market.deliver({market.alice: (0, 500), market.bob: (300, 0)})
    again = Engine.load(market.engine.dump())
    assert again.dump() == market.engine.dump()
    command = market.share()
    assert again.apply(command, market.now_ms) == market.do(command)
    assert again.state_hash() == market.engine.state_hash()
    assert market.now_ms > OPENING_MS


@pytest.mark.parametrize("field", ["energy_wh", "price_e7", "fee_e7", "topup_e7", "spill_e7", "arrears_e7"])
def test_replay_names_the_share_that_does_not_follow(market: Shared, field: str) -> None:
    market.agreement(market.alice, market.bob, 700)
    market.deliver({market.alice: (0, 500), market.bob: (300, 0)})
    market.do(market.share())
    leaves = [dict(to_leaf(event)) for event in market.log]
    shared = next(leaf for leaf in leaves if leaf.get("action") == "shared")
    shared[field] = int(shared[field]) + 1
    with pytest.raises(Divergence) as caught:
        replay(Engine(), leaves, market.rows)
    assert caught.value.seq == shared["seq"]
