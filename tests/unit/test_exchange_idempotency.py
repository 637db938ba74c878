"""Keys: what counts as the same content, and how the differing field is named."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.engine.commands import (
    CancelOrder,
    Fund,
    Leg,
    PlaceBasket,
    PlaceBlock,
    PlaceIceberg,
    PlaceOrder,
    PublishRulebook,
    SetCapacity,
    SetFee,
    SetHalt,
    Settle,
    SettleRow,
)
from market.engine.events import Refused
from market.engine.reasons import OPERATOR
from market.exchange.checks import MAX_KEY_LENGTH, check_command, check_key
from market.exchange.idempotency import content_of, differing_field, refused_of, refused_text

ORDER = PlaceOrder(4, "2026-06-06T12:15Z", "buy", 2_850, 1_500, "gtg", 0)


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.integers(-(2**70), 2**70))
def test_content_is_json_whatever_the_order_holds(contract: str, side: str, force: str, price_e4: int) -> None:
    order = PlaceOrder(4, contract, side, price_e4, 1, force, 0)
    assert orjson.loads(content_of(order))[0] == "PlaceOrder"
    assert differing_field(content_of(order), order) is None
    assert differing_field(content_of(order), order._replace(energy_wh=2)) == "energy_wh"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price_e4": 2_851}, "price"),
        ({"contract": "2026-06-06T12:30Z"}, "contract"),
        ({"side": "sell"}, "side"),
        ({"energy_wh": 1_501}, "energy_wh"),
        ({"time_in_force": "ioc"}, "time_in_force"),
        ({"expires_at_ms": 1}, "expires_at"),
    ],
)
def test_the_differing_field_has_the_clients_name(change: dict[str, object], field: str) -> None:
    assert differing_field(content_of(ORDER), ORDER._replace(**change)) == field  # type: ignore[arg-type]


def test_another_kind_of_command_differs_in_type() -> None:
    assert differing_field(content_of(ORDER), CancelOrder(4, 7, "owner")) == "type"


def test_a_command_kept_before_its_type_got_more_fields_is_the_same_command() -> None:
    kept = '["SetCapacity","LV1",5,5,"fault"]'
    command = SetCapacity("LV1", 5, 5, "fault")
    assert differing_field(kept, command) is None
    assert differing_field(kept, command._replace(import_w=6)) == "import_w"
    assert differing_field(kept, command._replace(commitment="ab" * 32)) == "text"


def test_a_decision_kept_before_there_were_reasons_is_the_same_without_one() -> None:
    kept = '["SetFee","LV1",100]'
    assert differing_field(kept, SetFee("LV1", 100, OPERATOR)) is None
    assert differing_field(kept, SetFee("LV1", 101, OPERATOR)) == "fee_e4"
    assert differing_field(kept, SetFee("LV1", 100, "tariff")) == "reason"
    assert differing_field(kept, SetFee("LV1", 100, OPERATOR, "ab" * 32)) == "text"
    assert differing_field(content_of(SetFee("LV1", 100)), SetFee("LV1", 100, OPERATOR)) == "reason"


def test_other_words_beside_a_rulebook_are_told_from_another_rulebook() -> None:
    command = PublishRulebook(2, "ab" * 32, "law", "cd" * 32)
    kept = content_of(command)
    assert differing_field(kept, command._replace(commitment="ef" * 32)) == "words"


def test_a_quote_cannot_imitate_another_order() -> None:
    tricky = ORDER._replace(contract='x","buy",1,1,"gtg",0]')
    assert orjson.loads(content_of(tricky))[2] == tricky.contract


def test_long_fields_are_kept_as_their_digest() -> None:
    rows = tuple(SettleRow(n, 0, 0, "measured", *[0] * 9) for n in range(100))
    settle = Settle("2026-06-06T12:15Z", "LV1.1", rows, "00")
    assert len(content_of(settle)) < 300
    assert differing_field(content_of(settle), settle._replace(rows=rows[:99])) == "rows"


BASKET = PlaceBasket(
    4, (Leg(4, "2026-06-06T12:15Z", "buy", 2_850, 1_500), Leg(5, "2026-06-06T13:15Z", "sell", 3_000, 9))
)


def test_legs_are_lists_within_the_list() -> None:
    assert orjson.loads(content_of(BASKET)) == ["PlaceBasket", 4, [list(leg) for leg in BASKET.legs]]
    assert differing_field(content_of(BASKET), PlaceBasket(4, tuple(Leg(*leg) for leg in BASKET.legs))) is None


@pytest.mark.parametrize(
    ("place", "change", "field"),
    [
        (0, {"contract": "2026-06-06T12:30Z"}, "legs[0].contract"),
        (1, {"price_e4": 3_001}, "legs[1].price"),
        (1, {"energy_wh": 8}, "legs[1].energy_wh"),
        (1, {"account": 4}, "legs[1].account"),
    ],
)
def test_the_leg_that_differs_is_named(place: int, change: dict[str, object], field: str) -> None:
    legs = list(BASKET.legs)
    legs[place] = legs[place]._replace(**change)  # type: ignore[arg-type]
    assert differing_field(content_of(BASKET), BASKET._replace(legs=tuple(legs))) == field


def test_a_basket_with_other_legs_differs_in_them() -> None:
    assert differing_field(content_of(BASKET), BASKET._replace(legs=BASKET.legs[:1])) == "legs"
    assert differing_field(content_of(BASKET), BASKET._replace(account=5)) == "account"
    hundred = BASKET._replace(legs=BASKET.legs * 50)
    legs = (*hundred.legs[:99], hundred.legs[99]._replace(energy_wh=10))
    assert differing_field(content_of(hundred), hundred._replace(legs=legs)) == "legs[99].energy_wh"


@pytest.mark.parametrize(
    ("before", "change", "field"),
    [
        (PlaceIceberg(4, "2026-06-06T12:15Z", "buy", 2_850, 1_500, "gtg", 0, 100), {"display_wh": 99}, "display_wh"),
        (
            PlaceBlock(4, "2026-06-06T12:15Z", "2026-06-06T12:30Z", "buy", 9, 9, "gtg", 0),
            {"expires_at_ms": 7},
            "expires_at",
        ),
        (SetHalt("contract", "2026-06-06T12:15Z", 1, "drill"), {"until_ms": 5}, "until"),
    ],
)
def test_new_fields_have_the_clients_names(before: Any, change: dict[str, object], field: str) -> None:
    assert differing_field(content_of(before), before._replace(**change)) == field


@pytest.mark.parametrize(
    "legs",
    [
        list(BASKET.legs),
        (BASKET.legs[0], tuple(BASKET.legs[1])),
        (BASKET.legs[0]._replace(price_e4=2.5),),
        (BASKET.legs[0]._replace(energy_wh=True),),
        (BASKET.legs[0]._replace(side=None),),
        "legs",
    ],
)
def test_legs_of_wrong_python_types_never_reach_the_engine(legs: Any) -> None:
    with pytest.raises(TypeError):
        check_command(PlaceBasket(4, legs))


def test_too_many_legs_and_endless_texts_never_reach_the_engine() -> None:
    check_command(BASKET)
    with pytest.raises(ValueError, match="at most 100 legs"):
        check_command(BASKET._replace(legs=BASKET.legs * 51))
    with pytest.raises(ValueError, match="characters"):
        check_command(BASKET._replace(legs=(BASKET.legs[0]._replace(contract="x" * 2_000),)))
    with pytest.raises(TypeError):
        check_command(PlaceBasket("4", BASKET.legs))  # type: ignore[arg-type]


def test_refusals_come_back_as_they_went() -> None:
    refused = Refused("price_out_of_range", "price", (("max", 10_000), ("unit", "e4")))
    assert refused_of(refused_text(refused)) == refused
    assert refused_of(refused_text(None)) is None


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY_LENGTH + 1), "a\nb", "a\x00", "ü", "\ud800"])
def test_malformed_keys_are_errors(key: str) -> None:
    with pytest.raises(ValueError, match="idempotency key"):
        check_key(key)


@pytest.mark.parametrize(
    "command", [ORDER._replace(price_e4=True), ORDER._replace(side=None), Fund(1, 1.0, "", ""), (1, 2)]
)
def test_wrong_python_types_never_reach_the_engine(command: object) -> None:
    with pytest.raises(TypeError):
        check_command(command)  # type: ignore[arg-type]


def test_endless_texts_never_reach_the_engine() -> None:
    with pytest.raises(ValueError, match="characters"):
        check_command(ORDER._replace(contract="x" * 2_000))
