"""One measurement of ``engine_growth``: ``python -m tests.load.growth_child SIZE SEED CHUNKS [one-area]`` prints JSON.

A process of its own, so that no book lies in the memory that another has left behind.
"""

from __future__ import annotations

import json
import sys

from tests.load.grid_mix import CHUNK, Mix, exchange_collector, one_area


@exchange_collector()
def main(size: int, seed: int, chunks: int, alone: bool) -> None:
    """Fill a book, run the mix on it, print microseconds a command."""
    mix = Mix(seed, size, one_area() if alone else None)
    mix.seconds(chunks // 10)  # warm up
    print(json.dumps({"us": mix.seconds(chunks) * 1_000_000 / (chunks * CHUNK)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "one-area" in sys.argv[4:])
