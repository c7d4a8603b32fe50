"""How the brokers are reached: what aiokafka and Faust take, from the settings; topic names and partitions."""

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from runtime.settings import Security, Settings
from schemas.topics import Topic

if TYPE_CHECKING:
    import faust

SESSIONS_TABLE = "sessions"


def client_arguments(settings: Settings, client_id: str = "headrace") -> dict[str, Any]:
    """Keyword arguments for aiokafka's producer, consumer and admin client.

    Raises:
        OSError: a certificate or key file cannot be read; `ssl.SSLError` where it is not one.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.brokers,
        "client_id": client_id,
        "security_protocol": _protocol(settings.security),
    }
    if settings.security.tls:
        arguments["ssl_context"] = ssl_context(settings.security)
    if settings.security.sasl_mechanism is not None:
        assert settings.security.sasl_password is not None
        arguments["sasl_mechanism"] = settings.security.sasl_mechanism
        arguments["sasl_plain_username"] = settings.security.sasl_username
        arguments["sasl_plain_password"] = settings.security.sasl_password.get_secret_value()
    return arguments


def faust_broker_urls(settings: Settings) -> list[str]:
    """The brokers as Faust's `broker=` takes them."""
    return [f"aiokafka://{broker}" for broker in settings.brokers.split(",")]


def faust_credentials(settings: Settings) -> "faust.types.auth.CredentialsT | None":
    """The same security as Faust's `broker_credentials=`; None where there is none."""
    import faust

    security = settings.security
    context = ssl_context(security) if security.tls else None
    if security.sasl_mechanism is not None:
        assert security.sasl_password is not None
        return faust.SASLCredentials(
            username=security.sasl_username,
            password=security.sasl_password.get_secret_value(),
            mechanism=security.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def ssl_context(security: Security) -> ssl.SSLContext:
    """Verifies the broker's certificate and host name; shows ours where there is one."""
    context = ssl.create_default_context(cafile=security.ca_file)
    if security.cert_file is not None:
        assert security.key_file is not None
        context.load_cert_chain(security.cert_file, security.key_file)
    return context


def _protocol(security: Security) -> str:
    if security.sasl_mechanism is not None:
        return "SASL_SSL" if security.tls else "SASL_PLAINTEXT"
    return "SSL" if security.tls else "PLAINTEXT"


def topic_name(settings: Settings, topic: Topic) -> str:
    """The topic's name on this cluster."""
    return settings.topic_prefix + topic.name


def group_id(settings: Settings) -> str:
    """The consumer group of the workers, and Faust's app id: two prefixes on one cluster do not meet."""
    return settings.topic_prefix + settings.app_id


def changelog_topic_name(settings: Settings, table: str = SESSIONS_TABLE) -> str:
    """The changelog of a table, as Faust names it."""
    return f"{group_id(settings)}-{table}-changelog"


def partition_for(key: bytes, count: int) -> int:
    """The partition where aiokafka's and Java's default partitioner put a key: murmur2, sign dropped, modulo."""
    from aiokafka.partitioner import murmur2

    return int((murmur2(key) & 0x7FFFFFFF) % count)


async def brokers_answer(settings: Settings, timeout_s: float = 5.0) -> bool:
    """Whether one of the brokers takes a connection; says nothing about what speaks there."""

    async def answers(broker: str) -> bool:
        host, _, port = broker.rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), timeout_s)
        except OSError:
            return False
        writer.close()
        return True

    return any(await asyncio.gather(*(answers(broker) for broker in settings.brokers.split(","))))
