"""Every frame of the WebSocket protocol: JSON objects in text frames, told apart by `type`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.caller import Scope
from schemas.commands import Agent, Content, Metadata, Reason, Text, UserId
from schemas.failure import Failure
from schemas.fields import ChangedInput
from schemas.ids import MessageId, SessionId, TargetCallId, TargetMessageId
from schemas.usage import Usage

Ref = Annotated[
    str, Meta(min_length=1, max_length=100, description="Your own name for the frame; what answers it has the same.")
]
Resume = Annotated[str, Meta(description="Where you are when you have this frame: give it as `after` to go on.")]
After = Annotated[str, Meta(max_length=100, description="Go on behind this: the `resume` of the last frame you had.")]
From = Annotated[
    Literal["now", "beginning"], Meta(description="Where to begin without `after`: now, or at the first event.")
]
TurnIdOf = Annotated[str, Meta(description="The turn.")]
MessageIdOf = Annotated[str, Meta(description="The message that the turn answers.")]


class ClientFrame(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every frame of a client has: its type."""


class Authenticate(ClientFrame, frozen=True, kw_only=True, tag="authenticate"):
    """Who you are: the first frame, where the request had no `Authorization` header."""

    key: Annotated[str, Meta(max_length=200, description="An API key.")]


class Follow(ClientFrame, frozen=True, kw_only=True, tag="follow"):
    """Tell me what happens in a session."""

    session_id: SessionId
    after: After | None = None
    from_: From = msgspec.field(name="from", default="now")


class Unfollow(ClientFrame, frozen=True, kw_only=True, tag="unfollow"):
    """Stop telling me."""

    session_id: SessionId


class CommandFrame(ClientFrame, frozen=True, kw_only=True):
    """What every command has; the same `id` in the same session is done once, however often it is sent."""

    ref: Ref
    session_id: SessionId
    id: MessageId | None = None


class Send(CommandFrame, frozen=True, kw_only=True, tag="send"):
    """A message to the session's agent: `text`, or `content`."""

    text: Text | None = None
    content: Content | None = None
    agent: Agent | None = None
    user_id: UserId | None = None
    metadata: Metadata = {}


class Cancel(CommandFrame, frozen=True, kw_only=True, tag="cancel"):
    """End the turn that answers `message_id`; without one, the turn that is running."""

    message_id: TargetMessageId | None = None
    reason: Reason = ""


class Approve(CommandFrame, frozen=True, kw_only=True, tag="approve"):
    """Let a tool call run that waits for approval, with other arguments where `input` has some."""

    call_id: TargetCallId
    reason: Reason = ""
    input: ChangedInput | None = None


class Deny(CommandFrame, frozen=True, kw_only=True, tag="deny"):
    """Deny a tool call that waits for approval; the model is told."""

    call_id: TargetCallId
    reason: Reason = ""


class End(CommandFrame, frozen=True, kw_only=True, tag="end"):
    """Forget the conversation."""

    reason: Reason = ""


class Ping(ClientFrame, frozen=True, kw_only=True, tag="ping"):
    """Are you there?"""

    ref: Ref | None = None


CommandFrames = Send | Cancel | Approve | Deny | End
FromClient = Authenticate | Follow | Unfollow | Send | Cancel | Approve | Deny | End | Ping


class ServerFrame(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every frame of the gateway has: its type."""


class Ready(ServerFrame, frozen=True, kw_only=True, tag="ready"):
    """You are in: who you are, and how often each side hears of the other."""

    name: Annotated[str, Meta(description="The key's name.")]
    tenant: Annotated[str | None, Meta(description="The key's tenant; none: it is an operator's.")]
    scopes: Annotated[tuple[Scope, ...], Meta(description="What the key may be used for.")]
    session_prefix: Annotated[str, Meta(description="What the ids of your sessions begin with.")]
    heartbeat_s: Annotated[
        float, Meta(description="The gateway pings so often (WebSocket pings, which browsers answer).")
    ]


class Followed(ServerFrame, frozen=True, kw_only=True, tag="followed"):
    """From here on you are told what happens in the session."""

    session_id: str
    resume: Resume


class Unfollowed(ServerFrame, frozen=True, kw_only=True, tag="unfollowed"):
    """You are told no more: because you asked, or because of the `error` before."""

    session_id: str


class AcceptedFrame(ServerFrame, frozen=True, kw_only=True, tag="accepted"):
    """The brokers have the command: it will be worked on, whatever dies."""

    ref: Ref
    session_id: str
    message_id: Annotated[str, Meta(description="The command's id; for a message, the `message_id` of its turn.")]


class SessionFrame(ServerFrame, frozen=True, kw_only=True):
    """What every frame about a session has."""

    session_id: str
    resume: Resume
    turn_id: TurnIdOf


class Chat(SessionFrame, frozen=True, kw_only=True, tag="chat"):
    """The answer. `delta`: its next piece; `reset`: what was told of this step is void; `final`: the whole of it."""

    state: Literal["delta", "reset", "final"]
    text: Annotated[str | None, Meta(description="Of `delta` and `final`.")] = None
    step: Annotated[int | None, Meta(description="The model call of the turn; not of `final`.")] = None
    attempt: Annotated[int | None, Meta(description="The attempt of the model call; not of `final`.")] = None
    seq: Annotated[int | None, Meta(description="Counts the frames of an attempt from 0; not of `final`.")] = None
    message_id: Annotated[str | None, Meta(description="The message that is answered; of `final`.")] = None


class ToolUse(SessionFrame, frozen=True, kw_only=True, tag="tool_use"):
    """A tool is called, or has returned."""

    state: Literal["called", "returned"]
    message_id: MessageIdOf
    call_id: Annotated[str, Meta(description="The call.")]
    tool: Annotated[str, Meta(description="The tool's name.")]
    input: Annotated[dict[str, Any] | None, Meta(description="The arguments; of `called`.")] = None
    content: Annotated[str | None, Meta(description="What the model is told; of `returned`.")] = None
    is_error: Annotated[bool, Meta(description="Whether the result is an error or a denial.")] = False


class Status(SessionFrame, frozen=True, kw_only=True, tag="status"):
    """How far the turn is; the last three end it."""

    state: Literal["running", "waiting_for_approval", "completed", "failed", "cancelled"]
    message_id: MessageIdOf
    agent: Annotated[str, Meta(description="The agent whose turn it is.")]
    call_id: Annotated[str | None, Meta(description="The call to approve or deny; of `waiting_for_approval`.")] = None
    tool: Annotated[str | None, Meta(description="Its tool.")] = None
    input: Annotated[dict[str, Any] | None, Meta(description="Its arguments.")] = None
    usage: Annotated[Usage | None, Meta(description="Tokens of the turn, at its end.")] = None
    cost_micros: Annotated[int | None, Meta(description="What the turn cost, in micro-dollars, at its end.")] = None
    stop_reason: Annotated[str | None, Meta(description="Why the model stopped; of `completed`.")] = None
    error: Annotated[Failure | None, Meta(description="Why there is no answer; of `failed`.")] = None
    reason: Annotated[str | None, Meta(description="Why, in the words of who asked; of `cancelled`.")] = None
    decision: Annotated[str | None, Meta(description="What was decided about the call: approve, deny, expired.")] = None
    by: Annotated[str | None, Meta(description="Who decided.")] = None


class ErrorFrame(ServerFrame, frozen=True, kw_only=True, tag="error"):
    """Something could not be done: the codes are those of the HTTP problems."""

    code: Annotated[str, Meta(description="The kind of problem, for programs.")]
    detail: Annotated[str, Meta(description="What was expected, what came, and what to do.")]
    ref: Annotated[str | None, Meta(description="Of the frame that it is about.")] = None
    session_id: Annotated[str | None, Meta(description="The session that it is about.")] = None


class Pong(ServerFrame, frozen=True, kw_only=True, tag="pong"):
    """I am here."""

    ref: Annotated[str | None, Meta(description="Of the ping.")] = None


FromServer = Ready | Followed | Unfollowed | AcceptedFrame | Chat | ToolUse | Status | ErrorFrame | Pong
