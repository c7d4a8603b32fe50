"""How long a worker needs to be back after kill -9, by the number of its sessions.

Drives a running `headrace dev`: on topics of its own (a prefix) it starts one worker, lets it answer a message in one
session of each partition, and writes copies of these sessions to the table's changelog until there are N. Then it kills
the worker and starts it again: with an empty data directory, as a worker does that is new on its machine; with its
tables as it left them; and with tables in memory. Each time it tells the seconds from the start of the process until it
takes records, and until each partition has answered a message in one of the copied sessions; the worker's memory; and,
as the baseline, how long a bare consumer takes to read the same changelog in the same run.

`takeover.py` measures how long the partitions of a worker that stays dead wait until others answer for them.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import aiokafka
import uvloop
from copied_sessions import Names, copy_sessions
from own_worker import BenchWorker, delete_topics
from turns import TEXTS, Target, Turns

from headrace.stack.endpoints import Endpoints, read_endpoints
from headrace.topics import apply_topics
from runtime.kafka import changelog_topic_name
from runtime.settings import Settings
from runtime.settings.values import user_data_dir


async def read_changelog(settings: Settings) -> tuple[int, float]:
    """Records of the changelog, and the seconds that a bare consumer needs for them."""
    started = time.perf_counter()
    consumer = aiokafka.AIOKafkaConsumer(
        changelog_topic_name(settings), bootstrap_servers=settings.brokers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = list(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        count, left = 0, {one for one in partitions if ends[one]}
        while left:
            found = await consumer.getmany(*left, timeout_ms=1_000)
            count += sum(len(records) for records in found.values())
            left = {one for one in left if await consumer.position(one) < ends[one]}
    finally:
        await consumer.stop()
    return count, time.perf_counter() - started


async def filled(endpoints: Endpoints, sessions: int, home: Path) -> tuple[Settings, Names]:
    """Topics with the tables of so many sessions, and nobody who reads them; their names."""
    assert endpoints.model is not None
    run = uuid.uuid4().hex[:8]
    settings = Settings(brokers=endpoints.kafka, topic_prefix=f"recovery-{run}-", replication=1)
    names = Names(run, settings.partitions)
    await apply_topics(settings)
    first = BenchWorker(settings, endpoints.model, home / run / "first")
    await first.start()
    async with Turns(Target(settings.brokers, settings.topic_prefix, [first.pid])) as turns:
        await answer(turns, names, names.firsts().values())
    await first.stop()
    await copy_sessions(settings, names, sessions)
    return settings, names


async def answer(turns: Turns, names: Names, numbers: Iterable[int]) -> None:
    await asyncio.gather(*(turns.turn(names.name(number), TEXTS["plain"]) for number in numbers))


async def measure(endpoints: Endpoints, sessions: int, home: Path) -> None:
    assert endpoints.model is not None
    began = time.perf_counter()
    settings, names = await filled(endpoints, sessions, home)
    print(f"{sessions:>9,} sessions  written in {time.perf_counter() - began:.0f} s", flush=True)
    try:
        await measure_restarts(settings, names, sessions, endpoints.model, home / names.run)
    finally:
        await delete_topics(settings)
        shutil.rmtree(home / names.run)


async def measure_restarts(settings: Settings, names: Names, sessions: int, model: str, home: Path) -> None:
    """One restart for each store, and the baseline."""
    copies = names.firsts(start=max(names.firsts().values()) + 1)
    assert max(copies.values()) < sessions, f"expected more sessions than {sessions}: some for each partition"
    for what, directory, store in (
        ("rocksdb, tables empty", home / "kept", "rocksdb"),
        ("rocksdb, tables kept", home / "kept", "rocksdb"),
        ("memory", home / "memory", "memory"),
    ):
        worker = BenchWorker(settings.model_copy(update={"store": store}), model, directory)
        try:
            async with Turns(Target(settings.brokers, settings.topic_prefix, [])) as turns:
                started = time.perf_counter()
                ready_s = await worker.start()
                await answer(turns, names, copies.values())
                answered_s = time.perf_counter() - started
            resident_mb, most_mb = worker.resident_mb(), worker.resident_mb("VmHWM")
        finally:
            await worker.kill()
        print(
            f"{sessions:>9,} sessions  {what:21}  ready {ready_s:6.2f} s  answers {answered_s:6.2f} s  "
            f"{resident_mb:6.0f} MB resident, {most_mb:.0f} at most",
            flush=True,
        )
    count, seconds = await read_changelog(settings)
    print(f"{sessions:>9,} sessions  bare consumer: {count:,} records of the changelog in {seconds:.2f} s", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=user_data_dir(), help="of the `headrace dev` to drive (default: its own)"
    )
    parser.add_argument("--sessions", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    endpoints = read_endpoints(arguments.data_dir)
    if endpoints.model is None:
        parser.error("expected a stack with the simulated model, got one with a real one")
    home = Path(tempfile.mkdtemp(prefix="headrace-recovery-"))
    try:
        for sessions in arguments.sessions:
            await measure(endpoints, sessions, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    uvloop.run(main())
