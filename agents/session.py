"""The state of a session: a small head that is rewritten at each event, and a transcript that only grows.

The transcript is stored entry by entry, so the bytes written for a turn do not grow with the conversation.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from agents.approval_rule import ApprovalRule
from schemas.asks import AskedBy
from schemas.content import AssistantBlock, ToolUseBlock, UserBlock
from schemas.failure import FailureCode
from schemas.log import MessageAccepted
from schemas.usage import Usage


class CallKind(StrEnum):
    """What a step of a turn waits for."""

    MODEL = "model"
    TOOL = "tool"
    APPROVAL = "approval"
    ASK = "ask"


WAITING = frozenset({CallKind.APPROVAL, CallKind.ASK})
"""What may take days: it is not held against the turn's time."""


class PendingCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step whose outcome is not in the log yet.

    `started_offset` is where the log has the first `ToolStarted` of the call, for a tool that is not idempotent;
    `expires_at` is when a call that waits, for people or for the session `child`, waits no longer; `approved_by` has
    who approved so far, and `is_changed` says that they changed what the model asked for. `agent` is whose call it is,
    where that one has passed the conversation on since. `rule` says who may decide, where not the agent does. `via` is
    the session through which `child` was begun.
    """

    kind: CallKind
    call_id: str
    step: int
    since: datetime
    tool_use_id: str = ""
    tool: str = ""
    input: dict[str, Any] = {}
    started_offset: int | None = None
    expires_at: datetime | None = None
    child: str = ""
    approved_by: tuple[str, ...] = ()
    is_changed: bool = False
    agent: str = ""
    rule: ApprovalRule | None = None
    via: str = ""


class Decided(Struct, frozen=True):
    """What people decided about a call of the turn that runs."""

    call_id: str
    decision: str
    by: str | None


class Turn(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The turn that runs. Its agents are those of `specs_offset` to its end, whatever is applied meanwhile."""

    number: int
    turn_id: str
    message_id: str
    agent: str
    deadline: datetime
    traceparent: str | None = None
    specs_offset: int = -1
    steps: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    usage: Usage = Usage()
    cost_micros: int = 0
    pending: tuple[PendingCall, ...] = ()
    user_id: str | None = None
    tenant: str | None = None
    asked_by: AskedBy | None = None
    asks: int = 0
    asked_cost_micros: int = 0
    asked_tokens: int = 0
    calls: int = 0
    """Model calls that have ended, where a budget counts them; those of asked agents are besides."""
    asked_calls: int = 0
    hops: int = 0
    budget_micros: int | None = None
    """What the message says that the turn may cost."""
    handoffs: int = 0
    decided: tuple[Decided, ...] = ()
    raised: tuple[str, ...] = ()
    """The limits of the agent's budget that count twice for this turn."""
    exceeded: tuple[str, ...] = ()
    """The limits of shared budgets that count twice for this turn."""
    cheaper_model: str = ""
    """That goes on since the breach of a shared budget."""
    share_micros: int | None = None
    share_tokens: int | None = None
    share_calls: int | None = None

    def pending_call(self, call_id: str) -> PendingCall | None:
        return next((call for call in self.pending if call.call_id == call_id), None)


class Gathering(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a session that gathers the replies to a broadcast waits for; the replies are in the transcript.

    `deadline` is gone when the gathering has ended; `waiting` are the agents that have not replied, also after that.
    `missing` are those that were never asked, and `counted` the replies that `needed` is about. `is_told` says that who
    asked for it knows what was gathered, and what that took: what came after is counted anew.
    """

    broadcast_id: str
    agents: tuple[str, ...]
    waiting: tuple[str, ...]
    needed: int
    wants_all: bool
    deadline: datetime | None = None
    missing: tuple[str, ...] = ()
    counted: int = 0
    tokens: int = 0
    cost_micros: int = 0
    calls: int = 0
    reply_to: str | None = None
    user_id: str | None = None
    tenant: str | None = None
    traceparent: str | None = None
    specs_offset: int = -1
    asked_by: AskedBy | None = None
    is_told: bool = False
    hops: int = 0

    @property
    def is_open(self) -> bool:
        return self.deadline is not None


class Sent(Struct, frozen=True, omit_defaults=True):
    """A broadcast that an agent started."""

    broadcast_id: str
    at: datetime
    is_refused: bool = False


class Ledger(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What budgets count besides the session's own usage, since its first turn that has one.

    `unheard` are the asks that were cancelled, whose bill is still to come.
    """

    asked_micros: int = 0
    asked_tokens: int = 0
    calls: int = 0
    asked_calls: int = 0
    dearest_micros: int = 0
    dearest_tokens: int = 0
    unheard: tuple[str, ...] = ()


class Head(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a session is rewritten at each event; its size does not grow with the conversation.

    `log_offset` is the last event of the session log that the state reflects; `entries` counts the transcript.
    `quarantined` is why the session is set apart, and `releases` counts how often that was lifted.
    """

    session_id: str
    log_offset: int
    updated_at: datetime
    agent: str | None = None
    turns: int = 0
    seq: int = 0
    entries: int = 0
    transcript_bytes: int = 0
    turn: Turn | None = None
    queue: tuple[MessageAccepted, ...] = ()
    ended_at: datetime | None = None
    quarantined: str | None = None
    releases: int = 0
    usage: Usage = Usage()
    cost_micros: int = 0
    commands: tuple[str, ...] = ()
    """The last commands other than messages, so that one that is accepted again is not followed again."""
    given_up: tuple[str, ...] = ()
    """The last model calls whose turn ended before their outcome came: it may be on its way, and paid for."""
    gathering: Gathering | None = None
    sent: tuple[Sent, ...] = ()
    """Of a session through which an agent's broadcasts go: the last ones."""
    ledger: Ledger | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it waits for something that ends by itself."""
        return self.turn is not None or (self.gathering is not None and self.gathering.is_open)


class UserEntry(Struct, frozen=True, kw_only=True, tag="user"):
    turn: int
    message_id: str
    content: tuple[UserBlock, ...]


class AssistantEntry(Struct, frozen=True, kw_only=True, tag="assistant"):
    turn: int
    content: tuple[AssistantBlock, ...]

    def tool_uses(self) -> tuple[ToolUseBlock, ...]:
        return tuple(block for block in self.content if isinstance(block, ToolUseBlock))


class ToolResultEntry(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tool_result"):
    turn: int
    tool_use_id: str
    content: str
    is_error: bool = False


class EndEntry(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="end"):
    """The end of a turn that has no answer; `note` tells the model why.

    `in_prompt` is false where the model must not see the turn again: it would fail again.
    """

    turn: int
    message_id: str
    in_prompt: bool = True
    note: str = ""


class AnsweredEntry(Struct, frozen=True, kw_only=True, tag="answered"):
    """What remains of an ended session: the messages that were answered, so that none is answered again."""

    message_ids: tuple[str, ...]


Entry = UserEntry | AssistantEntry | ToolResultEntry | EndEntry | AnsweredEntry


class Session(Struct, frozen=True):
    """A session as the core sees it: `len(transcript) == head.entries`."""

    head: Head
    transcript: tuple[Entry, ...] = ()

    def is_idle_since(self, time: datetime) -> bool:
        """Whether no turn runs, nothing is gathered, and nothing has happened after `time`."""
        return not self.head.is_busy and self.head.updated_at <= time

    def knows(self, message_id: str) -> bool:
        """Whether the message was accepted before: answered, being answered, or queued."""
        if any(message.message_id == message_id for message in self.head.queue):
            return True
        return message_id in self.message_ids()

    def message_ids(self) -> tuple[str, ...]:
        """The messages of all turns, begun or ended, oldest first; one may appear twice."""
        ids: list[str] = []
        for entry in self.transcript:
            match entry:
                case UserEntry() | EndEntry():
                    ids.append(entry.message_id)
                case AnsweredEntry():
                    ids.extend(entry.message_ids)
                case AssistantEntry() | ToolResultEntry():
                    pass
        return tuple(ids)

    def newest_of_turn(self, number: int) -> Iterator[Entry]:
        """The entries of a turn, newest first: those of messages that were turned away meanwhile stand between them."""
        for entry in reversed(self.transcript):
            if not isinstance(entry, AnsweredEntry) and entry.turn == number:
                yield entry
                if isinstance(entry, UserEntry):
                    return

    def unpaired_tool_uses(self, turn: int) -> tuple[str, ...]:
        """The ids of the turn's last tool calls that have no result yet, in the order of the calls."""
        answered: set[str] = set()
        for entry in self.newest_of_turn(turn):
            if isinstance(entry, ToolResultEntry):
                answered.add(entry.tool_use_id)
            elif isinstance(entry, AssistantEntry):
                return tuple(use.id for use in entry.tool_uses() if use.id not in answered)
        return ()


OUT_OF_PROMPT = frozenset(
    {
        FailureCode.BAD_REQUEST,
        FailureCode.REQUEST_TOO_LARGE,
        FailureCode.REFUSAL,
        FailureCode.CONTEXT_WINDOW_EXCEEDED,
        FailureCode.LIMIT_TRANSCRIPT,
        FailureCode.UNEXPECTED_STOP_REASON,
    }
)
"""Failures that the turn's own content caused: with it in the prompt, every later turn would fail as well."""
