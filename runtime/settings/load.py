"""Reads the settings: defaults, a TOML file, the environment, options; each overrides those before it.

What is wrong is refused by name, with where it came from. A secret's value is in no message.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource
from pydantic_settings import SettingsError as EnvSourceError

from runtime.settings.values import ENV_PREFIX, Settings

CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"
TESTS_PREFIX = ENV_PREFIX + "TEST_"
"""Variables for the test suite: a command that a test starts inherits them."""
DEFAULT_FILE = Path("headrace.toml")
MAX_SHOWN_CHARACTERS = 100

_PATHS = ("agents", "outside_tools", "prices", "budgets", "data_dir")
_SECURITY_PATHS = ("ca_file", "cert_file", "key_file")
_SDK_VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
_SECRETS = (
    ("security", "sasl_password"),
    ("anthropic_api_key",),
    ("postgres",),
    ("redis",),
    ("toolbox", "http_headers"),
    ("toolbox", "sql_databases"),
)
"""What is below them is secret too."""

Values = dict[str, Any]
Location = tuple[int | str, ...]


class SettingsError(Exception):
    """A setting is wrong: correct it where the message says. One line for each that is."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Sources(Struct, frozen=True):
    file: Path | None
    from_file: Values
    from_environment: Values
    from_options: Values


def load_settings(options: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this process.

    Args:
        options: from the command line, by setting's name, with groups nested (`{"model": {"attempts": 3}}`); `None` is
            an option that was not given; `config` is the path of the TOML file.

    Raises:
        SettingsError: one or more settings are wrong.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    config = given.pop("config", None)
    file = _config_file(config)
    sources = _Sources(file, _read_file(file), _read_environment(), given)
    values = _merged(_merged(sources.from_file, sources.from_environment), sources.from_options)
    try:
        return Settings(**values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise SettingsError(sorted(_problem(detail, sources) for detail in details)) from None


def _config_file(option: Path | str | None) -> Path | None:
    named = option or os.environ.get(CONFIG_VARIABLE)
    if not named:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    file = Path(named).expanduser()
    if not file.is_file():
        origin = "option --config" if option else f"environment variable {CONFIG_VARIABLE}"
        raise SettingsError([f"{origin}: expected a TOML file, got {named}, which is none"])
    return file


def _read_file(file: Path | None) -> Values:
    if file is None:
        return {}
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError([f"{file}: expected TOML that can be read: {error}"]) from None
    return _relative_to(file.parent, values)


def _relative_to(folder: Path, values: Values) -> Values:
    """Paths in a file are relative to the file, so that it means the same wherever the command is run."""

    def placed(value: Any) -> Any:
        return str(folder / Path(value).expanduser()) if isinstance(value, str) else value

    result = {name: placed(value) if name in _PATHS else value for name, value in values.items()}
    if isinstance(security := values.get("security"), dict):
        result["security"] = {key: placed(v) if key in _SECURITY_PATHS else v for key, v in security.items()}
    if isinstance(toolbox := values.get("toolbox"), dict) and "files_dir" in toolbox:
        result["toolbox"] = {**toolbox, "files_dir": placed(toolbox["files_dir"])}
    if isinstance(tools := values.get("tools"), list):
        result["tools"] = [placed(tool) if str(tool).endswith(".py") else tool for tool in tools]
    return result


def _read_environment() -> Values:
    known = {_variable(location) for location in _locations()} | {CONFIG_VARIABLE}
    ours = [name for name in os.environ if name.upper().startswith(ENV_PREFIX)]
    unknown = sorted(name for name in ours if name.upper() not in known and not name.startswith(TESTS_PREFIX))
    if unknown:
        candidates = [*known, *_SDK_VARIABLES]
        raise SettingsError(
            [f"environment variable {name}: no such setting{_suggestion(name.upper(), candidates)}" for name in unknown]
        )
    try:
        return EnvSettingsSource(Settings)()
    except EnvSourceError as error:
        raise SettingsError([f"environment: {error}; use one variable per setting of the group instead"]) from None


def _locations() -> list[tuple[str, ...]]:
    """Where each setting is: `("brokers",)`, `("model", "attempts")`."""
    found: list[tuple[str, ...]] = []
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            found += [(name, inner) for inner in group.model_fields]
        else:
            found.append((name,))
    return found


def _variable(location: Location) -> str:
    name = "_".join(str(part) for part in location).upper()
    return name if name in _SDK_VARIABLES else ENV_PREFIX + name


def _merged(below: Values, above: Values) -> Values:
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        result[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _problem(detail: ErrorDetails, sources: _Sources) -> str:
    location = detail["loc"]
    name = ".".join(str(part) for part in location)
    origin = _origin(location, sources)
    if detail["type"] == "extra_forbidden":
        return f"{origin}: no such setting: {name}{_suggestion(name, ['.'.join(known) for known in _locations()])}"
    expected = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    value = detail["input"]
    if any(location[: len(secret)] == secret for secret in _SECRETS):
        shown = ", got a value that is not shown"
    elif isinstance(value, dict | BaseModel):
        shown = ""
    else:
        shown = f", got {value!s:.{MAX_SHOWN_CHARACTERS}}"
    return f"{name} ({origin}): {expected}{shown}"


def _origin(location: Location, sources: _Sources) -> str:
    if _has(sources.from_options, location):
        return "option --" + "-".join(str(part) for part in location).replace("_", "-")
    if _has(sources.from_environment, location):
        known = location in _locations() or len(location) > 1
        return f"environment variable {_variable(location[:2])}" if known else f"environment {_variable(location)}_…"
    if _has(sources.from_file, location):
        return str(sources.file)
    return "default"


def _has(values: Values, location: Location) -> bool:
    """Whether these values set what is there; an index into a list is not looked at."""
    inner: Any = values
    for part in location:
        if not isinstance(part, str) or not isinstance(inner, dict):
            return True
        if part not in inner:
            return False
        inner = inner[part]
    return True


def _suggestion(name: str, known: list[str]) -> str:
    # What all have in common says nothing about which one was meant.
    by_rest = {candidate.removeprefix(ENV_PREFIX): candidate for candidate in known}
    close = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), by_rest, n=1, cutoff=0.6)
    return f"; did you mean {by_rest[close[0]]}?" if close else f"; there are {', '.join(sorted(known))}"
