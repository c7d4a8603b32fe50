"""Ordering the next model call of a turn."""

from datetime import timedelta

from agents.breaches import call_breach
from agents.draft import Draft
from agents.endings import fail
from agents.session import CallKind, PendingCall
from schemas.effects import CallModel
from schemas.ids import call_id


def call_model(draft: Draft) -> None:
    """Let the model go on; where a limit forbids it, the turn fails.

    An agent with a pattern has no model: its turn waits for nothing then, and goes on at once with what the pattern
    says. Its rounds count as model calls, so that they end.
    """
    breach = call_breach(draft)
    if breach is not None:
        fail(draft, breach)
        return
    turn = draft.turn
    step = turn.steps + 1
    draft.set_turn(steps=step, model_calls=turn.model_calls + 1)
    if draft.spec.pattern is not None:
        return
    call = PendingCall(kind=CallKind.MODEL, call_id=call_id(turn.turn_id, step), step=step, since=draft.at)
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
        )
    )


def time_left_ms(draft: Draft) -> int:
    """What the turn's time limit leaves, 1 at least."""
    return max(1, (draft.turn.deadline - draft.at) // timedelta(milliseconds=1))
