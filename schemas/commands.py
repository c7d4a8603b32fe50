"""Commands: what someone asks for, on `user-messages` and `broadcasts`. A command may be refused."""

from typing import Annotated

import msgspec
from msgspec import Struct

from schemas.content import TextBlock, UserBlock
from schemas.fields import ChangedInput, Decision, ExpiryTime
from schemas.gather import Audience, BroadcastBudget, Deadline, Gather, Hops, MessageBudget, MessageHops, ReplyTo
from schemas.ids import AgentName, BroadcastId, MessageId, SessionId, ShortText, TargetCallId, TargetMessageId

MAX_MESSAGE_BYTES = 512 * 1024
"""A long document or a small image; the transcript that it becomes a part of has 2 MiB."""
MAX_METADATA_ENTRIES = 50
"""Metadata is for correlation, not for payload; the same bound as OpenAI's metadata has (16) with room to spare."""

Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=100)], ShortText],
    msgspec.Meta(
        max_length=MAX_METADATA_ENTRIES,
        description="The sender's own names and values, handed on in `turn_started`; the model does not see them.",
    ),
]
Text = Annotated[str, msgspec.Meta(min_length=1, description="What to say to the agent.")]
Content = Annotated[
    tuple[UserBlock, ...],
    msgspec.Meta(
        min_length=1, max_length=100, description="What to say to the agent, as blocks of text and images, in order."
    ),
]
Agent = Annotated[
    AgentName,
    msgspec.Meta(description="The agent that answers; without one, that of the session, or the default one."),
]
UserId = Annotated[ShortText, msgspec.Meta(description="Who the user is, as the sender calls them.")]
Tenant = Annotated[ShortText, msgspec.Meta(description="Whose user it is, where several customers share Headrace.")]
Reason = Annotated[ShortText, msgspec.Meta(description="Why, in the sender's words; shown with what follows from it.")]
By = Annotated[ShortText, msgspec.Meta(description="Who asks for it, as the sender calls them.")]
Sender = Annotated[ShortText, msgspec.Meta(description="Who sends it; the `user_id` of each agent's message.")]


class UserMessage(Struct, frozen=True, kw_only=True, tag="user_message"):
    """A message to an agent. `session_id` and `text` (or `content`) are all that is needed.

    `id` defaults to where the broker keeps the record, `agent` to the agent of the session, or the default one.
    """

    session_id: SessionId
    id: MessageId | None = None
    text: Text | None = None
    content: Content | None = None
    agent: Agent | None = None
    user_id: UserId | None = None
    tenant: Tenant | None = None
    metadata: Metadata = {}
    hops: MessageHops = 0
    budget_micros: MessageBudget | None = None

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
    message_id: TargetMessageId | None = None
    reason: Reason = ""
    by: By | None = None


class ApprovalDecision(Struct, frozen=True, kw_only=True, tag="approval_decision"):
    """Lets a tool call that waits for approval run, or denies it; `call_id` is that of `approval_requested`."""

    session_id: SessionId
    call_id: TargetCallId
    decision: Decision
    id: MessageId | None = None
    reason: Reason = ""
    by: By | None = None
    input: ChangedInput | None = None

    def __post_init__(self) -> None:
        if self.input is not None and self.decision == "deny":
            raise ValueError("expected `input` with `approve` only, got it with `deny`: leave it out")


class EndSession(Struct, frozen=True, kw_only=True, tag="end_session"):
    """Forget the conversation: a running turn is cancelled, and later messages are refused."""

    session_id: SessionId
    id: MessageId | None = None
    reason: Reason = ""


class ReleaseSession(Struct, frozen=True, kw_only=True, tag="release_session"):
    """Lift a session's quarantine, after what its core could not handle was corrected: later messages are answered."""

    session_id: SessionId
    id: MessageId | None = None
    reason: Reason = ""
    by: By | None = None


class Broadcast(Struct, frozen=True, kw_only=True, tag="broadcast"):
    """A message to many agents, each of which answers in a session of its own, `{id}:{agent}`.

    With `gather`, the replies come together in the session `{id}:@`: its events say who got it, who replied, and what
    was gathered in the end.
    """

    text: Text | None = None
    content: Content | None = None
    id: BroadcastId | None = None
    audience: Audience = "all"
    sender: Sender | None = None
    tenant: Tenant | None = None
    gather: Gather = "none"
    deadline: Deadline = None
    reply_to: ReplyTo | None = None
    expires_at: ExpiryTime | None = None
    hops: Hops = 0
    budget_micros: BroadcastBudget | None = None
    metadata: Metadata = {}

    def __post_init__(self) -> None:
        if (self.text is None) == (self.content is None):
            raise ValueError("expected either `text` or `content`, got both or none: give the message in one of them")
        if self.gather == "none" and not (self.deadline is None and self.reply_to is None):
            raise ValueError("expected `gather` with `deadline` and `reply_to`, got `none`: say what is to be gathered")

    @property
    def blocks(self) -> tuple[UserBlock, ...]:
        if self.content is not None:
            return self.content
        assert self.text is not None
        return (TextBlock(text=self.text),)


Command = UserMessage | CancelTurn | ApprovalDecision | EndSession | ReleaseSession
