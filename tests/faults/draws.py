"""Which runs are made: SEED=123 makes that one, SEEDS=1000 so many, from FIRST_SEED on."""

import os

SEEDS = 50


def seeds() -> list[int]:
    """Those of this run."""
    if named := os.environ.get("SEED"):
        return [int(one) for one in named.split(",")]
    first = int(os.environ.get("FIRST_SEED") or 1)
    return list(range(first, first + int(os.environ.get("SEEDS") or SEEDS)))
