"""Workers of a bench's own, on the stack's brokers: on topics of their own, or with another model than the stack's."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from turns import Target

from headrace.connect import admin
from headrace.stack.endpoints import Endpoints
from headrace.topics import apply_topics, expected_topics
from runtime.settings import Settings

READY_S = 600.0
"""Tables of a million sessions are read within it."""
STOP_S = 60.0
POLL_S = 0.01


@dataclass
class BenchWorker:
    """A worker on the topics of this run, with a name and a data directory of its own, and the code of `checkout`."""

    settings: Settings
    model: str
    data_dir: Path
    name: str = "bench"
    checkout: Path | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> Path:
        return self.data_dir.with_suffix(".log")

    async def start(self) -> float:
        """Start it; the seconds until it takes records."""
        environment = {
            **os.environ,
            "HEADRACE_BROKERS": self.settings.brokers,
            "HEADRACE_TOPIC_PREFIX": self.settings.topic_prefix,
            "HEADRACE_DATA_DIR": str(self.data_dir),
            "HEADRACE_NAME": self.name,
            **self._options(),
            "ANTHROPIC_BASE_URL": self.model,
            "ANTHROPIC_API_KEY": "simulated",
        }
        self.data_dir.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220  # It starts in a millisecond.
                [sys.executable, "-m", "headrace", "worker"],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self.checkout,
            )
        marker = self.data_dir / "worker.ready"
        async with asyncio.timeout(READY_S):
            while not (marker.exists() and marker.read_text() == str(self.pid)):
                if self.process.poll() is not None:
                    raise SystemExit(f"the worker ended: {self.log.read_text()}")
                await asyncio.sleep(POLL_S)
        return time.perf_counter() - started

    def _options(self) -> dict[str, str]:
        """Only what was set for this run: another checkout may not know the others."""
        names = self.settings.model_fields_set & {"store", "standby_replicas"}
        return {f"HEADRACE_{name.upper()}": str(getattr(self.settings, name)) for name in names}

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            await asyncio.to_thread(self.process.wait, STOP_S)

    def resident_mb(self, what: str = "VmRSS") -> float:
        """Its resident memory now; with `VmHWM`, when it was most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields[what].split()[0]) / 1024


@asynccontextmanager
async def own_worker(endpoints: Endpoints, model: str) -> AsyncIterator[Target]:
    """A worker that calls `model`; its topics and its data are deleted at the end."""
    settings = Settings(brokers=endpoints.kafka, topic_prefix=f"bench-{uuid.uuid4().hex[:8]}-", replication=1)
    await apply_topics(settings)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        worker = BenchWorker(settings, model, Path(folder) / "worker")
        try:
            await worker.start()
            pids = {"worker": worker.pid, **{name: pid for name, pid in endpoints.pids.items() if name == "kafka"}}
            yield Target(settings.brokers, settings.topic_prefix, [worker.pid], pids=pids)
        finally:
            await worker.stop()
            await delete_topics(settings)


async def delete_topics(settings: Settings) -> None:
    """All topics of a run."""
    async with admin(settings) as client:
        await client.delete_topics([topic.name for topic in expected_topics(settings)])
