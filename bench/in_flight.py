"""Model calls in flight at once in one worker, and the memory that they take.

Drives a `headrace dev --model-latency 20` (seconds, so that all calls are in flight together): publishes messages to N
sessions, watches how many calls the simulated model has at once and how the worker's memory grows, and waits until all
are answered.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path

import aiohttp
import orjson
import uvloop
from turns import Target, Turns

from headrace.stack.endpoints import read_endpoints
from runtime.settings.values import user_data_dir

SAMPLE_S = 0.25


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit(f"expected a running process {pid}, got none: the worker has ended")


async def in_flight(http: aiohttp.ClientSession, model: str) -> int:
    async with http.get(f"{model}/control/calls?brief=1") as response:
        totals: dict[str, int] = orjson.loads(await response.read())["totals"]
        return totals["in_flight"]


async def measure(target: Target, model: str, count: int) -> str:
    worker = target.worker_pids[0]
    async with aiohttp.ClientSession() as http, Turns(target) as turns:
        before = most = resident_kib(worker)
        peak = 0
        run = f"in-flight-{time.time_ns()}"
        started = time.perf_counter()
        work = asyncio.gather(*(turns.turn(f"{run}-{number}", "Good morning!") for number in range(count)))
        while not work.done():
            await asyncio.sleep(SAMPLE_S)
            peak = max(peak, await in_flight(http, model))
            most = max(most, resident_kib(worker))
        latencies = sorted(await work)
        seconds = time.perf_counter() - started
    return (
        f"headrace n={count} peak in flight={peak} worker {before / 1024:.0f} → {most / 1024:.0f} MiB "
        f"= {(most - before) / max(peak, 1):.1f} KiB per call  p50={statistics.median(latencies):.2f} s "
        f"p99={latencies[int(count * 0.99)]:.2f} s  all in {seconds:.1f} s  failed={turns.failed}"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=user_data_dir(), help="of the `headrace dev` to drive (default: its own)"
    )
    parser.add_argument("--calls", type=int, nargs="+", default=[1_000, 5_000])
    arguments = parser.parse_args()
    endpoints = read_endpoints(arguments.data_dir)
    if endpoints.model is None:
        parser.error("expected a stack with the simulated model, got one with a real one")
    for count in arguments.calls:
        target = Target(endpoints.kafka, "", endpoints.worker_pids)
        print(await measure(target, endpoints.model, count), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
