"""A pipeline as its users see it, with nothing but a Kafka client: what they write, and all that its topics carry."""

import asyncio
import base64
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import aiokafka
import orjson
from chaos.cluster import Cluster, Worker
from chaos.promise import ENDS, once

from headrace.topics import apply_topics
from runtime.settings import Settings
from schemas.topics import TOPICS

WAIT_S = 90.0
Body = dict[str, Any]
Found = TypeVar("Found")


class Line:
    """Writes to the topics of one pipeline, and remembers every record of all of them from the beginning."""

    def __init__(self, bootstrap: str, topic_prefix: str = "") -> None:
        self.records: defaultdict[str, list[aiokafka.ConsumerRecord]] = defaultdict(list)
        self._prefix = topic_prefix
        self._bootstrap = bootstrap
        self._closing = contextlib.AsyncExitStack()
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        names = [self._prefix + topic.name for topic in TOPICS]
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", max_request_size=4 << 20
        )
        consumer = aiokafka.AIOKafkaConsumer(
            *names, bootstrap_servers=self._bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        for client in (self._producer, consumer):
            await client.start()
            self._closing.push_async_callback(client.stop)
        self._reading = asyncio.create_task(self._read(consumer))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._closing.aclose()

    async def put(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> str:
        """Write any record; its place, `topic/partition/offset`."""
        place = await self._producer.send_and_wait(
            self._prefix + topic, value, key=key, headers=list(headers), partition=partition
        )
        return f"{place.topic}/{place.partition}/{place.offset}"

    async def say(self, session_id: str, text: str | None = None, **fields: Any) -> str:
        """Send a user message, keyed; its id."""
        body = {"session_id": session_id, **({} if text is None else {"text": text}), **fields}
        place = await self.put("user-messages", orjson.dumps(body), key=session_id.encode())
        return str(fields.get("id", place))

    async def command(self, type_tag: str, session_id: str, **fields: Any) -> str:
        """Send another command; its place."""
        body = {"type": type_tag, "session_id": session_id, **fields}
        return await self.put("user-messages", orjson.dumps(body), key=session_id.encode())

    async def ask(self, session_id: str, text: str | None = None, **fields: Any) -> Body:
        """Send a user message and wait for its end; the end."""
        return await self.end(session_id, await self.say(session_id, text, **fields))

    async def until(self, find: Callable[[], Found | None], what: str, timeout_s: float = WAIT_S) -> Found:
        """Wait until `find` finds something in the records."""
        assert self._reading is not None
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := find()):
                    assert not self._reading.done(), self._reading
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"expected {what} within {timeout_s:g} s") from None
        return found

    def events(self, session_id: str) -> list[Body]:
        """The agent events of a session so far, each once."""
        return once(event for event in self.bodies("agent-events") if event["session_id"] == session_id)

    def bodies(self, topic: str) -> list[Body]:
        return [orjson.loads(record.value) for record in self.records[topic]]

    async def event(self, session_id: str, event_type: str, **fields: Any) -> Body:
        """The first agent event of this type with these fields, once it is there."""

        def find() -> Body | None:
            matching = (
                event
                for event in self.events(session_id)
                if event["type"] == event_type and all(event[name] == value for name, value in fields.items())
            )
            return next(matching, None)

        return await self.until(find, f"{event_type} {fields} in {session_id}, got {self.events(session_id)}")

    async def end(self, session_id: str, message_id: str) -> Body:
        """How the message's turn ended, once it has."""

        def find() -> Body | None:
            events = (event for event in self.events(session_id) if event["message_id"] == message_id)
            return next((event for event in events if event["type"] in ENDS), None)

        return await self.until(find, f"an end of {message_id} in {session_id}")

    def deltas(self, session_id: str) -> list[Body]:
        """The frames of the session's answers so far, in their order."""
        return [frame for frame in self.bodies("agent-deltas") if frame["session_id"] == session_id]

    async def letter(self, place: str) -> Body:
        """The dead letter of the record at this place, once it is there."""
        found = await self.until(lambda: letters_of(self, place), f"a dead letter of {place}")
        return found[0]

    async def _read(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        async for record in consumer:
            self.records[record.topic.removeprefix(self._prefix)].append(record)
            self._news.set()


def letters_of(line: Line, place: str) -> list[Body]:
    """The dead letters so far of the record at this place, with key and value decoded."""
    return [
        {**letter, "key": _decoded(letter["key"]), "value": _decoded(letter["value"])}
        for letter in line.bodies("dead-letters")
        if letter["id"] == place
    ]


def _decoded(base64_text: str | None) -> bytes | None:
    return None if base64_text is None else base64.b64decode(base64_text)


async def release(cluster: Cluster, name: str) -> None:
    """Let the answers go on that the simulated model holds: `[[hold:NAME]]`."""
    url = f"{cluster.model_url}/control/released/{name}"
    async with aiohttp.ClientSession() as http, http.put(url) as response:
        assert response.status == HTTPStatus.OK


@contextlib.asynccontextmanager
async def serving(
    cluster: Cluster, topic_prefix: str, *, expected_errors: Collection[str] = (), **environment: str
) -> AsyncIterator[tuple[Line, Worker]]:
    """A pipeline of its own on the cluster, with one worker; an error that the worker only logged fails here."""
    worker = await cluster.add_worker(topic_prefix, **environment)
    async with _watched(cluster, topic_prefix, worker, expected_errors) as line:
        yield line, worker


@contextlib.asynccontextmanager
async def served_by(
    cluster: Cluster, topic_prefix: str, count: int, **environment: str
) -> AsyncIterator[tuple[Line, list[Worker]]]:
    """The same with several workers that share the partitions; a test may kill any but the first."""
    await apply_topics(Settings(brokers=cluster.kafka.bootstrap, topic_prefix=topic_prefix))
    first, *others = workers = await asyncio.gather(
        *(cluster.add_worker(topic_prefix, **environment) for _ in range(count))
    )
    async with _watched(cluster, topic_prefix, first) as line:
        try:
            yield line, workers
        finally:
            await asyncio.gather(*(worker.stop() for worker in others if worker.is_running))


@contextlib.asynccontextmanager
async def _watched(
    cluster: Cluster, topic_prefix: str, worker: Worker, expected_errors: Collection[str] = ()
) -> AsyncIterator[Line]:
    async with Line(cluster.kafka.bootstrap, topic_prefix) as line:
        yield line
    await worker.kill()
    # What aiokafka calls an error, a coordinator that is not there yet, it repairs itself.
    entries = [entry for entry in worker.log() if not entry.get("logger", "").startswith("aiokafka")]
    errors = [entry for entry in entries if entry["level"] == "error" and entry["event"] not in expected_errors]
    assert not errors, errors
