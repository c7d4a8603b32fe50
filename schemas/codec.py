"""Bytes and types: JSON bodies with a `type` tag, and CloudEvents headers in the Kafka binary content mode.

Decoding raises `msgspec.DecodeError` where the bytes are not JSON and its subclass `msgspec.ValidationError` where they
are JSON of another shape; the message names the field. Unknown fields are ignored, so old readers read new records.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
from msgspec import Struct

from schemas.audit import AuditEvent
from schemas.commands import ApprovalDecision, Broadcast, CancelTurn, Command, EndSession, ReleaseSession, UserMessage
from schemas.dead_letter import DeadLetter
from schemas.effects import CallModel, CallTool
from schemas.events import AgentDelta, AgentEvent
from schemas.log import SessionEvent
from schemas.tool_results import RemoteResult

Headers = list[tuple[str, bytes]]

encode = msgspec.json.Encoder().encode
decode_session_event: Callable[[bytes], SessionEvent] = msgspec.json.Decoder(SessionEvent).decode
decode_agent_event: Callable[[bytes], AgentEvent] = msgspec.json.Decoder(AgentEvent).decode
decode_agent_delta: Callable[[bytes], AgentDelta] = msgspec.json.Decoder(AgentDelta).decode
decode_call_model = msgspec.json.Decoder(CallModel).decode
decode_call_tool = msgspec.json.Decoder(CallTool).decode
decode_audit_event = msgspec.json.Decoder(AuditEvent).decode
decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode
decode_broadcast = msgspec.json.Decoder(Broadcast).decode
decode_tool_result = msgspec.json.Decoder(RemoteResult).decode


class _Tag(Struct):
    type: str = "user_message"


_decode_tag = msgspec.json.Decoder(_Tag).decode
_COMMANDS: dict[str, msgspec.json.Decoder[Command]] = {
    "user_message": msgspec.json.Decoder(UserMessage),
    "cancel_turn": msgspec.json.Decoder(CancelTurn),
    "approval_decision": msgspec.json.Decoder(ApprovalDecision),
    "end_session": msgspec.json.Decoder(EndSession),
    "release_session": msgspec.json.Decoder(ReleaseSession),
}


def decode_command(value: bytes) -> Command:
    """A command from `user-messages`; one without a `type` is a user message.

    Raises:
        msgspec.DecodeError: not JSON; its subclass ValidationError: not a command.
    """
    tag = _decode_tag(value).type
    decoder = _COMMANDS.get(tag)
    if decoder is None:
        expected = ", ".join(f"`{name}`" for name in _COMMANDS)
        raise msgspec.ValidationError(f"expected `type` to be one of {expected}, got `{tag[:100]}`")
    return decoder.decode(value)


def type_tag(record: Struct) -> str:
    """The `type` of a record, snake_case."""
    tag = record.__struct_config__.tag
    assert isinstance(tag, str), f"{type(record).__name__} has no type tag"
    return tag


def rfc3339(at: datetime) -> str:
    """UTC time with milliseconds and `Z`."""
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def cloud_event_headers(
    record: Struct, *, id: str, source: str, at: datetime, subject: str, traceparent: str | None = None
) -> Headers:
    """CloudEvents 1.0 attributes as `ce_*` headers, and W3C `traceparent` where there is one.

    Args:
        record: what the body says; its tag is the type.
        id: with `source` it identifies the event; derived, so that a repeated event is recognised.
        source: who recorded it, as `/headrace/<processor>`.
        at: UTC.
        subject: the session id.
        traceparent: of the trace that the user message belongs to.
    """
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_type", b"headrace." + type_tag(record).encode()),
        ("ce_source", source.encode()),
        ("ce_time", rfc3339(at).encode()),
        ("ce_subject", subject.encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers
