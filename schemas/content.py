"""Content blocks: what a message, an answer and a tool result are made of (the shapes of Anthropic's Messages API)."""

from typing import Annotated, Any

import msgspec
from msgspec import Struct


class TextBlock(Struct, frozen=True, kw_only=True, tag="text"):
    text: Annotated[str, msgspec.Meta(min_length=1)]


class Base64Source(Struct, frozen=True, kw_only=True, tag="base64"):
    media_type: Annotated[str, msgspec.Meta(pattern=r"^image/(jpeg|png|gif|webp)(?!\n)$")]
    data: Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[A-Za-z0-9+/=]+(?!\n)$")]


class UrlSource(Struct, frozen=True, kw_only=True, tag="url"):
    url: Annotated[str, msgspec.Meta(pattern="^https://", max_length=4_000)]


class ImageBlock(Struct, frozen=True, kw_only=True, tag="image"):
    source: Base64Source | UrlSource


class ThinkingBlock(Struct, frozen=True, kw_only=True, tag="thinking"):
    """The model's reasoning; kept verbatim, because the API checks the signature when it comes back."""

    thinking: str
    signature: str


class RedactedThinkingBlock(Struct, frozen=True, kw_only=True, tag="redacted_thinking"):
    data: str


class ToolUseBlock(Struct, frozen=True, kw_only=True, tag="tool_use"):
    """The model asks for a tool; `id` is the model's, paired with exactly one tool result."""

    id: str
    name: str
    input: dict[str, Any]


UserBlock = TextBlock | ImageBlock
AssistantBlock = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock


def text_of(blocks: tuple[UserBlock, ...] | tuple[AssistantBlock, ...]) -> str:
    """The text of the text blocks, joined without a separator."""
    return "".join(block.text for block in blocks if isinstance(block, TextBlock))
