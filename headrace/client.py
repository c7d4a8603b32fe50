"""The Python client: send messages to agents, await their answers, follow what sessions do.

    async with Headrace("127.0.0.1:9092") as headrace:
        end = await headrace.ask("s1", "What is 17 * 23?")
        if isinstance(end, TurnCompleted):
            print(end.text)

It needs nothing but the brokers: no group, no state of its own. One object serves any number of concurrent calls.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

import msgspec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from headrace.answers import Answers
from headrace.connect import require_topic
from headrace.errors import CorrectMessageError, KeepWaitingError, RetryWithSameIdError, StartBrokersError
from headrace.follow import Following, read_replies
from headrace.sending import Sender
from runtime.kafka import topic_name
from runtime.settings import Security, Settings
from schemas.codec import cloud_event_headers, decode_broadcast, decode_command, encode
from schemas.commands import ApprovalDecision, Broadcast, CancelTurn, Command, EndSession, UserMessage
from schemas.content import UserBlock
from schemas.events import BroadcastCompleted, TurnEnd
from schemas.gather import Audience, AudienceOf, Quorum, gathering_session_id, own_broadcast_id
from schemas.topics import BROADCASTS, MAX_PUBLIC_IN_BYTES, USER_MESSAGES

DEFAULT_BROKERS = "127.0.0.1:9092"
DEFAULT_ANSWER_TIMEOUT_S = 600.0
"""As long as a turn may take by default."""
GATHERING_GRACE_S = 10.0
"""A broadcast whose deadline has come is told then: so much later it is, where any worker runs."""
SOURCE = "/headrace/client"
To = Literal["all"] | AudienceOf | Iterable[str]
"""The audience of a broadcast: `all`, the agents' names, or a capability or tenant."""


class MessageFields(TypedDict, total=False):
    """What a user message can say besides its text.

    `id` makes the message safe to send twice: the same id in the same session is answered once. `agent` names who
    answers; by default the session's agent, or the default one. The others are carried along.
    """

    id: str | None
    agent: str | None
    user_id: str | None
    tenant: str | None
    metadata: dict[str, str]


class BroadcastFields(TypedDict, total=False):
    """What a broadcast can say besides its text; after `expires_at` it is not delivered any more.

    With `gather`, the replies come together in the session `{id}:@`, until the `deadline`: seconds, or a time; what was
    gathered is also sent to the session `reply_to`. The agents share `budget_micros`, in micro-dollars, equally.
    """

    id: str | None
    sender: str | None
    tenant: str | None
    gather: Literal["none", "first", "all"] | Quorum
    deadline: int | datetime | None
    reply_to: str | None
    expires_at: datetime | None
    hops: int
    budget_micros: int | None
    metadata: dict[str, str]


class SentMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A record that the brokers have acknowledged: its id, and where they keep it. `timestamp_ms` is Unix time."""

    id: str
    partition: int
    offset: int
    timestamp_ms: int


class Headrace:
    """A connection to Headrace over its topics; an async context manager.

    Args:
        brokers: `host:port`, more of them with commas between.
        topic_prefix: what the topics' names begin with on this cluster.
        security: TLS and SASL towards the brokers.

    Entering raises `StartBrokersError` when no broker answers, and `ApplyTopicsError` when the topics are missing.
    """

    def __init__(
        self, brokers: str = DEFAULT_BROKERS, *, topic_prefix: str = "", security: Security | None = None
    ) -> None:
        self._settings = Settings(brokers=brokers, topic_prefix=topic_prefix, security=security or Security())
        self._answers = Answers(self._settings)
        # The body may be as large as the topic takes; the key, the headers and the batch's own fields add to it.
        self._sender = Sender(self._settings, MAX_PUBLIC_IN_BYTES)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A client of the brokers that the settings name."""
        return cls(settings.brokers, topic_prefix=settings.topic_prefix, security=settings.security)

    async def __aenter__(self) -> Self:
        self._answers = Answers(self._settings)
        try:
            await require_topic(await self._sender.open(), topic_name(self._settings, USER_MESSAGES))
        except BaseException:
            await self._sender.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._answers.close()
        await self._sender.close()

    async def send(
        self, session_id: str, content: str | Sequence[UserBlock], **fields: Unpack[MessageFields]
    ) -> SentMessage:
        """Send a message to a session's agent; returns when all replicas have it.

        Args:
            session_id: the conversation; a new one begins with its first message.
            content: text, or blocks of text and images.
            fields: see `MessageFields`; without an `id`, a random one is made here.

        Raises:
            CorrectMessageError: the message is not valid, or larger than 1 MiB.
            RetryWithSameIdError: not confirmed in time; it has the `message_id` to send again with.
        """
        return await self._send(_user_message(session_id, content, fields))

    async def ask(
        self,
        session_id: str,
        content: str | Sequence[UserBlock],
        *,
        timeout_s: float = DEFAULT_ANSWER_TIMEOUT_S,
        **fields: Unpack[MessageFields],
    ) -> TurnEnd:
        """Send a message and await the end of its turn: `TurnCompleted`, `TurnFailed` or `TurnCancelled`.

        A message whose `id` was answered before this call is not answered again: `follow` it from the beginning.

        Raises:
            KeepWaitingError: no end within `timeout_s` of being sent; the message stays accepted.
            CorrectMessageError, RetryWithSameIdError: as `send`.
            ReadAgainError: the answer cannot be read any more; ask `follow`.
        """
        message = _user_message(session_id, content, fields)
        assert message.id is not None
        # From here on the reader sees every answer, so it cannot miss the one to a message that is sent later.
        await self._answers.start()
        with self._answers.expecting(session_id, message.id) as end:
            await self._send(message)
            try:
                return await asyncio.wait_for(end, timeout_s)
            except TimeoutError:
                raise KeepWaitingError(
                    f"message {message.id} of session {session_id} has no answer after {timeout_s:g} s: is a worker "
                    "running? It stays accepted: follow the session for its answer",
                    message.id,
                ) from None

    def follow(self, session_id: str, *, from_beginning: bool = False, deltas: bool = False) -> Following:
        """What happens in a session, from now on or from the oldest event that is kept; it does not end by itself.

        `async for event in headrace.follow("s1")`; or `async with headrace.follow("s1") as events:`, which begins at
        once: whatever is sent inside is seen by the `async for event in events` that comes after.

        Events come in the order of `seq`, and repeated ones are dropped. With `deltas`, pieces of the answer come as
        the model writes them: a `DeltaReset` says that what came of the same step before is void (the call is tried
        again); deltas of void attempts and of turns that have ended are dropped. Deltas are advisory: the answer is the
        `text` of `TurnCompleted`.

        Raises:
            ApplyTopicsError, StartBrokersError: at the begin. ReadAgainError: reading failed for good.
        """
        return Following(self._settings, session_id, from_beginning=from_beginning, deltas=deltas)

    async def cancel(
        self, session_id: str, message_id: str | None = None, *, reason: str = "", by: str | None = None
    ) -> SentMessage:
        """End the turn that answers this message, queued or running; without one, the turn that is running."""
        return await self._send(
            CancelTurn(session_id=session_id, id=_new_id(), message_id=message_id, reason=reason, by=by)
        )

    async def approve(
        self,
        session_id: str,
        call_id: str,
        *,
        reason: str = "",
        by: str | None = None,
        input: dict[str, Any] | None = None,
    ) -> SentMessage:
        """Let a call run that waits for approval, with other arguments where `input` has some.

        `call_id` is that of `ApprovalRequested`; `by` is needed where the agent's rule names approvers, or several.
        """
        decision = _decision("approve", session_id, call_id, reason, by)
        return await self._send(msgspec.structs.replace(decision, input=input))

    async def deny(self, session_id: str, call_id: str, *, reason: str = "", by: str | None = None) -> SentMessage:
        """Refuse a tool call that waits for approval; the model learns the reason."""
        return await self._send(_decision("deny", session_id, call_id, reason, by))

    async def end_session(self, session_id: str, *, reason: str = "") -> SentMessage:
        """Forget the conversation: a running turn is cancelled, later messages are refused."""
        return await self._send(EndSession(session_id=session_id, id=_new_id(), reason=reason))

    async def broadcast(self, text: str, audience: To = "all", **fields: Unpack[BroadcastFields]) -> SentMessage:
        """Send a message to many agents; each answers in a session of its own, named `{id}:{agent}`."""
        return await self._send(_broadcast(text, audience, fields))

    async def gather(
        self,
        text: str,
        audience: To = "all",
        *,
        timeout_s: float = DEFAULT_ANSWER_TIMEOUT_S,
        **fields: Unpack[BroadcastFields],
    ) -> BroadcastCompleted:
        """Send a message to many agents and await what is gathered: all replies, unless `gather` says otherwise.

        Its `reason` says whether as much came as was asked for. The deadline is `timeout_s`, unless one is given.

        Raises:
            KeepWaitingError: nothing within `timeout_s` and 10 s more: no worker runs, or the broadcast was refused.
            CorrectMessageError, RetryWithSameIdError, ReadAgainError: as `ask`.
        """
        given: BroadcastFields = {**fields}
        given.setdefault("gather", "all")
        given.setdefault("deadline", max(1, int(timeout_s)))
        broadcast = _broadcast(text, audience, given)
        assert broadcast.id is not None
        await self._answers.start()
        with self._answers.gathering(gathering_session_id(broadcast.id), broadcast.id) as completed:
            await self._send(broadcast)
            try:
                return await asyncio.wait_for(completed, timeout_s + GATHERING_GRACE_S)
            except TimeoutError:
                raise KeepWaitingError(
                    f"broadcast {broadcast.id} has not ended after {timeout_s + GATHERING_GRACE_S:g} s: is a worker "
                    "running, or was it refused? `headrace dlq list` shows that; follow its session for the replies",
                    broadcast.id,
                ) from None

    def replies(self, broadcast: SentMessage, agents: Iterable[str]) -> AsyncIterator[TurnEnd]:
        """The agents' ends of turn to a broadcast, as they come; ends when each of these agents has one."""
        sessions = {f"{broadcast.id}:{agent}" for agent in agents}
        return read_replies(self._settings, sessions, broadcast.timestamp_ms)

    async def _send(self, record: Command | Broadcast) -> SentMessage:
        record_id = record.id
        assert record_id is not None
        if isinstance(record, Broadcast):
            topic, key, value = BROADCASTS, record_id, _checked(record, decode_broadcast)
        else:
            topic, key, value = USER_MESSAGES, record.session_id, _checked(record, decode_command)
        headers = cloud_event_headers(record, id=record_id, source=SOURCE, at=datetime.now(UTC), subject=key)
        try:
            sent = await self._sender.send(topic_name(self._settings, topic), value, key=key.encode(), headers=headers)
        except MessageSizeTooLargeError as error:
            raise CorrectMessageError(_too_large(len(value))) from error
        except (KafkaError, StartBrokersError, TimeoutError) as error:
            raise RetryWithSameIdError(
                f"the brokers at {self._settings.brokers} did not confirm message {record_id} ({error!r}): it may have "
                "arrived; send it again with the same id, and it is answered once",
                record_id,
            ) from error
        return SentMessage(id=record_id, partition=sent.partition, offset=sent.offset, timestamp_ms=sent.timestamp)


def _new_id() -> str:
    return uuid.uuid4().hex


def _broadcast(text: str, audience: To, fields: BroadcastFields) -> Broadcast:
    to: Audience = audience if audience == "all" or isinstance(audience, AudienceOf) else tuple(audience)
    broadcast_id = own_broadcast_id(fields.get("id") or _new_id(), fields.get("tenant"))
    given: dict[str, Any] = {**fields, "id": broadcast_id}
    try:
        return Broadcast(text=text, audience=to, **given)
    except ValueError as error:
        raise CorrectMessageError(f"the broadcast is not valid: {error}") from error


def _user_message(session_id: str, content: str | Sequence[UserBlock], fields: MessageFields) -> UserMessage:
    given: dict[str, Any] = {**fields, "id": fields.get("id") or _new_id()}
    if isinstance(content, str):
        return UserMessage(session_id=session_id, text=content, **given)
    return UserMessage(session_id=session_id, content=tuple(content), **given)


def _decision(
    decision: Literal["approve", "deny"], session_id: str, call_id: str, reason: str, by: str | None
) -> ApprovalDecision:
    return ApprovalDecision(
        session_id=session_id, id=_new_id(), call_id=call_id, decision=decision, reason=reason, by=by
    )


def _checked(record: msgspec.Struct, decode: Any) -> bytes:
    """The record's bytes, after reading them as the pipeline will: what it would refuse is not sent."""
    value = encode(record)
    try:
        decode(value)
    except msgspec.ValidationError as error:
        raise CorrectMessageError(f"the message is not valid: {error}") from error
    if len(value) > MAX_PUBLIC_IN_BYTES:
        raise CorrectMessageError(_too_large(len(value)))
    return value


def _too_large(size: int) -> str:
    return (
        f"expected a message of at most {MAX_PUBLIC_IN_BYTES:,} bytes with its headers, got {size:,}: make it shorter"
    )
