"""The agents that the settings name, for whoever chooses one to talk to."""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.reading import answer
from gateway.route import Route


class Agent(Struct, frozen=True, kw_only=True):
    """An agent. Its instructions are for operators, and not here."""

    name: Annotated[str, msgspec.Meta(description="What a message names it by.")]
    description: Annotated[str, msgspec.Meta(description="What it is for.")]
    model: Annotated[str, msgspec.Meta(description="The model that it calls.")]
    tools: Annotated[tuple[str, ...], msgspec.Meta(description="The tools that it may call.")]
    approval: Annotated[tuple[str, ...], msgspec.Meta(description="Those of them that wait for an approval.")]
    is_default: Annotated[bool, msgspec.Meta(description="Whether it answers a message that names no agent.")]


class Agents(Struct, frozen=True, kw_only=True):
    """All agents, in the order of their files."""

    items: tuple[Agent, ...]


async def get_agents(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    del request, caller
    catalog = parts.catalog
    return answer(
        Agents(
            items=tuple(
                Agent(
                    name=spec.name,
                    description=spec.description,
                    model=spec.model,
                    tools=spec.tools,
                    approval=spec.approval,
                    is_default=spec.name == catalog.default,
                )
                for spec in catalog.agents.values()
            )
        )
    )


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
