"""Events of a streamed message to blocks, usage and stop reason."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models.faults import Fault
from agents.models.stream import Message, MessageAssembler
from schemas.content import RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock
from schemas.failure import FailureCode
from schemas.usage import Usage

Event = dict[str, Any]


def start(**usage: int | None) -> Event:
    return {"type": "message_start", "message": {"model": "claude-x", "content": [], "usage": usage}}


def block(index: int, **content: object) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, type: str, **content: str) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": {"type": type, **content}}


def end(reason: str | None = "end_turn", **usage: int) -> list[Event]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


def tool_use(*parts: str) -> list[Event]:
    pieces = [delta(0, "input_json_delta", partial_json=part) for part in parts]
    return [start(), block(0, type="tool_use", id="toolu_1", name="look", input={}), *pieces]


def fed(*events: Event) -> tuple[MessageAssembler, Fault | None]:
    """Feed the events until one is a fault."""
    message = MessageAssembler()
    for event in events:
        if fault := message.feed(msgspec.json.encode(event)):
            return message, fault
    return message, None


def finished(*events: Event) -> Message | Fault:
    message, fault = fed(*events)
    assert fault is None
    return message.finish()


def completed(*events: Event) -> Message:
    result = finished(*events)
    assert isinstance(result, Message)
    return result


def test_every_block_type_is_kept_verbatim() -> None:
    """Thinking with its signature, redacted thinking, text and tool use come out as they came, in their order."""
    message = completed(
        start(),
        block(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm"),
        delta(0, "thinking_delta", thinking="m."),
        delta(0, "signature_delta", signature="c2ln"),
        {"type": "content_block_stop", "index": 0},
        block(1, type="redacted_thinking", data="b3BhcXVl"),
        block(2, type="text", text=""),
        delta(2, "text_delta", text="It is "),
        {"type": "ping"},
        delta(2, "text_delta", text="sunny."),
        block(3, type="tool_use", id="toolu_1", name="weather", input={}),
        delta(3, "input_json_delta", partial_json='{"city": "P'),
        delta(3, "input_json_delta", partial_json='aris"}'),
        *end("tool_use"),
    )
    assert message.content == (
        ThinkingBlock(thinking="Hmm.", signature="c2ln"),
        RedactedThinkingBlock(data="b3BhcXVl"),
        TextBlock(text="It is sunny."),
        ToolUseBlock(id="toolu_1", name="weather", input={"city": "Paris"}),
    )
    assert (message.stop_reason, message.model) == ("tool_use", "claude-x")


@pytest.mark.parametrize("text", ["", " \n"])
def test_text_without_content_is_dropped(text: str) -> None:
    """The API refuses such a block when the transcript comes back."""
    assert completed(start(), block(0, type="text", text=text), *end()).content == ()


def test_usage_is_the_latest_count_of_each_kind() -> None:
    """The start tells the input, the end the output; a null or absent count takes nothing back."""
    message, _ = fed(
        start(input_tokens=10, cache_read_input_tokens=5, cache_creation_input_tokens=None, output_tokens=1),
        *end(output_tokens=42, cache_creation_input_tokens=7),
    )
    assert message.usage == Usage(input_tokens=10, cache_read_tokens=5, cache_write_tokens=7, output_tokens=42)


def test_text_can_be_taken_while_it_comes() -> None:
    """Each piece is taken once; what is no text shows nothing."""
    message, _ = fed(start(), block(0, type="text", text="a"), delta(0, "text_delta", text="b"))
    assert message.take_text() == "ab"
    assert message.take_text() == ""
    message.feed(msgspec.json.encode(delta(0, "text_delta", text="c")))
    assert message.take_text() == "c"


@pytest.mark.parametrize(
    "events",
    [
        [],
        [start()],
        [start(), block(0, type="text", text="half an ans")],
        [start(), end()[0]],
        [start(), *end(None)],
    ],
)
def test_an_early_end_is_a_broken_stream(events: list[Event]) -> None:
    """A stream that ends cleanly but before the message does is no answer."""
    fault = finished(*events)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.retryable) == (FailureCode.STREAM_BROKEN, True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"type": "\xff"}',
        b'{"\xe4": 1}',
        b'{"type": "message_start", "message": 3}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "no start"}}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "no message"}}',
    ],
)
def test_a_bad_chunk_is_a_broken_stream(data: bytes) -> None:
    """What is not JSON, not an event, or out of order can be better the next time."""
    fault = MessageAssembler().feed(data)
    assert fault is not None
    assert (fault.code, fault.retryable) == (FailureCode.STREAM_BROKEN, True)


def test_an_error_event_ends_the_stream() -> None:
    """It carries its own type, whatever the HTTP status was."""
    _, fault = fed(start(), {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    assert fault is not None
    assert fault.code is FailureCode.OVERLOADED


def test_an_unknown_block_is_a_fault_and_an_unknown_event_is_not() -> None:
    """An event of next year is skipped; a block of next year would be missing from the transcript."""
    assert completed(start(), {"type": "hint", "index": 3}, *end()).content == ()
    _, fault = fed(start(), block(0, type="hologram", light="green"))
    assert fault is not None
    assert not fault.retryable


@pytest.mark.parametrize("parts", [["{"], ["[]"], ['{"a": tru'], ["3"], ['{"a": ' + "[" * 100_000]])
def test_broken_tool_input_is_a_broken_stream(parts: list[str]) -> None:
    """No tool is called with arguments that nobody can read."""
    fault = finished(*tool_use(*parts), *end("tool_use"))
    assert isinstance(fault, Fault)
    assert (fault.code, fault.retryable) == (FailureCode.STREAM_BROKEN, True)


def test_tool_input_cut_off_at_max_tokens_is_empty() -> None:
    """The model was cut off, and would be again: the answer is kept, with the stop reason that says so."""
    message = completed(*tool_use('{"city": "Par'), *end("max_tokens"))
    assert message.content == (ToolUseBlock(id="toolu_1", name="look", input={}),)
    assert message.stop_reason == "max_tokens"


def test_a_tool_without_arguments() -> None:
    """No input delta at all means the input of the block's start."""
    assert completed(*tool_use(), *end("tool_use")).content == (ToolUseBlock(id="toolu_1", name="look", input={}),)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(-100, 100), max_size=5), st.data())
def test_tool_input_cut_anywhere(arguments: dict[str, str | int], data: st.DataObject) -> None:
    """However the input is cut into deltas, the same arguments come out."""
    written = msgspec.json.encode(arguments).decode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=6)))
    places = [0, *cuts, len(written)]
    parts = [written[start:stop] for start, stop in itertools.pairwise(places)]
    [found] = completed(*tool_use(*parts), *end("tool_use")).content
    assert found == ToolUseBlock(id="toolu_1", name="look", input=arguments)
