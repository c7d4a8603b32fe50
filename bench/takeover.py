"""How long the partitions of a worker that was killed wait until others answer for them.

Drives a running `headrace dev`: on topics of its own it starts some workers on the tables of N sessions, with and
without standby replicas, asks each partition without pause, and kills one worker after the other with SIGKILL. It tells
how long the dead worker's partitions waited from when the broker gave it up, a session timeout after its last
heartbeat, and for how long the others were silent, since a rebalance concerns all.

`--cost` measures instead what the standby replicas cost while nobody dies: turns per second, the workers' CPU per turn
and the bytes that they write to disk, by turns in the same run without and with.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import uvloop
from copied_sessions import Names
from own_worker import BenchWorker, delete_topics
from recovery import answer, filled
from stack import cpu_seconds
from turns import TEXTS, Target, Turns

from headrace.connect import admin
from headrace.stack.endpoints import Endpoints, read_endpoints
from runtime.kafka import group_id
from runtime.settings import Settings
from runtime.settings.values import user_data_dir
from streams.app import SESSION_TIMEOUT_S

ASK_EVERY_S = 0.1
SETTLED_S = 2.0
WATCH_EVERY_S = 0.02
CALM_S = 2.0
CALM_CPU = 0.3
"""Of one core, by all workers together: then standby replicas have caught up."""
COST_CONCURRENCY = 50


@dataclass
class Silences:
    """When each partition answered, from when its worker was killed; and when the broker gave that up."""

    began: float
    given_up: float = 0.0
    heard: dict[int, list[float]] = field(default_factory=dict)

    def waited_s(self, partition: int) -> float:
        return self.heard[partition][0] - self.given_up

    def longest_s(self, partition: int) -> float:
        times = [self.began, *self.heard[partition]]
        return max(later - earlier for earlier, later in pairwise(times))


async def calm(team: list[BenchWorker]) -> None:
    """Wait until the workers have nothing to do."""
    pids = [worker.pid for worker in team]
    used = CALM_CPU * CALM_S + 1
    while used > CALM_CPU * CALM_S:
        before = cpu_seconds(pids)
        await asyncio.sleep(CALM_S)
        used = cpu_seconds(pids) - before


async def ask(turns: Turns, names: Names, numbers: dict[int, int], silences: Silences, until: asyncio.Event) -> None:
    async def one(partition: int, number: int) -> None:
        while not until.is_set():
            await turns.turn(names.name(number), TEXTS["plain"])
            silences.heard.setdefault(partition, []).append(time.perf_counter())
            await asyncio.sleep(ASK_EVERY_S)

    await asyncio.gather(*(one(partition, number) for partition, number in numbers.items()))


async def given_up(settings: Settings) -> float:
    """When the group begins to give out its partitions anew."""
    async with admin(settings) as client:
        while True:
            (response,) = await client.describe_consumer_groups([group_id(settings)])
            if response.groups[0][2] != "Stable":
                return time.perf_counter()
            await asyncio.sleep(WATCH_EVERY_S)


async def kill_one(
    settings: Settings, turns: Turns, names: Names, numbers: dict[int, int], victim: BenchWorker
) -> Silences:
    """Kill it and ask all partitions until each has answered after it was given up."""
    await answer(turns, names, numbers.values())
    await victim.kill()
    silences = Silences(time.perf_counter())
    until = asyncio.Event()
    asking = asyncio.create_task(ask(turns, names, numbers, silences, until))
    silences.given_up = await given_up(settings)
    await answer(turns, names, numbers.values())
    await asyncio.sleep(SETTLED_S)
    until.set()
    await asking
    return silences


def team_of(settings: Settings, model: str, home: Path, count: int) -> list[BenchWorker]:
    """With names that nobody had: who is known comes back to what it had, and the group does not share out anew."""
    team = uuid.uuid4().hex[:8]
    names = [f"{team}-{settings.store}-{settings.standby_replicas}-standby-{n}-of-{count}" for n in range(count)]
    return [BenchWorker(settings, model, home / name, name) for name in names]


async def dismiss(team: list[BenchWorker]) -> None:
    """Stop the workers, and wait until the group has forgotten them."""
    for worker in team:
        await worker.stop()
    await asyncio.sleep(SESSION_TIMEOUT_S + 1)


async def takeovers(settings: Settings, names: Names, model: str, home: Path, arguments: argparse.Namespace) -> None:
    numbers = names.firsts(start=max(names.firsts().values()) + 1)
    for count in arguments.workers:
        team = team_of(settings, model, home, count)
        await asyncio.gather(*(worker.start() for worker in team))
        await calm(team)
        over: list[float] = []
        others: list[float] = []
        for victim in team[: arguments.kills]:
            async with Turns(Target(settings.brokers, settings.topic_prefix, [])) as turns:
                silences = await kill_one(settings, turns, names, numbers, victim)
            dead = [partition for partition in numbers if silences.waited_s(partition) > 0]
            over += [silences.waited_s(partition) for partition in dead]
            others += [silences.longest_s(partition) for partition in numbers if partition not in dead]
            await victim.start()
            await calm(team)
        await dismiss(team)
        print(
            f"{arguments.sessions:>9,} sessions  {settings.store:7}  {count} workers  "
            f"{settings.standby_replicas} standby  {len(over):2} partitions taken over: "
            f"p50 {statistics.median(over):5.2f} s  max {max(over):5.2f} s after it was given up; "
            f"the others silent for {max(others):5.2f} s",
            flush=True,
        )


async def cost(settings: Settings, names: Names, model: str, home: Path, arguments: argparse.Namespace) -> None:
    """One line for these settings, whose team runs only meanwhile."""
    for count in arguments.workers:
        team = team_of(settings, model, home, count)
        await asyncio.gather(*(worker.start() for worker in team))
        await calm(team)
        pids = [worker.pid for worker in team]
        async with Turns(Target(settings.brokers, settings.topic_prefix, pids)) as turns:
            gate = asyncio.Semaphore(COST_CONCURRENCY)

            async def one(number: int, turns: Turns = turns, gate: asyncio.Semaphore = gate) -> float:
                async with gate:
                    return await turns.turn(names.name(number), TEXTS["plain"])

            await asyncio.gather(*(one(number) for number in range(500)))
            cpu, disk, started = cpu_seconds(pids), written_bytes(pids), time.perf_counter()
            latencies = await asyncio.gather(*(one(number) for number in range(1_000, 1_000 + arguments.turns)))
            seconds = time.perf_counter() - started
            cpu, disk = cpu_seconds(pids) - cpu, written_bytes(pids) - disk
        await dismiss(team)
        print(
            f"{settings.store:7}  {count} workers  {settings.standby_replicas} standby  C={COST_CONCURRENCY}  "
            f"{arguments.turns / seconds:5.0f} turns/s  p50 {statistics.median(latencies) * 1e3:5.1f} ms  "
            f"CPU {cpu / arguments.turns * 1e3:5.2f} ms/turn  disk {disk / arguments.turns:6.0f} bytes/turn",
            flush=True,
        )


def written_bytes(pids: list[int]) -> int:
    """To files, by these processes so far, without what the network took."""
    total = 0
    for pid in pids:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        total += int(fields["write_bytes"])
    return total


async def measure(endpoints: Endpoints, home: Path, arguments: argparse.Namespace) -> None:
    assert endpoints.model is not None
    filled_settings, names = await filled(endpoints, arguments.sessions, home)
    try:
        for store in arguments.store:
            for _ in range(arguments.rounds):
                for standbys in arguments.standby_replicas:
                    settings = filled_settings.model_copy(update={"store": store, "standby_replicas": standbys})
                    await (cost if arguments.cost else takeovers)(settings, names, endpoints.model, home, arguments)
    finally:
        await delete_topics(filled_settings)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=user_data_dir(), help="of the `headrace dev` to drive (default: its own)"
    )
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--standby-replicas", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--store", choices=["rocksdb", "memory"], nargs="+", default=["rocksdb"])
    parser.add_argument("--kills", type=int, default=2, help="of so many of the workers, one after the other")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cost", action="store_true", help="of standby replicas, while nobody dies")
    parser.add_argument("--turns", type=int, default=5_000, help="with --cost: per measurement")
    arguments = parser.parse_args()
    endpoints = read_endpoints(arguments.data_dir)
    if endpoints.model is None:
        parser.error("expected a stack with the simulated model, got one with a real one")
    home = Path(tempfile.mkdtemp(prefix="headrace-takeover-"))
    try:
        await measure(endpoints, home, arguments)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    uvloop.run(main())
