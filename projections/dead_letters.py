"""Records that could not be processed, each once, with its cause."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from projections.projection import Row, Table, TableProjection
from projections.record import Record, utc, without_nul
from schemas.codec import decode_dead_letter
from schemas.topics import DEAD_LETTERS


class DeadLetterRow(Row, frozen=True):
    """Identified by `id`, the place of the record that failed; a record that is buried twice has its first letter."""

    id: str
    processor: str
    cause: str
    error: str
    session_id: str | None
    record_at: datetime | None
    record_key: bytes | None
    record_value: bytes | None
    record_headers: str


def rows(record: Record) -> Iterator[DeadLetterRow]:
    """One row for each letter; names and values of the headers are kept in order, the values in base64."""
    letter = decode_dead_letter(without_nul(record.value))
    yield DeadLetterRow(
        utc(letter.at),
        record.topic,
        record.partition,
        record.offset,
        letter.id,
        letter.processor,
        str(letter.cause),
        letter.error,
        letter.session_id,
        None if letter.record_at is None else utc(letter.record_at),
        letter.key,
        letter.value,
        msgspec.json.encode(letter.headers).decode(),
    )


DEAD_LETTER_ARCHIVE = TableProjection(
    name="dead_letters",
    topics=(DEAD_LETTERS,),
    rows=rows,
    tables=(Table(name="dead_letters", row=DeadLetterRow, insert="insert_dead_letters"),),
    retain="retain_dead_letters",
    keep_days=lambda settings: settings.dead_letters_days,
)
