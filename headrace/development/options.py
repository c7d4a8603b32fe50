"""What is asked of a stack, and what its processes are told."""

from pathlib import Path

import msgspec

from headrace.stack.ports import LOOPBACK
from runtime.settings import Settings
from runtime.settings.values import GatewaySettings, is_loopback

EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - looked for, not listened on


class StackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a stack.

    `settings` are those of its processes; with `own_broker`, the stack's own Kafka takes the place of their brokers.
    A PostgreSQL or Redis that they name is used, and none is started. `config` is the TOML file that the settings are
    from, where one was named.
    """

    settings: Settings
    own_broker: bool = True
    workers: int = 1
    model_latency_s: float = 0.0
    config: Path | None = None

    def worker_environment(self, settings: Settings) -> dict[str, str]:
        """What the workers are told: the settings of the stack that they cannot read from `config`."""
        environment = {
            "HEADRACE_BROKERS": settings.brokers,
            "HEADRACE_PARTITIONS": str(settings.partitions),
            "HEADRACE_REPLICATION": str(settings.replication),
            "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        }
        if settings.agents is not None:
            environment["HEADRACE_AGENTS"] = str(settings.agents.absolute())
        if settings.budgets is not None and settings.redis is not None:
            environment["HEADRACE_BUDGETS"] = str(settings.budgets.absolute())
            environment["HEADRACE_REDIS"] = settings.redis.get_secret_value()
        if self.config is not None:
            environment["HEADRACE_CONFIG"] = str(self.config.absolute())
        return environment

    def reader_environment(self, settings: Settings) -> dict[str, str]:
        """What the projections and the gateway are told: the same, where the stores are, and who is let in."""
        assert settings.postgres is not None, "started before the stores"
        assert settings.redis is not None, "started before the stores"
        return {
            **self.worker_environment(settings),
            "HEADRACE_POSTGRES": settings.postgres.get_secret_value(),
            "HEADRACE_REDIS": settings.redis.get_secret_value(),
            "HEADRACE_GATEWAY_HOST": settings.gateway.host,
            "HEADRACE_GATEWAY_PORT": str(settings.gateway.port),
            "HEADRACE_GATEWAY_OPEN": str(settings.gateway.open).lower(),
        }


def development_gateway(asked: GatewaySettings, port: int) -> GatewaySettings:
    """The settings of the stack's gateway: this port where none was asked for, and open to this machine.

    It stays closed where that was asked for, and where other machines can reach it.
    """
    is_open = asked.open if "open" in asked.model_fields_set else is_loopback(asked.host)
    is_port_asked = "port" in asked.model_fields_set and asked.port != 0
    return asked.model_copy(update={"port": asked.port if is_port_asked else port, "open": is_open})


def gateway_url(gateway: GatewaySettings) -> str:
    """Where a browser on this machine finds it."""
    host = LOOPBACK if gateway.host in EVERY_ADDRESS else gateway.host
    return f"http://{f'[{host}]' if ':' in host else host}:{gateway.port}"
