"""A conversation as people read it, made of a session's agent events and of the facts that led to them.

Agent events are the thread: their order is that of the session. What they leave out is looked up: the text of a message
by its id, and what the model said before it called tools by its time, which is that of the events it led to.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, assert_never

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas.codec import decode_agent_event
from schemas.content import Base64Source, ImageBlock, text_of
from schemas.events import (
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BroadcastCompleted,
    BroadcastDelivered,
    BroadcastReplied,
    BudgetExceeded,
    HandedOff,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from schemas.failure import Failure
from schemas.fields import (
    BudgetAction,
    BudgetLimit,
    BudgetReserved,
    BudgetScope,
    BudgetSpent,
    BudgetUnit,
    DecidedHow,
    SharedBudgetName,
)
from schemas.ids import call_id
from schemas.log import BroadcastAccepted, MessageAccepted, ModelCompleted

At = Annotated[datetime, msgspec.Meta(description="When.")]
MessageId = Annotated[str, msgspec.Meta(description="The user message that it belongs to.")]
TurnIdOf = Annotated[str, msgspec.Meta(description="The turn that answers the message.")]
CallIdOf = Annotated[str, msgspec.Meta(description="The tool call: `{turn_id}/{step}`.")]
Tool = Annotated[str, msgspec.Meta(description="The tool.")]


class Image(Struct, frozen=True, kw_only=True):
    """An image of a message: where it is, or how large it is; the bytes are left out."""

    url: str | None = None
    media_type: str | None = None
    bytes: int | None = None


class Said(Struct, frozen=True, kw_only=True, tag="user_message"):
    """What the user said; it stands where its turn began, or at the end while it waits."""

    at: Annotated[datetime, msgspec.Meta(description="When it was accepted.")]
    message_id: MessageId
    turn_id: Annotated[str | None, msgspec.Meta(description="The turn that answers it; none: it waits.")]
    text: Annotated[str | None, msgspec.Meta(description="Its text; none: it is not stored any more.")]
    images: tuple[Image, ...] = ()
    user_id: str | None = None


class Answered(Struct, frozen=True, kw_only=True, tag="assistant_message"):
    """What the agent said: the answer, or what it said before it called tools."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    step: Annotated[int | None, msgspec.Meta(description="The model call that it is of; none: it is the answer.")]
    text: str
    agent: str
    is_answer: bool
    stop_reason: str | None = None


class ToolUsed(Struct, frozen=True, kw_only=True, tag="tool_use"):
    """The agent calls a tool; one that waits for approval is there again when it runs."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    call_id: CallIdOf
    tool: Tool
    input: dict[str, Any]
    needs_approval: Annotated[bool, msgspec.Meta(description="Whether it waits, and does not run yet.")]


class ToolResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    """What the tool returned."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    call_id: CallIdOf
    tool: Tool
    content: str
    is_error: bool


class ApprovalGiven(Struct, frozen=True, kw_only=True, tag="approval"):
    """Somebody decided about a call that waits; with `remaining` 0 it waits no longer."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    call_id: CallIdOf
    tool: Tool
    decision: DecidedHow
    by: str | None
    reason: str
    remaining: int


class Passed(Struct, frozen=True, kw_only=True, tag="handed_off"):
    """The agent passed the conversation to another one."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    agent: str
    to_agent: str
    reason: str


class Gathered(Struct, frozen=True, kw_only=True, tag="broadcast"):
    """What became of a broadcast that gathers replies: an agent got it, or replied, or what was gathered in the end."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    agent: str
    state: Literal["delivered", "replied", "completed"]
    child_session_id: str | None = None
    text: str = ""
    is_error: bool = False
    late: bool = False
    reason: str | None = None
    missing: tuple[str, ...] = ()


class Overspent(Struct, frozen=True, kw_only=True, tag="budget_exceeded"):
    """A budget was not enough for the next call; `action` says what became of the turn."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    agent: str
    scope: BudgetScope
    unit: BudgetUnit
    limit: BudgetLimit
    spent: BudgetSpent
    reserved: BudgetReserved
    action: BudgetAction
    budget: SharedBudgetName | UnsetType = UNSET


class Failed(Struct, frozen=True, kw_only=True, tag="turn_failed"):
    """The message has no answer."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    error: Failure


class Cancelled(Struct, frozen=True, kw_only=True, tag="turn_cancelled"):
    """The message has no answer, because somebody asked for it."""

    at: At
    message_id: MessageId
    turn_id: TurnIdOf
    reason: str
    by: str | None


Call = tuple[str, datetime]
Entry = Said | ApprovalGiven | Passed | Overspent | Gathered | Answered | ToolUsed | ToolResult | Failed | Cancelled


def events_of(bodies: Iterable[str]) -> list[AgentEvent]:
    """The events in their order; one that was published again is there once."""
    events: dict[tuple[datetime, int], AgentEvent] = {}
    for body in bodies:
        event = decode_agent_event(body.encode())
        events.setdefault((event.at, event.seq), event)
    return list(events.values())


def messages_wanted(events: Iterable[AgentEvent]) -> list[str]:
    """The ids of the messages whose text may be needed."""
    return list(dict.fromkeys(event.message_id for event in events))


def answers_wanted(events: Iterable[AgentEvent]) -> list[datetime]:
    """When the model may have said something before it called tools."""
    return sorted({event.at for event in events if isinstance(event, ToolCalled | ApprovalRequested)})


def entries(
    events: Iterable[AgentEvent],
    never_started: Container[str],
    messages: Mapping[str, MessageAccepted | BroadcastAccepted],
    said: Mapping[Call, ModelCompleted],
) -> Iterator[Entry]:
    """What is read, in its order.

    Args:
        events: of the session, in the order of their `seq`.
        never_started: turns of messages that were turned away, or cancelled while they waited: they have only an end.
        messages: by id; the broadcast that a session gathers replies to is one.
        said: what the model said, by the id and the time of its call.
    """
    for event in events:
        if _begins(event) or event.turn_id in never_started:
            yield user_message(event.message_id, event.turn_id, messages.get(event.message_id), event.at)
        match event:
            case TurnStarted():
                pass
            case ToolCalled() | ApprovalRequested():
                yield from _before(event, said)
                yield ToolUsed(
                    **_common(event),
                    call_id=event.call_id,
                    tool=event.tool,
                    input=event.input,
                    needs_approval=isinstance(event, ApprovalRequested),
                )
            case ToolReturned():
                yield ToolResult(
                    **_common(event),
                    call_id=event.call_id,
                    tool=event.tool,
                    content=event.content,
                    is_error=event.is_error,
                )
            case ApprovalAnswered():
                yield _decision(event)
            case HandedOff():
                yield Passed(**_common(event), agent=event.agent, to_agent=event.to_agent, reason=event.reason)
            case BroadcastDelivered() | BroadcastReplied() | BroadcastCompleted():
                yield _gathered(event)
            case BudgetExceeded():
                yield _overspent(event)
            case TurnCompleted():
                yield Answered(
                    **_common(event),
                    step=None,
                    text=event.text,
                    agent=event.agent,
                    is_answer=True,
                    stop_reason=event.stop_reason,
                )
            case TurnFailed():
                yield Failed(**_common(event), error=event.error)
            case TurnCancelled():
                yield Cancelled(**_common(event), reason=event.reason, by=event.by)
            case _:
                assert_never(event)


def user_message(
    message_id: str, turn_id: str | None, message: MessageAccepted | BroadcastAccepted | None, at: datetime
) -> Said:
    """The message as it is read; `at` is said where it is not stored."""
    if message is None:
        return Said(at=at, message_id=message_id, turn_id=turn_id, text=None)
    images = tuple(_image(block) for block in message.content if isinstance(block, ImageBlock))
    return Said(
        at=message.at,
        message_id=message_id,
        turn_id=turn_id,
        text=text_of(message.content),
        images=images,
        user_id=message.user_id,
    )


def _begins(event: AgentEvent) -> bool:
    """Whether it is the first about its message. Of a broadcast, nothing says so but its number."""
    return isinstance(event, TurnStarted) or (
        isinstance(event, BroadcastDelivered | BroadcastCompleted) and event.seq == 1
    )


def _overspent(event: BudgetExceeded) -> Overspent:
    return Overspent(
        **_common(event),
        agent=event.agent,
        scope=event.scope,
        unit=event.unit,
        limit=event.limit,
        spent=event.spent,
        reserved=event.reserved,
        action=event.action,
        budget=event.budget,
    )


def _common(event: AgentEvent) -> dict[str, Any]:
    return {"at": event.at, "message_id": event.message_id, "turn_id": event.turn_id}


def _before(event: ToolCalled | ApprovalRequested, said: Mapping[Call, ModelCompleted]) -> Iterator[Answered]:
    """What the model said with the first of the tools that it asked for: its call is the step before."""
    turn_id, _, number = event.call_id.rpartition("/")
    step = int(number) - 1
    # A call that was approved later is published again, at another time.
    completed = said.get((call_id(turn_id, step), event.at))
    text = "" if completed is None else text_of(completed.content)
    if text:
        yield Answered(**_common(event), step=step, text=text, agent=event.agent, is_answer=False)


def _gathered(event: BroadcastDelivered | BroadcastReplied | BroadcastCompleted) -> Gathered:
    place = {**_common(event), "agent": event.agent}
    match event:
        case BroadcastDelivered():
            is_late = event.late is True
            return Gathered(**place, state="delivered", child_session_id=event.child_session_id, late=is_late)
        case BroadcastReplied():
            return Gathered(
                **place,
                state="replied",
                child_session_id=event.child_session_id,
                text=event.content,
                is_error=event.is_error,
                late=event.late,
            )
        case BroadcastCompleted():
            return Gathered(**place, state="completed", reason=event.reason, missing=event.missing)


def _decision(event: ApprovalAnswered) -> ApprovalGiven:
    return ApprovalGiven(
        **_common(event),
        call_id=event.call_id,
        tool=event.tool,
        decision=event.decision,
        by=event.by,
        reason=event.reason,
        remaining=event.remaining,
    )


def _image(block: ImageBlock) -> Image:
    source = block.source
    if isinstance(source, Base64Source):
        return Image(media_type=source.media_type, bytes=len(source.data) * 3 // 4)
    return Image(url=source.url)
