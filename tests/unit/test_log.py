"""Logs: one line per record for programs, and no secret in any of them."""

import io
import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from runtime.log import HIDDEN, OncePerWhile, scrub_text, setup_logging
from runtime.settings import Settings


class Stream(io.TextIOWrapper):
    """stderr, as a program gives it to us."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()

    @property
    def records(self) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self.text.splitlines()]


def refuse() -> None:
    raise RuntimeError("refused: sk-ant-api03-abc_DEF-1")


@pytest.fixture
def stream() -> Iterator[Stream]:
    root = logging.root
    before, level = root.handlers, root.level
    names = ("aiokafka", "faust", "mode", "asyncio", "aiohttp", "anthropic", "httpx2", "httpcore2")
    levels = {name: logging.getLogger(name).level for name in names}
    yield Stream()
    structlog.reset_defaults()
    root.handlers = before
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


def test_json_where_a_program_reads(stream: Stream) -> None:
    """Our records and those of libraries are JSON lines of one shape."""
    setup_logging(Settings(), stream)
    structlog.get_logger().info("turn completed", session_id="s1", tokens=3)
    logging.getLogger("faust.app").warning("partition %s lost", 3)
    ours, theirs = stream.records
    assert (ours["event"], ours["level"], ours["session_id"], ours["tokens"]) == ("turn completed", "info", "s1", 3)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("partition 3 lost", "warning", "faust.app")
    assert ours.keys() >= {"timestamp"} <= theirs.keys()


def test_exception_is_one_line(stream: Stream) -> None:
    """A traceback is a field, and what is secret in it is hidden."""
    setup_logging(Settings(), stream)
    try:
        refuse()
    except RuntimeError:
        structlog.get_logger().exception("failed")
        logging.getLogger("elsewhere").exception("failed there")
    for record in stream.records:
        assert "RuntimeError: refused" in str(record["exception"])
        assert "api03" not in str(record)


@pytest.mark.parametrize("name", ["aiokafka.conn", "faust.transport", "mode.services", "asyncio"])
def test_libraries_do_not_make_debug_records(stream: Stream, name: str) -> None:
    """A record that is never made costs nothing, even when we ourselves log at debug."""
    setup_logging(Settings(), stream)
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    setup_logging(Settings(log_level="debug"), stream)
    assert logging.getLogger(name).isEnabledFor(logging.INFO)
    assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)


def test_level(stream: Stream) -> None:
    """Below the level, nothing is written; a library is never more talkative than we are."""
    setup_logging(Settings(log_level="error"), stream)
    structlog.get_logger().warning("not this")
    logging.getLogger("aiokafka").warning("nor this")
    assert stream.text == ""


def test_console_where_a_person_looks(stream: Stream) -> None:
    """Readable text, with the same secrets hidden."""
    setup_logging(Settings(log_format="console"), stream)
    structlog.get_logger().info("worker ready", password="hunter2")
    assert "worker ready" in stream.text
    assert "hunter2" not in stream.text


@pytest.mark.parametrize(
    "field",
    [
        {"password": "hunter2"},
        {"sasl_plain_password": b"hunter2"},
        {"headers": {"Authorization": "Bearer hunter2", "x-api-key": "hunter2"}},
        {"arguments": ["--password=hunter2"]},
        {"error": ValueError("api_key: 'hunter2'")},
    ],
)
def test_secrets_in_fields(stream: Stream, field: dict[str, object]) -> None:
    """By its name, by its text, and inside other values."""
    setup_logging(Settings(), stream)
    structlog.get_logger().info("fields", **field)
    assert "hunter2" not in stream.text
    assert HIDDEN in stream.text


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("key sk-ant-api03-x_Y-9 refused", f"key {HIDDEN} refused"),
        (f"key hr_0123456789abcdef_{'ab' * 32} refused", f"key {HIDDEN} refused"),
        ("authorization: Bearer abc.def", f"authorization: Bearer {HIDDEN}"),
        ('{"password": "abc", "user": "ann"}', f'{{"password": "{HIDDEN}", "user": "ann"}}'),
        ("postgres://h?user=u&password=abc&x=1", f"postgres://h?user=u&password={HIDDEN}&x=1"),
        ("input_tokens=3 output_tokens=4", "input_tokens=3 output_tokens=4"),
        ("the password is asked for", "the password is asked for"),
    ],
)
def test_scrub_text(text: str, scrubbed: str) -> None:
    """What looks like a secret goes, all else stays."""
    assert scrub_text(text) == scrubbed


def test_a_library_that_repeats_itself_is_heard_once_per_while() -> None:
    """While a broker is away aiokafka says so ten times a second: one line passes, and the next one counts the rest."""
    once = OncePerWhile()

    def said(at: float, text: str) -> logging.LogRecord | None:
        record = logging.LogRecord("aiokafka", logging.ERROR, __file__, 1, text, None, None)
        record.created = at
        return record if once.filter(record) else None

    assert said(100.0, "refused") is not None
    assert [said(100.0 + n, "refused") for n in range(1, 10)] == [None] * 9
    assert said(101.0, "other") is not None
    later = said(111.0, "refused")
    assert later is not None
    assert later.getMessage() == "refused (and 9 more times)"
