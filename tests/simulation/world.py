"""The simulation: workers, a broker and people, in an order that a seed decides. No clock, no sleep, no thread."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from unittest.mock import patch

from simulation import invariants
from simulation.broker import Broker, Place
from simulation.bugs import planted
from simulation.cast import Applied, catalog_of, first_applied
from simulation.checks import check
from simulation.faults import FAULTS, OFTEN, RATES, Thing, asked, possible_faults
from simulation.loop import VirtualLoop
from simulation.plan import STEPS, Plan
from simulation.points import Point, points_of
from simulation.script import (
    SESSIONS,
    Calls,
    Command,
    approval,
    encoded,
)
from simulation.service import Service
from simulation.tools import BACKOFF_S
from simulation.worker import Worker, spawn, track_tasks, wake

from schemas.topics import USER_MESSAGES
from streams.expire import expire_idle
from streams.ports import FencedError

MAX_STEPS_TO_REST = 20_000
DECIDED_AT_REST = 0.5
MAX_ROUNDS = 50
"""Of people who say what is missing until nothing is."""
STEPS_AFTER_RETURN = STEPS // 3
"""When the sessions have expired, and people use their names again."""
MAX_WORKERS = 4
MAX_PARTITIONS = 4
ODDS = {"silence": 0.05, "bug": 0.01, "no result": 0.3}
"""Of a call that nobody answers, and of an answer that the core cannot handle, where such faults come often."""
RETENTION = timedelta(days=30)
WAKE_UP = 0.02
"""So seldom that some sleep until all is done by others: what they send then is older than all else."""
START = datetime(2026, 5, 1, tzinfo=UTC)


class World:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self.rng = Random(plan.seed)
        partitions = self.rng.randint(1, MAX_PARTITIONS)
        self.broker = Broker(START, is_fenced=plan.is_fenced, partitions=plan.partitions or partitions)
        self.calls = Calls(
            lambda session_id: self.broker.partition_of(session_id.encode()),
            is_streamed=self.rng.random() < 0.5,
            happens=self._happens,
        )
        self.service = Service(self.broker, partial(self._happens, "no result"), self.calls.bug)
        self.act: dict[Place, int] = {}
        self.acknowledged: list[tuple[str, str, int, int]] = []
        self.sessions = list(SESSIONS)
        self.retired: set[str] = set()
        self.sent: list[Command] = []
        self.applied: list[Applied] = []
        self.rates = {kind: self.rng.choice(RATES) for kind in FAULTS} | dict.fromkeys(plan.often, OFTEN)
        self.rates["all killed"] *= "all killed" not in plan.without
        self.workers: list[Worker] = []
        self.counts: Counter[str] = Counter()
        self.has_team, self.has_budgets = (
            self.rng.random() < self.rates[kind] and kind not in plan.without for kind in ("team", "budget")
        )
        self.calls.has_team = self.has_team
        self.applied += first_applied(self.rng, has_team=self.has_team, has_budgets=self.has_budgets)
        self.counts.update({"team": self.has_team, "budget": self.has_budgets})
        self.crash_points: set[Point] = set()
        self.journal: list[tuple[datetime, Thing, object]] = []
        self.is_at_rest = False
        most = self.rng.randint(1, MAX_WORKERS)
        self._max_workers = plan.workers or most
        self._rebalancing: asyncio.Task[None] | None = None
        self._steps = plan.steps
        self._without = plan.without

    def play(self) -> None:
        """Run, and check all that must hold at rest.

        Raises:
            AssertionError: it does not.
        """
        with planted(), patch("agents.tools.toolbox._backoff_s", lambda _: BACKOFF_S):
            with asyncio.Runner(loop_factory=lambda: VirtualLoop(self._seconds)) as runner:
                runner.run(self._run())
            check(self)

    @property
    def is_rebalancing(self) -> bool:
        return self._rebalancing is not None

    async def _run(self) -> None:
        track_tasks(asyncio.get_running_loop())
        self._assign()
        await self._play_act(self._steps)
        is_back = self.rng.random() < 0.5 * self.rates["return"]
        if is_back and "return" not in self._without:
            self.counts["return"] += 1
            await _forget(self)
            await self._play_act(min(self._steps, STEPS_AFTER_RETURN))
        for worker in self.workers:
            worker.kill()
        await asyncio.sleep(0)

    async def _play_act(self, steps: int) -> None:
        """Let faults happen for a while, then come to rest."""
        self.is_at_rest = False
        for _ in range(steps):
            await self._step(faults=True)
        for worker in self.workers:
            worker.outbox.room = None
        self.is_at_rest = True
        await self.rest()

    def _happens(self, kind: str) -> bool:
        """Whether a call now has a fault of that kind."""
        is_so = self.rng.random() < ODDS[kind] * self.rates[kind] and kind not in self._without
        self.counts[kind] += is_so
        return is_so

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
        while len(members(self.workers)) < self._max_workers and (not members(self.workers) or self.rng.random() < 0.7):
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
        owners = [self.rng.choice(known) for _ in range(self.broker.partitions)]
        for worker in known:
            worker.assign({partition for partition, owner in enumerate(owners) if owner is worker})

    # Rest

    async def rest(self) -> None:
        """No more faults: go on until nothing can be done, not even by people or by time."""
        rounds, is_decided = 0, False
        for _ in range(MAX_STEPS_TO_REST):
            if await self._step(faults=False) or await self._is_busy():
                continue
            if _are_killed(self):
                continue
            if not is_decided:
                is_decided = True
                _say(self, _decisions(self))
                continue
            if _pass_time(self) or self.service.catch_up(self.rng):
                continue
            asleep = [worker for worker in self.workers if worker.is_paused]
            if asleep:
                # Too late for everything: all is done, recorded and committed by others.
                for worker in self.workers:
                    worker.commit()
                wake(self.rng.choice(asleep))
                continue
            said = _last_words(self)
            rounds += 1
            assert rounds < MAX_ROUNDS, f"people wait in vain: {said}"
            if not said:
                _check_all_is_acknowledged(self)
                return
            _say(self, said)
        raise AssertionError("it does not come to rest")

    async def _is_busy(self) -> bool:
        """Whether something can be done once the tasks have had their turn."""
        loop = _loop()
        while not loop.is_idle():
            await asyncio.sleep(0)
        # In the last turn somebody may have come to wait for the scheduler, or to stop.
        is_failed = any(worker.failure for worker in self.workers)
        return is_failed or next(possible_things(self), None) is not None


def _are_killed(world: World) -> bool:
    """Kill all workers, once, when there is nothing but what waits: for people, for time."""
    rate, world.rates["all killed"] = world.rates["all killed"], 0.0
    if world.rng.random() >= rate:
        return False
    world.counts["all killed"] += 1
    for worker in list(world.workers):
        world.crash(worker)
    return True


def _say(world: World, said: Iterable[bytes]) -> None:
    for value in said:
        world.broker.store((USER_MESSAGES.name, 0), None, value, [])


def _decisions(world: World) -> list[bytes]:
    """What people decide when all that waits does for them; about half of it they leave to time."""
    waiting = [event.call_id for event in asked(world.broker) if world.rng.random() < DECIDED_AT_REST]
    return [approval(call_id, world.rng.choice(["approve", "deny"])) for call_id in waiting]


def _last_words(world: World) -> list[bytes]:
    """What people say when nothing waits for them or for time: they release and use what was quarantined."""
    sessions, _ = invariants.fold(world.broker.topics, catalog_of(world.applied))
    said: list[bytes] = []
    for session in filter(None, sessions.values()):
        head = session.head
        assert not head.is_busy, f"{head.turn or head.gathering} waits for ever"
        if head.quarantined is not None:
            said += [encoded(head.session_id, type="release_session"), encoded(head.session_id, text="and now?")]
    return said


def _check_all_is_acknowledged(world: World) -> None:
    """Nothing that was taken is left: what is behind it would never be committed."""
    for worker in members(world.workers):
        for place, begun in worker.begun.items():
            done, end = worker.done.get(place, begun), world.broker.end(place)
            assert done == end, f"{worker.name}: of {place[0]}/{place[1]}, {end - done} are not acknowledged"


async def _forget(world: World) -> None:
    """All is done and committed; then nobody says anything for so long that the sessions expire."""
    for worker in world.workers:
        worker.commit()
    world.broker.now += RETENTION
    for worker in world.workers:
        spawn(worker, expire_idle(worker.shell, worker.tables, list(worker.tables.data), RETENTION))
    await world.rest()
    for worker in world.workers:
        worker.commit()
    world.act = {place: world.broker.end(place) for place in world.broker.logs}
    world.sessions = list(SESSIONS)
    world.retired.clear()
    world.service.forget()


def _pass_time(world: World) -> bool:
    """Go on to the next time at which something happens by itself; whether there is one."""
    timer = _loop().next_timer()
    times = [START + timedelta(seconds=timer)] if timer is not None else []
    times += [world.broker.down_until] if world.broker.is_down else []
    times += [
        until
        for worker in world.workers
        if not worker.is_paused
        for until in worker.outbox.stalled.values()
        if until > world.broker.now
    ]
    if not times:
        return False
    world.broker.now = max(world.broker.now, min(times)) + timedelta(milliseconds=1)
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
    answerable = [
        call for call in world.calls.open if not (call.result.done() or call.is_silent or call.caller in asleep)
    ]
    if answerable:
        call = world.rng.choice(answerable)
        yield Thing("answer", call.call_id, lambda: call.result.set_result(call.answer(world.rng)))
    if not world.broker.is_down and world.service.read():
        yield Thing("serve", "the service", lambda: world.service.answer(world.rng))


def _of_worker(world: World, worker: Worker) -> Iterator[Thing]:
    if world.broker.is_down:
        return
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
