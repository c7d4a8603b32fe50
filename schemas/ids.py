"""Identifiers: their constrained types, and how the derived ones are built.

Nothing here is random: an identifier is derived from what it identifies, so a replay of the log derives it again.
"""

import hashlib
import re
from typing import Annotated

import msgspec

# `$` alone also matches before a new line at the end, which would get into headers.
PRINTABLE = r"^[!-~]+(?!\n)$"

MAX_SESSION_ID_CHARS = 200
SessionId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_SESSION_ID_CHARS,
        pattern=PRINTABLE,
        description="The conversation; also the record key. 1 to 200 printable ASCII characters, no spaces.",
        examples=["s1"],
    ),
]
_LongId = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=PRINTABLE)]
MessageId = Annotated[
    _LongId,
    msgspec.Meta(description="Identifies a command; the same id in the same session is answered once."),
]
TargetMessageId = Annotated[
    _LongId,
    msgspec.Meta(description="The message whose turn is to end; without one, that of the turn that is running."),
]
TargetCallId = Annotated[
    _LongId, msgspec.Meta(description="The tool call that is decided on: the `call_id` of its `approval_requested`.")
]
AnsweredCallId = Annotated[
    _LongId, msgspec.Meta(description="The tool call that it is the outcome of: the `call_id` on `tool-calls`.")
]
BroadcastId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=120,
        pattern=PRINTABLE,
        description="Identifies a broadcast; short enough that `{id}:{agent}` is a session id.",
    ),
]
AgentName = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[a-z][a-z0-9_-]*(?!\n)$",
        description="The agent's name: lower case letters, digits, `_` and `-`.",
        examples=["assistant"],
    ),
]
Capability = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[a-z0-9][a-z0-9_.-]*(?!\n)$",
        description="What an agent can do, in a word: lower case letters, digits, `_`, `-` and `.`.",
        examples=["translation"],
    ),
]
TenantName = Annotated[
    str,
    msgspec.Meta(
        max_length=63,
        pattern=r"^[a-z0-9][a-z0-9_-]*(?!\n)$",
        description="A tenant, as it stands before the `:` of its sessions' ids.",
    ),
]
ToolName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+(?!\n)$")]
ShortText = Annotated[str, msgspec.Meta(max_length=1_000)]

# What Headrace itself writes is not constrained again.
TurnId = Annotated[str, msgspec.Meta(description="The turn: `{session_id}/{number}`, counted from 1.")]
CallId = Annotated[str, msgspec.Meta(description="The model or tool call: `{turn_id}/{step}`.")]
CommandId = Annotated[
    str, msgspec.Meta(description="The command's `id`, or `{topic}/{partition}/{offset}` where its sender gave none.")
]
AnsweredMessageId = Annotated[str, msgspec.Meta(description="The `id` of the user message that the turn answers.")]
CancelledMessageId = Annotated[
    str, msgspec.Meta(description="The message whose turn is to end; without one, that of the turn that is running.")
]


_NUMBERS = re.compile(r"/([1-9]\d{0,9})/([1-9]\d{0,9})", re.ASCII)
_TENANT_OF_SESSION = re.compile(r"([a-z0-9][a-z0-9_-]{0,62}):")


def tenant_of_session(session_id: str, said: str | None = None) -> str | None:
    """Whose session it is: what stands before the first `:` of its id, else what its message `said`.

    A key of the gateway may address the sessions whose id begins with its tenant and `:`, and no others.
    """
    match = _TENANT_OF_SESSION.match(session_id)
    return said if match is None else match[1]


BROADCAST_ID = "broadcast_id"
"""The name under which the metadata of an agent's message has the broadcast that it is of."""


def derived_message_id(topic: str, partition: int, offset: int) -> str:
    """The id of a command whose sender gave none: where the broker keeps it."""
    return f"{topic}/{partition}/{offset}"


def turn_id(session_id: str, turn: int) -> str:
    """The id of a session's turn number `turn` (from 1)."""
    return f"{session_id}/{turn}"


def call_id(turn_id: str, step: int) -> str:
    """The id of a turn's model or tool call number `step` (from 1)."""
    return f"{turn_id}/{step}"


def call_number(call_id: str, session_id: str) -> tuple[int, int] | None:
    """The turn and the step of a session's call; None where the session cannot have such a call."""
    match = _NUMBERS.fullmatch(call_id.removeprefix(session_id))
    return (int(match[1]), int(match[2])) if match is not None and call_id.startswith(session_id) else None


def child_session_id(session_id: str, turn: int, step: int) -> str:
    """The session that answers a call of another one: `{session_id}~{turn}.{step}`.

    It begins like its parent, so it belongs to the same tenant. Where that leaves no room, it is cut, and told apart by
    its SHA-256.
    """
    name = f"{session_id}~{turn}.{step}"
    if len(name) <= MAX_SESSION_ID_CHARS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{session_id[: MAX_SESSION_ID_CHARS - 33]}~{digest}"


def claim_id(call_id: str) -> str:
    """The id of the event that a tool call was started: another than that of its outcome."""
    return f"{call_id}/started"
