"""Agents that broadcast, over three workers, one of which is killed while the agents answer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster, Worker
from line import Line, release, served_by

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = "casting."
NAMES = ("ada", "bob", "cy")
AGENTS = "\n".join(
    [
        *(f'[{name}]\ninstructions = "Help."\nmodel = "claude-haiku-5-5"\n' for name in NAMES),
        '[chair]\ninstructions = "Ask all."\nmodel = "claude-haiku-5-5"\nbroadcasts = true\n',
    ]
)
SESSIONS = 6
Stage = tuple[Line, list[Worker]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Three workers that share the partitions."""
    file = tmp_path_factory.mktemp("casting") / "agents.toml"
    file.write_text(AGENTS)
    async with served_by(cluster, PREFIX, 3, HEADRACE_AGENTS=str(file)) as stage:
        yield stage


async def test_an_agent_broadcasts_while_a_worker_is_killed(cluster: Cluster, stage: Stage) -> None:
    """Each call has its result, of all agents; each agent answers once, and nothing that is known is paid again."""
    line, workers = stage
    for number in range(SESSIONS):
        question = "[[hold:sound]] Is it sound?" if number % 2 else "Is it sound?"
        call = orjson.dumps({"message": question, "gather": "all", "deadline_seconds": 300}).decode()
        await line.say(f"chair{number}", f"[[tool:broadcast {call}]] Ask them.", id=f"m{number}", agent="chair")
    for number in range(SESSIONS):
        await line.event(f"chair{number}~1.2:@", "broadcast_delivered", agent=NAMES[-1])
    await workers[1].kill()
    await release(cluster, "sound")
    ends = await asyncio.gather(*(line.end(f"chair{number}", f"m{number}") for number in range(SESSIONS)))
    assert [end["type"] for end in ends] == ["turn_completed"] * SESSIONS
    for number in range(SESSIONS):
        (returned,) = [e for e in line.events(f"chair{number}") if e["type"] == "tool_returned"]
        assert returned["child_session_id"] == f"chair{number}~1.2:@"
        assert returned["content"].startswith("3 of 3 agents replied")
        replied = Counter(e["agent"] for e in line.events(f"chair{number}~1.2:@") if e["type"] == "broadcast_replied")
        assert replied == dict.fromkeys(NAMES, 1)
    answered = Counter(f["call_id"] for f in line.bodies("session-log") if f["type"] == "model_completed")
    assert {call_id: count for call_id, count in answered.items() if count > 1} == {}, "a paid call was made again"
    assert len(answered) == SESSIONS * (2 + len(NAMES))
    assert line.bodies("dead-letters") == []
