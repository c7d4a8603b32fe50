"""What an agent is: instructions, model, tools and limits."""

from typing import Annotated

import msgspec
from msgspec import Struct

from agents.limits import Limits
from schemas.ids import AgentName, ToolName

DEFAULT_MODEL = "claude-sonnet-5-5"
DEFAULT_MAX_OUTPUT_TOKENS = 8_192
"""Room for a long answer; far below the 21,333 from which the SDK refuses calls that do not stream."""


class AgentSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent, as an operator declares it.

    `approval` names the tools whose calls wait for an `approval_decision`; each must be in `tools`.
    """

    name: AgentName
    instructions: Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]
    description: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
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
