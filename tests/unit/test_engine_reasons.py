"""Decisions of officials: what their entries say of the reason, what is refused, and that older entries play as ever."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from market.audit.decisions import Decided, Decisions, told
from market.engine import commands as c
from market.engine import events as ev
from market.engine.engine import Engine
from market.engine.entries import to_command, to_leaf
from market.engine.events import Refused
from market.engine.reasons import CODES, decision_of, why_problem
from market.engine.replay import Divergence, replay
from market.households.commitments import commitment_of
from tests.unit.engine_cast import NOON, Market

WORDS = "c1" * 32
DOCS = Path(__file__).parents[2] / "docs" / "ledger.md"


def decisions(market: Market, trade: int) -> list[Any]:
    """Return one decision of each kind, with reason and commitment."""
    limits = c.SetParams(40_000, 1, 1_000_000, 5, 180, 0, 900)
    return [
        c.SetCapacity("LV1", 30_000, 20_000, "fault", WORDS),
        c.SetFee("LV1", 150, "tariff", WORDS),
        c.SetTariff(3_100, 700, "market", WORDS),
        limits._replace(reason="integrity", commitment=WORDS),
        c.PublishRulebook(2, "ab" * 32, "law", WORDS),
        c.SetConnection(market.alice, "", 5_000, 0, "request", WORDS),
        c.SetHalt("area", "LV2", 1, "drill", commitment=WORDS),
        c.SetHalt("area", "LV2", 0, "resumed", commitment=WORDS),
        c.RecallTrade(trade, "error", WORDS),
    ]


def traded() -> tuple[Market, int]:
    market = Market()
    market.order(market.alice, "sell", 2_000, 100)
    events = market.order(market.bob, "buy", 2_500, 100)
    return market, next(event.seq for event in events if isinstance(event, ev.Traded))


def test_each_decision_has_its_reason_and_commitment_in_the_entry_and_comes_back_from_it() -> None:
    market, trade = traded()
    kinds = set()
    for command in decisions(market, trade):
        leaf = to_leaf(market.do(command)[0])
        assert (leaf["reason"], leaf["commitment"]) == (command.reason, WORDS)
        assert to_command(leaf) == command
        kinds.add("connection" if leaf["type"] == "account" else leaf["type"])
    assert kinds == CODES.keys()
    market.assert_replays()


def test_why_something_is_decided_is_no_part_of_the_state() -> None:
    (one, trade), (other, _) = traded(), traded()
    for command in decisions(one, trade):
        one.do(command)
        plain = command._replace(commitment="")
        other.do(plain if isinstance(command, c.SetCapacity | c.SetHalt | c.RecallTrade) else plain._replace(reason=""))
    assert one.engine.state_hash() == other.engine.state_hash()
    assert one.engine.dump() == other.engine.dump()


def test_entries_of_logs_from_before_have_neither_field_and_play_as_ever() -> None:
    market, _ = traded()
    for command in (c.SetFee("LV1", 150), c.SetTariff(3_100, 700), c.SetConnection(market.alice, "", 5_000, 0)):
        leaf = to_leaf(market.do(command)[0])
        assert not leaf.keys() & {"reason", "commitment"}
        assert to_command(leaf) == command
    market.assert_replays()


@pytest.mark.parametrize("field", ["reason", "commitment"])
@pytest.mark.parametrize("change", ["another", "none"])
def test_a_changed_reason_or_commitment_is_another_history(field: str, change: str) -> None:
    """Changed in the entry alone, it follows: the log's hashes tell. Changed against what was applied, the replay tells."""
    market, trade = traded()
    for command in decisions(market, trade)[1:6]:
        event = market.do(command)[0]
        was = to_leaf(event._replace(**{field: "" if change == "none" else {"reason": "error"}.get(field, "d2" * 32)}))
        assert was != to_leaf(event)
        assert to_command(was) != command
    engine = Engine()
    leaves = [to_leaf(event) for event in market.log]
    leaves[-1] = leaves[-1] | {"commitment": "no"}
    with pytest.raises(Divergence) as found:
        replay(engine, leaves)
    assert found.value.seq == market.log[-1].seq


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"reason": "Not a code"}, "reason"),
        ({"reason": "x" * 33}, "reason"),
        ({"reason": 7}, "reason"),
        ({"reason": "kill"}, "reason"),  # the rules' own
        ({"commitment": "words"}, "commitment"),
        ({"commitment": "C1" * 32}, "commitment"),
        ({"commitment": "c1" * 31}, "commitment"),
        ({"commitment": None}, "commitment"),
    ],
)
def test_what_is_no_code_and_no_commitment_is_refused(values: dict[str, Any], field: str) -> None:
    market, trade = traded()
    for command in decisions(market, trade):
        lenient = isinstance(command, c.SetCapacity | c.RecallTrade) and values == {"reason": "kill"}
        if lenient:  # older logs have such
            continue
        assert market.refused(command._replace(**values)) == ("invalid_value", field), command


def test_words_need_a_code_beside_them() -> None:
    assert why_problem("", WORDS) == "commitment"
    assert why_problem("", "") == why_problem("error", "") == why_problem("error", WORDS) == ""
    market = Market()
    assert market.refused(c.SetFee("LV1", 150, "", WORDS)) == ("invalid_value", "commitment")


def test_an_audit_counts_decisions_and_names_those_without_a_reason_of_the_list() -> None:
    market, trade = traded()
    began = market.engine.seq
    for command in decisions(market, trade):
        market.do(command)
    nobody = market.do(c.SetFee("LV1", 160))[0].seq
    free = market.do(c.SetCapacity("LV1", 1_000, 1_000, "whim"))[0].seq
    market.do(c.SetHalt("contract", NOON, 1, "drill", market.now_ms + 60_000))
    market.tick(market.now_ms + 60_000)  # it ends by itself: nobody decides that
    entries = [to_leaf(event) for event in market.log[began:]]
    assert [entry["reason"] for entry in entries if entry["type"] == "halt"][-1] == "over"
    judged = Decisions()
    judged.take(entries[:5])
    judged = Decisions.restore([*judged.found[:-1], list(judged.found.first)])  # an audit that goes on
    judged.take(entries[5:])
    assert judged.found == Decided(12, 9, 2, (nobody, free))
    assert told(judged.found) == [
        "decisions 12, of them 9 commit to words beside the code",
        f"unreasoned 2 decisions give no reason of the list: entries {nobody}, {free}",
    ]
    assert told(Decided()) == []


@pytest.mark.parametrize(
    "command",
    [
        c.SetHalt("market", "", 1, "over"),
        c.SetHalt("market", "", 0, "over"),
        c.SetHalt("contract", NOON, 1, "over"),
        c.SetHalt("area", "LV1", 0, "over"),
        c.SetHalt("contract", NOON, 0, "over", commitment=WORDS),
        c.SetHalt("contract", NOON, 1, "over", cancel=1),
    ],
)
def test_a_halt_with_the_code_of_a_rule_that_is_none_is_a_decision_without_a_reason(command: c.SetHalt) -> None:
    market = Market()
    entry = to_leaf(market.do(command)[0])
    assert decision_of(entry) == "halt"
    judged = Decisions()
    judged.take([entry])
    assert (judged.found.entries, judged.found.unreasoned, judged.found.first) == (1, 1, (entry["seq"],))


def test_the_collar_s_own_halt_is_nobody_s_decision() -> None:
    for on, reason, decided in ((1, "collar", ""), (0, "over", ""), (0, "collar", "halt")):
        halt = ev.HaltSet(7, 0, "contract", NOON, on, reason, 60_000 * on)
        assert decision_of(to_leaf(halt)) == decided


def test_the_documentation_names_every_code() -> None:
    section = DOCS.read_text().split("## Decisions\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]
    assert {kind.strip(" `"): set(re.findall(r"`(\w+)`", codes)) for kind, _fields, codes in rows} == CODES


def test_the_documentations_example_is_the_commitment_it_says() -> None:
    section = DOCS.read_text().split("## Decisions\n")[1].split("\n## ")[0]
    found = re.search(r"printf '([0-9a-f]{64})' .*\n printf '%s' '(.*)'\).*\n([0-9a-f]{64})", section)
    assert found is not None
    salt, record, digest = found.groups()
    assert commitment_of(bytes.fromhex(salt), json.loads(record)) == digest


def test_a_refusal_leaves_no_trace() -> None:
    market, trade = traded()
    before = market.engine.state_hash()
    for command in decisions(market, trade):
        events = market.engine.apply(command._replace(commitment="no"), market.now_ms)
        assert isinstance(events[0], Refused)
    assert market.engine.state_hash() == before
