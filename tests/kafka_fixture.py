"""A broker for tests: one for the whole session, or the one that `HEADRACE_TEST_BROKERS` names.

A conftest makes it available with `from kafka_fixture import embedded_kafka`.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from headrace.stack.kafka import EmbeddedKafka
from headrace.stack.ports import free_port

__all__ = ["Broker", "embedded_kafka", "free_port"]


@dataclass(frozen=True)
class Broker:
    """A broker that tests share: name topics and groups after the test."""

    bootstrap: str


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A running broker, started at the first test that asks for it."""
    existing = os.environ.get("HEADRACE_TEST_BROKERS")
    if existing:
        yield Broker(existing)
        return
    async with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), progress=print) as kafka:
        yield Broker(kafka.bootstrap)
