"""Commands over HTTP: what is answered with 202, the brokers have on all replicas."""

import asyncio
from hashlib import sha256
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct

from gateway.audit import audited
from gateway.caller import Caller, Scope
from gateway.idempotency import remember
from gateway.parts import Parts
from gateway.problems import Code, Problem
from gateway.reading import answer, read_body, read_query, read_session_id
from gateway.route import Handler, Route
from gateway.waiting import Waiting
from schemas.audit import Act, Outcome
from schemas.codec import decode_command, encode, type_tag
from schemas.commands import (
    MAX_MESSAGE_BYTES,
    Agent,
    ApprovalDecision,
    By,
    CancelTurn,
    Command,
    Content,
    EndSession,
    Metadata,
    Reason,
    Tenant,
    Text,
    UserId,
    UserMessage,
)
from schemas.events import TurnEnd
from schemas.fields import ChangedInput, Decision
from schemas.ids import MessageId, TargetCallId, TargetMessageId

MAX_WAIT_S = 120
TRACEPARENT_CHARACTERS = 55
IDEMPOTENCY_KEY = "Idempotency-Key"
HEADERS = {
    IDEMPOTENCY_KEY: "The command's `id`, where the body has none: sent again with the same one, it is done once.",
    "traceparent": "The W3C trace that the command belongs to.",
}

log = structlog.get_logger(__name__)


class MessageBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message to an agent: `text` or `content` is all that is needed."""

    text: Text | None = None
    content: Content | None = None
    id: MessageId | None = None
    agent: Agent | None = None
    user_id: UserId | None = None
    tenant: Tenant | None = None
    metadata: Metadata = {}

    def __post_init__(self) -> None:
        if (self.text is None) == (self.content is None):
            raise ValueError("expected either `text` or `content`, got both or none: give the message in one of them")


class CancelBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End the turn that answers `message_id`, queued or running; without one, the turn that is running."""

    message_id: TargetMessageId | None = None
    id: MessageId | None = None
    reason: Reason = ""
    by: By | None = None


class ApprovalBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lets a tool call that waits for approval run, or denies it; `call_id` is that of `approval_requested`."""

    call_id: TargetCallId
    decision: Decision
    id: MessageId | None = None
    reason: Reason = ""
    by: By | None = None
    input: ChangedInput | None = None

    def __post_init__(self) -> None:
        if self.input is not None and self.decision == "deny":
            raise ValueError("expected `input` with `approve` only, got it with `deny`: leave it out")


class EndBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Forget the conversation: a running turn is cancelled, and later messages are refused."""

    id: MessageId | None = None
    reason: Reason = ""


WaitSeconds = Annotated[
    float, msgspec.Meta(ge=1, le=MAX_WAIT_S, description="Answer with the turn's end, if it comes in so many seconds.")
]


class WaitQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a message is sent."""

    wait: WaitSeconds | None = None


class Accepted(Struct, frozen=True, kw_only=True):
    """The brokers have the command: it will be worked on, whatever dies."""

    session_id: Annotated[str, msgspec.Meta(description="The session.")]
    id: Annotated[str, msgspec.Meta(description="The command's id; for a message, the `message_id` of its events.")]
    partition: Annotated[int, msgspec.Meta(description="Where on `user-messages` the brokers keep it.")]
    offset: Annotated[int, msgspec.Meta(description="Where in the partition.")]


class AnsweredMessage(Struct, frozen=True, kw_only=True):
    """The message was accepted, and its turn has ended."""

    session_id: Annotated[str, msgspec.Meta(description="The session.")]
    id: Annotated[str, msgspec.Meta(description="The message's id.")]
    end: Annotated[TurnEnd, msgspec.Meta(description="The event that ended the turn.")]


async def post_message(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Send a message; with `wait`, its answer is waited for."""
    session_id = read_session_id(request, caller)
    query = read_query(request, WaitQuery)
    body = await read_body(request, MessageBody)
    command = UserMessage(
        session_id=session_id,
        id=_id_of(request, body.id),
        text=body.text,
        content=body.content,
        agent=body.agent,
        user_id=body.user_id,
        tenant=_tenant_of(body, caller),
        metadata=body.metadata,
    )
    if query.wait is None:
        return answer(await send_command(request, parts, caller, command), 202)
    return await _send_and_wait(request, parts, caller, command, query.wait)


async def post_cancel(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Cancel a turn; one that has ended stays as it is."""
    session_id = read_session_id(request, caller)
    body = await read_body(request, CancelBody)
    command = CancelTurn(
        session_id=session_id,
        id=_id_of(request, body.id),
        message_id=body.message_id,
        reason=body.reason,
        by=body.by or caller.name,
    )
    return answer(await send_command(request, parts, caller, command), 202)


async def post_approval(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Decide on a tool call that waits for approval."""
    session_id = read_session_id(request, caller)
    body = await read_body(request, ApprovalBody)
    command = ApprovalDecision(
        session_id=session_id,
        id=_id_of(request, body.id),
        call_id=body.call_id,
        decision=body.decision,
        reason=body.reason,
        by=body.by or caller.name,
        input=body.input,
    )
    return answer(await send_command(request, parts, caller, command), 202)


async def post_end(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """End a session."""
    session_id = read_session_id(request, caller)
    body = await read_body(request, EndBody)
    command = EndSession(session_id=session_id, id=_id_of(request, body.id), reason=body.reason)
    return answer(await send_command(request, parts, caller, command), 202)


async def _send_and_wait(
    request: web.Request, parts: Parts, caller: Caller, command: UserMessage, wait_s: float
) -> web.Response:
    """200 with the turn's end; 202 where it does not come in time: the message stays accepted."""
    assert command.id is not None
    is_new = await _checked(parts, command)
    waiting = Waiting(parts, command.session_id, command.id)
    async with waiting.following(from_beginning=not is_new):
        accepted = await _publish(request, parts, caller, command)
        end = await waiting.end(wait_s)
    if end is None:
        return answer(accepted, 202)
    return answer(AnsweredMessage(session_id=command.session_id, id=command.id, end=end))


async def send_command(request: web.Request, parts: Parts, caller: Caller, command: Command) -> Accepted:
    """Hand the command to the brokers, for whoever asks over HTTP or a WebSocket that `request` opened.

    Raises:
        Problem: `not_valid`, `too_large`, `other_body`, or `unavailable`: send it again with the same id.
    """
    await _checked(parts, command)
    return await _publish(request, parts, caller, command)


async def _checked(parts: Parts, command: Command) -> bool:
    """Whether the command's id is new, as far as Redis knows.

    Raises:
        Problem: the pipeline would refuse it, or its id was another command's.
    """
    value = encode(command)
    try:
        decode_command(value)
    except msgspec.ValidationError as error:
        raise Problem(Code.NOT_VALID, f"the command is not valid: {error}", errors=[str(error)]) from None
    if len(value) > MAX_MESSAGE_BYTES:
        raise Problem(
            Code.TOO_LARGE,
            f"expected a command of at most {MAX_MESSAGE_BYTES:,} bytes, got {len(value):,}: send less, or a link",
        )
    assert command.id is not None
    return await remember(parts.redis, parts.redis_prefix, command.session_id, command.id, sha256(value).digest())


async def _publish(request: web.Request, parts: Parts, caller: Caller, command: Command) -> Accepted:
    sides: dict[str, Any] = {
        "session_id": command.session_id,
        "user_id": command.user_id if isinstance(command, UserMessage) else None,
        "command_id": command.id,
        "command": type_tag(command),
    }
    try:
        sent = await parts.publisher.send(command, traceparent=_traceparent_of(request))
    except (Problem, asyncio.CancelledError) as error:
        why = error.code.value if isinstance(error, Problem) else "cancelled: it may have arrived"
        await audited(request, parts, caller, Act.COMMAND_SENT, Outcome.FAILED, why=why, **sides)
        raise
    await audited(request, parts, caller, Act.COMMAND_SENT, Outcome.SUCCESS, **sides)
    return Accepted(session_id=command.session_id, id=sent.id, partition=sent.partition, offset=sent.offset)


def _tenant_of(body: MessageBody, caller: Caller) -> str | None:
    if caller.is_operator:
        return body.tenant
    if body.tenant not in (None, caller.tenant):
        raise Problem(Code.WRONG_TENANT, "expected `tenant` to be that of the key, or left out: got another one")
    return caller.tenant


def _id_of(request: web.Request, own: str | None) -> str:
    """The command's own id; else that of the header `Idempotency-Key`; else a random one."""
    given = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not given:
        return own or uuid4().hex
    try:
        (key,) = given
        checked = msgspec.convert(key, MessageId)
    except (ValueError, msgspec.ValidationError):
        raise Problem(
            Code.NOT_VALID, f"expected one `{IDEMPOTENCY_KEY}` of 1 to 300 printable ASCII characters without spaces"
        ) from None
    return own or checked


def _traceparent_of(request: web.Request) -> str | None:
    """The pipeline checks it; here it only must be fit for a header of a record."""
    given = request.headers.get("traceparent", "")
    return given if len(given) == TRACEPARENT_CHARACTERS and given.isascii() else None


def _route(name: str, handler: Handler, summary: str, body: type[Struct]) -> Route:
    return Route(
        method="POST",
        path=f"/v1/sessions/{{session_id}}/{name}",
        handler=handler,
        summary=summary,
        tag="commands",
        scope=Scope.SESSIONS_WRITE,
        body=body,
        answers={202: Accepted},
        request_headers=HEADERS,
    )


ROUTES = (
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/messages",
        handler=post_message,
        summary="Send a message to a session's agent",
        tag="commands",
        scope=Scope.SESSIONS_WRITE,
        query=WaitQuery,
        body=MessageBody,
        answers={200: AnsweredMessage, 202: Accepted},
        request_headers=HEADERS,
    ),
    _route("cancel", post_cancel, "Cancel a turn", CancelBody),
    _route("approvals", post_approval, "Decide on a tool call that waits for approval", ApprovalBody),
    _route("end", post_end, "End a session", EndBody),
)
