"""What is sent when a dead letter's record is sent again: as it was, or edited and checked."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import Struct

from gateway.caller import Caller
from gateway.problems import Code, Problem
from schemas.causation import causation, plain_topic, why_not_replayable
from schemas.commands import Command, ReleaseSession, UserMessage
from schemas.dead_letter import DeadLetter, replay_headers
from schemas.refusal import RefusedError, check_broadcast, check_command
from schemas.topics import BROADCASTS, USER_MESSAGES

T = TypeVar("T")


class Order(Struct, frozen=True, kw_only=True):
    """A record to send, and the command that it is, as far as that is known."""

    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    session_id: str | None
    command_id: str | None
    is_edited: bool = False


def as_it_was(letter: DeadLetter) -> Order:
    """Byte for byte; a command without a key gets that of its session, so that the session keeps its order.

    Raises:
        Problem: `nothing_to_replay`.
    """
    why_not = why_not_replayable(letter)
    if why_not is not None:
        raise Problem(Code.NOTHING_TO_REPLAY, why_not)
    assert letter.value is not None
    key, session_id, command_id = letter.key, letter.session_id, causation(letter).command_id
    if plain_topic(letter.topic) == USER_MESSAGES.name:
        try:
            command = check_command(letter.value, letter.key)
        except RefusedError:
            # It comes back as another dead letter: whoever sends it may have workers that know more than this gateway.
            pass
        else:
            key, session_id = command.session_id.encode(), command.session_id
    return Order(
        key=key, value=letter.value, headers=replay_headers(letter), session_id=session_id, command_id=command_id
    )


def edited(letter: DeadLetter, value: bytes, caller: Caller) -> Order:
    """With this value, if the pipeline would take it and the caller may say it.

    Raises:
        Problem: `not_valid`, `nothing_to_replay`, `wrong_tenant` or `operators_only`.
    """
    topic = plain_topic(letter.topic)
    made: dict[str, Any] = {"value": value, "headers": replay_headers(letter, is_edited=True), "is_edited": True}
    if topic == BROADCASTS.name:
        caller.require_operator()
        own_id = _checked(lambda: check_broadcast(value, datetime.now(UTC))).id
        command_id = own_id or causation(letter).command_id
        return Order(key=letter.key, session_id=letter.session_id, command_id=command_id, **made)
    if topic != USER_MESSAGES.name:
        error = f"expected a record of {USER_MESSAGES.name} or {BROADCASTS.name} to edit, got one of {topic}"
        raise Problem(Code.NOTHING_TO_REPLAY, f"{error}: what Headrace itself wrote is sent again as it was, or not")
    command = _checked(lambda: check_command(value, None))
    _require(caller, command)
    return Order(
        key=command.session_id.encode(),
        session_id=command.session_id,
        command_id=command.id or causation(letter).first_place or letter.id,
        **made,
    )


def _checked(check: Callable[[], T]) -> T:
    try:
        return check()
    except RefusedError as refused:
        error = f"the edited record would be refused ({refused.cause}): {refused}"
        raise Problem(Code.NOT_VALID, error, errors=[str(refused)]) from None


def _require(caller: Caller, command: Command) -> None:
    """The caller could send this command through the door as well."""
    caller.require_session(command.session_id)
    if isinstance(command, ReleaseSession):
        caller.require_operator()
    if isinstance(command, UserMessage) and not caller.is_operator and command.tenant != caller.tenant:
        raise Problem(Code.WRONG_TENANT, f"expected `tenant` in the edited value to be `{caller.tenant}`")
