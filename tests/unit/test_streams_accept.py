"""What people may send: what is accepted, what is refused and with which cause, and that nothing stops the worker."""

import json
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from cloudevents.core.formats.json import JSONFormat
from shell_fixture import NOW, Bench, settle

from agents.catalog import Catalog
from agents.spec import AgentSpec
from schemas.codec import cloud_event_headers, decode_command, decode_session_event, encode
from schemas.commands import MAX_MESSAGE_BYTES, UserMessage
from schemas.dead_letter import Cause
from schemas.log import ApprovalDecided, CancelRequested, MessageAccepted, SessionEndRequested
from schemas.topics import DEAD_LETTERS, SESSION_LOG, USER_MESSAGES
from streams.accept import Accept
from streams.dead_letter import MAX_VALUE_BYTES, DeadLetters
from streams.ports import Delivery
from streams.route_broadcast import RouteBroadcasts
from streams.session_log import SessionLog

CATALOG = Catalog({name: AgentSpec(name=name, instructions="x") for name in ("assistant", "writer")}, "assistant")


def encoded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


class Decided:
    """What reads the session log here: nothing is expected of it."""

    is_full = False

    async def take(self, delivery: Delivery) -> None:
        del delivery


async def accept(value: bytes | None, **delivery: Any) -> Bench:
    bench = Bench()
    dead_letters = DeadLetters(bench.shell)
    session_log = SessionLog(bench.shell, Decided())
    await Accept(bench.shell, dead_letters, session_log).take(bench.delivery(7, value, **delivery))
    return bench


BAD: dict[str, tuple[bytes | None, Cause, str]] = {
    "nothing": (None, Cause.NOT_JSON, "got nothing"),
    "not JSON": (b"hello", Cause.NOT_JSON, '"hello"'),
    "cut off": (b'{"session_id": "s1", "te', Cause.NOT_JSON, "truncated"),
    "not UTF-8": (b'{"session_id": "s1", "text": "\xff"}', Cause.NOT_JSON, "utf-8"),
    "half a character": (b'{"session_id": "s1", "text": "\\ud800"}', Cause.NOT_JSON, ""),
    "nested without end": (b'{"x":' + b"[" * 200_000, Cause.NOT_JSON, "recursion"),
    "an array": (b"[1, 2]", Cause.NOT_VALID, "Expected `object`, got `array`"),
    "no session": (encoded(text="hi"), Cause.NOT_VALID, "session_id"),
    "no text": (encoded(session_id="s1"), Cause.NOT_VALID, "either `text` or `content`"),
    "text and content": (
        encoded(session_id="s1", text="hi", content=[{"type": "text", "text": "hi"}]),
        Cause.NOT_VALID,
        "either `text` or `content`",
    ),
    "empty text": (encoded(session_id="s1", text=""), Cause.NOT_VALID, "$.text"),
    "unknown type": (encoded(session_id="s1", text="hi", type="shout"), Cause.NOT_VALID, "`shout`"),
    "type is a number": (encoded(session_id="s1", text="hi", type=5), Cause.NOT_VALID, "$.type"),
    "wrong field": (encoded(session_id="s1", text=5), Cause.NOT_VALID, "$.text"),
    "session with spaces": (encoded(session_id="s 1", text="hi"), Cause.NOT_VALID, "$.session_id"),
    "long session": (encoded(session_id="s" * 201, text="hi"), Cause.NOT_VALID, "$.session_id"),
    "agent in capitals": (encoded(session_id="s1", text="hi", agent="Bob"), Cause.NOT_VALID, "$.agent"),
    "unknown block": (encoded(session_id="s1", content=[{"type": "video"}]), Cause.NOT_VALID, "$.content[0]"),
    "much metadata": (
        encoded(session_id="s1", text="hi", metadata={str(n): "" for n in range(51)}),
        Cause.NOT_VALID,
        "$.metadata",
    ),
    "bad decision": (
        encoded(session_id="s1", type="approval_decision", call_id="c", decision="maybe"),
        Cause.NOT_VALID,
        "$.decision",
    ),
    "too large": (encoded(session_id="s1", text="x" * MAX_MESSAGE_BYTES), Cause.TOO_LARGE, str(MAX_MESSAGE_BYTES)),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_refused(name: str) -> None:
    """It is in the dead letters as it was, with its cause and an error that names the field; the partition goes on."""
    value, cause, says = BAD[name]
    bench = await accept(value, key=b"k", headers=(("h", b"v"), ("empty", None)))
    (letter,) = bench.outbox.letters()
    assert (letter.cause, letter.value, letter.key, letter.offset) == (cause, value, b"k", 7)
    assert says in letter.error
    assert letter.headers == (("h", b"v"), ("empty", b""))
    assert bench.outbox.to(SESSION_LOG.name) == []
    assert bench.acknowledged == [], "not before the letter is durable"
    bench.outbox.appended[0].durable.set_result(0)
    await settle()
    assert bench.acknowledged == [7]


async def test_a_key_that_contradicts_the_session() -> None:
    """Its record may be in the wrong partition; the letter goes where the session's reader looks."""
    bench = await accept(encoded(session_id="s1", text="hi"), key=b"s2")
    (letter,) = bench.outbox.letters()
    assert (letter.cause, letter.session_id) == (Cause.WRONG_KEY, "s1")
    assert '"s2"' in letter.error
    assert bench.outbox.appended[0].key == b"s1"


async def test_the_smallest_message() -> None:
    """Session and text are enough: the rest is derived from where the record is."""
    bench = await accept(encoded(session_id="s1", text="hi"), headers=(("traceparent", None),))
    (appended,) = bench.outbox.to(SESSION_LOG.name)
    event = decode_session_event(appended.value or b"")
    assert isinstance(event, MessageAccepted)
    assert (event.message_id, event.sent_at, event.agent) == ("user-messages/0/7", NOW, None)
    assert event.traceparent is not None
    assert appended.key == b"s1"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "user_message", "content": [{"type": "text", "text": "hi"}]}, MessageAccepted),
        ({"type": "cancel_turn"}, CancelRequested),
        ({"type": "approval_decision", "call_id": "c", "decision": "deny"}, ApprovalDecided),
        ({"type": "end_session"}, SessionEndRequested),
    ],
)
async def test_every_command_becomes_its_fact(fields: dict[str, Any], kind: type) -> None:
    """Unknown fields are ignored: a newer sender is understood."""
    bench = await accept(encoded(session_id="s1", added_later=1, **fields), key=b"s1")
    (appended,) = bench.outbox.to(SESSION_LOG.name)
    assert isinstance(decode_session_event(appended.value or b""), kind)


async def test_a_sender_keeps_its_trace() -> None:
    """A well-formed `traceparent` is taken over, any other one is replaced."""
    good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    zeros = b"00-" + b"0" * 32 + good[35:]
    for sent, is_kept in [(good, True), (b"nonsense", False), (zeros, False)]:
        bench = await accept(encoded(session_id="s1", text="hi"), headers=(("traceparent", sent),))
        headers = dict(bench.outbox.appended[0].headers)
        assert (headers["traceparent"] == sent) == is_kept


async def test_a_log_that_cannot_be_written_stops_the_worker() -> None:
    """The record is not acknowledged."""
    bench = await accept(encoded(session_id="s1", text="hi"))
    bench.outbox.appended[0].durable.set_exception(OSError("gone"))
    await settle()
    assert [str(error) for error in bench.failures] == ["gone"]
    assert bench.acknowledged == []


async def test_a_record_that_is_too_large_to_bury_is_named_at_least() -> None:
    """Its letter must itself fit a record."""
    bench = Bench()
    await DeadLetters(bench.shell).bury(
        bench.delivery(3, b"x" * (MAX_VALUE_BYTES + 1)), processor="p", cause=Cause.NOT_VALID, error="e"
    )
    (letter,) = bench.outbox.letters()
    assert letter.value is None
    assert "read it where it is" in letter.error


async def test_headers_are_cloud_events() -> None:
    """The `cloudevents` package reads what we write."""
    message = UserMessage(session_id="s1", text="hi")
    headers = cloud_event_headers(message, id="i1", source="/headrace/x", at=NOW, subject="s1")
    read = from_binary_event(KafkaMessage(dict(headers), b"s1", encode(message)), JSONFormat())
    assert read.get_id() == "i1"
    assert read.get_type() == "headrace.user_message"
    assert read.get_source() == "/headrace/x"
    assert read.get_subject() == "s1"
    assert read.get_time() == NOW
    assert read.get_specversion() == "1.0"
    assert read.get_datacontenttype() == "application/json"
    data = read.get_data()
    assert isinstance(data, dict)
    assert decode_command(json.dumps(data).encode()) == message


# Broadcasts


async def route(value: bytes | None) -> Bench:
    bench = Bench()
    session_log = SessionLog(bench.shell, Decided())
    await RouteBroadcasts(bench.shell, DeadLetters(bench.shell), CATALOG, session_log).take(
        bench.delivery(2, value, topic="broadcasts", headers=(("traceparent", None),))
    )
    return bench


async def test_a_broadcast_reaches_every_agent_in_a_session_of_its_own() -> None:
    """The same broadcast gives the same ids, so that it is answered once however often it is routed."""
    bench = await route(encoded(text="hi", metadata={"k": "v"}, sender="ann"))
    sent = [decode_command(appended.value or b"") for appended in bench.outbox.to(USER_MESSAGES.name)]
    assert [message.session_id for message in sent] == ["broadcasts/0/2:assistant", "broadcasts/0/2:writer"]
    for message in sent:
        assert isinstance(message, UserMessage)
        assert message.id == message.session_id
        assert message.metadata == {"k": "v", "broadcast_id": "broadcasts/0/2"}
    bench.outbox.appended[1].durable.set_result(0)
    await settle()
    assert bench.acknowledged == []
    bench.outbox.appended[0].durable.set_result(0)
    await settle()
    assert bench.acknowledged == [2]


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (None, Cause.NOT_JSON),
        (b'{"x":' + b"[" * 200_000, Cause.NOT_JSON),
        (encoded(), Cause.NOT_VALID),
        (encoded(text="hi", audience="some"), Cause.NOT_VALID),
        (encoded(text="hi", audience=[]), Cause.NOT_VALID),
        (encoded(text="hi", expires_at="tomorrow"), Cause.NOT_VALID),
        (encoded(text="hi", expires_at="2026-05-01T11:59:59Z"), Cause.EXPIRED),
        (encoded(text="hi", expires_at="2026-05-01T11:59:59"), Cause.EXPIRED),
        (encoded(text="x" * MAX_MESSAGE_BYTES), Cause.TOO_LARGE),
        (encoded(text="hi", metadata={str(n): "" for n in range(50)}), Cause.NOT_VALID),
        (encoded(text="hi", audience=["ghost"]), Cause.NO_SUCH_AGENT),
    ],
)
async def test_broadcasts_that_reach_nobody(value: bytes | None, cause: Cause) -> None:
    """They are buried once, not once for each agent."""
    bench = await route(value)
    assert bench.outbox.to(USER_MESSAGES.name) == []
    assert [letter.cause for letter in bench.outbox.letters()] == [cause]
    bench.outbox.to(DEAD_LETTERS.name)[0].durable.set_result(0)
    await settle()
    assert bench.acknowledged == [2]
    assert bench.failures == []


async def test_a_broadcast_to_known_and_unknown_agents() -> None:
    """Those that there are get it; its sender reads who did not."""
    bench = await route(encoded(text="hi", audience=["writer", "ghost"], expires_at="2026-05-02T00:00:00"))
    (letter,) = bench.outbox.letters()
    assert "ghost" in letter.error
    assert [appended.key for appended in bench.outbox.to(USER_MESSAGES.name)] == [b"broadcasts/0/2:writer"]
