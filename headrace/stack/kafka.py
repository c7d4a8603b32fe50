"""Apache Kafka as a child process: one KRaft node on 127.0.0.1 whose data, ports and identity outlive a restart."""

import asyncio
import shutil
import signal
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.stack.artifacts import KafkaArtifacts, Progress, kafka_artifacts
from headrace.stack.data_dir import DataDirLock
from headrace.stack.kafka_config import SecureListener, log4j_properties, server_properties
from headrace.stack.kafka_identity import Identity, load_identity
from headrace.stack.kafka_jvm import format_data, kafka_jvm, wait_until_ready
from headrace.stack.ports import LOOPBACK
from headrace.stack.process import ManagedProcess
from headrace.stack.tls import ensure_certificate, write_private

STOP_DEADLINE_S = 15.0


@dataclass(frozen=True)
class Credentials:
    """Asks for a second listener, SASL_SSL with SASL/PLAIN, for this one user."""

    user: str
    password: str

    def __post_init__(self) -> None:
        if not self.user.isidentifier():
            raise ValueError(f"the user name {self.user!r} must be letters, digits and underscores")

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"


class EmbeddedKafka:
    """One broker on `data_dir/kafka`; an async context manager, or `start` and `stop`.

    `port` fixes the port of the plain listener; otherwise it is chosen at the first start and kept as long as it is
    free. From `start` to `stop` it holds a lock on its folder, also after `kill`: a second broker on the same data is
    refused at once.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        secure: Credentials | None = None,
        cache_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        # Java resolves relative paths against the directory that it was started in.
        self.home = (data_dir / "kafka").absolute()
        self._lock = DataDirLock(self.home)
        self._fixed_port = port
        self._secure = secure
        self._cache_dir = cache_dir
        self._progress = progress
        self._identity: Identity | None = None
        self._process: ManagedProcess | None = None
        self._certificate: Path | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` of the plain listener."""
        return f"{LOOPBACK}:{self._known_identity.ports.plain}"

    @property
    def secure_bootstrap(self) -> str:
        """`host:port` of the SASL_SSL listener."""
        assert self._secure is not None, "started without credentials"
        return f"{LOOPBACK}:{self._known_identity.ports.secure}"

    @property
    def certificate(self) -> Path:
        """The PEM file that clients of the SASL_SSL listener trust."""
        assert self._certificate is not None, "started without credentials"
        return self._certificate

    def ssl_context(self) -> ssl.SSLContext:
        """Trusts this broker and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))

    @property
    def cluster_id(self) -> str:
        """Kafka's identity of this cluster, kept with the data."""
        return self._known_identity.cluster_id

    @property
    def process(self) -> ManagedProcess:
        """The broker's process: its pid, its log, signals for tests that kill or freeze it."""
        assert self._process is not None, "not started"
        return self._process

    async def start(self) -> None:
        """Fetch what is missing, format a new directory, start, and return when the broker answers.

        Raises `DataDirInUseError`, the errors of `kafka_artifacts`, and `KafkaStartError` with the end of the broker's
        log.
        """
        assert self._process is None or not self._process.running, "already running"
        if not self._lock.held:
            self._lock.acquire()
        try:
            await self._start()
        except BaseException:
            await self.stop(deadline_s=0)
            raise

    async def _start(self) -> None:
        artifacts = await _find_artifacts(self._cache_dir, self._progress)
        self._identity = load_identity(self.home, self._fixed_port)
        await self._write_config(artifacts)
        if not (self.home / "data").exists():
            await format_data(self.home, artifacts, self._identity)
        self._process = kafka_jvm("kafka", self.home, artifacts, "kafka.Kafka", self.home / "server.properties")
        await self._process.start()
        await wait_until_ready(self.bootstrap, self._process)

    async def stop(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """SIGTERM, SIGKILL after the deadline; does nothing when it does not run."""
        if self._process is not None:
            await self._process.stop(deadline_s)
        self._lock.release()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone: what a crash leaves behind is left behind."""
        self.process.signal(signal.SIGKILL)
        await self.process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _known_identity(self) -> Identity:
        assert self._identity is not None, "not started"
        return self._identity

    async def _write_config(self, artifacts: KafkaArtifacts) -> None:
        listener = None
        if self._secure is not None:
            made = await ensure_certificate(artifacts.keytool, self.home / "tls")
            self._certificate = made.certificate
            listener = SecureListener(self._secure.user, self._secure.password, made.keystore, made.password)
        properties = server_properties(self._known_identity.ports, self.home / "data", listener)
        write_private(self.home / "server.properties", properties)
        (self.home / "log4j2.properties").write_text(log4j_properties())
        # A killed broker leaves here the native libraries that its codecs unpacked.
        shutil.rmtree(self.home / "tmp", ignore_errors=True)
        (self.home / "tmp").mkdir()


async def _find_artifacts(cache_dir: Path | None, progress: Progress | None) -> KafkaArtifacts:
    loop = asyncio.get_running_loop()
    cancelled = threading.Event()

    def report(message: str) -> None:
        if cancelled.is_set():
            raise InterruptedError("the start was cancelled")
        if progress is not None:
            loop.call_soon_threadsafe(progress, message)

    try:
        return await asyncio.to_thread(kafka_artifacts, cache_dir, report)
    finally:
        # A thread cannot be cancelled: it sees this at its next report, before the fetch is complete.
        cancelled.set()
