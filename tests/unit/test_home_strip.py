"""The price strip: hours of intervals, places between the grid's prices, the best hours, and the words for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from market.agents import outlook
from market.exchange.views import LineView, TradeView
from market.pages import sales
from market.pages.context import local
from market.pages.homemarket import day_before_ms, hour_of
from market.pages.pricestrip import Moment, Slot, best_to_buy, best_to_sell, slots
from market.pages.templatetags.home import span, when, when_asked, when_paid
from market.pages.zones import shown_in

HOUR_MS = 3_600_000
QUARTER_MS = 900_000
START_MS = int(datetime(2026, 6, 6, 10, tzinfo=UTC).timestamp() * 1000)  # 12:00 where the market is


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """Sentences in English, whatever language another test has left behind."""
    with translation.override("en"):
        yield


def moment(ahead: int, bid: int | None = None, ask: int | None = None, **changes: object) -> Moment:
    made = Moment(f"c{ahead}", START_MS + ahead * QUARTER_MS, bid, ask, 4_000, 800, None, 100, False)
    return made._replace(**changes)  # type: ignore[arg-type]


def hour(ahead: int, bid: int | None = None, ask: int | None = None, **changes: object) -> Slot:
    start_ms = START_MS + ahead * HOUR_MS
    made = Slot(start_ms, start_ms + HOUR_MS, (f"h{ahead}",), bid, ask, 4_000, 800, None, 400, False)
    return made._replace(**changes)  # type: ignore[arg-type]


def test_an_hour_has_the_best_of_its_intervals() -> None:
    found = slots([moment(2, 1_500, 2_900), moment(3, 1_700, None), moment(4, None, 2_500)], hour_of)
    assert [(slot.start_ms - START_MS, slot.contracts, slot.bid_e4, slot.ask_e4, slot.net_wh) for slot in found] == [
        (0, ("c2", "c3"), 1_700, 2_900, 200),
        (HOUR_MS, ("c4",), None, 2_500, 100),
    ]
    assert len(slots([moment(ahead) for ahead in range(200)], hour_of)) == 24


def test_the_quarter_of_the_best_price_is_named() -> None:
    """Buying and selling may be best in the same hour: by the quarter it is no contradiction."""
    (found,) = slots([moment(0, 1_500, 2_900), moment(1, 1_700, 2_900), moment(2, 1_700, 2_500)], hour_of)
    assert when_paid(found, START_MS - 1) == "between 12:15 and 12:30"  # the earlier of two that pay the same
    assert when_asked(found, START_MS - 1) == "between 12:30 and 12:45"
    (quiet,) = slots([moment(0, usual_e4=1_500)], hour_of)
    assert when_paid(quiet, START_MS - 1) == when_asked(quiet, START_MS - 1) == "between 12:00 and 13:00"


def test_a_halted_interval_does_not_count_and_a_halted_hour_says_so() -> None:
    part, whole = slots([moment(0, 3_000, halted=True), moment(1, 1_000), moment(4, 3_000, 900, halted=True)], hour_of)
    assert (part.bid_e4, part.halted) == (1_000, False)
    assert (whole.bid_e4, whole.ask_e4, whole.halted) == (None, None, True)


@pytest.mark.parametrize(("price_e4", "permille"), [(800, 0), (4_000, 1_000), (2_400, 500), (100, 0), (9_000, 1_000)])
def test_a_price_has_its_place_between_the_grids(price_e4: int, permille: int) -> None:
    assert hour(0, price_e4, price_e4).bid_place == hour(0, price_e4, price_e4).ask_place == permille


def test_the_best_hours() -> None:
    found = [hour(0, 1_500, 2_500), hour(1, 1_900, 2_000), hour(2, 1_900, 2_000), hour(9, 3_500, 3_600, net_wh=-300)]
    assert best_to_sell(found) == found[1]  # the night pays more, but there is nothing to sell
    assert best_to_buy(found) == found[1]
    assert best_to_sell([hour(9, 3_500, net_wh=None)]) is not None
    assert best_to_sell([hour(0, 800), hour(1, 3_000, halted=True)]) is None
    assert best_to_buy([hour(0, None, 4_000)]) is None


def test_the_day_before_counts_where_nobody_offers() -> None:
    found = [hour(0, usual_e4=1_500), hour(1, usual_e4=2_500)]
    assert (best_to_sell(found), best_to_buy(found)) == (found[1], found[0])
    assert best_to_sell([*found, hour(2, 900)]).start_ms == START_MS + 2 * HOUR_MS  # type: ignore[union-attr]


def test_when_is_said_in_words() -> None:
    assert local(START_MS).hour == 12
    assert span(START_MS, START_MS + HOUR_MS, START_MS - QUARTER_MS) == "between 12:00 and 13:00"
    assert span(START_MS, START_MS + HOUR_MS, START_MS - 20 * HOUR_MS) == "tomorrow between 12:00 and 13:00"
    assert span(START_MS, START_MS + HOUR_MS, START_MS - 60 * HOUR_MS) == "Sat, 6 Jun between 12:00 and 13:00"
    with translation.override("zh-hans"):
        assert when(hour(0), START_MS - 20 * HOUR_MS) == "明天 12:00 至 13:00"
    assert when(hour(0), START_MS + QUARTER_MS) == "between 12:15 and 13:00"  # of an hour that runs, what is left


def test_tomorrow_is_the_reader_s() -> None:
    with shown_in("Asia/Shanghai"):  # 18:00 there
        assert span(START_MS, START_MS + HOUR_MS, START_MS - QUARTER_MS) == "between 18:00 and 19:00"
        late_ms = START_MS + 7 * HOUR_MS  # 01:00 of the next day there, 19:00 here
        assert span(late_ms, late_ms + HOUR_MS, START_MS) == "tomorrow between 01:00 and 02:00"


def test_the_day_before_is_the_clock_s_where_clocks_change() -> None:
    noon_ms = int(datetime(2026, 3, 29, 10, tzinfo=UTC).timestamp() * 1000)  # 12:00, and the day has 23 hours
    assert day_before_ms(noon_ms) == noon_ms - 23 * HOUR_MS
    assert day_before_ms(START_MS) == START_MS - 24 * HOUR_MS


@pytest.mark.parametrize(
    ("slot", "sentence"),
    [
        (hour(0, 2_100, 2_850), "12:00–13:00: neighbours pay up to €0.21 and ask from €0.2850."),
        (hour(0, 2_100), "12:00–13:00: neighbours pay up to €0.21; nobody sells yet."),
        (hour(0, None, 2_850), "12:00–13:00: neighbours ask from €0.2850; nobody buys yet."),
        (hour(0, usual_e4=1_900), "12:00–13:00: nobody offers anything yet. The day before it was €0.19."),
        (hour(0, halted=True), "12:00–13:00: trading is stopped."),
    ],
)
def test_an_hour_has_a_sentence(slot: Slot, sentence: str) -> None:
    other = SimpleNamespace(trading=SimpleNamespace(sell_at=None, buy_at=None))
    assert render_to_string("home/slot.html", {"slot": slot, "home": other}).strip() == sentence
    best = SimpleNamespace(trading=SimpleNamespace(sell_at=slot, buy_at=slot))
    expected = sentence if slot.halted else f"{sentence} Best time to sell. Cheapest time to buy."
    assert render_to_string("home/slot.html", {"slot": slot, "home": best}).strip() == expected


# --- forecasts from the home's own meter -----------------------------------------------------------------------------
def readings(days: int, today: int, made: int = 400) -> dict[int, tuple[int, int]]:
    """Return some whole days with sun in their second half, and the quarters of today that were read."""
    count = days * 96 + today
    return {START_MS + n * QUARTER_MS: (made if n % 96 >= 48 else 0, 100) for n in range(count)}


def test_ordinary_days_are_expected_again() -> None:
    known = readings(3, 10)
    found = outlook.expect(known, next_ms=max(known) + 2 * QUARTER_MS, interval_ms=QUARTER_MS)
    assert found is not None
    assert len(found.made_wh) == len(found.used_wh) == 96
    assert found.made_wh[:37] == (0,) * 37
    assert found.made_wh[37:85] == (400,) * 48  # from the 48th quarter on: 11 behind the tenth that was read
    assert set(found.used_wh) == {100}


def test_a_dull_morning_makes_the_next_hours_dull() -> None:
    known = readings(3, 60)
    known.update(dict.fromkeys(sorted(known)[-6:], (100, 100)))
    found = outlook.expect(known, next_ms=max(known) + QUARTER_MS, interval_ms=QUARTER_MS)
    assert found is not None
    assert found.made_wh[0] < 200 < found.made_wh[11] <= 400


def test_nothing_is_said_without_a_whole_day_or_after_long_silence() -> None:
    known = readings(0, 90)
    assert outlook.expect(known, next_ms=max(known) + QUARTER_MS, interval_ms=QUARTER_MS) is None
    known = readings(2, 10)
    assert outlook.expect(known, next_ms=max(known) + 30 * QUARTER_MS, interval_ms=QUARTER_MS) is None
    assert outlook.expect(known, next_ms=max(known), interval_ms=QUARTER_MS) is None
    assert outlook.expect({}, next_ms=START_MS, interval_ms=QUARTER_MS) is None


def test_a_gap_is_filled_from_other_days() -> None:
    known = readings(3, 10)
    del known[START_MS + 60 * QUARTER_MS]
    found = outlook.expect(known, next_ms=max(known) + QUARTER_MS, interval_ms=QUARTER_MS)
    assert found is not None
    assert 400 in found.made_wh
    assert set(found.made_wh) == {0, 400}


# --- the end of the story --------------------------------------------------------------------------------------------
def trade(seq: int, contract: str, seller: int, energy_wh: int, recalled: int = 0) -> TradeView:
    return TradeView(
        seq, 0, contract, 1, 2, energy_wh, 2_100, 2_000, "buy", 3 - seller, seller, 1, 2, "A", "A", 0, 0, recalled
    )


def settled(contract: str, seq: int, short_wh: int = 0, short_e7: int = 0) -> LineView:
    return LineView(seq, 1, 0, contract, "A", 0, 0, "measured", 0, short_wh, 0, 0, 0, 0, short_e7, 0, 0)


def test_a_sale_goes_from_agreed_to_paid() -> None:
    starts = {name: START_MS + n * QUARTER_MS for n, name in enumerate(["c0", "c1", "c2", "c3"])}
    trades = [trade(9, "c3", 1, 100), trade(8, "c2", 1, 100), trade(7, "c1", 1, 300), trade(6, "c0", 1, 100),
              trade(5, "c0", 1, 200), trade(4, "c0", 2, 50), trade(3, "c3", 1, 999, recalled=10)]  # fmt: skip
    found = sales.story(
        trades,
        {"c0": settled("c0", 12, 40, 5_000)},
        account=1,
        start_of=starts,
        interval_ms=QUARTER_MS,
        now_ms=START_MS + 2 * QUARTER_MS + 1,
    )
    assert [(sale.contract, sale.sold, sale.state, sale.energy_wh) for sale in found] == [
        ("c3", True, "agreed", 100),
        ("c2", True, "running", 100),
        ("c1", True, "delivered", 300),
        ("c0", True, "paid", 300),
        ("c0", False, "paid", 50),
    ]
    paid = sales.newest_paid(found)
    assert paid is not None
    assert (paid.contract, paid.seq, paid.amount_e7, paid.paid_e7) == ("c0", 12, 600_000, 595_000)
    assert found[-1].amount_e7 == 50 * 2_100
    lost = paid._replace(contract="2026-06-06T10:00Z", short_e7=1_000_000)  # the grid's price is higher
    home = SimpleNamespace(
        paid=lost, sales=[lost], shown_sales=[lost], trading=SimpleNamespace(offered_wh=0, asked_wh=0)
    )
    html = render_to_string("home/sales.html", {"home": home})
    assert "Sold and not delivered: it cost €0.04" in html and "<strong>−€0.04</strong>" in html
    assert sales.newest_paid(found[:3]) is None


def test_who_has_sold_half_a_day_sees_what_comes_next_and_what_was_paid() -> None:
    names = [f"c{n:02}" for n in range(20)]
    starts = {name: START_MS + n * QUARTER_MS for n, name in enumerate(names)}
    trades = [trade(100 - n, name, 1, 100) for n, name in enumerate(names)]
    paid = {"c00": settled("c00", 200), "c01": settled("c01", 201)}
    now_ms = START_MS + 2 * QUARTER_MS
    found = sales.story(trades, paid, account=1, start_of=starts, interval_ms=QUARTER_MS, now_ms=now_ms)
    assert [sale.contract for sale in sales.shown(found)] == ["c07", "c06", "c05", "c04", "c03", "c02", "c01", "c00"]
    later = sales.story(trades, paid, account=1, start_of=starts, interval_ms=QUARTER_MS, now_ms=now_ms + 2**40)
    assert [sale.contract for sale in sales.shown(later)] == names[:-9:-1]
    newest = sales.newest_paid(found)
    assert newest is not None and newest.contract == "c01"
