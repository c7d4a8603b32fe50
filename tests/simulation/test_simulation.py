"""The real processors under seeded crashes, rebalances, lost connections, delays, repetitions and nonsense."""

import os

import pytest
from simulation.mutations import FAULTS, often
from simulation.run import Plan, play, told

# Taken out of the environment, whose variables of ours are settings: one that is none is refused.
SEEDS = int(os.environ.pop("HEADRACE_SIM_SEEDS", "1000"))
FIRST_SEED = int(os.environ.pop("HEADRACE_SIM_FIRST_SEED", "0"))
SEEDS_PER_TEST = 50
SEEDS_PER_FAULT = 300
"""In each of which a fault that is injected is found with some probability; most are found in the first ten."""


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, SEEDS_PER_TEST))
def test_the_promise_holds_whatever_happens(first: int) -> None:
    """Every accepted message is answered once, and all else that `invariants` says."""
    for seed in range(first, min(first + SEEDS_PER_TEST, FIRST_SEED + SEEDS)):
        plan = Plan(seed=seed)
        _, violation = play(plan)
        assert violation is None, told(plan, violation)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_code_is_found(name: str) -> None:
    """Each check can fail: a small deliberate fault breaks what it is for."""
    with FAULTS[name]():
        plans = (Plan(seed=seed, often=often(name)) for seed in range(SEEDS_PER_FAULT))
        assert any(play(plan)[1] for plan in plans), f"{SEEDS_PER_FAULT} seeds did not find it"


def test_a_worker_that_wakes_up_too_late_is_found_without_a_fence() -> None:
    """Without the fence, its late record of a state overwrites a newer one."""
    plans = (Plan(seed=seed, often=frozenset({"pause"}), is_fenced=False) for seed in range(SEEDS_PER_FAULT))
    assert any(play(plan)[1] for plan in plans), f"{SEEDS_PER_FAULT} seeds did not find it"


def test_a_seed_is_one_run() -> None:
    """What happens depends on the seed alone, so that a failure can be looked at again."""
    first, second = (play(Plan(seed=7))[0] for _ in range(2))
    assert [(at, thing.kind, thing.to) for at, thing, _ in first.journal] == [
        (at, thing.kind, thing.to) for at, thing, _ in second.journal
    ]
    assert list(first.broker.records()) == list(second.broker.records())
