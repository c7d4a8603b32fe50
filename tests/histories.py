"""Histories of one session: events are fed one by one, and after each what must always hold is checked."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from agents.catalog import Catalog
from agents.draft import Step, timers
from agents.limits import Limits
from agents.prompt import Prompt, build_prompt
from agents.quarantine import quarantine
from agents.reducer import reduce
from agents.session import CallKind, Session
from agents.spec import AgentSpec
from schemas.codec import encode
from schemas.content import AssistantBlock, TextBlock, ToolUseBlock
from schemas.events import AgentEvent, TurnCancelled, TurnCompleted, TurnEnd, TurnFailed
from schemas.failure import Failure, FailureCode
from schemas.log import (
    ApprovalDecided,
    CancelRequested,
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEndRequested,
    SessionEvent,
    SessionExpired,
    SessionReleaseRequested,
    ToolCompleted,
    ToolFailed,
    ToolStarted,
)
from schemas.usage import Usage
from streams.store import Write, coalesced, load, writes

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SESSION = "s1"
TOOLS = [{"name": name, "description": "d", "input_schema": {"type": "object"}} for name in ("add", "send")]
MAX_CACHE_BREAKPOINTS = 4
END_TYPES = (TurnCompleted, TurnFailed, TurnCancelled)


def agent(name: str = "assistant", **limits: int) -> AgentSpec:
    """An agent with a tool `add`, and a tool `send` whose calls wait for approval."""
    return AgentSpec(
        name=name, instructions="Help.", tools=("add", "send"), approval=("send",), limits=Limits(**limits)
    )


def catalog(*specs: AgentSpec) -> Catalog:
    specs = specs or (agent(),)
    return Catalog({spec.name: spec for spec in specs}, specs[0].name)


class Clock:
    """Seconds pass only where a history says so."""

    def __init__(self) -> None:
        self.at = NOW

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Fold:
    """What a session's log makes of it: its state, its events, and its stored form."""

    def __init__(self, agents: Catalog | None = None, session_id: str = SESSION) -> None:
        self.catalog = agents or catalog()
        self.session_id = session_id
        self.session: Session | None = None
        self.clock = Clock()
        self.offset = 0
        self.seen: list[AgentEvent] = []
        self.log: list[tuple[int, SessionEvent, Catalog]] = []
        self.steps: list[Step] = []
        self.stored: dict[bytes, bytes] = {}

    def feed(self, event: SessionEvent, *, crash: bool = False) -> Step:
        """Hand the next event of the log to the core; `crash`: the core has a bug that this event uncovers."""
        before, offset = self.session, self.offset
        # Offsets of one session's events have gaps: other sessions share the partition.
        self.offset += 3
        if crash:
            step = quarantine(self.catalog, before, event, offset, "ZeroDivisionError")
        else:
            step = reduce(self.catalog, before, event, offset)
            assert encode_step(step) == encode_step(reduce(self.catalog, before, event, offset)), "not deterministic"
        self.log.append((offset, event, self.catalog))
        self.steps.append(step)
        self.session = step.session
        self.seen += step.events
        self._check(before, step, event, offset)
        self._store(before, step)
        return step

    def pending(self, kind: CallKind | None = None) -> list[str]:
        turn = self.session.head.turn if self.session else None
        return [call.call_id for call in (turn.pending if turn else ()) if kind in {None, call.kind}]

    def model_call(self) -> str:
        (call_id,) = self.pending(CallKind.MODEL)
        return call_id

    def prompt(self) -> Prompt:
        return self.prompt_of("assistant")

    def prompt_of(self, name: str) -> Prompt:
        assert self.session is not None
        return build_prompt(self.catalog.agents[name], TOOLS, self.session)

    def ends(self) -> list[TurnEnd]:
        return [event for event in self.seen if isinstance(event, END_TYPES)]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.seen]

    def failure(self) -> Failure:
        """Of the last turn that failed."""
        return [event for event in self.seen if isinstance(event, TurnFailed)][-1].error

    def _check(self, before: Session | None, step: Step, event: SessionEvent, offset: int) -> None:
        after = step.session
        if after is None:
            return
        assert after.head.entries == len(after.transcript)
        old = before.transcript if before else ()
        if not step.rewritten:
            assert after.transcript[: len(old)] == old, "the transcript may only grow"
        seqs = [happened.seq for happened in step.events]
        first = (before.head.seq if before else 0) + 1
        assert seqs == list(range(first, first + len(seqs))), "seq has a gap"
        assert after.head.seq == first + len(seqs) - 1
        again = reduce(self.catalog, after, event, offset)
        if after.head.log_offset == offset:
            assert again == Step(session=after), "a redelivered event must change nothing"
        turn = after.head.turn
        assert turn is not None or not after.head.queue, "a message waits, and no turn runs"
        if turn is not None:
            assert turn.pending, "a turn runs, and waits for nothing"
            if any(call.kind == CallKind.MODEL for call in turn.pending):
                assert len(turn.pending) == 1
                check_prompt(build_prompt(agent(), TOOLS, after))

    def _store(self, before: Session | None, step: Step) -> None:
        items = coalesced(writes(self.session_id, before, step))
        check_prefixes(self.stored, items, self.session_id)
        apply_writes(self.stored, items)
        assert load(self.stored.get, self.session_id) == step.session, "the table must give back what was stored"
        count = step.session.head.entries + 1 + len(timers(step.session.head)) if step.session else 0
        assert len(self.stored) == count, "the table must not keep what the session has lost"


class History(Fold):
    """A session's log, told in words."""

    def say(self, message_id: str, text: str = "hi", **fields: Any) -> Step:
        return self.feed(
            MessageAccepted(
                session_id=self.session_id,
                message_id=message_id,
                content=(TextBlock(text=text),),
                at=self.clock.at,
                **fields,
            )
        )

    def model_says(
        self,
        *content: AssistantBlock | str,
        stop_reason: str | None = None,
        call_id: str | None = None,
        tokens: int = 1,
        cost_micros: int = 2,
    ) -> Step:
        """The pending model call returns; the stop reason is the one that fits, unless given."""
        blocks = tuple(TextBlock(text=block) if isinstance(block, str) else block for block in content)
        fitting = "tool_use" if any(isinstance(block, ToolUseBlock) for block in blocks) else "end_turn"
        return self.feed(
            ModelCompleted(
                session_id=self.session_id,
                call_id=call_id or self.model_call(),
                model="m",
                content=blocks,
                stop_reason=stop_reason or fitting,
                usage=Usage(output_tokens=tokens),
                cost_micros=cost_micros,
                at=self.clock.at,
            )
        )

    def model_fails(self, code: FailureCode, call_id: str | None = None) -> Step:
        return self.feed(
            ModelFailed(
                session_id=self.session_id,
                call_id=call_id or self.model_call(),
                model="m",
                failure=Failure(code=code, message="why"),
                at=self.clock.at,
                usage=Usage(input_tokens=1),
            )
        )

    def tool_starts(self, call_id: str) -> Step:
        return self.feed(ToolStarted(session_id=self.session_id, call_id=call_id, at=self.clock.at))

    def tool_returns(self, call_id: str, content: str = "3") -> Step:
        return self.feed(ToolCompleted(session_id=self.session_id, call_id=call_id, content=content, at=self.clock.at))

    def tool_fails(self, call_id: str, code: FailureCode = FailureCode.TOOL_ERROR) -> Step:
        failure = Failure(code=code, message=f"it failed: {code}")
        return self.feed(ToolFailed(session_id=self.session_id, call_id=call_id, failure=failure, at=self.clock.at))

    def cancel(self, message_id: str | None = None, command_id: str | None = None) -> Step:
        return self.feed(
            CancelRequested(
                session_id=self.session_id,
                command_id=command_id or f"c{self.offset}",
                at=self.clock.at,
                message_id=message_id,
                reason="changed my mind",
                by="ann",
            )
        )

    def decide(self, call_id: str, decision: str, command_id: str | None = None) -> Step:
        return self.feed(
            ApprovalDecided(
                session_id=self.session_id,
                command_id=command_id or f"c{self.offset}",
                call_id=call_id,
                decision="approve" if decision == "approve" else "deny",
                at=self.clock.at,
                by="ann",
            )
        )

    def end(self, command_id: str | None = None) -> Step:
        return self.feed(
            SessionEndRequested(
                session_id=self.session_id, command_id=command_id or f"c{self.offset}", at=self.clock.at
            )
        )

    def release(self, command_id: str | None = None) -> Step:
        return self.feed(
            SessionReleaseRequested(
                session_id=self.session_id, command_id=command_id or f"c{self.offset}", at=self.clock.at, by="ann"
            )
        )

    def expire(self, idle_since: datetime | None = None) -> Step:
        return self.feed(
            SessionExpired(session_id=self.session_id, idle_since=idle_since or self.clock.at, at=self.clock.at)
        )


def use(name: str, id: str) -> ToolUseBlock:
    return ToolUseBlock(id=id, name=name, input={"a": 1})


def apply_writes(stored: dict[bytes, bytes], items: Iterable[Write]) -> None:
    for key, value in items:
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value


def check_prefixes(stored: dict[bytes, bytes], items: list[Write], session_id: str) -> None:
    """A worker may die after any of the writes: the session can be read after each."""
    table = dict(stored)
    for item in items:
        apply_writes(table, [item])
        load(table.get, session_id)


def encode_step(step: Step) -> bytes:
    """All that a step leads to, as bytes."""
    session = step.session
    parts: list[Any] = [session.head, *session.transcript] if session else []
    return b"\n".join(encode(part) for part in (*parts, *step.effects, *step.events, step.settled, step.refusal))


def check_prompt(prompt: Prompt) -> None:
    """What the Messages API demands of a request."""
    messages = prompt.messages
    assert messages[0]["role"] == "user"
    roles = [message["role"] for message in messages]
    assert all(one != two for one, two in itertools.pairwise(roles)), f"roles must alternate: {roles}"
    wanted: list[str] = []
    for message in messages:
        blocks = message["content"]
        assert blocks, "a message must not be empty"
        assert all(block["text"].strip() for block in blocks if block["type"] == "text"), "blank text"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert results == wanted, f"expected results of {wanted}, in the order of the calls, got {results}"
        assert [block["type"] for block in blocks[: len(results)]] == ["tool_result"] * len(results)
        wanted = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if message["role"] == "assistant":
            assert blocks[-1]["type"] not in {"thinking", "redacted_thinking"}
    assert not wanted, "tool calls without results"
    blocks = [*prompt.system, *prompt.tools, *(block for message in messages for block in message["content"])]
    marked = [block for block in blocks if "cache_control" in block]
    assert len(marked) <= MAX_CACHE_BREAKPOINTS
    assert all(block.get("type") not in {"thinking", "redacted_thinking"} for block in marked)
    assert "cache_control" in messages[-1]["content"][-1], "the whole conversation must be cached"
