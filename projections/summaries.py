"""Each user's conversations: title, last message, how many messages.

`summary:{session}` is a hash, and `user:{tenant}/{user}` has the user's sessions by the time of their last message.
"""

from collections.abc import Iterator

from projections.calls import DAY_MS, Call, CallProjection, milliseconds
from projections.record import Record, utc
from schemas.codec import decode_session_event
from schemas.content import text_of
from schemas.log import MessageAccepted
from schemas.topics import SESSION_LOG

LIFETIME_MS = 30 * DAY_MS
"""As long as the session log: a summary holds what can be made again from it."""
MAX_TEXT_CHARACTERS = 200


def rows(record: Record) -> Iterator[Call]:
    """A call for each message of a user who has a name."""
    fact = decode_session_event(record.value)
    if not isinstance(fact, MessageAccepted) or fact.user_id is None:
        return
    tenant = fact.tenant or ""
    yield Call(
        utc(fact.at),
        record.topic,
        record.partition,
        record.offset,
        "summary_message",
        (f"summary:{fact.session_id}", f"summary-messages:{fact.session_id}", f"user:{tenant}/{fact.user_id}"),
        (
            fact.session_id,
            record.offset,
            milliseconds(utc(fact.at)),
            LIFETIME_MS,
            fact.message_id,
            text_of(fact.content)[:MAX_TEXT_CHARACTERS],
            fact.user_id,
            tenant,
        ),
    )


SUMMARIES = CallProjection(name="summaries", topics=(SESSION_LOG,), rows=rows)
