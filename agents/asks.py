"""Agents that ask agents: a call becomes a session of its own, whose end is the call's result; and hand-offs."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from agents.accounts import count_child, share, wait_for_bill, wait_for_rest
from agents.draft import Draft
from agents.limits import Limits
from agents.results import Result, take_result, turn_down
from agents.session import WAITING, CallKind, PendingCall, Turn, UserEntry
from agents.spec import AgentSpec, ask_tool, handoff_tool
from schemas.asks import AskedBy
from schemas.content import ImageBlock, TextBlock
from schemas.events import HandedOff, ToolCalled
from schemas.ids import child_session_id, tenant_of_session
from schemas.log import CancelRequested, ChildEnded, MessageAccepted

MESSAGE = "message"
"""The argument of the tools that ask, and of those that hand off."""


def definitions(spec: AgentSpec, spec_of: Callable[[str], AgentSpec | None]) -> Iterator[dict[str, Any]]:
    """The tools that ask and hand off, as the model is told of them; agents that do not exist are left out."""
    for name in spec.asked:
        if (asked := spec_of(name)) is not None:
            text = f"Ask the agent `{name}`, and wait for its answer. It sees your message only."
            yield _definition(ask_tool(name), f"{text} {asked.description}", "What to ask, with all it must know.")
    for name in spec.handoffs:
        if (other := spec_of(name)) is not None:
            text = f"Pass this conversation to the agent `{name}`, which sees all of it and goes on from here."
            yield _definition(handoff_tool(name), f"{text} {other.description}", "Why, in one sentence.")


def _definition(name: str, description: str, argument: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {MESSAGE: {"type": "string", "minLength": 1, "description": argument}},
        "required": [MESSAGE],
        "additionalProperties": False,
    }
    return {"name": name, "description": description.strip(), "input_schema": schema}


def start_ask(draft: Draft, call: PendingCall, agent: str, limits: Limits) -> None:
    """Begin the session that answers, within the limits of who asks; where that cannot be, the call has its result."""
    turn = draft.turn
    message = call.input.get(MESSAGE)
    child = child_session_id(draft.head.session_id, turn.number, call.step)
    error = ""
    if not isinstance(message, str) or not message.strip():
        error = f"expected `{MESSAGE}` to be a text, got {message!r}: call it again with one"
    elif not _is_there(draft, agent):
        error = f"the agent `{agent}` does not exist any more: go on without it"
    else:
        error = over_limit(draft, limits, f"`{agent}`")
    if error:
        turn_down(draft, call, error)
        return
    asked = replace(
        call,
        kind=CallKind.ASK,
        since=draft.at,
        child=child,
        expires_at=draft.at + timedelta(seconds=limits.ask_seconds),
    )
    draft.exchange(call, asked)
    draft.set_turn(asks=turn.asks + 1)
    draft.publish(ToolCalled, call_id=call.call_id, tool=call.tool, input=call.input, child_session_id=child)
    draft.facts.append(
        MessageAccepted(
            session_id=child,
            message_id=call.call_id,
            content=(TextBlock(text=str(message)), *_images(draft, agent=call.agent or turn.agent)),
            at=draft.at,
            agent=agent,
            user_id=turn.user_id,
            tenant=turn.tenant,
            traceparent=turn.traceparent,
            specs_offset=turn.specs_offset,
            asked_by=share(
                AskedBy(session_id=draft.head.session_id, call_id=call.call_id, depth=ask_depth(turn)), turn
            ),
            hops=turn.hops,
        )
    )


def _images(draft: Draft, *, agent: str) -> Iterator[ImageBlock]:
    """What a pattern's asks show besides their text: the turn's images. A model says in words what it has seen."""
    spec = draft.spec_of(agent)
    if spec is not None and spec.pattern is not None:
        for entry in draft.session.newest_of_turn(draft.turn.number):
            if isinstance(entry, UserEntry):
                yield from (block for block in entry.content if isinstance(block, ImageBlock))


def ask_depth(turn: Turn) -> int:
    """How many calls stand above what the turn asks."""
    return 1 + (turn.asked_by.depth if turn.asked_by else 0)


def over_limit(draft: Draft, limits: Limits, asked: str) -> str:
    """Which limit forbids the turn to ask, as its model is told it; empty where none does."""
    if ask_depth(draft.turn) > limits.ask_depth:
        return f"expected at most {limits.ask_depth} agents that ask each other in a row: answer without {asked}"
    if draft.turn.asks >= limits.asks_per_turn:
        return f"expected at most {limits.asks_per_turn} questions to agents in a turn: go on with what you have"
    return ""


def returned(draft: Draft, call: PendingCall, event: ChildEnded) -> None:
    """The child's turn has ended, in whatever way: the model is told how."""
    count_child(draft, event)
    if call.via:
        wait_for_rest(draft, call)
    take_result(draft, call, Result(event.content, is_error=event.is_error))


def timed_out(draft: Draft, call: PendingCall) -> None:
    """The child takes longer than an answer is worth: it is cancelled."""
    seconds = (draft.at - call.since) // timedelta(seconds=1)
    cancel_child(draft, call, f"nobody waits for longer than {seconds} s")
    take_result(draft, call, Result(f"no answer within {seconds} s: go on without it", is_error=True))


def cancel_child(draft: Draft, call: PendingCall, reason: str) -> None:
    """End the session that a call waits for; one that has ended already says nothing."""
    wait_for_bill(draft, call)
    cancel = CancelRequested(
        session_id=call.child,
        command_id=f"{call.call_id}/cancel",
        at=draft.at,
        message_id=call.call_id,
        reason=reason,
        asked_by=AskedBy(session_id=draft.head.session_id, call_id=call.call_id, depth=0),
    )
    if call.via:
        # What was begun through another session may not have come to the child yet.
        draft.facts.append(replace(cancel, session_id=call.via))
    draft.facts.append(cancel)


def hand_off(draft: Draft, call: PendingCall, agent: str, limits: Limits) -> None:
    """Let another agent go on with the conversation: it sees the whole transcript, and has its own tools and limits."""
    turn = draft.turn
    if not _is_there(draft, agent):
        turn_down(draft, call, f"the agent `{agent}` does not exist any more: go on yourself")
        return
    if turn.handoffs >= limits.handoffs_per_turn:
        limit = limits.handoffs_per_turn
        turn_down(draft, call, f"expected at most {limit} hand-offs in a turn: answer yourself")
        return
    reason = str(call.input.get(MESSAGE, ""))
    draft.publish(ToolCalled, call_id=call.call_id, tool=call.tool, input=call.input)
    take_result(draft, call, Result(f"The conversation was passed to the agent `{agent}`, which goes on from here."))
    draft.publish(HandedOff, call_id=call.call_id, to_agent=agent, reason=reason)
    # What runs, or waits for people, stays a call of the agent that made it, with that one's rules and under its names.
    pending = tuple(
        replace(other, agent=other.agent or turn.agent) if other.kind in {CallKind.APPROVAL, CallKind.TOOL} else other
        for other in draft.turn.pending
    )
    draft.set_turn(agent=agent, handoffs=turn.handoffs + 1, pending=pending)
    draft.set(agent=agent)


def _is_there(draft: Draft, agent: str) -> bool:
    spec = draft.spec_of(agent)
    return spec is not None and spec.serves(tenant_of_session(draft.head.session_id, draft.turn.tenant))


def give_back_waiting_time(draft: Draft, ended: PendingCall) -> None:
    """The time that people and asked agents take is not the turn's; while several calls wait, it passes once."""
    waited = max(draft.at - ended.since, timedelta(0))
    still = tuple(
        replace(call, since=draft.at) if call.kind in WAITING and call.call_id != ended.call_id else call
        for call in draft.turn.pending
    )
    draft.set_turn(deadline=draft.turn.deadline + waited, pending=still)
