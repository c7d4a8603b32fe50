"""A request to the Messages API: its types, and decoding that refuses what the real API refuses."""

import re
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

NO_JSON = msgspec.Raw(b"")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class RequestRefusedError(Exception):
    """The request cannot be served as it is: `status`, `error_type` and the message go to the caller."""

    def __init__(self, message: str, *, status: int = 400, error_type: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.error_type = error_type


class CacheControl(msgspec.Struct, frozen=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class Block(msgspec.Struct):
    """A content block of any type: the fields of the types that we look into, and none of the others."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NO_JSON
    tool_use_id: str | None = None
    content: msgspec.Raw = NO_JSON
    is_error: bool | None = None
    source: msgspec.Raw = NO_JSON
    thinking: str | None = None
    data: str | None = None
    cache_control: CacheControl | None = None


class Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    def blocks(self) -> list[Block]:
        if isinstance(self.content, str):
            return [Block(type="text", text=self.content)]
        return self.content


class ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Tool(msgspec.Struct, frozen=True):
    name: str
    description: str = ""
    input_schema: dict[str, Any] | None = None
    type: str | None = None


class Prompt(msgspec.Struct):
    """What `count_tokens` takes; `MessagesRequest` adds what a reply needs."""

    model: str
    messages: list[Message]
    system: str | list[Block] | None = None
    tools: msgspec.Raw = NO_JSON
    tool_choice: ToolChoice | None = None
    cache_control: CacheControl | None = None

    def offered_tools(self) -> tuple[Tool, ...]:
        return decode_tools(bytes(self.tools)) if self.tools else ()


class MessagesRequest(Prompt, kw_only=True):
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stop_sequences: list[str] | None = None
    stream: bool | None = None


_request_decoder = msgspec.json.Decoder(MessagesRequest)
_prompt_decoder = msgspec.json.Decoder(Prompt)
_tools_decoder = msgspec.json.Decoder(list[Tool] | None)


def decode_request(body: bytes) -> MessagesRequest:
    """Decode the body of `POST /v1/messages`; raises RequestRefusedError."""
    try:
        return _request_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise RequestRefusedError(_explain(error)) from error


def decode_prompt(body: bytes) -> Prompt:
    """Decode the body of `POST /v1/messages/count_tokens`; raises RequestRefusedError."""
    try:
        return _prompt_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise RequestRefusedError(_explain(error)) from error


@lru_cache(maxsize=1024)
def decode_tools(raw: bytes) -> tuple[Tool, ...]:
    """Decode and check the tools of a request. An agent sends the same bytes each time, so they are looked at once."""
    try:
        tools = tuple(_tools_decoder.decode(raw) or ())
    except msgspec.DecodeError as error:
        raise RequestRefusedError(f"tools: {_explain(error)}") from error
    for index, tool in enumerate(tools):
        if not TOOL_NAME.fullmatch(tool.name):
            raise RequestRefusedError(f"tools.{index}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        is_custom = tool.type in (None, "custom")
        if is_custom and (tool.input_schema is None or tool.input_schema.get("type") != "object"):
            raise RequestRefusedError(f"tools.{index}.input_schema.type: Field required, and it must be 'object'")
    if len({tool.name for tool in tools}) < len(tools):
        raise RequestRefusedError("tools: Tool names must be unique.")
    return tools


def _explain(error: msgspec.DecodeError) -> str:
    """Say it as the real API does: `messages.content: Field required`."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return f"The request body is not valid JSON: {text}"
    what, _, where = text.partition(" - at `")
    path = where.rstrip("`").removeprefix("$").replace("[...]", ".N").strip(".")
    missing = re.fullmatch(r"Object missing required field `(.+)`", what)
    if missing:
        return f"{'.'.join(filter(None, (path, missing[1])))}: Field required"
    return f"{path or 'request'}: {what}"
