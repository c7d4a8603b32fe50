"""From a session to the request of a model call."""

from typing import Any

from msgspec import Struct


class Prompt(Struct, frozen=True, kw_only=True):
    """A request in the shapes of Anthropic's Messages API."""

    model: str
    max_tokens: int
    system: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    messages: list[dict[str, Any]]
