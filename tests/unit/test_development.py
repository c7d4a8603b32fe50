"""What `headrace dev` tells while it starts, and what it refuses before it starts anything."""

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from headrace.development.options import StackOptions
from headrace.development.progress import JsonLines, LiveLines, PlainLines, Step, UntilSettled, reporter_for
from headrace.development.stack import DevelopmentStack
from headrace.development.together import together
from headrace.stack.errors import StackError
from runtime.settings import Security, Settings

STARTING = Step(component="kafka", state="starting", detail="Apache Kafka: 5 of 45 MB", seconds=1.5)
READY = Step(component="kafka", state="ready", detail="127.0.0.1:9092", seconds=4.25)
RESTARTING = Step(component="worker-1", state="restarting", detail="process 7 was killed by SIGKILL", seconds=0)


def test_a_program_reads_one_object_per_step() -> None:
    """Nothing but JSON lines, each complete when it is written."""
    stream = io.StringIO()
    reporter = JsonLines(stream)
    for step in (STARTING, READY):
        reporter.step(step)
    reporter.settle()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["component"], line["state"], line["seconds"]) for line in lines] == [
        ("kafka", "starting", 1.5),
        ("kafka", "ready", 4.25),
    ]


def test_a_log_has_a_line_per_step_without_colours() -> None:
    """What a person reads later: component, state, seconds, detail."""
    stream = io.StringIO()
    reporter = reporter_for(Console(file=stream), json=False)
    assert isinstance(reporter, PlainLines)
    reporter.step(READY)
    assert stream.getvalue() == "✓ kafka      ready        4.2 s  127.0.0.1:9092\n"


def test_a_terminal_keeps_one_line_per_component_until_the_start_has_ended() -> None:
    """Afterwards a step is a line of its own, below whatever was printed."""
    stream = io.StringIO()
    reporter = reporter_for(Console(file=stream, force_terminal=True, width=100), json=False)
    assert isinstance(reporter, LiveLines)
    reporter.step(STARTING)
    reporter.step(READY)
    reporter.settle()
    before = len(stream.getvalue())
    reporter.step(RESTARTING)
    assert "killed by SIGKILL" in stream.getvalue()[before:]


def test_the_demo_is_not_interrupted_by_steps_after_the_start() -> None:
    """The conversation has the screen."""
    stream = io.StringIO()
    reporter = UntilSettled(PlainLines(Console(file=stream)))
    reporter.step(READY)
    reporter.settle()
    reporter.step(RESTARTING)
    assert stream.getvalue().count("\n") == 1


def test_security_settings_are_refused_for_the_own_broker(tmp_path: Path) -> None:
    """They belong to another cluster: workers that used them could not talk to the stack's own Kafka."""
    settings = Settings(data_dir=tmp_path, security=Security(tls=True))
    with pytest.raises(StackError, match="--brokers HOST:PORT"):
        DevelopmentStack(StackOptions(settings=settings), JsonLines(io.StringIO()))
    DevelopmentStack(StackOptions(settings=settings, own_broker=False), JsonLines(io.StringIO()))


async def test_what_is_started_together_ends_with_the_first_error() -> None:
    """The person reads that one error, and nothing goes on behind it."""
    ended: list[str] = []

    async def starts_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the other")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise StackError("no room on the disk")

    with pytest.raises(StackError, match="no room on the disk"):
        await together(starts_for_ever(), fails())
    assert ended == ["the other"]
