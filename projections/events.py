"""The event store: every agent event and every fact of the session log, for reading back."""

from collections.abc import Iterator

from projections.projection import Row, Table, TableProjection
from projections.record import Record, utc, without_nul
from schemas.codec import decode_agent_event, decode_session_event, type_tag
from schemas.events import AgentEvent, AgentEventFields
from schemas.log import (
    ModelCompleted,
    ModelFailed,
    SessionEvent,
    SpendingRefused,
    ToolCompleted,
    ToolFailed,
    ToolStarted,
)
from schemas.topics import AGENT_EVENTS, SESSION_LOG

_OUTCOMES = (ModelCompleted, ModelFailed, SpendingRefused, ToolStarted, ToolCompleted, ToolFailed)


class EventRow(Row, frozen=True):
    """Identified by `topic`, `id` and `at`; `turn_id` is None where a fact belongs to no turn yet."""

    id: str
    type: str
    session_id: str
    turn_id: str | None
    body: str


def rows(record: Record) -> Iterator[EventRow]:
    """One row for each record; an agent event that was published again has the id of the first."""
    body = without_nul(record.value)
    event: AgentEvent | SessionEvent
    if record.topic == AGENT_EVENTS.name:
        event = decode_agent_event(body)
        event_id = f"{event.session_id}/{event.seq}"
    else:
        event = decode_session_event(body)
        event_id = f"{record.partition}/{record.offset}"
    yield EventRow(
        utc(event.at),
        record.topic,
        record.partition,
        record.offset,
        event_id,
        type_tag(event),
        event.session_id,
        _turn_id(event),
        body.decode(),
    )


def _turn_id(event: AgentEvent | SessionEvent) -> str | None:
    if isinstance(event, AgentEventFields):
        return event.turn_id
    return turn_of(event.call_id) if isinstance(event, _OUTCOMES) else None


def turn_of(call_id: str) -> str:
    """The turn that a call belongs to: a call's id is `{turn_id}/{step}`."""
    return call_id.rpartition("/")[0]


# A page that is opened reads a session from here, and goes on with the feed.
EVENTS = TableProjection(
    name="events",
    topics=(SESSION_LOG, AGENT_EVENTS),
    rows=rows,
    tables=(Table(name="events", row=EventRow, insert="insert_events", monthly=True),),
    retain="retain_events",
    keep_days=lambda settings: settings.events_days,
    is_prompt=True,
)
