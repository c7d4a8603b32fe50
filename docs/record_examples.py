"""An example of every record: one session in which an agent multiplies with a tool, and what can go wrong in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from docs.record_schemas import TYPE_IS_OPTIONAL
from schemas.audit import Act, AuditEvent, Outcome
from schemas.codec import cloud_event_headers, encode
from schemas.commands import ApprovalDecision, Broadcast, CancelTurn, EndSession, ReleaseSession, UserMessage
from schemas.content import Base64Source, ImageBlock, TextBlock, ToolUseBlock
from schemas.dead_letter import Cause, DeadLetter
from schemas.directory import AgentAnnounced, AgentApplied, AgentRemoved
from schemas.effects import CallModel, CallTool
from schemas.events import (
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
    TurnFailed,
    TurnStarted,
)
from schemas.failure import Failure, FailureCode
from schemas.gather import GATHERER, AudienceOf, GatheredReply, Quorum, gathering_session_id, reply_session_id
from schemas.ids import call_id, child_session_id, claim_id, derived_message_id, turn_id
from schemas.log import (
    ApprovalDecided,
    BroadcastAccepted,
    CancelRequested,
    ChildEnded,
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEndRequested,
    SessionExpired,
    SessionReleaseRequested,
    SpendingRefused,
    TimerFired,
    ToolCompleted,
    ToolFailed,
    ToolStarted,
)
from schemas.tool_results import RemoteError, RemoteResult
from schemas.usage import Usage

NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SESSION, AGENT, MODEL = "s1", "assistant", "claude-haiku-5-5"
MESSAGE = derived_message_id("user-messages", 3, 41)
TURN = turn_id(SESSION, 1)
FIRST_CALL, TOOL_CALL, SECOND_CALL = (call_id(TURN, step) for step in (1, 2, 3))
ASKED = {"expression": "6 * 7"}
USAGE = Usage(input_tokens=412, output_tokens=38)
OVERLOADED = Failure(
    code=FailureCode.OVERLOADED,
    message="expected an answer, got status 529 in each of 5 attempts: send the message again later",
    retryable=True,
)
PNG_HEAD = "iVBORw0KGgo="
EVENT: dict[str, Any] = {"session_id": SESSION, "turn_id": TURN, "message_id": MESSAGE, "at": NOW, "agent": AGENT}
CAST, GATHERING = "b-7", gathering_session_id("b-7")
CHILD: dict[str, Any] = {"child_session_id": reply_session_id(CAST, AGENT)}
CAST_EVENT: dict[str, Any] = {
    "session_id": GATHERING,
    "turn_id": turn_id(GATHERING, 1),
    "message_id": CAST,
    "at": NOW,
}
ORDER: dict[str, Any] = {"session_id": SESSION, "turn_id": TURN, "agent": AGENT, "log_offset": 17}


class Example(Struct, frozen=True, kw_only=True):
    """A record; where Headrace publishes it, with the `id` and the processor that its headers name."""

    record: Struct
    name: str
    id: str = ""
    by: str = ""
    traced: bool = False

    def payload(self) -> dict[str, Any]:
        """The value as it is published, or as it is enough for a command: without what has its default."""
        value: dict[str, Any] = msgspec.json.decode(encode(self.record))
        if self.by:
            return value
        fields = msgspec.structs.fields(self.record)
        given = {field.name for field in fields if getattr(self.record, field.name) != field.default}
        kept = {name: value[name] for name in value if name in given and value[name] != {}}
        return kept if isinstance(self.record, TYPE_IS_OPTIONAL) else {"type": value["type"], **kept}

    def headers(self) -> dict[str, str]:
        """The headers as they are published; none for a command, which needs none."""
        if not self.by:
            return {}
        headers = cloud_event_headers(
            self.record,
            id=self.id,
            source=f"/headrace/{self.by}",
            at=NOW,
            subject=getattr(self.record, "session_id", None) or self.id,
            traceparent=TRACEPARENT if self.traced else None,
        )
        return {name: value.decode() for name, value in headers}


RESULTS = (
    Example(name="returned", record=RemoteResult(session_id=SESSION, call_id=TOOL_CALL, content="42")),
    Example(
        name="failed",
        record=RemoteResult(
            session_id=SESSION,
            call_id=TOOL_CALL,
            error=RemoteError(message="expected a number, got `six`: write digits"),
        ),
    ),
)

COMMANDS = (
    Example(name="enough", record=UserMessage(session_id=SESSION, text="hi")),
    Example(
        name="all",
        record=UserMessage(
            session_id=SESSION,
            id="m-1",
            content=(
                TextBlock(text="What is in this picture?"),
                ImageBlock(source=Base64Source(media_type="image/png", data=PNG_HEAD)),
            ),
            agent=AGENT,
            user_id="u-7",
            tenant="acme",
            metadata={"ticket": "4711"},
        ),
    ),
    Example(name="running", record=CancelTurn(session_id=SESSION, reason="not needed any more", by="u-7")),
    Example(name="approve", record=ApprovalDecision(session_id=SESSION, call_id=TOOL_CALL, decision="approve")),
    Example(name="end", record=EndSession(session_id=SESSION, reason="the user asked to be forgotten")),
    Example(name="release", record=ReleaseSession(session_id=SESSION, reason="corrected in 1.4", by="u-7")),
    Example(
        name="gathers",
        record=Broadcast(
            id=CAST,
            text="What did you do today?",
            audience=AudienceOf(capability="arithmetic"),
            gather=Quorum(quorum=2),
            deadline=30,
        ),
    ),
    Example(name="all", record=Broadcast(text="What did you do today?")),
    Example(
        name="some",
        record=Broadcast(
            id="b-1",
            text="What did you do today?",
            audience=(AGENT,),
            sender="u-7",
            expires_at=NOW + timedelta(hours=1),
        ),
    ),
)


def _accepted(record: Struct) -> Example:
    return Example(name="fact", record=record, id=MESSAGE, by="accept", traced=isinstance(record, MessageAccepted))


def _happened(record: Struct) -> Example:
    """An event of `decide`, whose id is its place in the session."""
    fields = msgspec.to_builtins(record)
    return Example(name="event", record=record, id=f"{SESSION}#{fields['seq']}", by="decide", traced=True)


FACTS = (
    _accepted(
        MessageAccepted(
            session_id=SESSION,
            message_id=MESSAGE,
            content=(TextBlock(text="What is 6 * 7?"),),
            at=NOW,
            sent_at=NOW - timedelta(milliseconds=4),
            traceparent=TRACEPARENT,
        )
    ),
    _accepted(CancelRequested(session_id=SESSION, command_id=MESSAGE, at=NOW, reason="not needed any more", by="u-7")),
    _accepted(ApprovalDecided(session_id=SESSION, command_id=MESSAGE, call_id=TOOL_CALL, decision="approve", at=NOW)),
    _accepted(SessionEndRequested(session_id=SESSION, command_id=MESSAGE, at=NOW)),
    _accepted(SessionReleaseRequested(session_id=SESSION, command_id=MESSAGE, at=NOW, reason="corrected", by="u-7")),
    Example(
        name="fact",
        record=SessionExpired(session_id=SESSION, idle_since=NOW - timedelta(days=30), at=NOW),
        id=f"{SESSION}@17",
        by="expire",
    ),
    Example(
        name="fact",
        record=ModelCompleted(
            session_id=SESSION,
            call_id=FIRST_CALL,
            model=MODEL,
            content=(ToolUseBlock(id="toolu_01", name="calculator", input=ASKED),),
            stop_reason="tool_use",
            usage=USAGE,
            cost_micros=60,
            at=NOW,
            duration_ms=840,
        ),
        id=FIRST_CALL,
        by="call_model",
        traced=True,
    ),
    Example(
        name="fact",
        record=ModelFailed(session_id=SESSION, call_id=FIRST_CALL, model=MODEL, failure=OVERLOADED, at=NOW, attempts=5),
        id=FIRST_CALL,
        by="call_model",
        traced=True,
    ),
    Example(
        name="fact",
        record=SpendingRefused(
            session_id=SESSION,
            call_id=FIRST_CALL,
            budget="users",
            scope="user",
            unit="micros",
            limit=1_000_000,
            spent=990_000,
            reserved=14_000,
            at=NOW,
            on_breach="cheaper",
            cheaper_model="claude-haiku-5-5",
        ),
        id=FIRST_CALL,
        by="call_model",
        traced=True,
    ),
    Example(
        name="fact",
        record=ToolStarted(session_id=SESSION, call_id=TOOL_CALL, at=NOW),
        id=claim_id(TOOL_CALL),
        by="call_tool",
    ),
    Example(
        name="fact",
        record=ToolCompleted(session_id=SESSION, call_id=TOOL_CALL, content="42", at=NOW, duration_ms=2),
        id=TOOL_CALL,
        by="call_tool",
    ),
    Example(
        name="fact",
        record=ToolFailed(
            session_id=SESSION,
            call_id=TOOL_CALL,
            failure=Failure(code=FailureCode.TOOL_ERROR, message="expected a number, got `six`: write digits"),
            at=NOW,
        ),
        id=TOOL_CALL,
        by="call_tool",
    ),
    Example(
        name="fact",
        record=ChildEnded(
            session_id=SESSION,
            call_id=TOOL_CALL,
            child_session_id=child_session_id(SESSION, 1, 2),
            content="It rains.",
            at=NOW,
            tokens=210,
            cost_micros=700,
        ),
        id=f"{child_session_id(SESSION, 1, 2)}/ended",
        by="decide",
        traced=True,
    ),
    Example(
        name="fact",
        record=BroadcastAccepted(
            session_id=GATHERING,
            broadcast_id=CAST,
            content=(TextBlock(text="What did you do today?"),),
            gather="first",
            deadline=NOW + timedelta(seconds=30),
            at=NOW,
        ),
        id="broadcasts/2/7",
        by="route_broadcast",
        traced=True,
    ),
    Example(
        name="fact",
        record=TimerFired(session_id=SESSION, call_id=TOOL_CALL, due=NOW, at=NOW),
        id=f"{TOOL_CALL}/timer",
        by="timers",
    ),
)

ORDERS = (
    Example(
        name="order",
        record=CallModel(call_id=FIRST_CALL, step=1, timeout_ms=300_000, **ORDER),
        id=FIRST_CALL,
        by="decide",
        traced=True,
    ),
    Example(
        name="order",
        record=CallTool(call_id=TOOL_CALL, step=2, timeout_ms=299_160, tool="calculator", input=ASKED, **ORDER),
        id=TOOL_CALL,
        by="decide",
        traced=True,
    ),
)

EVENTS = (
    _happened(TurnStarted(seq=1, **EVENT)),
    _happened(ToolCalled(seq=2, call_id=TOOL_CALL, tool="calculator", input=ASKED, **EVENT)),
    _happened(ToolReturned(seq=3, call_id=TOOL_CALL, tool="calculator", content="42", **EVENT)),
    _happened(ApprovalRequested(seq=2, call_id=TOOL_CALL, tool="calculator", input=ASKED, **EVENT)),
    _happened(ApprovalAnswered(seq=3, call_id=TOOL_CALL, tool="calculator", input=ASKED, decision="approve", **EVENT)),
    _happened(HandedOff(seq=3, call_id=TOOL_CALL, to_agent="billing", reason="about an invoice", **EVENT)),
    _happened(
        BudgetExceeded(
            seq=3, scope="turn", unit="micros", limit=100_000, spent=98_200, reserved=2_400, action="stop", **EVENT
        )
    ),
    _happened(TurnCompleted(seq=4, text="6 * 7 is 42.", usage=USAGE, cost_micros=60, **EVENT)),
    _happened(TurnFailed(seq=2, error=OVERLOADED, **EVENT)),
    _happened(TurnCancelled(seq=2, reason="not needed any more", by="u-7", **EVENT)),
)

GATHERED = (
    _happened(BroadcastDelivered(seq=1, agent=AGENT, **CHILD, **CAST_EVENT)),
    _happened(BroadcastReplied(seq=2, agent=AGENT, content="I multiplied.", **CHILD, **CAST_EVENT)),
    _happened(
        BroadcastCompleted(
            seq=3,
            agent=GATHERER,
            reason="gathered",
            replies=(GatheredReply(agent=AGENT, content="I multiplied."),),
            cost_micros=60,
            **CAST_EVENT,
        )
    ),
)

DELTAS = (
    Example(
        name="delta",
        record=TextDelta(SESSION, TURN, 3, 1, 0, "6 * 7 is"),
        id=f"{SECOND_CALL}/1/0",
        by="call_model",
    ),
    Example(
        name="reset",
        record=DeltaReset(SESSION, TURN, 3, 2, 0),
        id=f"{SECOND_CALL}/2/0",
        by="call_model",
    ),
)

AUDITED = (
    Example(
        name="sent",
        record=AuditEvent(
            id="0197a1f0-6d2b-7c35-9d1e-2f4b8c6a0e13",
            at=NOW,
            event_type=Act.COMMAND_SENT,
            outcome=Outcome.SUCCESS,
            user_id="u-7",
            session_id=SESSION,
            ip_address="192.0.2.7",
            key_id="5f0c2a9b7d3e4816",
            details={"command": "user_message", "command_id": MESSAGE},
        ),
        id="0197a1f0-6d2b-7c35-9d1e-2f4b8c6a0e13",
        by="gateway",
        traced=True,
    ),
    Example(
        name="denied",
        record=AuditEvent(
            id="0197a1f0-70a4-7f0e-8a52-6b1d3c9e5f72",
            at=NOW,
            event_type=Act.AUTHENTICATION_FAILED,
            outcome=Outcome.DENIED,
            outcome_details="the key was revoked",
            ip_address="192.0.2.7",
            key_id="5f0c2a9b7d3e4816",
            details={"method": "GET", "path": "/v1/sessions"},
        ),
        id="0197a1f0-70a4-7f0e-8a52-6b1d3c9e5f72",
        by="gateway",
    ),
)

LETTERS = (
    Example(
        name="letter",
        record=DeadLetter(
            id=MESSAGE,
            topic="user-messages",
            partition=3,
            offset=41,
            at=NOW,
            processor="accept",
            cause=Cause.NOT_JSON,
            error='expected a JSON object, got "hello": JSON is malformed: invalid character (byte 0)',
            key=None,
            value=b"hello",
            record_at=NOW - timedelta(milliseconds=4),
        ),
        id=MESSAGE,
        by="accept",
    ),
)

VERSION = "6f1ed002ab55"
APPLIED_BY: dict[str, Any] = {"agent": AGENT, "at": NOW, "by": "ann"}
APPLIED = (
    Example(
        name="applied",
        record=AgentApplied(
            version=VERSION, spec={"instructions": "Answer in one sentence.", "model": MODEL}, **APPLIED_BY
        ),
    ),
    Example(name="removed", record=AgentRemoved(**APPLIED_BY)),
)

ANNOUNCED = (
    Example(
        name="announced",
        record=AgentAnnounced(
            agent=AGENT,
            worker="mill-1",
            version=VERSION,
            model=MODEL,
            since=NOW - timedelta(hours=2),
            at=NOW,
            expires_at=NOW + timedelta(seconds=30),
            description="Answers questions.",
            capabilities=("arithmetic",),
            tools=("calculator",),
            calls_in_flight=2,
            worker_tools=("calculator", "current_time"),
        ),
        id=f"{AGENT}@mill-1",
        by="announce",
    ),
)

EXAMPLES: tuple[Example, ...] = (
    *COMMANDS,
    *RESULTS,
    *FACTS,
    *ORDERS,
    *EVENTS,
    *GATHERED,
    *DELTAS,
    *AUDITED,
    *APPLIED,
    *ANNOUNCED,
    *LETTERS,
)


def examples_of(record: type[Struct]) -> list[Example]:
    """The examples of one class."""
    return [example for example in EXAMPLES if type(example.record) is record]
