"""Model calls in flight at once in one worker, and the memory that they take; and that of sessions at rest.

Drives a running `headrace dev`: publishes messages to N sessions, to which the simulated model takes many seconds, so
that all calls are in flight together, watches how many it has at once and how the worker's memory grows, and waits
until all are answered. Two figures for each N: the growth when the most calls were in flight, before answers came,
and the most at any time, when all answers stream in. Both count the sessions' state, and what libraries keep.

Beside it, in the same run and each in a fresh process that does nothing else: the floor, as many calls of the same
model with Anthropic's SDK; and as many answers awaited with `headrace.client`.

Then the sessions at rest: N sessions are answered at once, and rest; how much the worker has grown for each.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import orjson
import uvloop
from floors import Calls, closed_loop
from stack import Meter, add_stack_arguments, readers_stopped, resident_kib, simulated_stack
from turns import Target, Turns

from headrace.client import Headrace

SAMPLE_S = 0.25
WARM_UPS = 20
TEXT = "Good morning!"
RESTING_AT_ONCE = 200
SETTLE_S = 2.0
Work = Callable[[int, str], Awaitable[float]]


class Growth:
    """The memory of a process, in KiB, while the model has more and more calls."""

    def __init__(self, pid: int, model: str) -> None:
        self._pid = pid
        self._model = model
        self._before = self._at_peak = self._most = resident_kib(pid)
        self._peak = 0

    async def watch(self) -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                await asyncio.sleep(SAMPLE_S)
                in_flight, resident = await calls_in_flight(http, self._model), resident_kib(self._pid)
                if in_flight > self._peak:
                    self._peak, self._at_peak = in_flight, resident
                self._most = max(self._most, resident)

    def __str__(self) -> str:
        peak = max(self._peak, 1)
        return (
            f"peak in flight={self._peak:<5} {self._before / 1024:.0f} → {self._most / 1024:.0f} MiB  "
            f"{(self._at_peak - self._before) / peak:5.1f} KiB per call in flight, "
            f"{(self._most - self._before) / peak:5.1f} at most"
        )


async def calls_in_flight(http: aiohttp.ClientSession, model: str) -> int:
    async with http.get(f"{model}/control/calls?brief=1") as response:
        totals: dict[str, int] = orjson.loads(await response.read())["totals"]
        return totals["in_flight"]


async def grown(pid: int, model: str, arguments: argparse.Namespace, count: int, work: Work) -> str:
    """`work(number, text)` for each of `count`, all at once, and what the process took for it."""
    # What is made once is not counted.
    await asyncio.gather(*(work(-number - 1, TEXT) for number in range(WARM_UPS)))
    await asyncio.sleep(SETTLE_S)
    growth = Growth(pid, model)
    watching = asyncio.create_task(growth.watch())
    started = time.perf_counter()
    text = f"{TEXT} [[latency:{arguments.latency}]]"
    latencies = sorted(await asyncio.gather(*(work(number, text) for number in range(count))))
    seconds = time.perf_counter() - started
    watching.cancel()
    return (
        f"n={count:<5} {growth}  p50={statistics.median(latencies):.2f} s "
        f"p99={latencies[int(count * 0.99)]:.2f} s  all in {seconds:.1f} s"
    )


async def of_the_worker(target: Target, model: str, arguments: argparse.Namespace, count: int) -> str:
    run = f"in-flight-{time.time_ns()}"
    async with Turns(target) as turns:

        async def work(number: int, text: str) -> float:
            return await turns.turn(f"{run}-{number}", text)

        line = await grown(target.worker_pids[0], model, arguments, count, work)
        return f"worker {line}  failed={turns.failed}"


async def of_the_sdk(model: str, arguments: argparse.Namespace, count: int) -> str:
    async with Calls(model) as calls:
        return f"SDK    {await grown(os.getpid(), model, arguments, count, lambda _, text: calls.call(text))}"


async def of_the_client(brokers: str, model: str, arguments: argparse.Namespace, count: int) -> str:
    run = f"asked-{time.time_ns()}"
    async with Headrace(brokers) as client:

        async def work(number: int, text: str) -> float:
            started = time.perf_counter()
            await client.ask(f"{run}-{number}", text)
            return time.perf_counter() - started

        return f"client {await grown(os.getpid(), model, arguments, count, work)}"


async def at_rest(target: Target, count: int) -> str:
    run = f"resting-{time.time_ns()}"
    async with Turns(target) as turns:
        await asyncio.gather(*(turns.turn(f"{run}-warm-{number}", TEXT) for number in range(RESTING_AT_ONCE)))
        await asyncio.sleep(SETTLE_S)
        before = resident_kib(target.worker_pids[0])
        await closed_loop(lambda n: turns.turn(f"{run}-{n}", TEXT), count, RESTING_AT_ONCE, Meter({}))
        await asyncio.sleep(SETTLE_S)
        grown = resident_kib(target.worker_pids[0]) - before
        return (
            f"at rest n={count} {before / 1024:.0f} → {(before + grown) / 1024:.0f} MiB  "
            f"{grown / count:.1f} KiB per session"
        )


def fresh_process(role: str, count: int) -> None:
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--role", role, "--calls", str(count)], check=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_arguments(parser)
    parser.add_argument("--calls", type=int, nargs="+", default=[1_000, 5_000])
    parser.add_argument("--latency", type=float, default=20.0, help="of each call, in seconds: time for all to begin")
    parser.add_argument("--resting", type=int, default=10_000, help="sessions at rest; 0: none")
    parser.add_argument("--role", choices=["sdk", "client"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    endpoints, model = simulated_stack(arguments)
    if arguments.role == "sdk":
        print(await of_the_sdk(model, arguments, arguments.calls[0]), flush=True)
        return
    if arguments.role == "client":
        print(await of_the_client(endpoints.kafka, model, arguments, arguments.calls[0]), flush=True)
        return
    target = Target(endpoints.kafka, "", endpoints.worker_pids)
    with readers_stopped(endpoints, wanted=arguments.alone):
        for count in arguments.calls:
            await asyncio.to_thread(fresh_process, "sdk", count)
            print(await of_the_worker(target, model, arguments, count), flush=True)
            await asyncio.to_thread(fresh_process, "client", count)
        if arguments.resting:
            print(await at_rest(target, arguments.resting), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
