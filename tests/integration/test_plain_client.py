"""Whoever has a Kafka client has an agent: plain records in, plain records out, without any code of Headrace."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiokafka
import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from line import Line, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
COMMON = {"type", "session_id", "turn_id", "message_id", "seq", "at", "agent"}
FIELDS = {
    "turn_started": COMMON | {"user_id", "tenant", "metadata"},
    "tool_called": COMMON | {"call_id", "tool", "input"},
    "tool_returned": COMMON | {"call_id", "tool", "content", "is_error"},
    "turn_completed": COMMON | {"text", "usage", "cost_micros", "stop_reason"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(cluster: Cluster) -> AsyncIterator[Line]:
    async with serving(cluster, topic_prefix="") as (line, _):
        yield line


async def read_turn(bootstrap: str, session_id: str) -> list[dict[str, Any]]:
    """All agent events of the session up to the end of its first turn."""
    consumer = aiokafka.AIOKafkaConsumer("agent-events", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        events: list[dict[str, Any]] = []
        async for record in consumer:
            if record.key == session_id.encode():
                events.append(orjson.loads(record.value))
                if events[-1]["type"] == "turn_completed":
                    return events
    finally:
        await consumer.stop()
    raise AssertionError("the consumer ended before the turn did")


@pytest.mark.parametrize("is_keyed", [True, False])
@pytest.mark.usefixtures("line")
async def test_two_fields_make_a_message(cluster: Cluster, is_keyed: bool) -> None:  # noqa: FBT001  # pytest's way.
    """A session id and a text are enough, with or without a key; the turn's events are complete and in order."""
    session_id = f"plain-{'keyed' if is_keyed else 'keyless'}"
    value = orjson.dumps({"session_id": session_id, "text": "Which is the longest river of Europe?"})
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=cluster.kafka.bootstrap)
    await producer.start()
    try:
        sent = await producer.send_and_wait("user-messages", value, key=session_id.encode() if is_keyed else None)
    finally:
        await producer.stop()
    started, completed = await read_turn(cluster.kafka.bootstrap, session_id)
    common = {
        "session_id": session_id,
        "turn_id": f"{session_id}/1",
        "message_id": f"user-messages/{sent.partition}/{sent.offset}",
        "agent": "assistant",
    }
    assert started | {"at": ""} == common | {
        "type": "turn_started",
        "seq": 1,
        "at": "",
        "user_id": None,
        "tenant": None,
        "metadata": {},
    }
    assert set(completed) == FIELDS["turn_completed"]
    assert completed.items() >= (common | {"type": "turn_completed", "seq": 2, "stop_reason": "end_turn"}).items()
    assert len(completed["text"]) > 50
    usage = completed["usage"]
    assert set(usage) == {"input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"}
    assert usage["input_tokens"] + usage["cache_read_tokens"] + usage["cache_write_tokens"] > 100
    assert usage["output_tokens"] > 10
    assert completed["cost_micros"] > 0
    times = [datetime.fromisoformat(event["at"]) for event in (started, completed)]
    assert timedelta(0) <= times[1] - times[0]
    assert abs(datetime.now(UTC) - times[1]) < timedelta(minutes=1)


async def test_a_tool_call_is_told_step_by_step(line: Line) -> None:
    """Each event of a turn with a tool call has exactly its fields, and seq counts them without a gap."""
    completed = await line.ask("tool", "What is 17*23?")
    events = line.events("tool")
    assert [event["type"] for event in events] == ["turn_started", "tool_called", "tool_returned", "turn_completed"]
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert [set(event) for event in events] == [FIELDS[event["type"]] for event in events]
    assert events[1]["tool"] == "calculator"
    assert events[1]["input"] == {"expression": "17*23"}
    assert events[2]["call_id"] == events[1]["call_id"] == "tool/1/2"
    assert "391" in events[2]["content"]
    assert events[2]["is_error"] is False
    assert "391" in completed["text"]


async def test_every_record_is_a_cloud_event(line: Line) -> None:
    """The CloudEvents library reads all that is published, headers and body, and each event has an id of its own."""
    await line.ask("cloud", "What is 5*5?", metadata={"a": "b"})
    ids: list[str] = []
    for topic in ("session-log", "llm-requests", "tool-calls", "agent-events", "agent-deltas"):
        records = [record for record in line.records[topic] if record.key == b"cloud"]
        assert records
        for record in records:
            headers = dict(record.headers)
            event = from_binary_event(KafkaMessage(headers=headers, key=record.key, value=record.value))
            body = orjson.loads(record.value)
            assert event.get_data() == body
            assert event.get_specversion() == "1.0"
            assert event.get_type() == f"headrace.{body['type']}"
            assert event.get_subject() == body["session_id"] == "cloud"
            assert event.get_source().startswith("/headrace/")
            assert event.get_datacontenttype() == "application/json"
            time = event.get_time()
            assert time is not None
            assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
            ids.append(f"{topic} {event.get_source()} {event.get_type()} {event.get_id()}")
    assert len(set(ids)) == len(ids)


async def test_the_senders_trace_goes_on(line: Line) -> None:
    """`traceparent` of the message is that of all its events; a message without one gets a trace of its own."""
    value = orjson.dumps({"session_id": "traced", "id": "t1", "text": "What is 2*3?"})
    await line.put("user-messages", value, headers=[("traceparent", TRACEPARENT.encode())])
    await line.end("traced", "t1")
    await line.ask("traced", "And now?", id="t2")
    traces: dict[str, set[bytes]] = {"t1": set(), "t2": set()}
    for record in line.records["agent-events"]:
        if record.key == b"traced":
            traces[orjson.loads(record.value)["message_id"]].add(dict(record.headers)["traceparent"])
    assert traces["t1"] == {TRACEPARENT.encode()}
    (derived,) = traces["t2"]
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", derived)
    assert TRACEPARENT.encode()[3:35] not in derived


async def test_the_deltas_are_the_answer(line: Line) -> None:
    """What was shown while the model wrote is, put together, the text of `turn_completed`."""
    completed = await line.ask("deltas", "Tell me about the history of water mills. [[latency:0.5]]")
    frames = line.deltas("deltas")
    assert len(frames) > 2
    assert [frame["seq"] for frame in frames] == list(range(len(frames)))
    assert {(frame["type"], frame["turn_id"], frame["step"], frame["attempt"]) for frame in frames} == {
        ("text_delta", "deltas/1", 1, 1)
    }
    assert "".join(frame["text"] for frame in frames) == completed["text"]


async def test_a_session_remembers(line: Line) -> None:
    """The second message of a session sees the first one and its answer; another session does not."""
    await line.ask("memory", "My name is Ada.")
    assert "Ada" in (await line.ask("memory", "What is my name?"))["text"]
    assert "Ada" not in (await line.ask("amnesia", "What is my name?"))["text"]
    assert [event["turn_id"] for event in line.events("memory")] == ["memory/1"] * 2 + ["memory/2"] * 2


async def test_a_message_of_blocks(line: Line) -> None:
    """Text and images, as the Messages API has them, instead of `text`."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    content = [{"type": "text", "text": "Describe this. [[say:A dot.]]"}, image]
    completed = await line.ask("blocks", content=content)
    assert completed["type"] == "turn_completed"
    assert completed["text"] == "A dot."


async def test_a_message_may_name_its_agent(line: Line) -> None:
    """The agent that a message names answers it, and goes on with the session until another one is named."""
    ends = [
        await line.ask("named", "First."),
        await line.ask("named", "Second.", agent="writer"),
        await line.ask("named", "Third."),
        await line.ask("named", "Fourth.", agent="assistant"),
    ]
    assert [end["agent"] for end in ends] == ["assistant", "writer", "writer", "assistant"]


async def test_what_the_sender_says_of_itself_comes_back(line: Line) -> None:
    """User, tenant and metadata are for correlation: `turn_started` has them, and the id of the message is its own."""
    sent: dict[str, Any] = {"user_id": "u-7", "tenant": "acme", "metadata": {"ticket": "42", "ünï": "cødé"}}
    await line.ask("echo", "Hi there, anything new?", id="my-id", **sent)
    (started, completed) = line.events("echo")
    assert started.items() >= sent.items()
    assert started["message_id"] == completed["message_id"] == "my-id"


async def test_unknown_fields_are_ignored(line: Line) -> None:
    """A sender may be newer than the pipeline: what it adds does no harm."""
    end = await line.ask("newer", "Good day to you all", priority=3, nested={"a": [1]})
    assert end["type"] == "turn_completed"
