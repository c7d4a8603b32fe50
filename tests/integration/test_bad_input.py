"""Bad input of every kind, on every topic that a worker reads: where it ends, and that its partition goes on.

Run with `-s`, it prints the tables.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster
from line import Body, Line, letters_of, serving
from msgspec import Struct

from headrace.dead_letters import NothingToReplayError, find_dead_letter, replay
from runtime.kafka import partition_for
from runtime.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = "bad."
PARTITION = 3
"""All of a topic's cases go there, each followed by a good record."""
HEADERS = [("sender", b"test"), ("bytes", b"\x00\xff")]


class Refused(Struct, frozen=True):
    """What of a record's dead letter is expected."""

    cause: str
    says: str
    session_id: str | None = None
    key: bytes | None = None


def message(**fields: Any) -> bytes:
    return orjson.dumps({"session_id": "s", "text": "hi"} | fields)


def broadcast(**fields: Any) -> bytes:
    return orjson.dumps({"text": "hi", "audience": ["writer"]} | fields)


DEEP = b'{"session_id": "s", "text": "hi", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
LARGE = message(text="a" * 600_000)
Cases = dict[str, tuple[bytes | None, Refused]]
MESSAGES: Cases = {
    "not JSON": (b"hello there", Refused("not_json", '"hello there"')),
    "empty value": (b"", Refused("not_json", "got nothing")),
    "no value (tombstone)": (None, Refused("not_json", "got nothing", key=b"k")),
    "compressed by its sender": (gzip.compress(message(), mtime=0), Refused("not_json", "expected a JSON object")),
    "a byte order mark": (b"\xef\xbb\xbf" + message(), Refused("not_json", "byte 0")),
    "cut off": (message()[:-2], Refused("not_json", "truncated")),
    "invalid UTF-8": (b'{"session_id": "s", "text": "caf\xe9"}', Refused("not_json", "0xe9")),
    "half of a surrogate pair": (b'{"session_id": "s", "text": "a\\ud800b"}', Refused("not_json", "ud800b")),
    "NaN": (b'{"session_id": "s", "text": "hi", "x": NaN}', Refused("not_json", "malformed")),
    "nested 100,000 deep": (DEEP, Refused("not_json", "recursion")),
    "a list": (b'["s", "hi"]', Refused("not_valid", "Expected `object`, got `array`")),
    "a string": (b'"hi"', Refused("not_valid", "Expected `object`, got `str`")),
    "no session_id": (b'{"text": "hi"}', Refused("not_valid", "missing required field `session_id`")),
    "session_id a number": (message(session_id=7), Refused("not_valid", "$.session_id")),
    "session_id null": (message(session_id=None), Refused("not_valid", "$.session_id")),
    "session_id empty": (message(session_id=""), Refused("not_valid", "$.session_id")),
    "session_id with a space": (message(session_id="my session"), Refused("not_valid", "$.session_id")),
    "session_id with a new line": (message(session_id="s\n"), Refused("not_valid", "$.session_id")),
    "session_id not ASCII": (message(session_id="sé"), Refused("not_valid", "$.session_id")),
    "session_id of 201 characters": (message(session_id="s" * 201), Refused("not_valid", "$.session_id")),
    "neither text nor content": (b'{"session_id": "s"}', Refused("not_valid", "either `text` or `content`")),
    "both text and content": (
        message(content=[{"type": "text", "text": "hi"}]),
        Refused("not_valid", "either `text` or `content`"),
    ),
    "empty text": (message(text=""), Refused("not_valid", "$.text")),
    "text a number": (message(text=5), Refused("not_valid", "Expected `str | null`, got `int` - at `$.text`")),
    "no blocks": (message(text=None, content=[]), Refused("not_valid", "$.content")),
    "a block that users cannot send": (
        message(text=None, content=[{"type": "tool_result", "tool_use_id": "t", "content": "x"}]),
        Refused("not_valid", "tool_result"),
    ),
    "an image over http": (
        message(text=None, content=[{"type": "image", "source": {"type": "url", "url": "http://a.example/b.png"}}]),
        Refused("not_valid", "$.content[0].source.url"),
    ),
    "unknown type": (message(type="shout"), Refused("not_valid", "`user_message`, `cancel_turn`")),
    "an agent's name in capitals": (message(agent="Writer!"), Refused("not_valid", "$.agent")),
    "metadata of objects": (message(metadata={"a": {"b": 1}}), Refused("not_valid", "$.metadata")),
    "51 metadata entries": (message(metadata={str(n): "x" for n in range(51)}), Refused("not_valid", "$.metadata")),
    "over 512 KiB": (LARGE, Refused("too_large", "at most 524288 bytes")),
    "another session's key": (message(), Refused("wrong_key", "leave the key out", session_id="s", key=b"other")),
    "a key that is not text": (message(), Refused("wrong_key", "leave the key out", session_id="s", key=b"\xff\x00")),
    "a cancel without a session": (b'{"type": "cancel_turn"}', Refused("not_valid", "session_id")),
    "an approval that is neither yes nor no": (
        b'{"type": "approval_decision", "session_id": "s", "call_id": "c", "decision": "maybe"}',
        Refused("not_valid", "$.decision"),
    ),
}
BROADCASTS: Cases = {
    "not JSON": (b"hello there", Refused("not_json", "malformed")),
    "empty value": (b"", Refused("not_json", "truncated")),
    "no value (tombstone)": (None, Refused("not_json", "truncated", key=b"k")),
    "invalid UTF-8": (b'{"text": "caf\xe9"}', Refused("not_json", "0xe9")),
    "nested 100,000 deep": (DEEP, Refused("not_json", "recursion")),
    "a list": (b"[]", Refused("not_valid", "Expected `object`, got `array`")),
    "no text": (b'{"audience": "all"}', Refused("not_valid", "expected either `text` or `content`")),
    "empty text": (broadcast(text=""), Refused("not_valid", "$.text")),
    "another type": (broadcast(type="user_message"), Refused("not_valid", "user_message")),
    "an audience that is no list": (broadcast(audience="some"), Refused("not_valid", "$.audience")),
    "an empty audience": (broadcast(audience=[]), Refused("not_valid", "$.audience")),
    "an agent's name in capitals": (broadcast(audience=["Writer"]), Refused("not_valid", "$.audience")),
    "an agent that is not there": (broadcast(audience=["nobody"]), Refused("no_such_agent", "['nobody']")),
    "expired": (broadcast(expires_at="2026-01-01T00:00:00Z"), Refused("expired", "send it again with a later time")),
    "expired before history": (broadcast(expires_at="0001-01-01T00:00:00+23:59"), Refused("expired", "0001-01-01")),
    "a bad timestamp": (broadcast(expires_at="yesterday"), Refused("not_valid", "RFC3339")),
    "a timestamp as a number": (broadcast(expires_at=1_800_000_000), Refused("not_valid", "$.expires_at")),
    "an id of 121 characters": (broadcast(id="b" * 121), Refused("not_valid", "$.id")),
    "50 metadata entries": (
        broadcast(metadata={str(n): "x" for n in range(50)}),
        Refused("not_valid", "one is for its id"),
    ),
    "over 508 KiB": (broadcast(text="a" * 600_000), Refused("too_large", "at most 520192 bytes")),
}
GARBAGE: dict[str, bytes | None] = {
    "not JSON": b"\x00\x01\x02",
    "empty value": b"",
    "no value (tombstone)": None,
    "invalid UTF-8": b'{"type": "\xff"}',
    "nested 100,000 deep": DEEP,
    "a list": b"[1, 2]",
    "no type": b'{"session_id": "s"}',
    "unknown type": b'{"type": "moon_landed", "session_id": "s"}',
    "fields missing": b'{"type": "model_completed", "session_id": "s"}',
    "a user's message": message(),
}
INTERNAL = {"session-log": "decide", "llm-requests": "call_model", "tool-calls": "call_tool"}
ALL: list[tuple[str, str]] = [
    *(("user-messages", case) for case in MESSAGES),
    *(("broadcasts", case) for case in BROADCASTS),
    *((topic, case) for topic in INTERNAL for case in GARBAGE),
]


def case_of(topic: str, case: str) -> tuple[bytes | None, Refused, str]:
    """The record's value, what is expected of its dead letter, and the processor that wrote it."""
    match topic:
        case "user-messages":
            return (*MESSAGES[case], "accept")
        case "broadcasts":
            return (*BROADCASTS[case], "route_broadcast")
        case _:
            return GARBAGE[case], Refused("not_valid", "expected a", key=b"k"), INTERNAL[topic]


def session_in(partition: int, name: str) -> str:
    """A session id that belongs to the partition."""
    return next(f"{name}-{n}" for n in range(10_000) if partition_for(f"{name}-{n}".encode(), 8) == partition)


class Sent(Struct, frozen=True):
    """A bad record, and the good one behind it."""

    place: str
    good_session: str
    good_message: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(cluster: Cluster) -> AsyncIterator[Line]:
    async with serving(cluster, PREFIX, expected_errors={"core_error"}) as (line, _):
        yield line


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sent(line: Line) -> dict[tuple[str, str], Sent]:
    """All bad records, each followed in its partition by a good one."""
    return {(topic, case): await _send(line, topic, case, f"good-{n}") for n, (topic, case) in enumerate(ALL)}


async def _send(line: Line, topic: str, case: str, name: str) -> Sent:
    value, expected, _ = case_of(topic, case)
    place = await line.put(topic, value, key=expected.key, headers=HEADERS, partition=PARTITION)
    if topic == "broadcasts":
        await line.put(topic, broadcast(id=name), partition=PARTITION)
        return Sent(place, f"{name}:writer", f"{name}:writer")
    session_id = session_in(PARTITION, name)
    text = "What is 2+3?" if topic == "tool-calls" else "Good morning!"
    await line.put("user-messages", message(session_id=session_id, id=name, text=text), partition=PARTITION)
    return Sent(place, session_id, name)


@pytest.mark.parametrize(("topic", "case"), ALL)
async def test_a_bad_record_is_a_dead_letter(
    line: Line, sent: dict[tuple[str, str], Sent], topic: str, case: str
) -> None:
    """Byte for byte as it was, with its place, cause, and an error that helps; the record behind it is answered."""
    record = sent[topic, case]
    value, expected, processor = case_of(topic, case)
    assert (await line.end(record.good_session, record.good_message))["type"] == "turn_completed"
    letter = await line.letter(record.place)
    assert letters_of(line, record.place) == [letter]
    place = {"topic": PREFIX + topic, "partition": PARTITION, "offset": int(record.place.rpartition("/")[2])}
    assert letter.items() >= (place | {"key": expected.key, "value": value, "processor": processor}).items()
    assert letter["cause"] == expected.cause
    assert expected.says in letter["error"]
    assert "expected" in letter["error"]
    assert len(letter["error"]) < 600
    assert letter["session_id"] == expected.session_id
    assert letter["headers"] == [["sender", "dGVzdA=="], ["bytes", "AP8="]]
    assert datetime.fromisoformat(letter["record_at"]) <= datetime.fromisoformat(letter["at"])
    (written,) = [r for r in line.records["dead-letters"] if dict(r.headers)["ce_id"] == record.place.encode()]
    assert written.key == (expected.session_id.encode() if expected.session_id else expected.key)


async def test_a_command_about_nothing(line: Line) -> None:
    """What nobody waits for is refused by the session itself; the letter is found by session and by what was sent."""
    await line.ask("nothing", "Good morning!")
    cancel = await line.command("cancel_turn", "nothing", message_id="never-sent")
    approve = await line.command("approval_decision", "nothing", call_id="nothing/1/1", decision="approve")
    elsewhere = await line.command("cancel_turn", "nobody-spoke-here")

    def letters() -> dict[str, Body] | None:
        found = {
            orjson.loads(letter["value"])["command_id"]: letter
            for place in {letter["id"] for letter in line.bodies("dead-letters") if letter["processor"] == "decide"}
            for letter in letters_of(line, place)
            if letter["session_id"] in {"nothing", "nobody-spoke-here"}
        }
        return found if len(found) == 3 else None

    found = await line.until(letters, "three dead letters")
    assert {found[place]["cause"] for place in (cancel, elsewhere)} == {"nothing_to_cancel"}
    assert "`never-sent`" in found[cancel]["error"]
    assert found[approve]["cause"] == "nothing_to_approve"
    assert "`nothing/1/1`" in found[approve]["error"]
    assert (await line.ask("nothing", "Good evening!"))["type"] == "turn_completed"


async def test_what_the_session_cannot_do_is_a_failed_turn(line: Line) -> None:
    """A well-formed message that cannot be answered has its end like any other."""
    failed = await line.ask("unknown", "hi", agent="nobody")
    assert failed["error"]["code"] == "unknown_agent"
    assert "assistant, researcher, writer" in failed["error"]["message"]
    blank = await line.ask("blank", " \n ")
    assert blank["error"]["code"] == "bad_request"
    for session_id in ("unknown", "blank"):
        assert (await line.ask(session_id, "Good morning!"))["type"] == "turn_completed"


async def test_a_broadcast_reaches_those_who_are_there(line: Line) -> None:
    """Agents that do not exist are named in a dead letter; the others answer."""
    place = await line.put("broadcasts", broadcast(id="half", audience=["writer", "nobody", "assistant"]))
    letter = await line.letter(place)
    assert letter["cause"] == "no_such_agent"
    assert "['nobody'], which did not get it" in letter["error"]
    for agent in ("writer", "assistant"):
        assert (await line.end(f"half:{agent}", f"half:{agent}"))["agent"] == agent


async def test_forged_orders_do_nothing(line: Line, cluster: Cluster) -> None:
    """Well-formed orders and outcomes that no session waits for are passed over: no call is made, nobody is told."""
    before = await cluster.model_totals()
    session_id = session_in(PARTITION, "forged")
    order = {"session_id": session_id, "call_id": "c", "turn_id": "t", "step": 1, "agent": "a", "log_offset": 0}
    call = order | {"type": "call_model", "timeout_ms": 1000}
    tool = order | {"type": "call_tool", "timeout_ms": 1000, "tool": "calculator", "input": {}}
    outcome = {"type": "tool_completed", "session_id": session_id, "call_id": "c", "content": "x"}
    for topic, body in (
        ("llm-requests", call),
        ("tool-calls", tool),
        ("session-log", outcome | {"at": "2026-01-01T00:00:00Z"}),
    ):
        await line.put(topic, orjson.dumps(body), key=session_id.encode(), partition=PARTITION)
    other = session_in(PARTITION, "after-forged")
    await line.ask(other, "What is 2+3?")
    assert (await cluster.model_totals())["started"] == before["started"] + 2
    assert line.events(session_id) == []


@pytest.mark.parametrize("topic", ["llm-requests", "tool-calls"])
async def test_an_order_that_names_no_event_is_a_dead_letter(line: Line, topic: str) -> None:
    """Nobody waits for the log to come there, also not the order behind it, which a worker makes the usual way."""
    session_id = session_in(PARTITION, f"beyond-{topic}")
    order = {"session_id": session_id, "call_id": f"{session_id}/1/1", "turn_id": f"{session_id}/1", "step": 1}
    order |= {"agent": "a", "log_offset": 10**12, "timeout_ms": 1000}
    order |= {"type": "call_model"} if topic == "llm-requests" else {"type": "call_tool", "tool": "t", "input": {}}
    place = await line.put(topic, orjson.dumps(order), key=session_id.encode(), partition=PARTITION)
    letter = await line.letter(place)
    assert (letter["cause"], letter["session_id"]) == ("not_in_log", session_id)
    await line.ask(session_id, "What is 2+3?")


async def test_an_error_of_the_core_stops_one_session_only(line: Line) -> None:
    """A record that breaks the reducer is a dead letter; its session says so from then on, and the others go on."""
    session_id = session_in(PARTITION, "broken")
    # A time without a zone cannot be compared with others: nothing that Headrace writes has one.
    accepted = {"type": "message_accepted", "session_id": session_id, "message_id": "m", "at": "2026-01-01T00:00:00"}
    value = orjson.dumps(accepted | {"content": [{"type": "text", "text": "What is 2+3?"}]})
    await line.put("session-log", value, key=session_id.encode(), partition=PARTITION)
    failed = await line.end(session_id, "m")
    assert failed["error"]["code"] == "session_quarantined"
    again = await line.ask(session_id, "Hello?")
    assert again["error"]["code"] == "session_quarantined"
    assert "go on in a new session" in again["error"]["message"]
    (letter,) = [body for body in line.bodies("dead-letters") if body["session_id"] == session_id]
    assert letter["cause"] == "core_error"
    assert (await line.ask(session_in(PARTITION, "well"), "Hello?"))["type"] == "turn_completed"


async def test_a_dead_letter_is_sent_again(line: Line, sent: dict[tuple[str, str], Sent], cluster: Cluster) -> None:
    """The record comes back as it was, and says which letter it is from; a letter without a value is refused."""
    settings = Settings(brokers=cluster.kafka.bootstrap, topic_prefix=PREFIX)
    place = sent["broadcasts", "an agent that is not there"].place
    await line.letter(place)
    again = await replay(settings, await find_dead_letter(settings, place))
    second = await line.letter(f"{PREFIX}broadcasts/{again.partition}/{again.offset}")
    assert (second["cause"], second["value"]) == ("no_such_agent", broadcast(audience=["nobody"]))
    assert [name for name, _ in second["headers"]] == ["sender", "bytes", "headrace-replay-of"]
    empty = sent["user-messages", "no value (tombstone)"].place
    await line.letter(empty)
    with pytest.raises(NothingToReplayError, match="does not hold the record's value"):
        await replay(settings, await find_dead_letter(settings, empty))


async def test_the_tables(line: Line, sent: dict[tuple[str, str], Sent]) -> None:
    """Every case has its row."""
    letters = await asyncio.gather(*(line.letter(record.place) for record in sent.values()))
    rows = [
        f"| {topic} | {case} | `{letter['cause']}` | {letter['error'][:200]} |"
        for (topic, case), letter in zip(sent, letters, strict=True)
    ]
    print("\n| topic | input | cause in dead-letters | error |\n|---|---|---|---|", *rows, sep="\n")
    assert len(rows) == len(ALL)
