"""What a session's model calls cost: the outcome of each counts once.

An outcome may come twice, as from a worker that died before it knew that the broker had it; and it may come when its
turn has ended, since a call that is given up may have been paid for already.
"""

from agents.accounts import count_call
from agents.draft import Draft
from agents.session import CallKind
from schemas.log import ModelCompleted, ModelFailed

GIVEN_UP_CALLS = 16
"""That are remembered. An outcome that is on its way when its turn ends comes soon or not at all."""


def give_up(draft: Draft) -> None:
    """The running turn ends: no outcome is awaited any more, though one may come."""
    calls = tuple(call.call_id for call in draft.turn.pending if call.kind == CallKind.MODEL)
    draft.set(given_up=(*draft.head.given_up, *calls)[-GIVEN_UP_CALLS:])


def charge(draft: Draft, event: ModelCompleted | ModelFailed) -> None:
    """Count the outcome of a call."""
    draft.set(usage=draft.head.usage + event.usage, cost_micros=draft.head.cost_micros + event.cost_micros)
    count_call(draft, event.usage, event.cost_micros)


def charge_late(draft: Draft, event: ModelCompleted | ModelFailed) -> None:
    """Count the first outcome of a call that was given up; nothing else that nobody waits for."""
    known = draft.head.given_up
    if event.call_id in known:
        charge(draft, event)
        draft.set(given_up=tuple(call_id for call_id in known if call_id != event.call_id))
