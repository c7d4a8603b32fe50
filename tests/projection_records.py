"""Records as the pipeline writes them: histories of sessions told to the core, put on the topics."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from histories import NOW, History, use
from msgspec import Struct
from msgspec.structs import replace

from projections.record import Record
from schemas.audit import Act, AuditEvent, Outcome
from schemas.codec import encode
from schemas.dead_letter import Cause, DeadLetter
from schemas.events import AgentDelta, DeltaReset, TextDelta
from schemas.failure import FailureCode
from schemas.log import ModelCompleted, ModelFailed, SessionEvent
from schemas.topics import AGENT_EVENTS, AUDIT_EVENTS, DEAD_LETTERS, SESSION_LOG

PARTITIONS = 2


class Topics:
    """The topics that projections read, in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.now_ms = int(NOW.timestamp() * 1000)

    def put(self, topic: str, partition: int, body: Struct | bytes) -> Record:
        offset = sum(record.topic == topic and record.partition == partition for record in self.records)
        value = body if isinstance(body, bytes) else encode(body)
        record = Record(topic, partition, offset, value, self.now_ms)
        self.records.append(record)
        return record

    def tell(self, history: History, partition: int = 0) -> None:
        """Everything that the session's log says, and what it led to."""
        for (_, fact, _), step in zip(history.log, history.steps, strict=True):
            self.put(SESSION_LOG.name, partition, _counted(fact))
            for event in step.events:
                self.put(AGENT_EVENTS.name, partition, event)

    def of(self, *names: str) -> list[Record]:
        return [record for record in self.records if record.topic in names]


def _counted(fact: SessionEvent) -> SessionEvent:
    """A model call counts in two shared budgets, of all and of its session's user."""
    if not isinstance(fact, ModelCompleted | ModelFailed):
        return fact
    day = fact.at.date().isoformat()
    return replace(fact, counted_in=(f"house/{day}", f"users/{day}//{fact.session_id}"))


def conversation(session_id: str, tenant: str | None = None, start: datetime | None = None) -> History:
    """Two turns: one with a tool call, one whose model fails."""
    history = History(session_id=session_id)
    if start is not None:
        history.clock.at = start
    history.say("m1", "what is 1 + 2?", tenant=tenant, user_id="ann")
    history.clock.forward(1)
    history.model_says("let me see", use("add", "u1"), tokens=7)
    (call_id,) = history.pending()
    history.tool_returns(call_id)
    history.model_says("3", tokens=5)
    history.say("m2", "and now?", tenant=tenant)
    history.model_fails(FailureCode.OVERLOADED)
    return history


def letter(offset: int, at: datetime | None = None) -> DeadLetter:
    return DeadLetter(
        id=f"user-messages/1/{offset}",
        topic="user-messages",
        partition=1,
        offset=offset,
        at=at or datetime(2026, 5, 1, tzinfo=UTC),
        processor="accept",
        cause=Cause.NOT_JSON,
        error="expected JSON",
        key=b"k",
        value=b"\x00\xff",
        headers=(("a", b"\xfe"),),
        record_at=datetime(2026, 4, 30, tzinfo=UTC),
    )


def audited(number: int, at: datetime | None = None, **sides: Any) -> AuditEvent:
    """A message that came through the gateway, unless `sides` says otherwise."""
    said: dict[str, Any] = {
        "event_type": Act.COMMAND_SENT,
        "outcome": Outcome.SUCCESS,
        "user_id": "ann",
        "session_id": "s1",
        "ip_address": "192.0.2.7",
        "key_id": "0123456789abcdef",
        "details": {"command_id": "m1"},
    }
    return AuditEvent(id=f"a{number}", at=at or datetime(2026, 5, 1, tzinfo=UTC), **(said | sides))


def small_world(sessions: Sequence[str] = ("s1", "s2", "s3"), start: datetime | None = None) -> Topics:
    """Some sessions of two tenants on two partitions, two dead letters and two audit events."""
    topics = Topics()
    for number, session_id in enumerate(sessions):
        topics.tell(conversation(session_id, tenant=f"t{number % 2}", start=start), number % PARTITIONS)
    for number in range(2):
        topics.put(DEAD_LETTERS.name, number, letter(number, start))
        topics.put(AUDIT_EVENTS.name, number, audited(number, start))
    return topics


def deltas(session_id: str, turn: int, texts: Sequence[str], attempt: int = 1) -> list[AgentDelta]:
    """What the model writes in the first step of a turn, as it comes."""
    turn_id = f"{session_id}/{turn}"
    reset = DeltaReset(session_id, turn_id, 1, attempt, 0)
    return [reset, *(TextDelta(session_id, turn_id, 1, attempt, seq, text) for seq, text in enumerate(texts, 1))]
