"""The service that runs the remote tools: it reads `tool-calls`, and answers on `tool-results`, or does not."""

import json
from collections.abc import Callable
from random import Random
from typing import Protocol

from simulation.broker import Broker, Place
from simulation.cast import REMOTE
from simulation.invariants import Record

from schemas.codec import decode_call_tool
from schemas.effects import CallTool
from schemas.refusal import UNREADABLE
from schemas.topics import TOOL_CALLS, TOOL_RESULTS

NAMES = frozenset(tool.name for tool in REMOTE)
FAILS = 0.2
"""Of the calls."""
LATE = 0.3
"""Of those that were not answered, at rest."""
NOBODY = "nobody"


class Office(Protocol):
    """What of the world the service and whoever disturbs it need."""

    rng: Random
    broker: Broker
    service: "Service"


class Service:
    """It takes a call once, however often it is ordered; `is_silent` draws those that it never answers."""

    def __init__(self, broker: Broker, is_silent: Callable[[], bool], bug: Callable[[], str]) -> None:
        self._broker = broker
        self._is_silent = is_silent
        self._bug = bug
        self._read: dict[Place, int] = {}
        self._seen: set[str] = set()
        self.waiting: list[CallTool] = []
        self.unanswered: list[CallTool] = []
        """Those that are not answered in time, if ever."""
        self.answered: list[Record] = []

    def forget(self) -> None:
        """So long after, that the ids of calls may come again."""
        self._seen.clear()
        self.waiting.clear()
        self.unanswered.clear()
        self.answered.clear()

    def read(self) -> bool:
        """Take what is new on `tool-calls`; whether there is something to answer."""
        for place in self._broker.places(TOOL_CALLS.name):
            log, begin = self._broker.logs[place], self._read.get(place, 0)
            if begin < len(log):
                self._read[place] = len(log)
                for record in log[begin:]:
                    self._take(record.value or b"")
        return bool(self.waiting)

    def _take(self, value: bytes) -> None:
        try:
            order = decode_call_tool(value)
        except UNREADABLE:
            return
        if order.tool in NAMES and order.call_id not in self._seen:
            self._seen.add(order.call_id)
            (self.unanswered if self._is_silent() else self.waiting).append(order)

    def answer(self, rng: Random) -> str:
        """Publish the result of one of the calls that wait."""
        order = self.waiting.pop(rng.randrange(len(self.waiting)))
        return self.publish(rng, order.session_id, order.call_id)

    def catch_up(self, rng: Random) -> bool:
        """Answer some of the calls for which it is too late; whether there were any."""
        late, self.unanswered = self.unanswered, []
        for order in late:
            if rng.random() < LATE:
                self.publish(rng, order.session_id, order.call_id)
        return bool(late)

    def publish(self, rng: Random, session_id: str, call_id: str) -> str:
        said: dict[str, object] = {"content": f"printed {rng.random()}{self._bug()}"}
        if rng.random() < FAILS:
            said = {"error": {"message": f"why {rng.random()}", "retryable": rng.random() < 0.5}}
        fields = {"session_id": session_id, "call_id": call_id, **said}
        key = session_id.encode() if rng.random() < 0.8 else None
        return self.write(rng, key, json.dumps(fields).encode())

    def write(self, rng: Random, key: bytes | None, value: bytes) -> str:
        broker = self._broker
        place = TOOL_RESULTS.name, rng.randrange(broker.partitions) if key is None else broker.partition_of(key)
        broker.store(place, key, value, [])
        self.answered.append(broker.logs[place][-1])
        return value.decode()


def disturb(office: Office) -> str:
    """A result again, another one of the same call, one that comes late, or one of no call."""
    rng, service = office.rng, office.service
    record = rng.choice(service.answered) if service.answered else None
    match rng.randrange(6):
        case 0 | 1 if record is not None:
            return service.write(rng, record.key, record.value or b"")
        case 2 if record is not None:
            known = json.loads(record.value or b"")
            return service.publish(rng, known["session_id"], known["call_id"])
        case 3 | 4 if service.unanswered:
            order = service.unanswered.pop(rng.randrange(len(service.unanswered)))
            return service.publish(rng, order.session_id, order.call_id)
        case 5 if record is not None:
            return _of_no_call(rng, service, json.loads(record.value or b""))
        case _:
            return "nothing"


def _of_no_call(rng: Random, service: Service, known: dict[str, str]) -> str:
    session_id, call_id = known["session_id"], known["call_id"]
    match rng.randrange(5):
        case 0:
            return service.publish(rng, NOBODY, call_id)
        case 1:
            return service.publish(rng, session_id, f"{session_id}/90/1")
        case 2:
            # The model's, which ordered it.
            return service.publish(rng, session_id, f"{call_id.rpartition('/')[0]}/1")
        case 3:
            return service.write(rng, b"other", json.dumps(known).encode())
        case _:
            return service.write(rng, None, json.dumps({**known, "error": None, "content": None}).encode())
