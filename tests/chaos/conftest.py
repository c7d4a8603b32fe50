import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest_asyncio
from chaos.cluster import Cluster
from chaos.kafka import SharedKafka
from kafka_fixture import Broker

LATENCY_S = 1.0


@pytest_asyncio.fixture
async def cluster(tmp_path: Path, embedded_kafka: Broker) -> AsyncIterator[Cluster]:
    """A cluster whose broker stays: it has a topic prefix of its own there. It is not started yet."""
    environment = {"HEADRACE_TOPIC_PREFIX": f"chaos{uuid.uuid4().hex[:6]}."}
    kafka = SharedKafka(tmp_path, embedded_kafka.bootstrap)
    async with stopped(Cluster(tmp_path, latency_s=LATENCY_S, kafka=kafka, environment=environment)) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def frail_cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster with a broker that may be killed. It is not started yet."""
    async with stopped(Cluster(tmp_path, latency_s=LATENCY_S)) as cluster:
        yield cluster


@asynccontextmanager
async def stopped(cluster: Cluster) -> AsyncIterator[Cluster]:
    """In the end it is stopped, whatever happens."""
    try:
        yield cluster
    finally:
        await cluster.stop()
