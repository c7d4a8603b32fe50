"""`make sim`: as many runs as wanted, over all cores; or one, shown step by step."""

import argparse
import os
import sys
import time

from simulation.faults import FAULTS
from simulation.plan import STEPS, Plan
from simulation.points import await_points
from simulation.run import Tally, play, schedule, table, tally_in_parallel, told

MAX_TOLD = 3
"""Violations that are shown in full; further ones have their seeds shown."""


def main() -> int:
    options = _options()
    if options.seed is not None:
        return _show(Plan(seed=options.seed, steps=options.steps, without=frozenset(options.without)))
    plans = [
        Plan(seed=seed, steps=options.steps, without=frozenset(options.without))
        for seed in range(options.first, options.first + options.seeds)
    ]
    begun, result = time.monotonic(), Tally()
    for part in tally_in_parallel(plans, options.jobs):
        result.add(part)
        for plan, violation in part.violations:
            print(f"seed {plan.seed}: {violation}", flush=True)
    for plan, violation in result.violations[:MAX_TOLD]:
        print(told(plan, violation))
    print(table(result))
    for module, line in sorted(await_points().keys() - result.points):
        print(f"not killed at: streams/{module}.py:{line} in {await_points()[module, line]}")
    print(f"{time.monotonic() - begun:.0f} s with {options.jobs} processes")
    return bool(result.violations)


def _show(plan: Plan) -> int:
    world, violation = play(plan)
    print("\n".join(schedule(world, len(world.journal))))
    print(violation or "all that must hold does")
    if violation is not None:
        print(told(plan, violation))
    return violation is not None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many runs")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one run, shown step by step")
    parser.add_argument("--steps", type=int, default=STEPS, help="while faults happen")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument(
        "--without", type=lambda text: text.split(",") if text else [], default=[], help=f"of {', '.join(FAULTS)}"
    )
    options = parser.parse_args()
    unknown = set(options.without) - set(FAULTS)
    if unknown:
        parser.error(f"expected kinds of faults in --without, got {sorted(unknown)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
