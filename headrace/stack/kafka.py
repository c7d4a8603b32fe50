"""Apache Kafka as a child process: one KRaft node on 127.0.0.1 whose data, ports and identity outlive a restart."""

import asyncio
import base64
import shutil
import signal
import ssl
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from headrace.stack.artifacts import KafkaArtifacts, Progress, kafka_artifacts
from headrace.stack.data_dir import DataDirLock
from headrace.stack.errors import KafkaStartError
from headrace.stack.kafka_config import Ports, SecureListener, log4j_properties, server_properties
from headrace.stack.ports import LOOPBACK, free_port, is_free
from headrace.stack.process import ManagedProcess
from headrace.stack.tls import ensure_certificate, write_private

# It takes 2 to 4 s alone on a machine with two cores; a machine under full load takes several times that.
READY_DEADLINE_S = 60.0
FORMAT_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0
POLL_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 5.0

JVM_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    # Without the second compiler the broker starts with half the CPU time (2.5 against 6 s) and in half the time.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    # Otherwise each JVM leaves a file in /tmp when it is killed.
    "-XX:-UsePerfData",
    # The codecs load native code, which Java 25 warns about.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.awt.headless=true",
)


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


class _Identity(msgspec.Struct, frozen=True):
    """What a broker keeps for life, in `broker.json`; the ports as long as nobody else takes them."""

    cluster_id: str
    ports: Ports


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
        self._identity: _Identity | None = None
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
        artifacts = await self._artifacts()
        self._identity = self._load_identity()
        await self._write_config(artifacts)
        if not (self.home / "data").exists():
            await self._format(artifacts)
        self._process = self._java("kafka", artifacts, "kafka.Kafka", self.home / "server.properties")
        await self._process.start()
        await self._wait_until_ready(self._process)

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
    def _known_identity(self) -> _Identity:
        assert self._identity is not None, "not started"
        return self._identity

    async def _artifacts(self) -> KafkaArtifacts:
        loop, progress = asyncio.get_running_loop(), self._progress

        cancelled = threading.Event()

        def report(message: str) -> None:
            if cancelled.is_set():
                raise InterruptedError("the start was cancelled")
            if progress is not None:
                loop.call_soon_threadsafe(progress, message)

        try:
            return await asyncio.to_thread(kafka_artifacts, self._cache_dir, report)
        finally:
            # A thread cannot be cancelled: it sees this at its next report, before the fetch is complete.
            cancelled.set()

    def _load_identity(self) -> _Identity:
        path = self.home / "broker.json"
        if path.exists():
            kept = msgspec.json.decode(path.read_bytes(), type=_Identity)
        else:
            kept = _Identity(new_cluster_id(), Ports(0, 0, 0))
        identity = _Identity(kept.cluster_id, self._choose_ports(kept.ports))
        unfinished = path.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(identity))
        unfinished.replace(path)
        return identity

    def _choose_ports(self, kept: Ports) -> Ports:
        chosen: list[int] = []
        for wanted in (self._fixed_port or kept.plain, kept.controller, kept.secure):
            usable = wanted and wanted not in chosen and is_free(wanted)
            chosen.append(wanted if usable else free_port(frozenset(chosen)))
        if self._fixed_port and chosen[0] != self._fixed_port:
            raise KafkaStartError(f"port {self._fixed_port} of {LOOPBACK} is taken: stop its user, or choose another")
        return Ports(*chosen)

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

    async def _format(self, artifacts: KafkaArtifacts) -> None:
        # Formatted aside and renamed when complete: a format that was interrupted cannot be taken for data.
        unfinished, config = self.home / "unformatted", self.home / "format.properties"
        shutil.rmtree(unfinished, ignore_errors=True)
        config.write_text(server_properties(self._known_identity.ports, unfinished, None))
        tool = ("kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", config)
        process = self._java("kafka-format", artifacts, *tool)
        await process.start()
        try:
            end = await asyncio.wait_for(process.wait(), FORMAT_DEADLINE_S)
        except TimeoutError:
            raise KafkaStartError(
                f"formatting {self.home} took longer than {FORMAT_DEADLINE_S:g} s. Start again when the machine is "
                f"less busy. The log ends with:\n{process.log_tail()}"
            ) from None
        finally:
            await process.stop(deadline_s=0)
        if end.code != 0:
            raise KafkaStartError(f"formatting {self.home} failed: {end}. The log ends with:\n{process.log_tail()}")
        unfinished.rename(self.home / "data")

    def _java(self, name: str, artifacts: KafkaArtifacts, *arguments: str | Path) -> ManagedProcess:
        options = [
            *JVM_OPTIONS,
            f"-Djava.io.tmpdir={self.home / 'tmp'}",
            f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}",
        ]
        command = [artifacts.java, *options, "-cp", artifacts.class_path, *arguments]
        return ManagedProcess(name, command, log_path=self.home / f"{name}.log")

    async def _wait_until_ready(self, process: ManagedProcess) -> None:
        deadline = time.monotonic() + READY_DEADLINE_S
        while not await answers(self.bootstrap):
            if not process.running:
                raise KafkaStartError(
                    f"Kafka did not start: {await process.wait()}. Its log, {process.log_path}, ends with:\n"
                    f"{process.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise KafkaStartError(
                    f"Kafka did not answer on {self.bootstrap} within {READY_DEADLINE_S:g} s. Start again when the "
                    f"machine is less busy. Its log, {process.log_path}, ends with:\n{process.log_tail()}"
                )
            await asyncio.sleep(POLL_INTERVAL_S)


def new_cluster_id() -> str:
    """A random id as Kafka writes them: 16 bytes in URL-safe base 64 without padding."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # The storage tool would take it for an option.
        if not text.startswith("-"):
            return text


async def answers(bootstrap: str) -> bool:
    """Whether a broker at `host:port` answers a metadata request and is itself ready to serve."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaError

    host, port = bootstrap.rsplit(":", 1)
    try:
        # A look before the client's attempt: the client logs an error when nobody listens.
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await asyncio.wait_for(client.bootstrap(), PROBE_TIMEOUT_S)
    except (KafkaError, TimeoutError, OSError):
        return False
    else:
        # A broker that is registered but still fenced is not in the cluster's list.
        return bool(client.cluster.brokers())
    finally:
        await client.close()
