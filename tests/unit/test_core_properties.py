"""Random histories: whatever happens in whatever order, what must always hold does.

`History` checks after each event: seq without a gap, the transcript only grows, every prompt valid, redelivery without
an effect, determinism, and that the table gives back the session after every prefix of its writes.
"""

from collections import Counter

from histories import END_TYPES, History, agent, catalog, encode_step, use
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.quarantine import quarantine
from agents.reducer import reduce
from agents.session import CallKind, Session
from schemas.codec import encode
from schemas.content import AssistantBlock, ThinkingBlock
from schemas.failure import FailureCode

STOP_REASONS = ["end_turn", "stop_sequence", "max_tokens", "tool_use", "pause_turn", "refusal", "new"]
CODES = [
    FailureCode.OVERLOADED,
    FailureCode.BAD_REQUEST,
    FailureCode.CALL_TIMEOUT,
    FailureCode.REFUSAL,
    FailureCode.INTERNAL_ERROR,
]
MAX_HEAD_BYTES = 6_000
"""Of these histories, whose queues and inputs are small, however long they are."""
LIMITS: dict[str, int] = {
    "queued_messages": 2,
    "model_calls_per_turn": 4,
    "tool_calls_per_turn": 6,
    "tokens_per_turn": 40,
    "turn_seconds": 60,
    "transcript_bytes": 20_000,
}


class Sessions(RuleBasedStateMachine):
    """One session, to which anything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.full = catalog(agent("assistant", **LIMITS), agent("writer", **LIMITS))
        self.without_writer = catalog(agent("assistant", **LIMITS))
        self.history = History(self.full)
        self.accepted: set[str] = set()
        self.uses = 0

    def _message_ids(self) -> list[str]:
        return sorted(self.accepted)

    def _call(self, data: st.DataObject, kind: CallKind) -> str:
        """A call that is waited for, or mostly so: any other one is late."""
        known = self.history.pending(kind)
        late = [f"s1/{turn}/{step}" for turn in (1, 2, 3) for step in (1, 2)]
        return data.draw(st.sampled_from(known * 4 + late))

    @rule(name=st.sampled_from("abcdefghijklmnop"), agent_name=st.sampled_from([None, None, "writer", "ghost"]))
    def message(self, name: str, agent_name: str | None) -> None:
        self.history.say(name, name * 5, agent=agent_name)
        self.accepted.add(name)

    @rule(data=st.data(), stop_reason=st.sampled_from([None, None, None, None, *STOP_REASONS]))
    def model(self, data: st.DataObject, stop_reason: str | None) -> None:
        content: list[AssistantBlock | str] = []
        if data.draw(st.booleans()):
            content.append(ThinkingBlock(thinking="hm", signature="s"))
        content += data.draw(st.lists(st.sampled_from(["well", " "]), max_size=1))
        for name in data.draw(st.lists(st.sampled_from(["add", "add", "send", "fly"]), max_size=3)):
            self.uses += 1
            content.append(use(name, f"u{self.uses}"))
        call_id = self._call(data, CallKind.MODEL)
        self.history.model_says(*content, stop_reason=stop_reason, call_id=call_id, tokens=3)

    @rule(data=st.data(), code=st.sampled_from(CODES))
    def model_fails(self, data: st.DataObject, code: FailureCode) -> None:
        self.history.model_fails(code, self._call(data, CallKind.MODEL))

    @rule(data=st.data(), what=st.sampled_from(["starts", "returns", "returns", "fails"]))
    def tool(self, data: st.DataObject, what: str) -> None:
        call_id = self._call(data, CallKind.TOOL)
        match what:
            case "starts":
                self.history.tool_starts(call_id)
            case "returns":
                self.history.tool_returns(call_id, "")
            case _:
                self.history.tool_fails(call_id)

    @rule(data=st.data(), decision=st.sampled_from(["approve", "deny"]), command=st.sampled_from([None, "d1"]))
    def approval(self, data: st.DataObject, decision: str, command: str | None) -> None:
        self.history.decide(self._call(data, CallKind.APPROVAL), decision, command)

    @rule(data=st.data(), command=st.sampled_from([None, "c1"]))
    def cancel(self, data: st.DataObject, command: str | None) -> None:
        self.history.cancel(data.draw(st.sampled_from([None, *self._message_ids()])), command)

    @rule(seconds=st.sampled_from([1, 10, 60, -5]))
    def time_passes(self, seconds: int) -> None:
        """Also backwards: the clocks of two workers differ."""
        self.history.clock.forward(seconds)

    @rule()
    def the_agents_change(self) -> None:
        self.history.catalog = self.full if self.history.catalog is self.without_writer else self.without_writer

    @precondition(lambda self: len(self.history.log) > 12)
    @rule(how=st.sampled_from(["end", "core bug", "release"]))
    def session_ends(self, how: str) -> None:
        if how == "end":
            self.history.end()
        elif how == "release":
            self.history.release()
        else:
            self.history.feed(self.history.log[-1][1], crash=True)

    @invariant()
    def every_message_ends_at_most_once(self) -> None:
        ends = Counter(end.message_id for end in self.history.ends())
        assert not [message for message, count in ends.items() if count > 1]
        session = self.history.session
        head = session.head if session else None
        open_ids = {message.message_id for message in head.queue} if head else set()
        if head is not None and head.turn is not None:
            open_ids.add(head.turn.message_id)
        assert set(ends) | open_ids == self.accepted
        assert not set(ends) & open_ids

    @invariant()
    def the_head_stays_small(self) -> None:
        if self.history.session is not None:
            assert len(encode(self.history.session.head)) < MAX_HEAD_BYTES

    def teardown(self) -> None:
        """Once all is drained every message has its end; and the same log gives the same bytes again."""
        history = self.history
        while history.pending():
            history.cancel()
        assert {end.message_id for end in history.ends()} == self.accepted
        assert [event.seq for event in history.seen] == list(range(1, len(history.seen) + 1))
        session: Session | None = None
        for (offset, event, agents), before in zip(history.log, history.steps, strict=True):
            if before.session is not None and before.session.head.quarantined and not _is_quarantined(session):
                step = quarantine(agents, session, event, offset, "ZeroDivisionError")
            else:
                step = reduce(agents, session, event, offset)
            assert encode_step(step) == encode_step(before) or _is_quarantined(session)
            session = before.session
        super().teardown()


def _is_quarantined(session: Session | None) -> bool:
    return session is not None and session.head.quarantined is not None


Sessions.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSessions = Sessions.TestCase


def test_the_head_does_not_grow_with_the_conversation() -> None:
    """After sixty turns it is as large as after ten, so each turn writes the same number of bytes."""
    history = History(catalog(agent(transcript_bytes=100_000_000)))
    sizes = []
    for number in range(60):
        history.say(f"message-{number:04}", "x" * 1_000)
        history.model_says("y" * 1_000)
        assert history.session is not None
        sizes.append(len(encode(history.session.head)))
    assert max(sizes[10:]) - sizes[10] < 20, "only the digits of its counters grow"
    assert len(history.ends()) == 60
    assert all(isinstance(end, END_TYPES) for end in history.ends())
