"""The AsyncAPI document is valid, complete, agrees with the codec, and is the one that is committed."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec import Struct
from ruamel.yaml import YAML

from docs.asyncapi import asyncapi_document, headers_schema, readers, type_tag_of, writers
from docs.generate import ROOT, package_version, stale
from docs.record_examples import EXAMPLES, Example, examples_of
from docs.record_schemas import RECORDS
from schemas.codec import (
    cloud_event_headers,
    decode_agent_delta,
    decode_agent_event,
    decode_audit_event,
    decode_broadcast,
    decode_call_model,
    decode_call_tool,
    decode_command,
    decode_dead_letter,
    decode_session_event,
    decode_tool_result,
    encode,
)
from schemas.directory import decode_announcement, decode_spec_record
from schemas.topics import DEAD_LETTERS, TOPICS, Access
from schemas.topology import TOPOLOGY

SPECIFICATION = json.loads((Path(__file__).parents[1] / "vendor/asyncapi/3.0.0.json").read_text())
DOCUMENT = asyncapi_document(package_version())
DECODERS: dict[str, Callable[[bytes], Struct]] = {
    "user-messages": decode_command,
    "broadcasts": decode_broadcast,
    "session-log": decode_session_event,
    "llm-requests": decode_call_model,
    "tool-calls": decode_call_tool,
    "tool-results": decode_tool_result,
    "agent-events": decode_agent_event,
    "agent-deltas": decode_agent_delta,
    "audit-events": decode_audit_event,
    "agent-specs": decode_spec_record,
    "agent-directory": decode_announcement,
    "dead-letters": decode_dead_letter,
}
DECODER_OF = {record: DECODERS[topic.name] for topic in TOPICS for record in topic.records}


def validator(schema: dict[str, Any]) -> jsonschema.Draft7Validator:
    """Checks values with a schema of the document, references resolved."""
    return jsonschema.Draft7Validator({**schema, "components": DOCUMENT["components"]})


def payload_validator(record: type[Struct]) -> jsonschema.Draft7Validator:
    """Checks values of one record."""
    # What stands beside a `$ref` is ignored, so the reference goes one level down.
    return validator({"allOf": [DOCUMENT["components"]["messages"][type_tag_of(record)]["payload"]]})


def references(node: Any) -> Iterator[str]:
    """Every `$ref` in the document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def resolve(reference: str) -> Any:
    """What a `$ref` points at; KeyError where it points nowhere."""
    assert reference.startswith("#/")
    node = DOCUMENT
    for name in reference[2:].split("/"):
        node = node[name]
    return node


def named(example: Example) -> str:
    """The test's name."""
    return f"{type(example.record).__name__}-{example.name}"


@pytest.mark.parametrize("name", ["docs/asyncapi.yaml", "docs/topics.md"])
def test_the_committed_document_is_the_one_that_the_code_makes(name: str) -> None:
    """Whoever changes a record or a topic writes the documents again."""
    assert ROOT / name not in stale(), f"{name} is stale: run `make docs` and commit what it wrote"


def test_the_committed_document_reads_back_as_it_was_made() -> None:
    """YAML has its own opinion of `1.0`, `no` and times: none of them may change on the way."""
    assert YAML(typ="safe", pure=True).load(ROOT / "docs/asyncapi.yaml") == DOCUMENT


def test_the_document_follows_the_specification() -> None:
    """The specification's own JSON Schema finds nothing wrong, bindings included."""
    errors = jsonschema.Draft7Validator(SPECIFICATION).iter_errors(DOCUMENT)
    assert [f"{error.json_path}: {error.message[:300]}" for error in errors] == []


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("channels", "agent-events", "bindings", "kafka", "partitions"), 0),
        (("operations", "sendAgentEvents", "action"), "publish"),
        (("components", "schemas", "Usage", "properties", "input_tokens", "minimum"), "none"),
    ],
)
def test_the_specification_would_see_what_is_wrong(place: tuple[str, ...], wrong: Any) -> None:
    """A validator that accepts anything would prove nothing."""
    broken = json.loads(json.dumps(DOCUMENT))
    node = broken
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = wrong
    assert not jsonschema.Draft7Validator(SPECIFICATION).is_valid(broken)


def test_every_reference_points_somewhere() -> None:
    """A reader that follows a reference finds what it names."""
    found = list(references(DOCUMENT))
    assert len(found) > len(RECORDS)
    for reference in found:
        resolve(reference)


def test_every_record_of_every_topic_is_a_message_with_an_example() -> None:
    """Nothing on a topic is undocumented."""
    for topic in TOPICS:
        messages = DOCUMENT["channels"][topic.name]["messages"]
        payloads = [resolve(message["$ref"])["payload"]["$ref"] for message in messages.values()]
        assert payloads == [f"#/components/schemas/{record.__name__}" for record in topic.records]
    assert [record.__name__ for record in RECORDS if not examples_of(record)] == []


def test_operations_are_those_of_headrace() -> None:
    """It receives what its processors read, and sends on all topics that it alone writes."""
    directions: dict[str, set[str]] = {topic.name: set() for topic in TOPICS}
    for operation in DOCUMENT["operations"].values():
        directions[resolve(operation["channel"]["$ref"])["address"]].add(operation["action"])
    assert {name for name, actions in directions.items() if "receive" in actions} == {
        "user-messages",
        "broadcasts",
        "session-log",
        "llm-requests",
        "tool-calls",
        "tool-results",
    }
    assert {name for name, actions in directions.items() if "send" in actions} == {
        topic.name for topic in TOPICS if topic.access != Access.PUBLIC_IN
    }


def test_who_reads_and_writes_agrees_with_the_processors() -> None:
    """The table of topics says in words what the table of processors says: neither may forget one."""
    for node in TOPOLOGY:
        assert node.name in readers(node.reads)
        assert node.reads.read_by.split(", ")[0] == node.name
        assert node.name in writers(DEAD_LETTERS)
        for topic in node.writes:
            assert node.name in writers(topic)
            assert node.name in topic.written_by or topic.written_by == "anyone"


@pytest.mark.parametrize("example", EXAMPLES, ids=named)
def test_an_example_is_what_its_schema_and_the_codec_say(example: Example) -> None:
    """A reader who copies an example has a record that is accepted and means what it shows."""
    record = type(example.record)
    payload_validator(record).validate(example.payload())
    assert DECODER_OF[record](encode(example.payload())) == example.record


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.by], ids=named)
def test_the_headers_of_an_example_are_as_documented(example: Example) -> None:
    """A consumer in another language finds the headers that the document promises, and its time is a time."""
    record = type(example.record)
    headers = DOCUMENT["components"]["messages"][type_tag_of(record)]["headers"]
    validator(headers).validate(example.headers())
    assert not validator(headers).is_valid({**example.headers(), "ce_type": "headrace.other"})
    datetime.fromisoformat(example.headers()["ce_time"])


def test_the_documented_headers_are_all_that_are_sent() -> None:
    """A header that the codec learns to write is documented, too."""
    now = datetime.fromisoformat("2026-01-05T09:30:00Z")
    record = EXAMPLES[0].record
    sent = cloud_event_headers(record, id="i", source="/headrace/accept", at=now, subject="s1", traceparent="t")
    assert [name for name, _ in sent] == list(headers_schema()["properties"])


def test_every_record_and_every_field_says_what_it_is() -> None:
    """Who meets a record on a topic needs nothing but the document; `type` is said by the record itself."""
    schemas = DOCUMENT["components"]["schemas"]
    mute = [name for name, schema in schemas.items() if not schema.get("description")]
    for name, schema in schemas.items():
        fields = schema.get("properties", {})
        mute += [f"{name}.{field}" for field in fields if field != "type" and not fields[field].get("description")]
    assert mute == []


@pytest.mark.parametrize("example", EXAMPLES, ids=named)
def test_times_are_marked(example: Example) -> None:
    """A generated client makes times of times."""
    properties = DOCUMENT["components"]["schemas"][type(example.record).__name__]["properties"]
    for name, value in msgspec.structs.asdict(example.record).items():
        assert isinstance(value, datetime) <= (properties[name].get("format") == "date-time")


@pytest.mark.parametrize(
    "value",
    [
        {"session_id": "s1", "text": "hi"},
        {"type": "user_message", "session_id": "s1", "text": "hi", "content": None},
        {"session_id": "s1", "text": "hi", "something_new": 1},
        {"session_id": "s1"},
        {"session_id": "s1", "text": None, "content": None},
        {"session_id": "s1", "text": "hi", "content": [{"type": "text", "text": "hi"}]},
        {"session_id": "s1", "content": []},
        {"session_id": "s1", "content": [{"type": "video", "text": "hi"}]},
        {"session_id": "s1", "text": ""},
        {"session_id": "s 1", "text": "hi"},
        {"session_id": "", "text": "hi"},
        {"session_id": "s1", "text": 1},
        {"session_id": "s1", "text": "hi", "agent": "Not A Name"},
        {"session_id": "s1", "text": "hi", "metadata": {"a": 1}},
        {"session_id": "s1", "text": "hi", "metadata": {"k" * 101: "v"}},
        {"type": "cancel_turn", "session_id": "s1"},
        {"type": "approval_decision", "session_id": "s1", "call_id": "s1/1/2", "decision": "maybe"},
        {"type": "end_session"},
        {"type": "no_such_type", "session_id": "s1"},
        {"text": "hi"},
    ],
    ids=str,
)
def test_the_schemas_accept_the_commands_that_the_codec_accepts(value: dict[str, Any]) -> None:
    """A client that validates with the document is not refused, and not kept from what is allowed."""
    payloads = [DOCUMENT["components"]["messages"][tag]["payload"] for tag in _command_tags()]
    assert validator({"anyOf": payloads}).is_valid(value) == _decodes(value)


def _command_tags() -> list[str]:
    return list(DOCUMENT["channels"]["user-messages"]["messages"])


def _decodes(value: dict[str, Any]) -> bool:
    try:
        decode_command(encode(value))
    except msgspec.ValidationError:
        return False
    return True
