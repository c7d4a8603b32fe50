"""Broadcasts that gather replies, over three workers, one of which is killed while the agents answer."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster, Worker
from line import WAIT_S, Body, Line, release, served_by

from headrace.client import Headrace
from schemas.gather import Quorum

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = "broadcasts."
NAMES = ("ada", "bob", "cy")
AGENTS = "\n".join(f'[{name}]\ninstructions = "Help."\nmodel = "claude-haiku-5-5"\n' for name in NAMES)
CASTS = 6
Stage = tuple[Line, list[Worker]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Three workers that share the partitions."""
    file = tmp_path_factory.mktemp("broadcasts") / "agents.toml"
    file.write_text(AGENTS)
    async with served_by(cluster, PREFIX, 3, HEADRACE_AGENTS=str(file)) as stage:
        yield stage


def of_type(line: Line, session_id: str, event_type: str) -> list[Body]:
    return [event for event in line.events(session_id) if event["type"] == event_type]


async def test_one_that_gathers(cluster: Cluster, stage: Stage) -> None:
    """The client gets what was gathered; the command prints the same, as a program reads it."""
    line, _ = stage
    async with Headrace(cluster.kafka.bootstrap, topic_prefix=PREFIX) as headrace:
        completed = await headrace.gather("Who is there?", id="plain", timeout_s=WAIT_S)
        assert (completed.reason, completed.missing) == ("gathered", ())
        assert sorted(reply.agent for reply in completed.replies) == list(NAMES)
        first = await headrace.gather(
            "[[latency:0.3]] Who is first?",
            ("ada", "bob"),
            id="first",
            gather="first",
            reply_to="told",
            timeout_s=WAIT_S,
        )
        assert len([reply for reply in first.replies if not reply.is_error]) == 1
    end = await line.end("told", "first:@")
    assert end["type"] == "turn_completed", "what was gathered is a message, which is answered"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace", "broadcast", "[[latency:60]] Anybody?", "--to", "ada", "--gather", "all"),
        *("--deadline", "1", "--json", "--brokers", cluster.kafka.bootstrap, "--topic-prefix", PREFIX),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    told = orjson.loads(out)
    assert (process.returncode, told["reason"], told["missing"]) == (1, "deadline", ["ada"])


async def test_a_quorum_while_a_worker_is_killed(cluster: Cluster, stage: Stage) -> None:
    """Every broadcast is gathered, each agent replies once, and no call whose outcome is known is made again."""
    line, workers = stage
    async with Headrace(cluster.kafka.bootstrap, topic_prefix=PREFIX) as headrace:
        casts = [f"quorum{number}" for number in range(CASTS)]
        gathering = [
            asyncio.create_task(
                headrace.gather("[[hold:count]] Count.", id=cast, gather=Quorum(quorum=2), deadline=300, timeout_s=300)
            )
            for cast in casts
        ]
        for cast in casts:
            await line.event(f"{cast}:@", "broadcast_delivered", agent=NAMES[-1])
        await workers[1].kill()
        await release(cluster, "count")
        completed = await asyncio.gather(*gathering)
    for cast, end in zip(casts, completed, strict=True):
        assert end.reason == "gathered", end
        assert len([reply for reply in end.replies if not reply.is_error]) == 2
        session_id = f"{cast}:@"
        for name in NAMES:
            await line.event(session_id, "broadcast_replied", agent=name)
        replied = Counter(event["agent"] for event in of_type(line, session_id, "broadcast_replied"))
        assert replied == dict.fromkeys(NAMES, 1)
        events = line.events(session_id)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert len(of_type(line, session_id, "broadcast_completed")) == 1
    answered = Counter(f["call_id"] for f in line.bodies("session-log") if f["type"] == "model_completed")
    repeated = {call_id: count for call_id, count in answered.items() if count > 1}
    assert repeated == {}, "a call that was paid for was made again"
