"""Workers are replaced by newer ones, as a deployment does it: each session goes on where it was."""

from chaos.cluster import Cluster

SESSIONS = 60


async def test_workers_without_names_are_replaced_as_soon_as_the_next_is_ready(cluster: Cluster) -> None:
    """Two rebalances within seconds: the new worker recovers some tables, and all others right after."""
    cluster.environment |= {"HEADRACE_NAME": "", "HEADRACE_STANDBY_REPLICAS": "0"}
    await cluster.start()
    for turn in range(1, 4):
        await cluster.publish([{"session_id": f"s{n}", "id": f"m{turn}", "text": "hi"} for n in range(SESSIONS)])
        events = await cluster.ended(turn * SESSIONS)
        ends = {event["session_id"]: event for event in events if event["type"] == "turn_completed"}
        assert {end["turn_id"] for end in ends.values()} == {f"s{n}/{turn}" for n in range(SESSIONS)}
        old = cluster.workers[-1]
        await cluster.add_worker(cluster.topic_prefix)
        await old.stop()
