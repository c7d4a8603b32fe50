"""The seeds that `make test` plays, in two halves: each is a file of tests, and files share the cores."""

import os

from simulation.plan import Plan
from simulation.run import play, told

# Taken out of the environment, whose variables of ours are settings: one that is none is refused.
SEEDS = int(os.environ.pop("HEADRACE_SIM_SEEDS", "1000"))
FIRST_SEED = int(os.environ.pop("HEADRACE_SIM_FIRST_SEED", "0"))
SEEDS_PER_TEST = 50
MIDDLE = FIRST_SEED + SEEDS // 2


def _parts(first: int, end: int) -> list[range]:
    return [range(part, min(part + SEEDS_PER_TEST, end)) for part in range(first, end, SEEDS_PER_TEST)]


FIRST_HALF, SECOND_HALF = _parts(FIRST_SEED, MIDDLE), _parts(MIDDLE, FIRST_SEED + SEEDS)


def check(seeds: range) -> None:
    """Every accepted message is answered once, and all else that `invariants` says."""
    for seed in seeds:
        plan = Plan(seed=seed)
        _, violation = play(plan)
        assert violation is None, told(plan, violation)
