"""The command as a person or a program runs it, on a real broker; a stand-in writes what the worker would."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from client_fixture import NOW, Stand, completed, own_topics, stand_in, started
from kafka_fixture import Broker, free_port

from headrace.records import read_topic
from runtime.kafka import topic_name
from runtime.settings import Settings
from schemas.codec import decode_audit_event, encode
from schemas.commands import CancelTurn, UserMessage
from schemas.dead_letter import Cause, DeadLetter
from schemas.events import TextDelta, TurnCancelled
from schemas.topics import AUDIT_EVENTS, DEAD_LETTERS, USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 90


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Command:
    """Runs `headrace` with these settings in its environment."""

    environment: dict[str, str]

    async def start(self, *arguments: str, stdin: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "headrace",
            *arguments,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )

    async def run(self, *arguments: str, stdin: str = "") -> Ended:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), TIMEOUT_S)
        assert process.returncode is not None
        assert "Traceback" not in err.decode()
        return Ended(process.returncode, out.decode(), err.decode())


def clean_environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "ANTHROPIC_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(tmp_path), **more}


@pytest_asyncio.fixture(loop_scope="session")
async def settings(embedded_kafka: Broker) -> AsyncIterator[Settings]:
    async with own_topics(embedded_kafka.bootstrap) as settings:
        yield settings


@pytest_asyncio.fixture(loop_scope="session")
async def stand(settings: Settings) -> AsyncIterator[Stand]:
    async with stand_in(settings) as stand:
        yield stand


@pytest.fixture
def headrace(settings: Settings, tmp_path: Path) -> Command:
    environment = clean_environment(
        tmp_path,
        HEADRACE_BROKERS=settings.brokers,
        HEADRACE_TOPIC_PREFIX=settings.topic_prefix,
        HEADRACE_PARTITIONS=str(settings.partitions),
    )
    return Command(environment)


async def test_topics(headrace: Command, settings: Settings) -> None:
    """What is missing is found with status 1, created, and found no more."""
    other = ("--topic-prefix", settings.topic_prefix + "b.")
    before = await headrace.run("topics", "check", *other)
    assert before.status == 1
    assert {finding["what"] for finding in before.objects} == {"missing"}
    applied = await headrace.run("topics", "apply", *other)
    assert applied.status == 0
    assert set(applied.objects[0]["created"]) == {finding["topic"] for finding in before.objects}
    assert await headrace.run("topics", "check", *other) == Ended(0, "", "")


async def test_send(headrace: Command, stand: Stand) -> None:
    """Words on the command line, or stdin, become one message; the output says where it is."""
    sent = await headrace.run("send", "s1", "hello", "there", "--id", "m1", "--agent", "writer")
    assert sent.status == 0
    assert sent.objects[0]["id"] == "m1"
    assert await stand.next_command() == UserMessage(session_id="s1", id="m1", text="hello there", agent="writer")
    await headrace.run("send", "s1", "--id", "m2", stdin="from a pipe\n")
    assert await stand.next_command() == UserMessage(session_id="s1", id="m2", text="from a pipe")


async def test_send_and_wait(headrace: Command, stand: Stand) -> None:
    """The answer is printed with status 0; a cancelled turn has status 1."""
    running = asyncio.create_task(headrace.run("send", "s1", "hi", "--wait"))
    await stand.answer_next()
    answered = await running
    assert (answered.status, answered.objects[0]["text"]) == (0, "answer to hi")
    running = asyncio.create_task(headrace.run("send", "s1", "hi", "--wait", "--id", "m2"))
    await stand.next_command()
    await stand.publish(cancelled("m2", 3))
    ended = await running
    assert (ended.status, ended.objects[0]["type"]) == (1, "turn_cancelled")


async def test_no_answer(headrace: Command) -> None:
    """Without a worker, the message says that it stays accepted."""
    ended = await headrace.run("send", "s1", "hi", "--wait", "--timeout", "0.2")
    assert ended.status == 1
    assert "is a worker running? It stays accepted" in ended.err


async def test_tail(headrace: Command, stand: Stand, settings: Settings) -> None:
    """One session's records out of all; with the topic's name with or without the prefix."""
    await stand.publish(started("s1", "m1", 1), started("s2", "x", 1), completed("s1", "m1", 2, "yes"))
    tailed = await headrace.run("tail", "agent-events", "--session", "s1", "--from-beginning", "--limit", "2")
    assert tailed.status == 0
    assert [item["record"]["type"] for item in tailed.objects] == ["turn_started", "turn_completed"]
    assert tailed.objects[1]["record"]["text"] == "yes"
    assert tailed.objects[1]["key"] == "s1"
    name = topic_name(settings, USER_MESSAGES)
    await stand.write(USER_MESSAGES, "s1", b"junk")
    tailed = await headrace.run("tail", name, "--from-beginning", "--limit", "1")
    assert tailed.objects[0]["record"] == "junk"


async def test_tail_into_head(headrace: Command, stand: Stand) -> None:
    """A reader that has enough closes the pipe: that is no error."""
    process = await headrace.start("tail", "agent-events", "--from-beginning")
    await stand.publish(started("s1", "m1", 1))
    assert process.stdout is not None
    assert process.stderr is not None
    assert await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined] # asyncio has no public way
    for seq in range(2, 50):
        await stand.publish(started("s1", "m1", seq))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.2)
            break
    assert process.returncode == 0
    assert await process.stderr.read() == b""


async def test_dead_letters(headrace: Command, stand: Stand, settings: Settings) -> None:
    """Listed, shown, and sent again as they were, with a header that says of what."""
    name = topic_name(settings, USER_MESSAGES)
    letter = DeadLetter(
        id=f"{name}/1/7",
        topic=name,
        partition=1,
        offset=7,
        at=NOW,
        processor="accept",
        cause=Cause.NOT_JSON,
        error="expected JSON, got text",
        key=b"s1",
        value=b"original \xff",
        headers=(("traceparent", b"00-1"),),
        session_id="s1",
    )
    for _ in range(2):
        await stand.write(DEAD_LETTERS, "s1", encode(letter))
    later = msgspec.structs.replace(letter, id="other", cause=Cause.WRONG_KEY, at=NOW + timedelta(seconds=1))
    await stand.write(DEAD_LETTERS, "s1", encode(later))
    listed = await headrace.run("dlq", "list")
    assert [item["id"] for item in listed.objects] == [letter.id, "other"]
    assert [item["id"] for item in (await headrace.run("dlq", "list", "--cause", "wrong_key")).objects] == ["other"]
    shown = (await headrace.run("dlq", "show", letter.id)).objects[0]
    assert (shown["value"], shown["error"]) == ("original \ufffd", "expected JSON, got text")

    missing = await headrace.run("dlq", "replay", letter.id, "nothing")
    assert missing.status == 1
    assert "no dead letter has the id nothing" in missing.err
    replayed = await headrace.run("dlq", "replay", letter.id)
    assert replayed.status == 0
    records = [record async for record in read_topic(settings, USER_MESSAGES)]
    assert [(record.key, record.value, list(record.headers)) for record in records] == [
        (b"s1", b"original \xff", [("traceparent", b"00-1"), ("headrace-replay-of", letter.id.encode())])
    ]
    assert replayed.objects[0]["offset"] == records[0].offset
    (act,) = [decode_audit_event(record.value or b"") async for record in read_topic(settings, AUDIT_EVENTS)]
    assert (act.event_type, act.outcome, act.session_id) == ("dead_letter_replayed", "success", letter.session_id)
    assert act.details["dead_letter"] == letter.id


async def test_doctor(headrace: Command, tmp_path: Path) -> None:
    """Each line is ok, warn or fail; what fails has something to do, and status 1."""
    found = await headrace.run("doctor")
    assert found.status == 0
    levels = {check["what"]: check["level"] for check in found.objects}
    # The broker shares a machine with everything else, so it may be found slow.
    assert levels.pop("brokers") in ("ok", "warn")
    assert levels == {
        "versions": "ok",
        "settings": "ok",
        "model": "warn",
        "workers": "warn",
        "topics": "ok",
        "redis": "warn",
        "postgres": "warn",
        "gateway": "warn",
    }
    missing = await headrace.run("doctor", "--topic-prefix", "nowhere.")
    assert missing.status == 1
    assert [c["to_do"] for c in missing.objects if c["level"] == "fail"] == ["create it with `headrace topics apply`"]
    nobody = await Command(clean_environment(tmp_path)).run("doctor", "--brokers", f"127.0.0.1:{free_port()}")
    assert nobody.status == 1
    assert "headrace dev" in nobody.objects[-1]["to_do"]


async def test_no_broker(tmp_path: Path) -> None:
    """One line that says what to do, within seconds."""
    address = f"127.0.0.1:{free_port()}"
    ended = await Command(clean_environment(tmp_path)).run("send", "s1", "hi", "--brokers", address)
    assert ended.status == 1
    assert ended.err.count("\n") == 1
    assert f"no broker answers at {address}" in ended.err
    assert "headrace dev" in ended.err


async def test_chat_from_a_pipe(headrace: Command, stand: Stand) -> None:
    """Each line is a message; the answers follow, and the end of stdin ends the chat with status 0."""
    running = asyncio.create_task(headrace.run("chat", "s1", stdin="one\n\ntwo\n"))
    first = await stand.answer_next()
    assert first.id is not None
    second = await stand.next_command()
    assert second.id is not None
    await stand.publish(started("s1", second.id, 3, turn=2), completed("s1", second.id, 4, "answer to two", turn=2))
    ended = await running
    assert ended.status == 0
    said = [line for line in ended.out.splitlines() if "tokens" not in line]
    assert said == ["> one", "answer to one", "> two", "answer to two"]


async def test_chat_in_a_terminal(headrace: Command, stand: Stand) -> None:
    """The answer appears as it is written; Ctrl-C cancels the turn and not the chat, Ctrl-D ends it."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace", "chat", "s1"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**headrace.environment, "TERM": "dumb"},
    )
    os.close(theirs)
    terminal = Terminal(ours)
    await terminal.until("> ")
    os.write(ours, b"tell me\n")
    message = await stand.next_command()
    assert message.id is not None
    await stand.publish(started("s1", message.id, 1), text(0, "Once upon"), text(1, " a time"))
    await terminal.until("Once upon a time")
    process.send_signal(signal.SIGINT)
    cancel = await stand.next_command()
    assert isinstance(cancel, CancelTurn)
    assert cancel.message_id == message.id
    await stand.publish(cancelled(message.id, 2))
    await terminal.until("cancelled")
    await terminal.until("> ")
    os.write(ours, b"\x04")
    assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
    os.close(ours)


class Terminal:
    """What a person sees."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._seen = ""

    async def until(self, expected: str) -> None:
        """Read until this was shown, after what was awaited before."""
        while expected not in self._seen:
            data = await asyncio.wait_for(asyncio.to_thread(os.read, self._fd, 4096), TIMEOUT_S)
            self._seen += data.decode(errors="replace")
        self._seen = self._seen.split(expected, 1)[1]


def cancelled(message_id: str, seq: int) -> TurnCancelled:
    return TurnCancelled(
        session_id="s1", turn_id="s1/1", message_id=message_id, seq=seq, at=NOW, agent="assistant", reason="enough"
    )


def text(seq: int, words: str) -> TextDelta:
    return TextDelta(session_id="s1", turn_id="s1/1", step=1, attempt=1, seq=seq, text=words)
