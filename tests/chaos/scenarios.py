"""What happens to workers, brokers and the model while people write."""

import asyncio
import os
import resource
import signal
from collections.abc import Sequence

import aiohttp
from chaos.cluster import Worker
from chaos.proxy import BOTH, Proxy, Way
from chaos.run import ANSWERED_S, POLL_S, Run, Scenario

CALM_S = 4.0
SESSION_TIMEOUT_S = 10.0
PAST_TIMEOUT_S = SESSION_TIMEOUT_S + 3.0
THERE_AND_BACK = 2
FULL_AFTER_BYTES = 16 << 10
STOPPED_S = 30.0
OVERLOADED_S = 60.0


async def answers_come(run: Run) -> None:
    """Wait for the first end of a message."""
    async with asyncio.timeout(ANSWERED_S):
        while not run.watch.ended:
            await asyncio.sleep(POLL_S)


async def one_of_three_is_killed(run: Run) -> None:
    await answers_come(run)
    async with run.back_in_time():
        await run.kill(run.workers[0])
        await run.workers[0].start()
    await asyncio.sleep(CALM_S)


async def one_of_three_is_killed_for_good(run: Run) -> None:
    await answers_come(run)
    await run.kill(run.workers[0])
    await asyncio.sleep(PAST_TIMEOUT_S)


async def all_are_killed(run: Run) -> None:
    await answers_come(run)
    async with run.back_in_time():
        await run.kill(*run.workers)
        await asyncio.gather(*(worker.start() for worker in run.workers))
    await asyncio.sleep(CALM_S)


async def all_are_killed_again_during_recovery(run: Run) -> None:
    await answers_come(run)
    async with run.back_in_time():
        await run.kill(*run.workers)
        for seconds in (1.5, 2.5, 3.5):
            await asyncio.gather(*(worker.begin() for worker in run.workers))
            await asyncio.sleep(seconds)
            await run.kill(*run.workers)
        await asyncio.gather(*(worker.start() for worker in run.workers))
    await asyncio.sleep(CALM_S)


async def one_is_paused_past_its_session_timeout(run: Run) -> None:
    await answers_come(run)
    async with run.outage(THERE_AND_BACK):
        os.kill(run.workers[0].pid, signal.SIGSTOP)
        await asyncio.sleep(PAST_TIMEOUT_S)
        os.kill(run.workers[0].pid, signal.SIGCONT)
        await run.regrouped()
    await asyncio.sleep(CALM_S)


async def the_broker_is_killed(run: Run) -> None:
    await answers_come(run)
    async with run.kept_alive(), run.outage(THERE_AND_BACK):
        await run.kafka.kill()
        await run.kafka.start()
        await asyncio.sleep(CALM_S)
        await run.regrouped()


async def the_network_is_slow(run: Run) -> None:
    for network in run.networks:
        network.delay(0.2)
    await asyncio.sleep(3 * CALM_S)
    for network in run.networks:
        network.delay(0.0)


async def connections_are_reset(run: Run) -> None:
    await answers_come(run)
    async with run.kept_alive(), run.outage(THERE_AND_BACK):
        for _ in range(12):
            for network in run.networks:
                network.reset()
            await asyncio.sleep(0.5)
        await asyncio.sleep(CALM_S)
        await run.regrouped()


async def brokers_refuse_connections(run: Run) -> None:
    await answers_come(run)
    async with run.kept_alive(), run.outage(THERE_AND_BACK):
        for network in run.networks:
            network.refuse()
        await asyncio.sleep(PAST_TIMEOUT_S)
        for network in run.networks:
            network.mend()
        await asyncio.sleep(CALM_S)
        await run.regrouped()


async def _cut(run: Run, networks: Sequence[Proxy], way: Way, seconds: float) -> None:
    await answers_come(run)
    async with run.kept_alive(), run.outage(THERE_AND_BACK):
        for network in networks:
            network.cut(way)
        await asyncio.sleep(seconds)
        await _held_back(networks)
        for network in networks:
            network.mend()
        await asyncio.sleep(CALM_S)
        await run.regrouped()


async def _held_back(networks: Sequence[Proxy]) -> None:
    """Wait until the cut of each has kept bytes from their way, which shows that it happened."""
    async with asyncio.timeout(ANSWERED_S):
        while not all(network.held_back_bytes for network in networks):
            await asyncio.sleep(POLL_S)


async def short_cut(run: Run) -> None:
    await _cut(run, run.networks, BOTH, SESSION_TIMEOUT_S / 2)


async def cut_in_both_directions(run: Run) -> None:
    await _cut(run, run.networks, BOTH, PAST_TIMEOUT_S)


async def cut_towards_the_brokers(run: Run) -> None:
    await _cut(run, run.networks, Way.IN, PAST_TIMEOUT_S)


async def cut_towards_the_workers(run: Run) -> None:
    await _cut(run, run.networks, Way.OUT, PAST_TIMEOUT_S)


async def one_is_cut_off(run: Run) -> None:
    """The others take over; what it had sent arrives when the network is mended."""
    await _cut(run, [run.kafka.lonely], BOTH, PAST_TIMEOUT_S)


async def one_hears_nothing(run: Run) -> None:
    """What it sends arrives at once, and it does not know."""
    await _cut(run, [run.kafka.lonely], Way.OUT, PAST_TIMEOUT_S)


async def one_is_not_heard(run: Run) -> None:
    await _cut(run, [run.kafka.lonely], Way.IN, PAST_TIMEOUT_S)


async def the_model_is_overloaded(run: Run) -> None:
    await answers_come(run)
    async with aiohttp.ClientSession() as http:
        url = f"{run.cluster.model_url}/control/faults"
        (await http.put(url, json=[{"kind": "529"}])).raise_for_status()
        await asyncio.sleep(OVERLOADED_S)
        (await http.delete(url)).raise_for_status()


async def the_model_is_down(run: Run) -> None:
    await answers_come(run)
    async with run.outage():
        run.model.refuse()
        await asyncio.sleep(2 * CALM_S)
        run.model.mend()


async def the_model_is_slow(run: Run) -> None:
    run.model.delay(2.0)
    await asyncio.sleep(3 * CALM_S)
    run.model.delay(0.0)


async def workers_are_replaced_one_by_one(run: Run) -> None:
    await answers_come(run)
    for worker in run.workers:
        async with run.back_in_time():
            await worker.stop()
            await worker.start()
        await asyncio.sleep(1.0)


async def workers_without_names_are_replaced(run: Run) -> None:
    """By new ones, each as soon as the next is ready: partitions move twice within seconds."""
    await answers_come(run)
    for worker in tuple(run.workers):
        async with run.outage(moves=2):
            await run.cluster.add_worker()
            await worker.stop()
            await run.regrouped()


async def workers_come_and_go(run: Run) -> None:
    await answers_come(run)
    for _ in range(2):
        # Its partitions were another's, whose calls there are made again.
        async with run.outage():
            await run.cluster.add_worker()
            await run.regrouped()
    for worker in run.workers[:2]:
        await worker.stop()
        await asyncio.sleep(1.0)
    await asyncio.sleep(SESSION_TIMEOUT_S)


async def no_file_may_grow(run: Run) -> None:
    """Those of the first worker, which is what a quota does; then there is room again."""
    worker = run.workers[0]
    await answers_come(run)
    files = (file for file in worker.data_dir.rglob("*.log") if file.is_file())
    largest = max(file.stat().st_size for file in (*files, worker.process.log_path))
    async with run.back_in_time():
        async with run.outage():
            limit = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (largest + FULL_AFTER_BYTES, limit[1]))
            await _stopped_saying(worker, "File too large")
        await worker.start()
    await asyncio.sleep(CALM_S)


async def the_disk_is_full(run: Run) -> None:
    """The file system with the first worker's tables has no byte left; then there is room again."""
    worker = run.workers[0]
    await answers_come(run)
    async with run.back_in_time():
        async with run.outage():
            run.disk.fill()
            await _stopped_saying(worker, "No space left on device")
        run.disk.clear()
        await worker.start()
    await asyncio.sleep(CALM_S)


async def _stopped_saying(worker: Worker, why: str) -> None:
    async with asyncio.timeout(STOPPED_S):
        end = await worker.process.wait()
    assert end.code == 1, f"expected status 1, got {end}"
    said = [line for line in worker.log() if line.get("event") == "worker_stopped"]
    assert len(said) == 1, worker.process.log_tail()
    assert why in said[0]["error"], said


SCENARIOS = (
    Scenario(name="kill -9 of one of three", happens=one_of_three_is_killed),
    Scenario(name="kill -9 of one of three, for good", happens=one_of_three_is_killed_for_good),
    Scenario(name="kill -9 of all three", happens=all_are_killed, silence_s=1.0),
    Scenario(name="kill -9 of all, again during recovery", happens=all_are_killed_again_during_recovery, silence_s=7.0),
    Scenario(name="paused past the session timeout", happens=one_is_paused_past_its_session_timeout),
    Scenario(name="broker: kill -9 and restart", happens=the_broker_is_killed, silence_s=1.0),
    Scenario(name="brokers: 200 ms away", happens=the_network_is_slow),
    Scenario(name="brokers: connections reset", happens=connections_are_reset),
    Scenario(name="brokers: connections refused", happens=brokers_refuse_connections, silence_s=10.0),
    Scenario(name="brokers: black hole, 5 s", happens=short_cut),
    Scenario(name="brokers: black hole, 13 s", happens=cut_in_both_directions, silence_s=10.0),
    Scenario(name="brokers: nothing reaches them, 13 s", happens=cut_towards_the_brokers, silence_s=10.0),
    Scenario(name="brokers: nothing comes back, 13 s", happens=cut_towards_the_workers, silence_s=10.0),
    Scenario(name="one of three cut off, 13 s", happens=one_is_cut_off),
    Scenario(name="one of three hears nothing, 13 s", happens=one_hears_nothing),
    Scenario(name="one of three is not heard, 13 s", happens=one_is_not_heard),
    Scenario(name="model: answers 529, 60 s", happens=the_model_is_overloaded, model_fails=True, silence_s=55.0),
    Scenario(name="model: down", happens=the_model_is_down, model_fails=True, silence_s=5.0),
    Scenario(name="model: 2 s further away", happens=the_model_is_slow),
    Scenario(name="rolling restart", happens=workers_are_replaced_one_by_one),
    Scenario(name="deployment, no names", happens=workers_without_names_are_replaced, are_named=False),
    Scenario(name="1 worker, 3, 1", happens=workers_come_and_go, workers=1),
    Scenario(name="disk: file size limit", happens=no_file_may_grow, workers=2, padding=4_000),
    Scenario(name="disk: full", happens=the_disk_is_full, workers=2, padding=4_000, has_small_disk=True),
)
