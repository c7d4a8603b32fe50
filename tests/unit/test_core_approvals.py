"""Calls that wait for people: rules, several approvers, changed arguments, expiry, second thoughts."""

from datetime import timedelta
from typing import Any

import pytest
from histories import NOW, SESSION, History, catalog
from msgspec import convert

from agents.draft import Step
from agents.session import CallKind
from agents.spec import AgentSpec
from schemas.content import ToolUseBlock
from schemas.dead_letter import Cause
from schemas.effects import CallTool
from schemas.events import ApprovalAnswered, ApprovalRequested, ToolReturned
from schemas.log import ApprovalDecided, TimerFired

CALL = "s1/1/2"


def clerk(**rule: Any) -> History:
    """An agent whose refunds wait for people, who has been asked for one of 50."""
    spec = convert(
        {"name": "clerk", "instructions": "Help.", "tools": ["refund"], "approval": {"refund": rule}}, AgentSpec
    )
    history = History(catalog(spec))
    history.say("m1")
    history.model_says(ToolUseBlock(id="u1", name="refund", input={"amount": 50}))
    return history


def decide(history: History, decision: str, by: str | None = "ann", **fields: Any) -> Step:
    return history.feed(
        ApprovalDecided(
            session_id=SESSION,
            command_id=f"c{history.offset}",
            call_id=CALL,
            decision="approve" if decision == "approve" else "deny",
            at=history.clock.at,
            by=by,
            **fields,
        )
    )


def answered(step: Step) -> list[tuple[str, str | None, int]]:
    return [(event.decision, event.by, event.remaining) for event in step.events if isinstance(event, ApprovalAnswered)]


def result(step: Step) -> ToolReturned:
    (event,) = [event for event in step.events if isinstance(event, ToolReturned)]
    return event


@pytest.mark.parametrize(("when", "waits"), [("amount > `40`", True), ("amount > `60`", False), ("nonsense(", None)])
def test_a_rule_says_which_calls_wait(when: str, *, waits: bool | None) -> None:
    """By their arguments; a rule that is no expression is refused where it is declared."""
    if waits is None:
        with pytest.raises(ValueError, match="JMESPath"):
            clerk(when=when)
        return
    history = clerk(when=when)
    assert history.pending(CallKind.APPROVAL if waits else CallKind.TOOL) == [CALL]


def test_a_call_that_the_rule_cannot_judge_waits() -> None:
    """The model writes the arguments: what they are is not known."""
    history = clerk(when="length(amount) > `2`")
    assert history.pending(CallKind.APPROVAL) == [CALL]


def test_two_of_three_people_approve() -> None:
    """One alone is not enough, nor twice; somebody else may not."""
    history = clerk(approvals=2, approvers=["ann", "bob", "eve"])
    (request,) = [event for event in history.seen if isinstance(event, ApprovalRequested)]
    assert (request.approvals, request.approvers) == (2, ("ann", "bob", "eve"))
    assert request.expires_at == NOW + timedelta(days=7)
    assert answered(decide(history, "approve", "ann")) == [("approve", "ann", 1)]
    assert decide(history, "approve", "ann").events == ()
    for stranger in ("mallory", None):
        refusal = decide(history, "approve", stranger).refusal
        assert refusal is not None
        assert refusal.cause == Cause.NOT_AN_APPROVER
    step = decide(history, "approve", "bob")
    assert answered(step) == [("approve", "bob", 0)]
    assert [type(order) for order in step.effects] == [CallTool]
    assert history.pending(CallKind.TOOL) == [CALL]


def test_one_denial_denies() -> None:
    """Whoever has approved before."""
    history = clerk(approvals=2)
    decide(history, "approve", "ann")
    step = decide(history, "deny", "bob", reason="too much")
    assert answered(step) == [("deny", "bob", 0)]
    assert result(step).is_error
    assert result(step).content == "the call was denied by bob: too much"


def test_changed_arguments_are_what_is_called_and_what_others_approve() -> None:
    """Who approved the old ones has not approved the new ones; the model is told."""
    history = clerk(approvals=2)
    decide(history, "approve", "ann")
    assert answered(decide(history, "approve", "bob", input={"amount": 20})) == [("approve", "bob", 1)]
    step = decide(history, "approve", "ann")
    (order,) = step.effects
    assert isinstance(order, CallTool)
    assert order.input == {"amount": 20}
    content = result(history.tool_returns(CALL, "done")).content
    assert content == '(The call was approved with other arguments: {"amount":20})\ndone'


def test_what_nobody_decides_is_denied_in_the_end() -> None:
    """By a timer, once, and then a decision comes too late."""
    history = clerk(expires_seconds=3_600)
    due = NOW + timedelta(hours=1)
    assert history.steps[-1].timers[0].due == due
    history.clock.forward(3_601)
    fired = TimerFired(session_id=SESSION, call_id=CALL, due=due, at=history.clock.at)
    step = history.feed(fired)
    assert answered(step) == [("expired", None, 0)]
    assert result(step).content == "the call was denied: nobody decided in time"
    assert history.feed(fired).events == ()
    late = decide(history, "approve")
    assert late.refusal is not None
    assert "expired" in late.refusal.error
    assert late.effects == ()


def test_a_second_thought_comes_too_late() -> None:
    """Another decision than the first is refused; the same again is nothing."""
    history = clerk()
    decide(history, "approve", "ann")
    assert decide(history, "approve", "bob").refusal is None
    step = decide(history, "deny", "bob")
    assert step.refusal is not None
    assert step.refusal.cause == Cause.NOTHING_TO_APPROVE
    assert "`approve` by ann" in step.refusal.error
    assert history.pending(CallKind.TOOL) == [CALL]
