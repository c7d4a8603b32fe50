"""The simulation: workers, a broker and people, in an order that a seed decides. No clock, no sleep, no thread."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

from simulation import invariants
from simulation.broker import CHANGELOG, PARTITIONS, Broker, Place, partition_of
from simulation.faults import FAULTS, OFTEN, RATES, Thing, possible_faults
from simulation.invariants import Topics
from simulation.loop import VirtualLoop
from simulation.points import Point, points_of
from simulation.script import CATALOG, IDEMPOTENT, SESSIONS, Applied, Calls, Command, approval, catalog_of
from simulation.worker import Worker, track_tasks, wake

from agents.catalog import Catalog
from schemas.topics import USER_MESSAGES
from streams.ports import FencedError

STEPS = 150
"""Of a run, while faults happen; then everything comes to rest."""
MAX_STEPS_TO_REST = 20_000
WORKERS = 2
WAKE_UP = 0.02
"""So seldom that some sleep until all is done by others: what they send then is older than all else."""
START = datetime(2026, 5, 1, tzinfo=UTC)


class World:
    """One run.

    `is_fenced`: whether the broker refuses what comes from a claim that is over; without it, what it is for is found.
    `steps`: while faults happen. `without`: kinds of faults that do nothing where they would happen. `often`: kinds
    that come often, whatever the seed says.
    """

    def __init__(
        self,
        seed: int,
        *,
        is_fenced: bool = True,
        steps: int = STEPS,
        without: Collection[str] = frozenset(),
        often: Collection[str] = frozenset(),
    ) -> None:
        self.rng = Random(seed)
        self.broker = Broker(START, is_fenced=is_fenced)
        self.calls = Calls(lambda session_id: partition_of(session_id.encode()), is_streamed=self.rng.random() < 0.5)
        self.acknowledged: list[tuple[str, str, int, int]] = []
        self.sessions = list(SESSIONS)
        self.retired: set[str] = set()
        self.sent: list[Command] = []
        self.applied: list[Applied] = []
        self.rates = {kind: self.rng.choice(RATES) for kind in FAULTS} | dict.fromkeys(often, OFTEN)
        self.workers: list[Worker] = []
        self.counts: Counter[str] = Counter()
        self.crash_points: set[Point] = set()
        self.journal: list[tuple[datetime, Thing, object]] = []
        self.is_at_rest = False
        self._rebalancing: asyncio.Task[None] | None = None
        self._steps = steps
        self._without = without

    def play(self) -> None:
        """Run, and check all that must hold at rest.

        Raises:
            AssertionError: it does not.
        """
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self._seconds)) as runner:
            runner.run(self._run())
        self._check()

    @property
    def is_rebalancing(self) -> bool:
        return self._rebalancing is not None

    async def _run(self) -> None:
        track_tasks(asyncio.get_running_loop())
        self._assign()
        for _ in range(self._steps):
            await self._step(faults=True)
        for worker in self.workers:
            worker.outbox.room = None
        self.is_at_rest = True
        await self._rest()
        for worker in self.workers:
            worker.kill()
        await asyncio.sleep(0)

    def _check(self) -> None:
        assert not self.calls.bad_prompts, self.calls.bad_prompts
        topics, catalog = Topics(self.broker.records()), catalog_of(self.applied)
        invariants.check_answers(topics)
        invariants.check_state(topics, catalog, CHANGELOG)
        invariants.check_transcripts(topics, catalog)
        invariants.check_agents(topics, catalog, self.calls.told)
        invariants.check_calls(topics, self.calls.started, IDEMPOTENT, self.broker.late)
        invariants.check_refusals(topics, catalog)
        invariants.check_garbage(topics)
        invariants.check_broadcasts(topics, CATALOG)
        invariants.check_acknowledgements(self.acknowledged)

    def _seconds(self) -> float:
        return (self.broker.now - START).total_seconds()

    # One step

    async def _step(self, *, faults: bool) -> bool:
        """Do one thing that can be done; whether there was one."""
        for worker in [worker for worker in self.workers if worker.failure is not None]:
            assert isinstance(worker.failure, OSError | FencedError), f"{worker.name} stopped: {worker.failure!r}"
            self.crash(worker)
        if not members(self.workers) and self._rebalancing is None:
            self._assign()
        things = [*possible_things(self), *(possible_faults(self) if faults else ())]
        if things:
            self.broker.now += timedelta(milliseconds=self.rng.randrange(50))
            thing = self.rng.choice(things)
            self.counts.update((thing.kind, "step"))
            self.journal.append((self.broker.now, thing, thing.do() if thing.kind not in self._without else "left out"))
        # Whoever waits for it may come to run before the next thing, or in part, or not at all.
        for _ in range(self.rng.randrange(4) if faults else 2):
            await asyncio.sleep(0)
        return bool(things)

    # Things that happen

    def crash(self, worker: Worker) -> None:
        """As by kill -9, at whatever point its tasks are; what was sent may have arrived."""
        for task in worker.tasks:
            self.crash_points.update(points_of(task))
        for place in [] if worker.is_paused else worker.outbox.places():
            worker.outbox.arrive(place, self.rng.randint(0, 3))
        worker.kill()
        self.workers.remove(worker)
        if self._rebalancing is None:
            self.rebalance()

    def pause(self, worker: Worker) -> None:
        """As by SIGSTOP for longer than the session timeout; what it has sent arrives, what it has not comes later."""
        for place in worker.outbox.places():
            worker.outbox.arrive(place, self.rng.randint(0, 2))
        worker.pause()
        self.rebalance()

    def rebalance(self, joining: Worker | None = None) -> None:
        """All members stop reading; when they are ready, the partitions are given out anew."""
        if joining is not None:
            joining.join()
        ready = [worker.revoke() for worker in members(self.workers)]
        self._rebalancing = asyncio.get_running_loop().create_task(self._when_ready(ready))

    async def _when_ready(self, ready: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*ready, return_exceptions=True)
        self._rebalancing = None
        self._assign()

    def _assign(self) -> None:
        while len(members(self.workers)) < WORKERS and (not members(self.workers) or self.rng.random() < 0.7):
            is_kept = self.rng.random() < 0.5
            self.workers.append(
                Worker(
                    self.broker,
                    self.calls,
                    self.acknowledged,
                    self.applied,
                    is_kept=is_kept,
                    linger_s=self.rng.choice([0, 0.05]),
                )
            )
        known = members(self.workers)
        owners = [self.rng.choice(known) for _ in range(PARTITIONS)]
        for worker in known:
            worker.assign({partition for partition, owner in enumerate(owners) if owner is worker})

    # Rest

    async def _rest(self) -> None:
        """No more faults: go on until nothing can be done, deciding what waits for people."""
        for _ in range(MAX_STEPS_TO_REST):
            if await self._step(faults=False) or await self._is_busy():
                continue
            if self._pass_time():
                continue
            asleep = [worker for worker in self.workers if worker.is_paused]
            if asleep:
                # Too late for everything: all is done, recorded and committed by others.
                for worker in self.workers:
                    worker.commit()
                wake(self.rng.choice(asleep))
                continue
            waiting = _undecided(self.broker, catalog_of(self.applied))
            if not waiting:
                return
            for call_id in waiting:
                value = approval(call_id, self.rng.choice(["approve", "deny"]))
                self.broker.store((USER_MESSAGES.name, 0), None, value, [])
        raise AssertionError("it does not come to rest")

    async def _is_busy(self) -> bool:
        """Whether something can be done once the tasks have had their turn."""
        loop = _loop()
        while not loop.is_idle():
            await asyncio.sleep(0)
        # In the last turn somebody may have come to wait for the scheduler, or to stop.
        is_failed = any(worker.failure for worker in self.workers)
        return is_failed or next(possible_things(self), None) is not None

    def _pass_time(self) -> bool:
        """Go on to the next time at which something happens by itself; whether there is one."""
        timer = _loop().next_timer()
        times = [START + timedelta(seconds=timer)] if timer is not None else []
        times += [
            until
            for worker in self.workers
            if not worker.is_paused
            for until in worker.outbox.stalled.values()
            if until > self.broker.now
        ]
        if not times:
            return False
        self.broker.now = max(self.broker.now, min(times)) + timedelta(milliseconds=1)
        return True


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def possible_things(world: World) -> Iterator[Thing]:
    """What happens without anybody's fault."""
    for worker in world.workers:
        if not worker.is_paused:
            yield from _of_worker(world, worker)
        elif not world.is_at_rest and world.rng.random() < WAKE_UP:
            yield Thing("wake up", worker.name, lambda w=worker: wake(w))  # type: ignore[misc]
    asleep = {task for worker in world.workers if worker.is_paused for task in worker.tasks}
    answerable = [call for call in world.calls.open if not call.result.done() and call.caller not in asleep]
    if answerable:
        call = world.rng.choice(answerable)
        yield Thing("answer", call.call_id, lambda: call.result.set_result(call.answer(world.rng)))


def _of_worker(world: World, worker: Worker) -> Iterator[Thing]:
    if not world.is_rebalancing or not worker.is_member:
        for place in worker.readable():
            yield Thing("take", (worker.name, *place), lambda p=place: worker.take(p))  # type: ignore[misc]
        if worker.steps:
            yield Thing("begin", worker.name, lambda: take_step(worker))
    if not world.is_rebalancing and not worker.is_member:
        yield Thing("join", worker.name, lambda: world.rebalance(joining=worker))
    if worker.roster.is_behind:
        yield Thing("read agents", worker.name, worker.roster.read)
    if worker.pipeline.recorder.is_fenced:
        yield Thing("restart", worker.name, lambda: world.crash(worker))
    if worker.outbox.gate is not None and (world.is_at_rest or world.rng.random() < 0.5):
        yield Thing("room", worker.name, worker.outbox.release)
    for place in worker.outbox.places():
        yield Thing("acknowledge", (worker.name, *place), lambda p=place: acknowledge(world, worker, p))  # type: ignore[misc]


def acknowledge(world: World, worker: Worker, place: Place) -> str:
    """Of what is on its way to the partition, some records or all arrive, and the worker hears of it."""
    count = world.rng.choice([1, 2, 3, len(worker.outbox.in_flight[place])])
    for number in range(count):
        if not worker.outbox.in_flight[place]:
            return f"{number} records"
        worker.outbox.acknowledge(place)
    return f"{count} records"


def take_step(worker: Worker) -> str:
    """The next one of those to the partitions that it was given."""
    step = worker.steps.pop(0)
    step()
    return step.func.__name__.strip("_") if isinstance(step, partial) else ""


def members(workers: Iterable[Worker]) -> list[Worker]:
    """Those that the group does not take for dead."""
    return [worker for worker in workers if worker.is_member]


def _undecided(broker: Broker, catalog: Catalog) -> list[str]:
    """The calls that wait for approval now."""
    sessions, _ = invariants.fold(Topics(broker.records()), catalog)
    turns = [session.head.turn for session in sessions.values() if session and session.head.turn]
    return [call.call_id for turn in turns for call in turn.pending if call.kind == "approval"]
