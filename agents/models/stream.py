"""The events of a streamed message, folded into its blocks, usage and stop reason. Pure and incremental.

What the API adds in later versions (event types, delta types, fields) is ignored, with one exception: a block of an
unknown type is a fault, because the transcript could not keep it.
"""

from typing import Any

import msgspec
from msgspec import Struct

from agents.models.faults import Fault, of_stream_error, stream_broken, unknown_block
from schemas.content import AssistantBlock, RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock
from schemas.refusal import UNREADABLE
from schemas.usage import Usage

BLOCK_TYPES = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
MAX_TOKENS = "max_tokens"


class _WireUsage(Struct, frozen=True):
    """Counts are absent or null where an event does not speak of them."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(Struct):
    model: str
    usage: _WireUsage = _WireUsage()


class _Block(Struct):
    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None


class _Delta(Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    stop_reason: str | None = None


class _Error(Struct):
    type: str = "unknown error"
    message: str = ""


class _Event(Struct):
    """All events in one shape, so that an unknown type is no error."""

    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _WireUsage | None = None
    error: _Error | None = None


class _Draft:
    """A block while it grows: `parts` are its text, thinking or input JSON."""

    __slots__ = ("block", "parts", "signature")

    def __init__(self, block: _Block) -> None:
        self.block = block
        self.parts = [part] if (part := block.text or block.thinking) else []
        self.signature = block.signature


class Message(Struct, frozen=True, kw_only=True):
    """A whole message."""

    content: tuple[AssistantBlock, ...]
    stop_reason: str
    model: str


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_input = msgspec.json.Decoder(dict[str, Any]).decode


class MessageAssembler:
    """One streamed message: feed it the data of each event, then ask for the message."""

    __slots__ = ("_drafts", "_is_started", "_text", "is_stopped", "model", "stop_reason", "usage")

    def __init__(self) -> None:
        self._drafts: dict[int, _Draft] = {}
        self._text: list[str] = []
        self._is_started = False
        self.is_stopped = False
        self.model = ""
        self.stop_reason: str | None = None
        self.usage = Usage()

    def feed(self, data: bytes) -> Fault | None:
        """Take the data of one event; a fault ends the stream."""
        try:
            event = _decode_event(data)
            return self._apply(event)
        except UNREADABLE as error:
            return stream_broken(f"an event is not what the Messages API sends ({error})")

    def take_text(self) -> str:
        """The text that came since the last time, for the deltas."""
        if not self._text:
            return ""
        text = "".join(self._text)
        self._text.clear()
        return text

    def finish(self) -> Message | Fault:
        """The message, after the end of its stream."""
        if not self.is_stopped or self.stop_reason is None:
            return stream_broken("it ended before the message did")
        content: list[AssistantBlock] = []
        for draft in self._drafts.values():
            match self._built(draft):
                case Fault() as fault:
                    return fault
                case None:
                    pass
                case block:
                    content.append(block)
        return Message(content=tuple(content), stop_reason=self.stop_reason, model=self.model)

    def _apply(self, event: _Event) -> Fault | None:
        match event:
            case _Event(type="content_block_delta", delta=_Delta() as delta):
                return self._grow(event.index, delta)
            case _Event(type="content_block_start", content_block=_Block() as block):
                return self._start(event.index, block)
            case _Event(type="message_start", message=_Message() as message):
                self._is_started = True
                self.model = message.model
                self._count(message.usage)
            case _Event(type="message_delta", delta=_Delta() as delta):
                self.stop_reason = delta.stop_reason or self.stop_reason
                self._count(event.usage)
            case _Event(type="message_stop"):
                self.is_stopped = True
            case _Event(type="error"):
                error = event.error or _Error()
                return of_stream_error(error.type, error.message)
            case _:
                pass
        return None

    def _start(self, index: int, block: _Block) -> Fault | None:
        if block.type not in BLOCK_TYPES:
            return unknown_block(block.type)
        if not self._is_started or index in self._drafts:
            return stream_broken(f"block {index} begins where it cannot")
        self._drafts[index] = _Draft(block)
        if block.type == "text" and block.text:
            self._text.append(block.text)
        return None

    def _grow(self, index: int, delta: _Delta) -> Fault | None:
        draft = self._drafts.get(index)
        if draft is None:
            return stream_broken(f"block {index} goes on without a beginning")
        match delta.type:
            case "text_delta":
                draft.parts.append(delta.text)
                self._text.append(delta.text)
            case "input_json_delta":
                draft.parts.append(delta.partial_json)
            case "thinking_delta":
                draft.parts.append(delta.thinking)
            case "signature_delta":
                draft.signature += delta.signature
            case _:
                pass
        return None

    def _count(self, counts: _WireUsage | None) -> None:
        """Take over the counts: each event's are those of the whole message so far."""
        if counts is None:
            return
        known = self.usage
        self.usage = Usage(
            input_tokens=_latest(counts.input_tokens, known.input_tokens),
            cache_read_tokens=_latest(counts.cache_read_input_tokens, known.cache_read_tokens),
            cache_write_tokens=_latest(counts.cache_creation_input_tokens, known.cache_write_tokens),
            output_tokens=_latest(counts.output_tokens, known.output_tokens),
        )

    def _built(self, draft: _Draft) -> AssistantBlock | Fault | None:
        """The finished block; None for a text block of nothing or white space, which no request may hold."""
        block = draft.block
        match block.type:
            case "text":
                text = "".join(draft.parts)
                return TextBlock(text=text) if text.strip() else None
            case "thinking":
                return ThinkingBlock(thinking="".join(draft.parts), signature=draft.signature)
            case "redacted_thinking":
                return RedactedThinkingBlock(data=block.data)
            case "tool_use":
                return self._tool_use(draft)
            case _:
                raise AssertionError(f"block type {block.type} was let in")

    def _tool_use(self, draft: _Draft) -> ToolUseBlock | Fault:
        block = draft.block
        written = "".join(draft.parts)
        if not block.id or not block.name:
            return stream_broken("a tool use has no id or no name")
        try:
            arguments = _decode_input(written) if written else block.input or {}
        except UNREADABLE as error:
            if self.stop_reason != MAX_TOKENS:
                return stream_broken(f"the input of tool {block.name} is not a JSON object ({error})")
            arguments = {}
        return ToolUseBlock(id=block.id, name=block.name, input=arguments)


def _latest(count: int | None, known: int) -> int:
    return known if count is None else count
