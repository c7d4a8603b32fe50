"""Dead letters: a record that could not be processed, where it was, and why."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


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
    """The record as it was, byte for byte (base64), with its place and the cause of its failure.

    `error` says what was expected, what came, and what to do. `id` is derived from the place, so a record that is
    dead-lettered twice is recognised.
    """

    id: str
    topic: str
    partition: int
    offset: int
    at: datetime
    processor: str
    cause: Cause
    error: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    record_at: datetime | None = None
    session_id: str | None = None
