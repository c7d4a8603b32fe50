"""A model's input: typed where it fits, and told what is wrong where it does not."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from agents.tools import Tool, Toolbox, ToolContext, ToolFault, ToolOutcome, ToolReturn, tool
from agents.tools.toolbox import MAX_ERROR_CHARS
from schemas.failure import FailureCode

CONTEXT = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")


async def run(one: Tool, input: dict[str, Any]) -> ToolOutcome:
    return await Toolbox([one]).run(one.name, input, context=CONTEXT, timeout_s=5)


class Item(msgspec.Struct):
    name: str
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


@tool
async def order(
    items: list[Item],
    speed: Literal["slow", "fast"] = "slow",
    notes: dict[str, int] | None = None,
    *,
    gift: bool = False,
) -> str:
    """Order."""
    return f"{[(item.name, item.count) for item in items]} {speed} {notes} {gift}"


async def test_arguments_arrive_typed_and_defaults_are_filled_in() -> None:
    """A nested Struct is one when the tool sees it."""
    assert await run(order, {"items": [{"name": "tea"}, {"name": "cup", "count": 2}], "gift": True}) == ToolReturn(
        content="[('tea', 1), ('cup', 2)] slow None True", attempts=1
    )


ITEM = {"name": "tea"}
BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({}, '`items` is missing, expected {"type":"array","items":{"$ref":"#/$defs/Item"}}'),
    ({"items": [], "sped": "fast"}, "`sped` is not an argument (did you mean `speed`?), expected `items`, `speed`"),
    ({"item": []}, "`items` is missing"),
    ({"items": "tea"}, '`items`: expected `array`, got `str`, expected {"type":"array"'),
    ({"items": [ITEM, {"name": 7}]}, '`items[1].name`: expected `str`, got `int`, expected {"type":"string"}, got 7'),
    (
        {"items": [ITEM | {"count": 0}]},
        '`items[0].count`: expected `int` >= 1, expected {"type":"integer","minimum":1}',
    ),
    ({"items": [{}]}, "`items[0]`: object missing required field `name`"),
    ({"items": [], "speed": "x"}, '`speed`: invalid enum value \'x\', expected {"enum":["fast","slow"]}, got "x"'),
    ({"items": [], "notes": {"a": "b"}}, "`notes[...]`: expected `int`, got `str`"),
    ({"items": [], "gift": "yes"}, "`gift`: expected `bool`, got `str`"),
]


@pytest.mark.parametrize(("input", "message"), BAD_INPUTS)
async def test_bad_arguments_say_which_what_was_expected_and_what_came(input: dict[str, Any], message: str) -> None:
    """The tool is not run, and the model reads how to correct its input."""
    outcome = await run(order, input)

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.BAD_ARGUMENTS
    assert message in outcome.failure.message
    assert outcome.attempts == 0
    assert not outcome.failure.retryable


async def test_a_huge_wrong_argument_is_not_quoted_in_full() -> None:
    """The message goes into the transcript and is paid for."""
    outcome = await run(order, {"items": "x" * 1_000_000, "y" * 1_000_000: 1})

    assert isinstance(outcome, ToolFault)
    assert len(outcome.failure.message) < MAX_ERROR_CHARS + 10
