"""What a refused command asked for, in words: its JSON text names no fields and has the system's integers."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, get_args

from django.utils.translation import gettext_lazy

from market.engine import commands
from market.engine.contracts import contract_start_ms
from market.pages.entrywords import ACTION_WORDS, ENTRY_WORDS
from market.pages.templatetags.market import clock_seconds, day, energy, exact_money, price, slot
from market.pages.templatetags.official import reason, watts, word

COMMANDS = {command.__name__: command for command in get_args(commands.Command)}
COMMAND_WORDS = {
    "Found": ENTRY_WORDS["genesis"],
    "PublishRulebook": ENTRY_WORDS["rulebook"],
    "RegisterKey": ENTRY_WORDS["key"],
    "SetParams": ENTRY_WORDS["params"],
    "SetArea": ENTRY_WORDS["area"],
    "SetCapacity": ENTRY_WORDS["capacity"],
    "SetFee": ENTRY_WORDS["fee"],
    "SetTariff": ENTRY_WORDS["tariff"],
    "OpenAccount": gettext_lazy("Open an account"),
    "CloseAccount": gettext_lazy("Close an account"),
    "SetConnection": ACTION_WORDS["account", "connection"],
    "SetAccountKey": ACTION_WORDS["account", "key"],
    "Fund": ENTRY_WORDS["fund"],
    "OpenContract": gettext_lazy("Open a contract"),
    "CloseContract": gettext_lazy("Close a contract's gate"),
    "DeliverContract": gettext_lazy("Deliver a contract"),
    "SetHalt": ENTRY_WORDS["halt"],
    "PlaceOrder": ENTRY_WORDS["order"],
    "PlaceIceberg": gettext_lazy("Order, an iceberg"),
    "PlaceSweep": gettext_lazy("Order, a sweep"),
    "PlaceBlock": gettext_lazy("Order, a block"),
    "PlaceBasket": gettext_lazy("Order, a basket"),
    "SignedOrder": ENTRY_WORDS["order"],
    "AmendOrder": ENTRY_WORDS["amend"],
    "HibernateOrder": gettext_lazy("Put an order to sleep"),
    "ReactivateOrder": gettext_lazy("Bring an order back"),
    "RecallTrade": gettext_lazy("Take a trade back"),
    "CancelOrder": ENTRY_WORDS["cancel"],
    "CancelAll": gettext_lazy("Cancellation of all orders"),
    "Expire": gettext_lazy("End orders whose time is over"),
    "CommitReadings": ENTRY_WORDS["readings"],
    "Settle": ENTRY_WORDS["settle"],
    "Adjust": ENTRY_WORDS["adjust"],
    "Final": ENTRY_WORDS["final"],
    "Propose": gettext_lazy("Propose a private agreement"),
    "Agree": gettext_lazy("Accept a private agreement"),
    "Revoke": gettext_lazy("End a private agreement"),
    "Share": gettext_lazy("Share out what is left over"),
    "Seal": ENTRY_WORDS["seal"],
    "CommitSnapshot": ENTRY_WORDS["snapshot"],
}
FIELD_WORDS = {
    "order": gettext_lazy("Order"),
    "contract": gettext_lazy("Contract"),
    "side": gettext_lazy("Side"),
    "price_e4": gettext_lazy("Price"),
    "energy_wh": gettext_lazy("Energy"),
    "area": gettext_lazy("Area"),
    "account": gettext_lazy("Account"),
    "reason": gettext_lazy("Reason"),
}  # others are named as on the ledger
_UNITS = {"e4": price, "e7": exact_money, "wh": energy, "w": watts}


class Asked(NamedTuple):
    """What was asked: the kind of command, and its fields that say anything with their values in words."""

    kind: str
    pairs: list[tuple[str, str]]


def asked(text: str) -> Asked | None:
    """Return what a refused command's JSON text asks for; None where it is no command of today."""
    try:
        name, *values = json.loads(text)
        command = COMMANDS[name]
        pairs = _pairs(command, values)
    except (ValueError, TypeError, KeyError):
        return None
    return Asked(str(COMMAND_WORDS[name]), pairs)


def _pairs(command: Any, values: list[Any]) -> list[tuple[str, str]]:
    """Return the fields of a command that say anything. The account is told beside it; legs come one after the other."""
    pairs: list[tuple[str, str]] = []
    for name, value in zip(command._fields, values, strict=True):
        if name == "legs" and isinstance(value, list):
            for leg in value:
                pairs += _pairs(commands.Leg, leg)
        elif value not in ("", None) and name != "account" and not (name == "expires_at_ms" and value == 0):
            pairs.append((str(FIELD_WORDS.get(name, name)), _value(name, value)))
    return pairs


def _value(name: str, value: Any) -> str:
    """Return a value in words; whatever does not fit its field stands for itself, since it may be why it was refused."""
    try:
        if name in ("contract", "last", "start") and isinstance(value, str):
            return f"{day(contract_start_ms(value))} {slot(value)}"
        if name.endswith("_ms") and isinstance(value, int):
            return f"{day(value)} {clock_seconds(value)}"
        unit = _UNITS.get(name.rpartition("_")[2])
        if unit is not None and isinstance(value, int):
            return unit(value)
    except (ValueError, OverflowError, OSError):
        return str(value)
    if name == "reason":
        return reason(str(value)) if reason(str(value)) != value else word(str(value))
    return word(str(value)) if name in ("side", "time_in_force", "scope") else str(value)
