"""A session's feed in the words of AG-UI 1.0: pure. What it has no word for is a CUSTOM event with the record.

A turn is a run, and the session its thread. The text of a step is a message, `{turn}/{step}`; where the model was
called again, `{turn}/{step}/{attempt}`, and a CUSTOM event `message_void` names the one before. Whoever resumes says,
behind the position, how much they have of which message: `E-D.TURN.STEP.ATTEMPT.CHARACTERS`. A run that was running is
begun again then, under its id, and so is the message.
"""

import re
from collections.abc import Iterator
from typing import Any, Self, assert_never

import msgspec
from msgspec import Struct

from gateway.agui_events import (
    PROTOCOL_VERSION,
    Cancelled,
    Custom,
    Event,
    RunError,
    RunFinished,
    RunStarted,
    Success,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    TokenUsage,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallResult,
    ToolCallStart,
)
from gateway.feeds import Entry, Position
from gateway.problems import ProblemDetails
from schemas.codec import decode_agent_delta, decode_agent_event, type_tag
from schemas.events import (
    AgentDelta,
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BroadcastCompleted,
    BroadcastDelivered,
    BroadcastReplied,
    BudgetExceeded,
    DeltaReset,
    HandedOff,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnEnd,
    TurnFailed,
    TurnStarted,
)
from schemas.usage import Usage

MEDIA_TYPE = "application/vnd.ag-ui+json"
RETRY_MS = 1_000
_NUMBER = r"([0-9]{1,9})"
_TOKEN = re.compile(rf"([0-9]+-[0-9]+)(?:\.{_NUMBER}\.{_NUMBER}\.{_NUMBER}\.{_NUMBER})?")


class Message(Struct):
    """A text message that grows. `frame` is the number of its next delta, None: not known; `is_told`: it has begun."""

    turn_id: str
    step: int
    attempt: int
    characters: int = 0
    latest: tuple[int, int] | None = None
    frame: int | None = None
    is_told: bool = False

    @property
    def id(self) -> str:
        text = f"{self.turn_id}/{self.step}"
        return text if self.attempt == 1 else f"{text}/{self.attempt}"

    @property
    def known(self) -> tuple[int, int, int, int]:
        """What a reader knows of it who has seen it so far."""
        return int(self.turn_id.rpartition("/")[2]), self.step, self.attempt, self.characters

    def text(self, delta: str) -> Iterator[Event]:
        if not self.is_told:
            self.is_told = True
            yield TextMessageStart(message_id=self.id, role="assistant")
        if delta:
            self.characters += len(delta)
            yield TextMessageContent(message_id=self.id, delta=delta)

    def end(self) -> Iterator[Event]:
        if self.is_told:
            yield TextMessageEnd(message_id=self.id)

    def void(self) -> Iterator[Event]:
        yield from self.end()
        yield Custom(name="message_void", value={"messageId": self.id})


class Translation:
    """What is open: a run, and in it a message."""

    def __init__(self, session_id: str) -> None:
        self.message: Message | None = None
        self._session_id = session_id
        self._run: str | None = None
        self._tool_step = 0
        self._answer_is_void = False
        """Not all of the answer was told: it follows as a whole at the end."""

    def delta(self, delta: AgentDelta) -> Iterator[Event]:
        yield from self._ensure_run(delta.turn_id, None)
        if delta.step < self._tool_step:
            # It was written before a tool call that is told already.
            if isinstance(delta, TextDelta):
                late = Message(delta.turn_id, delta.step, delta.attempt)
                yield from late.text(delta.text)
                yield from late.end()
            return
        match delta:
            case DeltaReset():
                yield from self._reset(delta)
            case TextDelta():
                yield from self._text(delta)
            case _:
                assert_never(delta)

    def event(self, event: AgentEvent) -> Iterator[Event]:
        at = int(event.at.timestamp() * 1000)
        match event:
            case TurnStarted():
                yield from self._ensure_run(event.turn_id, at)
            case ToolCalled():
                yield from self._ensure_run(event.turn_id, at)
                yield from self._leave_text(event.call_id)
                yield ToolCallStart(timestamp=at, tool_call_id=event.call_id, tool_call_name=event.tool)
                arguments = msgspec.json.encode(event.input).decode()
                yield ToolCallArgs(timestamp=at, tool_call_id=event.call_id, delta=arguments)
                yield ToolCallEnd(timestamp=at, tool_call_id=event.call_id)
            case ToolReturned():
                yield from self._ensure_run(event.turn_id, at)
                yield from self._leave_text(event.call_id)
                result = f"{event.call_id}/result"
                yield ToolCallResult(
                    timestamp=at, message_id=result, tool_call_id=event.call_id, content=event.content, role="tool"
                )
            case ApprovalRequested() | ApprovalAnswered() | HandedOff():
                yield from self._ensure_run(event.turn_id, at)
                yield from self._leave_text(event.call_id)
                yield _custom(event, at)
            case BroadcastDelivered() | BroadcastReplied() | BroadcastCompleted():
                yield _custom(event, at)
            case BudgetExceeded():
                yield from self._ensure_run(event.turn_id, at)
                yield _custom(event, at)
            case TurnCompleted() | TurnFailed() | TurnCancelled():
                yield from self._end(event, at)
            case _:
                assert_never(event)

    def _ensure_run(self, turn_id: str, at: int | None) -> Iterator[Event]:
        if self._run == turn_id:
            return
        if self._run is not None:
            yield from self._close_message()
            yield RunError(message="the end of this run is not stored any more", code="end_unknown", usage=())
        self._run = turn_id
        self._tool_step = 0
        self._answer_is_void = False
        if self.message is not None and self.message.turn_id != turn_id:
            self.message = None
        yield RunStarted(timestamp=at, thread_id=self._session_id, run_id=turn_id, protocol_version=PROTOCOL_VERSION)

    def _reset(self, reset: DeltaReset) -> Iterator[Event]:
        message, self.message = self.message, None
        if message is not None:
            yield from message.void()
            # What an earlier step said of the same answer is void with it.
            self._answer_is_void = message.step != reset.step

    def _text(self, delta: TextDelta) -> Iterator[Event]:
        if self._answer_is_void:
            return
        message, writing = self.message, (delta.step, delta.attempt)
        expected: int | None = 0 if delta.attempt == 1 else 1
        if message is None:
            message = Message(delta.turn_id, delta.step, delta.attempt)
        elif message.latest in (None, writing):
            expected = message.frame
        if expected not in (None, delta.seq):
            # Some of it never came: the whole answer follows at the end.
            self._answer_is_void = True
            self.message = None
            if message.characters:
                yield from message.void()
            return
        self.message = message
        message.latest, message.frame = writing, delta.seq + 1
        yield from message.text(delta.text)

    def _leave_text(self, call_id: str) -> Iterator[Event]:
        """What follows a tool call is another message."""
        yield from self._close_message()
        self._answer_is_void = False
        step = call_id.rpartition("/")[2]
        if step.isdecimal():
            self._tool_step = max(self._tool_step, int(step))

    def _close_message(self) -> Iterator[Event]:
        message, self.message = self.message, None
        if message is not None:
            yield from message.end()

    def _end(self, end: TurnEnd, at: int) -> Iterator[Event]:
        if self._run not in (None, end.turn_id):
            # Of a message that was turned away, or cancelled while it waited for the run that is open.
            yield _custom(end, at)
            return
        yield from self._ensure_run(end.turn_id, at)
        if isinstance(end, TurnCompleted):
            yield from self._rest(end)
        yield from self._close_message()
        self._run = None
        usage = (_usage(end.usage),)
        match end:
            case TurnFailed():
                yield RunError(timestamp=at, message=end.error.message, code=end.error.code.value, usage=usage)
            case TurnCompleted() | TurnCancelled():
                is_done = isinstance(end, TurnCompleted)
                yield RunFinished(
                    timestamp=at,
                    thread_id=end.session_id,
                    run_id=end.turn_id,
                    outcome=Success() if is_done else Cancelled(),
                    result=_plain(end),
                    usage=usage,
                )
            case _:
                assert_never(end)

    def _rest(self, end: TurnCompleted) -> Iterator[Event]:
        """What of the answer was not told yet; all of it, where what was told cannot be gone on with."""
        message = self.message
        # One that was resumed, and had no delta since, may have been void meanwhile.
        if message is not None and (not message.is_told or message.characters > len(end.text)):
            yield from message.void()
            message = None
        if message is None:
            if not end.text:
                return
            message = self.message = Message(f"{end.turn_id}/answer", 1, 1)
        yield from message.text(end.text[message.characters :])


class AgUi:
    """Renders a feed as server-sent events of AG-UI; the events of one entry share its `id`, which the last one has."""

    def __init__(self, message: tuple[int, int, int, int] | None = None) -> None:
        self._known = message
        self._translation: Translation | None = None

    @classmethod
    def resumed(cls, token: str) -> tuple[Self, Position]:
        """For a reader who has seen an event with this `id`; raises ValueError where it is none."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError(f"expected the `id` of an event, got {token[:60]!r}: give it as it came")
        known = None if match[2] is None else (int(match[2]), int(match[3]), int(match[4]), int(match[5]))
        return cls(known), Position.parse(match[1])

    def begin(self, position: Position) -> bytes:
        return b"retry: %d\nid: %s\n\n" % (RETRY_MS, self.token(position).encode())

    def render(self, entry: Entry) -> bytes:
        events = list(self.translate(entry))
        if not events:
            return b""
        frames = [b"data: %s\n\n" % msgspec.json.encode(event) for event in events]
        frames[-1] = b"id: %s\n%s" % (self.token(entry.position).encode(), frames[-1])
        return b"".join(frames)

    def end(self, details: ProblemDetails) -> bytes:
        """AG-UI has no word for it: a comment."""
        return b": %s %s\n\n" % (details.code.encode(), details.detail.encode())

    def translate(self, entry: Entry) -> Iterator[Event]:
        """The events that say what the entry says."""
        if entry.kind == "event":
            event = decode_agent_event(entry.body)
            yield from self._of(event.session_id).event(event)
        else:
            delta = decode_agent_delta(entry.body)
            yield from self._of(delta.session_id).delta(delta)

    def _of(self, session_id: str) -> Translation:
        if self._translation is None:
            self._translation = Translation(session_id)
            if self._known is not None:
                turn, step, attempt, characters = self._known
                self._translation.message = Message(f"{session_id}/{turn}", step, attempt, characters)
        return self._translation

    def token(self, position: Position) -> str:
        """What a reader who has seen an entry at this position resumes with."""
        known: tuple[int, int, int, int] | None = self._known
        if self._translation is not None:
            message = self._translation.message
            known = None if message is None else message.known
        return str(position) if known is None else f"{position}." + ".".join(str(number) for number in known)


def _custom(event: AgentEvent, at: int) -> Custom:
    return Custom(timestamp=at, name=type_tag(event), value=_plain(event))


def _plain(event: AgentEvent) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return plain


def _usage(usage: Usage) -> TokenUsage:
    given = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return TokenUsage(
        input_tokens=given,
        output_tokens=usage.output_tokens,
        total_tokens=given + usage.output_tokens,
        cached_input_tokens=usage.cache_read_tokens,
        cache_write_input_tokens=usage.cache_write_tokens,
    )
