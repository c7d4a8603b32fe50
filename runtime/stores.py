"""Where PostgreSQL and Redis are, and which of their errors pass by themselves."""

import asyncpg
from redis import exceptions

from runtime.settings import Settings, SettingsError

REDIS_ROOT = "headrace:"

# The internal error is what a connection says that breaks while a statement is under way.
POSTGRES_OUTAGES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

# What passes by itself, or when somebody makes room: the same call can succeed later.
REDIS_OUTAGES = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    OSError,
)


class SetStoreError(SettingsError):
    """The store that is needed is not set, or not as it must be."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])


def postgres_url(settings: Settings) -> str:
    """The database's URL, with its password; raises `SetStoreError` where none is set."""
    if settings.postgres is None:
        raise SetStoreError(
            "no PostgreSQL is set: give its URL in HEADRACE_POSTGRES, or as `postgres` in headrace.toml, for instance "
            "postgresql://headrace:PASSWORD@127.0.0.1:5432/headrace"
        )
    return settings.postgres.get_secret_value()


def redis_url(settings: Settings) -> str:
    """The URL of Redis, with its password; raises `SetStoreError` where none is set."""
    if settings.redis is None:
        raise SetStoreError(
            "no Redis is set: give its URL in HEADRACE_REDIS, or as `redis` in headrace.toml, for instance "
            "redis://127.0.0.1:6379/0"
        )
    return settings.redis.get_secret_value()


def redis_prefix(settings: Settings) -> str:
    """What the names of keys and channels in Redis begin with."""
    return REDIS_ROOT + settings.topic_prefix
