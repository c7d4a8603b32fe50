"""Dead letters: a record that could not be processed, where it was, and why."""

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Struct

REPLAY_HEADER = "headrace-replay-of"
"""Says which dead letter a record is sent again from; what it was sent again as is then found by it."""
FIRST_HEADER = "headrace-first-place"
"""Says where the record was when it was first refused, where it is sent again more than once."""
EDITED_HEADER = "headrace-edited"
"""`true` where somebody changed the value before it was sent again."""
REPLAY_HEADERS = frozenset({REPLAY_HEADER, FIRST_HEADER, EDITED_HEADER})
_PLACE = re.compile(rb"[a-zA-Z0-9._-]{1,249}/\d{1,10}/\d{1,19}")
"""A topic's name as Kafka allows it, a partition and an offset: with this, an id is short and printable."""


class Cause(StrEnum):
    """Why a record is in `dead-letters`."""

    NOT_JSON = "not_json"
    NOT_VALID = "not_valid"
    WRONG_KEY = "wrong_key"
    TOO_LARGE = "too_large"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    NOTHING_TO_APPROVE = "nothing_to_approve"
    NOTHING_TO_ANSWER = "nothing_to_answer"
    NOT_AN_APPROVER = "not_an_approver"
    NOT_QUARANTINED = "not_quarantined"
    ID_IN_USE = "id_in_use"
    TOO_MANY_HOPS = "too_many_hops"
    TOO_MANY_BROADCASTS = "too_many_broadcasts"
    NO_SUCH_AGENT = "no_such_agent"
    NOT_IN_LOG = "not_in_log"
    EXPIRED = "expired"
    CORE_ERROR = "core_error"


class DeadLetter(Struct, frozen=True, kw_only=True, tag="dead_letter"):
    """A record that could not be processed: as it was, byte for byte, with its place and why it failed."""

    id: Annotated[
        str,
        msgspec.Meta(
            description="`{topic}/{partition}/{offset}` of the record: one that is dead-lettered twice is recognised."
        ),
    ]
    topic: Annotated[str, msgspec.Meta(description="The topic of the record.")]
    partition: Annotated[int, msgspec.Meta(description="The partition of the record.")]
    offset: Annotated[int, msgspec.Meta(description="The offset of the record.")]
    at: Annotated[datetime, msgspec.Meta(description="When the dead letter was written.")]
    processor: Annotated[str, msgspec.Meta(description="The processor that could not process the record.")]
    cause: Annotated[Cause, msgspec.Meta(description="The kind of problem, for programs.")]
    error: Annotated[str, msgspec.Meta(description="What was expected, what came, and what to do.")]
    key: Annotated[bytes | None, msgspec.Meta(description="The record's key.")]
    value: Annotated[
        bytes | None,
        msgspec.Meta(
            description="The record's value; left out where it is too large for a dead letter, as `error` says."
        ),
    ]
    headers: Annotated[
        tuple[tuple[str, bytes], ...], msgspec.Meta(description="The record's headers, names and values, in order.")
    ] = ()
    record_at: Annotated[datetime | None, msgspec.Meta(description="The record's timestamp.")] = None
    session_id: Annotated[
        str | None, msgspec.Meta(description="The session that the record belongs to, where that could be read.")
    ] = None


def replay_headers(letter: DeadLetter, *, is_edited: bool = False) -> list[tuple[str, bytes]]:
    """The headers with which the letter's record is sent again: its own, and of what it is sent again."""
    kept = [(name, value) for name, value in letter.headers if name not in REPLAY_HEADERS]
    kept.append((REPLAY_HEADER, letter.id.encode()))
    first = command_id_of(letter.id, letter.headers)
    if first != letter.id:
        kept.append((FIRST_HEADER, first.encode()))
    if is_edited or EDITED_HEADER in dict(letter.headers):
        kept.append((EDITED_HEADER, b"true"))
    return kept


def command_id_of(place: str, headers: Iterable[tuple[str, bytes | None]]) -> str:
    """The id of a command that has none of its own: `place`, where its record is, or was when it was first refused.

    So one that is sent again, however often, is one command.
    """
    said = dict(headers)
    first = said.get(FIRST_HEADER) or said.get(REPLAY_HEADER)
    return first.decode() if first is not None and _PLACE.fullmatch(first) else place
