"""What a dead letter's record came from, as far as the record and its headers say: which event led to which."""

from typing import Annotated, Any

import msgspec
from msgspec import Struct

from schemas.dead_letter import EDITED_HEADER, REPLAY_HEADER, Cause, DeadLetter, command_id_of
from schemas.ids import derived_message_id
from schemas.topics import BROADCASTS, LLM_REQUESTS, SESSION_LOG, TOOL_CALLS, TOPICS, USER_MESSAGES

COMMAND_TOPICS = (USER_MESSAGES.name, BROADCASTS.name)
DECIDED = frozenset(
    {
        Cause.CORE_ERROR,
        Cause.NOTHING_TO_CANCEL,
        Cause.NOTHING_TO_APPROVE,
        Cause.NOT_QUARANTINED,
        Cause.ID_IN_USE,
    }
)
"""Causes of facts that are part of their session's state: another record of the same says nothing new."""


class Causation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a record came from and what it is part of; a field is left out where it is not known."""

    record_type: Annotated[str | None, msgspec.Meta(description="The `type` in the record's value.")] = None
    command_id: Annotated[
        str | None, msgspec.Meta(description="The id of the command or message that it is, or belongs to.")
    ] = None
    turn_id: Annotated[str | None, msgspec.Meta(description="The turn that it belongs to.")] = None
    call_id: Annotated[str | None, msgspec.Meta(description="The model or tool call that it belongs to.")] = None
    led_by: Annotated[
        str | None,
        msgspec.Meta(
            description="`{topic}/{partition}/{offset}` of the record that led to it: of a fact, the command; of an "
            "order, the fact that gave it."
        ),
    ] = None
    event_source: Annotated[str | None, msgspec.Meta(description="Who wrote it, by its CloudEvents header.")] = None
    event_id: Annotated[str | None, msgspec.Meta(description="Its id, by its CloudEvents header.")] = None
    traceparent: Annotated[str | None, msgspec.Meta(description="The W3C trace that it belongs to.")] = None
    replay_of: Annotated[str | None, msgspec.Meta(description="The dead letter that it was sent again from.")] = None
    first_place: Annotated[
        str | None, msgspec.Meta(description="Where the record was when it was first refused, where that is another.")
    ] = None
    edited: Annotated[bool, msgspec.Meta(description="Whether its value was changed before it was sent again.")] = False


def causation(letter: DeadLetter) -> Causation:
    """What the letter's record says about where it came from."""
    said = {name: value.decode(errors="replace") for name, value in letter.headers}
    body = _body(letter.value)
    topic = plain_topic(letter.topic)
    call_id = _text(body, "call_id")
    turn_id = _text(body, "turn_id") or (call_id.rpartition("/")[0] if call_id else None)
    first = command_id_of(letter.id, letter.headers)
    return Causation(
        record_type=_text(body, "type"),
        command_id=_command_id(topic, body, first),
        turn_id=turn_id or None,
        call_id=call_id,
        led_by=_led_by(letter, topic, body, said),
        event_source=said.get("ce_source"),
        event_id=said.get("ce_id"),
        traceparent=said.get("traceparent"),
        replay_of=said.get(REPLAY_HEADER),
        first_place=None if first == letter.id else first,
        edited=EDITED_HEADER in said,
    )


def plain_topic(topic: str) -> str:
    """The topic's own name, of the one that it has on the cluster."""
    return next((one.name for one in TOPICS if topic.endswith(one.name)), topic)


def why_not_replayable(letter: DeadLetter) -> str | None:
    """Why the letter's record cannot be sent again as it was; None where it can."""
    if letter.cause == Cause.CORE_ERROR:
        return (
            f"dead letter {letter.id} is a fact that quarantined its session: correct what the core could not handle, "
            "then `headrace quarantine release SESSION --resend` lets its messages be answered"
        )
    if letter.cause == Cause.NOTHING_TO_ANSWER:
        return f"dead letter {letter.id} is a result that no call waits for, and none will: its turn went on without it"
    if letter.cause in DECIDED:
        return (
            f"dead letter {letter.id} is a fact that the session knows already, and would not look at again: send the "
            "command anew, if it still has something to do"
        )
    if letter.value is None:
        return (
            f"dead letter {letter.id} does not hold the record's value: look at partition {letter.partition}, offset "
            f"{letter.offset} of {letter.topic}; if there is one, send it again from there"
        )
    return None


def _command_id(topic: str, body: dict[str, Any], first: str) -> str | None:
    if topic in COMMAND_TOPICS:
        return _text(body, "id") or first
    return _text(body, "command_id") or _text(body, "message_id")


def _led_by(letter: DeadLetter, topic: str, body: dict[str, Any], said: dict[str, str]) -> str | None:
    if topic == SESSION_LOG.name and said.get("ce_source") == "/headrace/accept":
        return said.get("ce_id")
    offset = body.get("log_offset")
    if topic in (LLM_REQUESTS.name, TOOL_CALLS.name) and isinstance(offset, int):
        log = letter.topic.removesuffix(topic) + SESSION_LOG.name
        return derived_message_id(log, letter.partition, offset)
    return None


def _body(value: bytes | None) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None
