"""Budgets of agents with a pattern, which cost nothing themselves: each round shares what is left."""

from histories import History, catalog
from msgspec import UNSET
from team import Team, ask, asked

from agents.budget import EXCEED_BUDGET, Budget
from agents.catalog import Catalog, parse_agents
from agents.draft import Step
from agents.session import CallKind
from agents.spec import AgentSpec
from schemas.content import ToolUseBlock
from schemas.events import ApprovalRequested, BudgetExceeded, TurnCompleted
from schemas.failure import FailureCode

CHAIN = 'type = "chain"\nsteps = ["a", "b"]'
PARALLEL = 'type = "parallel"\nsections = ["a", "b", "c"]\njoin = "judge"'
OTHERS = "".join(f'[{name}]\ninstructions = "Help."\n' for name in ("a", "b", "c", "judge"))


def team_of(pattern: str, budget: str) -> Catalog:
    """The agent `p` with this pattern and budget, and the agents that it may ask."""
    return Catalog(parse_agents(f"[p]\nbudget = {{{budget}}}\n[p.pattern]\n{pattern}\n{OTHERS}", "test"), "p")


def answer(world: Team, child: str, cost_micros: int, tokens: int = 1) -> None:
    world.deliver()
    world.hear(world.session(child).model_says(f"from {child}", cost_micros=cost_micros, tokens=tokens))
    world.deliver()


def shares(step: Step) -> list[object]:
    """What each ask of the step may cost."""
    return [message.asked_by and message.asked_by.budget_micros for message in asked(step)]


def breaches(history: History) -> list[BudgetExceeded]:
    return [event for event in history.seen if isinstance(event, BudgetExceeded)]


def begun(pattern: str, budget: str) -> tuple[Team, History]:
    world = Team(team_of(pattern, budget))
    parent = world.session("s1")
    world.hear(parent.say("m1", "Do it."))
    return world, parent


def test_what_a_pattern_asks_shares_what_is_left() -> None:
    """All of it, as no call of its own comes after; of the next round, what the first one left."""
    world, parent = begun(PARALLEL, "turn_micros = 1000")
    assert shares(parent.steps[-1]) == [333, 333, 333]
    for child, cost_micros in (("s1~1.2", 300), ("s1~1.3", 250), ("s1~1.4", 200)):
        answer(world, child, cost_micros)
    assert shares(parent.steps[-1]) == [250]
    answer(world, "s1~1.6", 100)
    (end,) = parent.ends()
    assert isinstance(end, TurnCompleted)
    assert (end.cost_micros, end.asked_cost_micros) == (0, 850)


def test_tokens_are_shared_as_money_is() -> None:
    """Each limit by itself; of the other there is none."""
    _, parent = begun(PARALLEL, "session_tokens = 900")
    for message in asked(parent.steps[-1]):
        assert message.asked_by is not None
        assert (message.asked_by.budget_tokens, message.asked_by.budget_micros) == (300, UNSET)


def test_a_pattern_asks_nobody_when_nothing_is_left() -> None:
    """The agent of the next step has no session, and the turn fails; so does the next turn where the session is out."""
    world, parent = begun(CHAIN, "session_micros = 500")
    answer(world, "s1~1.2", 500)
    (breach,) = breaches(parent)
    assert (breach.scope, breach.limit, breach.spent, breach.reserved, breach.action) == (
        "session",
        500,
        500,
        0,
        "stop",
    )
    assert parent.failure().code == FailureCode.BUDGET_EXCEEDED
    assert asked(parent.say("m2", "And again.")) == []
    assert len(parent.ends()) == len(breaches(parent)) == 2


def test_an_answer_that_is_there_is_given() -> None:
    """Also where the last step took more than was left: it is paid for."""
    world, parent = begun(CHAIN, "turn_micros = 500")
    answer(world, "s1~1.2", 400)
    answer(world, "s1~1.4", 400)
    (end,) = parent.ends()
    assert isinstance(end, TurnCompleted)
    assert (end.text, end.asked_cost_micros) == ("from s1~1.4", 800)
    assert breaches(parent) == []


def test_people_may_let_a_pattern_go_on() -> None:
    """It asks then what it would have asked, with the limit counted twice; the ids of its calls stay its own."""
    world, parent = begun(CHAIN, 'turn_micros = 500, on_breach = "ask"')
    answer(world, "s1~1.2", 600)
    (waiting,) = parent.pending(CallKind.APPROVAL)
    requested = parent.seen[-1]
    assert isinstance(requested, ApprovalRequested)
    assert (requested.tool, requested.input["raised_to"]) == (EXCEED_BUDGET, 1_000)
    step = world.hear(parent.decide(waiting, "approve"))
    (message,) = asked(step)
    assert (message.agent, shares(step)) == ("b", [400])
    answer(world, message.session_id, 100)
    assert isinstance(parent.ends()[0], TurnCompleted)


def test_people_may_stop_a_pattern() -> None:
    """Nobody is asked any more."""
    world, parent = begun(CHAIN, 'turn_micros = 500, on_breach = "ask"')
    answer(world, "s1~1.2", 600)
    (waiting,) = parent.pending(CallKind.APPROVAL)
    assert asked(parent.decide(waiting, "deny")) == []
    assert parent.failure().code == FailureCode.BUDGET_EXCEEDED


def test_a_pattern_hands_its_share_down() -> None:
    """A pattern without a budget that is asked by one with a budget divides what it was given."""
    inner = parse_agents(f"[p2.pattern]\n{PARALLEL}\n{OTHERS}", "test")
    outer = parse_agents('[p]\nbudget = {turn_micros = 900}\n[p.pattern]\ntype = "chain"\nsteps = ["p2", "a"]', "test")
    world = Team(Catalog(outer | inner, "p"))
    parent = world.session("s1")
    world.hear(parent.say("m1", "Do it."))
    world.deliver()
    assert shares(world.session("s1~1.2").steps[0]) == [300, 300, 300]
    for step in (2, 3, 4, 6):
        answer(world, f"s1~1.2~1.{step}", 100)
    assert shares(parent.steps[-1]) == [500], "what the inner one asked counts in the outer one"


def test_a_conversation_that_is_handed_to_a_pattern_takes_its_expenses_along() -> None:
    """But not the reserve for another call of the model, which does not come."""
    lead = AgentSpec(
        name="lead", instructions="Lead.", agents=("a",), handoffs=("p",), budget=Budget(turn_micros=9_000)
    )
    world = Team(catalog(lead, *team_of(CHAIN, "turn_micros = 1000").agents.values()))
    parent = world.session("s1")
    world.hear(parent.say("m1", "Do it."))
    give = ToolUseBlock(id="t2", name="hand_off_to_p", input={"message": "yours"})
    world.hear(parent.model_says(ask("t1", agent="a"), give, cost_micros=400))
    answer(world, "s1~1.2", 100)
    assert shares(parent.steps[-1]) == [500]
