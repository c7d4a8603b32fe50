"""A feed in the words of AG-UI: its own package takes each event, and its rules of order hold for every history."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from ag_ui.core import PROTOCOL_VERSION as THEIR_VERSION
from ag_ui.core import Event as AgUiEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.agui import AgUi
from gateway.agui_events import PROTOCOL_VERSION
from gateway.feeds import Entry, Position
from gateway.feeds.items import Item
from schemas.codec import encode
from schemas.events import (
    AgentDelta,
    AgentEvent,
    ApprovalRequested,
    DeltaReset,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from schemas.failure import Failure, FailureCode
from schemas.usage import Usage

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
CHECK: TypeAdapter[Any] = TypeAdapter(AgUiEvent)


class Session:
    """Writes the feed of a session."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.place = 0

    def event(self, kind: type[AgentEvent], turn: int, **fields: Any) -> None:
        seq = sum(entry.kind == "event" for entry in self.entries) + 1
        place: dict[str, Any] = {
            "session_id": "s1",
            "turn_id": f"s1/{turn}",
            "message_id": f"m{turn}",
            "seq": seq,
            "at": NOW,
        }
        record = kind(**place, agent="assistant", **fields)
        self._add(Item(seq, 0, turn, False, 0, encode(record)), Position(seq, self.place))

    def delta(self, record: AgentDelta) -> None:
        self.place += 1
        seq = sum(entry.kind == "event" for entry in self.entries)
        self._add(Item(0, self.place, 1, False, 0, encode(record)), Position(seq, self.place))

    def text(self, turn: int, step: int, attempt: int, texts: Sequence[str]) -> None:
        first = 0 if attempt == 1 else 1
        for seq, text in enumerate(texts, first):
            self.delta(TextDelta("s1", f"s1/{turn}", step, attempt, seq, text))

    def _add(self, item: Item, position: Position) -> None:
        self.entries.append(Entry(position, item))


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Turns of model calls with retries, tools, approvals, messages turned away, and every kind of end."""
    session = Session()
    texts = st.lists(st.text(max_size=4).filter(bool), max_size=4)
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        number += 1
        turn = number
        session.event(TurnStarted, turn)
        step = 0
        for _ in range(draw(st.integers(0, 2))):
            step += 1
            write(session, turn, step, draw(st.lists(texts, min_size=1, max_size=3)))
            step += 1
            call: dict[str, Any] = {"call_id": f"s1/{turn}/{step}", "tool": "add"}
            if draw(st.booleans()):
                session.event(ApprovalRequested, turn, **call, input={})
            if draw(st.booleans()):
                number += 1
                session.event(TurnCancelled, number)
            session.event(ToolCalled, turn, **call, input={"a": 1})
            if draw(st.booleans()):
                session.event(ToolReturned, turn, **call, content="2")
        step += 1
        answer = write(session, turn, step, draw(st.lists(texts, min_size=1, max_size=3)))
        match draw(st.sampled_from(["completed", "failed", "cancelled"])):
            case "completed":
                rest = draw(st.text(max_size=3))
                session.event(TurnCompleted, turn, text=answer + rest, usage=Usage(input_tokens=3), cost_micros=7)
            case "failed":
                session.event(TurnFailed, turn, error=Failure(code=FailureCode.OVERLOADED, message="why"))
            case "cancelled":
                session.event(TurnCancelled, turn)
    return session


def write(session: Session, turn: int, step: int, attempts: Sequence[Sequence[str]]) -> str:
    """The deltas of a model call; gives the text of its last attempt."""
    for attempt, texts in enumerate(attempts, 1):
        if attempt > 1:
            session.delta(DeltaReset("s1", f"s1/{turn}", step, attempt, 0))
        session.text(turn, step, attempt, texts)
    return "".join(attempts[-1])


def translated(entries: Iterable[Entry], ag_ui: AgUi) -> list[dict[str, Any]]:
    events = [json.loads(msgspec.json.encode(event)) for entry in entries for event in ag_ui.translate(entry)]
    for event in events:
        CHECK.validate_python(event)
    return events


class Reader:
    """Obeys AG-UI 1.0's rules of order, and fails where they are broken."""

    def __init__(self) -> None:
        self.run: str | None = None
        self.is_begun = False
        self.texts: dict[str, str] = {}
        self.void: set[str] = set()
        self.open: set[str] = set()
        self.open_calls: set[str] = set()
        self.runs: list[str] = []

    def read(self, events: Iterable[dict[str, Any]]) -> "Reader":
        for event in events:
            self._read(event)
        return self

    def _read(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "RUN_STARTED":
            assert self.run is None, "a run is active"
            self.run = event["runId"]
            return
        assert self.run is not None, f"{kind} outside of a run"
        match kind:
            case "RUN_FINISHED" | "RUN_ERROR":
                assert not self.open
                assert not self.open_calls
                assert kind == "RUN_ERROR" or event["runId"] == self.run
                self.runs.append(self.run)
                self.run = None
            case "TEXT_MESSAGE_START":
                assert event["messageId"] not in self.open
                self.open.add(event["messageId"])
                self.texts.setdefault(event["messageId"], "")
            case "TEXT_MESSAGE_CONTENT":
                assert event["messageId"] in self.open
                self.texts[event["messageId"]] += event["delta"]
            case "TEXT_MESSAGE_END":
                self.open.remove(event["messageId"])
            case "TOOL_CALL_START":
                self.open_calls.add(event["toolCallId"])
            case "TOOL_CALL_ARGS":
                assert event["toolCallId"] in self.open_calls
            case "TOOL_CALL_END":
                self.open_calls.remove(event["toolCallId"])
            case "CUSTOM" if event["name"] == "message_void":
                self.void.add(event["value"]["messageId"])

    def shown(self, turn: int) -> str:
        """The text of a turn, without what is void."""
        of_turn = [(name, text) for name, text in self.texts.items() if name.startswith(f"s1/{turn}/")]
        return "".join(text for name, text in of_turn if name not in self.void)


def wanted(entries: Iterable[Entry], turn: int) -> str:
    """What the reader of a turn has in the end: the last attempt of each step, and the whole answer."""
    shown: dict[int, str] = {}
    tool_step = 0
    for entry in entries:
        record = json.loads(entry.body)
        if record["turn_id"] != f"s1/{turn}":
            continue
        match record["type"]:
            case "delta_reset":
                shown[record["step"]] = ""
            case "text_delta":
                shown[record["step"]] = shown.get(record["step"], "") + record["text"]
            case "tool_called":
                tool_step = int(record["call_id"].rpartition("/")[2])
            case "turn_completed":
                shown = {step: text for step, text in shown.items() if step < tool_step}
                shown[tool_step + 1] = record["text"]
    return "".join(text for _, text in sorted(shown.items()))


def turns(session: Session) -> set[int]:
    return {int(json.loads(entry.body)["turn_id"].rpartition("/")[2]) for entry in session.entries}


@given(sessions())
def test_a_history_is_told_in_order(session: Session) -> None:
    """Every event is one of AG-UI's, their order is as its rules say, and the text of each turn is what was written."""
    reader = Reader().read(translated(session.entries, AgUi()))
    assert reader.run is None
    for turn in turns(session):
        assert reader.shown(turn) == wanted(session.entries, turn)


@given(sessions(), st.data())
def test_resumed_anywhere(session: Session, data: st.DataObject) -> None:
    """Two streams, the second from the `id` of the first, are one history: no text is lost, none is there twice."""
    cut = data.draw(st.integers(1, len(session.entries)))
    first = AgUi()
    reader = Reader().read(translated(session.entries[:cut], first))
    token = first.token(session.entries[cut - 1].position)
    second, position = AgUi.resumed(token)
    assert position == session.entries[cut - 1].position
    reader.open.clear()
    reader.run = None
    reader.read(translated(session.entries[cut:], second))
    for turn in turns(session):
        assert reader.shown(turn) == wanted(session.entries, turn)


@given(sessions(), st.data())
def test_resumed_after_the_turn_ended(session: Session, data: st.DataObject) -> None:
    """The deltas that were not seen are gone: the answer is there all the same, as a whole or as its rest."""
    cut = data.draw(st.integers(1, len(session.entries)))
    first = AgUi()
    reader = Reader().read(translated(session.entries[:cut], first))
    second, _ = AgUi.resumed(first.token(session.entries[cut - 1].position))
    reader.open.clear()
    reader.run = None
    reader.read(translated([entry for entry in session.entries[cut:] if entry.kind == "event"], second))
    for entry in session.entries:
        record = json.loads(entry.body)
        if record["type"] == "turn_completed":
            assert reader.shown(int(record["turn_id"].rpartition("/")[2])).endswith(record["text"])


def test_whoever_comes_in_the_middle_gets_the_answer_as_a_whole() -> None:
    """An answer whose beginning was not seen is not shown in pieces; nor is one of which a piece is missing."""
    session = Session()
    session.event(TurnStarted, 1)
    session.text(1, 1, 1, ["Hel", "lo, ", "you"])
    session.event(TurnCompleted, 1, text="Hello, you", usage=Usage(), cost_micros=0)
    late = Reader().read(translated(session.entries[2:], AgUi()))
    assert late.shown(1) == "Hello, you"
    gap = Reader().read(translated([*session.entries[:2], *session.entries[3:]], AgUi()))
    assert (gap.shown(1), gap.void) == ("Hello, you", {"s1/1/1"})


def test_what_it_says() -> None:
    """A run with a tool and an answer, word for word."""
    session = Session()
    session.event(TurnStarted, 1)
    session.event(ToolCalled, 1, call_id="s1/1/2", tool="add", input={"a": 1})
    session.event(ToolReturned, 1, call_id="s1/1/2", tool="add", content="2")
    usage = Usage(input_tokens=3, cache_read_tokens=2, cache_write_tokens=1, output_tokens=4)
    session.event(TurnCompleted, 1, text="2", usage=usage, cost_micros=9)
    events = translated(session.entries, AgUi())
    assert [event["type"] for event in events] == [
        "RUN_STARTED",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert events[0] == {
        "type": "RUN_STARTED",
        "timestamp": 1777636800000,
        "threadId": "s1",
        "runId": "s1/1",
        "protocolVersion": PROTOCOL_VERSION,
    }
    assert json.loads(events[2]["delta"]) == {"a": 1}
    assert events[-1]["outcome"] == {"type": "success"}
    assert events[-1]["usage"] == [
        {
            "inputTokens": 6,
            "outputTokens": 4,
            "totalTokens": 10,
            "cachedInputTokens": 2,
            "cacheWriteInputTokens": 1,
        }
    ]
    assert PROTOCOL_VERSION == THEIR_VERSION


@pytest.mark.parametrize("token", ["", "1", "1-2.", "1-2.3", "1-2.3.4.5", "1-2.3.4.5.6.7", "1-2.a.b.c.d", "1-2\n"])
def test_what_is_no_id(token: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        AgUi.resumed(token)
