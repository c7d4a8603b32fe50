"""An agent that loops against a budget of 10 cents: the real client and the simulated model over HTTP, real prices.

Run with `-s`, it prints by how many micro-dollars the budget was overrun.
"""

from typing import Any

import pytest
from anthropic_fixture import POLICY
from histories import History, catalog

from agents.budget import Budget
from agents.limits import Limits
from agents.models.anthropic_client import AnthropicClient
from agents.models.port import ModelCompletion
from agents.models.prices import load_prices
from agents.prompt import build_prompt
from agents.session import CallKind
from agents.spec import AgentSpec
from headrace.simulated_model import running_server
from schemas.events import BudgetExceeded
from schemas.log import ModelCompleted

TEN_CENTS = 100_000
RULES = "Answer in full, and name what each number stands for. " * 200
"""About 2,700 tokens, so that a call costs what calls of real agents do."""
ADD = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {}}}


def looping(model: str, **budget: Any) -> AgentSpec:
    return AgentSpec(
        name="assistant",
        instructions=RULES,
        model=model,
        tools=("add",),
        limits=Limits(model_calls_per_turn=5_000, tool_calls_per_turn=5_000, tokens_per_turn=10**9),
        budget=Budget(turn_micros=TEN_CENTS, **budget),
    )


async def spend(url: str, spec: AgentSpec, result: str) -> tuple[History, list[int]]:
    """Let the agent loop until its budget ends it; the history, and what each call cost."""
    history = History(catalog(spec))
    client = AnthropicClient("key", url, load_prices(), POLICY)
    costs: list[int] = []
    try:
        history.say("m1", "[[tool-loop:add]] Go on for ever.")
        while history.pending(CallKind.MODEL):
            assert history.session is not None
            call_id = history.model_call()
            prompt = build_prompt(spec, [ADD], history.session)
            outcome = await client.complete(prompt, call_id=call_id, timeout_s=60, on_delta=lambda *_: None)
            assert isinstance(outcome, ModelCompletion), outcome
            costs.append(outcome.cost_micros)
            history.feed(
                ModelCompleted(
                    session_id="s1",
                    call_id=call_id,
                    model=outcome.model,
                    content=outcome.content,
                    stop_reason=outcome.stop_reason,
                    usage=outcome.usage,
                    cost_micros=outcome.cost_micros,
                    at=history.clock.at,
                )
            )
            for tool_call in history.pending(CallKind.TOOL):
                history.tool_returns(tool_call, result)
    finally:
        await client.close()
    return history, costs


@pytest.mark.parametrize(
    ("name", "model", "result", "reserve"),
    [
        ("small results", "claude-sonnet-5-5", "3", 0),
        ("results of 8 KB", "claude-sonnet-5-5", "x" * 8_000, 0),
        ("results of 40 KB", "claude-opus-5-5", "x" * 40_000, 0),
        ("results of 100 KB", "claude-opus-5-5", "x" * 100_000, 0),
        ("results of 100 KB, 100,000 reserved", "claude-opus-5-5", "x" * 100_000, 100_000),
    ],
)
async def test_an_agent_that_loops_is_stopped_at_ten_cents(name: str, model: str, result: str, reserve: int) -> None:
    """It may be overrun by what its last call was dearer than all before it, and than the reserve; by nothing more."""
    async with running_server() as url:
        history, costs = await spend(url, looping(model, reserve_micros=reserve), result)
    assert history.session is not None
    spent = history.session.head.cost_micros
    assert spent == sum(costs)
    (breach,) = [event for event in history.seen if isinstance(event, BudgetExceeded)]
    assert (breach.action, breach.spent) == ("stop", spent)
    overrun = spent - TEN_CENTS
    print(f"\n{name}: {len(costs)} calls, {spent} spent, overrun {overrun}, dearest {max(costs)}, last {costs[-1]}")
    assert overrun <= max(0, costs[-1] - max([reserve, *costs[:-1]]))
    assert spent > TEN_CENTS - 2 * max([reserve, *costs]), "it is not stopped long before its limit either"


async def test_a_cheaper_model_stops_at_twice_the_limit() -> None:
    """With all that both models cost."""
    async with running_server() as url:
        spec = looping("claude-sonnet-5-5", on_breach="cheaper", cheaper_model="claude-haiku-5-5")
        history, costs = await spend(url, spec, "x" * 2_000)
    breaches = [event for event in history.seen if isinstance(event, BudgetExceeded)]
    assert [breach.action for breach in breaches] == ["cheaper", "stop"]
    print(f"\ncheaper: {len(costs)} calls, {sum(costs)} spent, overrun of twice the limit {sum(costs) - 2 * TEN_CENTS}")
    assert sum(costs) <= 2 * TEN_CENTS
