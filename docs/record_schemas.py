"""The JSON Schemas of all records, derived from their classes, in the dialect that AsyncAPI reads (draft 07)."""

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from schemas.commands import Broadcast, UserMessage
from schemas.tool_results import RemoteResult
from schemas.topics import TOPICS

Schema = dict[str, Any]

RECORDS: tuple[type[Struct], ...] = tuple(dict.fromkeys(record for topic in TOPICS for record in topic.records))
"""Every record of every topic, in the order of the table."""

TYPE_IS_OPTIONAL = (UserMessage, Broadcast, RemoteResult)
"""What their topics carry unless `type` says otherwise."""

REF = "#/components/schemas/{name}"

EITHER_CONTENT_OR_ERROR = [
    {"title": "with content", "required": ["content"], "properties": {"content": {"type": "string"}}},
    {"title": "with error", "required": ["error"], "properties": {"error": {"type": "object"}}},
]

EITHER_TEXT_OR_CONTENT = [
    {"title": "with text", "required": ["text"], "properties": {"text": {"type": "string"}}},
    {"title": "with content", "required": ["content"], "properties": {"content": {"type": "array"}}},
]


def record_schemas() -> dict[str, Schema]:
    """The schemas of the records and of what they contain, by class name."""
    _, components = msgspec.json.schema_components(RECORDS, ref_template=REF)
    schemas = {name: _draft_07(schema) for name, schema in components.items()}
    for record in RECORDS:
        _mark_times(record, schemas[record.__name__]["properties"])
    for record in TYPE_IS_OPTIONAL:
        schema = schemas[record.__name__]
        schema["required"].remove("type")
        schema["properties"]["type"]["default"] = record.__struct_config__.tag
    # The class checks it when it is made, where a derived schema cannot see it.
    schemas[UserMessage.__name__]["oneOf"] = EITHER_TEXT_OR_CONTENT
    schemas[RemoteResult.__name__]["oneOf"] = EITHER_CONTENT_OR_ERROR
    return schemas


def prose(text: str) -> str:
    """A docstring with one line for each paragraph."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _draft_07(schema: Schema) -> Schema:
    """The same schema in draft 07, where newer words are unknown and those beside a `$ref` are ignored."""
    made = {word: _inner(word, value) for word, value in schema.items()}
    # AsyncAPI's own `discriminator` cannot map tags to names; each branch has its tag as a constant.
    made.pop("discriminator", None)
    if "prefixItems" in made:
        made["items"] = made.pop("prefixItems")
        made["additionalItems"] = False
    if made.get("required") == []:
        del made["required"]
    if "enum" in made:
        made = {**made, "type": "string"}
        if len(made["enum"]) == 1:
            (made["const"],) = made.pop("enum")
    if "$ref" in made and len(made) > 1:
        made = {"allOf": [{"$ref": made.pop("$ref")}], **made}
    return _nullable(made) if "anyOf" in made else made


def _inner(word: str, value: Any) -> Any:
    match word:
        case "properties":
            return {name: _draft_07(schema) for name, schema in value.items()}
        case "anyOf" | "prefixItems":
            return [_draft_07(schema) for schema in value]
        case "items" | "additionalProperties" | "propertyNames" if isinstance(value, dict):
            return _draft_07(value)
        case "description":
            return prose(value)
        case "default":
            return msgspec.json.decode(msgspec.json.encode(value))
        case _:
            return value


def _nullable(schema: Schema) -> Schema:
    """`anyOf` a plain type and null as one type with null: half the lines, and its description where readers look."""
    branches = schema["anyOf"]
    if len(branches) != 2 or branches[1] != {"type": "null"}:  # noqa: PLR2004 - a type and null
        return schema
    plain = branches[0]
    if "type" not in plain or "const" in plain or "enum" in plain:
        return schema
    others = {word: value for word, value in schema.items() if word != "anyOf"}
    return {**plain, "type": [plain["type"], "null"], **others}


def _mark_times(record: type[Struct], properties: dict[str, Schema]) -> None:
    """Say which strings are times: the derived schema does not, as the classes do not require a time zone."""
    info = msgspec.inspect.type_info(record)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        if any(isinstance(each, msgspec.inspect.DateTimeType) for each in _plain_types(field.type)):
            properties[field.encode_name]["format"] = "date-time"


def _plain_types(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """The types of a union, without their descriptions."""
    match kind:
        case msgspec.inspect.Metadata():
            yield from _plain_types(kind.type)
        case msgspec.inspect.UnionType():
            for each in kind.types:
                yield from _plain_types(each)
        case _:
            yield kind
