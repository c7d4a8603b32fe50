"""The topics and their records as Markdown, from the same tables and classes as the AsyncAPI document."""

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from docs.asyncapi import ACCEPTED_BYTES, readers, type_tag_of, writers
from docs.record_examples import examples_of
from docs.record_schemas import RECORDS, Schema, prose, record_schemas
from runtime.settings import Settings
from schemas.topics import DAY_MS, HOUR_MS, TOPICS, Topic

HEAD = """# Topics

What is on the topics, for people; for programs the same is in [asyncapi.yaml](asyncapi.yaml). Both are written by
`make docs` from the code.

A value is JSON in UTF-8. Ignore fields that you do not know: more may come. A field that is not required may be left
out, and then has its default. Commands need no headers; what Headrace publishes has those of
[CloudEvents](https://cloudevents.io) (`ce_id`, `ce_type`, `ce_source`, `ce_time`, `ce_subject`, `ce_specversion`,
`content-type`) and `traceparent` where there is a trace. The setting `topic_prefix` is put before each name. Only
Headrace writes the internal topics, and their records can change with any version.

"""
MIB = 1 << 20
KIB = 1 << 10
BOUNDS = (
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
    ("minProperties", "maxProperties", " entries"),
    ("minimum", "maximum", ""),
)


def topics_page() -> str:
    """The whole page."""
    schemas = record_schemas()
    inner = [name for name in schemas if name not in {record.__name__ for record in RECORDS}]
    parts = [HEAD, _overview()]
    for topic in TOPICS:
        parts.append(f"\n## {topic.name}\n\n{topic.description}{_accepted(topic)}\n")
        parts += [_record(record, schemas[record.__name__]) for record in topic.records]
    parts.append("\n## Types\n\nWhat records contain.\n")
    parts += [_type(name, schemas[name]) for name in inner]
    return "".join(parts)


def kept(topic: Topic) -> str:
    """For how long the topic keeps a record."""
    if "delete" not in topic.cleanup_policy:
        return "newest per key"
    if topic.retention_ms < DAY_MS:
        return f"{topic.retention_ms // HOUR_MS} h"
    return f"{topic.retention_ms // DAY_MS} d"


def _overview() -> str:
    lines = [
        "| topic | access | key | written by | read by | records | partitions | kept | largest record |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for topic in TOPICS:
        tags = ", ".join(f"[`{tag}`](#{tag})" for tag in map(type_tag_of, topic.records))
        count = topic.partitions or f"`partitions` ({Settings.model_fields['partitions'].default})"
        cells = (
            f"[{topic.name}](#{topic.name})",
            topic.access.value,
            topic.key,
            writers(topic),
            readers(topic),
            tags,
            count,
            kept(topic),
            _size(topic.max_message_bytes),
        )
        lines.append(_row(*map(str, cells)))
    return "\n".join(lines) + "\n"


def _accepted(topic: Topic) -> str:
    limit = ACCEPTED_BYTES.get(topic.name)
    return f" A value of more than {_size(limit)} is refused." if limit else ""


def _size(count: int) -> str:
    return f"{count // MIB} MiB" if count % MIB == 0 else f"{count // KIB} KiB"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _record(record: type[Struct], schema: Schema) -> str:
    example = json.dumps(examples_of(record)[0].payload(), ensure_ascii=False)
    return f"\n### {type_tag_of(record)}\n{_body(schema)}\n```json\n{example}\n```\n"


def _type(name: str, schema: Schema) -> str:
    return f"\n### {name}\n{_body(schema)}"


def _body(schema: Schema) -> str:
    about = f"\n{schema['description']}\n" if "description" in schema else ""
    if "enum" in schema:
        return f"{about}\nOne of {_options(schema['enum'])}.\n"
    return f"{about}\n{_fields(schema)}{_alternatives(schema)}"


def _fields(schema: Schema) -> str:
    required = schema.get("required", [])
    lines = ["| field | type | required | constraints | meaning |", "|---|---|---|---|---|"]
    for name, field in schema["properties"].items():
        needed = "yes" if name in required else _default(field)
        meaning = prose(field.get("description", ""))
        lines.append(_row(f"`{name}`", _phrase(field), needed, "; ".join(_constraints(field)), meaning))
    return "\n".join(lines) + "\n"


def _default(field: Schema) -> str:
    default = field.get("default")
    return "no" if default is None else f"no: `{json.dumps(default)}`"


def _alternatives(schema: Schema) -> str:
    if "oneOf" not in schema:
        return ""
    return f"\nIt must be {' or '.join(each['title'] for each in schema['oneOf'])}, not both.\n"


def _options(values: list[Any]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _phrase(schema: Schema) -> str:
    """The type in words."""
    if "allOf" in schema:
        return _phrase(schema["allOf"][0])
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_phrase(each) for each in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return f"one of {_options(schema['enum'])}"
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_plain(each, schema) for each in types)


def _plain(kind: str, schema: Schema) -> str:
    match kind:
        case "array" if isinstance(schema["items"], list):
            return f"pair of {' and '.join(_phrase(each) for each in schema['items'])}"
        case "array":
            return f"array of {_phrase(schema['items'])}"
        case "object" if "additionalProperties" in schema:
            return f"object of {_phrase(schema['additionalProperties'])} values"
        case "string" if "contentEncoding" in schema:
            return f"{schema['contentEncoding']} string"
        case "string" if schema.get("format") == "date-time":
            return "time (RFC 3339)"
        case _:
            return kind


def _constraints(schema: Schema) -> Iterator[str]:
    if isinstance(schema.get("items"), list):
        return  # A pair is called one.
    for least, most, unit in BOUNDS:
        yield from _bounds(schema.get(least), schema.get(most), unit)
    if "pattern" in schema:
        yield f"`{schema['pattern']}`"
    if isinstance(schema.get("items"), dict):
        yield from (f"each {text}" for text in _constraints(schema["items"]))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from (f"each value {text}" for text in _constraints(schema["additionalProperties"]))
    if "propertyNames" in schema:
        yield from (f"each name {text}" for text in _constraints(schema["propertyNames"]))
    for branch in schema.get("anyOf", ()):
        yield from _constraints(branch)


def _bounds(least: int | None, most: int | None, unit: str) -> Iterator[str]:
    if least is not None and most is not None:
        yield f"{least:,} to {most:,}{unit}"
    elif least == 1 and unit:
        yield "not empty"
    elif least is not None:
        yield f"at least {least:,}{unit}"
    elif most is not None:
        yield f"at most {most:,}{unit}"
