"""Each check can fail: a small deliberate fault in the code breaks what it is for."""

import pytest
from simulation.mutations import FAULTS, plan_for
from simulation.plan import Plan
from simulation.run import play

SEEDS_PER_FAULT = 600
"""In each of which a fault that is injected is found with some probability; most are found in the first ten."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_code_is_found(name: str) -> None:
    """By one of the seeds that are tried."""
    with FAULTS[name]():
        plans = (plan_for(name, seed) for seed in range(SEEDS_PER_FAULT))
        assert any(play(plan)[1] for plan in plans), f"{SEEDS_PER_FAULT} seeds did not find it"


def test_a_worker_that_wakes_up_too_late_is_found_without_a_fence() -> None:
    """Without the fence, its late record of a state overwrites a newer one."""
    plans = (Plan(seed=seed, often=frozenset({"pause"}), is_fenced=False) for seed in range(SEEDS_PER_FAULT))
    assert any(play(plan)[1] for plan in plans), f"{SEEDS_PER_FAULT} seeds did not find it"
