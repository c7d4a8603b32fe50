"""What people send, what the model says and what tools return in the simulation: drawn from the seed."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from histories import check_prompt
from simulation.bugs import BUG
from simulation.cast import OTHERS, TEAM, TEAM_TOOLS
from simulation.invariants import Started
from simulation.model_stream import ScriptedApi, streaming_client

from agents.models.port import DeltaSink, ModelClient, ModelCompletion, ModelFault, ModelOutcome
from agents.prompt import Prompt
from agents.tools.port import ToolError
from schemas.content import AssistantBlock, TextBlock, ToolUseBlock, text_of
from schemas.failure import Failure, FailureCode
from schemas.usage import Usage

Command = tuple[bytes | None, bytes]
USED = ("add", "pay", "pay", "send", "mail", "print", "scan", "fly", *OTHERS)
"""The tools that the model uses; one of them does not exist."""
SESSIONS = ("a", "b", "c", "d", "e", "f", "g", "h")
FIRST_WORDS = "answer "
CHILD = "~"
"""In the name of a session that another one asks."""
CALM = 0.7
"""Of what is said in those: an answer, so that whoever has asked comes further."""
BAD_RECORDS = (b"", b"{", b"[1]", b'{"text": "no session"}', b'{"session_id": "a"}', b"[" * 100_000)
GARBAGE = (
    None,
    b"",
    b"{",
    b"[1]",
    b"null",
    b"\xff\xfe",
    b'{"type":"ghost"}',
    b'{"type":"model_completed"}',
    b"[" * 9_999,
)
"""What is no record of any topic."""


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call that a worker made, and nobody has answered yet."""

    call_id: str
    answer: Callable[[Random], object]
    result: asyncio.Future[object]
    caller: asyncio.Task[object] | None
    is_silent: bool
    """Whether nobody ever will."""


@dataclass(slots=True, eq=False)
class Calls:
    """The world behind the ports of the model and the tools."""

    partition_of: Callable[[str], int]
    started: list[Started] = field(default_factory=list)
    open: list[OpenCall] = field(default_factory=list)
    bad_prompts: list[str] = field(default_factory=list)
    told: list[tuple[Started, str]] = field(default_factory=list)
    """The instructions that each call of the model was made with."""
    overruns: list[str] = field(default_factory=list)
    """The tools that ran for longer than they may."""
    happens: Callable[[str], bool] = lambda _: False
    """Whether a fault of such a kind comes now."""
    uses: int = 0
    has_team: bool = False
    """Whether there is an agent with a pattern."""
    is_streamed: bool = False
    """Whether the model is behind the worker's real client, as bytes; else the scheduler gives whole outcomes."""
    counts: Counter[str] = field(default_factory=Counter)
    """What was done to streams and tools."""

    def model(self, began: Callable[[str, str], str]) -> "Model":
        client = None
        if self.is_streamed:
            client = streaming_client(ScriptedApi(self._ask, self.draw_completion, self._count))
        return Model(self, began, client)

    def _count(self, flaw: str) -> None:
        self.counts[f"stream {flaw}"] += 1

    async def tool(self, call_id: str) -> str:
        """What a tool returns.

        Raises:
            ToolError: it failed for good.
            OSError: it failed for now.
        """
        outcome = await self._ask(call_id, self._tool_outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    async def complete(self, call_id: str) -> ModelOutcome:
        outcome = await self._ask(call_id, lambda rng: self._model_outcome(rng, call_id), always=True)
        assert isinstance(outcome, ModelCompletion | ModelFault)
        return outcome

    async def _ask(self, call_id: str, answer: Callable[[Random], object], *, always: bool = False) -> object:
        """`always`: there is no time limit that would end the call."""
        is_silent = not always and self.happens("silence")
        future = asyncio.get_running_loop().create_future()
        call = OpenCall(call_id, answer, future, asyncio.current_task(), is_silent)
        self.open.append(call)
        try:
            return await call.result
        finally:
            self.open.remove(call)

    def _tool_outcome(self, rng: Random) -> object:
        if rng.random() < 0.2:
            self.counts["tool failed"] += 1
            return ToolError("why") if rng.random() < 0.5 else OSError("why")
        return f"result {rng.random()}{self.bug()}"

    def bug(self) -> str:
        return f" {BUG}" if self.happens("bug") else ""

    def _model_outcome(self, rng: Random, call_id: str) -> ModelOutcome:
        if rng.random() < 0.1:
            can_pass = rng.random() < 0.5
            code = FailureCode.OVERLOADED if can_pass else FailureCode.BAD_REQUEST
            failure = Failure(code=code, message="why", retryable=can_pass)
            return ModelFault(failure=failure, model="m", attempts=3 if can_pass else 1, usage=Usage(), cost_micros=0)
        return self.draw_completion(rng, call_id)

    def draw_completion(self, rng: Random, call_id: str) -> ModelCompletion:
        content: list[AssistantBlock] = [TextBlock(text=f"{FIRST_WORDS}{rng.random()}{self.bug()}")]
        stop_reason = rng.choice(["end_turn", "end_turn", "max_tokens", "pause_turn", "refusal"])
        if CHILD in call_id and rng.random() < CALM:
            stop_reason = "end_turn"
        elif rng.random() < 0.55:
            stop_reason = "tool_use"
            names = [*USED, *TEAM_TOOLS] if self.has_team else USED
            for name in rng.choices(names, k=rng.randint(1, 3)):
                self.uses += 1
                is_other = name in OTHERS or name in TEAM_TOOLS
                said = {"message": "what?"} if is_other and rng.random() < 0.9 else {"n": self.uses}
                content.append(ToolUseBlock(id=f"use-{self.uses}", name=name, input=said))
        return ModelCompletion(
            content=tuple(content),
            stop_reason=stop_reason,
            usage=Usage(output_tokens=rng.choice([1, 3, 3, 8])),
            cost_micros=rng.choice([1, 2, 2, 5]),
            model="m",
            attempts=1,
            request_id=None,
            first_delta_ms=1,
        )


@dataclass(slots=True, eq=False)
class Model:
    """A model client that holds every prompt to the rules of the API."""

    calls: Calls
    began: Callable[[str, str], str]
    client: ModelClient | None = None

    async def complete(self, prompt: Prompt, *, call_id: str, timeout_s: float, on_delta: DeltaSink) -> ModelOutcome:
        try:
            check_prompt(prompt)
        except AssertionError as error:
            # An exception here would become the failure of a turn, as any bug in a model's client.
            self.calls.bad_prompts.append(f"{call_id}: {error}")
        self.began(session_of(call_id), call_id)
        if self.calls.started:
            self.calls.told.append((self.calls.started[-1], prompt.system[0]["text"]))
        if self.client is not None:
            return await self.client.complete(prompt, call_id=call_id, timeout_s=timeout_s, on_delta=on_delta)
        on_delta(1, 0, FIRST_WORDS)
        outcome = await self.calls.complete(call_id)
        for attempt in range(2, outcome.attempts + 1):
            on_delta(attempt, 0, None)
        if isinstance(outcome, ModelCompletion):
            on_delta(1, 1, text_of(outcome.content).removeprefix(FIRST_WORDS))
        return outcome

    async def close(self) -> None:
        """Nothing is open."""


KINDS = {
    "message": 36,
    "known message": 10,
    "repetition": 10,
    "decision": 20,
    "cancel": 10,
    "nonsense": 5,
    "wrong key": 3,
    "unknown agent": 3,
    "applied agent": 6,
    "team": 5,
    "limited": 5,
    "end": 1,
    "release": 8,
}
"""What people send, and how often."""


class Heard(NamedTuple):
    """What people know: what was sent, the calls that wait for approval or did, the sessions that had a bug."""

    sent: Sequence[Command]
    approvals: Callable[[], Sequence[str]]
    quarantined: Callable[[], Sequence[str]]
    has_team: bool = False
    has_budgets: bool = False


def draw_command(rng: Random, sessions: Sequence[str], heard: Heard) -> Command:
    """A record of `user-messages`, key and value: mostly a message, sometimes a repeated one, sometimes nonsense."""
    session = rng.choice(sessions)
    key = rng.choice([None, session.encode()])
    command = key, encoded(session, text="hi")
    match rng.choices(list(KINDS), list(KINDS.values()))[0]:
        case "known message":
            command = key, encoded(session, text="hi", id=f"m{rng.randint(1, 30)}")
        case "repetition" if heard.sent:
            command = rng.choice(heard.sent)
        case "decision" if calls := heard.approvals():
            command = None, approval(rng.choice(calls), rng.choice(["approve", "deny"]))
        case "release" if names := heard.quarantined():
            command = None, encoded(rng.choice(names), type="release_session")
        case "cancel":
            command = key, encoded(session, type="cancel_turn")
        case "nonsense":
            command = None, rng.choice(BAD_RECORDS)
        case "wrong key":
            command = b"other", encoded(session, text="hi")
        case "unknown agent":
            command = key, encoded(session, text="hi", agent="ghost")
        case "applied agent":
            command = key, encoded(session, text="hi", agent="helper")
        case "team" if heard.has_team:
            command = key, encoded(session, text="all of you", agent=TEAM)
        case "limited" if heard.has_budgets:
            command = key, encoded(session, text="hi", budget_micros=rng.randint(1, 12))
        case "end":
            command = key, encoded(session, type="end_session")
        case _:
            pass
    return command


def approval(call_id: str, decision: str) -> bytes:
    return encoded(session_of(call_id), type="approval_decision", call_id=call_id, decision=decision)


def session_of(call_id: str) -> str:
    return call_id.rsplit("/", 2)[0]


def encoded(session_id: str, **fields: str | int) -> bytes:
    return json.dumps({"session_id": session_id, **fields}).encode()
