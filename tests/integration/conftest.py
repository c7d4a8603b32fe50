"""What the tests of the whole pipeline share: one Kafka with an encrypted listener, and one simulated model."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from chaos.cluster import Cluster
from gateway_fixture import gateway

from headrace.stack.kafka import Credentials

__all__ = ["cluster", "gateway"]

CREDENTIALS = Credentials("ann", "only-for-this-test")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """No worker runs yet: each module starts its own, with topics of its own."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), secure=CREDENTIALS)
    try:
        await cluster.start(workers=0)
        yield cluster
    finally:
        await cluster.stop()
