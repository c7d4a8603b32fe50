"""The agents, for whoever chooses one to talk to: declared, applied, or announced by workers."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from aiokafka import ConsumerRecord
from msgspec import Struct

from agents.applied import apply_record, spec_version
from agents.catalog import Catalog
from agents.directory import ANNOUNCED_WITHIN, Directory, ServedAgent
from agents.spec import AgentSpec
from gateway.caller import Caller
from gateway.parts import Parts
from gateway.reading import answer
from gateway.route import Route
from runtime.following import Followed, Follower
from runtime.settings import Settings
from schemas.topics import AGENT_DIRECTORY, AGENT_SPECS


class Agent(Struct, frozen=True, kw_only=True):
    """An agent. Its instructions are for operators, and not here."""

    name: Annotated[str, msgspec.Meta(description="What a message names it by.")]
    description: Annotated[str, msgspec.Meta(description="What it is for.")]
    model: Annotated[str, msgspec.Meta(description="The model that it calls.")]
    tools: Annotated[tuple[str, ...], msgspec.Meta(description="The tools that it may call.")]
    approval: Annotated[tuple[str, ...], msgspec.Meta(description="Those of them that wait for an approval.")]
    is_default: Annotated[bool, msgspec.Meta(description="Whether it answers a message that names no agent.")]
    capabilities: Annotated[tuple[str, ...], msgspec.Meta(description="What it can do, in words.")]
    tenant: Annotated[str | None, msgspec.Meta(description="Whose agent it is; null: everybody's.")]
    version: Annotated[str, msgspec.Meta(description="The same for the same agent, wherever it is served.")]
    input_schema: Annotated[dict[str, Any] | None, msgspec.Meta(description="What it takes, as JSON Schema.")]
    output_schema: Annotated[dict[str, Any] | None, msgspec.Meta(description="What it answers, as JSON Schema.")]
    workers: Annotated[int, msgspec.Meta(description="How many workers have announced that they serve it.")]
    calls_in_flight: Annotated[int, msgspec.Meta(description="Its model calls that run now, in all workers.")]
    since: Annotated[datetime | None, msgspec.Meta(description="Since when this version is served; null: by nobody.")]


class Agents(Struct, frozen=True, kw_only=True):
    """All agents: in the order of their files, then as they were applied, then those that only workers know."""

    items: tuple[Agent, ...]


async def get_agents(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    del request
    found = _agents(parts.catalog, parts.directory, datetime.now(UTC))
    return answer(
        Agents(items=tuple(one for one in found if caller.is_operator or one.tenant in {None, caller.tenant}))
    )


def _agents(catalog: Catalog, directory: Directory, now: datetime) -> Iterator[Agent]:
    served = {agent.name: agent for agent in directory.agents(now)}
    for spec in catalog.agents.values():
        yield _declared(spec, served.pop(spec.name, None), is_default=spec.name == catalog.default)
    for agent in served.values():
        yield _announced(agent, is_default=agent.name == catalog.default)


def _declared(spec: AgentSpec, served: ServedAgent | None, *, is_default: bool) -> Agent:
    return Agent(
        name=spec.name,
        description=spec.description,
        model=spec.model if spec.pattern is None else "",
        tools=spec.tools,
        approval=tuple(spec.approval),
        is_default=is_default,
        capabilities=spec.capabilities,
        tenant=spec.tenant,
        version=spec_version(spec),
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
        workers=len(served.workers) if served else 0,
        calls_in_flight=served.calls_in_flight if served else 0,
        since=served.since if served else None,
    )


def _announced(agent: ServedAgent, *, is_default: bool) -> Agent:
    """An agent of a worker's own files, which the gateway does not have."""
    return Agent(
        name=agent.name,
        description=agent.description,
        model=agent.model,
        tools=agent.tools,
        approval=(),
        is_default=is_default,
        capabilities=agent.capabilities,
        tenant=agent.tenant,
        version=agent.version,
        input_schema=agent.input_schema,
        output_schema=agent.output_schema,
        workers=len(agent.workers),
        calls_in_flight=agent.calls_in_flight,
        since=agent.since,
    )


def follow_agents(settings: Settings, catalog: Catalog, directory: Directory) -> Follower:
    """Keeps both as their topics have them, once it runs; until it has read them, there are the agents of the files."""

    def apply(record: ConsumerRecord) -> None:
        apply_record(catalog, record.offset, record.key, record.value)

    def hear(record: ConsumerRecord) -> None:
        directory.take(record.key, record.value)

    followed = (
        Followed(topic=AGENT_SPECS, take=apply),
        Followed(topic=AGENT_DIRECTORY, take=hear, since=ANNOUNCED_WITHIN),
    )
    return Follower(settings, followed, client_id="headrace-gateway-agents")


ROUTES = (
    Route(
        method="GET",
        path="/v1/agents",
        handler=get_agents,
        summary="The agents that answer",
        tag="gateway",
        answers={200: Agents},
    ),
)
