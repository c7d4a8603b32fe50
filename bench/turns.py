"""Turns through a running stack: `headrace dev` in one terminal, this in another.

Publishes user messages to N sessions, C at a time, and waits for each turn's end on `agent-events`: plain turns, and
turns with one tool call (two model calls). Prints turns per second, p50 and p99 from publish to the end, and the CPU
per turn of the worker, the broker, the simulated model and this client. Beside each C, in the same run, two floors: a
record's way to the broker and back (acks=all), and a streamed call of the same model with Anthropic's SDK, each from
one process, C at a time. At the end, medians over the rounds, and their ratios to the floors.

    bench/turns.py                                      C = 1, 50, 500 once, with everything that the stack runs
    bench/turns.py --alone --concurrency 1 50 500 5000 --rounds 3
    bench/turns.py --alone --around 'bash peers.sh'     what that prints just before and just after, next to ours
    bench/turns.py --half-load                          turns begun by a clock, at half the rate that C=50 reaches

Run it with the simulated model at zero pace, so that what is measured is the pipeline.
"""

import argparse
import asyncio
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

import aiokafka
import orjson
import uvloop
from floors import Calls, RoundTrips, closed_loop
from stack import Figures, Meter, add_stack_arguments, measured_pids, readers_stopped, run_beside

from headrace.stack.endpoints import Endpoints, read_endpoints

TEXTS = {"plain": "Good morning!", "tool": "What is 17*23?"}
ENDS = (b'"type":"turn_completed"', b'"type":"turn_failed"', b'"type":"turn_cancelled"')
TURN_TIMEOUT_S = 120.0
WARM_UPS = 20
SATURATING = 50
"""Turns at a time, from which on one worker answers no more in a second."""


@dataclass
class Target:
    """A running pipeline; `pids` by the names of the processes whose CPU counts."""

    brokers: str
    topic_prefix: str
    worker_pids: Sequence[int]
    agent: str | None = None
    pids: Mapping[str, int] = field(default_factory=dict)


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

    async def turn(self, session_id: str, text: str, message_id: str | None = None) -> float:
        """One turn; seconds from publish to its end."""
        message_id = message_id or uuid.uuid4().hex
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


async def at_once(target: Target, kind: str, count: int, concurrency: int) -> Figures:
    """`count` turns, each in a session of its own, `concurrency` at a time: the next begins when one ends."""
    run = uuid.uuid4().hex[:8]
    async with Turns(target) as turns:
        await asyncio.gather(*(turns.turn(f"bench-{run}-{-n - 1}", TEXTS[kind]) for n in range(WARM_UPS)))
        meter = Meter(target.pids)
        figures = await closed_loop(lambda n: turns.turn(f"bench-{run}-{n}", TEXTS[kind]), count, concurrency, meter)
        return Figures(figures.seconds, figures.latencies, figures.cpu, turns.failed)


async def by_the_clock(target: Target, kind: str, rate: float, seconds: float) -> Figures:
    """`rate` turns begin in each second, whatever becomes of them; a latency counts from when its turn was due."""
    run = uuid.uuid4().hex[:8]
    async with Turns(target) as turns:
        await asyncio.gather(*(turns.turn(f"bench-{run}-{-n - 1}", TEXTS[kind]) for n in range(WARM_UPS)))
        meter, begin = Meter(target.pids), time.perf_counter()

        async def one(number: int) -> float:
            due = begin + number / rate
            await asyncio.sleep(due - time.perf_counter())
            late = time.perf_counter() - due
            return late + await turns.turn(f"bench-{run}-{number}", TEXTS[kind])

        latencies = await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
        return meter.figures(latencies, turns.failed)


def enough(concurrency: int) -> int:
    """Turns for one measurement: some seconds of them, and each place used three times at least."""
    return max(300, min(40 * concurrency, 3 * max(concurrency, 1_000)))


async def measure_round(target: Target, model: str | None, arguments: argparse.Namespace) -> dict[str, Figures]:
    """Each concurrency once: the floors, then the turns."""
    found: dict[str, Figures] = {}
    async with AsyncExitStack() as opened:
        trips = await opened.enter_async_context(RoundTrips(target.brokers))
        calls = await opened.enter_async_context(Calls(model)) if model is not None else None
        for concurrency in arguments.concurrency:
            count = arguments.turns or enough(concurrency)
            measured = {"round trip": await trips.measure(count, concurrency)}
            if calls is not None:
                measured["SDK call"] = await calls.measure(TEXTS["plain"], count, concurrency)
            for kind in kinds(arguments):
                measured[f"{kind} turn"] = await at_once(target, kind, count, concurrency)
            for name, figures in measured.items():
                print(f"C={concurrency:<5} {name:10} {figures}", flush=True)
                found[f"C={concurrency:<5} {name}"] = figures
    return found


def print_medians(rounds: Sequence[Mapping[str, Figures]]) -> None:
    """Medians over the rounds with their range, and how they stand to the floors of the same concurrency."""
    print(f"\nmedians of {len(rounds)} rounds (lowest-highest), and ratios to the floors of the same C")
    by_name: dict[str, list[Figures]] = defaultdict(list)
    for measured in rounds:
        for name, figures in measured.items():
            by_name[name].append(figures)
    for name, all_figures in by_name.items():
        rates = [figures.rate for figures in all_figures]
        p50s = [figures.p50_ms for figures in all_figures]
        line = f"{name:20} {_spread(rates, 0)}/s  p50 {_spread(p50s, 1)} ms"
        line += f"  p99 {_spread([figures.p99_ms for figures in all_figures], 1)} ms"
        if name.endswith("turn"):
            for floor in ("round trip", "SDK call"):
                if beside := by_name.get(f"{name[:8]}{floor}"):
                    time_ratio = statistics.median(p50s) / statistics.median(one.p50_ms for one in beside)
                    rate_ratio = statistics.median(rates) / statistics.median(one.rate for one in beside)
                    line += f"  {floor}: p50 x{time_ratio:.1f}, rate x{rate_ratio:.2f}"
            for process in all_figures[0].cpu:
                line += f"  {process} {statistics.median(figures.cpu_ms(process) for figures in all_figures):.2f} ms"
        print(line, flush=True)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


async def measure_paced(target: Target, arguments: argparse.Namespace) -> None:
    """Turns begun by a clock; at half of what C=50 reaches in the same round, where no rate is given."""
    for kind in kinds(arguments):
        ratios = []
        for _ in range(arguments.rounds):
            rate = arguments.rate
            if rate is None:
                most = await at_once(target, kind, arguments.turns or enough(SATURATING), SATURATING)
                print(f"C={SATURATING:<5} {kind} turn {most}", flush=True)
                rate = most.rate / 2
            figures = await by_the_clock(target, kind, rate, arguments.seconds)
            ratios.append(figures.p99_ms / figures.p50_ms)
            print(f"offered {rate:.0f}/s {kind} turn {figures}  p99 = {ratios[-1]:.1f} x p50", flush=True)
        print(f"{kind} turn: p99 = {statistics.median(ratios):.1f} x p50, median of {len(ratios)} rounds", flush=True)


def kinds(arguments: argparse.Namespace) -> Sequence[str]:
    return list(TEXTS) if arguments.kind == "both" else [arguments.kind]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_arguments(parser)
    parser.add_argument("--brokers", help="instead of --data-dir: host:port")
    parser.add_argument("--worker-pid", type=int, help="with --brokers: whose CPU counts")
    parser.add_argument("--topic-prefix", default="")
    parser.add_argument("--agent", help="who answers; by default the pipeline's default agent")
    parser.add_argument("--kind", choices=[*TEXTS, "both"], default="both")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50, 500])
    parser.add_argument("--turns", type=int, help="per measurement; by default enough for its concurrency")
    parser.add_argument("--rounds", type=int, default=1, help="do all of it so often, and print the medians")
    parser.add_argument(
        "--around", metavar="COMMAND", help="run this before and after, and print its lines beside ours"
    )
    parser.add_argument("--half-load", action="store_true", help="begin turns by a clock, at half the saturated rate")
    parser.add_argument("--rate", type=float, help="begin so many turns per second by a clock")
    parser.add_argument("--seconds", type=float, default=20.0, help="of --half-load and --rate, for each round")
    return parser.parse_args()


async def run(target: Target, endpoints: Endpoints | None, arguments: argparse.Namespace) -> None:
    if arguments.half_load or arguments.rate is not None:
        await measure_paced(target, arguments)
        return
    model = endpoints.model if endpoints is not None else None
    print_medians([await measure_round(target, model, arguments) for _ in range(arguments.rounds)])


async def main() -> None:
    arguments = parse()
    endpoints = None
    if arguments.brokers:
        pids = {} if arguments.worker_pid is None else {"worker": arguments.worker_pid}
        target = Target(arguments.brokers, arguments.topic_prefix, list(pids.values()), arguments.agent, pids)
    else:
        endpoints = read_endpoints(arguments.data_dir)
        pids = measured_pids(endpoints)
        target = Target(endpoints.kafka, arguments.topic_prefix, endpoints.worker_pids, arguments.agent, pids)
    if arguments.around:
        await run_beside(arguments.around, "before", endpoints)
    with readers_stopped(endpoints, wanted=arguments.alone):
        await run(target, endpoints, arguments)
    if arguments.around:
        await run_beside(arguments.around, "after", endpoints)


if __name__ == "__main__":
    uvloop.run(main())
