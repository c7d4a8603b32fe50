"""Ordering the next model call of a turn."""

from datetime import timedelta

from msgspec import UNSET

from agents.accounts import model_of
from agents.breaches import call_breach
from agents.draft import Draft
from agents.endings import fail
from agents.failures import agent_removed
from agents.overspending import may_exceed, may_spend
from agents.session import CallKind, PendingCall
from schemas.effects import CallModel
from schemas.ids import call_id
from schemas.log import SpendingRefused


def call_model(draft: Draft) -> None:
    """Let the model go on; where a limit forbids it, the turn fails, or waits for an approval.

    An agent with a pattern has no model: its turn waits for nothing then, and goes on at once with what the pattern
    says. Its rounds count as model calls, so that they end. They cost nothing: its budget is looked at before it asks.
    """
    breach = call_breach(draft)
    if breach is not None:
        fail(draft, breach)
        return
    has_model = draft.spec.pattern is None
    if has_model and not may_spend(draft):
        return
    turn = draft.turn
    step = turn.steps + 1
    draft.set_turn(steps=step, model_calls=turn.model_calls + 1)
    if not has_model:
        return
    call = PendingCall(kind=CallKind.MODEL, call_id=call_id(turn.turn_id, step), step=step, since=draft.at)
    model = model_of(draft.spec, turn)
    draft.expect(call)
    draft.order(
        CallModel(
            session_id=draft.head.session_id,
            call_id=call.call_id,
            turn_id=turn.turn_id,
            step=step,
            agent=turn.agent,
            log_offset=draft.offset,
            timeout_ms=time_left_ms(draft),
            model=UNSET if model == draft.spec.model else model,
            exceeds=turn.exceeded or UNSET,
        )
    )


def spending_refused(draft: Draft, event: SpendingRefused) -> None:
    """The call was not made, as a shared budget has not enough left: go on, wait for people, or end."""
    call = draft.head.turn and draft.head.turn.pending_call(event.call_id)
    if not call or call.kind != CallKind.MODEL:
        return
    draft.settle(call)
    draft.set_turn(model_calls=draft.turn.model_calls - 1)
    if draft.spec_of(draft.turn.agent) is None:
        fail(draft, agent_removed(draft.turn.agent))
    elif may_exceed(draft, event):
        call_model(draft)


def time_left_ms(draft: Draft) -> int:
    """What the turn's time limit leaves, 1 at least."""
    return max(1, (draft.turn.deadline - draft.at) // timedelta(milliseconds=1))
