"""From a session to the request of a model call.

The prefix is stable: instructions, tools and all earlier messages are the same in every call of a session, and the last
block of each carries a cache breakpoint, so that a call pays the full input price only for what is new.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from agents.accounts import model_of
from agents.session import AnsweredEntry, AssistantEntry, EndEntry, Session, ToolResultEntry, UserEntry
from agents.spec import AgentSpec
from schemas.content import AssistantBlock, RedactedThinkingBlock, TextBlock, ThinkingBlock

CACHE = {"type": "ephemeral"}
TurnEntry = UserEntry | AssistantEntry | ToolResultEntry | EndEntry


class Prompt(Struct, frozen=True, kw_only=True):
    """A request in the shapes of Anthropic's Messages API."""

    model: str
    max_tokens: int
    system: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    messages: list[dict[str, Any]]


def build_prompt(spec: AgentSpec, tools: Sequence[dict[str, Any]], session: Session) -> Prompt:
    """The next model call of the session's turn.

    Args:
        spec: the agent.
        tools: the definitions of its tools (name, description, input_schema), in a fixed order.
        session: with a turn that runs.
    """
    return Prompt(
        model=model_of(spec, session.head.turn) if session.head.turn else spec.model,
        max_tokens=spec.max_output_tokens,
        system=[{"type": "text", "text": spec.instructions, "cache_control": CACHE}],
        tools=[*tools[:-1], {**tools[-1], "cache_control": CACHE}] if tools else [],
        messages=_messages(session),
    )


def _messages(session: Session) -> list[dict[str, Any]]:
    hidden = {entry.turn for entry in session.transcript if isinstance(entry, EndEntry) and not entry.in_prompt}
    visible = [
        entry for entry in session.transcript if not isinstance(entry, AnsweredEntry) and entry.turn not in hidden
    ]
    messages: list[dict[str, Any]] = []
    for entry in _in_call_order(visible):
        role, blocks = _blocks(entry)
        if not blocks:
            continue
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"].extend(blocks)
        else:
            messages.append({"role": role, "content": blocks})
    assert messages, "a turn runs, so there is a message"
    messages[-1]["content"][-1] = {**messages[-1]["content"][-1], "cache_control": CACHE}
    return messages


def _in_call_order(transcript: Sequence[TurnEntry]) -> list[TurnEntry]:
    """The transcript with each round's tool results in the order of its calls, not of their arrival."""
    ordered: list[TurnEntry] = []
    round_: list[ToolResultEntry] = []
    calls: tuple[str, ...] = ()
    for entry in transcript:
        if isinstance(entry, ToolResultEntry):
            round_.append(entry)
            continue
        ordered.extend(_sorted(round_, calls))
        round_ = []
        if isinstance(entry, AssistantEntry):
            calls = tuple(use.id for use in entry.tool_uses())
        ordered.append(entry)
    ordered.extend(_sorted(round_, calls))
    return ordered


def _sorted(results: list[ToolResultEntry], calls: tuple[str, ...]) -> list[ToolResultEntry]:
    return sorted(results, key=lambda result: calls.index(result.tool_use_id))


def _acceptable(content: Sequence[AssistantBlock]) -> list[AssistantBlock]:
    """What the API takes back of an answer: no blank text, and no thinking at its end, where it was cut off."""
    kept = [block for block in content if not isinstance(block, TextBlock) or block.text.strip()]
    while kept and isinstance(kept[-1], ThinkingBlock | RedactedThinkingBlock):
        kept.pop()
    return kept


def _blocks(entry: TurnEntry) -> tuple[str, list[dict[str, Any]]]:
    match entry:
        case UserEntry():
            return "user", [msgspec.to_builtins(block) for block in entry.content]
        case AssistantEntry():
            return "assistant", [msgspec.to_builtins(block) for block in _acceptable(entry.content)]
        case ToolResultEntry():
            result: dict[str, Any] = {
                "type": "tool_result",
                "tool_use_id": entry.tool_use_id,
                "content": entry.content,
            }
            if entry.is_error:
                result["is_error"] = True
            return "user", [result]
        case EndEntry():
            return "user", [{"type": "text", "text": entry.note}] if entry.note else []
