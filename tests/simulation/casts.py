"""Broadcasts in the simulation: those that nobody waits for, those that gather replies, and what is said to these."""

import json
from random import Random
from typing import Protocol

from simulation.broker import Broker, Place
from simulation.bugs import BUG
from simulation.invariants import Record
from simulation.script import encoded

from schemas.gather import gathering_session_id, reply_session_id
from schemas.topics import BROADCASTS, USER_MESSAGES

PAST = "2020-01-01T00:00:00Z"
REPEATED = 0.15
"""Of what is said about gatherings: the broadcast is sent again."""
SAID = 0.25
"""Of it: something is said to the session that gathers, or to one that replies."""
GATHERS: tuple[object, ...] = ("first", "all", "all", {"quorum": 1}, {"quorum": 2}, {"quorum": 3})
DEADLINES: tuple[object, ...] = (None, 1, 5, 20, PAST)
AUDIENCES: tuple[object, ...] = ("all", ["writer"], ["writer", "helper"], ["assistant", "writer", "ghost"], ["ghost"])


class Crowd(Protocol):
    """What of the world broadcasts need."""

    rng: Random
    broker: Broker
    sessions: list[str]
    act: dict[Place, int]
    has_budgets: bool


def broadcast(crowd: Crowd) -> str:
    """To all, to some, to some that do not exist, or too late."""
    rng = crowd.rng
    fields: dict[str, object] = {"text": "hear"}
    if rng.random() < 0.7:
        fields["id"] = f"cast{_count(crowd)}"
    match rng.randrange(4):
        case 0:
            fields["audience"] = ["writer"]
        case 1:
            fields["audience"] = ["assistant", "ghost"]
        case 2 if rng.random() < 0.3:
            fields["expires_at"] = PAST
        case _:
            pass
    return _send(crowd, json.dumps(fields).encode())


def gather(crowd: Crowd) -> str:
    """A broadcast that gathers, one that is sent again, or a word to a session of one."""
    rng = crowd.rng
    known = _gatherings(crowd)
    chance = rng.random()
    if known and chance < REPEATED:
        return _send(crowd, rng.choice(known).value or b"")
    if known and chance < REPEATED + SAID:
        return _say(crowd, rng.choice(known))
    return _send(crowd, json.dumps(_drawn(crowd)).encode())


def _drawn(crowd: Crowd) -> dict[str, object]:
    rng = crowd.rng
    fields: dict[str, object] = {"text": "what?", "gather": rng.choice(GATHERS), "audience": rng.choice(AUDIENCES)}
    if rng.random() < 0.7:
        fields["id"] = f"gather{_count(crowd)}"
    deadline = rng.choice(DEADLINES)
    if deadline is not None and (deadline != PAST or rng.random() < 0.2):
        fields["deadline"] = deadline
    if rng.random() < 0.4:
        fields["reply_to"] = rng.choice(crowd.sessions)
    if crowd.has_budgets and rng.random() < 0.5:
        fields["budget_micros"] = rng.randint(2, 20)
    if rng.random() < 0.2:
        fields["hops"] = rng.choice([1, 2, 5])
    return fields


def _say(crowd: Crowd, record: Record) -> str:
    """To the session that gathers, or to the one in which the writer replies."""
    rng = crowd.rng
    given = json.loads(record.value or b"")
    name = given.get("id") or f"{record.topic}/{record.partition}/{record.offset}"
    session_id = gathering_session_id(name) if rng.random() < 0.7 else reply_session_id(name, "writer")
    value = rng.choice(
        [
            encoded(session_id, type="cancel_turn"),
            encoded(session_id, type="cancel_turn"),
            encoded(session_id, type="end_session"),
            encoded(session_id, text="and?"),
            encoded(session_id, text=f"a {BUG}") if rng.random() < 0.2 else encoded(session_id, text="and?"),
        ]
    )
    partition = crowd.broker.partition_of(session_id.encode())
    crowd.broker.store((USER_MESSAGES.name, partition), session_id.encode(), value, [])
    return value.decode()


def _gatherings(crowd: Crowd) -> list[Record]:
    return [
        record
        for place in crowd.broker.places(BROADCASTS.name)
        for record in crowd.broker.logs[place][crowd.act.get(place, 0) :]
        if record.value and b'"gather"' in record.value
    ]


def _count(crowd: Crowd) -> int:
    return sum(len(crowd.broker.logs[place]) for place in crowd.broker.places(BROADCASTS.name))


def _send(crowd: Crowd, value: bytes) -> str:
    crowd.broker.store((BROADCASTS.name, crowd.rng.randrange(crowd.broker.partitions)), None, value, [])
    return value.decode()
