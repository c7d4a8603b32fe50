"""What a valid transcript is: every `tool_use` has exactly one `tool_result`, in the next message.

Messages of one role may follow each other, as at the real API, which merges them.
"""

import re

import msgspec

from headrace.simulated_model.requests import Block, Message, RequestRefusedError

BLOCK_TYPES_BY_ROLE = {
    "user": {"text", "image", "document", "search_result", "tool_result"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
    "system": {"text"},
}
NOTE = re.compile(r"\((?:This request|The user cancelled this request) [^()]*\)")
"""By which Headrace tells a model that a turn ended without an answer."""


class Turn(msgspec.Struct, frozen=True):
    """The turn that a request belongs to: from the last user message with a text to the end of the transcript."""

    text: str
    step: int
    """1 for the first model call of the turn, 2 for the one after the first tool results, and so on."""
    exchanges: list[tuple[Block, Block]]
    """The tool calls of this turn with their results, in order."""
    has_results: bool
    is_continued: bool
    """The transcript ends with an assistant message: the answer goes on from there."""


def check_transcript(messages: list[Message]) -> None:
    """Refuse a transcript that the real API would refuse; raises RequestRefusedError."""
    if not messages:
        raise RequestRefusedError("messages: at least one message is required")
    if messages[0].role != "user":
        raise RequestRefusedError("messages: first message must use the user role")
    waiting: list[str] = []
    seen: set[str] = set()
    last = len(messages) - 1
    for index, message in enumerate(messages):
        content = message.content
        if isinstance(content, str):
            if not content or content.isspace():
                raise RequestRefusedError(f"messages.{index}: all messages must have non-empty content")
            if waiting:
                _refuse_unpaired(index - 1, waiting)
            continue
        if not content and not (index == last and message.role == "assistant"):
            raise RequestRefusedError(f"messages.{index}: all messages must have non-empty content")
        types = _checked_types(content, BLOCK_TYPES_BY_ROLE[message.role], index)
        if waiting or "tool_result" in types:
            _check_results(content, waiting, index)
        waiting = _tool_uses(content, seen, index) if "tool_use" in types else []
    if waiting:
        _refuse_unpaired(last, waiting)


def _checked_types(blocks: list[Block], allowed: set[str], index: int) -> set[str]:
    types: set[str] = set()
    for position, block in enumerate(blocks):
        types.add(block.type)
        if block.type == "text" and (not block.text or block.text.isspace()):
            path = f"messages.{index}.content.{position}"
            raise RequestRefusedError(f"{path}.text: text content blocks must be non-empty")
    if not types <= allowed:
        wrong = ", ".join(sorted(types - allowed))
        raise RequestRefusedError(f"messages.{index}.content: a block of type '{wrong}' cannot be here")
    return types


def _check_results(blocks: list[Block], waiting: list[str], index: int) -> None:
    """Compare the results in one message with the tool calls of the message before it."""
    answered: set[str] = set()
    is_past_results = False
    for position, block in enumerate(blocks):
        if block.type != "tool_result":
            is_past_results = True
            continue
        path = f"messages.{index}.content.{position}"
        if block.tool_use_id is None:
            raise RequestRefusedError(f"{path}.tool_use_id: Field required")
        if block.tool_use_id not in waiting:
            raise RequestRefusedError(
                f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if block.tool_use_id in answered:
            raise RequestRefusedError(
                f"{path}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
                f"{block.tool_use_id}"
            )
        if is_past_results:
            raise RequestRefusedError(f"{path}: `tool_result` blocks must come first in the content of a message")
        answered.add(block.tool_use_id)
    if len(answered) < len(waiting):
        _refuse_unpaired(index - 1, [tool_use_id for tool_use_id in waiting if tool_use_id not in answered])


def _tool_uses(blocks: list[Block], seen: set[str], index: int) -> list[str]:
    found: list[str] = []
    for position, block in enumerate(blocks):
        if block.type != "tool_use":
            continue
        path = f"messages.{index}"
        if not block.id or not block.name or not bytes(block.input).startswith(b"{"):
            raise RequestRefusedError(f"{path}.content.{position}: a tool_use needs id, name and an object as input")
        if block.id in seen:
            raise RequestRefusedError(f"{path}.content.{position}: `tool_use` ids must be unique: {block.id}")
        seen.add(block.id)
        found.append(block.id)
    return found


def _refuse_unpaired(index: int, tool_use_ids: list[str]) -> None:
    raise RequestRefusedError(
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(tool_use_ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
        "message."
    )


def read_turn(messages: list[Message]) -> Turn:
    """Find the turn at the end of a checked transcript."""
    start, text = len(messages) - 1, ""
    for index in range(len(messages) - 1, -1, -1):
        start = index
        if messages[index].role == "user" and (text := _asked_in(messages[index])):
            break
    calls: dict[str, Block] = {}
    exchanges: list[tuple[Block, Block]] = []
    step = 1
    for message in messages[start + 1 :]:
        step += message.role == "assistant"
        for block in message.blocks():
            if block.type == "tool_use":
                calls[block.id or ""] = block
            elif block.type == "tool_result":
                exchanges.append((calls[block.tool_use_id or ""], block))
    last = messages[-1]
    return Turn(
        text=text,
        step=step,
        exchanges=exchanges,
        has_results=start < len(messages) - 1 and any(block.type == "tool_result" for block in last.blocks()),
        is_continued=last.role == "assistant",
    )


def _asked_in(message: Message) -> str:
    """Return the text of a message after the last note in it: what is before belongs to turns without an answer.

    Messages of one role are merged, so a user's message that was not answered is in one with the next one; a note in
    brackets, a block of its own, stands between them.
    """
    said = said_in(message)
    notes = [
        block.text or ""
        for block in (() if isinstance(message.content, str) else message.content)
        if block.type == "text" and NOTE.fullmatch(block.text or "")
    ]
    return said.rpartition(f"{notes[-1]}\n")[2] if notes else said


def said_in(message: Message) -> str:
    """Return the text of a message, without what its tools returned."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(block.text for block in message.content if block.type == "text" and block.text)
