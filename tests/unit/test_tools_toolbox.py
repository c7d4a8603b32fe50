"""The toolbox: whatever a tool does, a value comes out that the model can act on."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agents.tools import Tool, Toolbox, ToolContext, ToolError, ToolFault, ToolOutcome, ToolReturn, tool
from agents.tools import toolbox as toolbox_module
from agents.tools.toolbox import MAX_ERROR_CHARS
from schemas.failure import FailureCode

CONTEXT = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")


class Pauses(list[float]):
    """Instead of sleeping."""

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)


async def run(one: Tool, input: dict[str, Any] | None = None, *, timeout_s: float = 5) -> ToolOutcome:
    return await Toolbox([one], sleep=Pauses().sleep).run(one.name, input or {}, context=CONTEXT, timeout_s=timeout_s)


def raising(*errors: BaseException | None, idempotent: bool = True, attempts: int | None = None) -> Tool:
    """A tool that raises these one after another, then returns `done`."""
    script = iter(errors)

    @tool(idempotent=idempotent, attempts=attempts)
    async def act() -> str:
        """Act."""
        error = next(script, None)
        if error is not None:
            raise error
        return "done"

    return act


@tool
async def key_of(context: ToolContext) -> str:
    """Key."""
    return f"{context.call_id} {context.session_id} {context.agent}"


async def test_the_tool_gets_the_call_id() -> None:
    """It is the idempotency key."""
    assert await run(key_of) == ToolReturn(content="s1/1/2 s1 assistant", attempts=1)


async def test_the_model_cannot_give_the_context() -> None:
    """Else it could pretend to be another session."""
    outcome = await run(key_of, {"context": {"call_id": "x", "session_id": "other", "agent": "a"}})

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.BAD_ARGUMENTS


async def test_unknown_tool() -> None:
    """A tool that the model made up is a failure that it can act on, and counts as idempotent: nothing happens."""
    toolbox = Toolbox([key_of])

    outcome = await toolbox.run("fly", {}, context=CONTEXT, timeout_s=5)

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.UNKNOWN_TOOL
    assert "no tool `fly`" in outcome.failure.message
    assert toolbox.is_idempotent("fly")
    assert not toolbox.is_idempotent("key_of")


def test_definitions_come_in_the_order_asked_for() -> None:
    """The order is part of the prompt's prefix, which is cached."""
    toolbox = Toolbox([raising(), key_of])

    assert [one.name for one in toolbox.definitions(["key_of", "act"])] == ["key_of", "act"]
    with pytest.raises(ValueError, match=r"expected tools among \['act', 'key_of'\], got \['fly'\]"):
        toolbox.definitions(["act", "fly"])


def test_two_tools_of_one_name_are_refused() -> None:
    """Which one would run?"""
    with pytest.raises(ValueError, match="two tools `act`"):
        Toolbox([raising(), raising()])


async def test_results_are_text_or_json() -> None:
    """Text is kept as it is; Structs, dates and lists become JSON."""

    @tool
    async def look() -> Any:
        """Look."""
        return [ToolReturn(content="tea", attempts=1), datetime(2026, 1, 2, tzinfo=UTC), None, {"ä": 1.5}]

    outcome = await run(look)

    assert outcome == ToolReturn(
        content='[{"content":"tea","attempts":1},"2026-01-02T00:00:00Z",null,{"ä":1.5}]', attempts=1
    )


async def test_a_result_that_does_not_fit_json_is_not_tried_again() -> None:
    """The tool did its work: doing it again would not help."""
    calls = []

    @tool(idempotent=True)
    async def look() -> Any:
        """Look."""
        calls.append(1)
        return object()

    outcome = await run(look)

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.TOOL_ERROR
    assert "does not fit JSON" in outcome.failure.message
    assert len(calls) == outcome.attempts == 1


async def test_a_long_result_is_cut_and_says_so() -> None:
    """The model must know that there is more."""

    @tool(max_result_chars=10)
    async def look(length: int) -> str:
        """Look."""
        return "x" * length

    assert await run(look, {"length": 10}) == ToolReturn(content="x" * 10, attempts=1)
    outcome = await run(look, {"length": 11_000})
    assert isinstance(outcome, ToolReturn)
    assert outcome.content == "x" * 10 + "\n[cut: the first 10 of 11,000 characters; ask for less to see the rest]"


async def test_what_utf8_cannot_hold_is_replaced() -> None:
    """A lone surrogate would otherwise make the record on the log impossible to write."""

    @tool
    async def look() -> str:
        """Look."""
        return "a\ud800b"

    assert await run(look) == ToolReturn(content="a?b", attempts=1)
    failed = await run(raising(ToolError("c\udfffd")))
    assert isinstance(failed, ToolFault)
    assert failed.failure.message == "c?d"


async def test_an_idempotent_tool_is_tried_again_with_growing_pauses() -> None:
    """Two failures, then success: the model never hears of them."""
    pauses = Pauses()
    flaky = raising(ConnectionResetError("reset"), ToolError("busy", retryable=True))

    outcome = await Toolbox([flaky], sleep=pauses.sleep).run("act", {}, context=CONTEXT, timeout_s=5)

    assert outcome == ToolReturn(content="done", attempts=3)
    assert 0.1 <= pauses[0] <= 0.2 <= pauses[1] <= 0.4


async def test_attempts_are_bounded() -> None:
    """The last failure is the outcome."""
    outcome = await run(raising(*[OSError(f"no {n}") for n in range(9)], attempts=4))

    assert isinstance(outcome, ToolFault)
    assert (outcome.failure.message, outcome.attempts) == ("OSError: no 3", 4)


async def test_a_tool_that_is_not_idempotent_runs_once() -> None:
    """Even if its author says that the failure will pass."""
    outcome = await run(raising(ToolError("busy", retryable=True), idempotent=False))

    assert isinstance(outcome, ToolFault)
    assert (outcome.failure.message, outcome.failure.retryable, outcome.attempts) == ("busy", True, 1)


async def test_a_final_tool_error_is_not_tried_again_and_read_verbatim() -> None:
    """Its author knows better."""
    outcome = await run(raising(ToolError("there is no such city: ask the user")))

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.TOOL_ERROR
    assert (outcome.failure.message, outcome.attempts) == ("there is no such city: ask the user", 1)


async def test_no_pause_beyond_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that gives 30 s is not kept waiting for a backoff of 500 s or more."""
    monkeypatch.setattr(toolbox_module, "FIRST_BACKOFF_S", 1_000.0)
    monkeypatch.setattr(toolbox_module, "MAX_BACKOFF_S", 1_000.0)
    pauses = Pauses()

    outcome = await Toolbox([raising(OSError("no"))], sleep=pauses.sleep).run("act", {}, context=CONTEXT, timeout_s=30)

    assert isinstance(outcome, ToolFault)
    assert (outcome.attempts, list(pauses)) == (1, [])


class Unprintable(Exception):  # noqa: N818 - the case is not an error of ours
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such row"), "ValueError: no such row"),
        (KeyError("city"), "KeyError: 'city'"),
        (AssertionError(), "AssertionError"),
        (TimeoutError("the database is slow"), "TimeoutError: the database is slow"),
        (ExceptionGroup("group", [ToolError("one of them")]), "one of them"),
        (SystemExit(2), "SystemExit: 2"),
        (asyncio.CancelledError("inner"), "CancelledError: inner"),
        (Unprintable(), "Unprintable: (its text cannot be read: RuntimeError)"),
    ],
)
async def test_any_exception_becomes_an_outcome(error: BaseException, message: str) -> None:
    """The model reads type and text, the caller gets the exception for its log; the worker lives."""
    outcome = await run(raising(error, idempotent=False))

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.TOOL_ERROR
    assert outcome.failure.message == message
    assert outcome.cause is not None


async def test_a_long_error_is_cut() -> None:
    """Some exceptions quote whole documents."""
    outcome = await run(raising(ValueError("x" * 100_000), idempotent=False))

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.message.endswith("… [cut]")
    assert len(outcome.failure.message) < MAX_ERROR_CHARS + 10


def hanging(*, idempotent: bool, timeout_s: float) -> Tool:
    @tool(idempotent=idempotent, timeout_s=timeout_s)
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    return hang


async def test_a_tool_that_hangs_is_stopped_and_an_idempotent_one_tried_again() -> None:
    """Each attempt has the tool's own time."""
    outcome = await run(hanging(idempotent=True, timeout_s=0.005))

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.TOOL_TIMEOUT
    assert (outcome.failure.retryable, outcome.attempts) == (True, 3)
    assert "`hang` did not finish within 0.005 s" in outcome.failure.message


async def test_a_timeout_of_a_tool_with_effects_says_that_the_effect_is_unknown() -> None:
    """The model must not just call it again."""
    outcome = await run(hanging(idempotent=False, timeout_s=0.005))

    assert isinstance(outcome, ToolFault)
    assert (outcome.failure.retryable, outcome.attempts) == (False, 1)
    assert "It may have taken effect or not" in outcome.failure.message


async def test_the_callers_time_bounds_the_tools() -> None:
    """A turn that ends soon does not wait for a patient tool."""
    outcome = await run(hanging(idempotent=True, timeout_s=3_600), timeout_s=0.01)

    assert isinstance(outcome, ToolFault)
    assert outcome.failure.code is FailureCode.TOOL_TIMEOUT


async def test_without_time_the_tool_is_not_started() -> None:
    """Its first statement could already have an effect."""
    started = []

    @tool
    async def act() -> None:
        """Act."""
        started.append(1)

    outcome = await run(act, timeout_s=0)

    assert isinstance(outcome, ToolFault)
    assert (outcome.failure.code, outcome.attempts, started) == (FailureCode.TOOL_TIMEOUT, 0, [])


async def test_cancelling_the_caller_cancels_the_tool() -> None:
    """A cancelled turn ends the tool's work, and the cancellation is not turned into an outcome."""
    ended: list[str] = []
    began = asyncio.Event()

    @tool(idempotent=True)
    async def act() -> None:
        """Act."""
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    task = asyncio.create_task(run(act))
    await began.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]


async def test_close_releases_what_tools_hold() -> None:
    """Connections, threads."""
    closed: list[str] = []

    @tool(on_close=lambda: closed.append("closed"))
    async def act() -> None:
        """Act."""

    await Toolbox([act, key_of]).close()

    assert closed == ["closed"]


async def test_many_calls_run_at_once() -> None:
    """One call that waits delays no other."""
    gate = asyncio.Barrier(100)

    @tool
    async def meet(number: int) -> int:
        """Meet."""
        await gate.wait()
        return number

    toolbox = Toolbox([meet])
    calls: list[Awaitable[ToolOutcome]] = [
        toolbox.run("meet", {"number": number}, context=CONTEXT, timeout_s=5) for number in range(100)
    ]

    assert await asyncio.gather(*calls) == [ToolReturn(content=str(number), attempts=1) for number in range(100)]


def test_importing_the_tools_does_not_import_aiohttp(subprocess_modules: Callable[[str], set[str]]) -> None:
    """It takes 0.2 s, and is needed at the first fetch only."""
    modules = subprocess_modules("agents.tools")

    assert "agents.tools.toolbox" in modules
    assert "aiohttp" not in modules


@pytest.fixture
def subprocess_modules() -> Callable[[str], set[str]]:
    """What a fresh interpreter has loaded after an import."""
    import subprocess

    def load(name: str) -> set[str]:
        code = f"import sys; sys.path[:] = {sys.path!r}; import {name}; print(*sys.modules)"
        return set(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        )

    return load
