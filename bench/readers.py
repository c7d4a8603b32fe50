"""Readers on one gateway: N event streams and N WebSockets, one of each for every session, while turns are answered.

Drives a running `headrace dev --model-latency 2`, whose gateway is open. Prints the gateway's memory per connection,
frames per second, how long a delta takes from its record's timestamp to the reader, what of that is the gateway's own
(the same delta's wake-up is heard on a bare pub/sub connection to Redis), and whether anything was lost or came twice.
With `--kill` the gateway and Redis are killed in the middle, one after the other; `headrace dev` starts them again.
"""

import argparse
import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiokafka
import msgspec
import uvloop
from reader_clients import RETRY_S, Seen, SseReader, WebSocketReader
from redis.asyncio import Redis

from headrace.stack.endpoints import Endpoints, read_endpoints
from runtime.settings.values import user_data_dir

MOST_FILES = 65_536
TEXT = "Good morning! Tell me about the weather, the tides and the moon."
SETTLE_S = 3.0

Told = dict[str, tuple[int, list[Seen]]]


async def read(kind: str, run: str, count: int, url: str) -> None:
    """A process of readers: says when all are connected; at a line on its input it writes what it saw, and ends."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    make = SseReader if kind == "sse" else WebSocketReader
    readers = [make(f"{run}-{number}", parts.hostname, parts.port) for number in range(count)]
    for begin in range(0, count, 100):
        await asyncio.gather(*(reader.connect() for reader in readers[begin : begin + 100]))
        await asyncio.gather(*(reader.is_ready.wait() for reader in readers[begin : begin + 100]))
    print("ready", flush=True)
    path = (await asyncio.to_thread(sys.stdin.readline)).strip()
    told = {reader.session_id: (reader.connections, reader.seen) for reader in readers}
    Path(path).write_bytes(msgspec.json.encode(told))  # noqa: ASYNC240  # It is the last thing that the process does.


class Child:
    """A process of readers, as the driver has it."""

    def __init__(self, kind: str, run: str, count: int, url: str) -> None:
        command = [sys.executable, __file__, "--role", kind, "--run", run, "--readers", str(count), "--url", url]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def ready(self) -> None:
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line == "ready\n", line

    async def told(self) -> dict[str, tuple[int, list[Seen]]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "seen"
            assert self.process.stdin is not None
            self.process.stdin.write(f"{path}\n")
            self.process.stdin.flush()
            await asyncio.to_thread(self.process.wait)
            found: dict[str, tuple[int, list[Seen]]] = msgspec.json.decode(
                path.read_bytes(), type=dict[str, tuple[int, list[tuple[int, int, float]]]]
            )
            return found


class Truth:
    """What the topics have of this run: of each session its events' `seq`s, and its deltas' offsets and times."""

    def __init__(self, brokers: str, run: str) -> None:
        self.events: dict[str, list[int]] = defaultdict(list)
        self.deltas: dict[str, dict[int, float]] = defaultdict(dict)
        self.firsts: set[tuple[str, int]] = set()
        """The first delta of each answer: it may be in Redis before its turn has started, and waits then."""
        self.ends = 0
        self._run = run.encode()
        self._consumer = aiokafka.AIOKafkaConsumer(
            "agent-events", "agent-deltas", bootstrap_servers=brokers, auto_offset_reset="latest", fetch_max_wait_ms=100
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        await self._consumer.seek_to_end()
        self._task = asyncio.create_task(self._hear())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await self._consumer.stop()

    async def _hear(self) -> None:
        async for record in self._consumer:
            if record.key is None or not record.key.startswith(self._run):
                continue
            session_id = record.key.decode()
            if record.topic == "agent-deltas":
                self.deltas[session_id][record.offset + 1] = record.timestamp / 1000
                if b'"seq":0,' in record.value:
                    self.firsts.add((session_id, record.offset + 1))
                continue
            event = msgspec.json.decode(record.value)
            self.events[session_id].append(event["seq"])
            self.ends += event["type"] in ("turn_completed", "turn_failed", "turn_cancelled")


async def overhear(url: str, run: str, count: int, heard: dict[tuple[str, int], float]) -> None:
    """The floor: when Redis says that a delta is there, to whoever is subscribed with nothing in between."""
    while True:
        client: Any = Redis.from_url(url)
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(*(f"headrace:feed:{run}-{number}" for number in range(count)))
                async for message in subscription.listen():
                    place = int(message["data"].partition(b"-")[2] or 0)
                    heard.setdefault((message["channel"].decode().removeprefix("headrace:feed:"), place), time.time())
        except OSError:
            await asyncio.sleep(RETRY_S)
        except Exception as error:
            if type(error).__module__.split(".")[0] != "redis":
                raise
            await asyncio.sleep(RETRY_S)
        finally:
            await client.aclose()


def memory_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit(f"expected a running process {pid}, got none")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at(values: Iterable[float], part: float) -> float:
    """A quantile, in milliseconds."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000 if ordered else float("nan")


def compared(
    kind: str, told: dict[str, tuple[int, list[Seen]]], truth: Truth, heard: dict[tuple[str, int], float]
) -> str:
    """One line of what a kind of readers saw, against what the topics have."""
    lost = repeated = unshown = frames = 0
    whole: list[float] = []
    own: list[float] = []
    first: list[float] = []
    for session_id, (_, seen) in told.items():
        frames += len(seen)
        events = [event for event, _, _ in seen if event > 0]
        deltas = [delta for _, delta, _ in seen if delta > 0]
        repeated += len(events) - len(set(events)) + len(deltas) - len(set(deltas)) + sum(e < 0 for e, _, _ in seen)
        lost += len(set(truth.events[session_id]) - set(events))
        unshown += len(set(truth.deltas[session_id]) - set(deltas))
        for _, delta, when in seen:
            if delta in truth.deltas[session_id]:
                whole.append(when - truth.deltas[session_id][delta])
                floor = heard.get((session_id, delta))
                if floor is not None:
                    (first if (session_id, delta) in truth.firsts else own).append(when - floor)
    deltas_there = sum(len(deltas) for deltas in truth.deltas.values())
    return (
        f"{kind}: {frames} frames, {lost} events lost, {repeated} repeated, {unshown} of {deltas_there} deltas unseen; "
        f"from the record to the reader p50={at(whole, 0.5):.1f} ms p99={at(whole, 0.99):.1f} ms; "
        f"behind a bare pub/sub p50={at(own, 0.5):.2f} ms p99={at(own, 0.99):.2f} ms "
        f"(the first of each answer p50={at(first, 0.5):.2f} ms p99={at(first, 0.99):.2f} ms); "
        f"connections={sum(connections for connections, _ in told.values())}"
    )


async def publish(brokers: str, run: str, arguments: argparse.Namespace) -> int:
    """Messages to random sessions at a steady rate."""
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=brokers, acks="all")
    await producer.start()
    sent = 0
    try:
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < arguments.seconds:
            while sent < passed * arguments.rate:
                session_id = f"{run}-{random.randrange(arguments.readers)}"
                body = msgspec.json.encode({"session_id": session_id, "text": TEXT})
                await producer.send("user-messages", body, key=session_id.encode())
                sent += 1
            await asyncio.sleep(0.02)
    finally:
        await producer.stop()
    return sent


async def kill(data_dir: Path, seconds: float) -> None:
    """SIGKILL to the gateway, to Redis, and to both."""
    for names in (("gateway",), ("valkey",), ("gateway", "valkey")):
        await asyncio.sleep(seconds / 4)
        pids = read_endpoints(data_dir).pids
        for name in names:
            os.kill(pids[name], signal.SIGKILL)
        print(f"killed: {', '.join(names)}", flush=True)


async def drive(arguments: argparse.Namespace) -> None:
    endpoints: Endpoints = read_endpoints(arguments.data_dir)
    assert isinstance(endpoints.gateway, str)
    assert isinstance(endpoints.redis, str)
    pid = endpoints.pids["gateway"]
    run = f"readers-{uuid.uuid4().hex[:6]}"
    heard: dict[tuple[str, int], float] = {}
    count = arguments.readers
    async with Truth(endpoints.kafka, run) as truth:
        overhearing = asyncio.create_task(overhear(endpoints.redis, run, count, heard))
        before = memory_kib(pid)
        children: dict[str, Child] = {}
        for kind in ("sse", "ws"):
            begin = time.monotonic()
            children[kind] = Child(kind, run, count, endpoints.gateway)
            await children[kind].ready()
            now = memory_kib(pid)
            took = time.monotonic() - begin
            print(f"{kind}: {count} connected in {took:.1f} s, {(now - before) / count:.1f} KiB each", flush=True)
            before = now
        cpu, begin = cpu_s(pid), time.monotonic()
        killing = asyncio.create_task(kill(arguments.data_dir, arguments.seconds)) if arguments.kill else None
        sent = await publish(endpoints.kafka, run, arguments)
        deadline = time.monotonic() + 120
        while truth.ends < sent and time.monotonic() < deadline:  # noqa: ASYNC110  # It is another process that ends them.
            await asyncio.sleep(0.2)
        took = time.monotonic() - begin
        if killing is not None:
            await killing
            await asyncio.sleep(10)
        else:
            print(f"gateway: {(cpu_s(pid) - cpu) / took * 100:.0f} % of a core, {memory_kib(pid) / 1024:.0f} MiB")
        await asyncio.sleep(SETTLE_S)
        told = {kind: await child.told() for kind, child in children.items()}
        overhearing.cancel()
        deltas = [(s, d, when) for s, of in truth.deltas.items() for d, when in of.items()]
        floor = [heard[s, d] - when for s, d, when in deltas if (s, d) in heard]
        frames = sum(len(seen) for of in told.values() for _, seen in of.values())
        print(f"{sent} turns, {truth.ends} ended, {len(deltas)} deltas; {frames / took:.0f} frames/s to readers")
        print(f"floor: from the record to a bare pub/sub p50={at(floor, 0.5):.1f} ms p99={at(floor, 0.99):.1f} ms")
        for kind, of in told.items():
            print(compared(kind, of, truth, heard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=user_data_dir(), help="of the `headrace dev` to drive")
    parser.add_argument("--readers", type=int, default=1_000, help="of each kind (default: 1,000)")
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second (default: 10)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for so long (default: 20)")
    parser.add_argument("--kill", action="store_true", help="kill the gateway and Redis in the middle")
    parser.add_argument("--role", choices=("sse", "ws"), help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MOST_FILES), most))
    if arguments.role is not None:
        uvloop.run(read(arguments.role, arguments.run, arguments.readers, arguments.url))
    else:
        uvloop.run(drive(arguments))


if __name__ == "__main__":
    main()
