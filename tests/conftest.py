"""What every test has: a broker where it asks for one, and no internal error that nobody hears of."""

import importlib
import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings
from kafka_fixture import embedded_kafka
from postgres_fixture import postgres, postgres_server
from valkey_fixture import valkey_server

__all__ = ["embedded_kafka", "no_error_was_swallowed", "postgres", "postgres_server", "valkey_server"]

LOGGERS = ("streams.decide", "streams.call_model")
"""They log an exception of ours and go on: `core_error`, `model_call_error`."""


def pytest_configure(config: pytest.Config) -> None:
    # A slow machine is no bug: hypothesis would fail an example that takes more than 200 ms.
    settings.register_profile("any machine", deadline=None)
    settings.load_profile("any machine")
    config.addinivalue_line("markers", "expects_internal_error: the test provokes a bug in the core or a client")


class _Errors(logging.Handler):
    """Errors that asyncio reports: exceptions of tasks and callbacks that nobody retrieved."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.getMessage()}\n{record.exc_info[1] if record.exc_info else ''}")


@pytest.fixture(autouse=True)
def no_error_was_swallowed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which an error was logged, or dropped, instead of raised."""
    errors = _Errors()

    def note(event: str, **fields: object) -> None:
        errors.said.append(f"{event} {fields}")

    for name in LOGGERS:
        monkeypatch.setattr(importlib.import_module(name).log, "exception", note, raising=False)
    logger = logging.getLogger("asyncio")
    logger.addHandler(errors)
    yield
    logger.removeHandler(errors)
    if errors.said and request.node.get_closest_marker("expects_internal_error") is None:
        pytest.fail("internal errors were swallowed:\n" + "\n".join(errors.said), pytrace=False)
