"""What an agent is: instructions, model, tools and limits."""

from typing import Annotated, Any

import msgspec
from msgspec import Struct

from agents.limits import Limits
from schemas.ids import AgentName, Capability, TenantName, ToolName

DEFAULT_MODEL = "claude-sonnet-5-5"
DEFAULT_MAX_OUTPUT_TOKENS = 8_192
"""Room for a long answer; far below the 21,333 from which the SDK refuses calls that do not stream."""

MAX_CAPABILITIES = 50
"""All of them are in every announcement of the agent, some times a minute."""


class AgentSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent, as an operator declares it.

    `approval` names the tools whose calls wait for an `approval_decision`; each must be in `tools`.

    `capabilities` are words that others look for it by, and the schemas say what it takes and answers, as JSON Schema;
    `tenant` is whose agent it is, where it is not everybody's.
    """

    name: AgentName
    instructions: Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]
    description: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    capabilities: Annotated[tuple[Capability, ...], msgspec.Meta(max_length=MAX_CAPABILITIES)] = ()
    tenant: TenantName | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = DEFAULT_MODEL
    tools: tuple[ToolName, ...] = ()
    approval: tuple[ToolName, ...] = ()
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=128_000)] = DEFAULT_MAX_OUTPUT_TOKENS
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        stray = [tool for tool in self.approval if tool not in self.tools]
        if stray:
            raise ValueError(f"expected every tool of `approval` to be in `tools`, got {stray}: add or remove it")
        if len(set(self.tools)) != len(self.tools):
            raise ValueError(f"expected each tool once in `tools`, got {list(self.tools)}: remove the repeated one")
