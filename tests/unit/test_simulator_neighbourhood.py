"""The demo's neighbourhood is real, complete and refuses files that are not a city."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest

from market.simulator.founding import CONNECTION_W, connection_of
from market.simulator.neighbourhood import DATA, SHARE, STEPS_A_DAY, City, CityError, Profiles, load_city


@pytest.fixture(scope="module")
def city() -> City:
    return load_city()


def test_the_neighbourhood(city: City) -> None:
    assert 100 <= len(city.homes) <= 130
    assert sorted({home.area for home in city.homes}) == ["LV1.101", "LV1.201", "LV4.101", "LV4.201"]
    levels = [area.level for area in city.areas]
    assert [levels.count(level) for level in ("EHV", "HV", "MV", "LV")] == [1, 1, 2, 4]
    assert sum(home.pv_w > 0 for home in city.homes) == 18
    assert sum(home.battery_wh > 0 for home in city.homes) == 10
    assert city.profiles.steps == 7 * STEPS_A_DAY
    assert city.profiles.first == datetime(2016, 6, 6)


def test_every_area_is_large_enough_to_be_named(city: City) -> None:
    for area in {home.area for home in city.homes}:
        assert sum(home.area == area for home in city.homes) >= 10


def test_a_day_has_sun_and_the_homes_need_energy(city: City) -> None:
    """At noon of every weekday some home has a surplus another one can use; at night none has."""
    profiles = city.profiles
    for day in range(7):
        for step, sunny in ((day * STEPS_A_DAY + 48, True), (day * STEPS_A_DAY + 4, False)):
            nets = []
            for home in city.homes:
                use = sum(profiles.shares[i][step] * w for i, w in profiles.parts(home.load_profiles))
                make = profiles.shares[profiles.index[home.pv_profile]][step] * home.pv_w if home.pv_profile else 0
                nets.append((use - make) // SHARE)
            assert (min(nets) < -1_000) == sunny
            assert max(nets) > 1_000


def test_weekdays_and_quarters_are_kept(city: City) -> None:
    step = city.profiles.step
    assert step(datetime(2016, 6, 6, 0, 0)) == 0
    assert step(datetime(2016, 6, 12, 23, 59)) == 671
    assert step(datetime(2031, 1, 1, 10, 20)) == 2 * STEPS_A_DAY + 41, "a Wednesday"


def test_data_may_begin_at_any_time_of_any_day(city: City) -> None:
    profiles = Profiles(datetime(2016, 6, 8, 10, 0), ["flat"], [[0] * 7 * STEPS_A_DAY])
    assert profiles.step(datetime(2016, 6, 8, 10, 0)) == 0
    assert profiles.step(datetime(2026, 6, 5, 10, 15)) == 2 * STEPS_A_DAY + 1
    assert profiles.step(datetime(2026, 6, 10, 9, 45)) == 7 * STEPS_A_DAY - 1
    one_day = Profiles(datetime(2016, 6, 6), ["flat"], [[0] * STEPS_A_DAY])
    assert one_day.step(datetime(2026, 6, 10, 9, 45)) == 39


def test_a_part_of_a_city(city: City) -> None:
    part = load_city(areas=["MV1.101"], homes=20)
    assert [area.area for area in part.areas] == ["EHV", "HV1", "MV1.101", "LV1.101", "LV4.101"]
    assert len(part.homes) == 20
    assert part.homes == [home for home in city.homes if home.area.endswith("101")][:20]
    assert len(load_city(areas=["LV1.101", "LV1.201"]).homes) == 26


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("homes.csv", "H0-C*3", "H9-X*3", "H9-X"),
        ("homes.csv", "H0-C*3", "H0-C*lots", "lots"),
        ("homes.csv", ",PV6,19.0,", ",PV6,-19.0,", "-19.0"),
        ("homes.csv", ",PV6,19.0,", ",PV66,19.0,", "PV66"),
        ("areas.csv", "MV1.101,HV1", "MV1.101,HV9", "HV9"),
        ("areas.csv", "LV4.101,MV1.101", "LV1.101,MV1.101", "LV1.101"),
        ("profiles-2016-06-06.csv", "2016-06-06 00:00:00,0.0", "2016-06-06 00:00:00,x", "line 2"),
        ("profiles-2016-06-06.csv", "2016-06-06 00:00:00", "yesterday", "line 2"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    folder = tmp_path / "city"
    shutil.copytree(DATA, folder)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(CityError, match=message):
        load_city(folder)


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(CityError, match=r"profiles-2016-01-11\.csv"):
        load_city(week="2016-01-11")
    with pytest.raises(CityError, match="LV9"):
        load_city(areas=["LV9"])
    with pytest.raises(CityError, match=r"expected a file profiles-DATE\.csv"):
        load_city(tmp_path)


def test_a_city_needs_homes(tmp_path: Path) -> None:
    folder = tmp_path / "city"
    shutil.copytree(DATA, folder)
    lines = (folder / "homes.csv").read_text().splitlines(keepends=True)
    (folder / "homes.csv").write_text("".join(line for line in lines if ",LV4.201," not in line))
    with pytest.raises(CityError, match=r"expected homes in LV4\.201, there are none"):
        load_city(folder, areas=["LV4.201"])


def test_a_whole_city_keeps_its_areas_without_homes(tmp_path: Path) -> None:
    folder = tmp_path / "city"
    shutil.copytree(DATA, folder)
    with (folder / "areas.csv").open("a") as file:
        file.write("MV9.999,HV1,MV,80000\n")
    assert "MV9.999" in [area.area for area in load_city(folder).areas]
    assert "MV9.999" not in [area.area for area in load_city(folder, homes=20).areas]


def test_a_connection_carries_all_that_is_behind_it_and_half_more(city: City) -> None:
    homes = {home.code: home for home in city.homes}
    # 19 kW of sun and a load of 5 kW are an ordinary home; 30.6 kW of battery are not.
    assert connection_of(homes["LV1.101-Load-2"], city.profiles) == (CONNECTION_W, CONNECTION_W)
    assert connection_of(homes["LV1.101-Load-3"], city.profiles) == (53_400, 45_900)
    large = [home for home in city.homes if max(connection_of(home, city.profiles)) > CONNECTION_W]
    assert 0 < len(large) < len(city.homes) // 2
