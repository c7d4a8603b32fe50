"""The AsyncAPI 3 document: the topics for clients in any language, derived from their table, classes and processors."""

from io import StringIO
from typing import Any, get_args

import msgspec
from msgspec import Struct
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from docs.record_examples import NOW, examples_of
from docs.record_schemas import Schema, prose, record_schemas
from runtime.settings import Security, Settings
from schemas.codec import rfc3339
from schemas.commands import MAX_MESSAGE_BYTES
from schemas.ids import SessionId
from schemas.refusal import MAX_BROADCAST_BYTES
from schemas.topics import TOPICS, Access, Topic
from schemas.topology import TOPOLOGY

JSON = "application/json"
BINDING = "0.5.0"
HEADERS_REF = {"$ref": "#/components/schemas/CloudEventHeaders"}
ACCEPTED_BYTES = {"user-messages": MAX_MESSAGE_BYTES, "broadcasts": MAX_BROADCAST_BYTES}
"""What Headrace itself accepts, where that is less than what the topic holds."""

HEAD = "# Written by `make docs` from the code: change that.\n"

DESCRIPTION = """\
LLM agents as a stream-processing pipeline: publish a command to `user-messages`, follow `agent-events`. A message that
was accepted is answered once.

* A value is JSON in UTF-8, one object with its kind in `type`. Ignore fields that you do not know: more may come.
* A record may be published again with the same content after a failure: drop what you have seen, by `session_id` and
  `seq` on `agent-events`, by `id` on `dead-letters`.
* Commands need no headers. What cannot be processed comes out of `dead-letters`, with its cause.
* Internal topics are documented for whoever debugs or projects them; only Headrace writes them.
* Where the setting `topic_prefix` is not empty, each address begins with it. Partitions and replicas are the settings'
  defaults."""

TAGS = {
    Access.PUBLIC_IN: "Anyone may write it, Headrace reads it.",
    Access.PUBLIC_OUT: "Headrace writes it, anyone may read it.",
    Access.INTERNAL: "Only Headrace writes it. Its records can change with any version.",
}

HEADER_MEANINGS = {
    "ce_specversion": "The version of CloudEvents.",
    "ce_id": "Derived from what the record says: one that is published again has the same.",
    "ce_type": "`headrace.` and the value's `type`.",
    "ce_source": "The processor that published it, as `/headrace/accept`.",
    "ce_time": "When it happened, in UTC with milliseconds.",
    "ce_subject": "The session.",
    "content-type": "Of the value.",
    "traceparent": "The W3C trace of the message that it belongs to.",
}

HEADER_SHAPES: dict[str, Schema] = {
    "ce_specversion": {"const": "1.0"},
    "ce_type": {"pattern": "^headrace\\.[a-z_]+$"},
    "ce_source": {"pattern": "^/headrace/[a-z_]+$"},
    "ce_time": {"format": "date-time", "examples": [rfc3339(NOW)]},
    "content-type": {"const": JSON},
    "traceparent": {"pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
}


def asyncapi_document(version: str) -> dict[str, Any]:
    """The document; `version` is that of Headrace."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headrace",
            "version": version,
            "description": DESCRIPTION,
            "tags": [{"name": access.value, "description": TAGS[access]} for access in Access],
        },
        "defaultContentType": JSON,
        "servers": _servers(),
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "messages": {type_tag_of(record): _message(record, topic) for topic in TOPICS for record in topic.records},
            "schemas": {**record_schemas(), "CloudEventHeaders": headers_schema()},
            "securitySchemes": _security_schemes(),
        },
    }


def asyncapi_yaml(version: str) -> str:
    """The document as it is committed."""
    yaml = YAML()
    yaml.Representer = _Readable
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = StringIO()
    yaml.dump(asyncapi_document(version), text)
    return HEAD + text.getvalue()


class _Readable(RoundTripRepresenter):
    """Several lines as several lines, and what occurs twice written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def represent_text(self, text: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _Readable.represent_text)


def type_tag_of(record: type[Struct]) -> str:
    """The `type` of a class's records."""
    tag = record.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def headers_schema() -> Schema:
    """The headers of what Headrace publishes; all but the trace are always there."""
    return {
        "title": "CloudEventHeaders",
        "description": "CloudEvents 1.0 in the binary content mode of its Kafka binding, and W3C trace context.",
        "type": "object",
        "properties": {
            name: {"description": meaning, "type": "string", **HEADER_SHAPES.get(name, {})}
            for name, meaning in HEADER_MEANINGS.items()
        },
        "required": [name for name in HEADER_MEANINGS if name != "traceparent"],
    }


def _servers() -> dict[str, Any]:
    host, port = Settings.model_fields["brokers"].default.rsplit(":", 1)
    server = {
        "host": "{host}:{port}",
        "variables": {
            "host": {"default": host, "description": "Any of the brokers."},
            "port": {"default": port, "description": "Its Kafka listener."},
        },
    }
    security = [{"$ref": f"#/components/securitySchemes/{name}"} for name in _security_schemes()]
    return {
        "brokers": {**server, "protocol": "kafka", "description": "As the development stack starts them."},
        "secured-brokers": {
            **server,
            "protocol": "kafka-secure",
            "description": "With TLS, and a password or a client certificate.",
            "security": security,
        },
    }


def _security_schemes() -> dict[str, Any]:
    annotation = Security.model_fields["sasl_mechanism"].annotation
    mechanisms = [name for option in get_args(annotation) for name in get_args(option)]
    schemes = {}
    for mechanism in mechanisms:
        first, *others = mechanism.lower().split("-")
        name = first + "".join(other.capitalize() for other in others)
        schemes[name] = {"type": name, "description": f"SASL {mechanism}."}
    return {**schemes, "certificate": {"type": "X509", "description": "A client certificate."}}


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "title": topic.name,
        "summary": topic.description,
        "description": _channel_description(topic),
        "tags": [{"name": topic.access.value}],
        "messages": {tag: {"$ref": f"#/components/messages/{tag}"} for tag in map(type_tag_of, topic.records)},
        "bindings": {"kafka": _channel_binding(topic)},
    }


def _channel_description(topic: Topic) -> str:
    said = [f"Written by {writers(topic)}; read by {readers(topic)}.", f"Its key: {topic.key}.", TAGS[topic.access]]
    if topic.name in ACCEPTED_BYTES:
        said.append(f"A value of more than {ACCEPTED_BYTES[topic.name]:,} bytes is refused.")
    return "\n".join(said)


def writers(topic: Topic) -> str:
    """Who writes the topic, processors among anyone included."""
    return _with_processors(topic.written_by, [node.name for node in TOPOLOGY if topic in node.writes])


def readers(topic: Topic) -> str:
    """Who reads the topic."""
    return _with_processors(topic.read_by, [node.name for node in TOPOLOGY if node.reads == topic])


def _with_processors(said: str, processors: list[str]) -> str:
    named = said.split(", ")
    return ", ".join([*named, *(name for name in processors if name not in named)])


def _channel_binding(topic: Topic) -> dict[str, Any]:
    policies = topic.cleanup_policy.split(",")
    kept = {"retention.ms": topic.retention_ms} if "delete" in policies else {}
    return {
        "topic": topic.name,
        "partitions": topic.partitions or Settings.model_fields["partitions"].default,
        "replicas": Settings.model_fields["replication"].default,
        "topicConfiguration": {
            "cleanup.policy": policies,
            **kept,
            "max.message.bytes": topic.max_message_bytes,
        },
        "bindingVersion": BINDING,
    }


def _operations() -> dict[str, Any]:
    """What Headrace does with the topics: it receives what its processors read, and sends what it alone writes."""
    operations = {}
    for topic in TOPICS:
        reading = [node for node in TOPOLOGY if node.reads == topic]
        if reading:
            does = "; ".join(f"`{node.name}` {node.does}" for node in reading)
            operations[_operation_id("receive", topic)] = _operation("receive", topic, f"{does}.")
        if topic.access != Access.PUBLIC_IN:
            operations[_operation_id("send", topic)] = _operation("send", topic, f"By {writers(topic)}.")
    return operations


def _operation_id(action: str, topic: Topic) -> str:
    first, *others = topic.name.split("-")
    return action + first.capitalize() + "".join(other.capitalize() for other in others)


def _operation(action: str, topic: Topic, summary: str) -> dict[str, Any]:
    channel = f"#/channels/{topic.name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "tags": [{"name": topic.access.value}],
        "messages": [{"$ref": f"{channel}/messages/{tag}"} for tag in map(type_tag_of, topic.records)],
    }


def _message(record: type[Struct], topic: Topic) -> dict[str, Any]:
    message: dict[str, Any] = {"name": type_tag_of(record), "title": record.__name__}
    if record.__doc__:
        message["summary"] = prose(record.__doc__).split("\n\n")[0]
    message["contentType"] = JSON
    if topic.access != Access.PUBLIC_IN:
        kind = {"properties": {"ce_type": {"const": f"headrace.{type_tag_of(record)}"}}}
        message["headers"] = {"type": "object", "allOf": [HEADERS_REF, kind]}
    message["payload"] = {"$ref": f"#/components/schemas/{record.__name__}"}
    message["bindings"] = {"kafka": {"key": _key(topic), "bindingVersion": BINDING}}
    message["examples"] = [
        _example(example.name, example.headers(), example.payload()) for example in examples_of(record)
    ]
    return message


def _example(name: str, headers: dict[str, str], payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, **({"headers": headers} if headers else {}), "payload": payload}


def _key(topic: Topic) -> Schema:
    """The shape of a session's id, where the key is one or none; a text otherwise."""
    is_session = topic.key.split(",")[0] == "session_id"
    shape: Schema = msgspec.json.schema(SessionId) if is_session else {"type": "string"}
    if topic.key != "session_id":
        shape["type"] = [shape["type"], "null"]
    return {**shape, "description": topic.key}
