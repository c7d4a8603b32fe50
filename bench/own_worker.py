"""A worker of a bench's own, with another model than the stack's: on its brokers, and on topics of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from turns import Target

from headrace.connect import admin
from headrace.stack.endpoints import Endpoints
from headrace.topics import apply_topics, expected_topics
from runtime.settings import Settings

READY_S = 60.0
POLL_S = 0.05
STOP_S = 20.0


@asynccontextmanager
async def own_worker(endpoints: Endpoints, model: str) -> AsyncIterator[Target]:
    """A worker that calls `model`; its topics and its data are deleted at the end."""
    settings = Settings(brokers=endpoints.kafka, topic_prefix=f"bench-{uuid.uuid4().hex[:8]}-", replication=1)
    await apply_topics(settings)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        process = _start(settings, model, Path(folder))
        try:
            await _ready(process, Path(folder))
            pids = {"worker": process.pid, **{name: pid for name, pid in endpoints.pids.items() if name == "kafka"}}
            yield Target(settings.brokers, settings.topic_prefix, [process.pid], pids=pids)
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, STOP_S)
            async with admin(settings) as client:
                await client.delete_topics([topic.name for topic in expected_topics(settings)])


def _start(settings: Settings, model: str, folder: Path) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "HEADRACE_BROKERS": settings.brokers,
        "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        "HEADRACE_DATA_DIR": str(folder),
        "HEADRACE_NAME": "bench",
        "ANTHROPIC_BASE_URL": model,
        "ANTHROPIC_API_KEY": "simulated",
    }
    with (folder / "worker.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "headrace", "worker"], env=environment, stdout=log, stderr=log)


async def _ready(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    async with asyncio.timeout(READY_S):
        while not (folder / "worker.ready").exists():
            if process.poll() is not None:
                raise SystemExit(f"the worker ended: {(folder / 'worker.log').read_text()}")
            await asyncio.sleep(POLL_S)
