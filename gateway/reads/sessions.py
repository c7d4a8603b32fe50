"""Sessions: which there are, and what each does now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.problems import Code, Problem
from gateway.reading import answer, read_query, read_session_id
from gateway.reads.paging import NextCursor, PageQuery, PlainText, read_cursor, write_cursor
from gateway.reads.store import Place, newest, redis_errors
from gateway.reads.times import of_milliseconds
from gateway.route import Route
from gateway.scopes import Scope
from schemas.events import (
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

MAX_TITLE_CHARACTERS = 200
STATE = ("status", "agent", "turn_id", "step", "tool", "message_id", "at", "user_id", "tenant")
SUMMARY = ("title", "last_message", "messages", "at", "user_id", "tenant")
QUEUED = "queued"
STATUS_AFTER = {
    TurnStarted: "running",
    ToolCalled: "running",
    ToolReturned: "running",
    ApprovalRequested: "waiting_for_approval",
    ApprovalAnswered: "running",
    HandedOff: "running",
    BroadcastDelivered: "running",
    BroadcastReplied: "running",
    BroadcastCompleted: "completed",
    BudgetExceeded: "running",
    TurnCompleted: "completed",
    TurnFailed: "failed",
    TurnCancelled: "cancelled",
}
_STATUS_AFTER = {str(event.__struct_config__.tag): status for event, status in STATUS_AFTER.items()}


class SessionsQuery(PageQuery, frozen=True, kw_only=True):
    """Which sessions."""

    user_id: Annotated[
        PlainText | None, msgspec.Meta(description="The conversations of this user; without one, everybody's.")
    ] = None
    tenant: Annotated[
        PlainText | None, msgspec.Meta(description="Of this tenant; a tenant's key can ask for its own only.")
    ] = None


class Session(Struct, frozen=True, kw_only=True):
    """A conversation, and what it does now."""

    session_id: Annotated[str, msgspec.Meta(description="The session.")]
    status: Annotated[
        str | None,
        msgspec.Meta(
            description="queued, running or waiting_for_approval; or how the last turn ended: completed, failed or "
            "cancelled. None in a list where it was idle for more than 7 days."
        ),
    ]
    agent: Annotated[str | None, msgspec.Meta(description="The agent that answers.")]
    turn_id: Annotated[str | None, msgspec.Meta(description="The running turn, else the last one.")]
    message_id: Annotated[str | None, msgspec.Meta(description="The message that this turn answers.")]
    step: Annotated[int | None, msgspec.Meta(description="The step of the last tool call of a running turn.")]
    tool: Annotated[str | None, msgspec.Meta(description="The tool that runs, or waits for approval.")]
    last_activity_at: Annotated[datetime | None, msgspec.Meta(description="When something happened last.")]
    title: Annotated[str | None, msgspec.Meta(description="The beginning of the first message.")]
    last_message: Annotated[str | None, msgspec.Meta(description="The beginning of the user's last message.")]
    messages: Annotated[
        int | None,
        msgspec.Meta(description="How many messages there are that name their user; where none does, all."),
    ]
    user_id: Annotated[str | None, msgspec.Meta(description="Who the user is.")]
    tenant: Annotated[str | None, msgspec.Meta(description="Whose user it is, as the messages say.")]


class Sessions(Struct, frozen=True, kw_only=True):
    """The sessions, those with the newest activity first."""

    items: tuple[Session, ...]
    next_cursor: NextCursor


async def list_sessions(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """A user's conversations, a tenant's, or all; what becomes active meanwhile moves to the front."""
    query = read_query(request, SessionsQuery)
    after = read_cursor(query.cursor, tuple[int, PlainText] | None, None)
    tenant = query.tenant if caller.is_operator else caller.tenant
    if query.tenant not in {None, tenant}:
        raise Problem(Code.WRONG_TENANT, f"expected `tenant` to be your own, `{tenant}`, or none")
    if query.user_id is not None:
        key = f"user:{tenant or ''}/{query.user_id}"
    else:
        key = "sessions" if tenant is None else f"sessions:{tenant}"
    prefix = caller.session_prefix
    found, last = await newest(parts, key, after, query.limit, lambda session_id: session_id.startswith(prefix))
    return answer(
        Sessions(
            items=tuple(await _looked_up(parts, found)),
            next_cursor=None if last is None else write_cursor(*last),
        )
    )


async def get_session(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """What the session does now; half a second behind at most while the projections keep up."""
    session_id = read_session_id(request, caller)
    (found,) = await _looked_up(parts, [(0, session_id)])
    if found.status is None or found.title is None:
        found = await _from_events(parts, found)
    return answer(found)


async def _looked_up(parts: Parts, places: list[Place]) -> list[Session]:
    with redis_errors():
        async with parts.redis.pipeline(transaction=False) as pipeline:
            for _, session_id in places:
                pipeline.hmget(f"{parts.redis_prefix}session:{session_id}", STATE)
                pipeline.hmget(f"{parts.redis_prefix}summary:{session_id}", SUMMARY)
            answers = await pipeline.execute()
    return [
        _session(place, _texts(STATE, answers[2 * number]), _texts(SUMMARY, answers[2 * number + 1]))
        for number, place in enumerate(places)
    ]


def _texts(names: tuple[str, ...], values: list[bytes | None]) -> dict[str, str]:
    """What is there, and not empty."""
    return {name: value.decode() for name, value in zip(names, values, strict=True) if value}


def _session(place: Place, state: Mapping[str, str], summary: Mapping[str, str]) -> Session:
    at = max(place[0], int(state.get("at", 0)), int(summary.get("at", 0)))
    return Session(
        session_id=place[1],
        status=state.get("status"),
        agent=state.get("agent"),
        turn_id=state.get("turn_id"),
        message_id=state.get("message_id"),
        step=int(state["step"]) if "step" in state else None,
        tool=state.get("tool"),
        last_activity_at=of_milliseconds(at) if at else None,
        title=summary.get("title"),
        last_message=summary.get("last_message"),
        messages=int(summary["messages"]) if "messages" in summary else None,
        user_id=summary.get("user_id") or state.get("user_id"),
        tenant=summary.get("tenant") or state.get("tenant"),
    )


async def _from_events(parts: Parts, known: Session) -> Session:
    """With what Redis does not have: the user is nameless, the session idle for long, or Redis was lost.

    Raises:
        Problem: `not_found`: nothing is known of it.
    """
    row = await parts.database.fetchrow("session", known.session_id)
    if row is None or row["messages"] == 0:
        if known.status is not None:
            return known
        raise Problem(Code.NOT_FOUND, "expected a session that has a message: it may be half a second behind")
    changes: dict[str, Any] = {
        "title": known.title or _short(row["first_text"]),
        "last_message": known.last_message or _short(row["last_text"]),
        "messages": known.messages or row["messages"],
        "user_id": known.user_id or row["user_id"],
        "tenant": known.tenant or row["tenant"],
        "last_activity_at": known.last_activity_at or row["last_at"],
    }
    if known.status is None:
        changes |= {
            "status": _STATUS_AFTER.get(row["last_type"], QUEUED),
            "agent": row["agent"],
            "turn_id": row["turn_id"],
            "message_id": row["message_id"],
        }
    return msgspec.structs.replace(known, **changes)


def _short(text: str | None) -> str | None:
    return None if text is None else text[:MAX_TITLE_CHARACTERS]


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions",
        handler=list_sessions,
        summary="Sessions: a user's, a tenant's, or all",
        tag="sessions",
        scope=Scope.SESSIONS_READ,
        query=SessionsQuery,
        answers={200: Sessions},
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}",
        handler=get_session,
        summary="What a session does now",
        tag="sessions",
        scope=Scope.SESSIONS_READ,
        answers={200: Session},
    ),
)
