"""Logs: structlog, as JSON lines where a program reads and in colours where a person looks; always on stderr.

`structlog.get_logger()` is the way to a logger. Records of libraries that use `logging` go through the same processors.
"""

import logging
import re
import sys
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.settings import Settings

HIDDEN = "[hidden]"
QUIET_S = 10.0
MAX_SAID = 1_000
"""Different things that libraries said; a bound, because a format string may hold what came from outside."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Faust, mode and aiokafka tell every step of a rebalance at INFO, and aiokafka's DEBUG records cost 12 % of a worker's
# CPU even where nobody prints them: below these levels they are not made at all.
_LIBRARY_LEVELS = {
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "mode.timers": logging.ERROR,
    "asyncio": logging.WARNING,
    "aiohttp": logging.WARNING,
    "anthropic": logging.WARNING,
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
}

_SECRET_KEY = re.compile(r"(password|passwd|secret|authorization|api[_-]?key|^cookie)$", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"sk-ant-[\w-]+"
    r"|hr_[0-9a-f]{16}_\w+"
    r"|(?P<name>(?:password|passwd|secret|api[_-]?key)[\"']?\s*[=:]\s*[\"']?)(?!\s)[^\s\"',;&)}]+"
    r"|(?P<header>authorization[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic)\s+)?)[^\s\"',;)}]+",
    re.IGNORECASE,
)


def setup_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Configure the logs of this process.

    Faust's worker must be made with `override_logging=False`, or it puts its own handlers in place of these.

    Args:
        settings: `log_level` and `log_format`; at `debug`, Faust, mode and aiokafka log at INFO.
        stream: stderr by default.
    """
    stream = stream or sys.stderr
    level = _LEVELS[settings.log_level]
    json = settings.log_format == "json" or (settings.log_format == "auto" and not stream.isatty())
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _json_rendering() if json else _console_rendering(colors=stream.isatty())
    structlog.configure(
        processors=[*before, *rendering, _as_bytes] if json else [*before, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=(structlog.BytesLoggerFactory(stream.buffer) if json else structlog.WriteLoggerFactory(stream)),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*before, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    _take_over_stdlib(formatter, stream, level)


def _json_rendering() -> list[Processor]:
    return [structlog.processors.format_exc_info, scrub, _as_json]


def _console_rendering(*, colors: bool) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return [structlog.processors.format_exc_info, scrub, renderer]


class OncePerWhile(logging.Filter):
    """Lets a library say the same thing once per `QUIET_S`: aiokafka reports each attempt while a broker is away.

    The same thing is the same logger and format string. The next one that passes counts those that did not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, str(record.msg))
        last, held_back = self._said.get(key, (-QUIET_S, 0))
        if record.created - last < QUIET_S:
            self._said[key] = (last, held_back + 1)
            return False
        if len(self._said) > MAX_SAID:
            self._said.clear()
        self._said[key] = (record.created, 0)
        if held_back:
            record.msg = f"{record.msg} (and {held_back} more times)"
        return True


def _take_over_stdlib(formatter: logging.Formatter, stream: TextIO, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(OncePerWhile())
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    for name, library_level in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(logging.INFO if level == logging.DEBUG else max(level, library_level))


def scrub(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: what looks like a secret is not logged, whatever field or text it is in."""
    return {key: HIDDEN if _SECRET_KEY.search(key) else _scrubbed(value) for key, value in event.items()}


def scrub_text(text: str) -> str:
    """The text without what looks like an API key, a password or an Authorization header."""
    return _SECRET_TEXT.sub(lambda found: (found["name"] or found["header"] or "") + HIDDEN, text)


def _scrubbed(value: Any) -> Any:
    match value:
        case str():
            return scrub_text(value)
        case bytes():
            return scrub_text(value.decode(errors="replace"))
        case dict():
            return {key: HIDDEN if _SECRET_KEY.search(str(key)) else _scrubbed(v) for key, v in value.items()}
        case list() | tuple():
            return [_scrubbed(item) for item in value]
        case None | bool() | int() | float():
            return value
    return scrub_text(str(value))


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _as_bytes(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    assert isinstance(line, str)
    return line.encode()
