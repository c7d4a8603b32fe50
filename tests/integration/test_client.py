"""The Python client on a real broker; a stand-in writes what the worker would."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from client_fixture import Stand, completed, own_topics, stand_in, started
from kafka_fixture import Broker, free_port

from headrace.client import Headrace
from headrace.connect import partitions_of
from headrace.errors import (
    ApplyTopicsError,
    CorrectMessageError,
    KeepWaitingError,
    ReadAgainError,
    StartBrokersError,
)
from headrace.records import read_topic
from runtime.kafka import partition_for
from runtime.settings import Settings
from schemas.commands import ApprovalDecision, CancelTurn, EndSession, UserMessage
from schemas.content import TextBlock
from schemas.events import AgentDelta, AgentEvent, DeltaReset, TextDelta, TurnCompleted
from schemas.topics import AGENT_EVENTS, USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def settings(embedded_kafka: Broker) -> AsyncIterator[Settings]:
    async with own_topics(embedded_kafka.bootstrap) as settings:
        yield settings


@pytest_asyncio.fixture(loop_scope="session")
async def headrace(settings: Settings) -> AsyncIterator[Headrace]:
    async with Headrace.of(settings) as headrace:
        yield headrace


@pytest_asyncio.fixture(loop_scope="session")
async def stand(settings: Settings) -> AsyncIterator[Stand]:
    async with stand_in(settings) as stand:
        yield stand


async def test_send(headrace: Headrace, stand: Stand) -> None:
    """A message arrives as it was given, where a reader looks for its session; an id is made where none was given."""
    sent = await headrace.send("s1", "hi", agent="assistant", user_id="ann", metadata={"a": "b"})
    assert sent.partition == partition_for(b"s1", 3)
    assert await stand.next_command() == UserMessage(
        session_id="s1", text="hi", id=sent.id, agent="assistant", user_id="ann", metadata={"a": "b"}
    )
    again = await headrace.send("s1", [TextBlock(text="blocks")], id="mine")
    assert (again.id, again.partition, again.offset) == ("mine", sent.partition, sent.offset + 1)
    assert await stand.next_command() == UserMessage(session_id="s1", content=(TextBlock(text="blocks"),), id="mine")


async def test_other_commands(headrace: Headrace, stand: Stand) -> None:
    """Each method is one command, on the same topic and partition as the messages of its session."""
    cancel = await headrace.cancel("s1", "m1", reason="enough", by="ann")
    approve = await headrace.approve("s1", "s1/1/2", by="ann")
    deny = await headrace.deny("s1", "s1/1/3", reason="no")
    end = await headrace.end_session("s1")
    assert [await stand.next_command() for _ in range(4)] == [
        CancelTurn(session_id="s1", id=cancel.id, message_id="m1", reason="enough", by="ann"),
        ApprovalDecision(session_id="s1", id=approve.id, call_id="s1/1/2", decision="approve", by="ann"),
        ApprovalDecision(session_id="s1", id=deny.id, call_id="s1/1/3", decision="deny", reason="no"),
        EndSession(session_id="s1", id=end.id),
    ]


@pytest.mark.parametrize(
    ("session_id", "text", "match"),
    [
        ("has space", "hi", "session_id"),
        ("s1", "", "text"),
        ("s1", "x" * (1 << 20), r"1,048,576 bytes.*shorter"),
        ("s1", "x" * ((1 << 20) - 150), r"1,048,576 bytes.*shorter"),
    ],
    ids=["session", "empty", "long", "long with headers"],
)
async def test_wrong_message_is_not_sent(
    headrace: Headrace, stand: Stand, session_id: str, text: str, match: str
) -> None:
    """What the pipeline would refuse is refused here; the next message is the first that arrives."""
    with pytest.raises(CorrectMessageError, match=match):
        await headrace.send(session_id, text)
    await headrace.send("s1", "good")
    command = await stand.next_command()
    assert isinstance(command, UserMessage)
    assert command.text == "good"


async def test_ask(headrace: Headrace, stand: Stand) -> None:
    """The end of this message's turn comes back, not that of another message of the session."""
    asked = asyncio.create_task(headrace.ask("s1", "two", id="m2", timeout_s=20))
    command = await stand.next_command()
    assert command.id == "m2"
    await stand.publish(started("s1", "m1", 1), completed("s1", "m1", 2, "to one"))
    await stand.write(AGENT_EVENTS, "s1", b"not an event")
    await stand.publish(started("s1", "m2", 3), completed("s1", "m2", 4, "to two"), completed("s1", "m2", 4, "again"))
    end = await asked
    assert isinstance(end, TurnCompleted)
    assert end.text == "to two"


async def test_many_ask_at_once(headrace: Headrace, stand: Stand) -> None:
    """Two hundred questions in fifty sessions, answered out of order: each caller gets its own answer."""
    asked = [asyncio.create_task(headrace.ask(f"s{n % 50}", f"q{n}", timeout_s=30)) for n in range(200)]
    commands = [await stand.next_command() for _ in asked]
    random.Random(3).shuffle(commands)
    for seq, command in enumerate(commands, 1):
        assert isinstance(command, UserMessage)
        assert command.id is not None
        await stand.publish(completed(command.session_id, command.id, seq, f"answer to {command.text}"))
    ends = await asyncio.gather(*asked)
    assert [end.text for end in ends if isinstance(end, TurnCompleted)] == [f"answer to q{n}" for n in range(200)]


async def test_two_ask_the_same(headrace: Headrace, stand: Stand) -> None:
    """One message id, two callers, the first of whom gives up: the other still gets the answer."""
    patient = asyncio.create_task(headrace.ask("s1", "hi", id="m1", timeout_s=20))
    await stand.next_command()
    with pytest.raises(KeepWaitingError, match=r"m1 of session s1.*0.1 s") as caught:
        await headrace.ask("s1", "hi", id="m1", timeout_s=0.1)
    assert caught.value.message_id == "m1"
    await stand.publish(completed("s1", "m1", 1))
    assert isinstance(await patient, TurnCompleted)


async def test_closed_while_waiting(settings: Settings, stand: Stand) -> None:
    """A caller that still waits learns that its answer cannot be read any more."""
    async with Headrace.of(settings) as headrace:
        asked = asyncio.create_task(headrace.ask("s1", "hi", timeout_s=60))
        await stand.next_command()
    with pytest.raises(ReadAgainError):
        await asked


async def test_entered_again(settings: Settings, stand: Stand) -> None:
    """A client that was left is as good as a new one."""
    client = Headrace.of(settings)
    for number in (1, 2):
        async with client:
            asked = asyncio.create_task(client.ask("s1", "hi", id=f"m{number}", timeout_s=60))
            await stand.next_command()
            await stand.publish(completed("s1", f"m{number}", number))
            assert isinstance(await asked, TurnCompleted)


async def test_closed_while_a_reader_is_opened(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller learns the same, nothing is sent, and the reader is closed: an open one would warn."""
    opening, closing = asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> Any:
        opening.set()
        await closing.wait()
        return await partitions_of(*arguments)

    monkeypatch.setattr("headrace.answers.partitions_of", slowly)
    async with Headrace.of(settings) as headrace:
        asked = [asyncio.create_task(headrace.ask("s1", "hi")) for _ in range(2)]
        await opening.wait()
        asyncio.get_running_loop().call_soon(closing.set)
    for one in asked:
        with pytest.raises(ReadAgainError):
            await one
    with pytest.raises(ReadAgainError):
        await headrace.ask("s1", "hi")
    assert [record async for record in read_topic(settings, USER_MESSAGES)] == []


async def test_follow_from_the_beginning(headrace: Headrace, stand: Stand) -> None:
    """Every event once and in order, although a worker that died repeated some; other sessions are not seen."""
    history: list[AgentEvent] = [started("s1", "m1", 1), completed("s1", "m1", 2), started("s1", "m2", 3, turn=2)]
    await stand.publish(*history[:2], started("s2", "x", 1), history[0], history[1], history[2])
    followed: list[AgentEvent | AgentDelta] = []
    async for event in headrace.follow("s1", from_beginning=True):
        followed.append(event)
        if len(followed) == len(history):
            break
    assert followed == history


async def test_follow_from_now_on(headrace: Headrace, stand: Stand) -> None:
    """Inside `async with`, following has begun: what was before is not seen, what comes is."""
    await stand.publish(started("s1", "m1", 1), completed("s1", "m1", 2))
    async with headrace.follow("s1") as events:
        await stand.publish(started("s1", "m2", 3, turn=2))
        async for event in events:
            assert event == started("s1", "m2", 3, turn=2)
            break


async def test_follow_deltas(headrace: Headrace, stand: Stand) -> None:
    """The text as it is written; after a reset the old attempt is void, and its late pieces are dropped."""

    def text(attempt: int, seq: int, text: str) -> TextDelta:
        return TextDelta(session_id="s1", turn_id="s1/1", step=1, attempt=attempt, seq=seq, text=text)

    reset = DeltaReset(session_id="s1", turn_id="s1/1", step=1, attempt=2, seq=0)
    shown = ""
    async with headrace.follow("s1", deltas=True) as items:
        await stand.publish(text(1, 0, "He"), text(1, 1, "llo"), reset, text(1, 2, "!"), text(2, 1, "Good "))
        await stand.publish(text(2, 2, "day"), text(2, 2, "day"), text(2, 3, "."))
        async for item in items:
            if isinstance(item, DeltaReset):
                assert shown == "Hello"
                shown = ""
            elif isinstance(item, TextDelta):
                shown += item.text
            if shown.endswith("."):
                await stand.publish(completed("s1", "m1", 1, "Good day."))
            if isinstance(item, TurnCompleted):
                break
    assert shown == "Good day."


async def test_broadcast(headrace: Headrace, stand: Stand) -> None:
    """Each agent answers in its own session; the replies end with the last of them."""
    sent = await headrace.broadcast("status?", ["a", "b"], id="b1")
    await stand.publish(completed("b1:a", "b1", 1, "a's"), completed("b1:c", "b1", 1, "c's"))

    async def late() -> None:
        await asyncio.sleep(0.3)
        await stand.publish(completed("b1:b", "b1", 1, "b's"))

    answering = asyncio.create_task(late())
    texts = [end.text async for end in headrace.replies(sent, ["a", "b"]) if isinstance(end, TurnCompleted)]
    await answering
    assert sorted(texts) == ["a's", "b's"]


async def test_session_begins_again(headrace: Headrace, stand: Stand) -> None:
    """A session that was forgotten counts from 1 again, later than before: its events are new."""
    again = msgspec.structs.replace(started("s1", "m9", 1), at=started("s1", "m9", 1).at + timedelta(days=31))
    await stand.publish(started("s1", "m1", 1), completed("s1", "m1", 2), again)
    followed = []
    async for event in headrace.follow("s1", from_beginning=True):
        followed.append(event)
        if event == again:
            break
    assert len(followed) == 3


async def test_nothing_there(embedded_kafka: Broker) -> None:
    """Without a broker and without topics, the message says what to do."""
    with pytest.raises(StartBrokersError, match="headrace dev"):
        async with Headrace(f"127.0.0.1:{free_port()}"):
            pass
    with pytest.raises(ApplyTopicsError, match=r"nowhere\.user-messages.*headrace topics apply"):
        async with Headrace(embedded_kafka.bootstrap, topic_prefix="nowhere."):
            pass
