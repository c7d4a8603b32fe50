"""What a broadcast becomes: messages to its agents, or a fact of the session that gathers what they reply."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.codec import Headers, cloud_event_headers
from schemas.commands import Broadcast, UserMessage
from schemas.gather import DEFAULT_DEADLINE_SECONDS, MAX_DEADLINE_SECONDS, gathering_session_id, reply_session_id
from schemas.ids import BROADCAST_ID
from schemas.log import BroadcastAccepted
from streams.ports import Delivery
from streams.trace import traceparent_of


def message_of(broadcast: Broadcast, broadcast_id: str, agent: str, budget_micros: int | None) -> UserMessage:
    """The message to one agent, in a session of its own. `budget_micros` is its share."""
    session_id = reply_session_id(broadcast_id, agent)
    return UserMessage(
        session_id=session_id,
        id=session_id,
        text=broadcast.text,
        content=broadcast.content,
        agent=agent,
        user_id=broadcast.sender,
        tenant=broadcast.tenant,
        metadata={**broadcast.metadata, BROADCAST_ID: broadcast_id},
        hops=broadcast.hops + 1,
        budget_micros=budget_micros,
    )


def accepted(
    broadcast: Broadcast, broadcast_id: str, delivery: Delivery, at: datetime, **fields: Any
) -> BroadcastAccepted:
    """The fact of the session that gathers the replies; `fields` are what the broadcast does not say itself."""
    known = {"audience": broadcast.audience, **fields}
    return BroadcastAccepted(
        session_id=gathering_session_id(broadcast_id),
        broadcast_id=broadcast_id,
        content=broadcast.blocks,
        gather=broadcast.gather,
        deadline=deadline_of(broadcast, at),
        at=at,
        sent_at=delivery.at,
        user_id=broadcast.sender,
        tenant=broadcast.tenant,
        metadata=broadcast.metadata,
        traceparent=traceparent_of(delivery.headers, broadcast_id),
        reply_to=broadcast.reply_to,
        hops=broadcast.hops,
        budget_micros=broadcast.budget_micros,
        **known,
    )


def headers_of(
    record: UserMessage | BroadcastAccepted, id: str, delivery: Delivery, broadcast_id: str, at: datetime
) -> Headers:
    """In the trace of the broadcast."""
    return cloud_event_headers(
        record,
        id=id,
        source="/headrace/route_broadcast",
        at=at,
        subject=record.session_id,
        traceparent=traceparent_of(delivery.headers, broadcast_id),
    )


def deadline_of(broadcast: Broadcast, now: datetime) -> datetime:
    """When the gathering ends; a time that is too far away is brought near."""
    latest = now + timedelta(seconds=MAX_DEADLINE_SECONDS)
    given = broadcast.deadline if broadcast.deadline is not None else DEFAULT_DEADLINE_SECONDS
    if isinstance(given, int):
        return min(now + timedelta(seconds=given), latest)
    return min(given if given.tzinfo is not None else given.replace(tzinfo=UTC), latest)
