"""What a record on a public topic must be to be processed: asked by whoever reads it, and by whoever sends it again."""

import json
from datetime import UTC, datetime

import msgspec

from schemas.codec import decode_broadcast, decode_command, decode_tool_result
from schemas.commands import MAX_MESSAGE_BYTES, MAX_METADATA_ENTRIES, Broadcast, Command
from schemas.dead_letter import Cause
from schemas.gather import MAX_BROADCAST_ID_CHARS, MAX_HOPS, own_broadcast_id
from schemas.ids import BROADCAST_ID, tenant_of_session
from schemas.tool_results import RemoteResult

EXCERPT_BYTES = 60
"""Enough to recognise a record by."""
MAX_BROADCAST_BYTES = MAX_MESSAGE_BYTES - 4_096
"""What each agent's message adds, ids and names, still fits a message."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for a value that is not what its topic carries; the last one, for thousands of nested arrays."""


class RefusedError(Exception):
    """The record cannot be processed: its sender must change it."""

    def __init__(self, cause: Cause, error: str, session_id: str | None = None) -> None:
        super().__init__(error)
        self.cause = cause
        self.session_id = session_id


def check_command(value: bytes | None, key: bytes | None) -> Command:
    """The command that a record of `user-messages` is.

    Raises:
        RefusedError: it is not a command, or its key contradicts it.
    """
    value = value or b""
    if len(value) > MAX_MESSAGE_BYTES:
        error = f"expected at most {MAX_MESSAGE_BYTES} bytes, got {len(value)}: send less, or a link to it"
        raise RefusedError(Cause.TOO_LARGE, error)
    try:
        command = decode_command(value)
    except msgspec.ValidationError as invalid:
        raise RefusedError(Cause.NOT_VALID, f"expected a command, got JSON of another shape: {invalid}") from None
    except UNREADABLE as malformed:
        raise RefusedError(Cause.NOT_JSON, f"expected a JSON object, got {_excerpt(value)}: {malformed}") from None
    _check_key(key, command.session_id)
    return command


def check_tool_result(value: bytes | None, key: bytes | None) -> RemoteResult:
    """The result that a record of `tool-results` is; whether anybody waits for it is not asked.

    Raises:
        RefusedError: it is not a result, or its key contradicts it.
    """
    value = value or b""
    try:
        result = decode_tool_result(value)
    except msgspec.ValidationError as invalid:
        error = (
            f"expected `session_id`, `call_id` and either `content` or `error`, got JSON of another shape: {invalid}: "
            "copy both ids from the call, and say how it ended"
        )
        raise RefusedError(Cause.NOT_VALID, error) from None
    except UNREADABLE as malformed:
        raise RefusedError(Cause.NOT_JSON, f"expected a JSON object, got {_excerpt(value)}: {malformed}") from None
    _check_key(key, result.session_id)
    return result


def check_broadcast(value: bytes | None, now: datetime) -> Broadcast:
    """The broadcast that a record of `broadcasts` is; agents that it names may still be unknown.

    Raises:
        RefusedError: it goes to nobody.
    """
    value = value or b""
    try:
        broadcast = decode_broadcast(value)
    except UNREADABLE as error:
        cause = Cause.NOT_VALID if isinstance(error, msgspec.ValidationError) else Cause.NOT_JSON
        raise RefusedError(cause, f"expected a broadcast: {error}") from None
    size = len(value)
    if size > MAX_BROADCAST_BYTES:
        error_text = f"expected at most {MAX_BROADCAST_BYTES} bytes, got {size}: send less, or a link to it"
        raise RefusedError(Cause.TOO_LARGE, error_text)
    if len(broadcast.metadata) >= MAX_METADATA_ENTRIES and BROADCAST_ID not in broadcast.metadata:
        error_text = f"expected fewer than {MAX_METADATA_ENTRIES} `metadata` entries: one is for its id"
        raise RefusedError(Cause.NOT_VALID, error_text)
    expires_at = broadcast.expires_at
    if expires_at is not None and expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    if expires_at is not None and expires_at <= now:
        error_text = f"expected to route the broadcast before {expires_at}: send it again with a later time"
        raise RefusedError(Cause.EXPIRED, error_text)
    if broadcast.id is not None and len(own_broadcast_id(broadcast.id, broadcast.tenant)) > MAX_BROADCAST_ID_CHARS:
        error_text = f"expected `id`, with its tenant before it, to have at most {MAX_BROADCAST_ID_CHARS} characters"
        raise RefusedError(Cause.NOT_VALID, f"{error_text}: send it again with a shorter one")
    whose = tenant_of_session(broadcast.id) if broadcast.id is not None and broadcast.tenant is None else None
    if whose is not None:
        error_text = (
            f"expected an `id` of no tenant, as the broadcast is, got `{broadcast.id}`, which is one of `{whose}`"
        )
        raise RefusedError(Cause.NOT_VALID, f"{error_text}: name the tenant, or send it with another id")
    _check_gathering(broadcast, now)
    return broadcast


def _check_gathering(broadcast: Broadcast, now: datetime) -> None:
    if broadcast.hops > MAX_HOPS:
        error = f"expected at most {MAX_HOPS} broadcasts that lead to one another, got {broadcast.hops}: "
        raise RefusedError(Cause.TOO_MANY_HOPS, f"{error}agents answer each other in a loop; stop one of them")
    deadline = broadcast.deadline
    if isinstance(deadline, datetime):
        deadline = deadline if deadline.tzinfo is not None else deadline.replace(tzinfo=UTC)
        if deadline <= now:
            error = f"expected to route the broadcast before its deadline {deadline}: send it again with a later one"
            raise RefusedError(Cause.EXPIRED, error)
    if broadcast.reply_to is not None and tenant_of_session(broadcast.reply_to) != broadcast.tenant:
        of = f"of the tenant `{broadcast.tenant}`" if broadcast.tenant else "of no tenant"
        error = f"expected `reply_to` to be a session {of}, as the broadcast is, got `{broadcast.reply_to}`: "
        raise RefusedError(Cause.NOT_VALID, f"{error}name one of its own, or leave it out")


def _check_key(key: bytes | None, session_id: str) -> None:
    if key is not None and key != session_id.encode():
        error = (
            f"expected the key to be the session_id `{session_id}` or none, got {_excerpt(key)}: "
            "leave the key out, or make them equal"
        )
        raise RefusedError(Cause.WRONG_KEY, error, session_id)


def _excerpt(value: bytes) -> str:
    """What came, short and printable."""
    if not value:
        return "nothing"
    text = json.dumps(value[:EXCERPT_BYTES].decode("utf-8", "replace"))
    return text if len(value) <= EXCERPT_BYTES else f"{text}…"
