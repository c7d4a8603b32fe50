"""The other half of the seeds; see `seeds`."""

import pytest
from simulation.seeds import SECOND_HALF, check


@pytest.mark.parametrize("seeds", SECOND_HALF, ids=str)
def test_the_promise_holds_whatever_happens(seeds: range) -> None:
    """Every accepted message is answered once, and all else that `invariants` says."""
    check(seeds)
