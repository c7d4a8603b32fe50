"""How fast each projection is made again from its topics: events per second, beside that of only reading them.

One command, which starts a broker, PostgreSQL and Valkey of its own and needs nothing else:

    .venv/bin/python bench/rebuild_rate.py --sessions 5000

Publishes the conversations of that many sessions, has each projection made once, and then makes it again twice: first
its records are read from the broker and decoded without being written (the baseline), then it is rebuilt. Both are in
records per second, and the share says how much of the baseline's rate is left. For projections in Redis, it also says
for how long `headrace project` would have been paused.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import uvloop
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from projection_records import Topics, conversation

from headrace.stack.kafka import EmbeddedKafka
from headrace.stack.postgres import Postgres
from headrace.stack.valkey import Valkey
from headrace.topics import apply_topics
from projections.calls import CallProjection
from projections.catalog import PROJECTIONS, TABLE_PROJECTIONS
from projections.loop import Writer
from projections.migrations import migrate
from projections.projection import Projection, Row
from projections.rebuild import rebuild
from projections.rebuild_redis import rebuild_keys
from projections.reread import reread
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.topics import TOPICS

Started = TypeVar("Started", Postgres, Valkey)


class Nowhere:
    """A store that keeps nothing."""

    async def write(self, rows: Sequence[Row]) -> None:
        """Nothing."""

    async def progress(self) -> None:
        """It does not know."""

    async def close(self) -> None:
        """Nothing is open."""


async def publish(settings: Settings, sessions: int) -> int:
    """The conversations, a hundred at a time; gives the number of records."""
    names = {topic.name: topic_name(settings, topic) for topic in TOPICS}
    start, records = datetime.now(UTC) - timedelta(hours=1), 0
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers, linger_ms=5) as producer:
        for begin in range(0, sessions, 100):
            topics = Topics()
            for number in range(begin, min(begin + 100, sessions)):
                topics.tell(conversation(f"bench{number}", tenant="t0", start=start), number % settings.partitions)
            sent = [await producer.send(names[one.topic], one.value, partition=one.partition) for one in topics.records]
            await asyncio.gather(*sent)
            records += len(sent)
    return records


async def read_only(settings: Settings, projection: Projection) -> float:
    """Records per second, read and decoded."""
    writer = Writer(projection, Nowhere(), asyncio.Event())
    async with reread(settings, projection) as topics:
        spans = await topics.spans()
        started = perf_counter()
        await topics.read(spans, writer, lambda _: None)
        return writer.records / (perf_counter() - started)


async def made_again(settings: Settings, projection: Projection) -> tuple[float, str]:
    """Records per second, and what else there is to say."""
    if isinstance(projection, CallProjection):
        keys = await rebuild_keys(settings, projection, lambda _: None)
        count = sum(one.same + one.new + one.changed for one in keys.kinds)
        return keys.records / keys.seconds, f"{count} keys, live projection paused {keys.paused_seconds:.2f} s"
    tables = await rebuild(settings, TABLE_PROJECTIONS[projection.name], lambda _: None)
    return tables.records / tables.seconds, "tables"


async def measure(settings: Settings, projection: Projection) -> str:
    await made_again(settings, projection)
    baseline = await read_only(settings, projection)
    rate, rest = await made_again(settings, projection)
    return f"{projection.name:13} read {baseline:8.0f}/s  rebuilt {rate:7.0f}/s = {rate / baseline:4.0%}  ({rest})"


@asynccontextmanager
async def running(child: Started) -> AsyncIterator[Started]:
    """The server, until the end."""
    try:
        await child.start()
        yield child
    finally:
        await child.process.stop()


async def run(folder: Path, sessions: int, names: Sequence[str]) -> None:
    async with (
        EmbeddedKafka(folder / "kafka", progress=lambda _: None) as kafka,
        running(Postgres(folder / "postgres")) as postgres,
        running(Valkey(folder / "valkey")) as valkey,
    ):
        settings = Settings(
            brokers=kafka.bootstrap, partitions=4, postgres=SecretStr(postgres.url), redis=SecretStr(valkey.url)
        )
        await apply_topics(settings)
        await migrate(postgres.url)
        print(f"{await publish(settings, sessions)} records of {sessions} sessions", flush=True)
        for name in names:
            print(await measure(settings, PROJECTIONS[name]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=5_000)
    with_records = [name for name in PROJECTIONS if name != "dead_letters"]  # Nothing died.
    parser.add_argument("--projections", nargs="+", choices=with_records, default=with_records)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        uvloop.run(run(Path(folder), arguments.sessions, arguments.projections))


if __name__ == "__main__":
    main()
