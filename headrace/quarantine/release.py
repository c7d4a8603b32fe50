"""Lists quarantined sessions, releases them, and sends again the messages that they turned away."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from headrace.audit import SOURCE, act_of_command, user_of_command, write_act
from headrace.connect import confirming, producer
from headrace.dead_letters import list_dead_letters
from headrace.dead_letters.letters import Selection
from headrace.dead_letters.reading import read_since
from headrace.quarantine.standing import LoggedFact, Quarantine, Resent, standing, to_resend, turned_away
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.audit import Act
from schemas.codec import cloud_event_headers, decode_agent_event, decode_session_event, encode, type_tag
from schemas.commands import ReleaseSession, UserMessage
from schemas.content import TextBlock
from schemas.dead_letter import REPLAY_HEADER, Cause
from schemas.events import AgentEvent
from schemas.log import MessageAccepted, SessionEvent
from schemas.refusal import UNREADABLE
from schemas.topics import AGENT_EVENTS, MAX_INTERNAL_BYTES, SESSION_LOG, USER_MESSAGES

EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
LONGEST_WAIT = timedelta(hours=1)
"""A message was accepted at most about so long before the fact that quarantined its session while it waited."""


async def list_quarantines(settings: Settings) -> list[Quarantine]:
    """The sessions that are quarantined now, as far as the topics are kept; the oldest first."""
    letters = await list_dead_letters(settings, Selection(cause=Cause.CORE_ERROR))
    if not letters:
        return []
    since = min(min(letter.record_at or letter.at, letter.at) for letter in letters) - LONGEST_WAIT
    sessions = {letter.session_id for letter in letters if letter.session_id is not None}
    facts = await _facts(settings, sessions, since, {letter.partition for letter in letters})
    found = standing(letters, facts)
    events = await _events(settings, {one.session_id for one in found}, since)
    log = topic_name(settings, SESSION_LOG)
    return [
        replace(one, turned_away=len(to_resend(log, _of(facts, one.session_id), turned_away(events[one.session_id]))))
        for one in found
    ]


async def release(settings: Settings, found: Sequence[Quarantine], reason: str) -> None:
    """Send each session the command that lifts its quarantine; it takes its turn among the session's messages."""
    async with producer(settings, MAX_INTERNAL_BYTES) as client:
        for one in found:
            command = ReleaseSession(
                session_id=one.session_id, id=one.release_id, by=user_of_command(), reason=reason[:1_000]
            )
            await _send(client, settings, command, one.release_id)


async def resend(settings: Settings, session_ids: Collection[str]) -> list[Resent]:
    """Send again what these sessions turned away and nobody has sent again yet, in the order of each session."""
    log = topic_name(settings, SESSION_LOG)
    facts = await _facts(settings, session_ids, EPOCH, None)
    events = await _events(settings, session_ids, EPOCH)
    sent: list[Resent] = []
    async with producer(settings, MAX_INTERNAL_BYTES) as client:
        for session_id in session_ids:
            for one in to_resend(log, _of(facts, session_id), turned_away(events[session_id])):
                await _send(client, settings, _message(one), one.id, one)
                sent.append(one)
    return sent


def _message(one: Resent) -> UserMessage:
    accepted: MessageAccepted = one.message
    content = accepted.content
    text = content[0].text if len(content) == 1 and isinstance(content[0], TextBlock) else None
    return UserMessage(
        session_id=accepted.session_id,
        id=one.id,
        text=text,
        content=None if text is not None else content,
        agent=accepted.agent,
        user_id=accepted.user_id,
        tenant=accepted.tenant,
        metadata=accepted.metadata,
    )


async def _send(
    client: AIOKafkaProducer,
    settings: Settings,
    command: ReleaseSession | UserMessage,
    id: str,
    resent: Resent | None = None,
) -> None:
    trace = None if resent is None else resent.message.traceparent
    subject = command.session_id
    headers = cloud_event_headers(
        command, id=id, source=SOURCE, at=datetime.now(UTC), subject=subject, traceparent=trace
    )
    if resent is not None:
        headers.append((REPLAY_HEADER, resent.place.encode()))
    said: dict[str, Any] = {"command_id": id, "type": type_tag(command)}
    async with confirming(settings):
        await client.send_and_wait(
            topic_name(settings, USER_MESSAGES), encode(command), key=subject.encode(), headers=headers
        )
        await write_act(client, settings, act_of_command(Act.COMMAND_SENT, session_id=subject, **said))


def _of(facts: Sequence[LoggedFact], session_id: str) -> list[LoggedFact]:
    return [fact for fact in facts if fact.event is not None and fact.event.session_id == session_id]


async def _facts(
    settings: Settings, sessions: Collection[str], since: datetime, partitions: Collection[int] | None
) -> list[LoggedFact]:
    """The facts of these sessions, in the order of each partition."""
    wanted = {session_id.encode() for session_id in sessions}
    facts: list[LoggedFact] = []
    async for record in read_since(settings, topic_name(settings, SESSION_LOG), since, partitions):
        if record.key not in wanted:
            continue
        event: SessionEvent | None
        try:
            event = decode_session_event(record.value or b"")
        except UNREADABLE:
            event = None
        facts.append(LoggedFact(partition=record.partition, offset=record.offset, event=event))
    return facts


async def _events(settings: Settings, sessions: Collection[str], since: datetime) -> dict[str, list[AgentEvent]]:
    wanted = {session_id.encode() for session_id in sessions}
    events: dict[str, list[AgentEvent]] = defaultdict(list)
    async for record in read_since(settings, topic_name(settings, AGENT_EVENTS), since):
        if record.key not in wanted:
            continue
        try:
            event = decode_agent_event(record.value or b"")
        except UNREADABLE:
            continue
        events[event.session_id].append(event)
    return events
