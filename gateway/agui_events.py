"""The events of AG-UI 1.0 that a feed is told in, as its schema has them. `ag-ui-protocol` checks them in tests."""

from typing import Any, Literal

from msgspec import Struct

PROTOCOL_VERSION = "1.0"


class EventFields(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type", tag="EVENT"):
    """`timestamp`: milliseconds since 1970, where the record has a time."""

    timestamp: int | None = None


class RunStarted(EventFields, frozen=True, kw_only=True, tag="RUN_STARTED"):
    thread_id: str
    run_id: str
    protocol_version: str


class TokenUsage(Struct, frozen=True, kw_only=True, rename="camel"):
    """The input is the whole of it; what was read from and written to the cache are parts."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_input_tokens: int
    cache_write_input_tokens: int


class Success(Struct, frozen=True, tag_field="type", tag="success"):
    pass


class Cancelled(Struct, frozen=True, tag_field="type", tag="cancelled"):
    pass


class RunFinished(EventFields, frozen=True, kw_only=True, tag="RUN_FINISHED"):
    thread_id: str
    run_id: str
    outcome: Success | Cancelled
    result: dict[str, Any] | None = None
    usage: tuple[TokenUsage, ...]


class RunError(EventFields, frozen=True, kw_only=True, tag="RUN_ERROR"):
    message: str
    code: str
    usage: tuple[TokenUsage, ...]


class TextMessageStart(EventFields, frozen=True, kw_only=True, tag="TEXT_MESSAGE_START"):
    message_id: str
    role: Literal["assistant"]


class TextMessageContent(EventFields, frozen=True, kw_only=True, tag="TEXT_MESSAGE_CONTENT"):
    message_id: str
    delta: str


class TextMessageEnd(EventFields, frozen=True, kw_only=True, tag="TEXT_MESSAGE_END"):
    message_id: str


class ToolCallStart(EventFields, frozen=True, kw_only=True, tag="TOOL_CALL_START"):
    tool_call_id: str
    tool_call_name: str


class ToolCallArgs(EventFields, frozen=True, kw_only=True, tag="TOOL_CALL_ARGS"):
    tool_call_id: str
    delta: str


class ToolCallEnd(EventFields, frozen=True, kw_only=True, tag="TOOL_CALL_END"):
    tool_call_id: str


class ToolCallResult(EventFields, frozen=True, kw_only=True, tag="TOOL_CALL_RESULT"):
    message_id: str
    tool_call_id: str
    content: str
    role: Literal["tool"]


class Custom(EventFields, frozen=True, kw_only=True, tag="CUSTOM"):
    name: str
    value: dict[str, Any]


Event = (
    RunStarted
    | RunFinished
    | RunError
    | TextMessageStart
    | TextMessageContent
    | TextMessageEnd
    | ToolCallStart
    | ToolCallArgs
    | ToolCallEnd
    | ToolCallResult
    | Custom
)
