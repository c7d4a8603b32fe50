"""Bytes written per turn while a conversation grows: they must not grow with it.

Drives a running `headrace dev`: talks in one session, turn after turn, and counts what each topic of the pipeline and
the sessions' changelog get meanwhile, keys, values and headers. The first turns are the baseline: the last column is
the ratio of all bytes to theirs.
"""

import argparse
import asyncio
import uuid
from collections import Counter
from pathlib import Path

import aiokafka
import uvloop
from turns import TEXTS, Target, Turns

from headrace.stack.endpoints import read_endpoints
from runtime.kafka import changelog_topic_name
from runtime.settings import Settings
from runtime.settings.values import user_data_dir
from schemas.topics import TOPICS

SETTLE_S = 0.5
"""After a turn's end its state is recorded, within a tenth of a second."""
POLL_MS = 1_000
"""Longer than one round of fetches of all partitions."""


class Written:
    """Counts the bytes of every record that is written from now on."""

    def __init__(self, brokers: str) -> None:
        self._changelog = changelog_topic_name(Settings(brokers=brokers))
        names = [*(topic.name for topic in TOPICS), self._changelog]
        self._consumer = aiokafka.AIOKafkaConsumer(
            *names,
            bootstrap_servers=brokers,
            auto_offset_reset="latest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=8 << 20,
        )

    async def start(self) -> None:
        await self._consumer.start()
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def take(self) -> Counter[str]:
        """Bytes by topic since the last time."""
        await asyncio.sleep(SETTLE_S)
        found: Counter[str] = Counter()
        while batches := await self._consumer.getmany(timeout_ms=POLL_MS):
            for place, records in batches.items():
                name = "changelog" if place.topic == self._changelog else place.topic
                found[name] += sum(
                    len(record.key or b"")
                    + len(record.value or b"")
                    + sum(len(header) + len(value) for header, value in record.headers)
                    for record in records
                )
        return found


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=user_data_dir(), help="of the `headrace dev` to drive (default: its own)"
    )
    parser.add_argument("--kind", choices=[*TEXTS], default="plain")
    parser.add_argument("--turns", type=int, default=500)
    parser.add_argument("--window", type=int, default=50, help="turns that are counted together")
    arguments = parser.parse_args()
    endpoints = read_endpoints(arguments.data_dir)
    session_id = f"growth-{uuid.uuid4().hex[:8]}"
    written = Written(endpoints.kafka)
    await written.start()
    baseline = 0
    try:
        async with Turns(Target(endpoints.kafka, "", endpoints.worker_pids)) as turns:
            for first in range(1, arguments.turns + 1, arguments.window):
                last = min(first + arguments.window, arguments.turns + 1) - 1
                for _ in range(first, last + 1):
                    await turns.turn(session_id, TEXTS[arguments.kind])
                counted = await written.take()
                per_turn = sum(counted.values()) / (last - first + 1)
                baseline = baseline or round(per_turn)
                parts = "  ".join(f"{name} {size / (last - first + 1):,.0f}" for name, size in sorted(counted.items()))
                print(f"turns {first:>4}-{last:<4} {per_turn:8,.0f} B/turn  {per_turn / baseline:4.2f}x   {parts}")
            print(f"failed={turns.failed}")
    finally:
        await written.stop()


if __name__ == "__main__":
    uvloop.run(main())
