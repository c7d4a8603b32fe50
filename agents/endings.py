"""How a turn ends: exactly one terminal event, and a transcript that stays valid."""

from msgspec import UNSET

from agents.asks import cancel_child
from agents.bill import give_up
from agents.draft import Draft
from agents.session import OUT_OF_PROMPT, AssistantEntry, CallKind, EndEntry, ToolResultEntry, Turn
from schemas.asks import AskedBy
from schemas.content import text_of
from schemas.events import TurnCancelled, TurnCompleted, TurnFailed
from schemas.failure import Failure
from schemas.log import ChildEnded, MessageAccepted


def turn_away(draft: Draft, message: MessageAccepted, failure: Failure) -> None:
    """End a message's turn that never ran."""
    number = draft.head.turns + 1
    draft.set(turns=number)
    draft.append(EndEntry(turn=number, message_id=message.message_id, in_prompt=False))
    agent = agent_of(draft, message)
    draft.publish_about(TurnFailed, number, message.message_id, agent, error=failure)
    _answer_asker(
        draft, message.asked_by, f"the agent `{agent}` did not answer: {failure.message}", None, is_error=True
    )


def agent_of(draft: Draft, message: MessageAccepted) -> str:
    """The agent that the message is for: the one it names, else the session's, else the default one."""
    return message.agent or draft.head.agent or draft.catalog.default


def complete(draft: Draft, stop_reason: str) -> None:
    turn = draft.turn
    text = _answer(draft)
    draft.publish(
        TurnCompleted,
        text=text,
        usage=turn.usage,
        cost_micros=turn.cost_micros,
        stop_reason=stop_reason,
        asked_cost_micros=turn.asked_cost_micros or UNSET,
    )
    _answer_asker(draft, turn.asked_by, text, turn, is_error=False)
    draft.set(turn=None)


def _answer(draft: Draft) -> str:
    """The text since the last tool result; an answer that paused is in several entries."""
    texts: list[str] = []
    for entry in draft.session.newest_of_turn(draft.turn.number):
        if not isinstance(entry, AssistantEntry):
            break
        texts.append(text_of(entry.content))
    return "".join(reversed(texts))


def fail(draft: Draft, failure: Failure) -> None:
    turn = draft.turn
    note = f"(This request ended without an answer: {failure.code}.)"
    in_prompt = failure.code not in OUT_OF_PROMPT
    _close(draft, EndEntry(turn=turn.number, message_id=turn.message_id, in_prompt=in_prompt, note=note))
    draft.publish(
        TurnFailed,
        error=failure,
        usage=turn.usage,
        cost_micros=turn.cost_micros,
        asked_cost_micros=turn.asked_cost_micros or UNSET,
    )
    _answer_asker(draft, turn.asked_by, f"the agent `{turn.agent}` failed: {failure.message}", turn, is_error=True)
    give_up(draft)
    draft.set(turn=None)


def cancel_running(draft: Draft, reason: str, by: str | None) -> None:
    turn = draft.turn
    note = "(The user cancelled this request before it was answered.)"
    _close(draft, EndEntry(turn=turn.number, message_id=turn.message_id, note=note))
    draft.publish(
        TurnCancelled,
        reason=reason,
        by=by,
        usage=turn.usage,
        cost_micros=turn.cost_micros,
        asked_cost_micros=turn.asked_cost_micros or UNSET,
    )
    _answer_asker(draft, turn.asked_by, _cancelled(turn.agent, reason), turn, is_error=True)
    give_up(draft)
    draft.set(turn=None)


def cancel_waiting(draft: Draft, message: MessageAccepted, reason: str, by: str | None) -> None:
    number = draft.head.turns + 1
    draft.set(turns=number)
    draft.append(EndEntry(turn=number, message_id=message.message_id, in_prompt=False))
    agent = agent_of(draft, message)
    draft.publish_about(TurnCancelled, number, message.message_id, agent, reason=reason, by=by)
    _answer_asker(draft, message.asked_by, _cancelled(agent, reason), None, is_error=True)


def _close(draft: Draft, end: EndEntry) -> None:
    """Pair every tool call with a result, so that the transcript stays valid, and mark the end."""
    for tool_use_id in draft.session.unpaired_tool_uses(end.turn):
        draft.append(
            ToolResultEntry(
                turn=end.turn, tool_use_id=tool_use_id, content="the turn ended before this call did", is_error=True
            )
        )
    draft.append(end)
    for call in draft.turn.pending:
        if call.kind == CallKind.ASK:
            cancel_child(draft, call, "the turn that asked has ended")


def _cancelled(agent: str, reason: str) -> str:
    return f"the agent `{agent}` was cancelled{f': {reason}' if reason else ''}"


def _answer_asker(draft: Draft, asked_by: AskedBy | None, content: str, turn: Turn | None, *, is_error: bool) -> None:
    """Where the message is of another session, its end is the result of that session's call."""
    if asked_by is None:
        return
    draft.facts.append(
        ChildEnded(
            session_id=asked_by.session_id,
            call_id=asked_by.call_id,
            child_session_id=draft.head.session_id,
            content=content,
            at=draft.at,
            is_error=is_error,
            tokens=turn.usage.total_tokens + turn.asked_tokens if turn else 0,
            cost_micros=turn.cost_micros + turn.asked_cost_micros if turn else 0,
            calls=turn.calls + turn.asked_calls if turn and asked_by.budget_calls is not UNSET else 0,
        )
    )
