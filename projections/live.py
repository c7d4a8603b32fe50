"""The feed that clients follow: per session a stream of its agent events and of the answer while it is written.

`live:{session}` is a Redis Stream. An entry has a field `event` or `delta` with the record's JSON, and `turn`, the
number of its turn; an event has `end` (1 where it ends the turn) and `at` (ms). Additions are told on `feed:{session}`.
"""

from collections.abc import Iterator

from projections.calls import DAY_MS, Call, CallProjection, milliseconds, turn_number, version
from projections.record import Record, utc
from schemas.codec import decode_agent_delta, decode_agent_event
from schemas.events import TurnCancelled, TurnCompleted, TurnFailed
from schemas.topics import AGENT_DELTAS, AGENT_EVENTS

LIFETIME_MS = DAY_MS
"""A client that was away can resume for so long after the session's last event."""
MAX_ENTRIES = 2_000
"""Of a session: the longest answer has some hundred deltas, and a turn some ten events."""


def rows(record: Record) -> Iterator[Call]:
    """One call for each event and each delta."""
    place = (record.topic, record.partition, record.offset)
    if record.topic == AGENT_EVENTS.name:
        event = decode_agent_event(record.value)
        known = version(event)
        yield Call(
            utc(event.at),
            *place,
            "live_event",
            _keys(event.session_id),
            (
                known.seq,
                known.at_ms,
                turn_number(event.turn_id),
                int(isinstance(event, TurnCompleted | TurnFailed | TurnCancelled)),
                record.value.decode(),
                LIFETIME_MS,
                MAX_ENTRIES,
            ),
        )
        return
    delta = decode_agent_delta(record.value)
    yield Call(
        record.at,
        *place,
        "live_delta",
        _keys(delta.session_id),
        (
            record.offset,
            milliseconds(record.at),
            turn_number(delta.turn_id),
            record.value.decode(),
            LIFETIME_MS,
            MAX_ENTRIES,
        ),
    )


def _keys(session_id: str) -> tuple[str, ...]:
    return (f"live:{session_id}", f"live-state:{session_id}", f"feed:{session_id}")


# People watch it: a delta should not wait longer than it takes to be seen.
LIVE = CallProjection(name="live", topics=(AGENT_EVENTS, AGENT_DELTAS), rows=rows, wait_ms=20, is_prompt=True)
