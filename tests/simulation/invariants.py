"""What must hold of the topics of a pipeline that has come to rest, whatever happened to its workers.

Pure over what was recorded, so that the simulation and runs against a real broker are held to the same.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from agents.catalog import Catalog
from agents.draft import Step, timers
from agents.handle import handle
from agents.session import AssistantEntry, Session, ToolResultEntry
from schemas.codec import (
    decode_agent_event,
    decode_broadcast,
    decode_call_model,
    decode_call_tool,
    decode_command,
    decode_dead_letter,
    decode_session_event,
    decode_tool_result,
    encode,
)
from schemas.dead_letter import DeadLetter
from schemas.effects import CallModel
from schemas.events import AgentEvent, TurnCancelled, TurnCompleted, TurnFailed
from schemas.gather import gathering_session_id, own_broadcast_id
from schemas.log import BroadcastAccepted, MessageAccepted, ModelCompleted, SessionEvent, SessionExpired
from schemas.refusal import UNREADABLE, RefusedError, check_broadcast
from schemas.topics import (
    AGENT_EVENTS,
    BROADCASTS,
    DEAD_LETTERS,
    LLM_REQUESTS,
    SESSION_LOG,
    TOOL_CALLS,
    TOOL_RESULTS,
    USER_MESSAGES,
)
from streams.store import HEAD_PREFIX, entry_key, head_key, load, wait_key

Folded = tuple[dict[str, Session | None], dict[str, Step]]
DECODERS: Mapping[str, Callable[[bytes], object]] = {
    USER_MESSAGES.name: decode_command,
    BROADCASTS.name: decode_broadcast,
    SESSION_LOG.name: decode_session_event,
    LLM_REQUESTS.name: decode_call_model,
    TOOL_CALLS.name: decode_call_tool,
    TOOL_RESULTS.name: decode_tool_result,
}


@dataclass(slots=True, frozen=True, kw_only=True)
class Record:
    """A record of a topic, as a consumer reads it; the topic without its prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    at: datetime


@dataclass(slots=True, frozen=True, kw_only=True)
class Started:
    """A call that a worker began; `log_end`: how many records its partition of the session log had then."""

    call_id: str
    log_end: int
    tool: str | None = None

    @property
    def session_id(self) -> str:
        return self.call_id.rsplit("/", 2)[0]


class Topics:
    """The records of a run, by topic, each in the order of its partition."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.folded: Folded | None = None
        self.size = 0
        self._facts: list[tuple[Record, SessionEvent]] | None = None
        self._by_topic: defaultdict[str, list[Record]] = defaultdict(list)
        for record in sorted(records, key=lambda record: (record.partition, record.offset)):
            self._by_topic[record.topic].append(record)
            self.size += 1

    def __getitem__(self, name: str) -> list[Record]:
        return self._by_topic[name]

    @property
    def facts(self) -> list[tuple[Record, SessionEvent]]:
        """The records of the session log that are events."""
        if self._facts is None:
            self._facts = list(_facts(self))
        return self._facts


def check_answers(topics: Topics) -> None:
    """Every accepted message has exactly one end, after repeated events are dropped."""
    events = distinct_events(topics)
    begins = {(name, life): event.at for (name, life, seq), event in events.items() if seq == 1}
    lived: Counter[str] = Counter()
    accepted: set[tuple[str, str, int]] = set()
    for _, fact in facts(topics):
        name = fact.session_id
        if isinstance(fact, MessageAccepted | BroadcastAccepted):
            # A session begins with one of these, and its first event has that one's time.
            lived[name] += begins.get((name, lived[name] + 1)) == fact.at
        if isinstance(fact, MessageAccepted):
            accepted.add((name, fact.message_id, lived[name]))
    ends: Counter[tuple[str, str, int]] = Counter(
        (event.session_id, event.message_id, life)
        for (_, life, _), event in events.items()
        if isinstance(event, TurnCompleted | TurnFailed | TurnCancelled)
    )
    assert not accepted - ends.keys(), f"messages without an end: {accepted - ends.keys()}"
    assert not ends.keys() - accepted, f"ends of messages that were not accepted: {ends.keys() - accepted}"
    repeated = {key: count for key, count in ends.items() if count > 1}
    assert not repeated, f"messages with several ends: {repeated}"


def distinct_events(topics: Topics) -> dict[tuple[str, int, int], AgentEvent]:
    """The agent events by session, life and `seq`; one that was published again has the same content.

    A session that expired, and is spoken to again, begins anew: readers know it by a `seq` of 1 at a later time than
    all that they have seen.
    """
    events: dict[tuple[str, int, int], AgentEvent] = {}
    values: defaultdict[str, set[bytes]] = defaultdict(set)
    last: dict[str, tuple[int, AgentEvent]] = {}
    for record in topics[AGENT_EVENTS.name]:
        assert record.value is not None
        event = decode_agent_event(record.value)
        name = event.session_id
        if record.value in values[name]:
            continue
        values[name].add(record.value)
        life, newest = last.get(name, (1, None))
        if newest is not None and event.seq == 1 and event.at > newest.at:
            life += 1
        else:
            seq = newest.seq if newest else 0
            said = "was published again with another content" if event.seq <= seq else "comes after a gap"
            assert event.seq == seq + 1, f"{name} {event.seq} {said}: {record.value!r}"
        last[name] = life, event
        events[name, life, event.seq] = event
    return events


def check_events(topics: Topics, catalog: Catalog) -> None:
    """What was published is what the log makes, no more and no less."""
    published = {record.value for record in topics[AGENT_EVENTS.name]}
    made = {encode(event) for step in fold(topics, catalog)[1].values() for event in step.events}
    assert published == made, f"published, and not so: {published - made}; made, and not published: {made - published}"


def check_ordered(topics: Topics, catalog: Catalog) -> None:
    """Every call that the log orders is on its topic, where whoever performs it reads it."""
    ordered = {encode(order) for step in fold(topics, catalog)[1].values() for order in step.effects}
    there = {record.value for name in (LLM_REQUESTS.name, TOOL_CALLS.name) for record in topics[name]}
    assert ordered <= there, f"calls that nobody was told to make: {ordered - there}"


def facts(topics: Topics) -> list[tuple[Record, SessionEvent]]:
    """The records of the session log that are events."""
    return topics.facts


def _facts(topics: Topics) -> Iterator[tuple[Record, SessionEvent]]:
    for record in topics[SESSION_LOG.name]:
        try:
            event = decode_session_event(record.value or b"")
        except UNREADABLE:
            continue
        yield record, event


def fold(topics: Topics, catalog: Catalog) -> Folded:
    """The sessions that the log makes, and what each record of the log led to, by `topic/partition/offset`."""
    if topics.folded is None:
        topics.folded = _fold(topics, catalog)
    return topics.folded


def _fold(topics: Topics, catalog: Catalog) -> Folded:
    sessions: dict[str, Session | None] = {}
    steps: dict[str, Step] = {}
    for record, event in facts(topics):
        step = handle(catalog, sessions.get(event.session_id), event, record.offset, place_of(record)).step
        sessions[event.session_id] = step.session
        steps[place_of(record)] = step
    return sessions, steps


def check_state(topics: Topics, catalog: Catalog, changelog: str) -> None:
    """What is stored is what the log makes."""
    sessions, _ = fold(topics, catalog)
    stored: dict[bytes, bytes] = {}
    for record in topics[changelog]:
        assert record.key is not None
        if record.value is None:
            stored.pop(record.key, None)
        else:
            stored[record.key] = record.value
    kept = {key[len(HEAD_PREFIX) :].decode() for key in stored if key.startswith(HEAD_PREFIX)}
    expected = {name: session for name, session in sessions.items() if session is not None}
    assert kept == expected.keys()
    entries = {entry_key(name, n) for name, session in expected.items() for n in range(session.head.entries)}
    waits = {wait_key(call_id) for session in expected.values() for call_id in timers(session.head)}
    keys = entries | waits | {head_key(name) for name in expected}
    assert {key for key in stored if key[1:2] == b"\x00"} == keys, "the table has other entries than its sessions"
    for name, session in expected.items():
        assert load(stored.get, name) == session, f"session {name} is not stored as its log makes it"


def check_agents(topics: Topics, catalog: Catalog, told: Iterable[tuple[Started, str]]) -> None:
    """Each call of the model was made for the agent that its turn began with, whatever was applied since."""
    expected: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    steps = fold(topics, catalog)[1]
    for record, _ in facts(topics):
        step = steps[place_of(record)]
        for order in step.effects:
            if isinstance(order, CallModel) and step.session is not None and step.session.head.turn is not None:
                spec = catalog.get(order.agent, step.session.head.turn.specs_offset)
                assert spec is not None, f"call {order.call_id}: its agent is not there"
                expected[order.call_id].append((record.offset, spec.instructions))
    for call, instructions in told:
        # Where the name of a session was used again, so was the id of the call: the last order before it counts.
        ordered = [said for offset, said in expected[call.call_id] if offset < call.log_end]
        assert ordered[-1:] == [instructions], f"{call} was told `{instructions}`: {ordered}"


def check_transcripts(topics: Topics, catalog: Catalog) -> None:
    """Every tool call of every transcript has exactly one result. Of one that gathers, no agent has two."""
    for name, session in fold(topics, catalog)[0].items():
        gathering = session.head.gathering if session else None
        entries = session.transcript if session else ()
        uses = [use.id for entry in entries if isinstance(entry, AssistantEntry) for use in entry.tool_uses()]
        results = [entry.tool_use_id for entry in entries if isinstance(entry, ToolResultEntry)]
        is_so = Counter(uses) == Counter(results) if gathering is None else len(set(results)) == len(results)
        assert is_so, f"session {name}: calls {uses}, results {results}"


def lives(topics: Topics, catalog: Catalog) -> dict[str, list[int]]:
    """Where each session expired, by its name; what comes after that in the log is another session."""
    ends: defaultdict[str, list[int]] = defaultdict(list)
    steps = fold(topics, catalog)[1]
    for record, event in facts(topics):
        if isinstance(event, SessionExpired) and steps[place_of(record)].rewritten:
            ends[event.session_id].append(record.offset)
    return ends


def check_calls(
    topics: Topics,
    catalog: Catalog,
    started: Iterable[Started],
    idempotent: Mapping[str, bool],
    late: Container[tuple[str, int, int]] = frozenset(),
) -> None:
    """No model call begins after its completion is in the log; a tool that is not idempotent runs once.

    `late`: topic, partition and offset of records that were on their way from a worker that was taken for dead: its
    calls were made again before anybody could know.
    """
    ends = lives(topics, catalog)
    completed: dict[tuple[str, int], int] = {}
    for record, event in facts(topics):
        is_late = (record.topic, record.partition, record.offset) in late
        # A forged one may name the call of another session, in whose log it is not.
        if isinstance(event, ModelCompleted) and event.call_id.startswith(f"{event.session_id}/") and not is_late:
            key = (event.call_id, bisect_right(ends.get(event.session_id, []), record.offset))
            completed.setdefault(key, record.offset)
    runs: Counter[tuple[str, int]] = Counter()
    for call in started:
        key = (call.call_id, bisect_right(ends.get(call.session_id, []), call.log_end - 1))
        if call.tool is not None:
            runs[key] += not idempotent[call.tool]
        elif key in completed:
            offset = completed[key]
            assert call.log_end <= offset, f"call {call.call_id} was repeated: its completion is at {offset}"
    repeated = [call_id for (call_id, _), count in runs.items() if count > 1]
    assert not repeated, f"tools that are not idempotent ran twice: {repeated}"


def check_refusals(topics: Topics, catalog: Catalog) -> None:
    """Every command is in the session log or in the dead letters, not in both; what the core refuses is there too."""
    letters = {decode_dead_letter(record.value or b"").id for record in topics[DEAD_LETTERS.name]}
    kept = {dict(record.headers)["ce_id"].decode() for record, _ in facts(topics)}
    for record in topics[USER_MESSAGES.name]:
        place = place_of(record)
        assert (place in kept) != (place in letters), f"{place}: expected in the log or in the dead letters"
    for place, step in fold(topics, catalog)[1].items():
        assert (step.refusal is None) or place in letters, f"{place} was refused, and nobody was told"


def check_garbage(topics: Topics) -> None:
    """What no processor can read is in the dead letters, byte for byte."""
    letters = {letter.id: letter for letter in map(_letter, topics[DEAD_LETTERS.name])}
    for topic, decode in DECODERS.items():
        for record in topics[topic]:
            try:
                decode(record.value or b"")
            except UNREADABLE:
                letter = letters.get(place_of(record))
                assert letter is not None, f"{place_of(record)} cannot be read, and nobody was told"
                same = (letter.key, letter.value) == (record.key, record.value)
                assert same, f"the dead letter of {place_of(record)} is not what was there"


def check_broadcasts(topics: Topics, catalog: Catalog) -> None:
    """Every broadcast was accepted as a message of each agent that it is for, or gathers, or is in the dead letters."""
    letters = {_letter(record).id for record in topics[DEAD_LETTERS.name]}
    accepted = {event.session_id for _, event in facts(topics) if isinstance(event, MessageAccepted)}
    gathered = {event.session_id for _, event in facts(topics) if isinstance(event, BroadcastAccepted)}
    for record in topics[BROADCASTS.name]:
        place = place_of(record)
        try:
            broadcast = check_broadcast(record.value, record.at)
        except RefusedError:
            assert place in letters, f"the broadcast {place} was refused, and nobody was told"
            continue
        if broadcast.gather != "none":
            given = own_broadcast_id(broadcast.id or place, broadcast.tenant)
            assert gathering_session_id(given) in gathered, f"nobody gathers the replies to the broadcast {place}"
            continue
        everybody = set(catalog.agents)
        wanted = set(broadcast.audience) if isinstance(broadcast.audience, tuple) else everybody
        for agent in wanted & catalog.agents.keys():
            assert f"{broadcast.id or place}:{agent}" in accepted, f"the broadcast {place} did not come to {agent}"
        assert wanted <= catalog.agents.keys() or place in letters, f"{place}: agents are unknown, and nobody was told"


def check_acknowledgements(acknowledged: Iterable[tuple[str, str, int, int]]) -> None:
    """Nothing is acknowledged out of order.

    Args:
        acknowledged: who (a worker, in one assignment), topic, partition and offset, in the order in which it happened.
    """
    last: dict[tuple[str, str, int], int] = {}
    for who, topic, partition, offset in acknowledged:
        previous = last.get((who, topic, partition))
        assert previous is None or offset == previous + 1, f"{topic}/{partition}: {offset} after {previous} by {who}"
        last[who, topic, partition] = offset


def _letter(record: Record) -> DeadLetter:
    return decode_dead_letter(record.value or b"")


def place_of(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
