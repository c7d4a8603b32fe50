"""What an MCP server says, as our tools say it: names that a model may use, and results as text."""

import re
from typing import assert_never

import msgspec
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

MAX_NAME_CHARS = 64
"""What the model's provider allows."""
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")


def tool_name(server: str, tool: str) -> str | None:
    """`{server}_{tool}`, with `_` for characters that a model may not use; None where that is too long."""
    name = f"{server}_{_OTHER.sub('_', tool)}"
    return name if tool and len(name) <= MAX_NAME_CHARS else None


def text_of_result(result: CallToolResult) -> str:
    """The content, block by block; what is not text is named. Structured content where there is no other."""
    if not result.content and result.structured_content is not None:
        return msgspec.json.encode(result.structured_content).decode()
    return "\n".join(_text_of(block) for block in result.content)


def _text_of(block: ContentBlock) -> str:
    match block:
        case TextContent():
            return block.text
        case ImageContent() | AudioContent():
            kind = "image" if isinstance(block, ImageContent) else "audio"
            return f"[{kind}, {block.mime_type}, {_size(block.data)}: it cannot be shown here]"
        case ResourceLink():
            about = f": {block.description}" if block.description else ""
            return f"[resource `{block.name}` at {block.uri}{about}]"
        case EmbeddedResource():
            held = block.resource
            if isinstance(held, BlobResourceContents):
                kind = held.mime_type or "unknown type"
                return f"[resource at {held.uri}, {kind}, {_size(held.blob)}: it cannot be shown here]"
            return f"[resource at {held.uri}]\n{held.text}"
        case _:
            assert_never(block)


def _size(base64: str) -> str:
    return f"{len(base64.rstrip('=')) * 3 // 4:,} bytes"
