"""The dead letters that are kept, and which of them somebody means."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from re import compile as pattern

import msgspec
from msgspec import Struct

from headrace.dead_letters.errors import NoSuchDeadLetterError
from headrace.errors import UsageError
from headrace.records import read_topic
from runtime.settings import Settings
from schemas.causation import plain_topic
from schemas.codec import decode_dead_letter
from schemas.dead_letter import DeadLetter
from schemas.topics import DEAD_LETTERS

_AGO = pattern(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Selection(Struct, frozen=True, kw_only=True):
    """Which letters: those to which everything applies that is given; `until` itself is not among them."""

    cause: str | None = None
    topic: str | None = None
    session: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it leaves nothing out."""
        return self == Selection()

    def has(self, letter: DeadLetter) -> bool:
        return (
            (self.cause is None or letter.cause == self.cause)
            and (self.topic is None or self.topic in (letter.topic, plain_topic(letter.topic)))
            and (self.session is None or letter.session_id == self.session)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


def parse_time(text: str | None, option: str, now: datetime) -> datetime | None:
    """A time, or how long ago it was: `2026-05-01T12:00:00Z`, `90s`, `30m`, `2h`, `3d`; without a zone it is UTC.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"expected {option} with a time (2026-05-01T12:00:00Z) or how long ago (30m, 2h, 3d), got {text}"
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


async def list_dead_letters(settings: Settings, selection: Selection | None = None) -> list[DeadLetter]:
    """Those that are kept, oldest first; one that was written twice is there once."""
    letters: dict[str, DeadLetter] = {}
    async for record in read_topic(settings, DEAD_LETTERS):
        try:
            letter = decode_dead_letter(record.value or b"")
        except msgspec.DecodeError:
            # Not written by Headrace: `headrace tail dead-letters` shows it.
            continue
        letters.setdefault(letter.id, letter)
    chosen = (letter for letter in letters.values() if selection is None or selection.has(letter))
    return sorted(chosen, key=lambda letter: (letter.at, letter.id))


def find_among(letters: Sequence[DeadLetter], id: str) -> DeadLetter:
    """The one of this id; raises `NoSuchDeadLetterError`."""
    for letter in letters:
        if letter.id == id:
            return letter
    raise NoSuchDeadLetterError(f"no dead letter has the id {id}: `headrace dlq list` shows those that are kept")


async def find_dead_letter(settings: Settings, id: str) -> DeadLetter:
    """The dead letter of this id; raises `NoSuchDeadLetterError`."""
    return find_among(await list_dead_letters(settings), id)


def in_order(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """In the order of their records: those of a session stay in theirs."""
    return sorted(letters, key=lambda letter: (letter.topic, letter.partition, letter.offset))
