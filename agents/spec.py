"""What an agent is: instructions, model, tools and limits."""

from typing import Annotated, Any

import msgspec
from msgspec import Struct

from agents.approval_rule import ApprovalRule
from agents.budget import EXCEED_BUDGET, Budget
from agents.limits import Limits
from agents.patterns import Pattern, asked_agents, needs
from schemas.gather import MAX_DEADLINE_SECONDS, Agents, AudienceOf
from schemas.ids import AgentName, Capability, TenantName, ToolName

DEFAULT_MODEL = "claude-sonnet-5-5"
DEFAULT_MAX_OUTPUT_TOKENS = 8_192
"""Room for a long answer; far below the 21,333 from which the SDK refuses calls that do not stream."""
MAX_TOOL_NAME = 64
BROADCAST_TOOL = "broadcast"
ALWAYS = ApprovalRule()

MAX_CAPABILITIES = 50
"""All of them are in every announcement of the agent, some times a minute."""


class AgentSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent, as an operator declares it.

    `agents` are those that it may ask, and `handoffs` those that it may pass the conversation to: the model is offered
    a tool for each. `broadcasts` are those that it may address together, with the tool `broadcast`: `true` for all,
    names, or those with a `capability` or of a `tenant`. `approval` names the calls that wait for an
    `approval_decision`, of `tools` or of these; and `exceed_budget`, where its `budget` asks.

    An agent with a `pattern` calls no model, so it has none, and neither instructions nor tools: it asks the agents
    that the pattern names.

    With `broadcast_replay_seconds` it gets, when it is applied, the broadcasts of so long before that were for it.

    `capabilities` are words that others look for it by, and the schemas say what it takes and answers, as JSON Schema;
    `tenant` is whose agent it is, where it is not everybody's.
    """

    name: AgentName
    instructions: Annotated[str, msgspec.Meta(max_length=100_000)] = ""
    description: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    capabilities: Annotated[tuple[Capability, ...], msgspec.Meta(max_length=MAX_CAPABILITIES)] = ()
    tenant: TenantName | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = DEFAULT_MODEL
    tools: tuple[ToolName, ...] = ()
    agents: tuple[AgentName, ...] = ()
    handoffs: tuple[AgentName, ...] = ()
    broadcasts: bool | Agents | AudienceOf = False
    broadcast_replay_seconds: Annotated[int, msgspec.Meta(ge=0, le=MAX_DEADLINE_SECONDS)] = 0
    approval: tuple[ToolName, ...] | dict[ToolName, ApprovalRule] = ()
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=128_000)] = DEFAULT_MAX_OUTPUT_TOKENS
    limits: Limits = Limits()
    pattern: Pattern | None = None
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        if self.pattern is None and not self.instructions:
            raise ValueError("expected `instructions` of at least one character, or a `pattern`: say what it does")
        if self.pattern is not None:
            _check_pattern(self, self.pattern)
        offered = self.offered
        asks_for_money = (EXCEED_BUDGET,) if self.budget.on_breach == "ask" else ()
        stray = [tool for tool in self.approval if tool not in (*offered, *asks_for_money)]
        if stray:
            raise ValueError(f"expected every tool of `approval` to be in `tools`, got {stray}: add or remove it")
        if len(set(offered)) != len(offered):
            raise ValueError(f"expected each tool once in `tools`, got {list(offered)}: remove the repeated one")
        too_long = [name for name in offered if len(name) > MAX_TOOL_NAME]
        if too_long:
            raise ValueError(f"expected tool names of at most {MAX_TOOL_NAME} characters, got {too_long}: shorten them")
        if self.name in self.handoffs:
            raise ValueError(f"expected other agents in `handoffs`, got `{self.name}` itself: remove it")

    @property
    def asked(self) -> tuple[AgentName, ...]:
        """The agents that it may ask."""
        return self.agents if self.pattern is None else asked_agents(self.pattern)

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of all tools that the model is offered."""
        return (
            *self.tools,
            *(ask_tool(agent) for agent in self.asked),
            *(handoff_tool(agent) for agent in self.handoffs),
            *((BROADCAST_TOOL,) if self.broadcasts else ()),
        )

    def serves(self, tenant: str | None) -> bool:
        """Whether the tenant may talk to the agent; None: whoever is of no tenant."""
        return self.tenant is None or self.tenant == tenant

    def approval_rule(self, tool: str) -> ApprovalRule | None:
        """What calls of the tool wait for; None: they do not."""
        if isinstance(self.approval, dict):
            return self.approval.get(tool)
        return ALWAYS if tool in self.approval else None


NOT_WITH_PATTERN = ("instructions", "tools", "agents", "handoffs", "broadcasts")
NOT_IN_BUDGET_WITH_PATTERN = ("cheaper_model", "reserve_micros")


def _check_pattern(spec: AgentSpec, pattern: Pattern) -> None:
    given = [name for name in NOT_WITH_PATTERN if getattr(spec, name)]
    if spec.model != DEFAULT_MODEL:
        given.append("model")
    given += [f"budget.{name}" for name in NOT_IN_BUDGET_WITH_PATTERN if getattr(spec.budget, name)]
    if given:
        raise ValueError(
            f"expected none of {given} beside a `pattern`, which calls no model: remove it, or the pattern"
        )
    if spec.name in asked_agents(pattern):
        raise ValueError(
            f"expected other agents in `pattern`, got `{spec.name}` itself, which would never end: remove it"
        )
    most = needs(pattern)
    if most.asks > spec.limits.asks_per_turn:
        raise ValueError(
            f"expected `limits.asks_per_turn` of at least {most.asks}, so often does the pattern ask, got "
            f"{spec.limits.asks_per_turn}: raise it, or shorten the pattern"
        )
    # What it says in the end counts as well.
    if most.rounds >= spec.limits.model_calls_per_turn:
        raise ValueError(
            f"expected `limits.model_calls_per_turn` of at least {most.rounds + 1}, as the pattern has up to "
            f"{most.rounds} rounds, got {spec.limits.model_calls_per_turn}: raise it, or shorten the pattern"
        )


def addressed_by_name(spec: AgentSpec) -> tuple[AgentName, ...]:
    """The agents that it may broadcast to, where it has their names."""
    return spec.broadcasts if isinstance(spec.broadcasts, tuple) else ()


def ask_tool(agent: str) -> str:
    """The name of the tool that asks an agent."""
    return f"ask_{agent}"


def handoff_tool(agent: str) -> str:
    """The name of the tool that passes the conversation to an agent."""
    return f"hand_off_to_{agent}"
