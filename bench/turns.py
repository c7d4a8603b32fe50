"""Turns through a running stack: `headrace dev` in one terminal, this in another.

Publishes user messages to N sessions, C at a time, and waits for each turn's end on `agent-events`: plain turns, and
turns with one tool call. Reports p50 and p99 from publish to the end, turns per second, and the workers' CPU per turn.
Run it with the simulated model at zero pace, so that what is measured is the pipeline.
"""

import argparse
import asyncio
import os
import statistics
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiokafka
import orjson
import uvloop

from headrace.stack.endpoints import read_endpoints
from runtime.settings.values import user_data_dir

TEXTS = {"plain": "Good morning!", "tool": "What is 17*23?"}
ENDS = (b'"type":"turn_completed"', b'"type":"turn_failed"', b'"type":"turn_cancelled"')
TURN_TIMEOUT_S = 120.0


@dataclass
class Target:
    """A running pipeline."""

    brokers: str
    topic_prefix: str
    worker_pids: Sequence[int]
    agent: str | None = None


class Turns:
    """Publishes messages and hears the ends of their turns."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._producer = aiokafka.AIOKafkaProducer(bootstrap_servers=target.brokers, acks="all")
        self._consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=target.brokers, fetch_max_wait_ms=100, auto_offset_reset="latest"
        )
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._hearing: asyncio.Task[None] | None = None
        self.failed = 0

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self._consumer.start()
        topic = self._target.topic_prefix + "agent-events"
        partitions = self._consumer.partitions_for_topic(topic) or await self._partitions(topic)
        self._consumer.assign([aiokafka.TopicPartition(topic, partition) for partition in partitions])
        await self._consumer.seek_to_end()
        self._hearing = asyncio.create_task(self._hear())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._hearing is not None
        self._hearing.cancel()
        await self._consumer.stop()
        await self._producer.stop()

    async def turn(self, session_id: str, text: str) -> float:
        """One turn; seconds from publish to its end."""
        message_id = uuid.uuid4().hex
        ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = ended
        message = {"session_id": session_id, "id": message_id, "text": text}
        if self._target.agent is not None:
            message["agent"] = self._target.agent
        body = orjson.dumps(message)
        started = time.perf_counter()
        await self._producer.send(self._target.topic_prefix + "user-messages", body, key=session_id.encode())
        return await asyncio.wait_for(ended, TURN_TIMEOUT_S) - started

    async def _partitions(self, topic: str) -> set[int]:
        await self._consumer._client.force_metadata_update()  # noqa: SLF001  # A topic that was not asked for yet.
        self._consumer._client.add_topic(topic)  # noqa: SLF001
        await asyncio.sleep(0.5)
        partitions: set[int] = self._consumer.partitions_for_topic(topic) or set()
        if not partitions:
            raise SystemExit(f"expected a topic `{topic}` on {self._target.brokers}: start `headrace dev` first")
        return partitions

    async def _hear(self) -> None:
        while True:
            batches = await self._consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for records in batches.values():
                for record in records:
                    self._end(record.value, now)

    def _end(self, value: bytes, now: float) -> None:
        if not value.startswith(b'{"type":"turn_', 0) or not any(end in value[:40] for end in ENDS):
            return
        event = orjson.loads(value)
        waiting = self._waiting.pop(event["message_id"], None)
        if waiting is not None and not waiting.done():
            self.failed += event["type"] != "turn_completed"
            waiting.set_result(now)


async def measure(target: Target, kind: str, count: int, concurrency: int) -> str:
    """Run `count` turns, each in a session of its own; one line of figures."""
    async with Turns(target) as turns:
        run = uuid.uuid4().hex[:8]
        gate = asyncio.Semaphore(concurrency)

        async def one(number: int) -> float:
            async with gate:
                return await turns.turn(f"bench-{run}-{number}", TEXTS[kind])

        await asyncio.gather(*(one(-number) for number in range(1, min(concurrency, 20) + 1)))
        cpu, started = cpu_seconds(target.worker_pids), time.perf_counter()
        latencies = sorted(await asyncio.gather(*(one(number) for number in range(count))))
        seconds = time.perf_counter() - started
        cpu = cpu_seconds(target.worker_pids) - cpu
        p50, p99 = statistics.median(latencies), latencies[min(count - 1, int(count * 0.99))]
        return (
            f"headrace {kind:5} C={concurrency:<5} n={count:<6} {count / seconds:7.0f} turns/s  "
            f"p50={p50 * 1e3:8.1f} ms  p99={p99 * 1e3:8.1f} ms  "
            f"CPU={cpu / count * 1e3:5.2f} ms/turn  failed={turns.failed}"
        )


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of the processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=user_data_dir(), help="of the `headrace dev` to drive (default: its own)"
    )
    parser.add_argument("--brokers", help="instead of --data-dir: host:port")
    parser.add_argument("--worker-pid", type=int, action="append", default=[], help="with --brokers: whose CPU counts")
    parser.add_argument("--topic-prefix", default="")
    parser.add_argument("--agent", help="who answers; by default the pipeline's default agent")
    parser.add_argument("--kind", choices=[*TEXTS, "both"], default="both")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50, 500])
    parser.add_argument("--turns", type=int, help="per measurement; by default enough for its concurrency")
    arguments = parser.parse_args()
    if arguments.brokers:
        target = Target(arguments.brokers, arguments.topic_prefix, arguments.worker_pid, arguments.agent)
    else:
        endpoints = read_endpoints(arguments.data_dir)
        target = Target(endpoints.kafka, arguments.topic_prefix, endpoints.worker_pids, arguments.agent)
    for kind in TEXTS if arguments.kind == "both" else (arguments.kind,):
        for concurrency in arguments.concurrency:
            count = arguments.turns or max(200, 10 * concurrency)
            print(await measure(target, kind, count, concurrency), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
