"""Each fault of the model, one by one, and what the user sees of it: an answer after a retry, or a clear failure.

Run with `-s`, it prints the table of faults.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from chaos.cluster import Cluster
from line import Body, Line, serving
from msgspec import Struct

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENTS = """
[assistant]
instructions = "Help."
tools = ["calculator"]

[hasty]
instructions = "Help at once."
limits = {turn_seconds = 1}
"""
IMPATIENCE = '''
"""The worker gives up a silent stream after 4 s instead of a minute, so that a test need not wait for it."""
import functools

import streams.worker
from agents.models.backoff import RetryPolicy
from agents.tools import tool

streams.worker.RetryPolicy = functools.partial(RetryPolicy, stall_s=4)


@tool
async def nothing() -> str:
    """Does nothing."""
    return ""
'''
ATTEMPTS = 2


class Failed(Struct, frozen=True):
    """What `turn_failed` says."""

    code: str
    retryable: bool
    says: str
    attempts: int = ATTEMPTS


FOR_GOOD: dict[str, Failed] = {
    "400": Failed("bad_request", False, "Change the request", attempts=1),
    "401": Failed("authentication_failed", False, "Check ANTHROPIC_API_KEY", attempts=1),
    "403": Failed("permission_denied", False, "Check what the API key may use", attempts=1),
    "404": Failed("model_not_found", False, "Check the agent's model", attempts=1),
    "413": Failed("request_too_large", False, "Shorten the conversation", attempts=1),
    "spend-limit": Failed("spend_limit_reached", False, "Raise the spend limit", attempts=1),
    "408": Failed("provider_error", True, "Try again later"),
    "409": Failed("provider_error", True, "Try again later"),
    "429": Failed("rate_limited", True, "raise the rate limit"),
    "500": Failed("provider_error", True, "Try again later"),
    "502": Failed("provider_error", True, "Try again later"),
    "503": Failed("provider_error", True, "Try again later"),
    "504": Failed("provider_error", True, "Try again later"),
    "529": Failed("overloaded", True, "Try again later"),
    "reset": Failed("connection_failed", True, "Check ANTHROPIC_BASE_URL"),
    "drop": Failed("stream_broken", True, "Try again later"),
    "truncate": Failed("stream_broken", True, "it ended before the message did"),
    "bad-chunk": Failed("stream_broken", True, "not what the Messages API sends"),
    "sse-error": Failed("overloaded", True, "overloaded_error"),
    "stall": Failed("stream_broken", True, "Try again later"),
}
"""Each fault while it lasts, for a worker that makes two attempts."""
PASSING = [kind for kind, failed in FOR_GOOD.items() if failed.retryable]
SHOWN_IN_PART = {"drop", "truncate", "stall"}
"""Faults before which some of the text reaches the reader. A bad event comes in one piece with the text before it."""
STOPS = ("max_tokens", "stop_sequence", "pause_turn", "refusal", "model_context_window_exceeded")
QUESTION = "How do river locks lift a heavy barge?"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    """The faults are all asked for at once: each waits for its own retries only, and the longest ones begin first."""
    home = tmp_path_factory.mktemp("faults")
    (home / "agents.toml").write_text(AGENTS)
    (home / "impatience.py").write_text(IMPATIENCE)
    settings = {
        "HEADRACE_AGENTS": str(home / "agents.toml"),
        "HEADRACE_TOOLS": str(home / "impatience.py"),
        "HEADRACE_MODEL_ATTEMPTS": str(ATTEMPTS),
    }
    async with serving(cluster, "faults.", **settings) as (line, _):
        for kind in sorted(FOR_GOOD, key=lambda kind: kind != "stall"):
            await line.say(f"good-{kind}", f"{QUESTION} [[fault:{kind}]]", id="m")
            await line.say(f"once-{kind}", f"{QUESTION} [[fault:{kind} times=1]]", id="m")
        for reason in STOPS:
            await line.say(f"stop-{reason}", f"{QUESTION} [[stop:{reason}]]", id="m")
        yield line


async def all_ended(line: Line) -> None:
    sessions = [f"{prefix}-{kind}" for prefix in ("good", "once") for kind in FOR_GOOD]
    await asyncio.gather(*(line.end(session, "m") for session in [*sessions, *(f"stop-{stop}" for stop in STOPS)]))


def log_of(line: Line, session_id: str) -> list[Body]:
    return [event for event in line.bodies("session-log") if event["session_id"] == session_id]


def shown(frames: list[Body]) -> str:
    """What a reader of the deltas has on the screen in the end."""
    text = ""
    for frame in frames:
        text = "" if frame["type"] == "delta_reset" else text + frame["text"]
    return text


async def outcomes(line: Line, session_id: str, event_type: str) -> list[Body]:
    """How the session's model calls ended, once the log says that one of them ended so."""
    return await line.until(
        lambda: [event for event in log_of(line, session_id) if event["type"] == event_type], f"{event_type} in the log"
    )


async def frames_of(line: Line, completed: Body) -> list[Body]:
    """The frames of the answer, once all are there."""
    session_id = completed["session_id"]
    await line.until(lambda: shown(line.deltas(session_id)) == completed["text"], f"the whole answer in {session_id}")
    return line.deltas(session_id)


@pytest.mark.parametrize("kind", FOR_GOOD)
async def test_a_fault_that_lasts(line: Line, kind: str) -> None:
    """The turn fails, and the error says what happened, what to do, and whether to try again."""
    expected = FOR_GOOD[kind]
    failed = await line.end(f"good-{kind}", "m")
    assert failed["type"] == "turn_failed"
    assert (failed["error"]["code"], failed["error"]["retryable"]) == (expected.code, expected.retryable)
    assert expected.says in failed["error"]["message"]
    (outcome,) = await outcomes(line, f"good-{kind}", "model_failed")
    assert outcome.get("attempts", 1) == expected.attempts
    assert failed["seq"] == 2


@pytest.mark.parametrize("kind", PASSING)
async def test_a_fault_that_passes(line: Line, kind: str) -> None:
    """The user gets the whole answer; a reader of the deltas is told to start again, and never mixes two attempts."""
    session_id = f"once-{kind}"
    completed = await line.end(session_id, "m")
    assert completed["type"] == "turn_completed"
    assert len(completed["text"]) > 50
    frames = await frames_of(line, completed)
    second = [frame for frame in frames if frame["attempt"] == 2]
    assert [frame["type"] for frame in second[:2]] == ["delta_reset", "text_delta"]
    assert [frame["seq"] for frame in second] == list(range(len(second)))
    if kind in SHOWN_IN_PART:
        first = frames[: frames.index(second[0])]
        assert {frame["attempt"] for frame in first} == {1}
        assert completed["text"].startswith("".join(frame["text"] for frame in first))
    (outcome,) = await outcomes(line, session_id, "model_completed")
    assert outcome["attempts"] == 2


async def test_a_fault_that_cannot_pass_is_not_tried_again(line: Line) -> None:
    """The second attempt would have succeeded, but nobody can know that of such a fault."""
    for kind in set(FOR_GOOD) - set(PASSING):
        assert (await line.end(f"once-{kind}", "m"))["type"] == "turn_failed"


async def test_what_was_paid_for_is_counted(line: Line) -> None:
    """An attempt that broke in the middle of its stream was paid for; its tokens are part of the turn's."""
    whole = await line.ask("paid", QUESTION)
    broken = await line.end("once-truncate", "m")
    assert broken["usage"]["output_tokens"] > whole["usage"]["output_tokens"]
    assert sum(broken["usage"].values()) > 1.5 * sum(whole["usage"].values())


async def test_retry_after_is_waited_for(line: Line) -> None:
    """The provider says when to come back, and the second attempt comes no earlier."""
    completed = await line.ask("patient", f"{QUESTION} [[fault:429 times=1 retry-after=1.5]]", id="m")
    started = line.events("patient")[0]
    took = datetime.fromisoformat(completed["at"]) - datetime.fromisoformat(started["at"])
    assert completed["type"] == "turn_completed"
    assert took.total_seconds() >= 1.5


async def test_a_long_wait_can_be_cancelled(line: Line) -> None:
    """A turn that waits for its next attempt ends at once when it is told to."""
    await line.say("waiting", f"{QUESTION} [[fault:429 times=1 retry-after=50]]", id="m")
    await line.event("waiting", "turn_started")
    await line.command("cancel_turn", "waiting")
    assert (await line.end("waiting", "m"))["type"] == "turn_cancelled"


async def test_the_turn_has_a_time_limit(line: Line) -> None:
    """A model that is slow costs the turn its own time and no more; the failure names the limit."""
    failed = await line.ask("late", f"{QUESTION} [[hold:for ever]]", agent="hasty")
    assert failed["error"]["code"] == "limit_turn_seconds"
    assert "1 seconds" in failed["error"]["message"]


async def test_a_fault_after_a_tool_call(line: Line) -> None:
    """Only the model call is made again: the tool that it follows has run, and is not run again."""
    completed = await line.ask("step", "What is 17*23? [[fault:529 times=1 step=2]]")
    assert "391" in completed["text"]
    types = [event["type"] for event in line.events("step")]
    assert types == ["turn_started", "tool_called", "tool_returned", "turn_completed"]
    assert [e.get("attempts", 1) for e in log_of(line, "step") if e["type"] == "model_completed"] == [1, 2]


@pytest.mark.parametrize("kind", ["401", "413", "429", "529", "truncate", "sse-error"])
async def test_the_session_goes_on_after_a_failure(cluster: Cluster, line: Line, kind: str) -> None:
    """A failed turn leaves a transcript that the model accepts: the next message is answered, with all before it."""
    await all_ended(line)
    session_id = f"after-{kind}"
    await line.ask(session_id, "My name is Ada.")
    rules = [{"kind": kind, "times": FOR_GOOD[kind].attempts}]
    url = f"{cluster.model_url}/control/faults"
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        await http.put(url, json=rules)
        try:
            assert (await line.ask(session_id, QUESTION))["type"] == "turn_failed"
        finally:
            await http.delete(url)
    completed = await line.ask(session_id, "What is my name?")
    assert completed["type"] == "turn_completed"
    assert "Ada" in completed["text"]


async def test_stop_reasons(line: Line) -> None:
    """An answer that was cut off is an answer that says so; a pause is gone on from; no answer is a failure."""
    ends = dict(zip(STOPS, await asyncio.gather(*(line.end(f"stop-{reason}", "m") for reason in STOPS)), strict=True))
    whole = (await line.ask("whole", QUESTION))["text"]
    for reason in ("max_tokens", "stop_sequence"):
        assert ends[reason]["type"] == "turn_completed"
        assert ends[reason]["stop_reason"] == reason
        assert whole.startswith(ends[reason]["text"])
        assert 0 < len(ends[reason]["text"]) < len(whole)
    assert ends["pause_turn"]["stop_reason"] == "end_turn"
    await frames_of(line, ends["pause_turn"])
    assert len([e for e in log_of(line, "stop-pause_turn") if e["type"] == "model_completed"]) == 2
    assert ends["refusal"]["error"]["code"] == "refusal"
    assert ends["model_context_window_exceeded"]["error"]["code"] == "context_window_exceeded"
    for reason in ("refusal", "model_context_window_exceeded"):
        assert ends[reason]["type"] == "turn_failed"
        # What the model cannot answer is left out of later prompts, so the session goes on.
        assert (await line.ask(f"stop-{reason}", "Good morning!"))["type"] == "turn_completed"


async def test_the_table(line: Line) -> None:
    """Every fault ended in exactly one event, which the printed table shows."""
    await all_ended(line)

    def row(session_id: str, what: str) -> str:
        end = line.events(session_id)[1]
        return f"| {what} | {_told(end)} |"

    rows = [row(f"once-{kind}", f"{kind}, once") for kind in FOR_GOOD]
    rows += [row(f"good-{kind}", f"{kind}, lasting") for kind in FOR_GOOD]
    rows += [row(f"stop-{reason}", f"stop reason {reason}") for reason in STOPS]
    print("\n| fault | what the user sees (2 attempts) |\n|---|---|", *rows, sep="\n")
    assert len(rows) == 2 * len(FOR_GOOD) + len(STOPS)


def _told(end: dict[str, Any]) -> str:
    if end["type"] == "turn_failed":
        error = end["error"]
        again = "retryable" if error["retryable"] else "not retryable"
        return f"turn_failed `{error['code']}`, {again}: {error['message']}"
    return f"{end['type']}, {end['stop_reason']}, {len(end['text'])} characters"
