"""The simulation: workers, a broker and people, in an order that a seed decides. No clock, no sleep, no thread."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from random import Random

from simulation import invariants
from simulation.broker import CHANGELOG, PARTITIONS, Broker, partition_of
from simulation.invariants import Topics
from simulation.script import CATALOG, IDEMPOTENT, Calls, Command, approval, draw_command
from simulation.worker import Worker, track_tasks

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
    """One run.

    `is_fenced`: whether the broker refuses what comes from a claim that is over; without it, what it is for is found.
    """

    def __init__(self, seed: int, *, is_fenced: bool = True) -> None:
        self.rng = Random(seed)
        self.broker = Broker(START, is_fenced=is_fenced)
        self.calls = Calls(lambda session_id: partition_of(session_id.encode()))
        self.acknowledged: list[tuple[str, str, int, int]] = []
        self.sent: list[Command] = []
        self.workers: list[Worker] = []
        self.rebalancing: asyncio.Task[None] | None = None
        self.counts = {"crashes": 0, "rebalances": 0, "broken": 0, "pauses": 0}

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
        invariants.check_calls(topics, self.calls.started, IDEMPOTENT, self.broker.late)
        invariants.check_refusals(topics, CATALOG)
        invariants.check_acknowledgements(self.acknowledged)

    # One step

    async def _step(self, *, faults: bool) -> bool:
        """Do one thing that can be done; whether there was one."""
        for worker in [worker for worker in self.workers if worker.failure is not None]:
            self._crash(worker)
        if not members(self.workers) and self.rebalancing is None:
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
            if not worker.is_paused:
                things += self._possible_for(worker)
            elif self.rng.random() < 0.1:
                things.append(lambda w=worker: setattr(w, "is_paused", False))  # type: ignore[misc]
        asleep = {task for worker in self.workers if worker.is_paused for task in worker.tasks}
        answerable = [call for call in self.calls.open if not call.result.done() and call.caller not in asleep]
        if answerable:
            call = self.rng.choice(answerable)
            things.append(lambda: call.result.set_result(call.answer(self.rng)))
        return things

    def _possible_for(self, worker: Worker) -> list[Callable[[], object]]:
        things: list[Callable[[], object]] = []
        if self.rebalancing is None or not worker.is_member:
            things += [lambda p=place: worker.take(p) for place in worker.readable()]  # type: ignore[misc]
            if worker.steps:
                things.append(lambda: take_step(worker))
        if self.rebalancing is None and not worker.is_member:
            things.append(lambda: self._rebalance(joining=worker))
        if worker.pipeline.recorder.is_fenced:
            things.append(lambda: self._crash(worker))
        if worker.outbox.gate is not None:
            things.append(worker.outbox.release)
        return things + [lambda p=place: worker.outbox.acknowledge(p) for place in worker.outbox.places()]

    def _possible_faults(self) -> list[Callable[[], object]]:
        things: list[Callable[[], object]] = [lambda: _send(self)]
        for worker in [worker for worker in self.workers if not worker.is_paused]:
            if self.rebalancing is None and worker.is_member and self.rng.random() < 0.2:
                things.append(lambda w=worker: self._pause(w))  # type: ignore[misc]
            things += [worker.commit] * 2
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

    def _break(self, worker: Worker, place: tuple[str, int]) -> None:
        self.counts["broken"] += 1
        worker.outbox.arrive(place, self.rng.randint(0, 3))
        worker.outbox.break_off(place, OSError("the broker is gone"))

    def _crash(self, worker: Worker) -> None:
        """As by kill -9, at whatever point its tasks are; what was sent may have arrived."""
        self.counts["crashes"] += 1
        for place in [] if worker.is_paused else worker.outbox.places():
            worker.outbox.arrive(place, self.rng.randint(0, 3))
        worker.kill()
        self.workers.remove(worker)
        if self.rebalancing is None:
            self._rebalance()

    def _pause(self, worker: Worker) -> None:
        """As by SIGSTOP for longer than the session timeout; what it has sent arrives, what it has not comes later."""
        self.counts["pauses"] += 1
        for place in worker.outbox.places():
            worker.outbox.arrive(place, self.rng.randint(0, 2))
        worker.pause()
        self._rebalance()

    def _rebalance(self, joining: Worker | None = None) -> None:
        """All members stop reading; when they are ready, the partitions are given out anew."""
        self.counts["rebalances"] += 1
        if joining is not None:
            joining.join()
        ready = [worker.revoke() for worker in members(self.workers)]
        self.rebalancing = asyncio.get_running_loop().create_task(self._when_ready(ready))

    async def _when_ready(self, ready: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*ready, return_exceptions=True)
        self.rebalancing = None
        self._assign()

    def _assign(self) -> None:
        while len(members(self.workers)) < WORKERS and (not members(self.workers) or self.rng.random() < 0.7):
            is_kept = self.rng.random() < 0.5
            self.workers.append(Worker(self.broker, self.calls, self.acknowledged, is_kept=is_kept))
        known = members(self.workers)
        owners = [self.rng.choice(known) for _ in range(PARTITIONS)]
        for worker in known:
            worker.assign({partition for partition, owner in enumerate(owners) if owner is worker})

    # Rest

    async def _rest(self) -> None:
        """No more faults: go on until nothing can be done, deciding what waits for people."""
        for _ in range(MAX_STEPS_TO_REST):
            if await self._step(faults=False):
                continue
            if any([await self._is_busy() for _ in range(3)]):
                continue
            asleep = [worker for worker in self.workers if worker.is_paused]
            if asleep:
                # Too late for everything: all is done, recorded and committed by others.
                for worker in self.workers:
                    worker.commit()
                self.rng.choice(asleep).is_paused = False
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


def take_step(worker: Worker) -> None:
    """The next one of those to the partitions that it was given."""
    step = worker.steps.pop(0)
    step()


def members(workers: Iterable[Worker]) -> list[Worker]:
    """Those that the group does not take for dead."""
    return [worker for worker in workers if worker.is_member]


def _send(world: World) -> None:
    key, value = draw_command(world.rng, world.sent, _asked(world.broker))
    world.sent.append((key, value))
    partition = world.rng.randrange(PARTITIONS) if key is None else partition_of(key)
    world.broker.store((USER_MESSAGES.name, partition), key, value, [])


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
