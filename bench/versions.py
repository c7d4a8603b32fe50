"""CPU of a turn in several checkouts, in the same seconds.

Drives a running `headrace dev`: a worker of each checkout on topics of its own, all on the stack's brokers and its
simulated model, each with C turns under way all the time. What slows one of them down slows down the others, so a few
percent can be told apart on a machine that others use too; of workers that run one after the other, they cannot.

    git worktree add ../before COMMIT
    bench/versions.py ../before .               the others to the first, window by window; medians and means at the end

Give a checkout twice to see how far two workers of the same code differ.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from own_worker import BenchWorker, delete_topics
from stack import add_stack_arguments, cpu_seconds, readers_stopped, simulated_stack
from turns import TEXTS, Target, Turns

from headrace.stack.endpoints import Endpoints
from headrace.topics import apply_topics
from runtime.settings import Settings

WARM_UP_S = 6.0


@dataclass(eq=False)
class Contender:
    """A worker of one checkout, and how many turns it has done; `per_turn` has the CPU seconds of each window."""

    worker: BenchWorker
    done: int = 0
    per_turn: list[float] = field(default_factory=list)

    async def answer(self, text: str, concurrency: int, until: asyncio.Event) -> None:
        """Keep so many turns under way."""
        run = uuid.uuid4().hex[:8]
        settings = self.worker.settings

        async def one(place: int, turns: Turns) -> None:
            number = 0
            while not until.is_set():
                number += 1
                await turns.turn(f"{run}-{place}-{number}", text)
                self.done += 1

        async with Turns(Target(settings.brokers, settings.topic_prefix, [self.worker.pid])) as turns:
            await asyncio.gather(*(one(place, turns) for place in range(concurrency)))
            assert not turns.failed, f"expected turns that end well, got {turns.failed} that failed"

    def taken(self) -> tuple[float, int]:
        return cpu_seconds([self.worker.pid]), self.done


def contender(endpoints: Endpoints, model: str, checkout: Path, home: Path) -> Contender:
    run = uuid.uuid4().hex[:8]
    settings = Settings(brokers=endpoints.kafka, topic_prefix=f"bench-{run}-", replication=1)
    return Contender(BenchWorker(settings, model, home / run, checkout=checkout.resolve()))


async def measure(contenders: Sequence[Contender], arguments: argparse.Namespace) -> None:
    """One start of all of them."""
    until = asyncio.Event()
    text = TEXTS[arguments.kind]
    async with asyncio.TaskGroup() as group:
        for one in contenders:
            group.create_task(one.answer(text, arguments.concurrency, until))
        await asyncio.sleep(WARM_UP_S)
        for _ in range(arguments.windows):
            before = [one.taken() for one in contenders]
            await asyncio.sleep(arguments.seconds)
            shown = []
            for one, (cpu, done) in zip(contenders, before, strict=True):
                cpu_now, done_now = one.taken()
                one.per_turn.append((cpu_now - cpu) / max(done_now - done, 1))
                shown.append(f"{one.per_turn[-1] * 1e3:.2f} ms ({(done_now - done) / arguments.seconds:.0f}/s)")
            print("   ".join(shown), flush=True)
        until.set()


def print_ratios(checkouts: Sequence[Path], per_turn: Sequence[Sequence[float]]) -> None:
    for checkout, times in zip(checkouts, per_turn, strict=True):
        ratios = [time / first for time, first in zip(times, per_turn[0], strict=True)]
        error = statistics.stdev(ratios) / len(ratios) ** 0.5
        print(
            f"{checkout}: {statistics.median(times) * 1e3:.2f} ms of CPU per turn; to the first: "
            f"median {statistics.median(ratios):.3f}, mean {statistics.mean(ratios):.3f} ± {error:.3f}, "
            f"{len(ratios)} windows"
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_arguments(parser)
    parser.add_argument("checkouts", type=Path, nargs="+")
    parser.add_argument("--kind", choices=list(TEXTS), default="plain")
    parser.add_argument("--concurrency", type=int, default=50, help="turns under way in each worker")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--starts", type=int, default=2, help="start all workers anew so often: each differs a little")
    arguments = parser.parse_args()
    if arguments.windows <= 1:
        parser.error("expected more windows than one")
    endpoints, model = simulated_stack(arguments)
    home = Path(tempfile.mkdtemp(prefix="headrace-versions-"))
    found: defaultdict[int, list[float]] = defaultdict(list)
    try:
        with readers_stopped(endpoints, wanted=arguments.alone):
            for _ in range(arguments.starts):
                contenders = [contender(endpoints, model, checkout, home) for checkout in arguments.checkouts]
                async with AsyncExitStack() as ending:
                    for one in contenders:
                        await apply_topics(one.worker.settings)
                        ending.push_async_callback(delete_topics, one.worker.settings)
                        ending.push_async_callback(one.worker.stop)
                        await one.worker.start()
                    await measure(contenders, arguments)
                for place, one in enumerate(contenders):
                    found[place] += one.per_turn
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print_ratios(arguments.checkouts, [found[place] for place in range(len(arguments.checkouts))])


if __name__ == "__main__":
    uvloop.run(main())
