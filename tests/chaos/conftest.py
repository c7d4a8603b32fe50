from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from chaos.cluster import Cluster


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster that is not started yet, and is stopped whatever happens."""
    cluster = Cluster(tmp_path, latency_s=1.0)
    try:
        yield cluster
    finally:
        await cluster.stop()
