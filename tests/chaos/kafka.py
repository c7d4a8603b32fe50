"""Embedded brokers: one whose clients reach it through proxies, one that several clusters share."""

from pathlib import Path

from chaos.proxy import Proxy

from headrace.stack.artifacts import KafkaArtifacts
from headrace.stack.kafka import EmbeddedKafka
from headrace.stack.ports import LOOPBACK, free_port


class ProxiedKafka(EmbeddedKafka):
    """Who begins at a proxy's address stays behind it: the broker says that this is its own.

    `proxy` is for all workers; `lonely` for one of them, so that it can be cut off alone.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home, port=free_port())
        self.proxy = Proxy(free_port(), free_port())
        self.lonely = Proxy(free_port(), free_port())

    @property
    def proxies(self) -> dict[str, Proxy]:
        """By the names of their listeners."""
        return {"PROXIED": self.proxy, "LONELY": self.lonely}

    async def _write_config(self, artifacts: KafkaArtifacts) -> None:
        await super()._write_config(artifacts)
        path = self.home / "server.properties"
        names = self.proxies.items()
        more = {
            "listeners": [f"{name}://{LOOPBACK}:{proxy.target}" for name, proxy in names],
            "advertised.listeners": [f"{name}://{proxy.address}" for name, proxy in names],
            "listener.security.protocol.map": [f"{name}:PLAINTEXT" for name in self.proxies],
        }
        lines = path.read_text().splitlines()
        path.write_text("".join(",".join([line, *more.get(line.partition("=")[0], [])]) + "\n" for line in lines))


class SharedKafka(EmbeddedKafka):
    """A broker that somebody else started and stops: clusters with topic prefixes of their own never meet on it."""

    def __init__(self, home: Path, bootstrap: str) -> None:
        super().__init__(home)
        self._shared = bootstrap

    @property
    def bootstrap(self) -> str:
        return self._shared

    async def start(self) -> None:
        """It runs."""

    async def stop(self, deadline_s: float = 0.0) -> None:
        """Others need it."""
