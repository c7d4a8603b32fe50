"""The result of a call, as the model is told it."""

import msgspec
from msgspec import UNSET, Struct

from agents.draft import Draft
from agents.session import PendingCall, ToolResultEntry
from schemas.events import ToolCalled, ToolReturned


class Result(Struct, frozen=True):
    """What the model reads; an error is one that it can act on."""

    content: str
    is_error: bool = False


def turn_down(draft: Draft, call: PendingCall, why: str) -> None:
    """Give a pending call that cannot begin its result at once."""
    draft.publish(ToolCalled, call_id=call.call_id, tool=call.tool, input=call.input)
    take_result(draft, call, Result(why, is_error=True))


def take_result(draft: Draft, call: PendingCall, result: Result) -> None:
    """Give the model the result of a pending call, which waits no longer."""
    draft.settle(call)
    content = result.content
    if call.is_changed:
        arguments = msgspec.json.encode(call.input).decode()
        content = f"(The call was approved with other arguments: {arguments})\n{content}"
    draft.append(
        ToolResultEntry(turn=draft.turn.number, tool_use_id=call.tool_use_id, content=content, is_error=result.is_error)
    )
    draft.publish(
        ToolReturned,
        call_id=call.call_id,
        tool=call.tool,
        content=content,
        is_error=result.is_error,
        child_session_id=call.child or UNSET,
    )
