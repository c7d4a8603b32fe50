"""`headrace replay` beside a worker: what it folds from the log is what the worker made of it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import orjson
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from chaos.cluster import Cluster, Worker
from line import Line

from headrace.connect import admin
from headrace.replay.fold import fold
from headrace.replay.source import read_session
from runtime.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="session")
PREFIX = "replay."
SUM = '[[tool:calculator {"expression": "6*7"}]]'


class Command:
    """Runs `headrace replay` on the pipeline's topics."""

    def __init__(self, brokers: str) -> None:
        self.settings = Settings(brokers=brokers, topic_prefix=PREFIX)

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", "replay", *arguments),
            env={**os.environ, "HEADRACE_BROKERS": self.settings.brokers, "HEADRACE_TOPIC_PREFIX": PREFIX},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(cluster: Cluster) -> AsyncIterator[Line]:
    """Three sessions have ended, and their worker has stopped: all that it decided is committed."""
    worker: Worker = await cluster.add_worker(PREFIX)
    async with Line(cluster.kafka.bootstrap, PREFIX) as line:
        for session in ("plain", "tampered", "forged", "cut"):
            await line.ask(session, f"{SUM} How much?", id="m1")
            await line.say(session, "[[latency:2]] Long.", id="m2")
            await line.event(session, "turn_started", message_id="m2")
            await line.command("cancel_turn", session)
            await line.end(session, "m2")
            await line.ask(session, "And now?", id="m3")
        await worker.stop()
        yield line


@pytest.fixture(scope="module")
def command(cluster: Cluster) -> Command:
    return Command(cluster.kafka.bootstrap)


async def test_what_a_worker_emitted_is_what_the_log_says(line: Line, command: Command, tmp_path: Path) -> None:
    """No difference in the events; the orders are those on the topics; a recording of it says the same."""
    status, out, err = await command.run("plain", "--diff", "--export", str(tmp_path / "plain.jsonl"))
    assert (status, err) == (0, "")
    assert orjson.loads(out) == {
        "same": len(line.events("plain")),
        **dict.fromkeys(("repeated", "removed", "undecided", "before"), 0),
        "differences": [],
    }
    recording = await read_session(command.settings, "plain")
    orders = [msgspec.to_builtins(order) for moment in fold(recording) for order in moment.step.effects]
    topics = [*line.bodies("llm-requests"), *line.bodies("tool-calls")]
    given = [body for body in topics if body["session_id"] == "plain"]
    assert sorted(orders, key=lambda order: order["call_id"]) == sorted(given, key=lambda order: order["call_id"])
    _, shown, _ = await command.run("plain")
    _, again, _ = await command.run("--file", str(tmp_path / "plain.jsonl"))
    assert shown == again
    assert len(shown.splitlines()) == len(recording.facts)


async def test_an_event_that_was_tampered_with_is_found(line: Line, command: Command) -> None:
    """A record in the place of another one, and one that no fact leads to."""
    completed = line.events("tampered")[-1]
    tampered = orjson.dumps({**completed, "text": "Nobody said so."})
    await line.put("agent-events", tampered, key=b"tampered")
    status, out, err = await command.run("tampered", "--diff")
    assert status == 1
    (found,) = orjson.loads(out)["differences"]
    assert (found["kind"], found["seq"], found["found"]["text"]) == ("additional", completed["seq"], "Nobody said so.")
    assert "of the core" in err


async def test_a_log_that_was_tampered_with_is_found(line: Line, command: Command) -> None:
    """A fact that no worker has decided yet is no difference, and one that changes what follows is."""
    forged = {"session_id": "forged", "message_id": "m4", "content": [{"type": "text", "text": "hi"}]}
    value = orjson.dumps({"type": "message_accepted", "at": "2026-05-01T12:00:00Z", **forged})
    await line.put("session-log", value, key=b"forged")
    status, out, _ = await command.run("forged", "--diff")
    assert (status, orjson.loads(out)["undecided"]) == (0, 1)
    wrong = orjson.dumps({**line.events("forged")[0], "seq": 99})
    await line.put("agent-events", wrong, key=b"forged")
    status, out, _ = await command.run("forged", "--diff")
    assert [found["seq"] for found in orjson.loads(out)["differences"]] == [99]


@pytest.mark.usefixtures("line")
async def test_the_state_at_a_call(command: Command) -> None:
    """With the prompt that the model got."""
    status, out, _ = await command.run("plain", "--until", "plain/1/3")
    assert status == 0
    *facts, shown = map(orjson.loads, out.splitlines())
    assert facts[-1]["orders"][0]["call_id"] == "plain/1/3"
    assert facts[-1]["state"] == shown["digest"]
    assert shown["summary"]["status"] == "calls the model"
    assert shown["prompt"]["messages"][-1]["content"][0]["content"] == "42"
    assert [tool["name"] for tool in shown["prompt"]["tools"]] == ["calculator", "current_time", "http_get"]


@pytest.mark.usefixtures("line")
@pytest.mark.parametrize(
    ("arguments", "expected", "says"),
    [
        (["nobody"], 1, "session nobody has no fact in replay.session-log, partition"),
        ([], 2, "expected a session"),
        (["plain", "--until", "tomorrow"], 2, "seq:7"),
        (["plain", "--until", "3", "--diff"], 2, "expected --until without --diff"),
        (["--file", "nowhere.jsonl"], 1, "nowhere.jsonl: cannot be read"),
        (["plain", "--export", "/nowhere/x"], 1, "/nowhere/x: cannot be written"),
        (["plain", "--brokers", "127.0.0.1:9"], 1, "no broker answers"),
    ],
)
async def test_what_cannot_be_replayed(command: Command, arguments: list[str], expected: int, says: str) -> None:
    """One line says why, and what to do."""
    status, out, err = await command.run(*arguments)
    assert (status, out) == (expected, "")
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("line")
async def test_a_call_that_never_was(command: Command) -> None:
    """All facts are shown, and then it is said which calls there are."""
    status, out, err = await command.run("plain", "--until", "9/9")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "orders call plain/9/9: the calls are plain/1/1, plain/1/2" in err
    assert len(out.splitlines()) == len((await read_session(command.settings, "plain")).facts)


async def test_a_log_whose_beginning_retention_has_removed(line: Line, command: Command) -> None:
    """It says what is missing, folds from the first turn that is whole, and finds no difference there.

    The last test: what it removes from a partition is gone for the other sessions there too.
    """

    def remove(topic: str, type_tag: str, message_id: str) -> dict[TopicPartition, RecordsToDelete]:
        for record in line.records[topic]:
            body = orjson.loads(record.value)
            if (body["session_id"], body["type"], body.get("message_id")) == ("cut", type_tag, message_id):
                return {TopicPartition(record.topic, record.partition): RecordsToDelete(record.offset + 1)}
        raise AssertionError(f"no {type_tag} on {topic}")

    async with admin(command.settings) as client:
        await client.delete_records(remove("session-log", "message_accepted", "m2"))
        await client.delete_records(remove("agent-events", "turn_started", "m2"))
    status, out, err = await command.run("cut", "--diff")
    assert status == 0, out
    assert "the log of session cut begins in the middle" in err
    assert "The fold begins with turn 3" in err
    assert (orjson.loads(out)["same"], orjson.loads(out)["before"]) == (2, 1)
    status, out, _ = await command.run("cut", "--until", "cut/3/1")
    assert (status, orjson.loads(out.splitlines()[-1])["summary"]["turn"]) == (0, 3)
