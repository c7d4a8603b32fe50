"""The agents of a run: those of the files, and what becomes of them; one works by a pattern, where there is one."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

from agents.approval_rule import ApprovalRule
from agents.budget import EXCEED_BUDGET, Budget
from agents.catalog import Catalog
from agents.limits import Limits
from agents.patterns import Chain, ChainStep, Evaluate, Gate, Loop, Parallel, Pattern, Route, Vote, asked_agents
from agents.spec import AgentSpec, ask_tool
from agents.tools.outside import RemoteTool

IDEMPOTENT = {"add": True, "pay": False, "send": False, "mail": True}
"""The tools that workers run."""
REMOTE = tuple(
    RemoteTool(
        name=name,
        description=f"The tool {name}.",
        input_schema={"type": "object"},
        timeout_seconds=timeout_s,
        idempotent=is_idempotent,
    )
    for name, timeout_s, is_idempotent in (("print", 6, False), ("scan", 1_000, True))
)
"""Those that a service runs. The time of the second one is longer than any turn has left."""
TOOLS = (*IDEMPOTENT, *(tool.name for tool in REMOTE))
TEAM = "team"
"""The agent that has a pattern. There is one in some runs only."""
TURN_S = 30
ASK_S = 15
"""Less than people have: some who are asked wait for them."""
SOON_EXPIRED = ApprovalRule(expires_seconds=20)
"""At rest people decide about half of what waits; timers end the rest."""
ASKED = {"assistant": ("writer", "helper", TEAM), "writer": ("helper",), "helper": ("writer",)}
"""Whom each agent may ask; `helper` and the team are not always there."""
HANDOFFS = {"assistant": ("writer",), "writer": ("assistant", TEAM), "helper": ()}
OTHERS = ("ask_writer", "ask_helper", "hand_off_to_writer")
"""The tools that are other agents."""
FREE = Budget()
TEAM_TOOLS = (ask_tool(TEAM), f"hand_off_to_{TEAM}")


def _approval(approved: Sequence[str], budget: Budget) -> dict[str, ApprovalRule]:
    money = (EXCEED_BUDGET,) if budget.on_breach == "ask" else ()
    return dict.fromkeys((*approved, *money), SOON_EXPIRED)


def _limits(queued: int, calls: int, asks: int) -> Limits:
    return Limits(
        queued_messages=queued,
        model_calls_per_turn=calls,
        turn_seconds=TURN_S,
        asks_per_turn=asks,
        ask_depth=2,
        ask_seconds=ASK_S,
        handoffs_per_turn=1,
    )


def _spec(
    name: str, instructions: str, approved: Sequence[str], queued: int, calls: int, budget: Budget = FREE
) -> AgentSpec:
    return AgentSpec(
        name=name,
        instructions=instructions,
        tools=TOOLS,
        agents=ASKED[name],
        handoffs=HANDOFFS[name],
        approval=_approval(approved, budget),
        limits=_limits(queued, calls, asks=2),
        budget=budget,
    )


CATALOG = Catalog(
    {name: _spec(name, "Help.", ("send", "mail"), queued=2, calls=5) for name in ("assistant", "writer")}, "assistant"
)
Applied = tuple[str, AgentSpec | None]
"""A record of `agent-specs`; its offset is its place in the list of all."""


def draw_applied(rng: Random, number: int, name: str | None = None, *, is_limited: bool = False) -> Applied:
    """What becomes of one agent: those that broadcasts are for stay, the other one comes and goes."""
    name = name or rng.choice([*CATALOG.files, "helper"])
    if name == "helper" and rng.random() < 0.4:
        return name, None
    approved = rng.choice([(), ("send",), ("add", "send", "mail"), ("print",), (f"ask_{ASKED[name][0]}",)])
    instructions = f"Help, as of {number}."
    budget = draw_budget(rng) if is_limited else FREE
    return name, _spec(name, instructions, approved, rng.randint(1, 3), rng.randint(1, 5), budget)


def draw_budget(rng: Random, *, has_model: bool = True) -> Budget:
    """Some limits, of which the calls of the model take a few each."""
    micros, session_micros = rng.choice([None, 6, 12]), rng.choice([None, None, 30])
    reserve = rng.choice([0, 4]) if has_model and (micros or session_micros) else 0
    on_breach: Literal["stop", "ask", "cheaper"] = rng.choice(["stop", "ask", "cheaper" if has_model else "ask"])
    return Budget(
        turn_micros=micros,
        session_micros=session_micros,
        turn_tokens=rng.choice([None, None, 20]),
        session_tokens=rng.choice([None, None, 60]),
        turn_calls=rng.choice([None, None, 2, 3]),
        session_calls=rng.choice([None, None, 8]),
        reserve_micros=reserve,
        on_breach=on_breach,
        cheaper_model="cheap" if on_breach == "cheaper" else None,
    )


def draw_team(rng: Random, *, is_limited: bool = False) -> Applied:
    """The agent with a pattern, as it becomes; its answers are numbers, which decide what comes next."""
    pattern = _draw_pattern(rng)
    approved = rng.choice([(), (), (ask_tool("writer"),)])
    is_offered = "writer" in asked_agents(pattern)
    budget = draw_budget(rng, has_model=False) if is_limited else FREE
    spec = AgentSpec(
        name=TEAM,
        pattern=pattern,
        budget=budget,
        approval=_approval(approved if is_offered else (), budget),
        limits=_limits(queued=2, calls=6, asks=4),
    )
    return TEAM, spec


LOW = r"0\.[0-4]"
"""Of half of the answers."""
PAIRS = (("writer", "assistant"), ("assistant", "writer"), ("writer", "helper"))
"""Of whom a pattern asks. The last one is not always there: a step fails."""


def _draw_pattern(rng: Random) -> Pattern:
    first, second = rng.choice(PAIRS)
    after: Literal["stop", "answer"] = rng.choice(["stop", "answer"])
    match rng.randrange(6):
        case 0:
            gate = Gate(matches=r"0\.[0-7]", message="too much")
            return Chain(steps=(ChainStep(agent=first, gate=gate), second))
        case 1:
            routes = rng.choice([{"answer": second}, {"answer": second, "0": first}])
            return Route(classifier=first, routes=routes, default=rng.choice([None, first]))
        case 2:
            failed: Literal["stop", "leave_out"] = rng.choice(["stop", "leave_out"])
            return Parallel(sections=(first, second), join=rng.choice([None, first]), failed_sections=failed)
        case 3:
            return Vote(agent=first, votes=2, judge=rng.choice([None, second]))
        case 4:
            return Evaluate(generator=first, evaluator=second, accept=LOW, max_rounds=2, after_max_rounds=after)
        case _:
            return Loop(agent=first, stop=LOW, max_rounds=3, after_max_rounds=after)


def first_applied(rng: Random, *, has_team: bool, has_budgets: bool) -> Iterator[Applied]:
    """What is applied before the run begins."""
    if has_team:
        yield draw_team(rng, is_limited=has_budgets)
    for name in CATALOG.files if has_budgets else ():
        yield draw_applied(rng, 0, name, is_limited=True)


def catalog_of(applied: Sequence[Applied]) -> Catalog:
    """The agents of the files, and over them what was applied."""
    catalog = Catalog(CATALOG.files, CATALOG.default)
    for offset, (name, spec) in enumerate(applied):
        catalog.apply(offset, name, spec)
    return catalog
