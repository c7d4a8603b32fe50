"""What a broadcast asks for: whom it reaches, how many replies it waits for, and what came of it."""

import hashlib
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.ids import AgentName, Capability, SessionId, TenantName, tenant_of_session

GATHERER = "@"
"""Stands for an agent where a broadcast gathers its replies: no agent's name."""
MAX_GATHERED_AGENTS = 100
"""Each is asked by one fact, and all of them in one step, with the whole broadcast."""
MAX_BROADCAST_ID_CHARS = 120
"""With its tenant; an agent's name still fits behind it, in the id of a session."""
MAX_HOPS = 4
"""As deep as agents ask each other by default: beyond it they answer each other's broadcasts in a loop."""
MAX_DEADLINE_SECONDS = 7 * 24 * 3_600
"""As long as the topics keep what was said: who asks later cannot read it any more."""
DEFAULT_DEADLINE_SECONDS = 600
"""As long as a turn may take by default."""


class AudienceOf(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The agents that have a capability, or are a tenant's own; with both, those that fit both."""

    capability: Capability | None = None
    tenant: TenantName | None = None

    def __post_init__(self) -> None:
        if self.capability is None and self.tenant is None:
            raise ValueError("expected `capability`, `tenant` or both, got none: say which agents, or `all`")


class Quorum(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many agents must have answered; those that failed do not count."""

    quorum: Annotated[int, Meta(ge=1, le=MAX_GATHERED_AGENTS, description="How many answers.")]


Agents = Annotated[tuple[AgentName, ...], Meta(min_length=1, max_length=1_000)]
Audience = Annotated[
    Literal["all"] | Agents | AudienceOf,
    Meta(
        description="The agents that are to answer: their names, `all` of them, or those with a `capability` or of a "
        "`tenant`. Agents of another tenant than the broadcast's are not among them, whatever it says."
    ),
]
Gather = Annotated[
    Literal["none", "first", "all"] | Quorum,
    Meta(
        description="How many replies are waited for, and told together: `none`, the `first` answer, `all` agents, or "
        "`{quorum: N}` answers."
    ),
]
Deadline = Annotated[
    Annotated[int, Meta(ge=1, le=MAX_DEADLINE_SECONDS)] | datetime | None,
    Meta(
        description="When the gathering ends with what there is: seconds from when the broadcast is routed, or a time, "
        f"which is UTC without a time zone; {DEFAULT_DEADLINE_SECONDS} s where none is given, 7 days at most."
    ),
]
ReplyTo = Annotated[
    SessionId,
    Meta(description="The session that what was gathered is sent to, as a message: of the broadcast's own tenant."),
]
Hops = Annotated[
    int,
    Meta(
        ge=0,
        description="How many broadcasts led to this one; beyond 4 it is refused. Who answers one by one adds 1.",
    ),
]
BroadcastBudget = Annotated[
    int,
    Meta(
        ge=1,
        description="What all agents together may spend on it, in micro-dollars: each gets an equal share, for its "
        "turn and for the agents that it asks.",
    ),
]
MessageBudget = Annotated[
    int,
    Meta(
        ge=0,
        description="What the turn that answers it may cost at most, in micro-dollars, besides the agent's own budget.",
    ),
]
MessageHops = Annotated[
    int, Meta(ge=0, description="How many broadcasts led to the message: the `hops` of one that its turn starts.")
]
IsLate = Annotated[bool, Meta(description="Whether the gathering had ended before: then it is not among its replies.")]
SenderAgent = Annotated[str, Meta(description="The agent that sends it, which does not get it.")]
ForLateJoiners = Annotated[
    bool, Meta(description="Whether it was accepted before, and is told again for agents that came after that.")
]
GatherDeadline = Annotated[datetime, Meta(description="When the gathering ends with what there is.")]
WhyOver = Annotated[
    Literal["gathered", "exhausted", "deadline", "cancelled"],
    Meta(
        description="`gathered`: as many replies as were asked for; `exhausted`: all agents have ended, and too few "
        "answered; `deadline`: the time was over; `cancelled`: somebody asked for it."
    ),
]


class GatheredReply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one agent said; an error is why it has no answer. A long one is cut: `broadcast_replied` has all of it."""

    agent: Annotated[str, Meta(description="Who replied.")]
    content: Annotated[str, Meta(description="The answer, or why there is none.")]
    is_error: Annotated[bool, Meta(description="Whether the agent ended without an answer.")] = False


Gathered = Annotated[tuple[GatheredReply, ...], Meta(description="The replies, in the order in which they came.")]
Missing = Annotated[
    tuple[str, ...], Meta(description="The agents that have not replied; also names of which there is no such agent.")
]


def own_broadcast_id(broadcast_id: str, tenant: str | None) -> str:
    """The id with its tenant before it, as the ids of its sessions say whose they are; the same where it has that."""
    if tenant is None or tenant_of_session(f"{tenant}:") != tenant or broadcast_id.startswith(f"{tenant}:"):
        return broadcast_id
    return f"{tenant}:{broadcast_id}"


def call_broadcast_id(session_id: str, turn: int, step: int, tenant: str | None) -> str:
    """The id of the broadcast that a call of a session starts, which belongs to the session's tenant.

    Where that is too long, it is cut, and told apart by its SHA-256.
    """
    name = own_broadcast_id(f"{session_id}~{turn}.{step}", tenant)
    if len(name) <= MAX_BROADCAST_ID_CHARS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{name[: MAX_BROADCAST_ID_CHARS - 33]}~{digest}"


def sender_session_id(agent: str, tenant: str | None) -> str:
    """The session through which all broadcasts of an agent go: one for each tenant that it works for."""
    return own_broadcast_id(f"{GATHERER}{agent}", tenant)


def gathering_session_id(broadcast_id: str) -> str:
    """The session in which a broadcast's replies are gathered."""
    return f"{broadcast_id}:{GATHERER}"


def reply_session_id(broadcast_id: str, agent: str) -> str:
    """The session in which an agent answers a broadcast; also the id of its message there."""
    return f"{broadcast_id}:{agent}"
