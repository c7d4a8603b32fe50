"""All that must hold of a run of the simulation that has come to rest."""

from typing import Protocol

from simulation import asks, gatherings, invariants, outside, patterns, results, spending
from simulation.broker import CHANGELOG, Broker
from simulation.cast import CATALOG, IDEMPOTENT, Applied, catalog_of
from simulation.script import Calls


class Run(Protocol):
    """What is left of it."""

    broker: Broker
    calls: Calls
    applied: list[Applied]
    acknowledged: list[tuple[str, str, int, int]]


def check(run: Run) -> None:
    """Hold the run against every promise.

    Raises:
        AssertionError: one is broken.
    """
    assert not run.calls.bad_prompts, run.calls.bad_prompts
    assert not run.calls.overruns, run.calls.overruns
    assert not run.broker.strays, f"sent in a rebalance: {run.broker.strays}"
    topics, catalog = run.broker.topics, catalog_of(run.applied)
    invariants.check_answers(topics)
    invariants.check_state(topics, catalog, CHANGELOG)
    invariants.check_transcripts(topics, catalog)
    invariants.check_events(topics, catalog)
    invariants.check_ordered(topics, catalog)
    invariants.check_agents(topics, catalog, run.calls.told)
    asks.check_told(topics, catalog)
    asks.check_asks(topics)
    asks.check_cancelled(topics, catalog)
    asks.check_timers(topics, catalog)
    gatherings.check_gatherings(topics, catalog)
    patterns.check_patterns(topics, catalog)
    results.check_first_counts(topics, catalog)
    results.check_heard(topics, catalog)
    spending.check_spending(topics, catalog)
    outside.check_usage(topics, catalog)
    outside.check_quarantine(topics, catalog)
    outside.check_orders(topics, catalog, run.calls.started)
    invariants.check_calls(topics, catalog, run.calls.started, IDEMPOTENT, run.broker.late)
    invariants.check_refusals(topics, catalog)
    invariants.check_garbage(topics)
    invariants.check_broadcasts(topics, CATALOG)
    invariants.check_acknowledgements(run.acknowledged)
