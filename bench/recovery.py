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
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiokafka
import uvloop
from copied_sessions import Names, copy_sessions
from turns import TEXTS, Target, Turns

from headrace.stack.endpoints import Endpoints, read_endpoints
from headrace.topics import apply_topics
from runtime.kafka import changelog_topic_name
from runtime.settings import Settings
from runtime.settings.values import user_data_dir

READY_S = 600.0
POLL_S = 0.01


@dataclass
class BenchWorker:
    """A worker on the topics of this run, with a name and a data directory of its own."""

    settings: Settings
    model: str
    data_dir: Path
    name: str = "bench"
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> float:
        """Start it; the seconds until it takes records."""
        environment = {
            **os.environ,
            "HEADRACE_BROKERS": self.settings.brokers,
            "HEADRACE_TOPIC_PREFIX": self.settings.topic_prefix,
            "HEADRACE_DATA_DIR": str(self.data_dir),
            "HEADRACE_NAME": self.name,
            "HEADRACE_STORE": self.settings.store,
            "HEADRACE_STANDBY_REPLICAS": str(self.settings.standby_replicas),
            "ANTHROPIC_BASE_URL": self.model,
            "ANTHROPIC_API_KEY": "simulated",
        }
        self.data_dir.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with self.data_dir.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220  # It starts in a millisecond.
                [sys.executable, "-m", "headrace", "worker"], env=environment, stdout=log, stderr=log
            )
        marker = self.data_dir / "worker.ready"
        async with asyncio.timeout(READY_S):
            while not (marker.exists() and marker.read_text() == str(self.pid)):
                if self.process.poll() is not None:
                    raise SystemExit(f"the worker ended: see {log.name}")
                await asyncio.sleep(POLL_S)
        return time.perf_counter() - started

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        await asyncio.to_thread(self.process.wait)

    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


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
    settings, names = await filled(endpoints, sessions, home)
    copies = names.firsts(start=max(names.firsts().values()) + 1)
    assert max(copies.values()) < sessions, f"expected more sessions than {sessions}: some for each partition"
    kept = home / names.run / "kept"
    for what, directory, store in (
        ("rocksdb, tables empty", kept, "rocksdb"),
        ("rocksdb, tables kept", kept, "rocksdb"),
        ("memory", home / names.run / "memory", "memory"),
    ):
        worker = BenchWorker(settings.model_copy(update={"store": store}), endpoints.model, directory)
        async with Turns(Target(settings.brokers, settings.topic_prefix, [])) as turns:
            started = time.perf_counter()
            ready_s = await worker.start()
            await answer(turns, names, copies.values())
            answered_s = time.perf_counter() - started
        resident_mb = worker.resident_mb()
        await worker.kill()
        print(
            f"{sessions:>9,} sessions  {what:21}  ready {ready_s:6.2f} s  answers {answered_s:6.2f} s  "
            f"{resident_mb:6.0f} MB resident",
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
