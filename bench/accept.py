"""From `user-messages` to the session log: what one worker accepts in a second, and how long that takes.

Drives a running `headrace dev`. Each message repeats one that its session has answered: `accept` writes it to the log
like any other, and `decide` drops it, so that nothing is measured but the way into the log. It takes two records to and
from the broker (the message, and the fact in the log); the floor, in the same run, is one, with as many at a time. Also
printed is the CPU of worker, broker and client for each message.
"""

import argparse
import asyncio
import time
import uuid

import aiokafka
import orjson
import uvloop
from floors import RoundTrips, closed_loop
from stack import Figures, Meter, add_stack_arguments, measured_pids, readers_stopped
from turns import TEXTS, Target, Turns

from headrace.stack.endpoints import read_endpoints

SESSIONS = 200
WARM_UPS = 20
POLL_MS = 1_000


class Log:
    """Publishes messages and hears when they are in the session log."""

    def __init__(self, brokers: str, run: str) -> None:
        self._run = run
        self._producer = aiokafka.AIOKafkaProducer(bootstrap_servers=brokers, acks="all")
        self._consumer = aiokafka.AIOKafkaConsumer(
            "session-log", bootstrap_servers=brokers, fetch_max_wait_ms=100, auto_offset_reset="latest"
        )
        self._waiting: dict[str, asyncio.Future[float]] = {}

    async def start(self) -> None:
        await self._producer.start()
        await self._consumer.start()
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    def session(self, number: int) -> str:
        return f"accept-{self._run}-{number % SESSIONS}"

    async def accept(self, number: int) -> float:
        """Seconds from `send` until the fact was read from the log."""
        session_id = self.session(number)
        mark = uuid.uuid4().hex
        there: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[mark] = there
        message = {"session_id": session_id, "id": session_id, "text": TEXTS["plain"], "metadata": {"mark": mark}}
        body = orjson.dumps(message)
        started = time.perf_counter()
        await self._producer.send("user-messages", body, key=session_id.encode())
        return await there - started

    async def hear(self) -> None:
        while True:
            batches = await self._consumer.getmany(timeout_ms=POLL_MS)
            now = time.perf_counter()
            for records in batches.values():
                for record in records:
                    if b'"mark"' in record.value:
                        self._waiting.pop(orjson.loads(record.value)["metadata"]["mark"]).set_result(now)


async def answer_first(target: Target, log: Log) -> None:
    """Each session answers the message that will be repeated."""
    async with Turns(target) as turns:
        await asyncio.gather(
            *(turns.turn(log.session(n), TEXTS["plain"], message_id=log.session(n)) for n in range(SESSIONS))
        )


def compared(floor: Figures, found: Figures) -> str:
    return f"p50 x{found.p50_ms / floor.p50_ms:.1f}, rate x{found.rate / floor.rate:.2f} of one record's way"


async def run(target: Target, arguments: argparse.Namespace) -> None:
    log = Log(target.brokers, uuid.uuid4().hex[:8])
    await answer_first(target, log)
    await log.start()
    hearing = asyncio.create_task(log.hear())
    try:
        async with RoundTrips(target.brokers) as trips:
            for _ in range(arguments.rounds):
                for concurrency in arguments.concurrency:
                    count = max(500, min(30_000, arguments.messages, 200 * concurrency))
                    floor = await trips.measure(count, concurrency)
                    await asyncio.gather(*(log.accept(number) for number in range(WARM_UPS)))
                    found = await closed_loop(log.accept, count, concurrency, Meter(target.pids))
                    print(f"C={concurrency:<5} round trip {floor}", flush=True)
                    print(f"C={concurrency:<5} accept     {found}  {compared(floor, found)}", flush=True)
    finally:
        hearing.cancel()
        await log.stop()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_stack_arguments(parser)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50, 1_000], help="messages on their way")
    parser.add_argument("--messages", type=int, default=30_000, help="per measurement, at most")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    endpoints = read_endpoints(arguments.data_dir)
    target = Target(endpoints.kafka, "", endpoints.worker_pids, pids=measured_pids(endpoints))
    with readers_stopped(endpoints, wanted=arguments.alone):
        await run(target, arguments)


if __name__ == "__main__":
    uvloop.run(main())
