"""Which agents there are, for an agent that looks for help."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from agents.directory import Directory
from agents.tools.declaration import Tool, tool
from agents.tools.port import ToolContext
from schemas.ids import tenant_of_session

MAX_FOUND = 20
"""More would be a page of the model's context, which it reads again in each step."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def find_agents_tool(directory: Directory, *, clock: Callable[[], datetime] = _utc_now) -> Tool:
    """The tool `find_agents` over what this worker knows of the directory."""

    @tool(idempotent=True, attempts=1, timeout_s=5)
    async def find_agents(  # noqa: D417 - the model does not see the context
        context: ToolContext,
        query: Annotated[str, msgspec.Meta(max_length=200)] = "",
        capability: Annotated[str, msgspec.Meta(max_length=64)] = "",
    ) -> dict[str, Any]:
        """Look up which other agents there are, and what each can do. Without arguments, it lists all.

        Args:
            query: Words that describe the help that is wanted; the best matches come first.
            capability: Only agents with exactly this capability, such as "translation".
        """
        tenant = tenant_of_session(context.session_id, context.tenant)
        found = directory.find(clock(), query=query, capability=capability or None, tenant=tenant)
        others = [agent for agent in found if agent.name != context.agent]
        listed = [
            {
                "name": agent.name,
                "description": agent.description,
                "capabilities": agent.capabilities,
                **({"input_schema": agent.input_schema} if agent.input_schema else {}),
            }
            for agent in others[:MAX_FOUND]
        ]
        return {"agents": listed, "more": len(others) - len(listed)}

    return find_agents
