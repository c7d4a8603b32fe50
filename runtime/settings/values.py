"""All settings of every process: one frozen object, built once at the start and handed down.

`Settings()` is the defaults and reads nothing; `load_settings` reads the file, the environment and the options.
"""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    HttpUrl,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

ENV_PREFIX = "HEADRACE_"
MAX_TOPIC_PREFIX_CHARACTERS = 100
"""Kafka's topic names end at 249 characters, and file names on the broker at 255."""

_NAME = r"^[a-zA-Z0-9._-]*$"
_BROKER = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+):(\d{1,5})$")
_PORT_MAX = 65_535
_REDIS = re.compile(r"^rediss?://[^\s/]+(/\d*)?(\?\S*)?$")
_ORIGIN = re.compile(r"^https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:\d{1,5})?$")
_POSTGRES = re.compile(r"^postgres(ql)?://[^\s/]*/[^\s/?]+(\?\S*)?$")


def user_data_dir() -> Path:
    """`$XDG_DATA_HOME/headrace`, or `~/.local/share/headrace` where that is not set."""
    root = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(root).expanduser() / "headrace"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address, or name."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (part.strip() for part in value.split(",")) if part)
    return value


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """Scheme, host and port, in the one way in which the origin of a URL is written."""
    for value in values:
        if not _ORIGIN.match(value):
            raise ValueError(
                "expected scheme and host in lower case, as https://api.example.com or http://billing:8080"
            )
    return tuple(re.sub(r"^(http:.*):80$|^(https:.*):443$", r"\1\2", value) for value in values)


class Security(BaseModel):
    """Towards the brokers: TLS, client certificate, SASL."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tls: bool = False
    ca_file: FilePath | None = None
    """Certificate authorities (PEM) instead of the system's."""
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("expected `tls = true` where a certificate or key file is given: set security.tls")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("expected cert_file and key_file together: set the other one, or neither")
        credentials = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        if any(credentials) and not all(credentials):
            raise ValueError("expected sasl_mechanism, sasl_username and sasl_password together: set all, or none")
        return self


class ModelSettings(BaseModel):
    """How the model is called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_flight: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """Calls at the same time in one worker; the next ones wait on the topic. About 10 KB of memory each."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 20
    """Attempts per call, the first included: with the waits between them, a provider's outage of three minutes is
    survived. The turn's time limit bounds them too, and five at most are those in which the model began to answer."""


class ProjectionSettings(BaseModel):
    """How long what projections write is kept, in days."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events_days: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    """Agent events and the session log; whole months are removed."""
    usage_days: Annotated[float, Field(gt=0, le=36_500)] = 400.0
    """A year can be compared with the one before."""
    dead_letters_days: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    audit_days: Annotated[float, Field(gt=0, le=36_500)] = 400.0
    """Who did what, and how it ended."""


class GatewaySettings(BaseModel):
    """The door: where it listens, and how much it takes on at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for all of the machine's."""
    port: Annotated[int, Field(ge=0, le=_PORT_MAX)] = 8088
    """0: any port that is free; `gateway.ready` in the data directory says which."""
    open: bool = False
    """Let everybody in without a key, as an operator; only on a loopback address."""
    proxies: Annotated[int, Field(ge=0, le=10)] = 0
    """How many reverse proxies stand before it: so many entries of `X-Forwarded-For`, from the right, are believed."""
    max_request_bytes: Annotated[int, Field(ge=1_024, le=64 << 20)] = 1 << 20
    """Of one request's body; a message may have 512 KiB."""
    requests: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Most requests at the same time, without streams; those that wait for an answer count."""
    streams: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """Most open streams, WebSockets included."""
    requests_per_second: Annotated[float, Field(gt=0, le=100_000)] = 50.0
    """Of a key that has no rate of its own; twice as many at once."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=3_600)] = 10.0
    """How long a gateway that was told to stop lets running requests end."""

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> Self:
        if self.open and not is_loopback(self.host):
            raise ValueError(
                f"expected a loopback host such as 127.0.0.1 where `open = true`, got {self.host}: nobody may get in "
                "from elsewhere without a key; set gateway.host, or leave gateway.open out and create keys"
            )
        return self


class ToolSettings(BaseModel):
    """What the shipped tools may reach. An agent that names a tool which lacks its setting is refused at the start."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    files_dir: Path | None = None
    """For `read_file`, `write_file` and `list_files`: where sessions have their folders; the same for all workers."""
    file_bytes: Annotated[int, Field(ge=1, le=64 << 20)] = 1 << 20
    """Of one file."""
    files_per_session: Annotated[int, Field(ge=1, le=10_000)] = 100
    files_bytes_per_session: Annotated[int, Field(ge=1, le=1 << 40)] = 10 << 20
    http_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas), AfterValidator(_origins)] = ()
    """For `http_request`: the public hosts that agents may write to, as `https://api.example.com`."""
    http_private_hosts: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split_commas), AfterValidator(_origins)
    ] = ()
    """The same, of the network inside, as `http://billing:8080`."""
    http_headers: dict[str, dict[str, SecretStr]] = {}
    """By host, headers that `http_request` sends there and no model sees, such as `Authorization`; JSON here."""
    sql_databases: dict[str, SecretStr] = {}
    """For `sql_query`: PostgreSQL URLs by the names that agents use, of roles that can only read; JSON here."""

    @field_validator("files_dir")
    @classmethod
    def _files_dir_is_absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("sql_databases")
    @classmethod
    def _databases_are_urls(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, url in value.items():
            if not re.match(_NAME, name) or not _POSTGRES.match(url.get_secret_value()):
                raise ValueError(f"expected postgresql://role:password@host:port/database as the URL of `{name}`")
        return value

    @model_validator(mode="after")
    def _headers_have_hosts(self) -> Self:
        unknown = sorted(set(self.http_headers) - {*self.http_hosts, *self.http_private_hosts})
        if unknown:
            raise ValueError(f"expected http_headers of hosts in http_hosts or http_private_hosts, got {unknown}")
        return self


class Settings(BaseSettings):
    """Every setting with its default. Times and sizes have their unit in the name, or in the line below."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
    )

    brokers: str = "127.0.0.1:9092"
    """`host:port`, more of them with commas between."""
    security: Security = Security()
    topic_prefix: Annotated[str, Field(pattern=_NAME, max_length=MAX_TOPIC_PREFIX_CHARACTERS)] = ""
    partitions: Annotated[int, Field(ge=1, le=1_000)] = 8
    """Of every topic of the pipeline; the most workers that can share the work. Cannot be changed later."""
    replication: Annotated[int, Field(ge=1, le=9)] = 1

    data_dir: Path = Field(default_factory=user_data_dir)
    app_id: Annotated[str, Field(pattern=_NAME, min_length=1, max_length=100)] = "headrace"
    """The consumer group of the workers."""
    name: Annotated[str, Field(pattern=_NAME, min_length=1, max_length=100)] | None = None
    """This worker's own name: a named one that comes back gets its partitions at once (static membership)."""
    store: Literal["rocksdb", "memory"] = "rocksdb"
    standby_replicas: Annotated[int, Field(ge=0, le=9)] = 1
    """How many other workers follow each partition's table, ready to take it over; the same for all workers."""

    agents: Path | None = None
    """A TOML file of agents or a directory of them; the shipped ones where none is given."""
    default_agent: str | None = None
    """Who answers a message that names no agent; by default the first of `agents`."""
    tools: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)] = ()
    """Modules or .py files with `@tool` functions; commas between them in the environment."""
    outside_tools: FilePath | None = None
    """A TOML file of MCP servers and of remote tools."""
    prices: FilePath | None = None
    """A TOML file of prices that override the shipped ones."""
    budgets: FilePath | None = None
    """A TOML file of budgets that agents, users and tenants share; they are counted in Redis."""

    model: ModelSettings = ModelSettings()
    tool_calls_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    remote_calls_in_flight: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Calls of remote tools that wait for their result in one worker."""
    session_cache: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000
    """Sessions that one worker holds in memory; the others are read from its tables."""
    session_retention_hours: Annotated[float, Field(gt=0, le=87_600)] = 720.0
    """A session that was idle for so long is forgotten."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=3_600)] = 30.0
    """How long a worker that was told to stop lets running calls finish."""

    postgres: SecretStr | None = None
    """Where projections keep events, usage and dead letters: `postgresql://user:password@host:port/database`."""
    redis: SecretStr | None = None
    """Where projections keep what is going on now: `redis://:password@host:port/0`, or `rediss://` with TLS."""
    projections: ProjectionSettings = ProjectionSettings()
    gateway: GatewaySettings = GatewaySettings()
    toolbox: ToolSettings = ToolSettings()

    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto`: console where a person looks, JSON where a program reads."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # The aliases keep the prefix away: these are the SDK's own variables.
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="anthropic_api_key")
    anthropic_base_url: HttpUrl | None = Field(default=None, validation_alias="anthropic_base_url")

    @field_validator("brokers")
    @classmethod
    def _brokers_have_ports(cls, value: str) -> str:
        brokers = [part.strip() for part in value.split(",")]
        for broker in brokers:
            match = _BROKER.match(broker)
            if match is None or not 0 < int(match[2]) <= _PORT_MAX:
                raise ValueError("expected host:port, with commas between several")
        return ",".join(brokers)

    @field_validator("postgres")
    @classmethod
    def _postgres_is_an_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _POSTGRES.match(value.get_secret_value()):
            raise ValueError("expected postgresql://user:password@host:port/database")
        return value

    @field_validator("redis")
    @classmethod
    def _redis_is_an_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _REDIS.match(value.get_secret_value()):
            raise ValueError("expected redis://:password@host:port/0")
        return value

    @field_validator("agents")
    @classmethod
    def _agents_exist(cls, value: Path | None) -> Path | None:
        if value is not None and not value.exists():
            raise ValueError("expected a TOML file or a directory that exists")
        return value

    @field_validator("data_dir")
    @classmethod
    def _data_dir_is_absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller gives: whoever reads the environment says so by calling `load_settings`."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)
