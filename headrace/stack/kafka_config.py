"""The embedded broker's configuration files, as text."""

from dataclasses import dataclass
from pathlib import Path

from headrace.stack.ports import LOOPBACK

NODE_ID = 1
# The largest record: a transcript of the default size limit with room to spare. Kafka's default is 1 MiB.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
SECURE_LISTENER = "SECURE"


@dataclass(frozen=True)
class Ports:
    """Where the broker listens on 127.0.0.1."""

    plain: int
    controller: int
    secure: int


@dataclass(frozen=True)
class SecureListener:
    """TLS with the user and password of SASL/PLAIN; the certificate is the broker's own."""

    user: str
    password: str
    keystore: Path
    keystore_password: str

    @property
    def properties(self) -> dict[str, str]:
        """Broker properties of this listener."""
        prefix = f"listener.name.{SECURE_LISTENER.lower()}"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        password = _quoted(self.password)
        return {
            f"{prefix}.sasl.enabled.mechanisms": "PLAIN",
            f"{prefix}.plain.sasl.jaas.config": f"{module} required user_{self.user}={password};",
            f"{prefix}.ssl.keystore.location": str(self.keystore),
            f"{prefix}.ssl.keystore.password": self.keystore_password,
            f"{prefix}.ssl.keystore.type": "PKCS12",
        }


def server_properties(ports: Ports, log_dir: Path, secure: SecureListener | None) -> str:
    """Content of `server.properties` for one node that is broker and controller."""
    listeners = {"PLAIN": ports.plain}
    protocols = {"PLAIN": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    if secure is not None:
        listeners[SECURE_LISTENER] = ports.secure
        protocols[SECURE_LISTENER] = "SASL_SSL"
    properties = {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{ports.controller}",
        "listeners": _addresses(listeners | {"CONTROLLER": ports.controller}),
        "advertised.listeners": _addresses(listeners),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": "PLAIN",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": log_dir,
        **_SINGLE_NODE,
        **_QUICK,
        **_SMALL,
        **(secure.properties if secure else {}),
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def log4j_properties() -> str:
    """Content of `log4j2.properties`: warnings and the broker's state to the standard output."""
    return """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


_SINGLE_NODE = {
    "auto.create.topics.enable": "false",
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
}

_QUICK = {
    # A group of one developer's workers is complete at once.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # After kill -9 the broker waits until its former registration has expired.
    "broker.session.timeout.ms": 1500,
    "broker.heartbeat.interval.ms": 300,
    "controlled.shutdown.max.retries": 1,
}

_SMALL = {
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 2,
    "group.coordinator.threads": 1,
    "share.coordinator.threads": 1,
    # Compaction skips the segment in use: changelogs would otherwise grow to 1 GiB before they are compacted.
    "log.segment.bytes": 64 * 1024 * 1024,
    "log.index.size.max.bytes": 1024 * 1024,
    # Taken from the heap at start; the default of 128 MiB is half of it. 16 MiB hold 600,000 keys in one pass.
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
}


def _addresses(listeners: dict[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in listeners.items())


def _quoted(value: str) -> str:
    # Once for the string of the JAAS file, once for the properties file around it.
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\\", "\\\\") + '"'
