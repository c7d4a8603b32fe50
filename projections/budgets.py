"""What was spent of shared budgets: the calls of the session log, each in the accounts that it names.

`budget:{account}` is a hash of `micros`, `tokens` and `calls`, and of how far each partition is counted.
"""

from collections.abc import Iterator

from agents.shared_budgets import LIFETIME, OPEN_PREFIX, SPENT_PREFIX, expires_ms
from projections.calls import Call, CallProjection
from projections.record import Record, utc
from schemas.codec import decode_session_event
from schemas.log import ModelCompleted, ModelFailed
from schemas.topics import SESSION_LOG

LIFETIME_MS = int(LIFETIME.total_seconds() * 1000)


def rows(record: Record) -> Iterator[Call]:
    """One call for each account of a model call that has ended."""
    fact = decode_session_event(record.value)
    if not isinstance(fact, ModelCompleted | ModelFailed):
        return
    for account in fact.counted_in:
        yield Call(
            utc(fact.at),
            record.topic,
            record.partition,
            record.offset,
            "settle",
            (SPENT_PREFIX + account, OPEN_PREFIX + account),
            (
                record.partition,
                record.offset,
                fact.call_id,
                fact.cost_micros,
                fact.usage.total_tokens,
                expires_ms(account),
            ),
        )


# What is not counted yet is reserved: a longer wait makes no call go beyond its limit.
BUDGETS = CallProjection(name="budgets", topics=(SESSION_LOG,), rows=rows)
