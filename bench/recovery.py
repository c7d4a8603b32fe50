"""How long a worker needs to be back after kill -9, by the number of its sessions.

Drives a running `headrace dev`: on topics of its own (a prefix) it starts one worker, lets it answer a message in each
of N sessions, kills it, and starts it again: with its tables as it left them; with an empty data directory, as a worker
does that takes the partitions over on another machine; and with tables in memory. Each time it tells the seconds from
the start of the process until it takes records, and until it has answered a message. The baseline is a bare consumer
that reads the same changelog from its begin in the same run.
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
from pathlib import Path

import aiokafka
import uvloop
from turns import TEXTS, Target, Turns

from headrace.stack.endpoints import Endpoints, read_endpoints
from headrace.topics import apply_topics
from runtime.kafka import changelog_topic_name
from runtime.settings import Settings
from runtime.settings.values import user_data_dir

FILL_CONCURRENCY = 200
READY_S = 600.0
POLL_S = 0.01


class BenchWorker:
    """A worker on the topics of this run."""

    def __init__(self, settings: Settings, model: str, data_dir: Path, store: str) -> None:
        self._data_dir = data_dir
        self._environment = {
            **os.environ,
            "HEADRACE_BROKERS": settings.brokers,
            "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
            "HEADRACE_DATA_DIR": str(data_dir),
            "HEADRACE_NAME": "bench",
            "HEADRACE_STORE": store,
            "ANTHROPIC_BASE_URL": model,
            "ANTHROPIC_API_KEY": "simulated",
        }

    async def start(self) -> tuple[subprocess.Popen[bytes], float]:
        """The process, and the seconds until it takes records."""
        started = time.perf_counter()
        with (self._data_dir.parent / "bench-worker.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220  # It starts in a millisecond.
                [sys.executable, "-m", "headrace", "worker"], env=self._environment, stdout=log, stderr=log
            )
        marker = self._data_dir / "worker.ready"
        async with asyncio.timeout(READY_S):
            while not (marker.exists() and marker.read_text() == str(process.pid)):
                if process.poll() is not None:
                    raise SystemExit(f"the worker ended: see {log.name}")
                await asyncio.sleep(POLL_S)
        return process, time.perf_counter() - started


async def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)


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


async def fill(turns: Turns, run: str, sessions: int) -> None:
    gate = asyncio.Semaphore(FILL_CONCURRENCY)

    async def one(number: int) -> None:
        async with gate:
            await turns.turn(f"{run}-{number}", TEXTS["plain"])

    await asyncio.gather(*(one(number) for number in range(sessions)))


async def measure(endpoints: Endpoints, model: str, sessions: int, home: Path) -> None:
    run = uuid.uuid4().hex[:8]
    settings = Settings(brokers=endpoints.kafka, topic_prefix=f"recovery-{run}-", replication=1)
    await apply_topics(settings)
    kept, empty = home / run / "kept", home / run / "empty"
    kept.mkdir(parents=True)
    process, _ = await BenchWorker(settings, model, kept, "rocksdb").start()
    async with Turns(Target(settings.brokers, settings.topic_prefix, [process.pid])) as turns:
        await fill(turns, run, sessions)
        await asyncio.sleep(1)
        for what, directory, store in (
            ("tables kept", kept, "rocksdb"),
            ("tables empty", empty, "rocksdb"),
            ("in memory", home / run / "memory", "memory"),
        ):
            await kill(process)
            directory.mkdir(exist_ok=True)
            started = time.perf_counter()
            process, ready_s = await BenchWorker(settings, model, directory, store).start()
            await turns.turn(f"{run}-0", TEXTS["plain"])
            answered_s = time.perf_counter() - started
            print(
                f"{sessions:>9,} sessions  {what:12}  ready {ready_s:6.2f} s  answers {answered_s:6.2f} s", flush=True
            )
    await kill(process)
    count, seconds = await read_changelog(settings)
    print(f"{sessions:>9,} sessions  bare consumer  {count:,} records of the changelog in {seconds:.2f} s", flush=True)


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
            await measure(endpoints, endpoints.model, sessions, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    uvloop.run(main())
