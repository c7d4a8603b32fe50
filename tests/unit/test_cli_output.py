"""What people and programs see of records and turns."""

import io
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from client_fixture import completed, started
from rich.console import Console

from headrace.errors import UsageError
from headrace.records import as_line, as_object, body_of, find_topic, session_of
from headrace.transcript_view import TranscriptView
from runtime.settings import Settings
from schemas.codec import encode
from schemas.events import AgentDelta, AgentEvent, DeltaReset, TextDelta, ToolCalled, ToolReturned, TurnFailed
from schemas.failure import Failure, FailureCode
from schemas.topics import AGENT_EVENTS

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def record(value: bytes | None, key: bytes | None = b"s1") -> Any:
    return SimpleNamespace(
        topic="agent-events",
        partition=3,
        offset=45,
        timestamp=int(NOW.timestamp() * 1000),
        key=key,
        value=value,
        headers=(("ce_id", b"1"),),
    )


def test_line() -> None:
    """Time and place, type, session, and first what was said."""
    event = record(encode(completed("s1", "m1", 2, "the answer")))
    place, kind, said = as_line(event, body_of(event.value))
    assert (place, kind) == ("12:00:00.000 3@45", "turn_completed")
    assert said.startswith("s1 seq=2 text=the answer turn_id=s1/1")


def test_object() -> None:
    """A program gets the place, the key, the headers, and the whole body."""
    event = record(encode(started("s1", "m1", 1)))
    shown = as_object(event, body_of(event.value))
    assert (shown["topic"], shown["partition"], shown["offset"], shown["at"]) == ("agent-events", 3, 45, NOW)
    assert (shown["key"], shown["headers"]) == ("s1", {"ce_id": "1"})
    assert shown["record"]["type"] == "turn_started"


@pytest.mark.parametrize(
    ("value", "shown"), [(b"not json", "not json"), (b"\xff", "\ufffd"), (b"[1]", "[1]"), (None, "None")]
)
def test_records_that_are_not_ours(value: bytes | None, shown: str) -> None:
    """Whatever is on a topic can be shown."""
    event = record(value)
    body = body_of(value)
    assert as_line(event, body)[2] == shown
    assert as_object(event, body)["record"] == body
    assert session_of(event, body) == "s1"


def test_session_of_a_record_without_a_key() -> None:
    """Anyone may publish without a key: then the body says whose it is."""
    assert session_of(record(b"", key=None), {"session_id": "s2"}) == "s2"
    assert session_of(record(b"", key=None), {}) is None


def test_find_topic() -> None:
    """With or without the prefix; else the message names those there are."""
    settings = Settings(topic_prefix="eu.")
    assert find_topic("agent-events", settings) is find_topic("eu.agent-events", settings) is AGENT_EVENTS
    with pytest.raises(UsageError, match=r"agent-deltas.*got events"):
        find_topic("events", settings)


def text(words: str, step: int = 1, attempt: int = 1) -> AgentDelta:
    return TextDelta(session_id="s1", turn_id="s1/1", step=step, attempt=attempt, seq=0, text=words)


def called(seq: int) -> AgentEvent:
    return ToolCalled(
        session_id="s1",
        turn_id="s1/1",
        message_id="m1",
        seq=seq,
        at=NOW,
        agent="assistant",
        call_id="s1/1/2",
        tool="calculator",
        input={"expression": "6*7"},
    )


def returned(seq: int, content: str) -> AgentEvent:
    return ToolReturned(
        session_id="s1",
        turn_id="s1/1",
        message_id="m1",
        seq=seq,
        at=NOW,
        agent="assistant",
        call_id="s1/1/2",
        tool="calculator",
        content=content,
    )


def shown(*items: AgentEvent | AgentDelta) -> list[str]:
    out = io.StringIO()
    view = TranscriptView(Console(file=out, width=100, soft_wrap=True, highlight=False))
    for item in items:
        view.show(item)
    return out.getvalue().splitlines()


def test_turn_with_a_tool() -> None:
    """Text as it comes, the tool between two steps, the cost at the end; the answer is not repeated."""
    *lines, last = shown(
        started("s1", "m1", 1),
        text("I calcu"),
        text("late."),
        called(2),
        returned(3, "42"),
        text("It is ", step=3),
        text("[b]42[/b].", step=3),
        completed("s1", "m1", 4, "It is [b]42[/b]."),
    )
    assert lines == ["I calculate.", '→ calculator {"expression":"6*7"}', "← 42", "It is [b]42[/b]."]
    assert last.startswith("5 tokens · $0.0000 · ")


@pytest.mark.parametrize("seen", ["", "It is", "It was"])
def test_end_overtakes_deltas(seen: str) -> None:
    """Whatever part of the answer came before its end, the whole answer is on the screen."""
    deltas = [text(seen)] if seen else []
    lines = shown(started("s1", "m1", 1), *deltas, completed("s1", "m1", 2, "It is 42."))
    assert lines[-2] == "It is 42."


def test_retry_is_said() -> None:
    """Text of a void attempt is marked as such before the next attempt's."""
    reset = DeltaReset(session_id="s1", turn_id="s1/1", step=1, attempt=2, seq=0)
    lines = shown(text("It w"), reset, text("It is", attempt=2), completed("s1", "m1", 2, "It is"))
    assert lines[0] == "It w"
    assert "void" in lines[1]
    assert lines[2] == "It is"


def test_failure() -> None:
    """The code and the message, on a line of their own."""
    failed = TurnFailed(
        session_id="s1",
        turn_id="s1/1",
        message_id="m1",
        seq=2,
        at=NOW,
        agent="assistant",
        error=Failure(code=FailureCode.OVERLOADED, message="try later", retryable=True),
    )
    assert shown(text("It"), failed) == ["It", "failed (overloaded): try later"]
