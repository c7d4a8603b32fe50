"""A gateway on real servers: topics, a database and keys in Redis that are nobody else's, and clients with keys."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import ClientSession
from client_fixture import own_topics
from kafka_fixture import Broker
from pydantic import SecretStr
from valkey_fixture import ValkeyServer
from yarl import URL

from gateway.key_making import NewKey, create_key
from gateway.parts import Parts
from gateway.run import opened, serving
from gateway.scopes import Scope
from projections.migrations import migrate
from projections.run import project
from runtime.settings import GatewaySettings, Settings

ALL = tuple(Scope)


@dataclass
class Answer:
    """A response that was read to its end."""

    status: int
    headers: Any
    text: str
    body: Any


@dataclass
class Door:
    """A gateway that serves, and what it works with."""

    url: str
    parts: Parts
    session: ClientSession

    @property
    def settings(self) -> Settings:
        return self.parts.settings

    async def key(
        self,
        tenant: str | None = None,
        scopes: Iterable[Scope] = ALL,
        *,
        requests_per_second: float | None = 10_000.0,
        expires_at: datetime | None = None,
    ) -> str:
        new = NewKey(
            name=f"key of {tenant or 'an operator'}",
            tenant=tenant,
            scopes=scopes,
            requests_per_second=requests_per_second,
            expires_at=expires_at,
        )
        _, key = await create_key(self.parts.database, new)
        return key

    async def ask(self, method: str, path: str, key: str | None = None, **arguments: Any) -> Answer:
        """One request; `key` is sent where there is one. `path` is sent as it is."""
        headers = {**({"Authorization": f"Bearer {key}"} if key is not None else {}), **arguments.pop("headers", {})}
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, **arguments) as response:
            text = await response.text()
            is_json = response.content_type in ("application/json", "application/problem+json")
            return Answer(
                response.status, response.headers, text, await response.json(content_type=None) if is_json else None
            )

    async def post(self, path: str, key: str | None, body: Any, **arguments: Any) -> Answer:
        return await self.ask("POST", path, key, json=body, **arguments)


@asynccontextmanager
async def stores(broker: Broker, postgres: str, valkey: ValkeyServer, **gateway: Any) -> AsyncIterator[Settings]:
    """Settings of a gateway whose topics, tables and keys in Redis are this test's own."""
    async with own_topics(broker.bootstrap) as settings:
        await migrate(postgres)
        yield settings.model_copy(
            update={
                "postgres": SecretStr(postgres),
                "redis": SecretStr(valkey.url),
                "gateway": GatewaySettings(port=0, **gateway),
            }
        )


@asynccontextmanager
async def door(settings: Settings, *, wait: bool = True) -> AsyncIterator[Door]:
    """A gateway with these settings, in this process; it has its brokers, unless nobody waits for that."""
    async with opened(settings) as parts, serving(parts) as url, ClientSession() as session:
        async with asyncio.timeout(30):
            while wait and not parts.publisher.is_connected:
                await asyncio.sleep(0.01)
        yield Door(url, parts, session)


@asynccontextmanager
async def projecting(settings: Settings, *names: str) -> AsyncIterator[None]:
    """The projections run meanwhile, by default all."""
    stopping = asyncio.Event()
    running = asyncio.create_task(project(settings, stopping, names))
    try:
        yield
    finally:
        stopping.set()
        await running


async def run(settings: Settings, *arguments: str, data_dir: Path) -> asyncio.subprocess.Process:
    """The command `headrace` with these arguments and settings."""
    assert settings.postgres is not None
    assert settings.redis is not None
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headrace",
        *arguments,
        env={
            **os.environ,
            "HEADRACE_BROKERS": settings.brokers,
            "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
            "HEADRACE_PARTITIONS": str(settings.partitions),
            "HEADRACE_POSTGRES": settings.postgres.get_secret_value(),
            "HEADRACE_REDIS": settings.redis.get_secret_value(),
            "HEADRACE_DATA_DIR": str(data_dir),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(
    embedded_kafka: Broker, postgres: str, valkey_server: ValkeyServer, tmp_path: Path
) -> AsyncIterator[Door]:
    async with (
        stores(embedded_kafka, postgres, valkey_server) as settings,
        door(settings.model_copy(update={"data_dir": tmp_path})) as opened,
    ):
        yield opened
