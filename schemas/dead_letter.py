"""Dead letters: a record that could not be processed, where it was, and why."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Struct

REPLAY_HEADER = "headrace-replay-of"
"""Says which dead letter a record is sent again from; what it was sent again as is then found by it."""


class Cause(StrEnum):
    """Why a record is in `dead-letters`."""

    NOT_JSON = "not_json"
    NOT_VALID = "not_valid"
    WRONG_KEY = "wrong_key"
    TOO_LARGE = "too_large"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    NOTHING_TO_APPROVE = "nothing_to_approve"
    NO_SUCH_AGENT = "no_such_agent"
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


def replay_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """The headers with which the letter's record is sent again: its own, and the letter's id."""
    kept = [(name, value) for name, value in letter.headers if name != REPLAY_HEADER]
    return [*kept, (REPLAY_HEADER, letter.id.encode())]
