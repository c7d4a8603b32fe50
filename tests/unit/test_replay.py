"""What replay says of a session, from its log alone: histories are recorded, damaged, and folded again."""

import pytest
from histories import History, agent, catalog, use
from msgspec.structs import replace
from recording_fixture import difference, emitted, ms, recording_of

from agents.version import CORE_VERSION
from headrace.errors import UsageError
from headrace.replay.begin import Beginning, find_beginning
from headrace.replay.compare import Comparison, about_versions
from headrace.replay.errors import NotReachedError, RecordingError
from headrace.replay.export import recorded
from headrace.replay.fold import Moment, digest, fold
from headrace.replay.recording import (
    Fact,
    Recording,
    lines,
    parse_recording,
    value_fields,
)
from headrace.replay.show import as_lines, as_object, pending_prompt, printable, state_lines
from headrace.replay.until import facts_until, moments_until, parse_until
from schemas.events import TurnCompleted, TurnStarted

SEVERAL_TURNS = 3
APPLIED_TWICE = b'"applied":[{"offset":3,"agent":"a"},{"offset":3,"agent":"b"}]'


def reaching(recording: Recording, **reach: int | None) -> Recording:
    """The same session on brokers that have less, or more, of it."""
    about = replace(recording.about, reach=replace(recording.about.reach, **reach))
    return replace(recording, about=about)


def three_turns() -> History:
    """A tool in the second one, and time between them."""
    history = History()
    for number in range(1, SEVERAL_TURNS + 1):
        history.say(f"m{number}", f"question {number}")
        if number == 2:
            history.model_says(use("add", "t1"))
            history.tool_returns("s1/2/2")
        history.model_says(f"answer {number}")
        history.clock.forward(60)
    return history


def kinds(comparison: Comparison) -> list[tuple[str, int | None]]:
    return [(found.kind, found.seq) for found in comparison.differences]


def last(recording: Recording, until: str) -> Moment:
    place = parse_until(until, recording.about.session_id)
    moments = moments_until(fold(recording, facts_until(recording.facts, place)), place)
    return list(moments)[-1]


def test_the_fold_is_what_the_session_was() -> None:
    """State, effects and events after each fact are those of the history."""
    history = three_turns()
    moments = list(fold(recording_of(history)))
    assert [moment.step for moment in moments] == history.steps
    assert moments[-1].after == history.session


def test_what_is_no_fact_changes_nothing() -> None:
    """A record of the session that cannot be read is refused, as a worker does, and the next one is folded."""
    recording = recording_of(three_turns())
    broken = Fact(offset=1, timestamp_ms=ms(0), **value_fields(b"\xff\n{"))
    moments = list(fold(replace(recording, facts=(recording.facts[0], broken, *recording.facts[1:]))))
    assert moments[1].refused is not None
    assert moments[1].refused.cause == "not_valid"
    assert digest(moments[1].after) == digest(moments[0].after)
    assert not difference(recording).differences
    assert "no fact" in next(as_lines(moments[1])).first


# --until


@pytest.mark.parametrize(
    ("until", "offset"),
    [
        ("6", 6),
        ("8", 6),
        ("9999", 21),
        ("seq:1", 0),
        ("seq:4", 9),
        ("2026-05-01T12:00:02Z", 6),
        ("2026-05-01T12:00:02.900", 6),
        ("2026-05-01T14:00:02+02:00", 6),
        ("2026-05-02", 21),
        ("s1/2/2", 9),
        ("2/2", 9),
    ],
)
def test_until(until: str, offset: int) -> None:
    """An offset, a seq, a time, a call: the replay stops after the fact that has it, or the last one before."""
    assert last(recording_of(three_turns()), until).fact.offset == offset


def test_until_a_session_whose_id_looks_like_something_else() -> None:
    """The call ids of a session `7` or `a/b` are calls, and no offsets or times."""
    for session_id in ("7", "a/b"):
        history = History(session_id=session_id)
        history.say("m1")
        history.model_says("answer")
        assert last(recording_of(history), f"{session_id}/1/1").fact.offset == 0


@pytest.mark.parametrize("until", ["", "s1", "seq:", "seq:x", "-1", "s2/1/1", "yesterday"])
def test_until_something_else_is_refused(until: str) -> None:
    """With the forms that there are."""
    with pytest.raises(UsageError, match=r"offset of the log \(12\).*seq:7.*s1/2/1"):
        parse_until(until, "s1")


@pytest.mark.parametrize(
    ("until", "says"),
    [
        ("s1/9/1", "the calls are s1/1/1, s1/2/1, s1/2/2, s1/2/3, s1/3/1"),
        ("seq:99", "the last one is 8"),
        ("2020-01-01", "2026-05-01T12:00:00"),
    ],
)
def test_until_what_never_was(until: str, says: str) -> None:
    """It says what there is instead."""
    with pytest.raises(NotReachedError, match=says):
        last(recording_of(three_turns()), until)


def test_the_prompt_of_a_pending_call() -> None:
    """Is the one that the model gets; there is none where no model call is pending."""
    history = History()
    history.say("m1")
    history.model_says(use("add", "t1"))
    history.tool_returns("s1/1/2")
    recording = recording_of(history)
    moment = last(recording, "s1/1/3")
    assert pending_prompt(recording.about, moment.after) == history.prompt()
    assert pending_prompt(recording.about, last(recording, "s1/1/2").after) is None
    shown = [line.first for line in state_lines(recording.about, moment.after)]
    assert shown[-1] == "prompt of the pending model call"


def test_a_tool_that_is_not_known_here_is_in_the_prompt_all_the_same() -> None:
    """Whoever looks has perhaps not the modules that the worker had."""
    history = History()
    history.say("m1")
    recording = recording_of(history)
    prompt = pending_prompt(replace(recording.about, tools={}), history.session)
    assert prompt is not None
    assert [tool["name"] for tool in prompt.tools] == ["add", "send"]
    assert "not among the tools" in prompt.tools[0]["description"]


# --diff


def test_what_was_emitted_is_what_the_fold_emits() -> None:
    """Also where a worker that died emitted some of it twice."""
    recording = recording_of(three_turns())
    twice = replace(recording, events=emitted([event.body for event in (*recording.events, *recording.events[2:4])]))
    assert difference(twice) == Comparison(same=8, repeated=2)


def test_a_missing_an_additional_and_a_different_event() -> None:
    """Each is found, with its place on both sides and the fields that differ."""
    recording = recording_of(three_turns())
    bodies = [event.body for event in recording.events]
    assert kinds(difference(replace(recording, events=emitted(bodies[:3] + bodies[4:])))) == [("missing", 4)]
    tampered = bodies[1].replace(b"answer 1", b"answer 7")
    (found,) = difference(replace(recording, events=emitted([bodies[0], tampered, *bodies[2:]]))).differences
    assert (found.kind, found.seq, found.fact, found.record, found.fields) == ("different", 2, 3, 1, ("text",))
    late = bodies[7].replace(b"answer 3", b"answer 9")
    assert kinds(difference(replace(recording, events=emitted([*bodies, late])))) == [("additional", 8)]
    assert kinds(difference(replace(recording, events=emitted([*bodies, b"\xff"])))) == [("additional", None)]
    spaced = replace(recording, events=emitted([bodies[0].replace(b'"type":', b'"type": '), *bodies[1:]]))
    assert difference(spaced).differences[0].fields == ("their order or spelling",)


def test_what_retention_removed_is_no_difference() -> None:
    """The topic's first records may be gone; a gap after one that is there is a difference."""
    recording = recording_of(three_turns())
    left = recording.events[3:]
    reached = reaching(replace(recording, events=left), events_begin=9, events_oldest_ms=ms(60))
    assert difference(reached) == Comparison(same=5, removed=3)
    assert kinds(difference(replace(reached, events=(left[0], *left[2:])))) == [("missing", 5)]
    whole = reaching(reached, events_begin=0)
    assert kinds(difference(whole)) == [("missing", 1), ("missing", 2), ("missing", 3)]
    empty = reaching(replace(recording, events=()), events_begin=20, events_oldest_ms=None)
    assert difference(empty) == Comparison(removed=8)


def test_what_no_worker_has_decided_yet_is_no_difference() -> None:
    """The facts after the committed offset may have no events; wrong ones are found there too."""
    recording = recording_of(three_turns())
    behind = reaching(replace(recording, events=recording.events[:6]), decided_before=18)
    assert difference(behind) == Comparison(same=6, undecided=2)
    assert kinds(difference(reaching(behind, decided_before=19))) == [("missing", 7)]
    assert difference(reaching(behind, decided_before=None)).undecided == 2
    wrong = recording.events[7].body.replace(b"answer 3", b"answer 9")
    shown = emitted([event.body for event in recording.events[:7]] + [wrong])
    assert kinds(difference(replace(behind, events=shown))) == [("different", 8)]


def test_the_lives_of_a_session_are_told_apart() -> None:
    """After its expiry a session begins again with seq 1: an event that is missing is missing in its own life."""
    history = History()
    for life in (1, 2):
        history.say(f"m{life}")
        history.model_says(f"answer {life}")
        history.clock.forward(60)
        history.expire()
    recording = recording_of(history)
    assert difference(recording) == Comparison(same=4)
    assert kinds(difference(replace(recording, events=recording.events[:3]))) == [("missing", 2)]
    assert kinds(difference(replace(recording, events=recording.events[1:]))) == [("missing", 1)]


def test_a_difference_says_which_cores_are_compared() -> None:
    """An older recording may differ for a reason that has a version."""
    about = recording_of(three_turns()).about
    assert f"version {CORE_VERSION} of the core" in about_versions(about)
    assert f"with version {CORE_VERSION - 1} of the core, this is" in about_versions(
        replace(about, made_with=CORE_VERSION - 1)
    )
    assert "later than this one" in about_versions(replace(about, made_with=CORE_VERSION + 1))


# A log that begins in the middle


def cut(recording: Recording, facts: int, events: int) -> Recording:
    """Retention has removed so many."""
    first = recording.facts[facts].offset
    recording = replace(recording, facts=recording.facts[facts:], events=recording.events[events:])
    return reaching(recording, log_begin=first, events_begin=events, events_oldest_ms=ms(60) if events else None)


def test_a_log_whose_partition_lost_others_facts_is_whole() -> None:
    """Retention took records, but none of this session."""
    recording = reaching(recording_of(three_turns()), log_begin=0)
    assert find_beginning(reaching(recording, log_begin=1)) == find_beginning(recording) == Beginning()
    bare = reaching(replace(recording, events=()), log_begin=1)
    assert find_beginning(bare) == Beginning()


def test_a_log_that_begins_in_the_middle_is_folded_from_its_first_whole_turn() -> None:
    """With the numbers that the session had, as its events tell: they are the same from there on."""
    recording = cut(recording_of(three_turns()), facts=3, events=0)
    beginning = find_beginning(recording)
    assert (beginning.offset, beginning.missing is not None) == (18, True)
    assert "begins with offset 9" in str(beginning.missing)
    assert "begins with turn 3 at offset 18" in str(beginning.missing)
    assert difference(recording, beginning) == Comparison(same=2, before=6)
    skipped = next(fold(recording, seed=beginning.seed, begin=beginning.offset))
    assert as_object(skipped)["folded"] is False
    assert [line.first.strip() for line in as_lines(skipped)][1:] == ["not folded"]


def test_without_events_the_calls_tell_the_turn() -> None:
    """Agent events are kept for a shorter time than facts, so that all of them may be gone: `seq` is not known then."""
    whole = recording_of(three_turns())
    recording = cut(whole, facts=2, events=len(whole.events))
    beginning = find_beginning(recording)
    assert beginning.seed is not None
    assert (beginning.offset, beginning.seed.head.turns, beginning.seed.head.seq) == (6, 1, 0)
    events = [event for moment in fold(recording, seed=beginning.seed, begin=6) for event in moment.step.events]
    assert [(type(event), event.turn_id) for event in events[-2:]] == [(TurnStarted, "s1/3"), (TurnCompleted, "s1/3")]


def test_seq_is_found_by_a_later_event() -> None:
    """The event of the turn's start is gone, its end is there."""
    whole = recording_of(three_turns())
    recording = cut(whole, facts=6, events=7)
    beginning = find_beginning(recording)
    assert beginning.seed is not None
    assert (beginning.offset, beginning.seed.head.turns, beginning.seed.head.seq) == (18, 2, 6)
    compared = difference(reaching(recording, events_oldest_ms=ms(121)), beginning)
    assert (compared.same, compared.differences) == (1, ())


def test_a_log_from_which_nothing_can_be_folded() -> None:
    """No turn begins in what is left: it says so, and shows the facts."""
    whole = recording_of(three_turns())
    recording = cut(replace(whole, facts=whole.facts[:5]), facts=3, events=0)
    beginning = find_beginning(recording)
    assert "no fact of the session can be folded" in str(beginning.missing)
    moments = list(fold(recording, seed=beginning.seed, begin=beginning.offset))
    assert [moment.is_folded for moment in moments] == [False, False]


# Recordings


def test_a_recording_is_read_as_it_was_written() -> None:
    """Byte for byte, whatever the records hold; written again it is the same file."""
    recording = recording_of(three_turns())
    bodies = [b"", b"{}", b'{ "a" :1.0}', b'{"a":\n1}', b'"\xff"', b"\xff\xfe", b"[" * 2000, '"ü\u2028"'.encode()]
    facts = tuple(Fact(offset=n, timestamp_ms=n, **value_fields(body)) for n, body in enumerate(bodies))
    recording = recorded(replace(recording, facts=(*facts, *recording.facts[3:])), Beginning())
    written = list(lines(recording))
    assert all(b"\n" not in line for line in written)
    again = parse_recording(written, "file")
    assert [fact.body for fact in again.facts[: len(bodies)]] == bodies
    assert list(lines(again)) == written


def test_a_recording_has_no_more_agents_than_it_takes() -> None:
    """What others are told is not handed on; their names are part of an error that lists them."""
    history = History(catalog(agent(), agent("writer"), agent("secret")))
    history.say("m1", agent="writer")
    history.model_says("answer")
    history.say("m2", agent="nobody")
    kept = recorded(recording_of(history), Beginning())
    assert (sorted(kept.about.agents), kept.about.others) == (["assistant", "writer"], ("secret",))
    assert recorded(kept, Beginning()) == kept
    assert difference(kept) == Comparison(same=3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda written: [written[0].replace(b'"applied":[]', APPLIED_TWICE)], "in the order of its offsets"),
        (lambda written: written[1:], "one line of the type `recording`, got 0"),
        (lambda written: [*written, written[0]], "got 2"),
        (lambda written: [*written, b"no JSON"], "line 18: expected a line of a recording"),
        (lambda written: [written[0].replace(b'"format":1', b'"format":2')], "expected format 1, got 2"),
        (lambda written: [written[0].replace(b'"default_agent":"a', b'"default_agent":"b')], "default agent"),
    ],
)
def test_what_is_no_recording_is_refused(change: object, says: str) -> None:
    """With the line, and what was expected."""
    written = list(lines(recording_of(three_turns())))
    assert callable(change)
    with pytest.raises(RecordingError, match=says):
        parse_recording(change(written), "file")


def test_nothing_of_a_log_reaches_the_terminal() -> None:
    """Escape sequences are shown, not obeyed, and long text is cut."""
    assert printable("a\x1b[31m\n\u202eb") == "a\\x1b[31m\\n\\u202eb"
    assert printable("x" * 500).endswith("x…")
    assert printable("a\n\x1b", limit=None) == "a\n\\x1b"


def test_digests_are_the_same_one_by_one_and_in_a_row() -> None:
    """Also after a transcript was replaced, because the session ended or began again."""
    history = three_turns()
    history.end()
    history.say("m9")
    history.expire(history.clock.at)
    history.say("m1")
    moments = list(fold(recording_of(history)))
    in_a_row = [moment.digest for moment in moments]
    assert in_a_row == [digest(moment.after) for moment in moments]
    assert in_a_row[::-1] == [moment.digest for moment in moments[::-1]]
    assert len(set(in_a_row)) == len(in_a_row)
