"""Commands: what someone asks for, on `user-messages` and `broadcasts`. A command may be refused."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Struct

from schemas.content import TextBlock, UserBlock
from schemas.ids import AgentName, BroadcastId, MessageId, SessionId, ShortText

MAX_METADATA_ENTRIES = 50
"""Metadata is for correlation, not for payload; the same bound as OpenAI's metadata has (16) with room to spare."""

Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=100)], ShortText], msgspec.Meta(max_length=MAX_METADATA_ENTRIES)
]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class UserMessage(Struct, frozen=True, kw_only=True, tag="user_message"):
    """A message to an agent. `session_id` and `text` (or `content`) are all that is needed.

    `id` defaults to where the broker keeps the record, `agent` to the agent of the session, or the default one.
    """

    session_id: SessionId
    id: MessageId | None = None
    text: Text | None = None
    content: Annotated[tuple[UserBlock, ...], msgspec.Meta(min_length=1, max_length=100)] | None = None
    agent: AgentName | None = None
    user_id: ShortText | None = None
    tenant: ShortText | None = None
    metadata: Metadata = {}

    def __post_init__(self) -> None:
        if (self.text is None) == (self.content is None):
            raise ValueError("expected either `text` or `content`, got both or none: give the message in one of them")

    @property
    def blocks(self) -> tuple[UserBlock, ...]:
        if self.content is not None:
            return self.content
        assert self.text is not None
        return (TextBlock(text=self.text),)


class CancelTurn(Struct, frozen=True, kw_only=True, tag="cancel_turn"):
    """End the turn that answers `message_id`, queued or running; without one, the turn that is running."""

    session_id: SessionId
    id: MessageId | None = None
    message_id: MessageId | None = None
    reason: ShortText = ""
    by: ShortText | None = None


class ApprovalDecision(Struct, frozen=True, kw_only=True, tag="approval_decision"):
    """Lets a tool call that waits for approval run, or denies it; `call_id` is that of `approval_requested`."""

    session_id: SessionId
    call_id: MessageId
    decision: Literal["approve", "deny"]
    id: MessageId | None = None
    reason: ShortText = ""
    by: ShortText | None = None


class EndSession(Struct, frozen=True, kw_only=True, tag="end_session"):
    """Forget the conversation: a running turn is cancelled, and later messages are refused."""

    session_id: SessionId
    id: MessageId | None = None
    reason: ShortText = ""


class Broadcast(Struct, frozen=True, kw_only=True, tag="broadcast"):
    """A message to many agents, each of which answers in a session of its own, `{id}:{agent}`."""

    text: Text
    id: BroadcastId | None = None
    audience: Literal["all"] | Annotated[tuple[AgentName, ...], msgspec.Meta(min_length=1, max_length=1_000)] = "all"
    sender: ShortText | None = None
    tenant: ShortText | None = None
    expires_at: datetime | None = None
    metadata: Metadata = {}


Command = UserMessage | CancelTurn | ApprovalDecision | EndSession
