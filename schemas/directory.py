"""The agents on the topics: what operators apply on `agent-specs`, and what workers announce on `agent-directory`."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from schemas.ids import AgentName

SpecVersion = Annotated[
    str, Meta(description="Derived from what the agent is: the same spec has the same version, wherever it is served.")
]
Spec = Annotated[
    dict[str, Any], Meta(description="The agent's fields but its name, as its file declares them, without defaults.")
]
AppliedTime = Annotated[datetime, Meta(description="When it was applied, from the clock of whoever did it.")]
AppliedBy = Annotated[str, Meta(description="Who did it, as their machine calls them.")]
AgentOfRecord = Annotated[AgentName, Meta(description="The agent; the record's key begins with it and `@`.")]


class AgentApplied(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="agent_applied"):
    """The agent is this from here on; turns whose message was accepted before keep what it was.

    The record's key is its own, so that compaction keeps what running turns need; see `spec_key`.
    """

    agent: AgentOfRecord
    version: SpecVersion
    spec: Spec
    at: AppliedTime
    by: AppliedBy | None = None


class AgentRemoved(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="agent_removed"):
    """The agent is gone from here on, also where a file declares it; turns that run end with what it was."""

    agent: AgentOfRecord
    at: AppliedTime
    by: AppliedBy | None = None


class AgentAnnounced(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="agent_announced"):
    """A worker serves the agent, until `expires_at` unless it says so again; a null value: it does not any more."""

    agent: Annotated[AgentName, Meta(description="What a message names it by.")]
    worker: Annotated[str, Meta(description="The worker that announces it; with the agent, the record's key.")]
    version: SpecVersion
    model: Annotated[str, Meta(description="The model that it calls; empty where it has a pattern.")]
    since: Annotated[datetime, Meta(description="Since when the worker serves this version.")]
    at: Annotated[datetime, Meta(description="When it was announced, from the worker's clock.")]
    expires_at: Annotated[datetime, Meta(description="From then on the worker counts as gone.")]
    description: Annotated[str, Meta(description="What it is for.")] = ""
    capabilities: Annotated[tuple[str, ...], Meta(description="What it can do, in words.")] = ()
    tenant: Annotated[str | None, Meta(description="Whose agent it is; none: everybody's.")] = None
    tools: Annotated[tuple[str, ...], Meta(description="The tools that it may call.")] = ()
    input_schema: Annotated[dict[str, Any] | None, Meta(description="What it takes, as JSON Schema.")] = None
    output_schema: Annotated[dict[str, Any] | None, Meta(description="What it answers, as JSON Schema.")] = None
    calls_in_flight: Annotated[int, Meta(description="Its model calls that run in this worker.")] = 0
    worker_tools: Annotated[
        tuple[str, ...], Meta(description="All tools that the worker has: those that an applied agent may name.")
    ] = ()


SpecRecord = AgentApplied | AgentRemoved
decode_spec_record = msgspec.json.Decoder(SpecRecord).decode
decode_announcement = msgspec.json.Decoder(AgentAnnounced).decode


def spec_key(agent: str, version: str, unique: str) -> bytes:
    """The key of a record of `agent-specs`; `unique` is the record's own.

    Compaction keeps the newest record of a key, and turns may still need every version since they began, even one that
    was applied, replaced, and applied again. So no two records share a key.
    """
    return f"{agent}@{version}-{unique}".encode()


def announcement_key(agent: str, worker: str) -> bytes:
    """The key of a record of `agent-directory`: each worker that serves an agent has its own."""
    return f"{agent}@{worker}".encode()


def agent_of_key(key: bytes | None) -> str | None:
    """The agent that a key of either topic begins with; None where it is no such key."""
    agent, at, _ = (key or b"").decode(errors="replace").partition("@")
    return agent if at else None
