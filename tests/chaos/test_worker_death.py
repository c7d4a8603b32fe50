"""Workers are killed, paused, stopped and replaced while they work: every message is answered, once."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from chaos.cluster import Cluster
from chaos.promise import assert_answered_once, assert_not_paid_twice, in_flight

pytestmark = pytest.mark.timeout(180)
TEXTS = ("Good morning!", "What is 17*23?")


def messages(count: int, prefix: str = "s") -> list[dict[str, Any]]:
    return [
        {"session_id": f"{prefix}{number}", "id": f"{prefix}m{number}", "text": TEXTS[number % len(TEXTS)]}
        for number in range(count)
    ]


def keys(sent: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["session_id"], message["id"]) for message in sent]


async def some_calls_run(cluster: Cluster, count: int) -> set[str]:
    """Wait until `count` model calls are in flight; which."""
    async with asyncio.timeout(30):
        while len(running := in_flight(await cluster.model_calls())) < count:
            await asyncio.sleep(0.02)
    return running


async def test_a_worker_that_is_killed_repeats_only_the_calls_in_flight(cluster: Cluster) -> None:
    """SIGKILL amid 300 turns, once before the first answers and once while answers come in."""
    await cluster.start()
    sent = messages(300)
    await cluster.publish(sent)
    lost: set[str] = set()
    for _ in range(2):
        await some_calls_run(cluster, 100)
        await cluster.workers[0].kill()
        lost |= in_flight(await cluster.model_calls())
        await cluster.workers[0].start()
    assert_answered_once(await cluster.ended(len(sent)), keys(sent))
    assert_not_paid_twice(await cluster.model_calls(), lost)


async def test_a_worker_that_is_told_to_stop_repeats_nothing(cluster: Cluster) -> None:
    """SIGTERM amid 200 turns: running calls end, nothing is begun again after the restart."""
    await cluster.start()
    sent = messages(200)
    await cluster.publish(sent)
    await some_calls_run(cluster, 100)
    await cluster.workers[0].stop()
    await cluster.workers[0].start()
    assert_answered_once(await cluster.ended(len(sent)), keys(sent))
    assert_not_paid_twice(await cluster.model_calls(), begun_again=())


async def test_another_worker_takes_over_from_one_that_is_killed(cluster: Cluster) -> None:
    """Two workers, one is killed and stays away: after its session timeout the other answers its messages."""
    await cluster.start(workers=2)
    sent = messages(200)
    await cluster.publish(sent)
    await some_calls_run(cluster, 100)
    await cluster.workers[0].kill()
    lost = in_flight(await cluster.model_calls())
    assert_answered_once(await cluster.ended(len(sent)), keys(sent))
    calls = await cluster.model_calls()
    assert {call for call, counts in calls.items() if counts["completed"] > 1} <= lost


LATE_S = 3.0
"""What a worker that woke up does too late, it does at once; with some seconds for a model call of one."""


async def one_sleeps_past_its_session_timeout(cluster: Cluster) -> list[dict[str, Any]]:
    """Two workers, SIGSTOP to the first amid its calls: the other takes over and answers all; what was sent."""
    await cluster.start(workers=2)
    first = messages(100, "a")
    await cluster.publish(first)
    await some_calls_run(cluster, 50)
    os.kill(cluster.workers[0].pid, signal.SIGSTOP)
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
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert str(cluster.workers[0].pid) in second.stderr
    assert "--data-dir" in second.stderr
