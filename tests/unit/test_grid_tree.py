"""The drawing of the grid: what is shown, where, and what is folded."""

from __future__ import annotations

import time

from market.grid import tree

TOWN = {"R": "", "A": "R", "A1": "A", "A2": "A", "B": "R", "B1": "B"}


def city(substations: int = 12, feeders: int = 36) -> dict[str, str]:
    """Return a city of one root, substations, and feeders below each."""
    parents = {"R": ""}
    for n in range(substations):
        parents[f"S{n}"] = "R"
        parents |= {f"S{n}.F{m}": f"S{n}" for m in range(feeders)}
    return parents


def names(rows: list[tree.Placed]) -> list[str]:
    """Return areas in the order of their rows; what is folded has its number."""
    return [f"{row.area}+{row.count}" if row.kind == "more" else row.area for row in rows]


def test_a_small_grid_is_shown_whole_hot_branches_first() -> None:
    rows = tree.place(TOWN, {"A": 100, "A1": 50, "A2": 300, "B": 20, "B1": 900})
    assert names(rows) == ["R", "B", "B1", "A", "A2", "A1"]
    assert [row.depth for row in rows] == [0, 1, 2, 1, 2, 2]
    assert [row.row for row in rows] == list(range(6))
    assert rows[0].heat == 900 and rows[3].heat == 300, "an area's heat is that of its branch"


def test_the_trunk_reaches_from_an_area_to_its_last_child() -> None:
    rows = tree.place(TOWN, {"B1": 900})
    trunks = {row.area: row.trunk for row in rows}
    assert trunks == {"R": 3, "B": 1, "B1": 0, "A": 2, "A1": 0, "A2": 0}


def test_443_areas_fit_on_two_screens_and_nothing_is_lost_or_slow() -> None:
    parents = city()
    assert len(parents) == 445
    heat = {"S7.F9": 990, "S3.F1": 700}
    started_s = time.process_time()
    rows = tree.place(parents, heat)
    assert time.process_time() - started_s < 0.1
    assert len(rows) <= tree.MAX_ROWS
    assert names(rows)[:3] == ["R", "S7", "S7.F9"], "the hottest edge is on top, with the way to it"
    assert sum(row.count if row.kind == "more" else 1 for row in rows) == len(parents)
    for row in rows:
        if row.kind == "more":
            assert row.count > 0


def test_what_is_folded_says_how_full_the_fullest_of_it_is() -> None:
    parents = {"R": "", **{f"F{n:02}": "R" for n in range(20)}}
    rows = tree.place(parents, {f"F{n:02}": n for n in range(20)})
    assert names(rows)[1] == "F19" and len(rows) == 1 + tree.SHOWN_CHILDREN + 1
    assert (rows[-1].kind, rows[-1].count, rows[-1].heat) == ("more", 8, 7)


def test_a_chosen_branch_is_opened_and_the_way_to_it_stays() -> None:
    parents = city()
    rows = tree.place(parents, {"S1": 999}, chosen="S5")
    assert names(rows)[:3] == ["R", "S5", "S5.F0"]
    shown = [row.area for row in rows if row.kind == "area"]
    assert shown[2:] == sorted(f"S5.F{m}" for m in range(36))[: tree.SHOWN_CHILDREN]
    other = next(row for row in rows if row.kind == "more" and row.area == "R")
    assert (other.count, other.heat) == (11 * 37, 999), "the rest of the city is one row and says that it is hot"
    whole = tree.place(parents, {}, chosen="S5", whole=True)
    assert sum(row.area.startswith("S5.F") for row in whole) == 36


def test_an_unknown_area_shows_the_whole_grid_and_no_grid_shows_nothing() -> None:
    assert tree.place(TOWN, {}, chosen="X") == tree.place(TOWN, {})
    assert tree.place({}, {}) == []


def test_search_finds_parts_of_names_beginnings_first() -> None:
    areas = ["LV1.101", "MV1.101", "LV4.101", "LV1.201"]
    assert tree.search(areas, " lv1") == ["LV1.101", "LV1.201"]
    assert tree.search(areas, "1.1") == ["LV1.101", "MV1.101"]
    assert tree.search(areas, "mv") == ["MV1.101"]
    assert tree.search(areas, "  ") == []
    assert len(tree.search([f"A{n}" for n in range(100)], "a")) == tree.FOUND
