"""Workers are killed, paused, stopped and replaced while they work: every message is answered, once."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import orjson
from chaos.cluster import Cluster, release
from chaos.promise import assert_answered_once, assert_not_paid_twice

HELD = "calls"
TEXTS = ("Good morning!", "What is 17*23?", f"[[hold:{HELD}]] Good morning!")
"""A third of the calls is in flight until it is released, however slow the machine is."""
RUNNING_S = 90.0


def messages(count: int, prefix: str = "s") -> list[dict[str, Any]]:
    return [
        {"session_id": f"{prefix}{number}", "id": f"{prefix}m{number}", "text": TEXTS[number % len(TEXTS)]}
        for number in range(count)
    ]


def keys(sent: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["session_id"], message["id"]) for message in sent]


async def calls_run(cluster: Cluster, sent: list[dict[str, Any]], *, answered: int = 0) -> None:
    """Wait until as many calls are in flight as are held, and so many have been answered since the beginning."""
    held = sum(HELD in message["text"] for message in sent)
    async with asyncio.timeout(RUNNING_S):
        while (totals := await cluster.model_totals())["in_flight"] < held or totals["completed"] < answered:
            await asyncio.sleep(0.05)


async def unrecorded_calls(cluster: Cluster) -> dict[str, dict[str, int]]:
    """What the log does not know the outcome of is rightly done again by whoever follows."""
    facts = [orjson.loads(record.value) for record in await cluster.read("session-log")]
    recorded = {fact["call_id"] for fact in facts if fact["type"] == "model_completed"}
    return {call: counts for call, counts in (await cluster.model_calls()).items() if call not in recorded}


async def test_a_worker_that_is_killed_repeats_only_the_calls_in_flight(cluster: Cluster) -> None:
    """SIGKILL amid 75 turns as soon as calls run, and once more amid 75 new ones while answers come in."""
    await cluster.start()
    (worker,) = cluster.workers
    sent: list[dict[str, Any]] = []
    unrecorded: dict[str, dict[str, int]] = {}
    for kills, prefix in enumerate("ab"):
        before = (await cluster.model_totals())["completed"]
        more = messages(75, prefix)
        await cluster.publish(more)
        sent += more
        if not worker.is_running:
            await worker.start()
        await calls_run(cluster, sent, answered=before + kills)
        await worker.kill()
        unrecorded |= await unrecorded_calls(cluster)
    await worker.start()
    await release(cluster, HELD)
    assert_answered_once(await cluster.ended(len(sent)), keys(sent))
    assert_not_paid_twice(await cluster.model_calls(), unrecorded)


async def test_a_worker_that_is_told_to_stop_repeats_nothing(cluster: Cluster) -> None:
    """SIGTERM amid 120 turns: running calls end, nothing is begun again after the restart."""
    await cluster.start()
    (worker,) = cluster.workers
    sent = messages(120)
    await cluster.publish(sent)
    await calls_run(cluster, sent)
    stopping = asyncio.create_task(worker.stop())
    async with asyncio.timeout(RUNNING_S):
        while not any(line["event"] == "worker_stopping" for line in worker.log()):
            await asyncio.sleep(0.05)
    await release(cluster, HELD)
    await stopping
    await worker.start()
    assert_answered_once(await cluster.ended(len(sent)), keys(sent))
    assert_not_paid_twice(await cluster.model_calls(), unrecorded={})


async def test_another_worker_takes_over_from_one_that_is_killed(cluster: Cluster) -> None:
    """Two workers, one is killed and stays away: after its session timeout the other answers its messages."""
    await cluster.start(workers=2)
    sent = messages(150)
    await cluster.publish(sent)
    await calls_run(cluster, sent)
    await cluster.workers[0].kill()
    unrecorded = await unrecorded_calls(cluster)
    await release(cluster, HELD)
    assert_answered_once(await cluster.ended(len(sent)), keys(sent))
    assert_not_paid_twice(await cluster.model_calls(), unrecorded)


LATE_S = 3.0
"""What a worker that woke up does too late, it does at once; with some seconds for a model call of one."""


async def one_sleeps_past_its_session_timeout(cluster: Cluster) -> list[dict[str, Any]]:
    """Two workers, SIGSTOP to the first amid its calls: the other takes over and answers all; what was sent."""
    await cluster.start(workers=2)
    first = messages(100, "a")
    await cluster.publish(first)
    await calls_run(cluster, first)
    os.kill(cluster.workers[0].pid, signal.SIGSTOP)
    await release(cluster, HELD)
    second = messages(100, "b")
    await cluster.publish(second)
    ended = await cluster.ended(len(first) + len(second))
    assert_answered_once(ended, keys(first + second))
    return first + second


async def test_a_worker_that_wakes_up_too_late_does_no_harm(cluster: Cluster) -> None:
    """SIGSTOP past the session timeout, then SIGCONT: its partitions went to the other, which it must not disturb."""
    sent = await one_sleeps_past_its_session_timeout(cluster)
    os.kill(cluster.workers[0].pid, signal.SIGCONT)
    third = messages(100, "c")
    await cluster.publish(third)
    await cluster.ended(len(sent + third))
    await asyncio.sleep(LATE_S)
    assert_answered_once(await cluster.events(), keys(sent + third))


async def test_a_worker_that_wakes_up_takes_over_what_it_had_lost(cluster: Cluster) -> None:
    """SIGCONT past the session timeout, and SIGKILL to the other at once: the one that was late is the only one left.

    It must go on from what the other recorded, not from what it remembers or wrote too late. The same conversations
    go on, so that it needs their states.
    """
    sent = await one_sleeps_past_its_session_timeout(cluster)
    os.kill(cluster.workers[0].pid, signal.SIGCONT)
    await cluster.workers[1].kill()
    third = [{**message, "id": f"{message['id']}-again"} for message in sent]
    await cluster.publish(third)
    await cluster.ended(len(sent + third))
    await asyncio.sleep(LATE_S)
    assert_answered_once(await cluster.events(), keys(sent + third))


async def test_a_second_worker_on_a_data_directory_is_refused(cluster: Cluster) -> None:
    """It would wait for RocksDB's lock for ever: it ends at once and names the process that holds the directory."""
    await cluster.start()
    environment = {
        **os.environ,
        **cluster.environment,
        "HEADRACE_BROKERS": cluster.kafka.bootstrap,
        "HEADRACE_DATA_DIR": str(cluster.workers[0].data_dir),
        "ANTHROPIC_BASE_URL": cluster.model_url,
    }
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "headrace", "worker"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUNNING_S,
        check=False,
    )
    assert second.returncode == 1
    assert str(cluster.workers[0].pid) in second.stderr
    assert "--data-dir" in second.stderr
