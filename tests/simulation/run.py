"""Many runs of the simulation, over all cores; what happened in one that fails, and the least that makes it fail."""

import gc
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

import structlog
from simulation.bugs import PlantedBugError
from simulation.faults import FAULTS
from simulation.plan import Plan
from simulation.points import Point, await_points
from simulation.world import START, World

SEEDS_PER_TASK = 20
SHOWN = 120
"""The last lines of a schedule: what went wrong is near its end."""


@dataclass(slots=True)
class Tally:
    """What runs came to. `violations`: the plans that failed, and how."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    points: set[Point] = field(default_factory=set)
    violations: list[tuple[Plan, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.seeds += other.seeds
        self.counts += other.counts
        self.points |= other.points
        self.violations += other.violations


class _Errors(logging.Handler):
    """What asyncio says of exceptions that nobody retrieved."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}")


@contextmanager
def heard_errors() -> Iterator[list[str]]:
    """The errors that are logged meanwhile: each is a bug of ours. All else is not said."""
    errors: list[str] = []

    def note(_: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        is_planted = isinstance(event.get("exc_info"), PlantedBugError)
        if method in {"error", "exception", "critical"} and not is_planted:
            errors.append(str(event))
        raise structlog.DropEvent

    before, handler, logger = structlog.get_config(), _Errors(errors), logging.getLogger("asyncio")
    logger.addHandler(handler)
    logger.propagate = False
    structlog.configure(processors=[note], wrapper_class=structlog.stdlib.BoundLogger)
    try:
        yield errors
    finally:
        structlog.configure(**before)
        logger.propagate = True
        logger.removeHandler(handler)


def play(plan: Plan) -> tuple[World, str | None]:
    """Run a plan; the world as it is afterwards, and what does not hold in it."""
    world = World(plan)
    # A third of a run's time would go into looking for cycles; what it leaves is small, and is looked through after it.
    gc.disable()
    with heard_errors() as errors:
        try:
            world.play()
        except Exception as error:  # noqa: BLE001  # Whatever breaks is what is looked for; it is handed on.
            return world, f"{type(error).__name__}: {error}"
        finally:
            gc.enable()
    return world, f"errors were logged: {errors}" if errors else None


def tally(plans: Iterable[Plan]) -> Tally:
    """Run all plans in this process."""
    result = Tally()
    for plan in plans:
        world, violation = play(plan)
        result.seeds += 1
        result.counts += world.counts + world.calls.counts
        result.points |= world.crash_points
        if violation is not None:
            result.violations.append((plan, violation))
    return result


def tally_in_parallel(plans: list[Plan], jobs: int) -> Iterator[Tally]:
    """The results of some plans each, as they come."""
    parts = [plans[first : first + SEEDS_PER_TASK] for first in range(0, len(plans), SEEDS_PER_TASK)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(tally, parts)


def shrunk(plan: Plan) -> Plan:
    """A plan that fails too, with fewer steps and kinds of faults."""
    least = _with_fewer_steps(plan)
    for kind in FAULTS:
        candidate = replace(least, without=least.without | {kind})
        if play(candidate)[1] is not None:
            least = candidate
    return _with_fewer_steps(least)


def _with_fewer_steps(plan: Plan) -> Plan:
    """Halve the part that is taken away until nothing can be."""
    part = plan.steps // 2
    while part:
        candidate = replace(plan, steps=plan.steps - part)
        if candidate.steps > 0 and play(candidate)[1] is not None:
            plan = candidate
        else:
            part //= 2
    return plan


def schedule(world: World, shown: int = SHOWN) -> list[str]:
    """Who did what, in order, with the time in the world."""
    lines: list[str] = []
    for at, (kind, to, _), said in world.journal[-shown:]:
        who = to if isinstance(to, str) else f"{to[0]} {to[1]}/{to[2]}"
        lines.append(
            f"{(at - START).total_seconds():9.3f} s  {kind:15} {who} {said if said is not None else ''}".rstrip()
        )
    left_out = len(world.journal) - len(lines)
    return [f"... {left_out} before that"] * bool(left_out) + lines


def told(plan: Plan, violation: str) -> str:
    """All that one needs to look for the cause of a violation."""
    least = shrunk(plan)
    world, last = play(least)
    lines = [f"seed {plan.seed}: {violation}", f"Again: {plan.command()}"]
    if least != plan:
        lines += [f"The least of it: {least.command()}", f"  {last}"]
    return "\n".join([*lines, *schedule(world)])


def table(result: Tally) -> str:
    """Seeds, steps, faults by kind, await points and violations."""
    reached, all_points = result.points & await_points().keys(), await_points().keys()
    rows = [
        ("seeds", result.seeds),
        ("steps", result.counts["step"]),
        *((kind, result.counts[kind]) for kind in FAULTS),
        *((kind, count) for kind, count in sorted(result.counts.items()) if kind.startswith(("stream ", "tool "))),
        ("await points at which a worker was killed", f"{len(reached)} of {len(all_points)}"),
        ("violations", len(result.violations)),
    ]
    return "\n".join(f"{name:45} {value:>12}" for name, value in rows)
