"""What decide does with what it cannot handle: the partition goes on, whatever is in the log."""

import pytest
from histories import History, catalog
from shell_fixture import Bench, ManualOutbox, NoCalls, settle
from simulation.worker import Tables

import agents.handle
from agents.reducer import reduce
from schemas.codec import decode_agent_event, encode
from schemas.dead_letter import Cause
from schemas.events import TurnFailed
from schemas.failure import FailureCode
from schemas.topics import AGENT_EVENTS, LLM_REQUESTS
from streams.dead_letter import DeadLetters
from streams.decide import Decide
from streams.record import Recorder
from streams.sessions import Sessions


def decider() -> tuple[Bench, Decide, Sessions]:
    bench = Bench(ManualOutbox(is_quick=True))
    tables = Tables()
    tables.data = {0: {}}
    sessions = Sessions(tables, max_sessions=10, max_bytes=1 << 30)
    recorder = Recorder(bench.shell, tables, sessions)
    return bench, Decide(bench.shell, DeadLetters(bench.shell), catalog(), sessions, recorder, NoCalls()), sessions


def message(session_id: str) -> bytes:
    history = History(session_id=session_id)
    history.say("m1")
    return encode(history.log[0][1])


@pytest.mark.expects_internal_error
async def test_a_bug_in_the_core_costs_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event is buried, its messages fail with a clear error, and other sessions go on."""

    def broken(*arguments: object) -> object:
        if getattr(arguments[2], "session_id", "") == "bad":
            raise ZeroDivisionError("a bug")
        return reduce(*arguments)  # type: ignore[arg-type]  # Handed on as they came.

    monkeypatch.setattr(agents.handle, "reduce", broken)
    bench, decide, sessions = decider()
    for offset, session_id in enumerate(("good", "bad", "fine")):
        await decide.take(bench.delivery(offset, message(session_id)))
    await settle()
    (letter,) = bench.outbox.letters()
    assert (letter.cause, letter.session_id, letter.offset) == (Cause.CORE_ERROR, "bad", 1)
    assert "a bug" in letter.error
    events = [decode_agent_event(appended.value or b"") for appended in bench.outbox.to(AGENT_EVENTS.name)]
    (failed,) = [event for event in events if isinstance(event, TurnFailed)]
    assert (failed.session_id, failed.error.code) == ("bad", FailureCode.SESSION_QUARANTINED)
    assert [appended.key for appended in bench.outbox.to(LLM_REQUESTS.name)] == [b"good", b"fine"]
    assert bench.acknowledged == [0, 1, 2]
    quarantined = sessions.load(0, "bad")
    assert quarantined is not None
    assert quarantined.head.quarantined is not None


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b'{"type":"new"}', b'{"type":"tool_started"}', b"\xff", b"[" * 100_000]
)
async def test_what_is_no_event_is_buried(value: bytes | None) -> None:
    """And what waits for its offset goes on."""
    bench, decide, sessions = decider()
    await decide.take(bench.delivery(5, value))
    await settle()
    assert [letter.cause for letter in bench.outbox.letters()] == [Cause.NOT_VALID]
    assert bench.acknowledged == [5]
    assert await sessions.at(0, "s1", 5) is None
