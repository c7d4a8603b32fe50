"""The transcript of a session: messages, tools and their results, in their order."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.reading import answer, read_query, read_session_id
from gateway.reads.entries import Entry, Said, answers_wanted, entries, events_of, messages_wanted, user_message
from gateway.reads.paging import NextCursor, Offset, PageQuery, page, read_cursor, write_cursor
from gateway.route import Route
from gateway.scopes import Scope
from schemas.codec import decode_session_event
from schemas.events import AgentEvent, BroadcastCompleted, BroadcastDelivered
from schemas.log import BroadcastAccepted, MessageAccepted, ModelCompleted

MAX_PAGE_BYTES = 8 << 20
"""A page that would be larger is shorter: one message has 512 KiB at most, and an answer about 100 KB."""


class TranscriptQuery(PageQuery, frozen=True, kw_only=True):
    """Which part of the transcript; `limit` counts events, most of which are one entry."""


class Transcript(Struct, frozen=True, kw_only=True):
    """What was said and done, oldest first; on the last page, the messages that wait are at the end."""

    items: tuple[Entry, ...]
    next_cursor: NextCursor
    as_of: Annotated[
        datetime,
        msgspec.Meta(description="When it was read; what happened within half a second before may be missing."),
    ]
    last_seq: Annotated[
        int | None,
        msgspec.Meta(
            description="The `seq` of the page's last event: follow the events after `{last_seq}-0` from there."
        ),
    ]


async def get_transcript(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """What the session's user and agent said to each other, and what tools returned."""
    session_id = read_session_id(request, caller)
    query = read_query(request, TranscriptQuery)
    (after,) = read_cursor(query.cursor, tuple[Offset], (-1,))
    as_of = datetime.now(UTC)
    # Asked for before the events: a message whose turn begins meanwhile is among these, or those, or both.
    waiting = await parts.database.fetch("transcript_waiting", session_id)
    rows = await parts.database.fetch("transcript_events", session_id, after, query.limit + 1, MAX_PAGE_BYTES)
    shown, last = page(rows, query.limit)
    if last is None and rows and not rows[-1]["is_last"]:
        last = rows[-1]
    events = events_of(row["body"] for row in shown)
    never_started = {row["turn_id"] for row in shown if row["never_started"]}
    messages = await _messages(parts, session_id, events)
    items = list(entries(events, never_started, messages, await _said(parts, session_id, events)))
    if last is None:
        items += _waiting([row["body"] for row in waiting], {event.message_id for event in events})
    return answer(
        Transcript(
            items=tuple(items),
            next_cursor=None if last is None else write_cursor(last["offset"]),
            as_of=as_of,
            last_seq=events[-1].seq if events else None,
        )
    )


async def _messages(
    parts: Parts, session_id: str, events: list[AgentEvent]
) -> dict[str, MessageAccepted | BroadcastAccepted]:
    rows = await parts.database.fetch("transcript_messages", session_id, messages_wanted(events))
    if any(isinstance(event, BroadcastDelivered | BroadcastCompleted) for event in events):
        rows = [*rows, *await parts.database.fetch("transcript_broadcast", session_id)]
    found: dict[str, MessageAccepted | BroadcastAccepted] = {}
    for row in rows:
        match decode_session_event(row["body"].encode()):
            case MessageAccepted() as message:
                found[message.message_id] = message
            case BroadcastAccepted() as broadcast:
                found[broadcast.broadcast_id] = broadcast
    return found


async def _said(parts: Parts, session_id: str, events: list[AgentEvent]) -> dict[tuple[str, datetime], ModelCompleted]:
    rows = await parts.database.fetch("transcript_said", session_id, answers_wanted(events))
    facts = [decode_session_event(row["body"].encode()) for row in rows]
    return {(fact.call_id, fact.at): fact for fact in facts if isinstance(fact, ModelCompleted)}


def _waiting(bodies: list[str], seen: set[str]) -> list[Said]:
    """The messages that no event is about, each once."""
    facts = [decode_session_event(body.encode()) for body in bodies]
    waiting = {fact.message_id: fact for fact in facts if isinstance(fact, MessageAccepted)}
    return [user_message(name, None, fact, fact.at) for name, fact in waiting.items() if name not in seen]


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/transcript",
        handler=get_transcript,
        summary="What was said in a session",
        tag="sessions",
        scope=Scope.SESSIONS_READ,
        query=TranscriptQuery,
        answers={200: Transcript},
    ),
)
