"""Where the time of a turn goes: one plain turn after the other, taken apart by the timestamps of its records.

Drives a running `headrace dev`. Each record carries when its process handed it to its producer. So a turn falls into:
the message's way to `accept`; the fact's acknowledgement, which `decide` waits for; the model call; the answer's
acknowledgement; the way of the turn's end to the client. Timestamps are whole milliseconds: only the means of many
turns mean something. Beside them, in the same run: a record's way to the broker and back, and a call of the model with
Anthropic's SDK. What follows the answer (recording the session's state) is told apart: nobody waits for it.
"""

import argparse
import asyncio
import statistics
import time
import uuid
from collections import defaultdict

import aiokafka
import orjson
import uvloop
from floors import Calls, RoundTrips
from stack import Meter, add_stack_arguments, measured_pids, readers_stopped, simulated_stack
from turns import TEXTS, Target, Turns

from runtime.kafka import changelog_topic_name
from runtime.settings import Settings

POLL_MS = 500
SETTLE_S = 1.0
HALF_OF_A_MS = 0.5
"""Timestamps are cut to whole milliseconds: on average they are so much too small."""
FACTS = {
    b"message_accepted": "accepted",
    b"model_completed": "model answered",
    b"turn_started": "started",
    b"turn_completed": "completed",
}
STAGES = (
    ("sent", "accepted", "the message to the broker, and to accept"),
    ("accepted", "started", "the fact acknowledged, and decided"),
    ("started", "model answered", "the model call"),
    ("model answered", "completed", "the answer acknowledged, and decided"),
    ("completed", "heard", "the turn's end to the broker, and to the client"),
)


class Times:
    """When each step of each session's turn was, in milliseconds of Unix time."""

    def __init__(self, brokers: str) -> None:
        self.of: dict[str, dict[str, float]] = defaultdict(dict)
        self._changelog = changelog_topic_name(Settings(brokers=brokers))
        self._consumer = aiokafka.AIOKafkaConsumer(
            "session-log",
            "agent-events",
            self._changelog,
            bootstrap_servers=brokers,
            fetch_max_wait_ms=100,
            auto_offset_reset="latest",
        )

    async def start(self) -> None:
        await self._consumer.start()
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)

    async def read(self) -> None:
        """All that was written since the start."""
        while batches := await self._consumer.getmany(timeout_ms=POLL_MS):
            for place, records in batches.items():
                for record in records:
                    self._note(place.topic, record)

    async def stop(self) -> None:
        await self._consumer.stop()

    def _note(self, topic: str, record: aiokafka.ConsumerRecord) -> None:
        at = record.timestamp + HALF_OF_A_MS
        if topic == self._changelog:
            if record.key.startswith(b"h\x00"):
                # The last one counts: the state after the turn.
                self.of[record.key[2:].decode()]["recorded"] = at
            return
        kind = orjson.loads(record.value)["type"].encode()
        if kind in FACTS:
            self.of[record.key.decode()].setdefault(FACTS[kind], at)


async def run(target: Target, model: str, count: int) -> None:
    times = Times(target.brokers)
    await times.start()
    run = f"stages-{uuid.uuid4().hex[:8]}"
    async with RoundTrips(target.brokers) as trips, Calls(model) as calls, Turns(target) as turns:
        trip = await trips.measure(count, 1)
        call = await calls.measure(TEXTS["plain"], count, 1)
        for number in range(20):
            await turns.turn(f"warm-{run}-{number}", TEXTS["plain"])
        meter = Meter(target.pids)
        latencies = []
        for number in range(count):
            noted = times.of[f"{run}-{number}"]
            noted["sent"] = time.time() * 1e3
            latencies.append(await turns.turn(f"{run}-{number}", TEXTS["plain"]))
            noted["heard"] = time.time() * 1e3
        figures = meter.figures(latencies)
        await asyncio.sleep(SETTLE_S)
    await times.read()
    await times.stop()
    print(f"round trip {trip}\nSDK call   {call}\nturn       {figures}\n")
    whole = statistics.fmean(figures.latencies) * 1e3
    noted_turns = [times.of[f"{run}-{number}"] for number in range(count)]
    for begin, end, what in STAGES:
        mean = statistics.fmean(noted[end] - noted[begin] for noted in noted_turns)
        print(f"{mean:6.2f} ms  {mean / whole:4.0%}  {what}")
    print(f"{whole:6.2f} ms  100%  the turn (mean)")
    recorded = statistics.fmean(noted["recorded"] - noted["completed"] for noted in noted_turns)
    print(f"{recorded:6.2f} ms        after its end, until the session's state is on its way to the changelog")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_arguments(parser)
    parser.add_argument("--turns", type=int, default=500)
    arguments = parser.parse_args()
    endpoints, model = simulated_stack(arguments)
    target = Target(endpoints.kafka, "", endpoints.worker_pids, pids=measured_pids(endpoints))
    with readers_stopped(endpoints, wanted=arguments.alone):
        await run(target, model, arguments.turns)


if __name__ == "__main__":
    uvloop.run(main())
