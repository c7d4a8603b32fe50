"""`@tool`: what the model is told of a function, and which functions are refused."""

import asyncio
from datetime import date
from functools import partial
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest

from agents.tools import Tool, ToolContext, ToolDeclarationError, tool


class Passenger(msgspec.Struct):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0)] = 30
    companion: "Passenger | None" = None


@tool(timeout_s=7, idempotent=True, attempts=2, max_result_chars=100)
async def search_flights(  # noqa: D417 - a description may be left out
    origin: str,
    passengers: list[Passenger],
    context: ToolContext,
    day: date | None = None,
    cabin: Literal["economy", "business"] = "economy",
    limit: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10,
) -> str:
    """Find flights.

    Prices are in euros.

    Args:
        origin: IATA code,
            such as FRA.
        limit (int): how many: at most 50.

    Returns:
        One flight per line.

    Raises:
        ToolError: the airline does not answer.
    """
    return f"{origin} {len(passengers)} {context.call_id} {day} {cabin} {limit}"


def test_schema_tells_the_model_types_bounds_defaults_and_descriptions() -> None:
    """The schema has what hints and docstring say, nothing of the context, and is closed."""
    schema = search_flights.definition.input_schema

    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["origin", "passengers"]
    properties = schema["properties"]
    assert list(properties) == ["origin", "passengers", "day", "cabin", "limit"]
    assert properties["origin"] == {"type": "string", "description": "IATA code, such as FRA."}
    assert properties["cabin"] == {"enum": ["business", "economy"], "default": "economy"}
    assert properties["limit"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 50,
        "default": 10,
        "description": "how many: at most 50.",
    }


def test_schema_is_self_contained_and_valid() -> None:
    """A recursive Struct is referred to inside the schema; an independent validator resolves and applies it."""
    validator = jsonschema.Draft202012Validator(search_flights.definition.input_schema)
    validator.check_schema(validator.schema)

    assert validator.is_valid({"origin": "FRA", "passengers": [{"name": "A", "companion": {"name": "B"}}]})
    assert not validator.is_valid({"origin": "FRA", "passengers": [{"name": "A", "companion": {"name": 3}}]})
    assert not validator.is_valid({"origin": "FRA", "passengers": [], "destination": "OSL"})


def test_description_is_for_the_model() -> None:
    """Summary, body and result are shown; arguments are in the schema, and exceptions are nobody's business."""
    assert (
        search_flights.definition.description
        == "Find flights.\n\nPrices are in euros.\n\nReturns:\n    One flight per line."
    )


def test_options_and_defaults() -> None:
    """What is not said is safe: not idempotent, hence run once."""

    @tool
    async def plain() -> None:
        """Do it."""

    @tool(name="harmless-1", idempotent=True)
    async def harmless() -> None:
        """Look at it."""

    assert (search_flights.timeout_s, search_flights.attempts, search_flights.max_result_chars) == (7, 2, 100)
    assert (plain.name, plain.idempotent, plain.attempts) == ("plain", False, 1)
    assert (harmless.name, harmless.idempotent, harmless.attempts) == ("harmless-1", True, 3)
    assert plain.definition.input_schema == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


async def test_a_tool_can_still_be_called_as_a_function() -> None:
    """So that users test their tools without a toolbox."""
    context = ToolContext(call_id="c", session_id="s", agent="a")

    assert await search_flights("FRA", [], context=context) == "FRA 0 c None economy 10"


def test_hints_may_be_strings() -> None:
    """As they all are under `from __future__ import annotations`."""

    @tool
    async def late(count: "int", context: "ToolContext") -> str:
        """Count."""
        return f"{count}{context.call_id}"

    assert list(late.definition.input_schema["properties"]) == ["count"]


def _sync(x: int) -> int:
    """Blocks."""
    return x


async def _undocumented(x: int) -> int:
    return x


async def _untyped(x) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001 - the case
    """Do it."""
    return int(x)


async def _variadic(*xs: int) -> int:
    """Do it."""
    return sum(xs)


async def _keywords(**options: int) -> int:
    """Do it."""
    return len(options)


async def _positional(x: int, /) -> int:
    """Do it."""
    return x


async def _unresolvable(x: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821 - the case
    """Do it."""
    return int(x)


async def _not_json(x: asyncio.Event) -> int:
    """Do it."""
    return int(x.is_set())


async def _mistyped_docs(amount: int) -> int:  # noqa: D417 - the case
    """Do it.

    Args:
        amuont: how much.
    """
    return amount


async def _two_contexts(a: ToolContext, b: ToolContext) -> str:
    """Do it."""
    return a.call_id + b.call_id


async def _fine(x: int) -> int:
    """Do it."""
    return x


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (_sync, {}, "expected an `async def` function"),
    (partial(_fine, 1), {}, "expected an `async def` function"),
    ("fine", {}, "expected an `async def` function"),
    (_undocumented, {}, "expected a docstring"),
    (_untyped, {}, "parameter `x` has no type hint"),
    (_variadic, {}, r"got `\*xs: int`"),
    (_keywords, {}, r"got `\*\*options: int`"),
    (_positional, {}, "passed by name"),
    (_unresolvable, {}, "'Nowhere' is not defined"),
    (_not_json, {}, "parameters that JSON can carry"),
    (_mistyped_docs, {}, r"describes \['amuont'\]"),
    (_two_contexts, {}, "expected one ToolContext parameter"),
    (_fine, {"name": "no spaces"}, "1 to 64 letters"),
    (_fine, {"attempts": 3}, "set `idempotent=True`"),
    (_fine, {"attempts": 0}, "at least 1"),
    (_fine, {"timeout_s": 0}, "above 0"),
    (_fine, {"timeout_s": float("nan")}, "above 0"),
    (_fine, {"max_result_chars": 10_000_000}, "1 to 500,000"),
]


@pytest.mark.parametrize(("function", "options", "message"), REFUSED)
def test_refused_declarations_say_what_to_change(function: Any, options: dict[str, Any], message: str) -> None:
    """What could not work at the first call is refused when the module is imported."""
    with pytest.raises(ToolDeclarationError, match=message):
        tool(**options)(function) if options else tool(function)


def test_the_function_that_the_options_are_refused_on_is_fine() -> None:
    """Otherwise the refusals above might have another reason."""
    assert isinstance(tool(_fine), Tool)
