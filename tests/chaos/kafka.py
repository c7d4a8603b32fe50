"""The embedded broker with one more listener, which its clients reach through a proxy."""

from pathlib import Path

from chaos.proxy import Proxy

from headrace.stack.artifacts import KafkaArtifacts
from headrace.stack.kafka import EmbeddedKafka
from headrace.stack.ports import LOOPBACK, free_port


class ProxiedKafka(EmbeddedKafka):
    """Who begins with `proxied` stays behind the proxy: the broker says that this is its address."""

    def __init__(self, home: Path) -> None:
        port, self._behind = free_port(), free_port()
        super().__init__(home, port=port)
        self.proxy = Proxy(free_port(), self._behind)

    @property
    def proxied(self) -> str:
        return f"{LOOPBACK}:{self.proxy.port}"

    async def _write_config(self, artifacts: KafkaArtifacts) -> None:
        await super()._write_config(artifacts)
        path = self.home / "server.properties"
        lines = []
        for line in path.read_text().splitlines():
            key = line.partition("=")[0]
            more = {
                "listeners": f",PROXIED://{LOOPBACK}:{self._behind}",
                "advertised.listeners": f",PROXIED://{self.proxied}",
                "listener.security.protocol.map": ",PROXIED:PLAINTEXT",
            }.get(key, "")
            lines.append(line + more)
        path.write_text("".join(f"{line}\n" for line in lines))
