"""How a turn ends: exactly one terminal event, and a transcript that stays valid."""

from agents.bill import give_up
from agents.draft import Draft
from agents.session import OUT_OF_PROMPT, AssistantEntry, EndEntry, ToolResultEntry
from schemas.content import text_of
from schemas.events import TurnCancelled, TurnCompleted, TurnFailed
from schemas.failure import Failure
from schemas.log import MessageAccepted, ModelCompleted


def turn_away(draft: Draft, message: MessageAccepted, failure: Failure) -> None:
    """End a message's turn that never ran."""
    number = draft.head.turns + 1
    draft.set(turns=number)
    draft.append(EndEntry(turn=number, message_id=message.message_id, in_prompt=False))
    draft.publish_about(TurnFailed, number, message.message_id, agent_of(draft, message), error=failure)


def agent_of(draft: Draft, message: MessageAccepted) -> str:
    """The agent that the message is for: the one it names, else the session's, else the default one."""
    return message.agent or draft.head.agent or draft.catalog.default


def complete(draft: Draft, event: ModelCompleted) -> None:
    turn = draft.turn
    text = _answer(draft)
    draft.publish(
        TurnCompleted,
        text=text,
        usage=turn.usage,
        cost_micros=turn.cost_micros,
        stop_reason=event.stop_reason,
    )
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
    draft.publish(TurnFailed, error=failure, usage=turn.usage, cost_micros=turn.cost_micros)
    give_up(draft)
    draft.set(turn=None)


def cancel_running(draft: Draft, reason: str, by: str | None) -> None:
    turn = draft.turn
    note = "(The user cancelled this request before it was answered.)"
    _close(draft, EndEntry(turn=turn.number, message_id=turn.message_id, note=note))
    draft.publish(TurnCancelled, reason=reason, by=by, usage=turn.usage, cost_micros=turn.cost_micros)
    give_up(draft)
    draft.set(turn=None)


def cancel_waiting(draft: Draft, message: MessageAccepted, reason: str, by: str | None) -> None:
    number = draft.head.turns + 1
    draft.set(turns=number)
    draft.append(EndEntry(turn=number, message_id=message.message_id, in_prompt=False))
    agent = agent_of(draft, message)
    draft.publish_about(TurnCancelled, number, message.message_id, agent, reason=reason, by=by)


def _close(draft: Draft, end: EndEntry) -> None:
    """Pair every tool call with a result, so that the transcript stays valid, and mark the end."""
    for tool_use_id in draft.session.unpaired_tool_uses(end.turn):
        draft.append(
            ToolResultEntry(
                turn=end.turn, tool_use_id=tool_use_id, content="the turn ended before this call did", is_error=True
            )
        )
    draft.append(end)
