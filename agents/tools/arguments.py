"""A model's input, checked; what is wrong with it is said so that the model can correct it."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from agents.tools.parameters import Parameters

MAX_SHOWN_CHARS = 300
"""Of a wrong value or its schema in a message: enough to recognise it, little to pay for."""

_AT = re.compile(r"^(?P<text>.*?)(?: - at `(?P<path>\$.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class BadArgumentsError(ValueError):
    """The message is for the model: which argument, what was expected, what came."""


def read_arguments(parameters: Parameters, input: Mapping[str, Any]) -> dict[str, Any]:
    """The typed arguments, with defaults filled in.

    Raises:
        BadArgumentsError: the input does not fit.
    """
    if parameters.model is None:
        return {"input": dict(input)}
    names = _names_problems(parameters, input)
    if names:
        raise BadArgumentsError("; ".join(names))
    try:
        return msgspec.structs.asdict(msgspec.convert(input, parameters.model))
    except msgspec.ValidationError as error:
        raise BadArgumentsError(_explain(str(error), parameters.schema, input)) from error


def _names_problems(parameters: Parameters, input: Mapping[str, Any]) -> list[str]:
    properties: dict[str, Any] = parameters.schema.get("properties", {})
    problems = [
        f"`{name}` is missing, expected {_shown(properties[name])}"
        for name in parameters.schema.get("required", [])
        if name not in input
    ]
    for name in input:
        if name not in properties:
            close = get_close_matches(name[:100], properties, n=1)
            hint = f" (did you mean `{close[0]}`?)" if close else ""
            known = ", ".join(f"`{known}`" for known in properties) or "no arguments"
            problems.append(f"`{name[:MAX_SHOWN_CHARS]}` is not an argument{hint}, expected {known}")
    return problems


def _explain(message: str, schema: dict[str, Any], input: Mapping[str, Any]) -> str:
    match = _AT.match(message)
    assert match is not None
    text = match["text"][:1].lower() + match["text"][1:]
    path = match["path"]
    if path is None:
        return text
    got: Any = input
    expected: dict[str, Any] | None = schema
    for key, index in _STEP.findall(path):
        if index == "..." or not _holds(got, key, index):
            # msgspec names the keys of a mapping `[...]`: neither the value nor its schema can be told apart.
            return f"`{path.removeprefix('$.')}`: {text}"
        got = got[key] if key else got[int(index)]
        expected = _step_into(schema, expected, key)
    meant = f", expected {_shown(expected)}" if expected is not None else ""
    return f"`{path.removeprefix('$.')}`: {text}{meant}, got {_shown(got)}"


def _holds(value: Any, key: str, index: str) -> bool:
    if key:
        return isinstance(value, dict) and key in value
    return isinstance(value, list) and int(index) < len(value)


def _step_into(root: dict[str, Any], schema: dict[str, Any] | None, key: str) -> dict[str, Any] | None:
    """The schema of a member; of several alternatives, the first that has it."""
    if schema is None:
        return None
    if "$ref" in schema:
        return _step_into(root, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], key)
    for alternative in schema.get("anyOf", []):
        found = _step_into(root, alternative, key)
        if found is not None:
            return found
    found = schema.get("properties", {}).get(key) if key else schema.get("items")
    return found if isinstance(found, dict) else None


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if key not in ("description", "title", "default")}
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
