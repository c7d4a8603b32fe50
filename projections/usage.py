"""What was consumed, and by whom: each model call with its tokens and cost, and each turn with its tenant and agent.

A call is a fact of the session log, and the log does not say which agent it was for; `turn_started` does, on another
topic, which may be read earlier or later. So both are kept as rows of their own, and the view `usage` joins them.
A call is identified by its place in the log and not by its id: one that was made twice was paid for twice.
"""

from collections.abc import Iterator

from projections.events import turn_of
from projections.projection import Row, Table, TableProjection
from projections.record import Record, utc, without_nul
from schemas.codec import decode_agent_event, decode_session_event
from schemas.events import TurnStarted
from schemas.log import ModelCompleted, ModelFailed
from schemas.topics import AGENT_EVENTS, SESSION_LOG


class TurnRow(Row, frozen=True):
    """Identified by `turn_id` and `at`: a session that was forgotten and begins anew counts its turns from 1 again."""

    turn_id: str
    session_id: str
    agent: str
    tenant: str | None
    user_id: str | None


class ModelCallRow(Row, frozen=True):
    """Identified by its place in the session log; `failure` is the code of a call that failed."""

    call_id: str
    turn_id: str
    session_id: str
    model: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_micros: int
    attempts: int
    duration_ms: int
    failure: str | None


def rows(record: Record) -> Iterator[Row]:
    """A row for a turn that started, or a model call that ended; none for other records."""
    body = without_nul(record.value)
    if record.topic == AGENT_EVENTS.name:
        event = decode_agent_event(body)
        if isinstance(event, TurnStarted):
            yield _turn(event, record)
        return
    fact = decode_session_event(body)
    if isinstance(fact, ModelCompleted | ModelFailed):
        yield _model_call(fact, record)


def _turn(event: TurnStarted, record: Record) -> TurnRow:
    return TurnRow(
        utc(event.at),
        record.topic,
        record.partition,
        record.offset,
        event.turn_id,
        event.session_id,
        event.agent,
        event.tenant,
        event.user_id,
    )


def _model_call(fact: ModelCompleted | ModelFailed, record: Record) -> ModelCallRow:
    return ModelCallRow(
        utc(fact.at),
        record.topic,
        record.partition,
        record.offset,
        fact.call_id,
        turn_of(fact.call_id),
        fact.session_id,
        fact.model,
        fact.usage.input_tokens,
        fact.usage.cache_read_tokens,
        fact.usage.cache_write_tokens,
        fact.usage.output_tokens,
        fact.cost_micros,
        fact.attempts,
        fact.duration_ms,
        str(fact.failure.code) if isinstance(fact, ModelFailed) else None,
    )


USAGE = TableProjection(
    name="usage",
    topics=(SESSION_LOG, AGENT_EVENTS),
    rows=rows,
    tables=(
        Table(name="turns", row=TurnRow, insert="insert_turns"),
        Table(name="model_calls", row=ModelCallRow, insert="insert_model_calls"),
    ),
    retain="retain_usage",
    keep_days=lambda settings: settings.usage_days,
)
