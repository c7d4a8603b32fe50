"""A worker that has as many calls as it may have takes no more, and goes on when there is room again."""

import asyncio

import pytest
from chaos.cluster import Cluster
from line import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_more_messages_than_calls_in_flight(cluster: Cluster) -> None:
    """Two calls at a time: the orders of twenty sessions wait on their topic, and each message is answered, once."""
    async with serving(cluster, "narrow.", HEADRACE_MODEL_IN_FLIGHT="2") as (line, worker):
        pid = worker.pid
        sessions = [f"s{number}" for number in range(20)]
        ends = await asyncio.gather(*(line.ask(session, "Good morning! [[latency:0.2]]") for session in sessions))
        assert [end["type"] for end in ends] == ["turn_completed"] * len(sessions)
        assert worker.is_running
        assert worker.pid == pid
