"""The timeline of a session: every fact of its log and every event that followed from it."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.reading import answer, read_query, read_session_id
from gateway.reads.paging import NextCursor, Offset, PageQuery, page, read_cursor, utc, write_cursor
from gateway.reads.times import At
from gateway.route import Route
from gateway.scopes import Scope

MAX_BODY_BYTES = 64 * 1024
"""Of one record; 200 of them fit an answer. Larger ones are on their topic, and their text is in the transcript."""
FIRST = (datetime.min.replace(tzinfo=UTC), 0, -1)


class LogQuery(PageQuery, frozen=True, kw_only=True):
    """Which part of the timeline."""


class Place(Struct, frozen=True, kw_only=True):
    """Where the brokers have the record; `topic` is without the cluster's prefix."""

    topic: str
    partition: int
    offset: int


class LogItem(Struct, frozen=True, kw_only=True):
    """A fact or an event; what it does not have is none."""

    place: Place
    type: Annotated[str, msgspec.Meta(description="The record's `type`.")]
    at: At
    turn_id: Annotated[str | None, msgspec.Meta(description="The turn that it belongs to.")]
    duration_ms: Annotated[
        int | None, msgspec.Meta(description="Of a call, with all its attempts; of a turn's end, since its start.")
    ]
    input_tokens: Annotated[
        int | None, msgspec.Meta(description="All of the input; of a turn's end, that of the whole turn.")
    ]
    output_tokens: int | None
    cost_micros: Annotated[int | None, msgspec.Meta(description="In micro-dollars (0.000001 USD).")]
    body: Annotated[dict[str, Any] | None, msgspec.Meta(description="The record; none where it has more than 64 KiB.")]
    body_bytes: Annotated[int, msgspec.Meta(description="How large the record is.")]


class Log(Struct, frozen=True, kw_only=True):
    """The timeline, oldest first; of one moment, facts come before the events that followed from them."""

    items: tuple[LogItem, ...]
    next_cursor: NextCursor


async def get_log(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Every fact and every event of the session, in the order of their times."""
    session_id = read_session_id(request, caller)
    query = read_query(request, LogQuery)
    at, rank, offset = read_cursor(query.cursor, tuple[datetime, Offset, Offset], FIRST)
    rows = await parts.database.fetch(
        "log", session_id, utc(at, "cursor"), min(rank, 1), offset, query.limit + 1, MAX_BODY_BYTES
    )
    shown, last = page(rows, query.limit)
    return answer(
        Log(
            items=tuple(_item(row) for row in shown),
            next_cursor=None if last is None else write_cursor(last["at"], last["rank"], last["offset"]),
        )
    )


def _item(row: Any) -> LogItem:
    return LogItem(
        place=Place(topic=row["topic"], partition=row["partition"], offset=row["offset"]),
        type=row["type"],
        at=row["at"],
        turn_id=row["turn_id"],
        duration_ms=row["duration_ms"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_micros=row["cost_micros"],
        body=None if row["body"] is None else msgspec.json.decode(row["body"]),
        body_bytes=row["body_bytes"],
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/log",
        handler=get_log,
        summary="The timeline of a session",
        tag="sessions",
        scope=Scope.SESSIONS_READ,
        query=LogQuery,
        answers={200: Log},
    ),
)
