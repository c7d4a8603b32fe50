"""Kafka's Java processes: how they are started, and when the broker is ready."""

import asyncio
import shutil
import time
from pathlib import Path

from headrace.stack.artifacts import KafkaArtifacts
from headrace.stack.errors import KafkaStartError
from headrace.stack.kafka_config import server_properties
from headrace.stack.kafka_identity import Identity
from headrace.stack.process import ManagedProcess

# It takes 2 to 4 s alone on a machine with two cores; a machine under full load takes several times that.
READY_DEADLINE_S = 60.0
FORMAT_DEADLINE_S = 60.0
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


def kafka_jvm(name: str, home: Path, artifacts: KafkaArtifacts, *arguments: str | Path) -> ManagedProcess:
    """A Java process with Kafka on its class path, not yet started; `arguments` begin with the main class."""
    options = [
        *JVM_OPTIONS,
        f"-Djava.io.tmpdir={home / 'tmp'}",
        f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}",
    ]
    command = [artifacts.java, *options, "-cp", artifacts.class_path, *arguments]
    return ManagedProcess(name, command, log_path=home / f"{name}.log")


async def format_data(home: Path, artifacts: KafkaArtifacts, identity: Identity) -> None:
    """Make `home/data` what a new cluster starts from; raises `KafkaStartError`."""
    # Formatted aside and renamed when complete: a format that was interrupted cannot be taken for data.
    unfinished, config = home / "unformatted", home / "format.properties"
    shutil.rmtree(unfinished, ignore_errors=True)
    config.write_text(server_properties(identity.ports, unfinished, None))
    tool = ("kafka.tools.StorageTool", "format", "-t", identity.cluster_id, "-c", config)
    process = kafka_jvm("kafka-format", home, artifacts, *tool)
    await process.start()
    try:
        end = await asyncio.wait_for(process.wait(), FORMAT_DEADLINE_S)
    except TimeoutError:
        raise KafkaStartError(
            f"formatting {home} took longer than {FORMAT_DEADLINE_S:g} s. Start again when the machine is "
            f"less busy. The log ends with:\n{process.log_tail()}"
        ) from None
    finally:
        await process.stop(deadline_s=0)
    if end.code != 0:
        raise KafkaStartError(f"formatting {home} failed: {end}. The log ends with:\n{process.log_tail()}")
    unfinished.rename(home / "data")


async def wait_until_ready(bootstrap: str, process: ManagedProcess) -> None:
    """Return when the broker answers; raises `KafkaStartError` when it ended or took too long."""
    deadline = time.monotonic() + READY_DEADLINE_S
    while not await answers(bootstrap):
        if not process.running:
            raise KafkaStartError(
                f"Kafka did not start: {await process.wait()}. Its log, {process.log_path}, ends with:\n"
                f"{process.log_tail()}"
            )
        if time.monotonic() > deadline:
            raise KafkaStartError(
                f"Kafka did not answer on {bootstrap} within {READY_DEADLINE_S:g} s. Start again when the "
                f"machine is less busy. Its log, {process.log_path}, ends with:\n{process.log_tail()}"
            )
        await asyncio.sleep(POLL_INTERVAL_S)


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
