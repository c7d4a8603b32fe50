"""What people and the world do to the workers while the simulation is not at rest. Each may happen at any time."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from random import Random
from typing import NamedTuple, Protocol

from simulation.broker import Broker, Place
from simulation.bugs import BUG
from simulation.cast import Applied, draw_applied, draw_team
from simulation.casts import broadcast, gather
from simulation.forgery import forge_order, forge_outcome
from simulation.points import points_of
from simulation.script import GARBAGE, Command, Heard, draw_command, encoded
from simulation.service import Service, disturb
from simulation.worker import Worker, spawn, stop

from schemas.codec import decode_agent_event, decode_dead_letter
from schemas.events import ApprovalRequested
from schemas.topics import (
    AGENT_EVENTS,
    BROADCASTS,
    DEAD_LETTERS,
    LLM_REQUESTS,
    SESSION_LOG,
    TOOL_CALLS,
    TOOL_RESULTS,
    USER_MESSAGES,
    Topic,
)
from streams.expire import expire_idle
from streams.ports import Table

PROCESSED = (USER_MESSAGES, BROADCASTS, SESSION_LOG, LLM_REQUESTS, TOOL_CALLS, TOOL_RESULTS)
REPEATED = (SESSION_LOG, LLM_REQUESTS, TOOL_CALLS)
"""What workers write: one that dies may write it again."""
APPROVAL_TAG = b'"type":"approval_requested"'
QUARANTINE_TAG = b'"cause":"core_error"'
TEAM_SHARE = 0.3
"""Of the agents that are applied."""
LIMITED = 0.7
"""Of them, where agents have budgets."""
MAX_WAIT_S = 4.0
"""More than a rebalance waits for outcomes; less than it waits for what is being recorded, which several exceed."""
MAX_STALL_S = 8.0
MAX_DOWN_S = 20.0
"""Longer than workers wait for anything in a rebalance, and than most calls may take."""
FAULTS = (
    "crash",
    "all killed",
    "stop",
    "pause",
    "rebalance",
    "produce failed",
    "produce retried",
    "back-pressure",
    "record repeated",
    "garbage",
    "forged order",
    "forged outcome",
    "bug",
    "silence",
    "no result",
    "broker down",
    "disk full",
    "expiry",
    "return",
    "broadcast",
    "gathering",
    "team",
    "budget",
    "remote result",
    "agent applied",
    "time passes",
)
"""Those that can be left out of a run, to see which of them it takes."""


OFTEN = 1.0
RATES = (0.0, 0.3, 0.3, OFTEN)
"""How often a kind of fault comes in a run. Where all come often, nothing is ever under way when the next one comes."""


class Thing(NamedTuple):
    """Something that can happen now, and to whom; what `do` returns is shown."""

    kind: str
    to: str | tuple[object, ...]
    do: Callable[[], object]


class Stage(Protocol):
    """What of the world faults need."""

    rng: Random
    broker: Broker
    workers: list[Worker]
    sessions: list[str]
    retired: set[str]
    service: Service
    has_team: bool
    has_budgets: bool
    sent: list[Command]
    applied: list[Applied]
    rates: dict[str, float]
    act: dict[Place, int]
    """Where each partition was when what happens now began: what lies before is of sessions that are forgotten."""

    @property
    def is_rebalancing(self) -> bool: ...

    def crash(self, worker: Worker) -> object: ...

    def pause(self, worker: Worker) -> object: ...

    def rebalance(self) -> object: ...


def possible_faults(stage: Stage) -> Iterator[Thing]:
    """All that may happen now; the rare ones seldom."""
    rng, rates = stage.rng, stage.rates
    if stage.broker.is_down:
        yield Thing("time passes", "", lambda: _wait(stage))
        for worker in stage.workers:
            if rng.random() < 0.1 * rates["crash"]:
                yield Thing("crash", worker.name, lambda w=worker: stage.crash(w))  # type: ignore[misc]
        return
    yield Thing("command", "", lambda: send(stage))
    for worker in stage.workers:
        if not worker.is_paused:
            yield from _to_worker(stage, worker)
    if not stage.is_rebalancing and rng.random() < 0.15 * rates["rebalance"]:
        yield Thing("rebalance", "", stage.rebalance)
    for kind, chance, do in RARE:
        if rng.random() < chance * rates[kind]:
            yield Thing(kind, "", partial(do, stage))


def _to_worker(stage: Stage, worker: Worker) -> Iterator[Thing]:
    rng, rates = stage.rng, stage.rates
    if not stage.is_rebalancing and worker.is_member and rng.random() < 0.2 * rates["pause"]:
        yield Thing("pause", worker.name, lambda: stage.pause(worker))
    is_busy = any(True for task in worker.tasks for _ in points_of(task))
    for _ in range(2):
        yield Thing("commit", worker.name, worker.commit)
    if worker.outbox.gate is None and worker.outbox.room is None and rng.random() < 0.2 * rates["back-pressure"]:
        yield Thing("back-pressure", worker.name, lambda: _fill(stage, worker))
    if rng.random() < (0.4 if is_busy else 0.05) * rates["crash"]:
        yield Thing("crash", worker.name, lambda: stage.crash(worker))
    if worker.positions and not worker.is_stopping and rng.random() < 0.05 * rates["stop"]:
        yield Thing("stop", worker.name, lambda: spawn(worker, stop(worker)) and None)
    if rng.random() < 0.05 * rates["disk full"]:
        yield Thing("disk full", worker.name, worker.tables.fill)
    places = worker.outbox.places()
    if places:
        place = rng.choice(places)
        yield Thing("arrive", (worker.name, *place), lambda: worker.outbox.arrive(place, rng.randint(1, 4)))
        if rng.random() < 0.3 * rates["produce failed"]:
            yield Thing("produce failed", (worker.name, *place), lambda: _break(stage, worker, place))
        if rng.random() < 0.3 * rates["produce retried"]:
            yield Thing("produce retried", (worker.name, *place), lambda: _stall(stage, worker, place))


def _fill(stage: Stage, worker: Worker) -> str:
    worker.outbox.room = stage.rng.randrange(6)
    return f"after {worker.outbox.room} records"


def _break(stage: Stage, worker: Worker, place: Place) -> None:
    worker.outbox.arrive(place, stage.rng.randint(0, 3))
    worker.outbox.break_off(place, OSError("the broker is gone"))


def _stall(stage: Stage, worker: Worker, place: Place) -> str:
    """The answer is lost, or the request: the producer sends again, and nobody hears of it for a while."""
    worker.outbox.arrive(place, stage.rng.randint(0, 2))
    seconds = stage.rng.uniform(0, MAX_STALL_S)
    worker.outbox.stalled[place] = stage.broker.now + timedelta(seconds=seconds)
    return f"for {seconds:.1f} s"


def _wait(stage: Stage) -> str:
    seconds = stage.rng.uniform(0, MAX_WAIT_S)
    stage.broker.now += timedelta(seconds=seconds)
    return f"{seconds:.1f} s"


def send(stage: Stage) -> str:
    broker = stage.broker
    heard = Heard(
        sent=stage.sent,
        approvals=lambda: [event.call_id for event in asked(broker)],
        quarantined=lambda: _quarantined(broker),
        has_team=stage.has_team,
        has_budgets=stage.has_budgets,
    )
    key, value = draw_command(stage.rng, stage.sessions, heard)
    if any(b'"%b"' % name.encode() in value for name in stage.retired):
        return "nothing: its session has expired"
    return _say(stage, key, value)


def _say(stage: Stage, key: bytes | None, value: bytes) -> str:
    stage.sent.append((key, value))
    broker = stage.broker
    partition = stage.rng.randrange(broker.partitions) if key is None else broker.partition_of(key)
    broker.store((USER_MESSAGES.name, partition), key, value, [])
    return value[:100].decode()


def _poison(stage: Stage) -> str:
    """A message that the core cannot handle."""
    session = stage.rng.choice(stage.sessions)
    return _say(stage, session.encode(), encoded(session, text=f"a {BUG}"))


def _take_down(stage: Stage) -> str:
    seconds = stage.rng.uniform(0, MAX_DOWN_S)
    stage.broker.down_until = stage.broker.now + timedelta(seconds=seconds)
    return f"for {seconds:.1f} s"


def _apply(stage: Stage) -> str:
    """An operator applies an agent, or removes one: workers read it when they come to it."""
    is_team = stage.has_team and stage.rng.random() < TEAM_SHARE
    rng, is_limited = stage.rng, stage.has_budgets and stage.rng.random() < LIMITED
    name, spec = (
        draw_team(rng, is_limited=is_limited)
        if is_team
        else draw_applied(rng, len(stage.applied), is_limited=is_limited)
    )
    stage.applied.append((name, spec))
    return f"{name} at {len(stage.applied) - 1}: {'removed' if spec is None else spec.limits}"


def _garbage(stage: Stage) -> str:
    topic = stage.rng.choice(PROCESSED).name
    value = stage.rng.choice(GARBAGE)
    key = stage.rng.choice([None, b"a", b"\xff"])
    offset = stage.broker.store((topic, stage.rng.randrange(stage.broker.partitions)), key, value, [])
    return f"{topic} at {offset}: {(value or b'')[:30]!r}"


def _repeat(stage: Stage) -> str:
    """A worker's record once more, as from a worker that died before it knew that the broker had it."""
    place = stage.rng.choice(REPEATED).name, stage.rng.randrange(stage.broker.partitions)
    log = stage.broker.logs[place][stage.act.get(place, 0) :]
    record = stage.rng.choice(log) if log else None
    if record is None or (record.key or b"").decode(errors="replace") in stage.retired:
        return "nothing"
    stage.broker.store(place, record.key, record.value, record.headers)
    return f"{place[0]}/{place[1]}/{record.offset}"


class _Retired:
    """The heads of the sessions whose time is over."""

    def __init__(self, table: Table, names: set[str]) -> None:
        self._table = table
        self._names = names
        self.changelog_topic = table.changelog_topic
        self.get, self.put, self.waits = table.get, table.put, table.waits

    def heads(self, partition: int) -> list[bytes]:
        marks = [b'"session_id":"%b"' % name.encode() for name in self._names]
        return [head for head in self._table.heads(partition) if any(mark in head for mark in marks)]


def _expire(stage: Stage) -> str:
    """A session of which nobody speaks any more expires; its name is not used again.

    A session that expired while its last message is on its way begins anew, with the same ids: the retention time,
    which is days, is what keeps that from happening. Once all has come to rest the names are used again.
    """
    quiet = [name for name in stage.sessions if _is_quiet(stage, name)]
    if quiet:
        name = stage.rng.choice(quiet)
        stage.retired.add(name)
        stage.sessions[stage.sessions.index(name)] = f"{name[0]}{len(stage.retired)}"
    owners = [worker for worker in stage.workers if worker.positions and not worker.is_paused]
    if not owners or not stage.retired:
        return "nothing"
    worker = stage.rng.choice(owners)
    partitions = sorted(worker.tables.data)
    spawn(worker, _order_expiry(worker, _Retired(worker.tables, stage.retired), partitions))
    return f"{sorted(stage.retired)} at {worker.name}"


async def _order_expiry(worker: Worker, table: Table, partitions: list[int]) -> None:
    try:
        await expire_idle(worker.shell, table, partitions, timedelta(0))
    except OSError as error:
        worker.fail(error)


def _is_quiet(stage: Stage, name: str) -> bool:
    """Whether all that was said of the session is in its log, and no worker can say it again."""
    if any(worker.is_paused or worker.outbox.gate for worker in stage.workers) or stage.is_rebalancing:
        return False
    key, mark = name.encode(), b'"%b"' % name.encode()
    for worker in stage.workers:
        if any(sent.record[0] == key for line in worker.outbox.in_flight.values() for sent in line):
            return False
    said = [
        (place, record)
        for place in stage.broker.places(USER_MESSAGES.name)
        for record in stage.broker.logs[place]
        if mark in (record.value or b"")
    ]
    return bool(said) and all(record.offset < stage.broker.committed.get(place, 0) for place, record in said)


RARE: tuple[tuple[str, float, Callable[[Stage], str]], ...] = (
    ("broadcast", 0.1, broadcast),
    ("gathering", 0.15, gather),
    ("remote result", 0.15, disturb),
    ("agent applied", 0.2, _apply),
    ("garbage", 0.15, _garbage),
    ("record repeated", 0.3, _repeat),
    ("forged order", 0.15, lambda stage: forge_order(stage, asked(stage.broker))),
    ("forged outcome", 0.15, forge_outcome),
    ("bug", 0.03, _poison),
    ("broker down", 0.03, _take_down),
    ("expiry", 0.2, _expire),
    ("time passes", 0.3, _wait),
)
"""What happens to nobody in particular, and how often it can."""


def asked(broker: Broker) -> list[ApprovalRequested]:
    """The approvals that were asked for, ever."""
    events = map(decode_agent_event, _tagged(broker, AGENT_EVENTS, APPROVAL_TAG))
    return [event for event in events if isinstance(event, ApprovalRequested)]


def _quarantined(broker: Broker) -> list[str]:
    """The sessions that were quarantined, ever."""
    letters = map(decode_dead_letter, _tagged(broker, DEAD_LETTERS, QUARANTINE_TAG))
    return [letter.session_id for letter in letters if letter.session_id is not None]


def _tagged(broker: Broker, topic: Topic, tag: bytes) -> Iterator[bytes]:
    """The values of a topic that have the tag."""
    for place in broker.places(topic.name):
        yield from (record.value for record in broker.logs[place] if record.value and tag in record.value)
