"""From the bytes of a request to the command for an order over several contracts or of several legs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import msgspec

from market.api.orders_in import (
    check_repeated,
    contract_named,
    energy_of,
    expiry,
    force_of,
    price_e4,
    problem_of,
    side_of,
    unrepeated,
)
from market.api.problems import Problem
from market.engine.commands import GOOD_TILL_GATE, MAX_LEGS, Leg, PlaceBasket, PlaceBlock, PlaceSweep

ACCOUNT_ID_LENGTH = 32  # hex digits


class SweepIn(msgspec.Struct, forbid_unknown_fields=True):
    """Buy or sell at once, best price first, over the contracts from ``contract`` to ``last``; the rest is cancelled."""

    contract: str
    last: str
    side: str
    price: str
    energy_wh: Annotated[int, msgspec.Meta(description="in all contracts together")]


class BlockIn(msgspec.Struct, forbid_unknown_fields=True):
    """All or none over the contiguous contracts from ``contract`` to ``last``; without fok it waits until it can trade."""

    contract: str
    last: str
    side: str
    price: str
    energy_wh: Annotated[int, msgspec.Meta(description="in each contract")]
    time_in_force: Annotated[str, msgspec.Meta(description="gtg, gtd or fok")] = GOOD_TILL_GATE
    expires_at: str | None = None


class LegIn(msgspec.Struct, forbid_unknown_fields=True):
    """One order of a basket."""

    contract: str
    side: str
    price: str
    energy_wh: int
    account: Annotated[
        str | None, msgspec.Meta(description="account_id of another account of mine; default: my own")
    ] = None


class BasketIn(msgspec.Struct, forbid_unknown_fields=True):
    """2 to 100 linked orders: all of them trade in full at once, or nothing is done."""

    legs: list[LegIn]


_SWEEP = msgspec.json.Decoder(SweepIn, strict=True)
_BLOCK = msgspec.json.Decoder(BlockIn, strict=True)
_BASKET = msgspec.json.Decoder(BasketIn, strict=True)
_SWEEP_NAMES = tuple(f'"{name}"'.encode() for name in SweepIn.__struct_fields__)
_BLOCK_NAMES = tuple(f'"{name}"'.encode() for name in BlockIn.__struct_fields__)


def decode_sweep(body: bytes, account: int) -> PlaceSweep:
    """Decode a sweep; raise ``Problem``."""
    try:
        order = _SWEEP.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise problem_of(error, body) from None
    check_repeated(body, _SWEEP_NAMES)
    return PlaceSweep(
        account,
        contract_named(order.contract),
        contract_named(order.last, "last"),
        side_of(order.side),
        price_e4(order.price),
        energy_of(order.energy_wh),
    )


def decode_block(body: bytes, account: int) -> PlaceBlock:
    """Decode a block; raise ``Problem``."""
    try:
        order = _BLOCK.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise problem_of(error, body) from None
    check_repeated(body, _BLOCK_NAMES)
    return PlaceBlock(
        account,
        contract_named(order.contract),
        contract_named(order.last, "last"),
        side_of(order.side),
        price_e4(order.price),
        energy_of(order.energy_wh),
        force_of(order.time_in_force),
        expiry(order.expires_at),
    )


def decode_basket(body: bytes) -> list[LegIn]:
    """Decode a basket; raise ``Problem``."""
    try:
        legs = _BASKET.decode(body).legs
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise problem_of(error, body) from None
    if not 2 <= len(legs) <= MAX_LEGS:
        raise Problem(422, "invalid_legs", "legs")
    json.loads(body, object_pairs_hook=unrepeated)  # names stand in every leg: counting them would prove nothing
    return legs


def names_accounts(legs: list[LegIn]) -> bool:
    """Return whether any leg is for another account than the caller's."""
    return any(leg.account is not None for leg in legs)


def place_basket(legs: list[LegIn], account: int, mine: Mapping[str, int]) -> PlaceBasket:
    """Return the command for a decoded basket; ``mine`` leads from ids of the caller's accounts to their indexes.

    Raises ``Problem``, naming a field as ``legs[0].price``.
    """
    made = []
    for place, leg in enumerate(legs):
        try:
            index = account if leg.account is None else mine.get(leg.account)
            if index is None:
                raise Problem(422, "not_your_account", "account")
            made.append(
                Leg(
                    index,
                    contract_named(leg.contract),
                    side_of(leg.side),
                    price_e4(leg.price),
                    energy_of(leg.energy_wh),
                )
            )
        except Problem as problem:
            field = f"legs[{place}].{problem.field}"
            raise Problem(problem.status, problem.code, field, params=problem.params) from None
    return PlaceBasket(account, tuple(made))
