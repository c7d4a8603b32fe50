"""What a replay would do with each letter, before it does it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from headrace.dead_letters.check import check_record
from headrace.dead_letters.history import Replayed
from schemas.causation import plain_topic, why_not_replayable
from schemas.dead_letter import DeadLetter
from schemas.refusal import RefusedError, check_command
from schemas.topics import USER_MESSAGES


class Verdict(StrEnum):
    """What happens to a letter."""

    SEND = "send"
    REPLAYED = "replayed_already"
    REFUSED = "refused_again"
    IMPOSSIBLE = "not_replayable"


class Planned(Struct, frozen=True, kw_only=True):
    """A letter, what happens to it, and why where nothing does."""

    letter: DeadLetter
    verdict: Verdict
    why: str = ""


def plan(
    letters: Sequence[DeadLetter], again: Mapping[str, Sequence[Replayed]], now: datetime, agents: Collection[str]
) -> list[Planned]:
    """In the order of the letters."""
    return [_plan(letter, again.get(letter.id, ()), now, agents) for letter in letters]


def _plan(letter: DeadLetter, again: Sequence[Replayed], now: datetime, agents: Collection[str]) -> Planned:
    if again:
        last = again[-1]
        why = f"sent again already at {last.at:%Y-%m-%dT%H:%M:%SZ} as {last.record}"
        return Planned(letter=letter, verdict=Verdict.REPLAYED, why=why)
    why_not = why_not_replayable(letter)
    if why_not is not None:
        return Planned(letter=letter, verdict=Verdict.IMPOSSIBLE, why=why_not)
    assert letter.value is not None
    try:
        check_record(letter.topic, letter.key, letter.value, now, agents)
    except RefusedError as refused:
        return Planned(letter=letter, verdict=Verdict.REFUSED, why=f"{refused.cause}: {refused}")
    return Planned(letter=letter, verdict=Verdict.SEND)


def key_of(letter: DeadLetter, value: bytes, *, is_edited: bool = False) -> bytes | None:
    """The record's key; that of its session where it had none or was edited, so that a session keeps its order."""
    if plain_topic(letter.topic) != USER_MESSAGES.name or (letter.key is not None and not is_edited):
        return letter.key
    try:
        return check_command(value, None).session_id.encode()
    except RefusedError:
        return letter.key
