"""The patterns of `examples/patterns.toml` on a real Kafka: each answers, is drawn and traced; a worker dies in one."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster, Worker
from line import WAIT_S, Body, Line, release, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = "patterns."
EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "patterns.toml"
PARTS = range(1, 6)
FIVE = " ".join(f'[[tool:ask_researcher {{"message": "[[say:part {part}]]"}}]]' for part in PARTS)
HELD = "last-three"
TWO_QUICK = re.sub(r"(?=\[\[say:part [3-5])", f"[[hold:{HELD}]] ", FIVE)

Stage = tuple[Line, Worker]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(cluster: Cluster) -> AsyncIterator[Stage]:
    """One worker that serves the examples."""
    async with serving(cluster, PREFIX, HEADRACE_AGENTS=str(EXAMPLES)) as (line, worker):
        yield line, worker


async def headrace(cluster: Cluster, *arguments: str, expect: int = 0) -> str:
    """What the command prints, or its errors where it is to fail."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace", *arguments),
        *("--brokers", cluster.kafka.bootstrap, "--topic-prefix", PREFIX),
        env={**os.environ, "HEADRACE_AGENTS": str(EXAMPLES)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == expect, err.decode()
    return (err if expect else out).decode()


async def traced(cluster: Cluster, session_id: str) -> Body:
    """The only turn of a session, as a tree."""
    (turn,) = (await headrace(cluster, "trace", session_id, "--json")).splitlines()
    tree: Body = orjson.loads(turn)
    return tree


def agents(tree: Body) -> Iterator[str]:
    """Those that were asked, in their order."""
    for child in tree.get("asked", ()):
        yield child["agent"]


@pytest.mark.parametrize(
    ("agent", "text", "asked"),
    [
        ("article", "Write about the mill.", ["outliner", "writer", "editor"]),
        ("reception", "A technical question: why does the wheel stop?", ["classifier", "engineer"]),
        ("reception", "When does the mill open?", ["classifier", "writer"]),
        ("review", "The wheel turns at night.", ["lawyer", "engineer", "editor", "writer"]),
        ("jury", "May this be published?", ["juror"] * 5),
        ("polish", "Write about water.", ["writer", "critic"]),
        ("explorer", "Look around.", ["worker"]),
        ("orchestrator", FIVE, ["researcher"] * 5),
        ("assistant", "What is 6 * 7?", []),
    ],
)
async def test_each_example_answers(cluster: Cluster, stage: Stage, agent: str, text: str, asked: list[str]) -> None:
    """And its trace has those that it asked, with what they cost; each session replays without a difference."""
    line, _ = stage
    session = f"{agent}-{len(text)}"
    end = await line.ask(session, text, agent=agent)
    assert end["type"] == "turn_completed", end
    await headrace(cluster, "replay", session, "--diff")
    tree = await traced(cluster, session)
    assert list(agents(tree)) == asked
    assert tree["status"] == "completed"
    assert all(child["status"] == "completed" and child["tokens"] for child in tree.get("asked", ()))
    assert tree.get("asked_cost_micros", 0) == sum(child["cost_micros"] for child in tree.get("asked", ()))
    if agent not in {"orchestrator", "assistant"}:
        assert "tokens" not in tree, "a pattern calls no model"
        calls = await cluster.model_calls()
        assert sum(counts["started"] for call, counts in calls.items() if call.startswith(f"{session}~")) == len(asked)
        assert not [call for call in calls if call.startswith(f"{session}/")]


async def test_what_runs_and_what_failed_is_seen_in_the_trace(cluster: Cluster, stage: Stage) -> None:
    """A turn that runs says so, and so does its child; one that failed says at which step."""
    line, _ = stage
    await line.say("slow", "[[latency:60]]", id="m1", agent="article")
    await line.event("slow~1.2", "turn_started")
    tree = await traced(cluster, "slow")
    assert (tree["status"], [child["status"] for child in tree["asked"]]) == ("running", ["running"])
    assert "ended_at" not in tree
    await line.command("cancel_turn", "slow", by="ann")
    await line.event("slow~1.2", "turn_cancelled")
    await line.ask("broken", "[[fault:400]]", agent="article")
    shown = await headrace(cluster, "trace", "broken")
    assert '"status":"failed"' in shown
    assert "step 1 of 3 (`outliner`) failed" in shown
    assert "no agent events" in await headrace(cluster, "trace", "never", expect=1)


async def test_the_orchestrator_is_killed_among_five_parallel_children(cluster: Cluster, stage: Stage) -> None:
    """Two have ended and three are at work: those three are asked of the model again, and no finished one is."""
    line, worker = stage
    session = "killed-orchestrator"
    await line.say(session, TWO_QUICK, id="m1", agent="orchestrator")
    await asyncio.gather(*(line.event(f"{session}~1.{step}", "turn_completed") for step in (2, 3)))
    before = await until_begun(cluster, session, 6)
    finished = {call for call, counts in before.items() if counts["completed"]}
    abandoned = (await cluster.model_totals())["abandoned"]
    await worker.kill()
    async with asyncio.timeout(WAIT_S):
        while (await cluster.model_totals())["abandoned"] < abandoned + 3:
            await asyncio.sleep(0.05)
    await release(cluster, HELD)
    await worker.start()
    end = await line.event(session, "turn_completed")
    assert all(f"part {part}" in end["text"] for part in PARTS)
    after = calls_of(await cluster.model_calls(), session)
    repeated = {call: counts["started"] for call, counts in after.items() if counts["started"] > 1}
    again = sorted(call for call in finished if call in repeated)
    began, ended = (sum(counts[what] for counts in after.values()) for what in ("started", "completed"))
    print(
        f"calls {len(after)}, begun {began}, completed {ended}; begun again {sorted(repeated)}, finished again {again}"
    )
    assert len(finished) == 3
    assert not again
    assert set(repeated) <= set(before) - finished
    assert all(counts["completed"] == 1 for counts in after.values())
    tree = await traced(cluster, session)
    assert [child["status"] for child in tree["asked"]] == ["completed"] * 5


async def until_begun(cluster: Cluster, session: str, count: int) -> dict[str, dict[str, int]]:
    """The model calls of a session and its children, once so many have begun."""
    async with asyncio.timeout(WAIT_S):
        while len(calls := calls_of(await cluster.model_calls(), session)) < count:
            await asyncio.sleep(0.05)
    return calls


def calls_of(calls: dict[str, dict[str, int]], session: str) -> dict[str, dict[str, int]]:
    return {call: counts for call, counts in calls.items() if call.startswith((f"{session}/", f"{session}~"))}


async def test_an_agent_is_drawn(cluster: Cluster, stage: Stage, tmp_path: Path) -> None:
    """From a file, or as it was applied; an agent that its pattern lacks is not applied."""
    drawn = await headrace(cluster, "agents", "graph", "jury", "--file", str(EXAMPLES))
    assert drawn.startswith("flowchart LR\n")
    assert 'n0 -->|"5 votes"| n1' in drawn
    applied = tmp_path / "applied.toml"
    applied.write_text('[short]\n[short.pattern]\ntype = "chain"\nsteps = ["writer", "nobody"]')
    assert "got nobody" in await headrace(cluster, "agents", "apply", str(applied), expect=1)
    applied.write_text('[short]\n[short.pattern]\ntype = "chain"\nsteps = ["writer"]')
    await headrace(cluster, "agents", "apply", str(applied))
    shown = orjson.loads(await headrace(cluster, "agents", "graph", "short", "--json"))
    assert [node["kind"] for node in shown["nodes"]] == ["chain", "agent"]
    line, _ = stage
    assert (await line.ask("short", "Write.", agent="short"))["type"] == "turn_completed"
