"""What became of dead letters: when each was sent again, as which record, and how that ended."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from aiokafka import ConsumerRecord
from msgspec import Struct

from headrace.dead_letters.reading import read_since
from runtime.kafka import record_time, topic_name
from runtime.settings import Settings
from schemas.audit import Act, Outcome
from schemas.causation import COMMAND_TOPICS, causation, plain_topic
from schemas.codec import decode_agent_event, decode_audit_event
from schemas.dead_letter import EDITED_HEADER, REPLAY_HEADER, Cause, DeadLetter
from schemas.events import TurnCancelled, TurnCompleted, TurnFailed
from schemas.ids import derived_message_id
from schemas.refusal import UNREADABLE
from schemas.topics import AGENT_EVENTS, AUDIT_EVENTS, USER_MESSAGES


class Replayed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A letter's record was sent again: when, as which record, by whom, and as which command of which session."""

    at: datetime
    record: str
    by: str | None = None
    edited: bool = False
    session_id: str | None = None
    command_id: str | None = None
    ended: str | None = None


async def replays(settings: Settings, letters: Sequence[DeadLetter]) -> dict[str, list[Replayed]]:
    """For each of these letters that was sent again, each time; oldest first.

    The records themselves tell, by their header; where their topic does not keep them any more, the audit events.
    """
    found: dict[str, dict[str, Replayed]] = defaultdict(dict)
    if not letters:
        return {}
    wanted = {letter.id: letter for letter in letters}
    since = min(letter.at for letter in letters)
    for topic in sorted({letter.topic for letter in letters}):
        async for record in read_since(settings, topic, since):
            again = _of_record(record)
            if again is not None and again[0] in wanted:
                found[again[0]][again[1].record] = again[1]
    async for record in read_since(settings, topic_name(settings, AUDIT_EVENTS), since):
        audited = _of_audit(record, wanted)
        if audited is not None:
            known = found[audited[0]].get(audited[1].record)
            session_id = known.session_id if known else audited[1].session_id
            found[audited[0]][audited[1].record] = msgspec.structs.replace(audited[1], session_id=session_id)
    return {letter_id: sorted(times.values(), key=lambda each: each.at) for letter_id, times in found.items()}


async def ended(settings: Settings, all_letters: Sequence[DeadLetter], one: Replayed) -> str:
    """What the record that was sent again came to."""
    letter = next((letter for letter in all_letters if letter.id == one.record), None)
    if letter is not None and letter.cause is not Cause.NO_SUCH_AGENT:
        return f"refused again ({letter.cause}): dead letter {letter.id}"
    if plain_topic(one.record.rsplit("/", 2)[0]) != USER_MESSAGES.name or one.session_id is None:
        return "taken" if letter is None else f"in part: dead letter {letter.id}"
    topic = topic_name(settings, AGENT_EVENTS)
    begun = False
    async for record in read_since(settings, topic, one.at):
        try:
            event = decode_agent_event(record.value or b"")
        except UNREADABLE:
            continue
        if event.session_id != one.session_id or event.message_id != one.command_id:
            continue
        begun = True
        match event:
            case TurnCompleted() | TurnCancelled():
                return f"{type(event).__name__} at {event.at:%Y-%m-%dT%H:%M:%SZ}, turn {event.turn_id}"
            case TurnFailed():
                return f"TurnFailed ({event.error.code}) at {event.at:%Y-%m-%dT%H:%M:%SZ}, turn {event.turn_id}"
            case _:
                pass
    return "its turn runs" if begun else "taken; no turn since then: it was answered before, or is no message, or waits"


def _of_record(record: ConsumerRecord) -> tuple[str, Replayed] | None:
    said = dict(record.headers)
    of = said.get(REPLAY_HEADER)
    if of is None:
        return None
    at = record_time(record.timestamp)
    place = derived_message_id(record.topic, record.partition, record.offset)
    as_letter = DeadLetter(
        id=place,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at=at,
        processor="",
        cause=Cause.NOT_VALID,
        error="",
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )
    again = Replayed(
        at=at,
        record=place,
        edited=EDITED_HEADER in said,
        session_id=_session_of(record.value),
        command_id=causation(as_letter).command_id,
    )
    return of.decode(errors="replace"), again


def _of_audit(record: ConsumerRecord, wanted: dict[str, DeadLetter]) -> tuple[str, Replayed] | None:
    try:
        act = decode_audit_event(record.value or b"")
    except UNREADABLE:
        return None
    letter = wanted.get(str(act.details.get("dead_letter")))
    if letter is None or act.event_type != Act.DEAD_LETTER_REPLAYED or act.outcome is not Outcome.SUCCESS:
        return None
    details: dict[str, Any] = act.details
    partition, offset = (details.get(f"sent_{name}", details.get(name)) for name in ("partition", "offset"))
    command_id = details.get("command_id")
    if command_id is None and plain_topic(letter.topic) in COMMAND_TOPICS:
        command_id = causation(letter).command_id
    return letter.id, Replayed(
        at=act.at,
        record=f"{letter.topic}/{partition}/{offset}",
        by=act.user_id or details.get("name"),
        edited=bool(details.get("edited")),
        session_id=act.session_id,
        command_id=command_id,
    )


def _session_of(value: bytes | None) -> str | None:
    try:
        body = msgspec.json.decode(value or b"")
    except UNREADABLE:
        return None
    session_id = body.get("session_id") if isinstance(body, dict) else None
    return session_id if isinstance(session_id, str) else None
