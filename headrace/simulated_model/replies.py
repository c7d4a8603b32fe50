"""What the simulated model replies: a function of the request, and of nothing else."""

from typing import Any

import msgspec

from headrace.simulated_model.directives import Directives, ToolOrder
from headrace.simulated_model.prose import announcement, answer, report, word_of_instructions
from headrace.simulated_model.requests import MessagesRequest, RequestRefusedError, ToolChoice
from headrace.simulated_model.tool_choice import choose_tools, input_for
from headrace.simulated_model.transcript import Turn
from headrace.simulated_model.usage import CHARACTERS_PER_TOKEN

REFUSAL_EXPLANATION = "The simulated model was told to refuse."


class ToolUse(msgspec.Struct, frozen=True):
    id: str
    name: str
    input: dict[str, Any]


class Reply(msgspec.Struct, frozen=True):
    """A finished reply: its text first, then the tools it asks for."""

    text: str
    tool_uses: tuple[ToolUse, ...]
    stop_reason: str
    stop_sequence: str | None = None


def plan_reply(request: MessagesRequest, turn: Turn, orders: Directives, reply_id: str) -> Reply:
    """Decide the reply to a checked request; `reply_id` makes the ids of its tool calls unique."""
    calls = _calls(request, turn, orders)
    if calls:
        uses = tuple(
            ToolUse(f"toolu_{reply_id}{index:02d}", call.name, call.input or {}) for index, call in enumerate(calls)
        )
        text = "" if turn.has_results else announcement([call.name for call in calls])
        return Reply(text, uses, "tool_use")
    word = word_of_instructions(request, orders.text)
    if orders.say is not None:
        text = orders.say
    elif word is not None:
        text = word
    elif turn.exchanges:
        text = report(turn.exchanges)
    else:
        text = answer(orders.text, request.messages)
    return _stopped(request, turn, orders, text)


def _calls(request: MessagesRequest, turn: Turn, orders: Directives) -> list[ToolOrder]:
    """The tool calls to ask for now; none once the tools have answered."""
    tools = request.offered_tools()
    choice = request.tool_choice or ToolChoice()
    named = {tool.name: tool for tool in tools}
    if orders.tool_loop is not None:
        wanted = [ToolOrder(orders.tool_loop)]
    elif turn.has_results or turn.is_continued:
        wanted = []
    elif orders.tools:
        wanted = orders.tools
    elif orders.say is not None or orders.stop is not None or choice.type == "none":
        wanted = []
    else:
        wanted = _chosen(request, choice, orders.text)
    if choice.disable_parallel_tool_use:
        wanted = wanted[:1]
    return [
        call if call.input is not None else ToolOrder(call.name, input_for(named.get(call.name), orders.text))
        for call in wanted
    ]


def _chosen(request: MessagesRequest, choice: ToolChoice, text: str) -> list[ToolOrder]:
    tools = request.offered_tools()
    if choice.type == "tool":
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        if not tools:
            raise RequestRefusedError(f"tool_choice.name: Tool '{choice.name}' not found in provided tools")
    found = choose_tools(tools, text)
    if not found and choice.type in ("any", "tool"):
        if not tools:
            raise RequestRefusedError("tool_choice: type 'any' may only be specified while providing tools")
        found = [ToolOrder(tools[0].name)]
    return found


def _stopped(request: MessagesRequest, turn: Turn, orders: Directives, text: str) -> Reply:
    """End the answer for the ordered reason, or for the one that the request's own limits give."""
    reason = orders.stop
    if reason is None or (reason == "pause_turn" and turn.is_continued):
        return _limited(request, text)
    if reason == "end_turn":
        return Reply(text, (), reason)
    if reason == "refusal":
        return Reply("", (), reason)
    half = text[: len(text) // 2 + 1].rstrip() or text
    sequence = (request.stop_sequences or ["\n\n"])[0] if reason == "stop_sequence" else None
    return Reply(half, (), reason, sequence)


def _limited(request: MessagesRequest, text: str) -> Reply:
    for sequence in request.stop_sequences or ():
        before, found, _ = text.partition(sequence)
        if found:
            return Reply(before, (), "stop_sequence", sequence)
    if len(text) > request.max_tokens * CHARACTERS_PER_TOKEN:
        return Reply(text[: request.max_tokens * CHARACTERS_PER_TOKEN], (), "max_tokens")
    return Reply(text, (), "end_turn")


def reply_characters(reply: Reply) -> int:
    """Return the size of a reply, from which its output tokens are estimated."""
    size = len(reply.text)
    for use in reply.tool_uses:
        size += len(use.name) + len(msgspec.json.encode(use.input)) + 40
    return size
