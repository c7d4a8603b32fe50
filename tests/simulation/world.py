"""The simulation: workers, a broker and people, in an order that a seed decides. No clock, no sleep, no thread."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from simulation import invariants
from simulation.broker import PARTITIONS, Broker, partition_of
from simulation.invariants import Topics
from simulation.script import CATALOG, IDEMPOTENT, Calls, Command, approval, draw_command
from simulation.worker import CHANGELOG, Worker, track_tasks

from schemas.codec import decode_agent_event
from schemas.events import ApprovalRequested
from schemas.topics import AGENT_EVENTS, USER_MESSAGES

STEPS = 150
"""Of a run, while faults happen; then everything comes to rest."""
MAX_STEPS_TO_REST = 20_000
WORKERS = 2
APPROVAL_TAG = b'"type":"approval_requested"'
START = datetime(2026, 5, 1, tzinfo=UTC)


class World:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.broker = Broker(START)
        self.calls = Calls(lambda session_id: partition_of(session_id.encode()))
        self.acknowledged: list[tuple[str, str, int, int]] = []
        self.sent: list[Command] = []
        self.workers: list[Worker] = []
        self.rebalancing: asyncio.Task[None] | None = None
        self.counts = {"crashes": 0, "rebalances": 0, "broken": 0}

    async def run(self) -> None:
        track_tasks(asyncio.get_running_loop())
        self._assign()
        for _ in range(STEPS):
            await self._step(faults=True)
        await self._rest()
        for worker in self.workers:
            worker.kill()
        await asyncio.sleep(0)

    def check(self) -> None:
        """All that must hold at rest."""
        assert not self.calls.bad_prompts, self.calls.bad_prompts
        topics = Topics(self.broker.records())
        invariants.check_answers(topics)
        invariants.check_state(topics, CATALOG, CHANGELOG)
        invariants.check_transcripts(topics, CATALOG)
        invariants.check_calls(topics, self.calls.started, IDEMPOTENT)
        invariants.check_refusals(topics, CATALOG)
        invariants.check_acknowledgements(self.acknowledged)

    # One step

    async def _step(self, *, faults: bool) -> bool:
        """Do one thing that can be done; whether there was one."""
        for worker in [worker for worker in self.workers if worker.failure is not None]:
            self._crash(worker)
        if not self.workers and self.rebalancing is None:
            self._assign()
        things = self._possible() + (self._possible_faults() if faults else [])
        if things:
            self.broker.now += timedelta(milliseconds=self.rng.randrange(50))
            self.rng.choice(things)()
        # Whoever waits for it may come to run before the next thing, or in part, or not at all.
        for _ in range(self.rng.randrange(4) if faults else 3):
            await asyncio.sleep(0)
        return bool(things)

    def _possible(self) -> list[Callable[[], object]]:
        things: list[Callable[[], object]] = []
        for worker in self.workers:
            if self.rebalancing is None:
                things += [lambda w=worker, p=place: w.take(p) for place in worker.readable()]  # type: ignore[misc]
            if worker.outbox.gate is not None:
                things.append(lambda w=worker: w.outbox.release())  # type: ignore[misc]
            things += [lambda w=worker, p=place: w.outbox.acknowledge(p) for place in worker.outbox.places()]  # type: ignore[misc]
        answerable = [call for call in self.calls.open if not call.result.done()]
        if answerable:
            call = self.rng.choice(answerable)
            things.append(lambda: call.result.set_result(call.answer(self.rng)))
        return things

    def _possible_faults(self) -> list[Callable[[], object]]:
        things: list[Callable[[], object]] = [self._send]
        for worker in self.workers:
            things.append(worker.commit)
            if worker.outbox.gate is None and self.rng.random() < 0.1:
                things.append(lambda w=worker: w.outbox.hold())  # type: ignore[misc]
            if self.rng.random() < 0.1:
                things.append(lambda w=worker: self._crash(w))  # type: ignore[misc]
            places = worker.outbox.places()
            if places:
                place = self.rng.choice(places)
                things.append(lambda w=worker, p=place: w.outbox.arrive(p, self.rng.randint(1, 4)))  # type: ignore[misc]
                if self.rng.random() < 0.1:
                    things.append(lambda w=worker, p=place: self._break(w, p))  # type: ignore[misc]
        if self.rebalancing is None and self.rng.random() < 0.15:
            things.append(self._rebalance)
        return things

    # Things that happen

    def _send(self) -> None:
        key, value = draw_command(self.rng, self.sent, _asked(self.broker))
        self.sent.append((key, value))
        partition = self.rng.randrange(PARTITIONS) if key is None else partition_of(key)
        self.broker.store((USER_MESSAGES.name, partition), key, value, [])

    def _break(self, worker: Worker, place: tuple[str, int]) -> None:
        self.counts["broken"] += 1
        worker.outbox.arrive(place, self.rng.randint(0, 3))
        worker.outbox.break_off(place, OSError("the broker is gone"))

    def _crash(self, worker: Worker) -> None:
        """As by kill -9, at whatever point its tasks are; what was sent may have arrived."""
        self.counts["crashes"] += 1
        for place in worker.outbox.places():
            worker.outbox.arrive(place, self.rng.randint(0, 3))
        worker.kill()
        self.workers.remove(worker)
        if self.rebalancing is None:
            self._rebalance()

    def _rebalance(self) -> None:
        """All stop reading; when they are ready, the partitions are given out anew."""
        self.counts["rebalances"] += 1
        ready = [worker.revoke() for worker in self.workers]
        self.rebalancing = asyncio.get_running_loop().create_task(self._when_ready(ready))

    async def _when_ready(self, ready: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*ready, return_exceptions=True)
        self.rebalancing = None
        self._assign()

    def _assign(self) -> None:
        while len(self.workers) < WORKERS and (not self.workers or self.rng.random() < 0.7):
            self.workers.append(Worker(self.broker, self.calls, self.acknowledged))
        owners = [self.rng.choice(self.workers) for _ in range(PARTITIONS)]
        for worker in self.workers:
            worker.assign({partition for partition, owner in enumerate(owners) if owner is worker})

    # Rest

    async def _rest(self) -> None:
        """No more faults: go on until nothing can be done, deciding what waits for people."""
        for _ in range(MAX_STEPS_TO_REST):
            if await self._step(faults=False):
                continue
            if any([await self._is_busy() for _ in range(3)]):
                continue
            waiting = _undecided(self.broker)
            if not waiting:
                return
            for call_id in waiting:
                value = approval(call_id, self.rng.choice(["approve", "deny"]))
                self.broker.store((USER_MESSAGES.name, 0), None, value, [])
        raise AssertionError("it does not come to rest")

    async def _is_busy(self) -> bool:
        """Whether something can be done once the tasks have had their turn."""
        for _ in range(20):
            await asyncio.sleep(0)
        return bool(self._possible()) or self.rebalancing is not None


def _asked(broker: Broker) -> list[str]:
    """The calls for which an approval was asked, ever."""
    logs = [broker.logs[AGENT_EVENTS.name, partition] for partition in range(PARTITIONS)]
    values = [record.value for log in logs for record in log if record.value and APPROVAL_TAG in record.value]
    return [event.call_id for event in map(decode_agent_event, values) if isinstance(event, ApprovalRequested)]


def _undecided(broker: Broker) -> list[str]:
    """The calls that wait for approval now."""
    sessions, _ = invariants.fold(Topics(broker.records()), CATALOG)
    turns = [session.head.turn for session in sessions.values() if session and session.head.turn]
    return [call.call_id for turn in turns for call in turn.pending if call.kind == "approval"]
