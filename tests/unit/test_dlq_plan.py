"""What a replay would do, which sessions are quarantined, and what is sent again: worked out without a broker."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from histories import NOW

from headrace.dead_letters.edit import edit
from headrace.dead_letters.errors import NotEditedError
from headrace.dead_letters.history import Replayed
from headrace.dead_letters.letters import Selection, in_order, parse_time
from headrace.dead_letters.plan import Verdict, key_of, plan
from headrace.errors import UsageError
from headrace.quarantine.standing import LoggedFact, standing, to_resend, turned_away
from schemas.causation import causation, plain_topic
from schemas.content import TextBlock
from schemas.dead_letter import Cause, DeadLetter
from schemas.events import TurnFailed
from schemas.failure import Failure, FailureCode
from schemas.log import MessageAccepted, SessionEvent, SessionExpired, SessionReleaseRequested

GOOD = b'{"session_id": "s1", "text": "hi"}'


def letter(offset: int = 7, value: bytes | None = GOOD, topic: str = "p.user-messages", **more: Any) -> DeadLetter:
    given: dict[str, Any] = {"cause": Cause.NOT_VALID, "error": "why", "key": None, "session_id": "s1", **more}
    return DeadLetter(
        id=f"{topic}/0/{offset}",
        topic=topic,
        partition=0,
        offset=offset,
        at=NOW + timedelta(seconds=offset),
        processor="accept",
        value=value,
        **given,
    )


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (letter(), Verdict.SEND),
        (letter(key=b"s2"), Verdict.REFUSED),
        (letter(value=b"no JSON"), Verdict.REFUSED),
        (letter(value=None), Verdict.IMPOSSIBLE),
        (letter(topic="broadcasts", value=b'{"text": "hi", "audience": ["writer"]}'), Verdict.SEND),
        (letter(topic="broadcasts", value=b'{"text": "hi", "audience": ["ghost"]}'), Verdict.REFUSED),
        (letter(topic="broadcasts", value=b'{"text": "hi", "expires_at": "2026-01-01T00:00:00Z"}'), Verdict.REFUSED),
        (letter(topic="llm-requests", value=b"{}"), Verdict.REFUSED),
        (letter(topic="session-log", cause=Cause.CORE_ERROR), Verdict.IMPOSSIBLE),
        (letter(topic="session-log", cause=Cause.NOTHING_TO_CANCEL), Verdict.IMPOSSIBLE),
        (letter(topic="session-log", cause=Cause.NOT_QUARANTINED), Verdict.IMPOSSIBLE),
    ],
)
def test_what_happens_to_a_letter(one: DeadLetter, verdict: Verdict) -> None:
    """As the pipeline would judge; whoever is left out is told why."""
    (planned,) = plan([one], {}, NOW, ("assistant", "writer"))
    assert planned.verdict is verdict
    assert bool(planned.why) == (verdict is not Verdict.SEND)


def test_what_was_sent_again_is_left_out() -> None:
    """Whatever became of it: that is another letter, or an answer."""
    again = {letter().id: [Replayed(at=NOW, record="user-messages/1/9")]}
    (planned,) = plan([letter()], again, NOW, ())
    assert planned.verdict is Verdict.REPLAYED
    assert "user-messages/1/9" in planned.why


def test_the_order_of_a_session_is_kept() -> None:
    """By place, not by when each was refused; and one without a key goes to its session's partition."""
    assert [one.offset for one in in_order([letter(9), letter(10), letter(8)])] == [8, 9, 10]
    assert key_of(letter(), GOOD) == b"s1"
    assert key_of(letter(key=b"k"), GOOD) == b"k"
    assert key_of(letter(key=b"k"), GOOD, is_edited=True) == b"s1"
    assert key_of(letter(), b"no JSON") is None
    assert key_of(letter(topic="broadcasts"), GOOD) is None


def test_a_selection() -> None:
    """All that is given must apply; the topic is named with or without its prefix, and `until` is not among them."""
    one = letter(7)
    chosen = (
        Selection(),
        Selection(cause="not_valid", topic="user-messages", session="s1", since=one.at),
        Selection(topic="p.user-messages", until=one.at + timedelta(seconds=1)),
    )
    left_out = (
        Selection(cause="not_json"),
        Selection(topic="broadcasts"),
        Selection(session="s2"),
        Selection(until=one.at),
        Selection(since=one.at + timedelta(seconds=1)),
    )
    assert all(selection.has(one) for selection in chosen)
    assert not any(selection.has(one) for selection in left_out)


def test_times() -> None:
    """A time, or how long ago; without a zone it is UTC."""
    assert parse_time("2h", "--since", NOW) == NOW - timedelta(hours=2)
    assert parse_time("2026-05-01T12:00:00", "--since", NOW) == NOW
    assert parse_time(None, "--since", NOW) is None
    with pytest.raises(UsageError, match="--until with a time"):
        parse_time("soon", "--until", NOW)


def test_where_an_accepted_fact_came_from() -> None:
    """From the command at the place that its CloudEvents id names; a replay names its chain."""
    headers = (("ce_source", b"/headrace/accept"), ("ce_id", b"p.user-messages/1/4"))
    fact = letter(topic="p.session-log", value=b'{"type": "cancel_requested", "command_id": "c1"}', headers=headers)
    told = causation(fact)
    assert (told.led_by, told.command_id, told.record_type) == ("p.user-messages/1/4", "c1", "cancel_requested")
    chain = (("headrace-replay-of", b"p.user-messages/0/5"), ("headrace-first-place", b"p.user-messages/0/2"))
    told = causation(letter(headers=(*chain, ("headrace-edited", b"true"))))
    assert (told.replay_of, told.first_place, told.edited) == ("p.user-messages/0/5", "p.user-messages/0/2", True)
    assert told.command_id == "p.user-messages/0/2"
    assert causation(letter(value=b"\xff")).record_type is None
    assert plain_topic("p.session-log") == "session-log"


def test_an_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote is the value; one that changes nothing, fails or does not start sends nothing."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/hi/ho/")
    assert edit(b"hi") == b"ho"
    for editor, says in (("true", "not changed"), ("false", "status 1"), ("/no/such", "did not start"), ('"', "start")):
        monkeypatch.setenv("EDITOR", editor)
        with pytest.raises(NotEditedError, match=says):
            edit(b"hi")


# Quarantines


def accepted(message_id: str, session_id: str = "s1") -> MessageAccepted:
    return MessageAccepted(session_id=session_id, message_id=message_id, content=(TextBlock(text="hi"),), at=NOW)


def release(command_id: str) -> SessionReleaseRequested:
    return SessionReleaseRequested(session_id="s1", command_id=command_id, at=NOW)


def log(*events: SessionEvent | None) -> Sequence[LoggedFact]:
    return [LoggedFact(partition=0, offset=offset, event=event) for offset, event in enumerate(events)]


def broken_at(*offsets: int) -> list[DeadLetter]:
    return [letter(offset, topic="session-log", cause=Cause.CORE_ERROR, error="OverflowError") for offset in offsets]


def test_a_quarantine_stands_until_it_is_released() -> None:
    """A release with an id that was used before is not followed, so it lifts nothing."""
    (one,) = standing(broken_at(1), log(accepted("a"), accepted("b"), accepted("c")))
    assert (one.session_id, one.fact, one.fact_type, one.releases) == ("s1", "session-log/0/1", "message_accepted", 0)
    assert one.release_id == "release:session-log/0/1"
    assert standing(broken_at(1), log(accepted("a"), accepted("b"), release("r"))) == []
    facts = log(accepted("a"), accepted("b"), release("r"), accepted("c"), release("r"))
    (again,) = standing(broken_at(1, 3), facts)
    assert (again.fact, again.releases) == ("session-log/0/3", 1)
    assert standing(broken_at(1), log(accepted("a"), None, release("r"))) == []


def test_a_session_that_expired_is_in_no_quarantine() -> None:
    """Nothing is left of it; but where something happened since, it did not expire."""
    expired = SessionExpired(session_id="s1", idle_since=NOW, at=NOW)
    early = SessionExpired(session_id="s1", idle_since=NOW - timedelta(seconds=1), at=NOW)
    assert standing(broken_at(0), log(accepted("a"), expired)) == []
    assert len(standing(broken_at(0), log(accepted("a"), early))) == 1


def test_what_is_sent_again() -> None:
    """What was turned away, once, in the order of the log; and what was sent again and turned away again."""
    facts = log(accepted("a"), accepted("b"), accepted("c"), accepted("b"))
    assert [one.id for one in to_resend("log", facts, ["c", "b", "gone"])] == ["log/0/1", "log/0/2"]
    later = log(accepted("a"), accepted("b"), accepted("c"), accepted("log/0/1"))
    assert [one.id for one in to_resend("log", later, ["b", "c", "log/0/1"])] == ["log/0/2", "log/0/3"]


def test_who_was_turned_away() -> None:
    """Those whose turn failed for this reason."""

    def failed(message_id: str, code: FailureCode) -> TurnFailed:
        error = Failure(code=code, message="why")
        return TurnFailed(
            session_id="s1", turn_id="t", message_id=message_id, seq=1, at=NOW, agent="assistant", error=error
        )

    quarantined = FailureCode.SESSION_QUARANTINED
    events = [failed("a", quarantined), failed("b", FailureCode.REFUSAL), failed("a", quarantined)]
    assert turned_away(events) == ["a"]
