"""`make bench` finds its benchmarks: each has a name, and every file that looks like one can be asked for them."""

from tests.load.bench import find


def test_every_benchmark_is_found_by_its_name() -> None:
    assert {
        "engine_grid",
        "durable_postgres",
        "audit",
        "readings",
        "settle_city_s",
        "paint",
        "autopilots_city_s",
    } <= set(find())
