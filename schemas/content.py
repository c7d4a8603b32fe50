"""Content blocks: what a message, an answer and a tool result are made of (the shapes of Anthropic's Messages API)."""

from typing import Annotated, Any

import msgspec
from msgspec import Struct

ToolInput = Annotated[
    dict[str, Any],
    msgspec.Meta(description="The arguments as the model wrote them, by name: not checked yet with the tool's schema."),
]


class TextBlock(Struct, frozen=True, kw_only=True, tag="text"):
    """Plain text: of a user's message, or of the model's answer."""

    text: Annotated[str, msgspec.Meta(min_length=1, description="The text.")]


class Base64Source(Struct, frozen=True, kw_only=True, tag="base64"):
    """An image's bytes, inside the message."""

    media_type: Annotated[
        str, msgspec.Meta(pattern=r"^image/(jpeg|png|gif|webp)(?!\n)$", description="The image's format.")
    ]
    data: Annotated[
        str,
        msgspec.Meta(min_length=1, pattern=r"^[A-Za-z0-9+/=]+(?!\n)$", description="The image's bytes in base64."),
    ]


class UrlSource(Struct, frozen=True, kw_only=True, tag="url"):
    """An image on the web: the model's provider fetches it, at each model call that has the message in its prompt."""

    url: Annotated[
        str, msgspec.Meta(pattern="^https://", max_length=4_000, description="Where the image is; `https` only.")
    ]


class ImageBlock(Struct, frozen=True, kw_only=True, tag="image"):
    """An image in a user's message, for the model to look at."""

    source: Annotated[Base64Source | UrlSource, msgspec.Meta(description="The image itself, or where it is.")]


class ThinkingBlock(Struct, frozen=True, kw_only=True, tag="thinking"):
    """The model's reasoning; kept verbatim, because the API checks the signature when it comes back."""

    thinking: Annotated[str, msgspec.Meta(description="The reasoning, in words.")]
    signature: Annotated[str, msgspec.Meta(description="The provider's proof that the reasoning is the model's own.")]


class RedactedThinkingBlock(Struct, frozen=True, kw_only=True, tag="redacted_thinking"):
    """Reasoning that the provider hides; kept as it came, because the API wants it back."""

    data: Annotated[str, msgspec.Meta(description="The reasoning, encrypted by the provider.")]


class ToolUseBlock(Struct, frozen=True, kw_only=True, tag="tool_use"):
    """The model asks for a tool; `id` is the model's, paired with exactly one tool result."""

    id: Annotated[str, msgspec.Meta(description="The model's own id of this use; `call_id` is Headrace's.")]
    name: Annotated[str, msgspec.Meta(description="The tool that the model asks for, as the model wrote it.")]
    input: ToolInput


UserBlock = TextBlock | ImageBlock
AssistantBlock = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock


def text_of(blocks: tuple[UserBlock, ...] | tuple[AssistantBlock, ...]) -> str:
    """The text of the text blocks, joined without a separator."""
    return "".join(block.text for block in blocks if isinstance(block, TextBlock))
