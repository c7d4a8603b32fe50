"""How the brokers are reached: what aiokafka and Faust take, from the settings; topic names and partitions."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.settings import Security, Settings, SettingsError
from schemas.topics import Topic

if TYPE_CHECKING:
    import faust

SESSIONS_TABLE = "sessions"
LAST_MS = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp() * 1_000)


def client_arguments(settings: Settings, client_id: str = "headrace") -> dict[str, Any]:
    """Keyword arguments for aiokafka's producer, consumer and admin client.

    Raises:
        SettingsError: a certificate or key file is not what it must be.
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
    """Verifies the broker's certificate and host name; shows ours where there is one.

    Raises:
        SettingsError: a file is not what it must be.
    """
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except OSError as error:
        raise _not_pem("ca_file", security.ca_file, error) from None
    if security.cert_file is not None:
        assert security.key_file is not None
        try:
            context.load_cert_chain(security.cert_file, security.key_file)
        except OSError as error:
            raise _not_pem("cert_file", security.cert_file, error) from None
    return context


def _not_pem(setting: str, path: Path | None, error: OSError) -> SettingsError:
    return SettingsError([f"security.{setting}: expected certificates in PEM, got {path} ({error})"])


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


def projection_group(settings: Settings, name: str) -> str:
    """The consumer group of a projection: each keeps its own progress."""
    return f"{group_id(settings)}-project-{name}"


def joining_group(settings: Settings) -> str:
    """The consumer group of the worker that gives agents what they missed."""
    return f"{group_id(settings)}-joining"


def changelog_topic_name(settings: Settings, table: str = SESSIONS_TABLE) -> str:
    """The changelog of a table, as Faust names it."""
    return f"{group_id(settings)}-{table}-changelog"


def record_time(timestamp_ms: int) -> datetime:
    """A record's time. Producers may set any number; one that is not of this age is the nearest that is.

    A time limit can be added to it, and a window taken off it, without leaving the calendar.
    """
    return datetime.fromtimestamp(min(max(timestamp_ms, 0), LAST_MS) / 1_000, UTC)


def partition_for(key: bytes, count: int) -> int:
    """The partition where aiokafka's and Java's default partitioner put a key: murmur2, sign dropped, modulo."""
    from aiokafka.partitioner import murmur2

    return int((murmur2(key) & 0x7FFFFFFF) % count)
