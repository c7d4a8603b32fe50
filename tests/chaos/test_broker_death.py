"""The broker dies and comes back while workers write: nothing is lost, nothing is answered twice."""

from chaos.cluster import Cluster, release
from chaos.promise import assert_answered_once
from chaos.test_worker_death import HELD, calls_run, keys, messages


async def test_the_broker_is_killed_and_restarted_under_load(frail_cluster: Cluster) -> None:
    """SIGKILL to the broker amid 200 turns: the worker waits for it, or stops and is started again."""
    cluster = frail_cluster
    await cluster.start()
    sent = messages(200)
    await cluster.publish(sent)
    await calls_run(cluster, sent)
    async with cluster.workers[0].supervised():
        await cluster.kafka.kill()
        await release(cluster, HELD)
        await cluster.kafka.start()
        later = messages(50, "later")
        await cluster.publish(later)
        assert_answered_once(await cluster.ended(len(sent) + len(later)), keys(sent + later))
