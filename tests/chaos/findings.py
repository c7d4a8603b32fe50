"""What a run has shown, judged by what its topics, the model's ledger and the tools' file hold afterwards."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import ConsumerRecord
from msgspec import json
from simulation import asks, gatherings, patterns, results, spending
from simulation.invariants import (
    Record,
    Topics,
    check_answers,
    check_broadcasts,
    check_events,
    check_ordered,
    check_refusals,
    check_state,
    check_transcripts,
)

from agents.catalog import Catalog
from agents.version import CORE_VERSION
from headrace.replay.compare import compare
from headrace.replay.fold import fold
from headrace.replay.recording import About, Emitted, Fact, Reach, Recording, value_fields
from schemas.codec import decode_agent_event, decode_dead_letter, decode_session_event
from schemas.events import ToolReturned, TurnCancelled, TurnCompleted, TurnFailed
from schemas.log import MessageAccepted, ModelCompleted
from schemas.topics import AGENT_EVENTS, DEAD_LETTERS, SESSION_LOG

Key = tuple[str, str]
Ledger = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Outage:
    """Something was away: calls that had begun by its end, and had no outcome in the log at its begin, may be repeated.

    `log_ends`: where each partition of the session log ended when it began. `deaths`: how many workers died meanwhile,
    each of which may have made the same call; or 1.
    """

    log_ends: Mapping[int, int]
    begun: frozenset[str]
    deaths: int = 1

    def excuses(self, call_id: str, completed_at: tuple[int, int] | None) -> int:
        """How often the call may have been made again."""
        if call_id not in self.begun:
            return 0
        is_open = completed_at is None or completed_at[1] >= self.log_ends.get(completed_at[0], 0)
        return self.deaths if is_open else 0


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What was sent and acknowledged, and what is left of the run."""

    sent: Sequence[Key]
    malformed: int
    records: Mapping[str, Sequence[ConsumerRecord]]
    changelog: str
    calls: Ledger
    outages: Sequence[Outage]
    model_fails: bool
    notes: Sequence[str]
    catalog: Catalog

    def excused(self, call_id: str, completed_at: tuple[int, int] | None) -> int:
        return sum(outage.excuses(call_id, completed_at) for outage in self.outages)

    @property
    def topics(self) -> Topics:
        return Topics(_record(name, record) for name, records in self.records.items() for record in records)


@dataclass(slots=True, kw_only=True)
class Findings:
    """One row of the table; `problems` are broken promises."""

    turns: int
    lost: int
    repeated_events: int
    calls_begun_twice: int
    problems: list[str] = field(default_factory=list)


def judge(evidence: Evidence) -> Findings:
    """Hold the evidence against every promise."""
    topics, catalog = evidence.topics, evidence.catalog
    problems: list[str] = []
    checks: tuple[Callable[[], object], ...] = (
        lambda: check_answers(topics),
        lambda: check_transcripts(topics, catalog),
        lambda: check_refusals(topics, catalog),
        lambda: check_state(topics, catalog, evidence.changelog),
        lambda: check_events(topics, catalog),
        lambda: check_ordered(topics, catalog),
        lambda: check_broadcasts(topics, catalog),
        lambda: asks.check_told(topics, catalog),
        lambda: asks.check_asks(topics),
        lambda: asks.check_cancelled(topics, catalog),
        lambda: asks.check_timers(topics, catalog),
        lambda: gatherings.check_gatherings(topics, catalog),
        lambda: patterns.check_patterns(topics, catalog),
        lambda: results.check_first_counts(topics, catalog),
        lambda: results.check_heard(topics, catalog),
        lambda: spending.check_spending(topics, catalog),
        lambda: check_arrived(evidence),
        lambda: check_malformed(evidence),
        lambda: check_paid_once(evidence),
        lambda: check_notes(evidence),
        lambda: check_replay(evidence),
    )
    for check in checks:
        try:
            check()
        except AssertionError as error:
            problems.append(str(error).partition("\n")[0])
    ended = ends(evidence)
    return Findings(
        turns=len(ended),
        lost=len(set(evidence.sent) - ended),
        repeated_events=len(evidence.records[AGENT_EVENTS.name]) - len(_events(evidence)),
        calls_begun_twice=sum(counts["started"] > 1 for counts in evidence.calls.values()),
        problems=problems,
    )


def ends(evidence: Evidence) -> set[Key]:
    """The messages that have their end."""
    events = (decode_agent_event(record.value) for record in evidence.records[AGENT_EVENTS.name])
    kinds = TurnCompleted | TurnFailed | TurnCancelled
    return {(event.session_id, event.message_id) for event in events if isinstance(event, kinds)}


def check_arrived(evidence: Evidence) -> None:
    """What the brokers acknowledged is in the log, and none of its turns failed."""
    accepted = {
        (fact.session_id, fact.message_id)
        for record in evidence.records[SESSION_LOG.name]
        if isinstance(fact := decode_session_event(record.value), MessageAccepted)
    }
    missing = set(evidence.sent) - accepted
    assert not missing, f"{len(missing)} messages were acknowledged and are not in the log: {sorted(missing)[:3]}"
    failed = [event for event in _events(evidence).values() if isinstance(event, TurnFailed)]
    assert not failed, f"{len(failed)} turns failed, such as {failed[0]}"


def check_malformed(evidence: Evidence) -> None:
    places = {decode_dead_letter(record.value).id for record in evidence.records[DEAD_LETTERS.name]}
    assert len(places) == evidence.malformed, f"{evidence.malformed} were malformed, {len(places)} dead letters"


def check_paid_once(evidence: Evidence) -> None:
    """A call is made again only where its outcome was not in the log when its worker went away, or where it failed."""
    completed: dict[str, tuple[int, int]] = {}
    for record in evidence.records[SESSION_LOG.name]:
        fact = decode_session_event(record.value)
        if isinstance(fact, ModelCompleted):
            completed.setdefault(fact.call_id, (record.partition, record.offset))
    what = "completed" if evidence.model_fails else "started"
    again = {
        call_id: counts[what] - 1 - excused
        for call_id, counts in evidence.calls.items()
        if counts[what] > 1 + (excused := evidence.excused(call_id, completed.get(call_id)))
    }
    assert not again, f"{len(again)} calls were {what} again without an excuse: {sorted(again)[:5]}"


def check_notes(evidence: Evidence) -> None:
    """A tool that must not run twice did not; what the agent was told came from a run."""
    runs = Counter(evidence.notes)
    twice = {note: count for note, count in runs.items() if count > 1}
    assert not twice, f"tools that must not run twice did: {twice}"
    told = sum(
        isinstance(event, ToolReturned) and not event.is_error and event.tool == "post_note"
        for event in _events(evidence).values()
    )
    assert told <= len(runs), f"{told} notes are said to be posted, {len(runs)} are"


def check_replay(evidence: Evidence) -> None:
    """Every session folds to the very bytes that were emitted, as `headrace replay SESSION --diff` would say."""
    facts: defaultdict[tuple[str, int], list[Fact]] = defaultdict(list)
    emitted: defaultdict[str, list[Emitted]] = defaultdict(list)
    for record in evidence.records[SESSION_LOG.name]:
        fact = Fact(offset=record.offset, timestamp_ms=record.timestamp, **value_fields(record.value))
        facts[_session_of(record), record.partition].append(fact)
    for record in evidence.records[AGENT_EVENTS.name]:
        event = Emitted(offset=record.offset, timestamp_ms=record.timestamp, **value_fields(record.value))
        emitted[_session_of(record)].append(event)
    for (session_id, partition), log in facts.items():
        reach = Reach(topic=SESSION_LOG.name, partition=partition, decided_before=log[-1].offset + 1)
        about = About(
            made_with=CORE_VERSION,
            outcomes_of=CORE_VERSION,
            headrace="0",
            session_id=session_id,
            reach=reach,
            default_agent=evidence.catalog.default,
            agents=dict(evidence.catalog.agents),
        )
        recording = Recording(about=about, facts=tuple(log), events=tuple(emitted[session_id]))
        found = compare(recording, fold(recording))
        assert not found.differences, f"session {session_id} folds to something else: {found.differences[0]}"


def _events(evidence: Evidence) -> Mapping[Key | tuple[str, int], object]:
    return {
        (event.session_id, event.seq): event
        for event in (decode_agent_event(record.value) for record in evidence.records[AGENT_EVENTS.name])
    }


def _session_of(record: ConsumerRecord) -> str:
    session_id: str = json.decode(record.value)["session_id"]
    return session_id


def _record(topic: str, record: ConsumerRecord) -> Record:
    return Record(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
    )
