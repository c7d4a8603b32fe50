"""Dead letters as an operator sees them: listed, shown, and sent again."""

import msgspec

from headrace.audit import act_of_command, write_act
from headrace.client import SentMessage
from headrace.connect import producer
from headrace.errors import HeadraceError
from headrace.records import read_topic
from runtime.settings import Settings
from schemas.audit import Act
from schemas.codec import decode_dead_letter
from schemas.dead_letter import DeadLetter, replay_headers
from schemas.topics import DEAD_LETTERS, MAX_INTERNAL_BYTES


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

    It is audited.

    Raises:
        NothingToReplayError: the letter has no value.
    """
    if letter.value is None:
        raise NothingToReplayError(
            f"dead letter {letter.id} does not hold the record's value: look at partition {letter.partition}, offset "
            f"{letter.offset} of {letter.topic}; if there is one, send it again from there"
        )
    async with producer(settings, MAX_INTERNAL_BYTES) as client:
        sent = await client.send_and_wait(letter.topic, letter.value, key=letter.key, headers=replay_headers(letter))
        done = act_of_command(
            Act.DEAD_LETTER_REPLAYED,
            session_id=letter.session_id,
            dead_letter=letter.id,
            partition=sent.partition,
            offset=sent.offset,
        )
        await write_act(client, settings, done)
    return SentMessage(id=letter.id, partition=sent.partition, offset=sent.offset, timestamp_ms=sent.timestamp)
