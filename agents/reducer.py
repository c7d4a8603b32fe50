"""The machine: what each fact does to a session; the calls that a model asks for go on in `tool_calls`.

Pure: `reduce(session, event) -> Step`. Time is in the events, ids are derived, nothing here reads a clock, a random
number or the environment; so the same log gives the same state, effects and agent events, byte for byte.
"""

from datetime import timedelta
from typing import assert_never

from msgspec import UNSET

from agents.accounts import count_call_of_turn
from agents.bill import charge, charge_late
from agents.breaches import entry_breach, queue_breach
from agents.catalog import Catalog
from agents.draft import Draft, Step, Timer
from agents.endings import agent_of, cancel_running, cancel_waiting, complete, fail, turn_away
from agents.failures import (
    UNUSABLE_ANSWERS,
    agent_removed,
    limit_reached,
    nothing_here,
    quarantined,
    session_ended,
    unexpected_stop,
    unknown_agent,
)
from agents.gathering import begin_gathering, gathering_went_on, is_for_late_joiners
from agents.model_call import call_model
from agents.pattern_turn import go_on_at_once
from agents.quarantine import release
from agents.sending import pass_on, pass_on_cancel
from agents.session import (
    AnsweredEntry,
    AssistantEntry,
    CallKind,
    Head,
    Session,
    Turn,
    UserEntry,
)
from agents.tool_calls import call_tools, call_went_on
from schemas.content import ToolUseBlock
from schemas.events import TurnStarted
from schemas.failure import FailureCode
from schemas.gather import gathering_session_id
from schemas.ids import tenant_of_session, turn_id
from schemas.log import (
    ApprovalDecided,
    BroadcastAccepted,
    CancelRequested,
    ChildEnded,
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEndRequested,
    SessionEvent,
    SessionExpired,
    SessionReleaseRequested,
    SpendingRefused,
    TimerFired,
    ToolCompleted,
    ToolFailed,
    ToolStarted,
)

Remembered = CancelRequested | ApprovalDecided | SessionEndRequested | SessionReleaseRequested
"""The commands that are followed or refused once, though they may be accepted twice."""
ANSWERED_IDS_PER_ENTRY = 1_000
"""At most 300 bytes each: an entry stays far below what a record may have."""
REMEMBERED_COMMANDS = 16
"""Of a session. A command is accepted twice when a worker dies just after it accepted it, so few come in between."""


def reduce(catalog: Catalog, session: Session | None, event: SessionEvent, offset: int) -> Step:
    """What `event`, at `offset` of the session log, does to `session` (None: there is none yet).

    An event that the state already reflects changes nothing and orders nothing.
    """
    if session is None:
        if not isinstance(event, MessageAccepted | BroadcastAccepted) or is_for_late_joiners(event):
            return _without_session(event)
        session = Session(Head(session_id=event.session_id, log_offset=-1, updated_at=event.at))
    elif offset <= session.head.log_offset:
        return Step(session=session)
    draft = Draft(catalog, session, event, offset)
    if isinstance(event, Remembered) and not _is_new(draft, event):
        return Step(session=session)
    if draft.head.gathering is not None and gathering_went_on(draft, event):
        return draft.step()
    match event:
        case BroadcastAccepted():
            _broadcast(draft, event)
        case MessageAccepted():
            _accept(draft, event)
        case ModelCompleted() | ModelFailed():
            _model_returned(draft, event)
        case (
            ToolStarted()
            | ToolCompleted()
            | ToolFailed()
            | ChildEnded()
            | ApprovalDecided()
            | TimerFired()
            | SpendingRefused()
        ):
            call_went_on(draft, event)
        case CancelRequested():
            _cancel(draft, event)
        case SessionEndRequested():
            _end_session(draft, event)
        case SessionReleaseRequested():
            release(draft, event)
        case SessionExpired() if draft.before.is_idle_since(event.idle_since):
            return Step(session=None, rewritten=True)
        case SessionExpired():
            pass
        case _:
            assert_never(event)
    _start_waiting(draft)
    return draft.step()


def _without_session(event: SessionEvent) -> Step:
    if isinstance(event, CancelRequested) and event.asked_by is not None:
        return Step(session=None)
    if isinstance(event, CancelRequested | ApprovalDecided | SessionReleaseRequested):
        return Step(session=None, refusal=nothing_here(event))
    if isinstance(event, TimerFired):
        return Step(session=None, timers=(Timer(event.call_id, None),))
    return Step(session=None)


def _is_new(draft: Draft, command: Remembered) -> bool:
    """Whether the command was not followed or refused already; it counts as such from now on."""
    known = draft.head.commands
    if command.command_id in known:
        return False
    draft.set(commands=(*known, command.command_id)[-REMEMBERED_COMMANDS:])
    return True


# Messages


def _accept(draft: Draft, message: MessageAccepted) -> None:
    head = draft.head
    if draft.before.knows(message.message_id):
        return
    if head.quarantined is not None:
        turn_away(draft, message, quarantined(head.quarantined))
    elif head.ended_at is not None:
        turn_away(draft, message, session_ended(head.session_id))
    elif head.turn is not None and (full := queue_breach(draft, (*head.queue, message))):
        turn_away(draft, message, full)
    else:
        draft.set(queue=(*head.queue, message))


def _start_waiting(draft: Draft) -> None:
    """Begin the next turn where none runs. One that cannot begin ends at once, and the next message is tried."""
    go_on_at_once(draft)
    while draft.head.turn is None and draft.head.queue:
        message, *rest = draft.head.queue
        draft.set(queue=tuple(rest))
        _start(draft, message)
        go_on_at_once(draft)


def _start(draft: Draft, message: MessageAccepted) -> None:
    agent = agent_of(draft, message)
    spec = draft.catalog.get(agent, message.specs_offset)
    tenant = tenant_of_session(message.session_id, message.tenant)
    if spec is None or not spec.serves(tenant):
        known = draft.catalog.as_of(message.specs_offset).items()
        turn_away(draft, message, unknown_agent(agent, [name for name, other in known if other.serves(tenant)]))
        return
    entry = UserEntry(turn=draft.head.turns + 1, message_id=message.message_id, content=message.content)
    too_much = entry_breach(draft, spec.limits, entry)
    if too_much is not None:
        turn_away(draft, message, too_much)
        return
    number = entry.turn
    turn = Turn(
        number=number,
        turn_id=turn_id(draft.head.session_id, number),
        message_id=message.message_id,
        agent=agent,
        deadline=draft.at + timedelta(seconds=spec.limits.turn_seconds),
        traceparent=message.traceparent,
        user_id=message.user_id,
        tenant=message.tenant,
        asked_by=message.asked_by,
        hops=message.hops,
        budget_micros=message.budget_micros,
        specs_offset=message.specs_offset,
    )
    draft.set(turns=number, agent=agent, turn=turn)
    draft.append(entry)
    draft.publish(
        TurnStarted,
        user_id=message.user_id,
        tenant=message.tenant,
        metadata=message.metadata,
        asked_by=message.asked_by or UNSET,
    )
    call_model(draft)


# The model


def _model_returned(draft: Draft, event: ModelCompleted | ModelFailed) -> None:
    call = draft.head.turn and draft.head.turn.pending_call(event.call_id)
    if not call or call.kind != CallKind.MODEL:
        charge_late(draft, event)
        return
    charge(draft, event)
    draft.settle(call)
    count_call_of_turn(draft, event.usage, event.cost_micros)
    if draft.spec_of(draft.turn.agent) is None:
        fail(draft, agent_removed(draft.turn.agent))
    elif isinstance(event, ModelCompleted):
        _model_completed(draft, event)
    elif event.failure.code == FailureCode.CALL_TIMEOUT and event.at >= draft.turn.deadline:
        fail(draft, limit_reached(FailureCode.LIMIT_TURN_SECONDS, draft.spec.limits.turn_seconds, "seconds for a turn"))
    else:
        fail(draft, event.failure)


def _model_completed(draft: Draft, event: ModelCompleted) -> None:
    draft.append(AssistantEntry(turn=draft.turn.number, content=event.content))
    tool_uses = [block for block in event.content if isinstance(block, ToolUseBlock)]
    match event.stop_reason:
        case "tool_use" if tool_uses:
            call_tools(draft, tool_uses)
        case "end_turn" | "stop_sequence" | "max_tokens" if not tool_uses:
            complete(draft, event.stop_reason)
        case "pause_turn" if not tool_uses:
            call_model(draft)
        case other:
            fail(draft, UNUSABLE_ANSWERS.get(other) or unexpected_stop(other, len(tool_uses)))


def _broadcast(draft: Draft, event: BroadcastAccepted) -> None:
    if event.session_id == gathering_session_id(event.broadcast_id):
        begin_gathering(draft, event)
    else:
        pass_on(draft, event)


# Commands about what runs


def _cancel(draft: Draft, event: CancelRequested) -> None:
    if draft.head.sent and event.asked_by is not None:
        pass_on_cancel(draft, event)
        return
    turn, queue = draft.head.turn, draft.head.queue
    if turn is not None and event.message_id in {None, turn.message_id}:
        cancel_running(draft, event.reason, event.by)
        return
    waiting = next((message for message in queue if message.message_id == event.message_id), None)
    if waiting is None:
        if event.asked_by is None:
            draft.refusal = nothing_here(event)
        return
    draft.set(queue=tuple(message for message in queue if message is not waiting))
    cancel_waiting(draft, waiting, event.reason, event.by)


def _end_session(draft: Draft, event: SessionEndRequested) -> None:
    if draft.head.ended_at is not None:
        return
    reason = event.reason or "the session was ended"
    if draft.head.turn is not None:
        cancel_running(draft, reason, None)
    for message in draft.head.queue:
        cancel_waiting(draft, message, reason, None)
    answered = tuple(dict.fromkeys(draft.session.message_ids()))
    draft.transcript = ()
    draft.rewritten = True
    draft.set(queue=(), ended_at=draft.at, transcript_bytes=0)
    for first in range(0, len(answered), ANSWERED_IDS_PER_ENTRY):
        draft.append(AnsweredEntry(message_ids=answered[first : first + ANSWERED_IDS_PER_ENTRY]))
