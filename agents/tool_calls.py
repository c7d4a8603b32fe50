"""The calls that the model asks for: of tools, of agents, and hand-offs; and what becomes of their results."""

from msgspec.structs import replace

from agents.accounts import count_late_child, share_out
from agents.approvals import decided_by_people, denial, expire, request_approval
from agents.asks import give_back_waiting_time, hand_off, returned, start_ask, timed_out
from agents.breaches import call_breach
from agents.broadcasting import start_broadcast
from agents.draft import Draft
from agents.endings import fail
from agents.failures import agent_removed, limit_reached
from agents.model_call import call_model, spending_refused, time_left_ms
from agents.overspending import approve_spending, deny_spending, is_about_budget, may_spend
from agents.results import Result, take_result, turn_down
from agents.session import WAITING, AssistantEntry, CallKind, PendingCall
from agents.spec import BROADCAST_TOOL, ask_tool, handoff_tool
from schemas.content import ToolUseBlock
from schemas.effects import CallTool
from schemas.events import ToolCalled
from schemas.failure import FailureCode
from schemas.ids import call_id
from schemas.log import ApprovalDecided, ChildEnded, SpendingRefused, TimerFired, ToolCompleted, ToolFailed, ToolStarted

CallFact = ToolStarted | ToolCompleted | ToolFailed | ChildEnded | ApprovalDecided | TimerFired | SpendingRefused
"""What happens to a call after it was begun."""


def call_went_on(draft: Draft, event: CallFact) -> None:
    """Follow what happened to one of the turn's calls; what is about another call, or none, changes nothing."""
    match event:
        case ToolStarted():
            _tool_started(draft, event)
        case ToolCompleted() | ToolFailed():
            _tool_returned(draft, event)
        case ChildEnded():
            _child_ended(draft, event)
        case ApprovalDecided():
            _approval_decided(draft, event)
        case TimerFired():
            _timer_fired(draft, event)
        case SpendingRefused():
            spending_refused(draft, event)


def call_tools(draft: Draft, tool_uses: list[ToolUseBlock]) -> None:
    """Begin all calls of an answer; those that cannot begin have their result at once."""
    limit = draft.spec.limits.tool_calls_per_turn
    if draft.turn.tool_calls + len(tool_uses) > limit:
        fail(draft, limit_reached(FailureCode.LIMIT_TOOL_CALLS, limit, "tool calls in a turn"))
        return
    breach = call_breach(draft)
    if breach is not None:
        # The model could not be told the results, so the tools must not have their effects.
        fail(draft, breach)
        return
    if not may_spend(draft):
        return
    draft.set_turn(tool_calls=draft.turn.tool_calls + len(tool_uses))
    asks = {BROADCAST_TOOL, *(ask_tool(agent) for agent in draft.spec.asked)} & set(draft.spec.offered)
    share_out(draft, sum(use.name in asks for use in tool_uses))
    # A hand-off changes whose tools these are: it comes last.
    handoffs = {handoff_tool(agent) for agent in draft.spec.handoffs}
    for use in sorted(tool_uses, key=lambda use: use.name in handoffs):
        _begin(draft, use)
    _go_on(draft)


def _begin(draft: Draft, use: ToolUseBlock) -> None:
    step = draft.turn.steps + 1
    draft.set_turn(steps=step)
    call = PendingCall(
        kind=CallKind.TOOL,
        call_id=call_id(draft.turn.turn_id, step),
        step=step,
        since=draft.at,
        tool_use_id=use.id,
        tool=use.name,
        input=use.input,
    )
    if use.name not in draft.spec.offered:
        draft.expect(call)
        offered = ", ".join(draft.spec.offered) or "none"
        turn_down(draft, call, f"expected one of the tools {offered}, got `{use.name}`: use one of them")
        return
    rule = draft.spec.approval_rule(use.name)
    if rule is not None and rule.applies_to(use.input):
        request_approval(draft, call, rule)
    else:
        draft.expect(call)
        _order(draft, call)


def _order(draft: Draft, call: PendingCall) -> None:
    """Let a call begin that is pending and needs nobody's approval any more."""
    spec = draft.spec_of(call.agent or draft.turn.agent)
    asked = next((agent for agent in (spec.asked if spec else ()) if ask_tool(agent) == call.tool), None)
    to_agent = next((agent for agent in (spec.handoffs if spec else ()) if handoff_tool(agent) == call.tool), None)
    if spec is not None and asked is not None:
        start_ask(draft, call, asked, spec.limits)
    elif spec is not None and to_agent is not None:
        hand_off(draft, call, to_agent, spec.limits)
    elif spec is not None and spec.broadcasts and call.tool == BROADCAST_TOOL:
        start_broadcast(draft, call, spec)
    else:
        draft.publish(ToolCalled, call_id=call.call_id, tool=call.tool, input=call.input)
        draft.order(_tool_order(draft, call))


def _tool_order(draft: Draft, call: PendingCall) -> CallTool:
    return CallTool(
        session_id=draft.head.session_id,
        call_id=call.call_id,
        turn_id=draft.turn.turn_id,
        step=call.step,
        agent=call.agent or draft.turn.agent,
        tool=call.tool,
        input=call.input,
        log_offset=draft.offset,
        timeout_ms=time_left_ms(draft),
        user_id=draft.turn.user_id,
        tenant=draft.turn.tenant,
    )


def _tool_started(draft: Draft, event: ToolStarted) -> None:
    call = _pending(draft, event.call_id, CallKind.TOOL)
    if call is not None and call.started_offset is None:
        draft.exchange(call, replace(call, started_offset=draft.offset))


def _tool_returned(draft: Draft, event: ToolCompleted | ToolFailed) -> None:
    call = _pending(draft, event.call_id, CallKind.TOOL)
    if call is None:
        return
    if isinstance(event, ToolCompleted):
        take_result(draft, call, Result(event.content))
    else:
        take_result(draft, call, Result(event.failure.message, is_error=True))
    _go_on(draft)


def _child_ended(draft: Draft, event: ChildEnded) -> None:
    """An asked agent has answered. One that nobody waits for was cancelled; its cost counts all the same."""
    call = _pending(draft, event.call_id, CallKind.ASK)
    if call is None:
        count_late_child(draft, event)
        return
    if call.child != event.child_session_id:
        return
    give_back_waiting_time(draft, call)
    returned(draft, call, event)
    _go_on(draft)


def _approval_decided(draft: Draft, event: ApprovalDecided) -> None:
    call = _pending(draft, event.call_id, CallKind.APPROVAL)
    decision = decided_by_people(draft, call, event)
    if call is None or decision is None:
        return
    give_back_waiting_time(draft, call)
    if is_about_budget(call):
        _spending_decided(draft, call, decision)
        return
    if isinstance(decision, Result):
        take_result(draft, call, decision)
    else:
        draft.exchange(call, decision)
        _order(draft, decision)
    _go_on(draft)


def _spending_decided(draft: Draft, call: PendingCall, decision: PendingCall | Result) -> None:
    """Go on where the budget stopped the turn: with the calls of the last answer, or with the model."""
    if isinstance(decision, Result):
        deny_spending(draft, call, decision.content)
        return
    approve_spending(draft, call)
    last = next(iter(draft.session.newest_of_turn(draft.turn.number)), None)
    uses = last.tool_uses() if isinstance(last, AssistantEntry) else ()
    if uses and draft.spec_of(draft.turn.agent) is not None:
        call_tools(draft, list(uses))
    else:
        _go_on(draft)


def _timer_fired(draft: Draft, event: TimerFired) -> None:
    call = draft.head.turn and draft.head.turn.pending_call(event.call_id)
    if not call or call.kind not in WAITING or call.expires_at is None or event.due < call.expires_at:
        return
    give_back_waiting_time(draft, call)
    if call.kind == CallKind.APPROVAL:
        expire(draft, call)
        if is_about_budget(call):
            deny_spending(draft, call, "nobody decided in time")
            return
        take_result(draft, call, denial("nobody decided in time"))
    else:
        timed_out(draft, call)
    _go_on(draft)


def _pending(draft: Draft, call_id: str, kind: CallKind) -> PendingCall | None:
    call = draft.head.turn and draft.head.turn.pending_call(call_id)
    return call if call and call.kind == kind else None


def _go_on(draft: Draft) -> None:
    """Call the model again once every call of the round has its result."""
    if draft.turn.pending:
        return
    if draft.spec_of(draft.turn.agent) is None:
        fail(draft, agent_removed(draft.turn.agent))
    else:
        call_model(draft)
