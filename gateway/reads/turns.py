"""The turns of a session, with what they took."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.reading import answer, read_query, read_session_id
from gateway.reads.paging import NextCursor, Offset, PageQuery, page, read_cursor, write_cursor
from gateway.reads.times import milliseconds_between
from gateway.route import Route
from gateway.scopes import Scope


class TurnsQuery(PageQuery, frozen=True, kw_only=True):
    """Which turns."""


class Turn(Struct, frozen=True, kw_only=True):
    """From one user message to its answer, failure or cancellation. Tokens and cost are those of its model calls."""

    turn_id: Annotated[str, msgspec.Meta(description="The turn.")]
    number: Annotated[int, msgspec.Meta(description="Counts the turns of the session from 1.")]
    message_id: Annotated[str, msgspec.Meta(description="The message that it answers.")]
    agent: Annotated[str, msgspec.Meta(description="Who answers.")]
    status: Annotated[str, msgspec.Meta(description="running, completed, failed or cancelled.")]
    started_at: Annotated[
        datetime | None, msgspec.Meta(description="None: the message was turned away, or cancelled while it waited.")
    ]
    ended_at: Annotated[datetime | None, msgspec.Meta(description="None: it runs.")]
    duration_ms: Annotated[int | None, msgspec.Meta(description="From its start to its end.")]
    model_calls: int
    tool_calls: int
    input_tokens: Annotated[int, msgspec.Meta(description="All of the input, cached or not.")]
    output_tokens: int
    cost_micros: Annotated[int, msgspec.Meta(description="In micro-dollars (0.000001 USD).")]
    error: Annotated[str | None, msgspec.Meta(description="The code of the failure.")] = None


class Turns(Struct, frozen=True, kw_only=True):
    """The turns in their order."""

    items: tuple[Turn, ...]
    next_cursor: NextCursor


async def get_turns(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """The turns of the session, oldest first."""
    session_id = read_session_id(request, caller)
    query = read_query(request, TurnsQuery)
    (after,) = read_cursor(query.cursor, tuple[Offset], (-1,))
    rows = await parts.database.fetch("turns", session_id, after, query.limit + 1)
    shown, last = page(rows, query.limit)
    return answer(
        Turns(
            items=tuple(turn_of(row) for row in shown),
            next_cursor=None if last is None else write_cursor(last["offset"]),
        )
    )


def turn_of(row: Any) -> Turn:
    """The turn that a row of `turns.sql` is."""
    started, ended = row["started_at"], row["ended_at"]
    return Turn(
        turn_id=row["turn_id"],
        number=int(row["turn_id"].rpartition("/")[2]),
        message_id=row["message_id"],
        agent=row["agent"],
        status="running" if ended is None else row["ended_type"].removeprefix("turn_"),
        started_at=started,
        ended_at=ended,
        duration_ms=None if started is None or ended is None else milliseconds_between(started, ended),
        model_calls=row["model_calls"],
        tool_calls=row["tool_calls"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_micros=row["cost_micros"],
        error=row["error"],
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/turns",
        handler=get_turns,
        summary="The turns of a session",
        tag="sessions",
        scope=Scope.SESSIONS_READ,
        query=TurnsQuery,
        answers={200: Turns},
    ),
)
