"""What every command gets besides its own options: the settings, and who reads the output."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from headrace.stack.endpoints import FILE_NAME, read_endpoints
from runtime.settings import Settings, load_settings


@dataclass(frozen=True, kw_only=True)
class Context:
    """The global options of one call of the command.

    `options` are settings by name, for `load_settings`; `json_asked` is `--json`.
    """

    options: Mapping[str, Any]
    json_asked: bool = False

    @property
    def json(self) -> bool:
        """Whether a program reads: `--json`, or stdout is not a terminal."""
        return self.json_asked or not sys.stdout.isatty()

    def settings(self) -> Settings:
        """The settings of this process; raises `SettingsError`."""
        return load_settings(self.options)

    def client_settings(self) -> Settings:
        """The settings of a client; what is not set is that of the stack that runs on the data directory.

        So after `headrace dev`, a plain `headrace chat` in another terminal finds it. Whoever names brokers means
        another pipeline, and gets nothing of the stack's.
        """
        settings = self.settings()
        if "brokers" in settings.model_fields_set or not (settings.data_dir / FILE_NAME).exists():
            return settings
        endpoints = read_endpoints(settings.data_dir)
        found: dict[str, Any] = {"brokers": endpoints.kafka}
        for name, url in (("postgres", endpoints.postgres), ("redis", endpoints.redis)):
            if name not in settings.model_fields_set and isinstance(url, str):
                found[name] = SecretStr(url)
        return settings.model_copy(update=found)
