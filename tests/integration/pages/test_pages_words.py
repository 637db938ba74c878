"""Why officials decided: codes and commitments on the ledger, words beside it that are held against them, and erasable."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.db import connection

from ledger import queries as ledger
from market.engine.reasons import CODES
from market.exchange import operations
from market.exchange.idempotency import KEPT_MS
from market.exchange.outcomes import Overloaded
from market.grid import operations as grid
from market.grid import queries, words
from market.grid.models import Decision, Words
from market.grid.operations import GridError
from market.grid.reasons import NOT_CHOSEN, REASONS, choices
from market.households import keystore
from market.households.commitments import identity_text
from tests.integration.pages.conftest import Town

SAID = "Umspannwerk Süd: “Kabel 7” 检修"


def decided(town: Town, once: str, text: str = SAID) -> Decision:
    """Set a fee with words beside its reason."""
    olga = town.olga.user
    assert olga is not None
    return grid.set_fee(town.exchange, by=olga, once=once, area="LV1.2", fee_e4=300, reason="tariff", text=text)


def row_of(decision: Decision) -> Words:
    return Words.objects.get(commitment=ledger.entry(decision.seq)["commitment"])


def write(row: Words, **columns: object) -> None:
    """Write to a row of the database as somebody with a console would."""
    with connection.cursor() as cursor:
        for name, value in columns.items():
            cursor.execute(f"UPDATE grid_words SET {name} = %s WHERE id = %s", [value, row.pk])


def state_of(decision: Decision) -> str:
    told = queries.decision(decision.seq)
    assert told is not None and told.said is not None
    return told.said.state


def test_a_fee_carries_its_reason_and_a_commitment_that_text_and_salt_open(town: Town) -> None:
    decision = decided(town, "w1")
    entry = ledger.entry(decision.seq)
    assert (entry["type"], entry["reason"]) == ("fee", "tariff")
    assert SAID not in ledger.leaf(decision.seq).decode()
    told = queries.decision(decision.seq)
    assert told is not None and told.said is not None and told.on_ledger
    assert (told.said.text, told.said.state) == (SAID, words.MATCHES)
    opened = hashlib.sha256(bytes.fromhex(told.said.salt) + told.said.record.encode()).hexdigest()
    assert opened == entry["commitment"], "whoever is shown salt and record can check it with a hash and nothing else"
    html = town.rita.html(f"/regulator/entries/{decision.seq}")
    for shown in (SAID, "as on the ledger", told.said.salt, str(entry["commitment"])):
        assert shown in html
    assert "Erase them for good" not in html, "that is the market operator's"
    assert "as on the ledger" in town.olga.html("/operator/areas/LV1.2")


def test_the_same_form_twice_is_one_decision_and_other_words_are_another(town: Town) -> None:
    first = decided(town, "w2")
    assert decided(town, "w2") == first
    with pytest.raises(GridError) as error:
        decided(town, "w2", text="Something else")
    assert (error.value.code, error.value.field) == ("already_sent", "text")
    assert state_of(first) == words.MATCHES
    # The same words again are not seen to be the same: each time they have another salt.
    assert ledger.entry(decided(town, "w3").seq)["commitment"] != ledger.entry(first.seq)["commitment"]


@pytest.mark.parametrize("tampering", ["another text", "another salt", "no seal"])
def test_words_that_were_changed_are_called_so(town: Town, tampering: str) -> None:
    decision = decided(town, f"w4 {tampering}")
    words_of = row_of(decision)
    if tampering == "no seal":
        write(words_of, kept=f"s1:{words_of.words_key}:" + "00" * 64)
    else:
        said = SAID if tampering == "another salt" else "Nothing to see here"
        words_of.kept = identity_text({"text": said}, b"\7" * 32)
        words_of.save()
    assert state_of(decision) == words.DIFFERS
    html = town.rita.html(f"/regulator/entries/{decision.seq}")
    assert "they were changed after it was decided" in html and "as on the ledger" not in html
    assert "not what the ledger has" in town.olga.html("/operator/areas/LV1.2")


def test_words_that_went_without_being_erased_are_missed(town: Town) -> None:
    decision = decided(town, "w5")
    row_of(decision).delete()
    assert state_of(decision) == words.MISSING
    assert "nobody has erased them" in town.rita.html(f"/regulator/entries/{decision.seq}")


def test_erased_words_stay_erased_and_their_commitment_remains(town: Town) -> None:
    decision = decided(town, "w6", text="Mr Sun called")
    assert "Sun" in row_of(decision).kept
    with connection.cursor() as cursor:
        cursor.execute("SELECT kept FROM grid_words WHERE id = %s", [row_of(decision).pk])
        sealed = cursor.fetchone()[0]
    assert "Sun" not in sealed
    path, entry = f"/regulator/entries/{decision.seq}", ledger.leaf(decision.seq)
    for visitor in (town.rita, town.olga):
        assert visitor.post(f"/staff/decisions/{decision.seq}/erase", page=path).status_code == 403
    assert "Erase them for good" in town.sam.html(path)
    for _ in range(2):
        town.sam.post(f"/staff/decisions/{decision.seq}/erase", page=path)
    assert state_of(decision) == words.ERASED and ledger.leaf(decision.seq) == entry
    html = town.rita.html(path)
    assert "sam erased them on" in html and "Mr Sun" not in html
    assert keystore.store().destroyed(row_of(decision).words_key)
    # What a restored backup brings back cannot be read again, and does not become a fault.
    write(row_of(decision), kept=sealed, erased_at_ms=None)
    assert state_of(decision) == words.ERASED
    assert "Mr Sun" not in town.rita.html(path)


def test_a_key_that_is_no_longer_kept_stands_for_other_words(town: Town) -> None:
    """Two decisions never share a commitment: erasing the words of one would erase those of the other."""
    first = decided(town, "w10")
    row, now_ms = row_of(first), town.exchange.now_ms()
    assert row.at_ms == now_ms and row.seq == first.seq and row.once is not None
    olga = town.olga.user
    assert olga is not None
    key = f"decision:{olga.pk}:w10"
    again = words.keep(key=key, text=SAID, at_ms=now_ms + KEPT_MS - 1)
    assert again == (row.commitment, False)
    write(row, at_ms=0)  # of a version that noted no time: the exchange still answers to its key
    assert words.keep(key=key, text=SAID, at_ms=now_ms + 1) == (row.commitment, False)
    later = words.keep(key=key, text=SAID, at_ms=now_ms + KEPT_MS)
    assert later.fresh and later.commitment != row.commitment
    assert state_of(first) == words.MATCHES
    # The same key names other decisions in other scopes of the exchange.
    assert words.keep(key=key, text=SAID, at_ms=now_ms + 1, scope=3).fresh


def test_entries_that_share_a_commitment_both_have_their_words(town: Town) -> None:
    first = decided(town, "w11")
    commitment = row_of(first).commitment
    outcome = operations.set_fee(town.exchange, area="LV1.1", fee_e4=400, reason="tariff", commitment=commitment)
    assert town.olga.user is not None
    second = grid.note(outcome, by=town.olga.user, kind="fee", target="LV1.1", reason="tariff")
    for told in queries.decisions(limit=2):
        assert told.seq in (first.seq, second.seq)
        assert told.said is not None and told.said.state == words.MATCHES


def test_a_decision_whose_words_were_erased_can_be_sent_again(town: Town) -> None:
    first = decided(town, "w12")
    assert town.sam.user is not None
    assert grid.erase_words(by=town.sam.user, seq=first.seq, at_ms=town.exchange.now_ms())
    assert decided(town, "w12") == first
    assert state_of(first) == words.ERASED


@pytest.mark.parametrize("trouble", ["refused", "conflict", "overloaded"])
def test_words_of_what_came_to_nothing_are_gone_with_their_key(
    town: Town, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    olga = town.olga.user
    assert olga is not None

    def wrong(once: str | None = f"w13 {trouble}") -> None:
        key = None if once is None else f"decision:{olga.pk}:{once}"
        why = grid.why_of(town.exchange, "fee", reason="tariff", text="Mr Sun called", key=key)
        fee = {"area": "nowhere" if trouble == "refused" else "LV1.2", "fee_e4": 301}
        grid.sent(town.exchange, partial(operations.set_fee, town.exchange, **fee), why)

    before = set(Words.objects.values_list("pk", flat=True))
    if trouble == "conflict":
        decision = decided(town, f"w13 {trouble}")
        before |= set(Words.objects.values_list("pk", flat=True))
    elif trouble == "overloaded":
        monkeypatch.setattr(town.exchange, "submit", _busy)
    for _ in range(2):  # however often it is sent
        with suppress(Overloaded):
            wrong()
        if trouble != "conflict":  # there is none without a key
            with suppress(Overloaded):
                wrong(None)
    left = Words.objects.exclude(pk__in=before)
    # Sent again with its key it still has the same commitment, and the same refusal.
    assert left.count() == (0 if trouble == "conflict" else 1)
    names, now_ms = [row.words_key for row in left], town.exchange.now_ms()
    words.keep(key=None, text="", at_ms=now_ms + KEPT_MS - 1)
    assert left.all().count() == len(names)
    words.keep(key=None, text="", at_ms=now_ms + KEPT_MS)
    assert not left.all().exists() and all(map(keystore.store().destroyed, names))
    if trouble == "conflict":
        assert state_of(decision) == words.MATCHES


def _busy(*_args: object, **_named: object) -> None:
    raise Overloaded(1)


def test_words_of_a_decision_outlive_a_retry_that_the_market_had_no_time_for(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decided(town, "w14")
    write(row_of(first), seq=None)  # whoever sent it never heard of it
    with monkeypatch.context() as patch:
        patch.setattr(town.exchange, "submit", _busy)
        with pytest.raises(Overloaded):
            decided(town, "w14")
    words.keep(key=None, text="", at_ms=town.exchange.now_ms() + 3 * KEPT_MS)
    assert state_of(first) == words.MATCHES


def test_an_older_file_of_keys_costs_the_words_and_not_the_page(town: Town, django_assert_num_queries: Any) -> None:
    decisions = [decided(town, f"w15{n}") for n in range(3)]
    store = keystore.store()
    with store._lock:
        store._db.execute("DELETE FROM person_key WHERE id = ?", (row_of_deferred(decisions[1]).words_key,))
    assert [state_of(one) for one in decisions] == [words.MATCHES, words.MISSING, words.MATCHES]
    assert "words missing" in town.olga.html("/operator/areas/LV1.2")
    assert decided(town, "w151") == decisions[1]
    entries = [ledger.entry(one.seq) for one in decisions]
    with django_assert_num_queries(1):
        assert len(words.said(entries, [])) == 3


def row_of_deferred(decision: Decision) -> Words:
    return Words.objects.defer("kept").get(commitment=ledger.entry(decision.seq)["commitment"])


def test_what_is_from_before_the_commitments_is_shown_for_what_it_is(town: Town) -> None:
    olga = town.olga.user
    assert olga is not None
    outcome = operations.set_fee(town.exchange, area="LV2.1", fee_e4=200, reason="")
    seq = outcome.events[0].seq  # type: ignore[union-attr]
    Decision.objects.create(
        seq=seq,
        at_ms=0,
        by=olga,
        kind="fee",
        target="LV2.1",
        reason="planning",
        note="Old words",
        values={"fee_e4": 200},
    )
    told = queries.decision(seq)
    assert told is not None and told.said is not None
    assert (told.reason, told.on_ledger, told.said.state) == ("planning", False, words.BESIDE)
    html = town.olga.html("/operator/areas/LV2.1")
    assert "Old words" in html and html.count("not on the ledger") == 2
    town.sam.post(f"/staff/decisions/{seq}/erase", page=f"/regulator/entries/{seq}")
    html = town.sam.html(f"/regulator/entries/{seq}")
    assert "The words are erased." in html and "sam erased them on" in html and "commitment in this entry" not in html
    assert "Old words" not in town.olga.html("/operator/areas/LV2.1")
    assert state_of(Decision.objects.get(seq=seq)) == words.ERASED


@pytest.mark.parametrize(
    "text",
    ["x" * 201, "two\nlines", "bell \7", "lone \ud800", "two\u2028lines", "two\u2029parts", "\u202eback", "a\u2066b"],
)
def test_words_that_cannot_be_kept_are_refused_at_their_field(town: Town, text: str) -> None:
    before = (town.state(), Words.objects.count())
    with pytest.raises(GridError) as error:
        decided(town, "w7", text=text)
    assert error.value.field == "text"
    assert (town.state(), Words.objects.count()) == before


def test_a_resumption_and_a_confirmed_inverter_say_why_too(town: Town) -> None:
    halt = {"scope": "area", "target": "LV1.2", "reason": "drill", "sure": "on", "text": "Only a drill"}
    town.sam.post("/staff/halts", once="w8", **halt)
    town.sam.post("/staff/halts/resume", page="/staff/halts", once="w9", scope="area", target="LV1.2")
    resumed, stopped = (ledger.entry(told.seq) for told in queries.decisions(kinds=("halt",), limit=2))
    assert (stopped["on"], stopped["reason"], len(str(stopped["commitment"]))) == (1, "drill", 64)
    assert (resumed["on"], resumed["reason"]) == (0, "resumed")


def test_an_opened_account_and_money_that_came_have_no_words_to_miss(town: Town) -> None:
    """Their entries have commitments and reasons that are about something else."""
    sam, index = town.sam.user, town.bob.account
    assert sam is not None and index is not None
    opened = next(entry for entry in ledger.entries(0, 200) if entry["type"] == "account" and entry["account"] == index)
    paid = next(entry for entry in ledger.entries(0, 200) if entry["type"] == "fund" and entry["account"] == index)
    assert opened["commitment"] and paid["reason"]
    for entry, kind, values in ((opened, "account", {"area": "LV1.1"}), (paid, "deposit", {"amount_e7": 1})):
        grid.note_entry(seq=int(entry["seq"]), at_ms=0, by=sam, kind=kind, target=str(index), values=values)
        told = queries.decision(int(entry["seq"]))
        assert told is not None and (told.reason, told.said) == ("", None)
    html = town.sam.html("/staff")
    assert "words missing" not in html and "not on the ledger" not in html


def test_the_opening_of_a_market_says_so_in_each_decision(town: Town) -> None:
    opening = [entry for entry in ledger.entries(0, 100) if entry["type"] in ("params", "fee", "capacity", "tariff")]
    assert {entry["type"] for entry in opening if entry.get("reason") == "opening"} == {
        "params", "fee", "capacity", "tariff",
    }  # fmt: skip


def test_every_code_has_a_word_and_every_form_offers_only_codes_of_its_list() -> None:
    for kind, codes in CODES.items():
        assert codes <= REASONS.keys()
        assert {code for code, _word in choices(kind)} == codes - NOT_CHOSEN
