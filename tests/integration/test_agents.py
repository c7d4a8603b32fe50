"""Agents are applied, changed and removed while workers run, die and come back; and everybody sees who is there."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiokafka
import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster, Worker
from line import WAIT_S, Body, Line, serving

from schemas.directory import announcement_key, spec_key

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = "agents."
OLD, NEW, NEWEST = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
FILE = f"""
[assistant]
instructions = "Help."
description = "Calculates what you approve."
capabilities = ["arithmetic"]
model = "{OLD}"
tools = ["calculator", "find_agents"]
approval = ["calculator"]
"""
APPLIED = f"""
[assistant]
instructions = "Help, in another way."
model = "{NEW}"

[helper]
instructions = "Help."
model = "{NEW}"
capabilities = ["help"]
"""

HURRY = '''
"""The worker says every 2 s that it is there, and counts as gone after 8 s, so that a test need not wait for 30 s."""
from datetime import timedelta

import streams.announce
from agents.tools import tool

streams.announce.HEARTBEAT_S = 2.0
streams.announce.EXPIRES_AFTER = timedelta(seconds=8)


@tool
async def nothing() -> str:
    """Does nothing."""
    return ""
'''


class Operator:
    """Runs `headrace agents`, as a person does."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        self._brokers = cluster.kafka.bootstrap
        self.home = home

    async def run(self, *arguments: str, expect: int = 0, command: str = "agents") -> tuple[list[Body], str]:
        """What it prints as JSON lines, and its errors."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", command, *arguments),
            *("--json", "--brokers", self._brokers, "--topic-prefix", PREFIX, "--data-dir", str(self.home)),
            env={**os.environ, "HEADRACE_AGENTS": str(self.home / "agents.toml")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == expect, err.decode()
        return [orjson.loads(line) for line in out.splitlines()], err.decode()

    async def apply(self, text: str, *options: str, expect: int = 0) -> tuple[list[Body], str]:
        """Apply agents, and wait until every worker that is there serves them."""
        file = self.home / "applied.toml"
        file.write_text(text)
        changes, errors = await self.run("apply", str(file), *options, expect=expect)
        versions = {change["agent"]: change["version"] for change in changes if change["what"] != "removed"}
        if expect == 0 and "--dry-run" not in options:
            await self.until(
                lambda listed: all(
                    listed.get(name, {}).get("version") == version and not listed[name]["other_versions"]
                    for name, version in versions.items()
                )
            )
        return changes, errors

    async def listed(self) -> dict[str, Body]:
        lines, _ = await self.run("list")
        return {line["name"]: line for line in lines}

    async def until(self, holds: Any, timeout_s: float = WAIT_S) -> dict[str, Body]:
        """The list, once something holds of it."""
        listed: dict[str, Body] = {}
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(listed := await self.listed()):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s: {listed}") from None
        return listed


Stage = tuple[Line, Worker, Operator]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One worker whose file declares the assistant."""
    home = tmp_path_factory.mktemp("agents")
    (home / "agents.toml").write_text(FILE)
    async with serving(cluster, PREFIX, HEADRACE_AGENTS=str(home / "agents.toml")) as (line, worker):
        yield line, worker, Operator(cluster, home)


def models(line: Line, session_id: str) -> list[str]:
    """The model of each call that the session's turns made."""
    facts = [fact for fact in line.bodies("session-log") if fact["session_id"] == session_id]
    return [fact["model"] for fact in facts if fact["type"] == "model_completed"]


def retired(line: Line, worker: Worker) -> bool:
    """Whether the worker itself took back that it serves the assistant."""
    key = announcement_key("assistant", worker.data_dir.name)
    return any(record.key == key and record.value is None for record in line.records["agent-directory"])


async def asks(line: Line, session_id: str, number: int) -> Body:
    """A turn begins that waits for an approval."""
    await line.say(session_id, '[[tool:calculator {"expression": "6*7"}]]', id=f"m{number}")
    return await line.event(session_id, "approval_requested", message_id=f"m{number}")


async def approve(line: Line, waiting: Body) -> Body:
    """The turn that waits goes on; its end."""
    await line.command("approval_decision", waiting["session_id"], call_id=waiting["call_id"], decision="approve")
    return await line.end(waiting["session_id"], waiting["message_id"])


async def test_the_directory_says_who_is_there(stage: Stage) -> None:
    """A worker announces its agents as soon as it is ready; a model can look them up."""
    line, _, operator = stage
    listed = await operator.until(lambda listed: "assistant" in listed)
    assistant = listed["assistant"]
    assert (assistant["model"], assistant["capabilities"], assistant["state"]) == (OLD, ["arithmetic"], "served")
    assert len(assistant["workers"]) == 1
    end = await line.ask("who", "[[tool:find_agents {}]]")
    assert end["type"] == "turn_completed"
    (returned,) = [event for event in line.events("who") if event["type"] == "tool_returned"]
    assert orjson.loads(returned["content"]) == {"agents": [], "more": 0}, "it is alone"


async def test_a_running_turn_keeps_its_agent_through_kill_and_restart(stage: Stage) -> None:
    """What is applied is for later messages, at once, without a restart; also where the worker dies in between."""
    line, worker, operator = stage
    waiting = [await asks(line, f"kept-{number}", 1) for number in range(3)]
    # One more waits behind the turn that runs: it was accepted before, so it has the old agent too.
    await line.say("kept-2", "[[say:ok]]", id="m2")
    await line.until(lambda: any(fact.get("message_id") == "m2" for fact in line.bodies("session-log")), "m2")

    changes, _ = await operator.apply(APPLIED)
    assert [(change["agent"], change["what"]) for change in changes] == [("assistant", "added"), ("helper", "added")]
    await line.ask("fresh", "hi")
    assert models(line, "fresh") == [NEW]
    assert (await approve(line, waiting[0]))["type"] == "turn_completed"
    assert models(line, "kept-0") == [OLD, OLD]
    await line.ask("kept-0", "hi", id="m3")
    assert models(line, "kept-0") == [OLD, OLD, NEW]

    await worker.kill()
    await worker.start()
    assert (await approve(line, waiting[1]))["type"] == "turn_completed"
    assert models(line, "kept-1") == [OLD, OLD]
    await line.ask("kept-1", "hi", id="m3")
    assert models(line, "kept-1") == [OLD, OLD, NEW]

    # Its version was replaced, and replaced again, and the worker was stopped in between.
    await operator.apply(APPLIED.replace(NEW, NEWEST))
    await worker.stop()
    await worker.start()
    assert (await approve(line, waiting[2]))["type"] == "turn_completed"
    await line.end("kept-2", "m2")
    assert models(line, "kept-2") == [OLD, OLD, OLD]
    await line.ask("kept-2", "hi", id="m3")
    assert models(line, "kept-2") == [OLD, OLD, OLD, NEWEST]
    # Folded again by somebody else, each turn has the agent that it had.
    for number in range(3):
        (compared,), _ = await operator.run(f"kept-{number}", "--diff", command="replay")
        assert compared["differences"] == []
        assert compared["same"] >= 5


async def test_what_is_the_same_is_left_alone_and_a_dry_run_writes_nothing(stage: Stage) -> None:
    """Applying is idempotent: it can be part of every deployment."""
    line, _, operator = stage
    before = len(line.records["agent-specs"])
    changes, _ = await operator.apply(APPLIED.replace(NEW, NEWEST))
    assert {change["what"] for change in changes} == {"unchanged"}
    changes, _ = await operator.apply(FILE, "--dry-run", "--prune")
    assert {(change["agent"], change["what"]) for change in changes} == {
        ("assistant", "changed"),
        ("helper", "removed"),
    }
    await line.ask("fresh", "hi")
    assert len(line.records["agent-specs"]) == before


async def test_a_removed_agent_ends_its_turns_and_begins_none(stage: Stage) -> None:
    """A turn that runs is not hurt; a later message is told which agents there are; applied again, it is back."""
    line, worker, operator = stage
    await operator.apply(FILE)
    waiting = await asks(line, "removed", 1)
    await operator.run("remove", "assistant")
    await operator.until(lambda listed: "assistant" not in listed)
    refused = await line.ask("late", "hi")
    assert (refused["type"], refused["error"]["code"]) == ("turn_failed", "unknown_agent")
    assert "expected one of the agents helper, got `assistant`" in refused["error"]["message"]
    await worker.kill()
    await worker.start()
    assert (await approve(line, waiting))["type"] == "turn_completed"
    assert models(line, "removed") == [OLD, OLD]
    assert (await line.ask("removed", "hi", id="m2"))["error"]["code"] == "unknown_agent"
    await operator.apply(FILE)
    assert (await line.ask("removed", "hi", id="m3"))["type"] == "turn_completed"
    (shown,), _ = await operator.run("show", "assistant")
    kinds = [entry["type"] for entry in shown["applied"]]
    assert kinds == ["agent_applied", "agent_applied", "agent_applied", "agent_removed", "agent_applied"]
    assert shown["served"][0]["version"] == shown["applied"][-1]["version"]


async def test_what_cannot_be_served_is_refused_or_fails_its_turns(stage: Stage) -> None:
    """A tool that no worker has: refused. Written by hand: the turns fail, and say why, and the worker goes on."""
    line, worker, operator = stage
    _, errors = await operator.apply('[odd]\ninstructions = "x"\ntools = ["teleport"]', expect=1)
    assert "got teleport, which worker-" in errors
    _, errors = await operator.apply('[odd]\ninstructions = ""', expect=1)
    assert "agent [odd]" in errors
    spec = {"type": "agent_applied", "agent": "odd", "version": "v", "at": "2026-05-01T12:00:00Z"}
    odd = orjson.dumps({**spec, "spec": {"instructions": "x", "tools": ["teleport"]}})
    await line.put("agent-specs", b"{}", key=b"odd@garbage")
    await line.put("agent-specs", odd, key=spec_key("odd", "v", "1"))
    await operator.until(lambda listed: "odd" in listed)
    failed = await line.ask("odd", "hi", agent="odd")
    assert failed["error"]["code"] == "unknown_tool"
    assert "cannot serve the agent `odd`" in failed["error"]["message"]
    ignored = [entry for entry in worker.log() if entry["event"] == "agent_spec_ignored"]
    assert [entry["place"].rsplit("/", 2)[0] for entry in ignored] == [PREFIX + "agent-specs"]
    assert (await line.ask("fresh", "hi"))["type"] == "turn_completed"
    await operator.run("remove", "odd")


async def test_workers_come_and_go_in_the_directory(cluster: Cluster, stage: Stage) -> None:
    """A clean stop retires at once; who is killed expires; what they served together goes on."""
    line, first, operator = stage
    environment = {"HEADRACE_AGENTS": str(operator.home / "agents.toml")}
    (operator.home / "hurry.py").write_text(HURRY)
    environment["HEADRACE_TOOLS"] = str(operator.home / "hurry.py")
    stopped, killed = await asyncio.gather(*(cluster.add_worker(PREFIX, **environment) for _ in range(2)))
    await operator.until(lambda listed: len(listed["assistant"]["workers"]) == 3)
    await stopped.stop()
    await line.until(lambda: retired(line, stopped), "a null value of the worker that was stopped")
    listed = await operator.until(lambda listed: len(listed["assistant"]["workers"]) == 2)
    assert stopped.data_dir.name not in listed["assistant"]["workers"]
    await killed.kill()
    assert (await line.ask("meanwhile", "hi", agent="helper"))["type"] == "turn_completed"
    listed = await operator.until(lambda listed: len(listed["assistant"]["workers"]) == 1)
    assert not retired(line, killed), "nobody knew before its time was over"
    assert listed["assistant"]["workers"] == [f"worker-{first.data_dir.name.removeprefix('worker-')}"]


async def test_the_gate_is_open_only_where_the_agents_are_known(cluster: Cluster, stage: Stage) -> None:
    """A worker that starts while agent-specs has what it must know reads it first: its log says how far."""
    line, worker, _ = stage
    await worker.stop()
    await worker.start()
    await line.ask("gate", "hi", agent="helper")
    entries = worker.log()
    events = [entry["event"] for entry in entries]
    read, ready = events.index("agent_specs_read"), events.index("worker_ready")
    assert read < ready
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=cluster.kafka.bootstrap)
    await consumer.start()
    place = aiokafka.TopicPartition(PREFIX + "agent-specs", 0)
    assert entries[read]["read_to"] == (await consumer.end_offsets([place]))[place] - 1
    await consumer.stop()
