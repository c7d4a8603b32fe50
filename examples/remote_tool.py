"""A remote tool in Python without Headrace: rolls dice for agents. It needs `pip install aiokafka`, and nothing else.

python examples/remote_tool.py --brokers 127.0.0.1:9092 --memory /tmp/rolls.sqlite
"""

import argparse
import asyncio
import json
import secrets
import signal
import sqlite3
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

TOOL = "roll_dice"
MAX_DICE = 100


class BadInputError(ValueError):
    """The model reads the message."""


def roll(given: dict[str, Any]) -> str:
    """The model may write anything into its arguments: nothing of it may end the service."""
    count, sides = given.get("count"), given.get("sides", 6)
    if not isinstance(count, int) or not 1 <= count <= MAX_DICE:
        raise BadInputError(f"expected `count` of 1 to {MAX_DICE}, got {count!r}")
    if not isinstance(sides, int) or sides < 2:  # noqa: PLR2004 - a die has two sides at least
        raise BadInputError(f"expected `sides` of 2 or more, got {sides!r}")
    return json.dumps([secrets.randbelow(sides) + 1 for _ in range(count)])


class Memory:
    """What was answered, by call: calls may be delivered more than once, and dice must not be rolled again."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.execute("CREATE TABLE IF NOT EXISTS answers (call_id TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def find(self, call_id: str) -> dict[str, Any] | None:
        row = self._database.execute("SELECT answer FROM answers WHERE call_id = ?", (call_id,)).fetchone()
        return json.loads(row[0]) if row else None

    def keep(self, call_id: str, answer: dict[str, Any]) -> None:
        with self._database:
            self._database.execute("INSERT INTO answers VALUES (?, ?)", (call_id, json.dumps(answer)))


def answer_to(call: dict[str, Any], memory: Memory) -> dict[str, Any]:
    """`content`, or an `error`; the same one for the same call."""
    known = memory.find(call["call_id"])
    if known is not None:
        return known
    try:
        answer: dict[str, Any] = {"content": roll(call["input"])}
    except BadInputError as error:
        answer = {"error": {"message": str(error), "retryable": False}}
    memory.keep(call["call_id"], answer)
    return answer


async def serve(brokers: str, prefix: str, memory: Memory) -> None:
    """Take calls, answer them, and only then go on: a call whose answer was not sent is delivered again."""
    consumer = AIOKafkaConsumer(
        f"{prefix}tool-calls",
        bootstrap_servers=brokers,
        group_id=f"{prefix}{TOOL}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True)
    async with consumer, producer:
        print("ready", flush=True)
        async for record in consumer:
            call = json.loads(record.value)
            # After a while nobody waits any more, such as for calls from before this service first started.
            waits = record.timestamp + call["timeout_ms"] > time.time() * 1000
            if call["tool"] == TOOL and waits:
                result = {"session_id": call["session_id"], "call_id": call["call_id"], **answer_to(call, memory)}
                await producer.send_and_wait(
                    f"{prefix}tool-results", json.dumps(result).encode(), key=call["session_id"].encode()
                )
                print(call["call_id"], call["input"], result.get("content") or result["error"], flush=True)
            await consumer.commit()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Rolls dice for agents.")
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--prefix", default="", help="Headrace's setting `topic_prefix`")
    parser.add_argument("--memory", default="roll_dice.sqlite", help="the file that remembers what was answered")
    given = parser.parse_args()
    serving = asyncio.create_task(serve(given.brokers, given.prefix, Memory(given.memory)))
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


if __name__ == "__main__":
    asyncio.run(main())
