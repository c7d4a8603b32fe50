"""The real processors under seeded crashes, rebalances, lost connections, delays, repetitions and nonsense."""

import pytest
from simulation.plan import Plan
from simulation.run import play
from simulation.seeds import FIRST_HALF, check


@pytest.mark.parametrize("seeds", FIRST_HALF, ids=str)
def test_the_promise_holds_whatever_happens(seeds: range) -> None:
    """Every accepted message is answered once, and all else that `invariants` says."""
    check(seeds)


def test_a_seed_is_one_run() -> None:
    """What happens depends on the seed alone, so that a failure can be looked at again."""
    first, second = (play(Plan(seed=7))[0] for _ in range(2))
    assert [(at, thing.kind, thing.to) for at, thing, _ in first.journal] == [
        (at, thing.kind, thing.to) for at, thing, _ in second.journal
    ]
    assert list(first.broker.records()) == list(second.broker.records())
