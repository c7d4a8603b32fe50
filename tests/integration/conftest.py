"""What the tests of the whole pipeline share: one Kafka with an encrypted listener, and one simulated model."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from chaos.cluster import Cluster
from gateway_fixture import gateway

from headrace.stack.kafka import Credentials

__all__ = ["cluster", "gateway"]

CREDENTIALS = Credentials("ann", "only-for-this-test")
CLUSTER_TIMEOUT_S = 400
"""For a test and the fixtures that it is the first to need: Kafka, workers and whatever they start from."""


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if "cluster" in item.fixturenames and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(CLUSTER_TIMEOUT_S))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """No worker runs yet: each module starts its own, with topics of its own."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), secure=CREDENTIALS)
    try:
        await cluster.start(workers=0)
        yield cluster
    finally:
        await cluster.stop()
