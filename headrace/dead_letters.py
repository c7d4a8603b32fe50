"""Dead letters as an operator sees them: listed, shown, and sent again."""

import msgspec

from headrace.client import SentMessage
from headrace.connect import producer
from headrace.errors import HeadraceError
from headrace.records import read_topic
from runtime.settings import Settings
from schemas.codec import decode_dead_letter
from schemas.dead_letter import DeadLetter
from schemas.topics import DEAD_LETTERS, MAX_INTERNAL_BYTES

REPLAY_HEADER = "headrace-replay-of"
"""Says which dead letter a record is sent again from; what it was sent again as is then found by it."""


class NoSuchDeadLetterError(HeadraceError):
    """There is no dead letter of this id: `headrace dlq list` shows those there are."""


class NothingToReplayError(HeadraceError):
    """The dead letter does not have the record's value: there was none, or it was too large to be kept twice."""


async def list_dead_letters(settings: Settings) -> list[DeadLetter]:
    """All that are kept, oldest first; one that was written twice is there once."""
    letters: dict[str, DeadLetter] = {}
    async for record in read_topic(settings, DEAD_LETTERS):
        try:
            letter = decode_dead_letter(record.value or b"")
        except msgspec.DecodeError:
            # Not written by Headrace: `headrace tail dead-letters` shows it.
            continue
        letters.setdefault(letter.id, letter)
    return sorted(letters.values(), key=lambda letter: (letter.at, letter.id))


async def find_dead_letter(settings: Settings, id: str) -> DeadLetter:
    """The dead letter of this id; raises `NoSuchDeadLetterError`."""
    for letter in await list_dead_letters(settings):
        if letter.id == id:
            return letter
    raise NoSuchDeadLetterError(f"no dead letter has the id {id}: `headrace dlq list` shows those that are kept")


async def replay(settings: Settings, letter: DeadLetter) -> SentMessage:
    """Send the original record again: same topic, key, value and headers, and `headrace-replay-of` with its id.

    Raises:
        NothingToReplayError: the letter has no value.
    """
    if letter.value is None:
        raise NothingToReplayError(
            f"dead letter {letter.id} does not hold the record's value: look at partition {letter.partition}, offset "
            f"{letter.offset} of {letter.topic}; if there is one, send it again from there"
        )
    headers = [(name, value) for name, value in letter.headers if name != REPLAY_HEADER]
    async with producer(settings, MAX_INTERNAL_BYTES) as client:
        sent = await client.send_and_wait(
            letter.topic, letter.value, key=letter.key, headers=[*headers, (REPLAY_HEADER, letter.id.encode())]
        )
    return SentMessage(id=letter.id, partition=sent.partition, offset=sent.offset, timestamp_ms=sent.timestamp)
