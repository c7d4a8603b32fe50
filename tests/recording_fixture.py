"""Recordings of histories, as the brokers would have them."""

from collections.abc import Iterable
from datetime import timedelta

from histories import NOW, TOOLS, History

from agents.version import CORE_VERSION
from headrace.replay.begin import Beginning
from headrace.replay.compare import Comparison, compare
from headrace.replay.fold import fold
from headrace.replay.recording import About, AppliedAgent, Emitted, Fact, Reach, Recording, value_fields
from schemas.codec import encode


def recording_of(history: History) -> Recording:
    """The history as the brokers have it: one second between two facts, every event decided and on the topic."""
    facts = tuple(
        Fact(offset=offset, timestamp_ms=ms(n), **value_fields(encode(event)))
        for n, (offset, event, _) in enumerate(history.log)
    )
    about = About(
        made_with=CORE_VERSION,
        outcomes_of=CORE_VERSION,
        headrace="0",
        session_id=history.session_id,
        reach=Reach(topic="session-log", partition=0, decided_before=history.offset),
        default_agent=history.catalog.default,
        agents=dict(history.catalog.files),
        applied=tuple(
            AppliedAgent(offset=one.offset, agent=name, spec=one.spec)
            for name in history.catalog.applied()
            for one in history.catalog.history(name)
        ),
        tools={str(tool["name"]): tool for tool in TOOLS},
    )
    return Recording(about=about, facts=facts, events=emitted(encode(event) for event in history.seen))


def emitted(bodies: Iterable[bytes]) -> tuple[Emitted, ...]:
    """Records of `agent-events`."""
    return tuple(Emitted(offset=n, timestamp_ms=ms(n), **value_fields(body)) for n, body in enumerate(bodies))


def ms(seconds: int) -> int:
    """Unix time so many seconds after the beginning."""
    return int((NOW + timedelta(seconds=seconds)).timestamp() * 1000)


def difference(recording: Recording, beginning: Beginning | None = None) -> Comparison:
    """The fold of a recording beside its events."""
    beginning = beginning or Beginning()
    moments = fold(recording, seed=beginning.seed, begin=beginning.offset)
    return compare(recording, moments, is_whole=beginning.missing is None)
