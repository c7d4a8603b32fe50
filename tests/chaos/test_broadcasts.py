"""Three agents in three processes: who there is, a quorum while one process is killed, and an agent that comes late."""

import asyncio
import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from chaos.cluster import Cluster, Worker, release
from chaos.promise import ENDS
from line import Body, Line

pytestmark = pytest.mark.timeout(600)
AGENTS = Path(__file__).parent / "broadcasts.toml"
NAMES = ("ada", "bob", "cy")
LATE = """
[dora]
instructions = "You answer, also what was asked before you came."
description = "{description}"
capabilities = ["counting"]
broadcast_replay_seconds = 600
"""
QUORUMS = 6
HELD = "quorum"
DEADLINE_S = 500
"""Of a gathering that must not end by it."""
EVENTS_S = 120.0
LATE_S = 3.0
"""For what must not come any more."""


class Table:
    """What happened, as it is shown."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)

    def row(self, what: str, found: object) -> None:
        print(f"{(datetime.now(UTC) - self._began).total_seconds():6.1f} s  {what:<50} {found}", flush=True)


async def apply(cluster: Cluster, description: str) -> None:
    """`headrace agents apply`, as an operator does it."""
    file = cluster.home / "late.toml"
    file.write_text(LATE.format(description=description))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace", "agents", "apply", str(file)),
        *("--brokers", cluster.kafka.bootstrap, "--data-dir", str(cluster.home)),
        env={**os.environ, **cluster.environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0


async def says(workers: list[Worker], event: str, count: int = 1) -> Worker:
    """The worker whose log has `event` so often, once one has."""
    async with asyncio.timeout(EVENTS_S):
        while True:
            for worker in workers:
                if worker.is_running and sum(line["event"] == event for line in worker.log()) >= count:
                    return worker
            await asyncio.sleep(0.1)


async def cast(line: Line, id: str, text: str, **fields: Any) -> None:
    await line.put("broadcasts", orjson.dumps({"id": id, "text": text, "sender": "ann", **fields}))


async def completed(line: Line, id: str) -> Body:
    def find() -> Body | None:
        return next((event for event in line.events(f"{id}:@") if event["type"] == "broadcast_completed"), None)

    return await line.until(find, f"the end of {id}", EVENTS_S)


def answered(line: Line, agent: str) -> Counter[str]:
    """How often each message to the agent has ended."""
    ends = (event for event in line.bodies("agent-events") if event["type"] in ENDS and event["agent"] == agent)
    return Counter(message_id for message_id, _ in {(event["message_id"], event["seq"]) for event in ends})


async def test_three_agents_in_three_processes(cluster: Cluster) -> None:
    """Discovery; a quorum of two while one process is killed; one more agent, whose worker is killed as well."""
    cluster.environment["HEADRACE_AGENTS"] = str(AGENTS)
    await cluster.start(workers=3)
    table = Table()
    async with Line(cluster.kafka.bootstrap, cluster.topic_prefix) as line:
        await _discovery(line, table)
        await _quorum_while_one_is_killed(cluster, line, table)
        await _one_joins_late(cluster, line, table)
        letters = [letter for letter in line.bodies("dead-letters") if letter["cause"] != "expired"]
        assert letters == []
    calls = await cluster.model_calls()
    again = [call_id for call_id, count in calls.items() if count["started"] > 1]
    table.row("model calls that died with a process, made again", len(again))
    paid_twice = {call_id: count for call_id, count in calls.items() if count["completed"] > 1}
    table.row("model calls that were paid twice", len(paid_twice))
    facts = Counter(fact["call_id"] for fact in line.bodies("session-log") if fact["type"] == "model_completed")
    assert {call_id: count for call_id, count in facts.items() if count > 1} == {}


async def _discovery(line: Line, table: Table) -> None:
    def everybody() -> set[tuple[str, str]]:
        found = {(told["agent"], told["worker"]) for told in line.bodies("agent-directory") if told}
        return found if len(found) == len(NAMES) * 3 else set()

    found = await line.until(everybody, "three agents of three workers", EVENTS_S)
    assert {agent for agent, _ in found} == set(NAMES)
    table.row("agents, processes that serve them", f"{len(NAMES)}, {len({worker for _, worker in found})}")


async def _quorum_while_one_is_killed(cluster: Cluster, line: Line, table: Table) -> None:
    casts = [f"quorum{number}" for number in range(QUORUMS)]
    for broadcast_id in casts:
        await cast(line, broadcast_id, f"[[hold:{HELD}]] Count.", gather={"quorum": 2}, deadline=DEADLINE_S)
    for broadcast_id in casts:
        for name in NAMES:
            await line.event(f"{broadcast_id}:@", "broadcast_delivered", agent=name)
    async with asyncio.timeout(EVENTS_S):
        # The calls of the process that dies are under way.
        while len(await cluster.model_calls()) < QUORUMS * len(NAMES):
            await asyncio.sleep(0.1)
    victim = cluster.workers[1]
    pid = victim.pid
    await victim.kill()
    async with asyncio.timeout(EVENTS_S):
        # Some of them were its own.
        while not (await cluster.model_totals())["abandoned"]:
            await asyncio.sleep(0.1)
    await release(cluster, HELD)
    table.row("killed while three agents answer", f"worker 2, process {pid}")
    for broadcast_id in casts:
        end = await completed(line, broadcast_id)
        good = [reply["agent"] for reply in end["replies"] if not reply.get("is_error")]
        assert (end["reason"], len(good)) == ("gathered", 2)
        table.row(f"{broadcast_id}: gathered of, cancelled", f"{'+'.join(sorted(good))}, {'+'.join(end['missing'])}")
    await victim.start()


async def _one_joins_late(cluster: Cluster, line: Line, table: Table) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await cast(line, "gone", "This is old.", expires_at=soon.isoformat())
    await cast(line, "noon", "We deploy at noon.", audience={"capability": "counting"})
    tool = '[[tool:calculator {"expression": "6*7"}]] How much is it?'
    await cast(line, "open", tool, gather="all", deadline=DEADLINE_S)
    waiting = await line.event("open:cy", "approval_requested")
    for name in ("ada", "bob"):
        await line.event("open:@", "broadcast_replied", agent=name)
    await asyncio.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()))
    first, pid = await _killed_while_it_replays(cluster, table)
    table.row("killed while it gives dora what she missed", f"worker {cluster.workers.index(first) + 1}, process {pid}")
    await line.event("open:@", "broadcast_delivered", agent="dora")
    replayer = await says(cluster.workers, "broadcasts_replayed")
    table.row("done by", f"worker {cluster.workers.index(replayer) + 1}")
    missed = {*(f"quorum{number}:dora" for number in range(QUORUMS)), "noon:dora", "open:dora"}
    starting = asyncio.create_task(first.start())
    await line.until(lambda: answered(line, "dora").keys() >= missed, "dora's answers", EVENTS_S)
    await line.command("approval_decision", "open:cy", call_id=waiting["call_id"], decision="approve", by="ann")
    end = await completed(line, "open")
    replied = sorted(reply["agent"] for reply in end["replies"])
    table.row("an open gathering counts her reply", f"{end['reason']}: {'+'.join(replied)}")
    assert (end["reason"], replied) == ("gathered", ["ada", "bob", "cy", "dora"])
    await starting
    await apply(cluster, "Came late, and is applied again.")
    await _again(cluster.workers, table)
    counts = answered(line, "dora")
    table.row("broadcasts that dora missed, got, answered", f"{len(missed)}, {len(counts)}, {sum(counts.values())}")
    assert counts == dict.fromkeys(missed, 1)
    for number in range(QUORUMS):
        replies = [event for event in line.events(f"quorum{number}:@") if event["type"] == "broadcast_replied"]
        assert sorted(event["agent"] for event in replies) == list(NAMES), "what had ended counts no more replies"


async def _killed_while_it_replays(cluster: Cluster, table: Table) -> tuple[Worker, int]:
    """The worker that died, and its process id; where it was done before it could be killed, dora is applied again."""
    while True:
        await apply(cluster, f"Comes late, at {datetime.now(UTC)}.")
        table.row("applied: dora, broadcast_replay_seconds = 600", "")
        first = await says(cluster.workers, "broadcast_replay_begins")
        pid = first.pid
        await first.kill()
        if not any(line["event"] == "broadcasts_replayed" for line in first.log()):
            return first, pid
        await first.start()


async def _again(workers: list[Worker], table: Table) -> None:
    """A second pass: all is told again, and nothing is answered again."""
    async with asyncio.timeout(EVENTS_S):
        while True:
            passes = [line for one in workers for line in one.log() if line["event"] == "broadcasts_replayed"]
            if len(passes) >= 2:
                break
            await asyncio.sleep(0.2)
    table.row("applied again: broadcasts that were told again", passes[-1]["given"])
    await asyncio.sleep(LATE_S)
