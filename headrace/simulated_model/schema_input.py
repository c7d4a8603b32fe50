"""A plausible input for a tool, made from its JSON schema: required properties only, always the same for one text."""

import re
from typing import Any

NESTING_MAX = 6
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
URL = re.compile(r"https?://[^\s<>\"')\]]+")

BY_FORMAT = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "3f2b8c1e-5d4a-4e6f-9a7b-1c2d3e4f5a6b",
}
BY_WORD = {
    "location": "Paris",
    "city": "Paris",
    "place": "Paris",
    "country": "France",
    "timezone": "Europe/Paris",
    "zone": "Europe/Paris",
    "email": "ada@example.com",
    "url": "https://example.com/",
    "uri": "https://example.com/",
    "date": "2026-01-15",
    "name": "Ada",
    "user": "ada",
    "id": "42",
    "currency": "EUR",
    "language": "en",
    "path": "notes.txt",
    "file": "notes.txt",
    "unit": "celsius",
    "units": "celsius",
}
FREE_TEXT = {"query", "q", "question", "text", "message", "prompt", "topic", "search", "content", "body", "input"}


def input_from_schema(schema: dict[str, Any] | None, text: str, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Build an input object that has every required property; values in `known` win over made-up ones.

    `known` holds values by property name; one that the schema does not have is left out.
    """
    schema = schema or {}
    properties: dict[str, Any] = schema.get("properties") or {}
    result = {name: value for name, value in (known or {}).items() if name in properties or not properties}
    for name in schema.get("required") or ():
        if name not in result:
            result[name] = _value(properties.get(name) or {}, name, text, schema, 0)
    return result


def _value(schema: dict[str, Any], name: str, text: str, root: dict[str, Any], depth: int) -> Any:
    schema = _resolved(schema, root)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    for listed in ("enum", "examples"):
        if schema.get(listed):
            return schema[listed][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind in ("array", "object"):
        return _nested(schema, name, text, root, depth)
    if kind in ("integer", "number"):
        return _number(schema, text, is_integer=kind == "integer")
    return _string(schema, name, text) if kind == "string" else {"boolean": True}.get(kind)


def _nested(schema: dict[str, Any], name: str, text: str, root: dict[str, Any], depth: int) -> Any:
    if "items" in schema or schema.get("type") == "array":
        count = max(1, schema.get("minItems", 1)) if depth < NESTING_MAX else 0
        return [_value(schema.get("items") or {}, name, text, root, depth + 1)] * count if count else []
    properties = schema.get("properties") or {}
    required = (schema.get("required") or ()) if depth < NESTING_MAX else ()
    return {one: _value(properties.get(one) or {}, one, text, root, depth + 1) for one in required}


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow a local `$ref`, and take the first alternative that is not null."""
    for _ in range(NESTING_MAX):
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            target: Any = root
            for part in reference[2:].split("/"):
                target = target.get(part, {}) if isinstance(target, dict) else {}
            schema = target
            continue
        choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if not choices:
            return schema
        schema = next((one for one in choices if one.get("type") != "null"), choices[0])
    return {}


def _number(schema: dict[str, Any], text: str, *, is_integer: bool) -> int | float:
    found = NUMBER.search(text)
    value = float(found[0]) if found else float(schema.get("minimum", 1))
    low, high = float(schema.get("minimum", value)), float(schema.get("maximum", value))
    value = min(max(value, low), high)
    return int(value) if is_integer or value.is_integer() else value


def _string(schema: dict[str, Any], name: str, text: str) -> str:
    known = BY_FORMAT.get(schema.get("format", ""))
    words = re.findall(r"[a-z]+", name.lower())
    if "url" in words or "uri" in words:
        found = URL.search(text)
        known = found[0] if found else "https://example.com/"
    elif FREE_TEXT.intersection(words):
        known = text[:200] or "hello"
    else:
        known = known or next((BY_WORD[word] for word in reversed(words) if word in BY_WORD), None)
    value = known or f"example {name}".strip()
    value = value.ljust(schema.get("minLength", 0), ".")
    return value[: schema.get("maxLength", len(value))]
