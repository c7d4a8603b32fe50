"""The broker dies and comes back while workers write: nothing is lost, nothing is answered twice."""

import pytest
from chaos.cluster import Cluster
from chaos.promise import assert_answered_once
from chaos.test_worker_death import keys, messages, some_calls_run

pytestmark = pytest.mark.timeout(240)


async def test_the_broker_is_killed_and_restarted_under_load(cluster: Cluster) -> None:
    """SIGKILL to the broker amid 200 turns: the worker waits for it, or stops and is started again."""
    await cluster.start()
    sent = messages(200)
    await cluster.publish(sent)
    await some_calls_run(cluster, 50)
    await cluster.kafka.kill()
    await cluster.kafka.start()
    await cluster.workers[0].start_again_where_it_stopped()
    later = messages(50, "later")
    await cluster.publish(later)
    assert_answered_once(await cluster.ended(len(sent) + len(later)), keys(sent + later))
